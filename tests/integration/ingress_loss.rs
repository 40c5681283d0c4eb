//! No request through the ingress is lost while everything behind it and around it changes.

use std::io::Read;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use skiff_tests::running_box::{Number, RunningBox};
use skiff_tests::{addresses, command, wait};

use crate::ingress::{self, Manifest};
use crate::{Place, SOON};

const HOST: &str = "loss.skiff.local";
const REPLICAS: u32 = 3;
/// The work of each full measure of time: two minutes.
const FULL: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_secs(20);
const PROXY_KILLS: u32 = 5;
/// Requests that wait longer are lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much is done, in proportion to the time.
struct Work {
    time: Duration,
    deletions: u32,
    changes: u32,
    restarts: u32,
    rollouts: u32,
}

impl Work {
    /// `SKIFF_LOSS_SECONDS` asks for more than every run of the tests does.
    fn chosen() -> anyhow::Result<Self> {
        let time = match std::env::var("SKIFF_LOSS_SECONDS") {
            Ok(seconds) => Duration::from_secs(seconds.parse().context("SKIFF_LOSS_SECONDS")?),
            Err(_) => SHORT,
        };
        let part = time.as_secs_f64() / FULL.as_secs_f64();
        let of = |full: u32, least: u32| ((f64::from(full) * part) as u32).max(least);
        Ok(Self { time, deletions: of(100, 8), changes: of(50, 10), restarts: of(10, 4), rollouts: of(3, 3) })
    }

    /// What happens in one of `deletions` rounds, spread evenly.
    fn falls_in(count: u32, round: u32, rounds: u32) -> bool {
        round * count / rounds != (round + 1) * count / rounds
    }
}

/// Clients of three kinds that count what they ask for and what fails.
struct Load {
    wrk: Child,
    stop: AtomicBool,
    port: u16,
    plain: u16,
}

/// A client for HTTP/2.
#[derive(Clone, Copy)]
enum Http2 {
    /// Counts as lost what it could have sent over another connection, when the server wants to close one.
    H2load,
    Curl,
}

#[derive(Debug, Default)]
struct Count {
    requests: u64,
    failures: Vec<String>,
}

impl Load {
    fn start(running: &RunningBox) -> anyhow::Result<Self> {
        let url = format!("https://{HOST}:{}/", running.https_port());
        let mut wrk = nice("/usr/bin/wrk");
        wrk.args(["-t1", "-c3", "-d1h", "--timeout", &format!("{}s", PATIENCE.as_secs())]);
        wrk.args(["-H", &format!("Host: {HOST}"), &url.replace(HOST, "127.0.0.1")]);
        wrk.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(Self {
            wrk: wrk.spawn().context("wrk does not start")?,
            stop: AtomicBool::new(false),
            port: running.https_port(),
            plain: running.http_port(),
        })
    }

    /// One connection for each request.
    fn short_connections(&self) -> Count {
        let mut count = Count::default();
        while !self.stop.load(Ordering::SeqCst) {
            count.requests += 1;
            let started = Instant::now();
            if let Err(error) = request(self.plain) {
                count.failures.push(format!("after {:.1} s: {error:#}", started.elapsed().as_secs_f32()));
            }
        }
        count
    }

    /// HTTP/2, many requests at once on one connection.
    fn http2(&self, client: Http2) -> anyhow::Result<Count> {
        let mut count = Count::default();
        while !self.stop.load(Ordering::SeqCst) {
            match client {
                Http2::H2load => self.h2load(&mut count)?,
                Http2::Curl => self.curl(&mut count)?,
            }
        }
        Ok(count)
    }

    fn h2load(&self, count: &mut Count) -> anyhow::Result<()> {
        let mut h2load = nice("/usr/bin/h2load");
        h2load.args(["-c1", "-m4", "-D4", "--connect-to", &format!("127.0.0.1:{}", self.port)]);
        h2load.arg(format!("https://{HOST}:{}/", self.port));
        let said = command::output(h2load)?;
        ensure!(said.ok, "{}{}", said.stdout, said.stderr);
        count.add_h2load(&said.stdout)
    }

