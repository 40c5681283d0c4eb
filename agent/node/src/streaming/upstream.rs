//! The container runtime's streaming address: an HTTP request that becomes a SPDY connection, and the streams of one
//! exec or attach over it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Wanted;
use super::spdy::{self, Connection, Headers, Stream, StreamReader, StreamWriter};
use super::upgrade::{SPDY, STREAM_PROTOCOL};

/// v5 is refused by containerd 1.7, and over SPDY says nothing more than v4.
const PROTOCOL: HeaderValue = HeaderValue::from_static("v4.channel.k8s.io");
/// The address is one of this machine.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
const MESSAGE_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("container runtime gave the address {0}, which is not of the form http://HOST:PORT/PATH")]
    Address(String),
    #[error("container runtime did not answer at {0} in time")]
    Timeout(String),
    #[error("cannot reach the container runtime at {address}")]
    Connect { address: String, source: std::io::Error },
    #[error("container runtime does not speak HTTP")]
    Http(#[from] hyper::Error),
    #[error("container runtime refused the streams with {code}: {message}")]
    Refused { code: StatusCode, message: String },
    #[error("cannot open the streams of the container runtime")]
    Spdy(#[from] spdy::Error),
}

/// An upgraded connection without streams: the runtime waits for them, and begins when all are open.
pub(super) struct Upstream(Upgraded);

/// The streams of a command that runs.
pub(super) struct Process {
    pub stdin: Option<StreamWriter>,
    pub stdout: Option<StreamReader>,
    pub stderr: Option<StreamReader>,
    pub resize: Option<StreamWriter>,
    /// Carries a `Status` at the end.
    pub error: StreamReader,
    /// The streams live as long as this.
    pub connection: Connection,
}

impl Upstream {
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let uri: Uri = url.parse().map_err(|_| Error::Address(url.to_owned()))?;
        let address = uri.authority().filter(|_| uri.scheme_str() == Some("http"));
        let address = address.ok_or_else(|| Error::Address(url.to_owned()))?.to_string();
        let upgraded = tokio::time::timeout(CONNECT_TIME_MAX, upgrade(&uri, &address)).await;
        upgraded.map_err(|_| Error::Timeout(address))?.map(Self)
    }

    pub async fn open(self, wanted: Wanted) -> Result<Process, Error> {
        let mut connection = Connection::client(TokioIo::new(self.0))?;
        let error = open(&mut connection, "error", true).await?;
        let stdin = open(&mut connection, "stdin", wanted.stdin).await?;
        let stdout = open(&mut connection, "stdout", wanted.stdout).await?;
        let stderr = open(&mut connection, "stderr", wanted.stderr).await?;
        let resize = open(&mut connection, "resize", wanted.tty).await?;
        Ok(Process {
            stdin: stdin.map(|stream| stream.writer),
            stdout: stdout.map(|stream| stream.reader),
            stderr: stderr.map(|stream| stream.reader),
            resize: resize.map(|stream| stream.writer),
            error: error.ok_or(spdy::Error::Ended)?.reader,
            connection,
        })
    }
}

async fn open(connection: &mut Connection, kind: &str, wanted: bool) -> Result<Option<Stream>, Error> {
    if !wanted {
        return Ok(None);
    }
    Ok(Some(connection.open(Headers::new([("streamtype", kind)])).await?))
}

async fn upgrade(uri: &Uri, address: &str) -> Result<Upgraded, Error> {
    let failed = |source| Error::Connect { address: address.to_owned(), source };
    let socket = TcpStream::connect(address).await.map_err(failed)?;
    // Keystrokes must not wait for each other.
    socket.set_nodelay(true).map_err(failed)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(connection.with_upgrades());
    let mut response = sender.send_request(request(uri, address)).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let code = response.status();
        let body = Limited::new(response.body_mut(), MESSAGE_BYTES_MAX).collect().await;
        let message = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned());
        return Err(Error::Refused { code, message: message.unwrap_or_default() });
    }
    Ok(hyper::upgrade::on(response).await?)
}

fn request(uri: &Uri, address: &str) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::POST;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().unwrap_or_default();
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(address) {
        headers.insert(header::HOST, host);
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
    headers.insert(STREAM_PROTOCOL, PROTOCOL);
    request
}
