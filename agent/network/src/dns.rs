//! Cluster DNS at its Service's address: names of Services and pods from the objects, everything else from upstream.
//! Scope: node. <https://github.com/kubernetes/dns/blob/master/docs/specification.md>

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hickory_proto::op::Message;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use skiff_reconcile::{BoxError, Informer, Next, Parts, Reconciler, Scope, Wake, drive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::Config;

mod answer;
mod forward;
mod publish;
mod records;
#[cfg(test)]
mod tests;

use answer::Answerer;
use forward::Upstream;
pub(crate) use publish::ensure as publish;
use records::Records;

const PORT: u16 = 53;
/// Questions answered at once; more are dropped and asked again by their resolver.
const QUERIES_MAX: usize = 512;
const TCP_TIME_MAX: Duration = Duration::from_secs(10);
/// The address may be in use for a moment after a restart.
const BIND_RETRY: Duration = Duration::from_millis(500);

pub(crate) struct Sources {
    pub(crate) services: Informer<Service>,
    pub(crate) slices: Informer<EndpointSlice>,
    pub(crate) pods: Informer<Pod>,
}

/// Rebuilds the records after each change.
struct Publisher {
    sources: Sources,
    domain: String,
    records: Arc<RwLock<Arc<Records>>>,
}

impl Reconciler for Publisher {
    const NAME: &'static str = "dns";
    const SCOPE: Scope = Scope::Node;

    async fn reconcile(&mut self) -> Result<Next, BoxError> {
        let records = Records::new(
            &self.domain,
            &self.sources.services.list(),
            &self.sources.slices.list(),
            &self.sources.pods.list(),
        );
        *self.records.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(records);
        Ok(Next::Change)
    }
}

pub(crate) async fn run(config: Config, sources: Sources, wake: Wake, parts: Parts) {
    let shutdown = parts.shutdown();
    let records = Arc::new(RwLock::new(Arc::new(Records::empty(&config.cluster_domain))));
    let answerer = Arc::new(Answerer::new(Arc::clone(&records), Upstream::new(config.upstream_dns.clone())));
    let address = SocketAddr::from((config.dns_address, PORT));
    let publisher = Publisher { sources, domain: config.cluster_domain, records };
    let slots = Arc::new(Semaphore::new(QUERIES_MAX));
    tokio::join!(
        drive(publisher, wake, parts.clone()),
        until(shutdown, serve_udp(address, Arc::clone(&answerer), Arc::clone(&slots))),
        until(shutdown, serve_tcp(address, answerer, slots)),
    );
}

async fn until(shutdown: &CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = shutdown.cancelled() => {}
    }
}

async fn serve_udp(address: SocketAddr, answerer: Arc<Answerer>, slots: Arc<Semaphore>) {
    let socket = loop {
        match UdpSocket::bind(address).await {
            Ok(socket) => break Arc::new(socket),
            Err(error) => {
                tracing::warn!(%address, %error, "cluster DNS cannot listen, will retry");
                tokio::time::sleep(BIND_RETRY).await;
            }
        }
    };
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
        let (answerer, socket) = (Arc::clone(&answerer), Arc::clone(&socket));
        // What is known is answered here and now; only questions to others take a task.
        match answerer.local(&query) {
            Some(response) => drop(socket.send_to(&answer::encode_udp(&query, response), client).await),
            None => drop(tokio::spawn(async move {
                let _slot = slot;
                let response = answerer.forward(&query).await;
                let _ = socket.send_to(&answer::encode_udp(&query, response), client).await;
            })),
        }
    }
}

async fn serve_tcp(address: SocketAddr, answerer: Arc<Answerer>, slots: Arc<Semaphore>) {
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                tracing::warn!(%address, %error, "cluster DNS cannot listen, will retry");
                tokio::time::sleep(BIND_RETRY).await;
            }
        }
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let answerer = Arc::clone(&answerer);
        tokio::spawn(async move {
            let _slot = slot;
            let _ = tokio::time::timeout(TCP_TIME_MAX, serve_stream(stream, answerer)).await;
        });
    }
}

/// Messages with their length before them (RFC 1035, 4.2.2).
async fn serve_stream(mut stream: TcpStream, answerer: Arc<Answerer>) -> std::io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut bytes = vec![0; usize::from(length)];
        stream.read_exact(&mut bytes).await?;
        let Ok(query) = Message::from_vec(&bytes) else { return Ok(()) };
        let response = match answerer.local(&query) {
            Some(response) => response,
            None => answerer.forward(&query).await,
        };
        let bytes = answer::encode(&response);
        stream.write_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX)).await?;
        stream.write_all(&bytes).await?;
    }
}
