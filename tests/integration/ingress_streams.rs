//! What flows for long or is large passes through the ingress as it comes: nothing is gathered in memory.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use skiff_tests::daemon::Daemon;
use skiff_tests::running_box::{Number, RunningBox};
use skiff_tests::{addresses, command, script, wait};

use crate::ingress::{self, Manifest};
use crate::{Place, SOON};

const GIBIBYTE: u64 = 1 << 30;
/// What the proxy may need more than before; a body that is kept would be fifty times that.
const GROWTH_MAX: u64 = 40 << 20;
const SAMPLE: Duration = Duration::from_millis(50);

struct World {
    running: RunningBox,
    root: PathBuf,
    _servers: Vec<Daemon>,
    _dir: tempfile::TempDir,
}

fn host(name: &str) -> String {
    format!("{name}.skiff.local")
}

impl World {
    /// Each server, behind a Service and an Ingress of its name.
    fn start(place: &Place<'_>) -> anyhow::Result<Self> {
        let running = RunningBox::start(&place.shared.binary, &place.shared.kubectl, Number(14))?;
        let dir = tempfile::tempdir()?;
        let mut servers = Vec::new();
        let all = [
            ("echo", script::WEBSOCKET, &["serve"][..], "http"),
            ("grpc", script::GRPC, &["serve"][..], "kubernetes.io/h2c"),
            ("bodies", script::BODIES, &[][..], "http"),
        ];
        for (name, program, first, protocol) in all {
            let port = addresses::free_port()?;
            let arguments: Vec<String> =
                first.iter().map(|a| (*a).to_owned()).chain(["0.0.0.0".to_owned(), port.to_string()]).collect();
            let place = dir.path().join(name);
            std::fs::create_dir(&place)?;
            servers.push(script::serve(program, &arguments, port, &place)?);
            let web = Manifest { name, host: &host(name), service: name, tls: Some(""), ..Manifest::default() };
            running.apply(&(ingress::outside(name, port, protocol)? + &web.text()))?;
        }
        let root = wait::until("the box's CA is shown", SOON, || ingress::box_ca(&running, dir.path()))?;
        let world = Self { running, root, _servers: servers, _dir: dir };
        wait::until("the ingress answers", SOON, || world.curl("1", &[]))?;
        Ok(world)
    }

    /// The answer of `bodies`.
    fn curl(&self, path: &str, more: &[&str]) -> anyhow::Result<String> {
        command::run("/usr/bin/curl", self.curl_arguments(path).iter().map(String::as_str).chain(more.iter().copied()))
    }

    fn curl_arguments(&self, path: &str) -> Vec<String> {
        let (port, host) = (self.running.https_port(), host("bodies"));
        let root = self.root.display().to_string();
        let resolve = format!("{host}:{port}:127.0.0.1");
        let all = ["-sSfN", "--cacert", &root, "--resolve", &resolve, &format!("https://{host}:{port}/{path}")];
        all.map(str::to_owned).to_vec()
    }

    fn client(&self, program: &str, verb: &str, name: &str) -> anyhow::Result<script::Client> {
        let port = self.running.https_port().to_string();
        script::Client::start(program, &[verb, &host(name), &port, &self.root.display().to_string()])
    }
}

/// The proxy's memory in bytes.
fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

pub fn nothing_is_gathered(place: &Place<'_>) -> anyhow::Result<()> {
    let world = World::start(place)?;
    let [proxy] = world.running.proxies()?[..] else { anyhow::bail!("there is one proxy") };
    // Once each, so that what is made once is there.
    world.curl("1000000", &[])?;
    let before = resident(proxy)?;
    let (stop, most) = (AtomicBool::new(false), AtomicU64::new(before));
    let mut sockets = world.client(script::WEBSOCKET, "send", "echo")?;
    let mut calls = world.client(script::GRPC, "talk", "grpc")?;
    std::thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                most.fetch_max(resident(proxy).unwrap_or_default(), Ordering::SeqCst);
                std::thread::sleep(SAMPLE);
            }
        });
        let worked = events_come_one_by_one(&world).and_then(|()| large_bodies(&world));
        stop.store(true, Ordering::SeqCst);
        sampler.join().expect("the sampler");
        worked
    })?;
    sockets.check()?;
    calls.check()?;
    let (messages, calls) = (sockets.finish()?, calls.finish()?);
    let (grown, before) = ((most.into_inner() - before) >> 10, before >> 10);
    println!(
        "       beside them {messages} messages of a WebSocket and {calls} of gRPC; the proxy grew by {grown} KiB from {before}"
    );
    ensure!(messages > 50 && calls > 50, "{messages} messages, {calls} of gRPC");
    ensure!(grown << 10 < GROWTH_MAX, "the proxy grew by {grown} KiB");
    Ok(())
}

fn large_bodies(world: &World) -> anyhow::Result<()> {
    let mut shown = Vec::new();
    let mut timed = |name: &str, gibibytes: u64, work: &dyn Fn() -> anyhow::Result<String>, wanted: &str| {
        let started = Instant::now();
        let said = work().with_context(|| name.to_owned())?;
        ensure!(said.trim() == wanted, "{name}: {said:?} instead of {wanted:?}");
        shown.push(format!("{gibibytes} GiB {name} {:.1} s", started.elapsed().as_secs_f32()));
        anyhow::Ok(())
    };
    let size = 2 * GIBIBYTE;
    let file = tempfile::NamedTempFile::new()?;
    // It takes no place on the disk.
    file.as_file().set_len(size)?;
    let path = file.path().display().to_string();
    let up = || world.curl("", &["--http1.1", "-T", &path]);
    timed("up by HTTP/1.1", 2, &up, &format!("length {size}"))?;
    timed("up by HTTP/2 without a length", 2, &|| upload_from_pipe(world, size), &format!("chunked {size}"))?;
    for (name, http) in [("down by HTTP/1.1", "--http1.1"), ("down by HTTP/2", "--http2")] {
        let down = || world.curl(&GIBIBYTE.to_string(), &[http, "-o", "/dev/null", "-w", "%{size_download}"]);
        timed(name, 1, &down, &GIBIBYTE.to_string())?;
    }
    println!("       {}", shown.join(", "));
    Ok(())
}

/// Without a known length.
fn upload_from_pipe(world: &World, size: u64) -> anyhow::Result<String> {
    let mut head = Command::new("/usr/bin/head");
    let mut head = head.args(["-c", &size.to_string(), "/dev/zero"]).stdout(Stdio::piped()).spawn()?;
    let mut curl = Command::new("/usr/bin/curl");
    curl.args(world.curl_arguments("")).args(["--http2", "-T", "-"]).stdin(head.stdout.take().context("a pipe")?);
    let output = curl.output();
    let _ = head.kill();
    head.wait()?;
    let output = output?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The server sends one each 200 ms: gathered, they would come at once.
fn events_come_one_by_one(world: &World) -> anyhow::Result<()> {
    let mut curl = Command::new("/usr/bin/curl");
    let mut curl = curl.args(world.curl_arguments("events")).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(curl.stdout.take().context("a pipe")?).lines();
    let mut moments = Vec::new();
    for line in lines {
        if line?.starts_with("data:") {
            moments.push(Instant::now());
        }
    }
    ensure!(curl.wait()?.success() && moments.len() == 10, "{} events came", moments.len());
    let gaps: Vec<Duration> = moments.windows(2).map(|w| w[1] - w[0]).collect();
    let apart = gaps.iter().filter(|gap| **gap > Duration::from_millis(100)).count();
    ensure!(apart >= 8, "the events came together: {gaps:?}");
    Ok(())
}
