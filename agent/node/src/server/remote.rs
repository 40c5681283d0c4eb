//! The container runtime's side of exec and attach: SPDY to the address it hands out. SPDY rather than a WebSocket,
//! because the runtime's WebSockets cannot tell the end of stdin.

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::BoxError;
use super::session::Wanted;
use crate::spdy::{Connection, Role, Stream};

/// The runtime's version of the protocol in which the error stream carries a `Status`.
const PROTOCOL: &str = "v4.channel.k8s.io";

pub(super) struct Remote {
    pub stdin: Option<Stream>,
    pub stdout: Option<Stream>,
    pub stderr: Option<Stream>,
    pub resize: Option<Stream>,
    pub error: Stream,
    /// Held so that the connection stays open.
    pub connection: Connection,
}

pub(super) async fn connect(url: &str, wanted: Wanted) -> Result<Remote, BoxError> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().ok_or("the runtime's address has no host")?.clone();
    let stream = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(header::HOST, authority.as_str())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header("x-stream-protocol-version", PROTOCOL)
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(format!("the container runtime answered {}", response.status()).into());
    }
    let upgraded = hyper::upgrade::on(response).await?;
    let mut connection = Connection::new(TokioIo::new(upgraded), Role::Client);
    // In upstream's order; the runtime waits for exactly these.
    let error = open(&mut connection, "error").await;
    let stdin = opened(&mut connection, "stdin", wanted.stdin).await;
    let stdout = opened(&mut connection, "stdout", wanted.stdout).await;
    let stderr = opened(&mut connection, "stderr", wanted.stderr && !wanted.tty).await;
    let resize = opened(&mut connection, "resize", wanted.tty).await;
    Ok(Remote { stdin, stdout, stderr, resize, error, connection })
}

async fn open(connection: &mut Connection, kind: &str) -> Stream {
    connection.open(&[("streamtype", kind)]).await
}

async fn opened(connection: &mut Connection, kind: &str, wanted: bool) -> Option<Stream> {
    if wanted { Some(open(connection, kind).await) } else { None }
}
