//! Both ends of exec in one process: our client against our server, with a runtime of ours behind it. How the real
//! containerd takes it is in `containerd`.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::client::{Client, PROTOCOLS, Protocol};
use super::upgrade::Offer;
use super::upstream::{Process, Upstream};
use super::{Wanted, connect};
use crate::server::{Body, Refusal};

mod containerd;

pub(super) const WAIT: Duration = Duration::from_secs(20);
const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };
const TERMINAL: Wanted = Wanted { stdin: true, stdout: true, stderr: false, tty: true };

/// An HTTP server on this machine; answers its address.
pub(crate) async fn serve<F, A>(answer: F) -> String
where
    F: Fn(Request<Body>) -> A + Clone + Send + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(request.map(|body| body.map_err(Into::into).boxed()));
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(server.serve_connection(TokioIo::new(socket), service).with_upgrades());
        }
    });
    address
}

pub(super) async fn websocket(address: &str, path: &str, protocols: &str) -> WebSocketStream<TcpStream> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    let socket = TcpStream::connect(address).await.unwrap();
    tokio_tungstenite::client_async(request, socket).await.unwrap().0
}

pub(super) async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT, work).await.expect("it happens in time")
}

/// What a WebSocket client gets, by channel, until the server closes.
pub(super) async fn channels(socket: &mut WebSocketStream<TcpStream>) -> [Vec<u8>; 5] {
    let mut channels: [Vec<u8>; 5] = Default::default();
    while let Some(Ok(message)) = in_time(socket.next()).await {
        if let Message::Binary(data) = message {
            channels[usize::from(data[0])].extend_from_slice(&data[1..]);
        }
    }
    channels
}

pub(super) async fn read_all(from: Option<tokio::sync::mpsc::Receiver<Bytes>>) -> String {
    let (mut from, mut all) = (from.unwrap(), Vec::new());
    while let Some(data) = in_time(from.recv()).await {
        all.extend_from_slice(&data);
    }
    String::from_utf8(all).unwrap()
}

const EXIT_3: &str = r#"{"metadata":{},"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#;

/// A runtime whose every command copies its input to its output and, without a terminal, says so on stderr; then it
/// exits with 3. On a terminal it first shows the size it is given.
async fn runtime(wanted: Wanted, ended: mpsc::UnboundedSender<()>) -> String {
    let answer = move |mut request: Request<Body>| {
        let ended = ended.clone();
        async move {
            let offer = Offer::parse(request.headers()).unwrap();
            let (protocol, response) = offer.accept(&PROTOCOLS).unwrap();
            assert_eq!(protocol, Protocol::SpdyV4);
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                run(Client::accept(upgrade.await.unwrap(), protocol, wanted).await.unwrap(), ended).await
            });
            response
        }
    };
    serve(answer).await
}

async fn run(client: Client, ended: mpsc::UnboundedSender<()>) {
    let (mut stdin, stdout) = (client.stdin.unwrap(), client.stdout.unwrap());
    if let Some(mut resize) = client.resize {
        stdout.send(resize.recv().await.unwrap()).await.unwrap();
    }
    while let Some(data) = stdin.recv().await {
        stdout.send(data).await.unwrap();
    }
    let _ = ended.send(());
    stdout.close().await;
    if let Some(stderr) = client.stderr {
        stderr.send(Bytes::from_static(b"end of input")).await.unwrap();
        stderr.close().await;
    }
    client.error.send(EXIT_3.into()).await.unwrap();
    client.error.close().await;
    client.link.finish().await;
}

/// Our server, in front of that runtime.
async fn server(wanted: Wanted) -> String {
    server_telling(wanted, mpsc::unbounded_channel().0).await
}

/// Tells of every process whose input has ended.
async fn server_telling(wanted: Wanted, ended: mpsc::UnboundedSender<()>) -> String {
    let url = format!("http://{}/exec/token", runtime(wanted, ended).await);
    let answer = move |request: Request<Body>| {
        let url = url.clone();
        async move {
            let offer = Offer::parse(request.headers());
            let answer = async { connect(&url, wanted, &offer?, request).await };
            answer.await.unwrap_or_else(Refusal::into_response)
        }
    };
    serve(answer).await
}

async fn spdy(address: &str, wanted: Wanted) -> Process {
    Upstream::connect(&format!("http://{address}/exec")).await.unwrap().open(wanted).await.unwrap()
}

