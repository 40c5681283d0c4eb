//! Clients that send too much, too little, or nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::Place;

pub fn bad_clients_are_refused(place: &Place<'_>) -> anyhow::Result<()> {
    let port = place.shared.running.api_port();
    let url = |path: &str| format!("https://127.0.0.1:{port}{path}");
    // What is cut off in the middle of an upload is an answer too: only what was said counts.
    let curl = |arguments: &[&str]| -> anyhow::Result<String> {
        let mut command = std::process::Command::new("curl");
        command.args(["-sk", "-m", "20"]).args(arguments);
        Ok(skiff_tests::command::output(command)?.stdout)
    };

    ensure!(curl(&[&url("/healthz")])? == "ok", "health needs no authentication");
    ensure!(curl(&[&url("/version")])?.contains("gitVersion"));
    for path in ["/api", "/apis", "/api/v1/secrets", "/metrics", "/"] {
        let answer = curl(&[&url(path)])?;
        ensure!(answer.contains("Unauthorized"), "{path}: {answer}");
    }
    let answer = curl(&["-H", "Authorization: Bearer rubbish", &url("/api")])?;
    ensure!(answer.contains("Unauthorized"), "{answer}");

    let pki = place.shared.running.data_dir().join("pki");
    let (cert, key) = (pki.join("admin.crt"), pki.join("admin.key"));
    let identity = ["--cert".to_owned(), cert.display().to_string(), "--key".to_owned(), key.display().to_string()];
    let identity: Vec<&str> = identity.iter().map(String::as_str).collect();
    let body = tempfile::NamedTempFile::new()?;
    std::fs::write(body.path(), vec![b' '; 5 << 20])?;
    let data = format!("@{}", body.path().display());
    let maps = url("/api/v1/namespaces/default/configmaps");
    let large =
        curl(&[&identity[..], &["-H", "Content-Type: application/json", "--data-binary", &data, &maps]].concat())?;
    ensure!(large.contains("RequestEntityTooLarge"), "{large}");
    let over = format!("{{\"metadata\":{{\"name\":\"big\"}},\"data\":{{\"a\":\"{}\"}}}}", "x".repeat(1_100_000));
    std::fs::write(body.path(), over)?;
    let over =
        curl(&[&identity[..], &["-H", "Content-Type: application/json", "--data-binary", &data, &maps]].concat())?;
    ensure!(over.contains("Too long") || over.contains("too large"), "{over}");

    // Half a handshake, and plain text where TLS is spoken.
    let started = Instant::now();
    let mut half = TcpStream::connect(("127.0.0.1", port))?;
    half.set_read_timeout(Some(Duration::from_secs(20)))?;
    half.write_all(&[0x16, 0x03, 0x01])?;
    let mut plain = TcpStream::connect(("127.0.0.1", port))?;
    plain.set_read_timeout(Some(Duration::from_secs(20)))?;
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    let mut rest = Vec::new();
    let _ = plain.read_to_end(&mut rest);
    let _ = half.read_to_end(&mut rest);
    ensure!(started.elapsed() < Duration::from_secs(15), "a client that goes silent is cut off");
    says_nothing_is_let_go(port)?;
    ensure!(curl(&[&url("/readyz")])? == "ok", "and others are served");
    Ok(())
}

/// After its handshake a client has to ask something.
fn says_nothing_is_let_go(port: u16) -> anyhow::Result<()> {
    let mut command = std::process::Command::new("openssl");
    command.args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}")]);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut client = command.spawn()?;
    let stdin = client.stdin.take();
    let ended = skiff_tests::wait::until("a silent connection is closed", Duration::from_secs(25), || {
        ensure!(client.try_wait()?.is_some());
        Ok(())
    });
    drop(stdin);
    let _ = client.kill();
    client.wait()?;
    ended
}

const PLANTED: &str = "planted-7f3a91c2-needle";

/// Also where a pod has it as a volume. (Whoever passes one as an environment variable gives it to the runtime, which
/// keeps it with the container.)
pub fn secrets_are_in_no_file(place: &Place<'_>) -> anyhow::Result<()> {
    let literal = format!("--from-literal=password={PLANTED}");
    place.kubectl(&["create", "secret", "generic", "planted", &literal])?;
    place.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: reads}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - \
         {{name: a, image: {}, command: [sleep, '1000'], volumeMounts: [{{name: s, mountPath: /s}}]}}\n  volumes: [{{name: s, \
         secret: {{secretName: planted}}}}]\n",
        crate::image("busybox:1")
    ))?;
    place.wait_ready("pod/reads")?;
    ensure!(place.kubectl(&["exec", "reads", "--", "cat", "/s/password"])? == PLANTED);
    let data = place.shared.running.data_dir();
    let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, PLANTED);
    // What is mounted there, such as the memory that Secrets of pods are in, is no file of the folder.
    let find = |more: &[&str]| {
        let mut command = std::process::Command::new("find");
        command.arg(data).args(["-xdev", "-type", "f"]).args(more);
        skiff_tests::command::output(command)
    };
    ensure!(find(&[])?.stdout.lines().count() > 20, "there are files");
    // Files come and go meanwhile: what find says of that is no matter.
    let found = find(&["-exec", "grep", "-laF", "-e", PLANTED, "-e", &encoded, "{}", "+"])?.stdout;
    ensure!(found.is_empty(), "{found}");
    Ok(())
}
