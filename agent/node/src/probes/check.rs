//! Asks a container once: a command, an HTTP request, a TCP connection or gRPC's health service. Also used by lifecycle
//! hooks, which know the first two.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Container as Spec, ExecAction, GRPCAction, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::{seconds, tls};
use crate::context::Context;

/// More of an answer is of no use for a message.
const BODY_BYTES_MAX: usize = 10 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub success: bool,
    pub message: String,
}

impl Answer {
    fn good() -> Self {
        Self { success: true, message: String::new() }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self { success: false, message: message.into() }
    }
}

pub async fn run(context: &Context, id: &str, spec: &Spec, probe: &Probe, ip: Option<IpAddr>) -> Answer {
    let timeout = seconds(probe.timeout_seconds, 1);
    if let Some(action) = &probe.exec {
        return exec(context, id, action, timeout).await;
    }
    let Some(ip) = ip else { return Answer::bad("the pod has no address") };
    let work = async {
        if let Some(action) = &probe.http_get {
            http_get(action, spec, ip).await
        } else if let Some(action) = &probe.tcp_socket {
            tcp(action.host.as_deref(), &action.port, spec, ip).await
        } else if let Some(action) = &probe.grpc {
            grpc(action, ip).await
        } else {
            Answer::bad("the probe has no action")
        }
    };
    match tokio::time::timeout(timeout, work).await {
        Ok(answer) => answer,
        Err(_) => Answer::bad(timed_out(probe, ip)),
    }
}

fn timed_out(probe: &Probe, ip: IpAddr) -> String {
    match &probe.http_get {
        Some(action) => {
            let path = action.path.as_deref().unwrap_or("/");
            format!("Get \"{ip}{path}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)")
        }
        None => "i/o timeout".to_owned(),
    }
}

pub async fn exec(context: &Context, id: &str, action: &ExecAction, timeout: Duration) -> Answer {
    let command = action.command.clone().unwrap_or_default();
    let limit = tokio::time::timeout(timeout, context.runtime.exec_sync(id, command.clone(), timeout));
    match limit.await {
        Ok(Ok(answer)) if answer.exit_code == 0 => Answer::good(),
        Ok(Ok(answer)) => {
            let output = [answer.stdout, answer.stderr].concat();
            let shown = &output[..output.len().min(BODY_BYTES_MAX)];
            let text = String::from_utf8_lossy(shown).into_owned();
            Answer::bad(if text.is_empty() { format!("command exited with {}", answer.exit_code) } else { text })
        }
        Ok(Err(skiff_cri::Error::DeadlineExceeded { .. })) | Err(_) => {
            Answer::bad(format!("command timed out: {command:?} timed out after {}s", timeout.as_secs()))
        }
        Ok(Err(error)) => Answer::bad(error.to_string()),
    }
}

/// A port by number, or by its name among the container's ports.
fn port(port: &IntOrString, spec: &Spec) -> Option<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => match name.parse() {
            Ok(number) => number,
            Err(_) => {
                let named = |p: &&k8s_openapi::api::core::v1::ContainerPort| p.name.as_deref() == Some(name);
                spec.ports.iter().flatten().find(named)?.container_port
            }
        },
    };
    u16::try_from(number).ok().filter(|port| *port > 0)
}

pub async fn tcp(host: Option<&str>, wanted: &IntOrString, spec: &Spec, ip: IpAddr) -> Answer {
    let Some(port) = port(wanted, spec) else { return Answer::bad("the port is unknown") };
    match connect(host, ip, port).await {
        Ok(_) => Answer::good(),
        Err(message) => Answer::bad(message),
    }
}

async fn connect(host: Option<&str>, ip: IpAddr, port: u16) -> Result<TcpStream, String> {
    let (result, target) = match host.filter(|host| !host.is_empty()) {
        Some(host) => (TcpStream::connect((host, port)).await, format!("{host}:{port}")),
        None => {
            let address = SocketAddr::new(ip, port);
            (TcpStream::connect(address).await, address.to_string())
        }
    };
    result.map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
            _ => error.to_string(),
        };
        format!("dial tcp {target}: {reason}")
    })
}

