//! Requests that another process answers: logs, exec, attach and port-forward by the pod's node, proxies by the pod.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use skiff_object::kinds;
use skiff_object::meta;
use skiff_store::Store;
use tokio::net::TcpStream;

use crate::Api;
use crate::body::Body;
use crate::handlers::Call;
use crate::status::ApiError;

/// A pod that does not answer its proxied connection for this long does not listen.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// What a node does for requests about its pods; paths are the kubelet's.
pub trait NodeService: Send + Sync + 'static {
    fn call(&self, request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, Infallible>>;
}

pub(crate) async fn to_node<S: Store>(api: &Api<S>, call: Call) -> Result<Response<Body>, ApiError> {
    let (target, query) = (call.target, call.query);
    let (namespace, name) = (target.namespace().unwrap_or_default(), target.name()?);
    let pod = api.require(&target.kind, Some(namespace), name).await?;
    let node = meta::text_at(&pod, &["spec", "nodeName"]).to_owned();
    let subresource = target.subresource.as_deref().unwrap_or_default();
    if node.is_empty() {
        if subresource == "log" {
            return Ok(crate::body::text(http::StatusCode::OK, ""));
        }
        return Err(ApiError::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let path = match subresource {
        "log" => format!("/containerLogs/{namespace}/{name}/{}", container(&pod, query.get("container"))?),
        "portforward" => format!("/portForward/{namespace}/{name}"),
        verb => format!("/{verb}/{namespace}/{name}/{}", container(&pod, query.get("container"))?),
    };
    let service = api
        .node(&node)
        .ok_or_else(|| ApiError::service_unavailable(format!("node {node} of pod {name} is not connected")))?;
    let mut request = call.request;
    let uri = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    *request.uri_mut() = uri.parse().map_err(|_| ApiError::bad_request("the request's path is not valid"))?;
    let Ok(response) = service.call(request).await;
    Ok(response)
}

/// The asked container, or the only one.
fn container(pod: &Value, asked: Option<&str>) -> Result<String, ApiError> {
    let list = |field| meta::items(meta::at(pod, &["spec", field])).iter().map(|c| meta::text_at(c, &["name"]));
    let (regular, init): (Vec<&str>, Vec<&str>) = (list("containers").collect(), list("initContainers").collect());
    let ephemeral: Vec<&str> = list("ephemeralContainers").collect();
    match (asked, regular.as_slice()) {
        (Some(asked), _) if regular.contains(&asked) || init.contains(&asked) || ephemeral.contains(&asked) => {
            Ok(asked.to_owned())
        }
        (Some(asked), _) => {
            Err(ApiError::bad_request(format!("container {asked} is not valid for pod {}", meta::name(pod))))
        }
        (None, [only]) => Ok((*only).to_owned()),
        (None, many) => {
            let mut message = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                meta::name(pod),
                many.join(" ")
            );
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(ApiError::bad_request(message))
        }
    }
}

/// `…/pods/NAME[:PORT]/proxy/PATH` and the same for services; nodes answer their own paths.
pub(crate) async fn proxy<S: Store>(api: &Api<S>, call: Call) -> Result<Response<Body>, ApiError> {
    let target = call.target;
    let (scheme_name, port) = split_port(target.name()?);
    let namespace = target.namespace();
    let path_and_query = match call.request.uri().query() {
        Some(query) => format!("/{}?{query}", target.rest),
        None => format!("/{}", target.rest),
    };
    let uri: Uri = path_and_query.parse().map_err(|_| ApiError::bad_request("the proxied path is not valid"))?;
    let mut request = call.request;
    *request.uri_mut() = uri;
    let (address, port) = match &*target.kind.kind {
        "Node" => {
            let service = api.node(scheme_name).ok_or_else(|| ApiError::not_found(&target.kind, scheme_name))?;
            let Ok(response) = service.call(request).await;
            return Ok(response);
        }
        "Pod" => {
            let pod = api.require(&target.kind, namespace, scheme_name).await?;
            let ip = meta::text_at(&pod, &["status", "podIP"]).to_owned();
            let first = pod.pointer("/spec/containers/0/ports/0/containerPort");
            (ip, port.and_then(|p| p.parse().ok()).or(first.and_then(Value::as_u64)).unwrap_or(80))
        }
        _ => service_endpoint(api, namespace, scheme_name, port).await?,
    };
    if address.is_empty() {
        return Err(ApiError::service_unavailable(format!("no endpoints available for \"{scheme_name}\"")));
    }
    forward(request, reachable(api, &address, port)?).await
}

/// Whoever may write endpoints or a pod's status must not reach through this server what only the machine reaches.
fn reachable<S: Store>(api: &Api<S>, address: &str, port: u64) -> Result<SocketAddr, ApiError> {
    let bad = |why: &str| ApiError::bad_request(format!("address {address}:{port} not allowed: {why}"));
    let ip: IpAddr = address.parse().map_err(|_| bad("it is no IP address"))?;
    let port = u16::try_from(port).ok().filter(|port| *port != 0).ok_or_else(|| bad("the port is not valid"))?;
    match api.config().why_own(ip) {
        Some(why) => Err(bad(&format!("it {why}"))),
        None => Ok(SocketAddr::new(ip, port)),
    }
}

/// `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`.
fn split_port(name: &str) -> (&str, Option<&str>) {
    let parts: Vec<&str> = name.split(':').collect();
    match parts.as_slice() {
        [name, port] => (name, Some(port)),
        [_, name, port] => (name, Some(port).filter(|p| !p.is_empty()).copied()),
        _ => (name, None),
    }
}

async fn service_endpoint<S: Store>(
    api: &Api<S>,
    namespace: Option<&str>,
    name: &str,
    port: Option<&str>,
) -> Result<(String, u64), ApiError> {
    let kind = kinds::by_kind("v1", "Endpoints").expect("a built-in kind");
    let services = kinds::by_kind("v1", "Service").expect("a built-in kind");
    let service = api.require(services, namespace, name).await?;
    let endpoints = api.read(kind, namespace, name).await?.unwrap_or_default();
    let ports = meta::items(meta::at(&service, &["spec", "ports"]));
    let wanted = match port {
        Some(port) => ports.iter().find(|p| p["name"] == port || p["port"].as_u64() == port.parse().ok()),
        None => ports.first(),
    };
    let port_name = wanted.and_then(|p| p.get("name")).cloned().unwrap_or_default();
    for subset in meta::items(endpoints.get("subsets")) {
        let address = meta::items(subset.get("addresses")).first().map(|a| meta::text_at(a, &["ip"]));
        let ports = meta::items(subset.get("ports"));
        let port = ports.iter().find(|p| p.get("name").cloned().unwrap_or_default() == port_name).or(ports.first());
        if let (Some(address), Some(port)) = (address, port.and_then(|p| p["port"].as_u64())) {
            return Ok((address.to_owned(), port));
        }
    }
    Err(ApiError::service_unavailable(format!("no endpoints available for service \"{name}\"")))
}

async fn forward(mut request: Request<Body>, authority: SocketAddr) -> Result<Response<Body>, ApiError> {
    let failed = |what: &dyn std::fmt::Display| {
        ApiError::service_unavailable(format!("error trying to reach service: {authority}: {what}"))
    };
    let connect = tokio::time::timeout(CONNECT_TIME_MAX, TcpStream::connect(authority)).await;
    let stream = connect.map_err(|_| failed(&"no answer in time"))?.map_err(|e| failed(&e))?;
    // The caller's credentials are for this server alone.
    request.headers_mut().remove(header::AUTHORIZATION);
    let host = authority.to_string().parse().map_err(|_| failed(&"not a valid address"))?;
    request.headers_mut().insert(header::HOST, host);
    over(request, TokioIo::new(stream)).await.map_err(|e| failed(&e))
}

/// A request over a connection that is its own. One that becomes another protocol's is passed through until either ends it.
pub(crate) async fn over<IO>(mut request: Request<Body>, io: IO) -> Result<Response<Body>, hyper::Error>
where
    IO: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection.with_upgrades());
    let version = std::mem::replace(request.version_mut(), Version::HTTP_11);
    let asked = hyper::upgrade::on(&mut request);
    let mut response = sender.send_request(request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && version == Version::HTTP_11 {
        let given = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(asked), Ok(given)) = tokio::join!(asked, given) {
                let (mut asked, mut given) = (TokioIo::new(asked), TokioIo::new(given));
                let _ = tokio::io::copy_bidirectional(&mut asked, &mut given).await;
            }
        });
    }
    Ok(response.map(|body| body.map_err(Into::into).boxed()))
}
