//! Logs, commands and ports of a real pod, through a real HTTP connection, as clients of each generation ask for them.

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role as WebSocketRole;

use super::{IMAGE, RealBox};
use crate::Server;
use crate::spdy::{Connection, Role, Stream};

/// Serves the node's API on one connection and sends a request over it.
async fn ask(server: &Server, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
    let (client, backend) = tokio::io::duplex(64 << 10);
    let server = server.clone();
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let server = server.clone();
            async move {
                let request = request.map(|body| body.map_err(crate::BoxError::from).boxed());
                Ok::<_, std::convert::Infallible>(server.handle(request).await)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(backend), service);
        connection.with_upgrades().await
    });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let mut request = Request::get(path).header("host", "node");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
}

async fn text(server: &Server, path: &str) -> String {
    let response = ask(server, path, &[]).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

async fn websocket(server: &Server, path: &str, protocol: &str) -> WebSocketStream<TokioIo<hyper::upgrade::Upgraded>> {
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocol),
    ];
    let response = ask(server, path, &headers).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), WebSocketRole::Client, None).await
}

async fn spdy(server: &Server, path: &str, protocol: &str) -> Connection {
    let headers = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1"), ("x-stream-protocol-version", protocol)];
    let response = ask(server, path, &headers).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    Connection::new(TokioIo::new(upgraded), Role::Client)
}

/// What comes on each channel until the socket closes.
async fn channels<S>(mut socket: S) -> Vec<Vec<u8>>
where
    S: futures::Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    let mut all = vec![Vec::new(); 5];
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(data) = message {
            all[usize::from(data[0])].extend_from_slice(&data[1..]);
        }
    }
    all
}

async fn drain(mut stream: Stream) -> String {
    let mut all = Vec::new();
    while let Some(piece) = stream.receiver.recv().await {
        all.extend_from_slice(&piece);
    }
    String::from_utf8(all).unwrap()
}

const CAT: &str = "/exec/default/one/app?command=/bin/busybox&command=cat&stdin=1&stdout=1&stderr=1";
const FAIL: &str =
    "/exec/default/one/app?command=/bin/sh&command=-c&command=echo+out;echo+err+%3E%262;exit+7&stdout=1&stderr=1";

async fn check_websocket(server: &Server) {
    let all = channels(websocket(server, FAIL, "v4.channel.k8s.io").await).await;
    assert_eq!((all[1].as_slice(), all[2].as_slice()), (b"out\n".as_slice(), b"err\n".as_slice()));
    let status: Value = serde_json::from_slice(&all[3]).unwrap();
    assert_eq!(
        (&status["reason"], &status["details"]["causes"][0]["message"]),
        (&json!("NonZeroExitCode"), &json!("7"))
    );

    let mut socket = websocket(server, CAT, "v5.channel.k8s.io").await;
    socket.send(Message::Binary(Bytes::from_static(b"\0hello"))).await.unwrap();
    socket.send(Message::Binary(Bytes::from_static(&[255, 0]))).await.unwrap();
    let all = channels(socket).await;
    assert_eq!(all[1], b"hello");
    let status: Value = serde_json::from_slice(&all[3]).unwrap();
    assert_eq!(status["status"], "Success");

    let tty = "/exec/default/one/app?command=/bin/busybox&command=stty&command=size&stdin=1&stdout=1&tty=1";
    let all = channels(websocket(server, tty, "v5.channel.k8s.io").await).await;
    assert!(!all[1].is_empty(), "{all:?}");
}

async fn check_spdy(server: &Server) {
    let mut connection = spdy(server, CAT, "v4.channel.k8s.io").await;
    let error = connection.open(&[("streamType", "error")]).await;
    let stdin = connection.open(&[("streamType", "stdin")]).await;
    let stdout = connection.open(&[("streamType", "stdout")]).await;
    let stderr = connection.open(&[("streamType", "stderr")]).await;
    let large = "x".repeat(300_000);
    let (sender, sent) = (stdin.sender.clone(), large.clone());
    tokio::spawn(async move {
        sender.send(sent.into()).await;
        sender.finish().await;
    });
    let (out, err, status) = tokio::join!(drain(stdout), drain(stderr), drain(error));
    assert!(out == large && err.is_empty());
    assert!(status.contains("Success"), "{status}");
}

async fn forward(connection: &mut Connection, port: &str, request: &str) -> (String, String) {
    let error = connection.open(&[("streamType", "error"), ("port", port), ("requestID", "0")]).await;
    let data = connection.open(&[("streamType", "data"), ("port", port), ("requestID", "0")]).await;
    data.sender.send(request.to_owned().into()).await;
    data.sender.finish().await;
    tokio::join!(drain(data), drain(error))
}

async fn check_port_forward(server: &Server) {
    let path = "/portForward/default/one";
    let mut direct = spdy(server, path, "portforward.k8s.io").await;
    assert_eq!(forward(&mut direct, "8080", "ping").await, ("ping".to_owned(), String::new()));
    let (data, error) = forward(&mut direct, "9999", "ping").await;
    assert!(data.is_empty() && error.contains("error forwarding port 9999"), "{error}");

    let socket = websocket(server, path, "SPDY/3.1+portforward.k8s.io").await;
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    tokio::spawn(carry(socket, theirs));
    let mut tunnelled = Connection::new(ours, Role::Client);
    assert_eq!(forward(&mut tunnelled, "8080", "pong").await, ("pong".to_owned(), String::new()));
}

/// The client's half of the tunnel.
async fn carry(socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>, io: tokio::io::DuplexStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut sink, mut stream) = socket.split();
    let (mut reader, mut writer) = tokio::io::split(io);
    let out = async {
        let mut buffer = vec![0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..count]))).await.unwrap();
        }
    };
    let back = async {
        while let Some(Ok(message)) = stream.next().await {
            if let Message::Binary(data) = message {
                writer.write_all(&data).await.unwrap();
            }
        }
    };
    tokio::join!(out, back);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_reach_containers() {
    let test = RealBox::new(4).await;
    let script = "echo first; echo second; exec /bin/busybox nc -ll -p 8080 -e /bin/busybox cat";
    let path = test.api.pod(
        "one",
        json!({
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "app", "image": IMAGE, "command": ["/bin/sh", "-c", script]}],
        }),
    );
    test.api.wait_ready(&path).await;
    let server = test.server.clone();
    let checks = async {
        let logs = "/containerLogs/default/one/app";
        while text(&server, logs).await != "first\nsecond\n" {
            tokio::task::yield_now().await;
        }
        assert_eq!(text(&server, &format!("{logs}?tailLines=1")).await, "second\n");
        assert!(text(&server, "/containerLogs/default/one/other").await.contains("is not valid for pod one"));
        let previous = text(&server, &format!("{logs}?previous=true")).await;
        assert!(
            previous.contains("previous terminated container \\\"app\\\" in pod \\\"one\\\" not found"),
            "{previous}"
        );
        check_websocket(&server).await;
        check_spdy(&server).await;
        check_port_forward(&server).await;
        let summary: Value = serde_json::from_str(&text(&server, "/stats/summary").await).unwrap();
        assert_eq!(summary["pods"][0]["podRef"]["name"], "one");
        assert!(
            text(&server, "/metrics/resource").await.contains("container_memory_working_set_bytes{container=\"app\"")
        );
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), checks).await.expect("the checks end in time");
    test.stop().await;
}