pub async fn http_get(action: &HTTPGetAction, spec: &Spec, ip: IpAddr) -> Answer {
    let Some(port) = port(&action.port, spec) else { return Answer::bad("the port is unknown") };
    let https = action.scheme.as_deref() == Some("HTTPS");
    let scheme = if https { "https" } else { "http" };
    let url = format!("{scheme}://{}{}", SocketAddr::new(ip, port), action.path.as_deref().unwrap_or("/"));
    let stream = match connect(action.host.as_deref(), ip, port).await {
        Ok(stream) => stream,
        Err(message) => return Answer::bad(format!("Get \"{url}\": {message}")),
    };
    let asked = match https {
        true => match tls::connect(stream, ip).await {
            Ok(stream) => request(stream, action, ip, port).await,
            Err(error) => Err(error.into()),
        },
        false => request(stream, action, ip, port).await,
    };
    match asked {
        Ok(response) => judge(response).await,
        Err(error) => Answer::bad(format!("Get \"{url}\": {error}")),
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn request(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    action: &HTTPGetAction,
    ip: IpAddr,
    port: u16,
) -> Result<Response<Incoming>, BoxError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let path = action
        .path
        .as_deref()
        .filter(|path| path.starts_with('/'))
        .map_or_else(|| format!("/{}", action.path.as_deref().unwrap_or_default()), str::to_owned);
    let mut request = Request::get(path);
    let has = |name: &str| action.http_headers.iter().flatten().any(|h| h.name.eq_ignore_ascii_case(name));
    let default_host = SocketAddr::new(ip, port).to_string();
    if !has("host") {
        request = request.header("host", default_host);
    }
    if !has("user-agent") {
        request = request.header("user-agent", "kube-probe/1.37");
    }
    if !has("accept") {
        request = request.header("accept", "*/*");
    }
    for header in action.http_headers.iter().flatten() {
        request = request.header(header.name.as_str(), header.value.as_str());
    }
    Ok(sender.send_request(request.body(Full::new(Bytes::new()))?).await?)
}

async fn judge(response: Response<Incoming>) -> Answer {
    let status = response.status();
    // A redirect elsewhere counts as success, as upstream's warning does.
    if status.is_success() || status.is_redirection() {
        // Read to the end, so that the server sees a whole exchange.
        let _ = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        return Answer::good();
    }
    Answer::bad(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
}

/// `grpc.health.v1.Health/Check`: a request with the service's name, an answer that says 1 for serving.
async fn grpc(action: &GRPCAction, ip: IpAddr) -> Answer {
    let Ok(port) = u16::try_from(action.port) else { return Answer::bad("the port is unknown") };
    let stream = match connect(None, ip, port).await {
        Ok(stream) => stream,
        Err(message) => return Answer::bad(format!("timeout: failed to connect service: {message}")),
    };
    match health(stream, action.service.as_deref().unwrap_or_default(), ip, port).await {
        Ok(Some(1)) => Answer::good(),
        Ok(status) => {
            let name = match status {
                Some(2) => "NOT_SERVING",
                Some(3) => "SERVICE_UNKNOWN",
                Some(_) | None => "UNKNOWN",
            };
            Answer::bad(format!("service unhealthy (responded with \"{name}\")"))
        }
        Err(error) => Answer::bad(format!("error: health rpc probe failed: {error}")),
    }
}

async fn health(stream: TcpStream, service: &str, ip: IpAddr, port: u16) -> Result<Option<u8>, BoxError> {
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post(format!("http://{}/grpc.health.v1.Health/Check", SocketAddr::new(ip, port)))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(health_request(service)?))?;
    let response = sender.send_request(request).await?;
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await?;
    let failed = body.trailers().and_then(|trailers| trailers.get("grpc-status")).filter(|code| *code != "0");
    if let Some(code) = failed {
        return Err(format!("rpc error: code = {}", String::from_utf8_lossy(code.as_bytes())).into());
    }
    // Five bytes of gRPC's own, then field 1 as a number; an empty message means zero.
    let bytes = body.to_bytes();
    Ok(bytes.get(6).copied().filter(|_| bytes.get(5) == Some(&0x08)))
}

fn health_request(service: &str) -> Result<Bytes, BoxError> {
    let name = u8::try_from(service.len()).ok().filter(|len| *len < 0x80).ok_or("the service's name is too long")?;
    let mut message = BytesMut::new();
    if name > 0 {
        message.put_u8(0x0a);
        message.put_u8(name);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len())?);
    framed.put_slice(&message);
    Ok(framed.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn answer(reply: &'static str) -> Answer {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer).await;
            stream.write_all(reply.as_bytes()).await.unwrap();
        });
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "name": "c", "ports": [{"name": "web", "containerPort": port}],
        }))
        .unwrap();
        let action = HTTPGetAction { port: IntOrString::String("web".into()), ..HTTPGetAction::default() };
        http_get(&action, &spec, "127.0.0.1".parse().unwrap()).await
    }

    #[tokio::test]
    async fn http_statuses_are_judged() {
        assert!(answer("HTTP/1.1 204 No Content\r\n\r\n").await.success);
        let bad = answer("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(bad, Answer::bad("HTTP probe failed with statuscode: 503"));
    }

    #[tokio::test]
    async fn a_closed_port_is_refused() {
        let answer = tcp(None, &IntOrString::Int(1), &Spec::default(), "127.0.0.1".parse().unwrap()).await;
        assert_eq!(answer, Answer::bad("dial tcp 127.0.0.1:1: connect: connection refused"));
    }
}
