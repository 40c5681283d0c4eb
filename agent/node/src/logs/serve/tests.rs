//! Logs as clients see them, from files as a runtime writes and the pod workers rotate them.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use futures::StreamExt;
use http::Request;
use http_body_util::BodyExt;
use jiff::Timestamp;
use proptest::prelude::{any, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};
use skiff_cri::{FakeRuntime, Runtime, pb};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::files::LogFiles;
use super::lines::{ENTRY_BYTES_MAX, Entry, Renderer, Splitter};
use super::{Options, Query, pump, tail};
use crate::Server;
use crate::server::full;
use crate::streaming::tests::serve;

const IMAGE: &str = "localhost/app:1";
const WAIT: Duration = Duration::from_secs(20);

fn line(second: u32, tag: &str, text: &str) -> String {
    format!("2026-01-01T00:00:{second:02}.000000000Z stdout {tag} {text}\n")
}

fn lines(seconds: std::ops::Range<u32>) -> String {
    seconds.map(|second| line(second, "F", &format!("line {second}"))).collect()
}

/// A pod's container in the in-memory runtime, with its log in a directory of its own.
struct Box {
    dir: tempfile::TempDir,
    runtime: FakeRuntime,
    sandbox: String,
    attempts: u32,
}

impl Box {
    async fn new() -> Self {
        let runtime = FakeRuntime::default();
        runtime.add_image(IMAGE);
        let sandbox = runtime.run_pod_sandbox(pb::PodSandboxConfig::default()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("default_web_u1/app")).unwrap();
        Self { dir, runtime, sandbox, attempts: 0 }
    }

    async fn started(content: &str) -> Self {
        let mut this = Self::new().await;
        let id = this.create().await;
        this.runtime.start_container(&id).await.unwrap();
        std::fs::write(this.log(0), content).unwrap();
        this
    }

    async fn create(&mut self) -> String {
        let label = |key: &str, value: &str| (format!("io.kubernetes.{key}"), value.to_owned());
        let config = pb::ContainerConfig {
            metadata: Some(pb::ContainerMetadata { name: "app".into(), attempt: self.attempts }),
            image: Some(pb::ImageSpec { image: IMAGE.into(), ..Default::default() }),
            labels: [
                label("pod.namespace", "default"),
                label("pod.name", "web"),
                label("pod.uid", "u1"),
                label("container.name", "app"),
            ]
            .into(),
            ..Default::default()
        };
        self.attempts += 1;
        self.runtime.create_container(&self.sandbox, config, pb::PodSandboxConfig::default()).await.unwrap()
    }

    fn log(&self, attempt: u32) -> PathBuf {
        self.dir.path().join(format!("default_web_u1/app/{attempt}.log"))
    }

    fn append(&self, content: &str) {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(self.log(0)).unwrap();
        std::io::Write::write_all(&mut file, content.as_bytes()).unwrap();
    }

    async fn get(&self, query: &str) -> http::Response<crate::Body> {
        let server = Server { runtime: Arc::new(self.runtime.clone()), logs_dir: self.dir.path().to_owned() };
        let uri = format!("/containerLogs/default/web/app?{query}");
        server.handle(Request::get(uri).body(full("")).unwrap()).await.unwrap()
    }

    async fn text(&self, query: &str) -> String {
        let body = tokio::time::timeout(WAIT, self.get(query).await.into_body().collect()).await.unwrap();
        String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap()
    }

    async fn refusal(&self, query: &str) -> (u16, String) {
        let response = self.get(query).await;
        let code = response.status().as_u16();
        let status: serde_json::Value =
            serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!((&status["kind"], &status["code"]), (&"Status".into(), &code.into()));
        (code, status["message"].as_str().unwrap().to_owned())
    }
}

