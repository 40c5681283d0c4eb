//! Connections through every protocol, from our client to a listener; and into another network namespace.

use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::dial::Namespace;
use super::{Offer, PROTOCOLS};
use crate::server::Body;
use crate::streaming::spdy::{Connection, Headers, Stream};
use crate::streaming::tests::{channels, in_time, read_all, serve, websocket};

/// A server that forwards to this machine's own ports.
async fn server(ports: Vec<u16>) -> String {
    let answer = move |mut request: Request<Body>| {
        let ports = ports.clone();
        async move {
            let (protocol, response) = Offer::parse(request.headers()).unwrap().accept(&PROTOCOLS).unwrap();
            let upgrade = hyper::upgrade::on(&mut request);
            let network = Namespace::of(std::process::id()).unwrap();
            tokio::spawn(async move { super::serve(upgrade.await.unwrap(), protocol, network, ports).await.unwrap() });
            response
        }
    };
    serve(answer).await
}

/// Answers each connection, once its input has ended, with what it got.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                socket.read_to_end(&mut all).await.unwrap();
                socket.write_all(&all).await.unwrap();
            });
        }
    });
    port
}

async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// A client's byte stream in a WebSocket.
fn bytes_of(socket: WebSocketStream<TcpStream>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(1 << 10);
    let (mut sink, mut stream) = socket.split();
    let (mut read, mut write) = tokio::io::split(far);
    tokio::spawn(async move {
        let mut buffer = [0; 999];
        while let Ok(count @ 1..) = read.read(&mut buffer).await {
            sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..count]))).await.unwrap();
        }
    });
    tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            write.write_all(&message.into_data()).await.unwrap();
        }
    });
    near
}

async fn connect(connection: &mut Connection, port: u16, request: &str) -> (Stream, Stream) {
    let port = port.to_string();
    let headers = |kind| Headers::new([("streamType", kind), ("port", port.as_str()), ("requestID", request)]);
    let error = connection.open(headers("error")).await.unwrap();
    (error, connection.open(headers("data")).await.unwrap())
}

async fn check(mut connection: Connection) {
    let (port, closed) = (echo().await, closed_port().await);
    let (first_error, first) = connect(&mut connection, port, "0").await;
    let (second_error, second) = connect(&mut connection, port, "1").await;
    second.writer.send(Bytes::from_static(b"two")).await.unwrap();
    first.writer.send(Bytes::from_static(b"one")).await.unwrap();
    // The answer comes only after the half-close.
    second.writer.close().await.unwrap();
    assert_eq!(read_all(Some(second.reader)).await, "two");
    assert_eq!(read_all(Some(second_error.reader)).await, "");
    first.writer.close().await.unwrap();
    assert_eq!(read_all(Some(first.reader)).await, "one");
    assert_eq!(read_all(Some(first_error.reader)).await, "");

    let (error, data) = connect(&mut connection, closed, "2").await;
    let message = read_all(Some(error.reader)).await;
    let begin =
        format!("failed to connect to localhost:{closed} inside namespace \"/proc/{}/ns/net\": ", std::process::id());
    assert!(message.starts_with(&begin) && message.contains("refused"), "{message}");
    assert_eq!(read_all(Some(data.reader)).await, "");
}

#[tokio::test]
async fn pairs_of_streams_in_a_websocket() {
    let address = server(Vec::new()).await;
    let socket = websocket(&address, "/portForward/default/web", "SPDY/3.1+portforward.k8s.io").await;
    check(Connection::client(bytes_of(socket)).unwrap()).await;
}

#[tokio::test]
async fn pairs_of_streams_over_spdy() {
    let mut socket = TcpStream::connect(server(Vec::new()).await).await.unwrap();
    let request = "POST /portForward/default/web HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
                   X-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(in_time(socket.read_u8()).await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && head.contains("upgrade: spdy/3.1"), "{head}");
    assert!(head.contains("x-stream-protocol-version: portforward.k8s.io"), "{head}");
    check(Connection::client(socket).unwrap()).await;
}

#[tokio::test]
async fn channels_of_a_websocket() {
    let (open, closed) = (echo_once().await, closed_port().await);
    let address = server(vec![open, closed]).await;
    let mut socket = websocket(&address, "/portForward/default/web", "v4.channel.k8s.io").await;
    socket.send(Message::Binary(Bytes::from_static(b"\0hello"))).await.unwrap();
    let [first, first_error, second, second_error, _] = channels(&mut socket).await;
    assert_eq!(first, [&open.to_le_bytes()[..], b"hello"].concat());
    assert_eq!((first_error, second), (open.to_le_bytes().to_vec(), closed.to_le_bytes().to_vec()));
    assert!(String::from_utf8_lossy(&second_error[2..]).starts_with("failed to connect to localhost:"));
}

/// Answers the first five bytes of a connection.
pub(in crate::streaming) async fn echo_once() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut five = [0; 5];
        socket.read_exact(&mut five).await.unwrap();
        socket.write_all(&five).await.unwrap();
    });
    port
}

/// A process in a network namespace of its own, ended with the test.
struct Isolated(Child);

impl Drop for Isolated {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

#[tokio::test]
async fn another_namespace_is_dialled() {
    let script = "busybox ip link set lo up && echo ready && exec busybox nc -l -p 7 -e busybox echo inside";
    let child = Command::new("unshare").args(["--net", "sh", "-c", script]).stdout(Stdio::piped()).spawn();
    let mut child = Isolated(child.unwrap());
    let mut ready = [0; 6];
    std::io::Read::read_exact(child.0.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let network = Namespace::of(child.0.id()).unwrap();
    // The listener comes up a moment after it said so.
    let mut socket = in_time(async {
        loop {
            match network.dial(7).await {
                Ok(socket) => return socket,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    let mut text = String::new();
    in_time(socket.read_to_string(&mut text)).await.unwrap();
    assert_eq!(text, "inside\n");
    assert!(Namespace::of(std::process::id()).unwrap().dial(7).await.is_err());
}