    fn curl(&self, count: &mut Count) -> anyhow::Result<()> {
        const REQUESTS: usize = 200;
        let mut curl = nice("/usr/bin/curl");
        curl.args([
            "-sSfkZ",
            "--http2",
            "--parallel-max",
            "4",
            "-o",
            "/dev/null",
            "-w",
            "%{http_version} %{http_code}\\n",
        ]);
        curl.args(["-m", &PATIENCE.as_secs().to_string(), "--resolve", &format!("{HOST}:{}:127.0.0.1", self.port)]);
        curl.arg(format!("https://{HOST}:{}/?[1-{REQUESTS}]", self.port));
        let said = command::output(curl)?;
        count.requests += REQUESTS as u64;
        let good = said.stdout.lines().filter(|l| *l == "2 200").count();
        if good != REQUESTS || !said.ok {
            count.failures.push(format!("{good} of {REQUESTS}: {}", said.stderr));
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Count> {
        // Asked like this it says what it has counted.
        command::run("kill", ["-INT", &self.wrk.id().to_string()])?;
        let mut said = String::new();
        self.wrk.stdout.take().context("a pipe")?.read_to_string(&mut said)?;
        self.wrk.wait()?;
        let requests = said.lines().find_map(|l| l.trim().split_once(" requests in "));
        let requests = requests.with_context(|| said.clone())?.0.trim().parse()?;
        let failures = said.lines().filter(|l| l.contains("Socket errors:") || l.contains("Non-2xx"));
        Ok(Count { requests, failures: failures.map(str::to_owned).collect() })
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.wrk.kill();
        let _ = self.wrk.wait();
    }
}

impl Count {
    /// From `requests: 9 total, 9 started, 9 done, 9 succeeded, 0 failed, 0 errored, 0 timeout`.
    fn add_h2load(&mut self, said: &str) -> anyhow::Result<()> {
        let line = said.lines().find(|l| l.starts_with("requests:")).with_context(|| said.to_owned())?;
        let number = |what: &str| {
            let part = line.trim_start_matches("requests:").split(',').find_map(|p| p.trim().strip_suffix(what));
            part.with_context(|| line.to_owned())?.trim().parse::<u64>().context(what.to_owned())
        };
        self.requests += number("done")?;
        if number("failed")? + number("errored")? + number("timeout")? > 0 {
            let statuses = said.lines().find(|l| l.starts_with("status codes:")).unwrap_or_default();
            self.failures.push(format!("{line}; {statuses}"));
        }
        Ok(())
    }
}

/// The load is to fill what is left of the machine, not to starve what it measures.
fn nice(program: &str) -> Command {
    let mut command = Command::new("/usr/bin/nice");
    command.args(["-n", "19", program]);
    command
}

fn request(port: u16) -> anyhow::Result<()> {
    use std::io::Write;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).context("connecting")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n").context("sending")?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context("receiving")?;
    ensure!(text.starts_with("HTTP/1.1 200 ") && text.contains("version"), "answered {text:?}");
    Ok(())
}

fn manifest() -> String {
    let plain = [("ssl-redirect", "false")];
    Manifest { name: "loss", host: HOST, tls: Some(""), annotations: &plain, ..Manifest::default() }.text()
}

fn start(place: &Place<'_>, number: Number) -> anyhow::Result<RunningBox> {
    let running = RunningBox::start(&place.shared.binary, &place.shared.kubectl, number)?;
    ingress::start_web(&running, REPLICAS)?;
    running.apply(&manifest())?;
    wait::until("the ingress answers", SOON, || request(running.http_port()))?;
    Ok(running)
}

/// Runs `work` under load; fails if a request does.
fn under_load(
    running: &mut RunningBox,
    what: &str,
    client: Http2,
    work: impl FnOnce(&mut RunningBox) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let load = Load::start(running)?;
    let started = Instant::now();
    let (worked, short, http2) = std::thread::scope(|scope| {
        let short = scope.spawn(|| load.short_connections());
        let http2 = scope.spawn(|| load.http2(client));
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(running)));
        load.stop.store(true, Ordering::SeqCst);
        (worked, short.join().expect("a client"), http2.join().expect("a client"))
    });
    let seconds = started.elapsed().as_secs_f32();
    let counts = [("HTTP/1.1", load.finish()?), ("HTTP/2", http2?), ("short connections", short)];
    let shown: Vec<String> =
        counts.iter().map(|(name, c)| format!("{name} {} ({} failures)", c.requests, c.failures.len())).collect();
    println!("       {what}, {seconds:.0} s: requests by {}", shown.join(", "));
    worked.map_err(|_| anyhow::anyhow!("the work panicked"))??;
    for (name, count) in &counts {
        let first = &count.failures[..count.failures.len().min(5)];
        ensure!(first.is_empty(), "{what}: {name}: {first:#?}\n{}", running.log_tail());
        ensure!(count.requests > 100, "{what}: only {} requests by {name}", count.requests);
    }
    Ok(())
}

pub fn no_request_is_lost(place: &Place<'_>) -> anyhow::Result<()> {
    let work = Work::chosen()?;
    let mut running = start(place, Number(13))?;
    under_load(&mut running, "deletions, rollouts, changes and restarts", Http2::H2load, |running| {
        everything(running, &work)
    })?;
    under_load(&mut running, "another proxy", Http2::Curl, replace_proxy)?;
    let mut slowest = Duration::ZERO;
    for _ in 0..PROXY_KILLS {
        slowest = slowest.max(a_killed_proxy_is_back(&running)?);
    }
    println!("       a killed proxy serves again within {:.2} s", slowest.as_secs_f32());
    Ok(())
}