#[test]
fn entries_are_parsed_or_refused() {
    let entry = Entry::parse(b"2026-01-01T00:00:00.5Z stderr P:x  two  spaces").unwrap();
    assert_eq!((entry.time, entry.partial, entry.text), ("2026-01-01T00:00:00.5Z", true, &b" two  spaces"[..]));
    assert_eq!(Entry::parse(b"2026-01-01T00:00:00Z stdout F").unwrap().text, b"");
    for bad in ["", " ", "x", "x stdout", "x stdout Q text", "x stdin F text", " stdout F text"] {
        assert_eq!(Entry::parse(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn an_overlong_entry_is_dropped_and_the_next_one_kept() {
    let mut splitter = Splitter::default();
    for _ in 0..3 {
        splitter.push(&vec![b'x'; ENTRY_BYTES_MAX]);
        assert_eq!(splitter.next(), None);
    }
    splitter.push(b"rest\nnext\nunfin");
    assert_eq!(splitter.next().unwrap(), "next");
    assert_eq!(splitter.next(), None);
}

#[test]
fn options_are_checked() {
    let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
    let options = |query: &str| Options::parse(&Query::parse(query), now).map_err(|refusal| refusal.message);
    let parsed = options("sinceSeconds=60&tailLines=0&limitBytes=5&follow=true").unwrap();
    assert_eq!(parsed.since, Some("2026-01-01T00:59:00Z".parse().unwrap()));
    assert_eq!((parsed.tail_lines, parsed.limit_bytes, parsed.follow), (Some(0), Some(5), true));
    assert_eq!(options("tailLines=-1").unwrap_err(), "tailLines must be a whole number, not \"-1\"");
    assert!(options("sinceTime=yesterday").is_err() && options("limitBytes=0").is_err());
    assert!(options("sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1").is_err());
    assert_eq!(options("sinceSeconds=99999999999999").unwrap().since, Some(Timestamp::MIN));
}

#[tokio::test]
async fn what_is_asked_for_is_sent() {
    let parts = format!("{}{}{}", line(3, "P", "first "), line(4, "P", "second "), line(5, "F", "third"));
    let content = format!("{}{parts}{}garbage\n2026-01-01T00:00:09Z stdout F unfinished", lines(0..3), lines(6..7));
    let pod = Box::started(&content).await;
    assert_eq!(pod.text("").await, "line 0\nline 1\nline 2\nfirst second third\nline 6\n");
    assert_eq!(pod.text("tailLines=2").await, "first second third\nline 6\n");
    assert_eq!(pod.text("tailLines=0").await, "");
    assert_eq!(pod.text("tailLines=99").await, pod.text("").await);
    assert_eq!(pod.text("sinceTime=2026-01-01T00:00:02Z&tailLines=4").await, "line 2\nfirst second third\nline 6\n");
    // The line began before.
    assert_eq!(pod.text("sinceTime=2026-01-01T00:00:04Z").await, "line 6\n");
    assert_eq!(pod.text("limitBytes=9").await, "line 0\nli");
    let stamped = "2026-01-01T00:00:03.000000000Z first second third\n2026-01-01T00:00:06.000000000Z line 6\n";
    assert_eq!(pod.text("timestamps=true&tailLines=2").await, stamped);
    let response = pod.get("").await;
    assert_eq!(response.headers()["content-type"], "text/plain");
}

#[tokio::test]
async fn containers_that_have_no_log_are_told_as_upstream_does() {
    let mut pod = Box::new().await;
    let waiting = (400, "container \"app\" in pod \"web\" is waiting to start: ContainerCreating".to_owned());
    assert_eq!(pod.refusal("").await, waiting);
    let id = pod.create().await;
    assert_eq!(pod.refusal("follow=true").await, waiting);
    pod.runtime.start_container(&id).await.unwrap();
    assert_eq!(pod.text("").await, "");
    let missing = (400, "previous terminated container \"app\" in pod \"web\" not found".to_owned());
    assert_eq!(pod.refusal("previous=true").await, missing);

    pod.runtime.exit("app", 1);
    let second = pod.create().await;
    pod.runtime.start_container(&second).await.unwrap();
    std::fs::write(pod.log(0), line(0, "F", "before")).unwrap();
    std::fs::write(pod.log(1), line(1, "F", "now")).unwrap();
    assert_eq!(pod.text("previous=true").await, "before\n");
    assert_eq!(pod.text("").await, "now\n");
}

#[tokio::test]
async fn following_crosses_rotation_and_ends_with_the_container() {
    let pod = Box::started(&lines(0..2)).await;
    let mut body = pod.get("follow=true&tailLines=1").await.into_body();
    let mut got = String::new();
    let more = async |got: &mut String, body: &mut crate::Body| match tokio::time::timeout(WAIT, body.frame())
        .await
        .unwrap()
    {
        Some(frame) => got.write_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap()).is_ok(),
        None => false,
    };
    assert!(more(&mut got, &mut body).await);
    assert_eq!(got, "line 1\n");
    pod.append(&lines(2..3));
    std::fs::rename(pod.log(0), pod.log(0).with_extension("log.20260101-000001")).unwrap();
    std::fs::write(pod.log(0), lines(3..4)).unwrap();
    std::fs::rename(pod.log(0), pod.log(0).with_extension("log.20260101-000002")).unwrap();
    std::fs::write(pod.log(0), lines(4..5)).unwrap();
    pod.runtime.exit("app", 0);
    while more(&mut got, &mut body).await {}
    assert_eq!(got, "line 1\nline 2\nline 3\nline 4\n");
}

#[tokio::test]
async fn a_websocket_gets_the_log_in_messages() {
    let pod = Box::started(&lines(0..3)).await;
    let server = Server { runtime: Arc::new(pod.runtime.clone()), logs_dir: pod.dir.path().to_owned() };
    let address = serve(move |request| {
        let server = server.clone();
        async move { server.handle(request).await.unwrap() }
    })
    .await;
    for protocol in [None, Some("binary.k8s.io"), Some("base64.binary.k8s.io")] {
        let mut request =
            format!("ws://{address}/containerLogs/default/web/app?tailLines=2").into_client_request().unwrap();
        if let Some(protocol) = protocol {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        let stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let (mut socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let chosen = response.headers().get("sec-websocket-protocol").map(|name| name.to_str().unwrap());
        assert_eq!(chosen, protocol);
        let mut text = Vec::new();
        let close = loop {
            match tokio::time::timeout(WAIT, socket.next()).await.unwrap().unwrap().unwrap() {
                Message::Binary(data) if protocol != Some("base64.binary.k8s.io") => text.extend_from_slice(&data),
                Message::Text(data) => text.extend(STANDARD.decode(data.as_str()).unwrap()),
                Message::Close(frame) => break frame.unwrap(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(String::from_utf8(text).unwrap(), "line 1\nline 2\n", "{protocol:?}");
        assert_eq!(u16::from(close.code), 1000);
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_reading() {
    let pod = Box::started(&lines(0..1)).await;
    let (client, receiver) = tokio::sync::mpsc::channel(1);
    let options = Options { follow: true, ..Options::default() };
    let container = pod.runtime.containers()[0].id.clone();
    let files = LogFiles::new(pod.log(0));
    let pump = pump::Pump { runtime: Arc::new(pod.runtime.clone()), container, files, options, client };
    let task = tokio::spawn(pump.run());
    drop(receiver);
    tokio::time::timeout(WAIT, task).await.unwrap().unwrap();
}

#[tokio::test]
async fn rotated_files_belong_to_the_log() {
    let pod = Box::started(&lines(4..6)).await;
    let sibling = |suffix: &str| pod.log(0).with_extension(format!("log.{suffix}"));
    std::fs::write(sibling("20260101-000000.gz"), "compressed").unwrap();
    std::fs::write(sibling("20260101-000001"), lines(0..2)).unwrap();
    std::fs::write(sibling("20260101-000002"), lines(2..4)).unwrap();
    let last = |count: u32| (6 - count..6).fold(String::new(), |text, at| format!("{text}line {at}\n"));
    for count in 0..=6 {
        assert_eq!(pod.text(&format!("tailLines={count}")).await, last(count));
    }
    assert_eq!(pod.text("").await, last(6));
}

/// The last lines, found the slow way: from the whole file.
fn expected_tail(content: &[u8], wanted: usize) -> Vec<u8> {
    let rendered = |content: &[u8]| {
        let (mut splitter, mut renderer, mut out) =
            (Splitter::default(), Renderer::new(false, None, None), BytesMut::new());
        splitter.push(content);
        while let Some(line) = splitter.next() {
            renderer.render(&line, &mut out);
        }
        out.to_vec()
    };
    let all = rendered(content);
    let lines: Vec<&[u8]> = all.split_inclusive(|&byte| byte == b'\n').collect();
    lines[lines.len().saturating_sub(wanted)..].concat()
}

fn tail_of(path: &Path, wanted: u64) -> Vec<u8> {
    let mut file = std::fs::File::open(path).unwrap();
    let found = tail::seek(&mut file, &mut tail::Counter::new(wanted)).unwrap();
    let from = if found { std::io::Seek::stream_position(&mut file).unwrap() } else { 0 };
    let content = std::fs::read(path).unwrap();
    expected_tail(&content[usize::try_from(from).unwrap()..], usize::MAX)
}

#[test]
fn a_tail_is_found_across_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    // Entries of up to 16 KiB, in files of several blocks of 64 KiB.
    let content: String =
        (0..60).map(|at| line(at, "F", &format!("{at:02}{}", "x".repeat(at as usize * 271)))).collect();
    std::fs::write(&path, &content).unwrap();
    for wanted in [0, 1, 2, 5, 13, 30, 59, 60, 61] {
        assert_eq!(tail_of(&path, wanted), expected_tail(content.as_bytes(), usize::try_from(wanted).unwrap()));
    }
}

#[test]
fn a_large_file_is_not_read_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut file = std::fs::File::create(&path).unwrap();
    // A hole of 1 TiB, which nobody could read in time.
    file.set_len(1 << 40).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
    std::io::Write::write_all(&mut file, format!("\n{}", lines(0..10)).as_bytes()).unwrap();
    let mut file = std::fs::File::open(&path).unwrap();
    assert!(tail::seek(&mut file, &mut tail::Counter::new(3)).unwrap());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut file, &mut rest).unwrap();
    assert_eq!(rest, lines(7..10));
}

proptest! {
    #[test]
    fn any_bytes_are_a_log(content in prop::collection::vec(any::<u8>(), 0..600), wanted in 0u64..5) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, &content).unwrap();
        prop_assert!(tail_of(&path, wanted).len() <= content.len());
    }

    #[test]
    fn any_tail_is_that_of_the_whole(tags in prop::collection::vec(any::<bool>(), 0..40), wanted in 0u64..12) {
        let entries = tags.iter().enumerate().map(|(at, full)| line(0, if *full { "F" } else { "P" }, &format!("{at},")));
        let content: String = entries.collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, &content).unwrap();
        let expected = expected_tail(content.as_bytes(), usize::try_from(wanted).unwrap());
        prop_assert_eq!(tail_of(&path, wanted), expected);
    }
}