#[tokio::test]
async fn a_websocket_ends_its_input_and_gets_the_exit_code() {
    let mut socket = websocket(&server(ALL).await, "/exec", "v5.channel.k8s.io, v4.channel.k8s.io").await;
    socket.send(Message::Binary(Bytes::from_static(b"\0hello "))).await.unwrap();
    socket.send(Message::Text("\0world".into())).await.unwrap();
    socket.send(Message::Binary(Bytes::from_static(&[255, 0]))).await.unwrap();
    let [_, stdout, stderr, error, _] = channels(&mut socket).await;
    assert_eq!((stdout, stderr), (b"hello world".to_vec(), b"end of input".to_vec()));
    assert_eq!(String::from_utf8(error).unwrap(), EXIT_3);
}

#[tokio::test]
async fn the_first_protocol_tells_a_failure_in_words() {
    let address = server(ALL).await;
    for protocols in [Some("channel.k8s.io"), None] {
        let mut request = format!("ws://{address}/exec").into_client_request().unwrap();
        if let Some(protocols) = protocols {
            request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        }
        let stream = TcpStream::connect(&address).await.unwrap();
        let (mut socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let chosen = response.headers().get("sec-websocket-protocol").map(|name| name.to_str().unwrap());
        assert_eq!(chosen, protocols);
        socket.send(Message::Binary(Bytes::from_static(b"\0hello"))).await.unwrap();
        let mut got: [Vec<u8>; 4] = Default::default();
        while got[1].is_empty() {
            let Some(Ok(Message::Binary(data))) = in_time(socket.next()).await else { panic!("no output") };
            got[usize::from(data[0])].extend_from_slice(&data[1..]);
        }
        assert_eq!(got[1], b"hello");
    }
    let told = |status: &str| super::relay::tell(Bytes::from(status.to_owned()), super::client::Outcome::Words);
    assert_eq!(told(r#"{"status": "Success"}"#), None);
    let failed = told(r#"{"status": "Failure", "message": "exit status 3"}"#);
    assert_eq!(failed, Some(Bytes::from_static(b"exit status 3")));
}

#[tokio::test]
async fn a_terminal_is_told_its_size() {
    let mut socket = websocket(&server(TERMINAL).await, "/exec", "v5.channel.k8s.io").await;
    socket.send(Message::Binary(Bytes::from_static(b"\x04{\"Width\":80,\"Height\":24}"))).await.unwrap();
    socket.send(Message::Binary(Bytes::from_static(&[255, 0]))).await.unwrap();
    let [_, stdout, ..] = channels(&mut socket).await;
    assert_eq!(stdout, b"{\"Width\":80,\"Height\":24}");
}

#[tokio::test]
async fn a_spdy_client_ends_its_input_and_gets_the_exit_code() {
    let process = spdy(&server(ALL).await, ALL).await;
    let stdin = process.stdin.unwrap();
    let sent = "x".repeat(1 << 20);
    let write = async {
        stdin.send(sent.clone().into()).await.unwrap();
        stdin.close().await.unwrap();
    };
    let (got, ()) = tokio::join!(read_all(process.stdout), write);
    assert_eq!(got.len(), sent.len());
    assert_eq!(read_all(process.stderr).await, "end of input");
    assert_eq!(read_all(Some(process.error)).await, EXIT_3);
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_input_of_the_process() {
    let (sender, mut ended) = mpsc::unbounded_channel();
    let mut socket = websocket(&server_telling(ALL, sender).await, "/exec", "v4.channel.k8s.io").await;
    socket.send(Message::Binary(Bytes::from_static(b"\0a"))).await.unwrap();
    while !matches!(in_time(socket.next()).await, Some(Ok(Message::Binary(data))) if data == b"\x01a"[..]) {}
    // v4 has no other end of input.
    drop(socket);
    in_time(ended.recv()).await.unwrap();
}

#[tokio::test]
async fn a_runtime_that_is_not_there_is_an_answer() {
    let answer = |request: Request<Body>| async move {
        let offer = Offer::parse(request.headers()).unwrap();
        connect("http://127.0.0.1:1/exec/x", ALL, &offer, request).await.unwrap_or_else(Refusal::into_response)
    };
    let address = serve(answer).await;
    let error = Upstream::connect(&format!("http://{address}/exec")).await.err().unwrap().to_string();
    assert!(error.starts_with("container runtime refused the streams with 500 Internal Server Error:"), "{error}");
    assert!(error.contains("cannot reach the container runtime at 127.0.0.1:1: Connection refused"), "{error}");
}