fn everything(running: &mut RunningBox, work: &Work) -> anyhow::Result<()> {
    let started = Instant::now();
    let (mut changes, mut restarts, mut rollouts) = (0, 0, 0);
    for round in 0..work.deletions {
        let falls = |count| Work::falls_in(count, round, work.deletions);
        for _ in 0..(round + 1) * work.changes / work.deletions - changes {
            change(running, changes)?;
            changes += 1;
        }
        delete_a_pod(running)?;
        let rolls = falls(work.rollouts);
        if rolls {
            running.kubectl(&["rollout", "restart", "deployment/web"])?;
            rollouts += 1;
        }
        if falls(work.restarts) {
            // In the middle of what was just begun.
            if restarts % 2 == 0 {
                running.stop_agent()?
            } else {
                running.kill_agent()?
            }
            running.start_agent()?;
            running.wait_ready()?;
            restarts += 1;
        }
        if rolls {
            running.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
        }
        wait_all_ready(running)?;
    }
    let deletions = work.deletions;
    println!(
        "       {deletions} deletions, {rollouts} rollouts, {changes} changes, {restarts} restarts in {:.0} s of {:.0} s",
        started.elapsed().as_secs_f32(),
        work.time.as_secs_f32()
    );
    Ok(())
}

/// An annotation of the Ingress under load, or another Ingress that comes and goes.
fn change(running: &RunningBox, number: u32) -> anyhow::Result<()> {
    let timeout = format!("ingress.skiff.dev/response-timeout={}s", 30 + number);
    match number % 3 {
        0 => running.kubectl(&["annotate", "--overwrite", "ingress/loss", &timeout]),
        1 => running.apply(&Manifest { name: "other", host: "other.skiff.local", ..Manifest::default() }.text()),
        _ => running.kubectl(&["delete", "ingress/other"]),
    }
    .map(drop)
}

/// The names of pods that serve.
fn ready_pods(running: &RunningBox) -> anyhow::Result<Vec<String>> {
    let pods = running.json(&["get", "pods", "-l", "app=web"])?;
    let is_ready = |pod: &&serde_json::Value| {
        let conditions = pod["status"]["conditions"].as_array();
        pod["metadata"]["deletionTimestamp"].is_null()
            && conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
    };
    let ready = pods["items"].as_array().context("items")?.iter().filter(is_ready);
    Ok(ready.map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect())
}

fn delete_a_pod(running: &RunningBox) -> anyhow::Result<()> {
    let pods = ready_pods(running)?;
    running.kubectl(&["delete", "pod", "--wait=false", pods.first().context("a pod")?]).map(drop)
}

fn wait_all_ready(running: &RunningBox) -> anyhow::Result<()> {
    wait::until("all replicas are ready", SOON, || {
        let ready = ready_pods(running)?;
        ensure!(ready.len() == REPLICAS as usize, "only {ready:?} of {REPLICAS} are ready");
        Ok(())
    })
}

/// Settings of the proxy that change need another one: both serve until the old one has finished.
fn replace_proxy(running: &mut RunningBox) -> anyhow::Result<()> {
    let (http, free) = (running.http_port(), addresses::free_port()?);
    let changes = [
        "connections_max = 500\n",
        &format!("metrics = \"127.0.0.1:{free}\"\n"),
        &format!("http = [\"127.0.0.1:{free}\", \"0.0.0.0:{http}\"]\n"),
        "connections_max = 600\n",
    ];
    for more in changes {
        let before = running.proxies()?;
        running.write_settings(more)?;
        running.stop_agent()?;
        running.start_agent()?;
        running.wait_ready()?;
        wait::until("another proxy serves alone", SOON, || {
            let now = running.proxies()?;
            ensure!(now.len() == 1 && now != before, "{before:?} {now:?}");
            Ok(())
        })
        .with_context(|| running.log_tail())?;
    }
    Ok(())
}

fn a_killed_proxy_is_back(running: &RunningBox) -> anyhow::Result<Duration> {
    const BACK_MAX: Duration = Duration::from_secs(2);
    let [proxy] = running.proxies()?[..] else { anyhow::bail!("there is one proxy") };
    command::run("kill", ["-KILL", &proxy.to_string()])?;
    let started = Instant::now();
    wait::until("another proxy is there", BACK_MAX, || {
        let now = running.proxies()?;
        ensure!(now.len() == 1 && now[0] != proxy, "{now:?}");
        Ok(())
    })
    .with_context(|| running.log_tail())?;
    wait::until("the ingress answers again", BACK_MAX, || request(running.http_port()))?;
    Ok(started.elapsed())
}
