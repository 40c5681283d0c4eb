//! TLS 1.3 handshakes, full or resumed: each with one small request, as a ticket comes only after the handshake.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use super::load::{Load, percentiles};

const CLIENTS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Full,
    Resumed,
}

pub struct Handshakes<'a> {
    pub address: SocketAddr,
    pub host: &'a str,
    pub chain: &'a Path,
    pub kind: Kind,
}

impl Handshakes<'_> {
    pub fn run(&self, duration: Duration) -> anyhow::Result<Load> {
        let results: Vec<anyhow::Result<Vec<f64>>> = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(|| self.client(duration))).collect();
            clients.into_iter().map(|c| c.join().unwrap_or_else(|_| anyhow::bail!("a client panicked"))).collect()
        });
        let mut times = Vec::new();
        for result in results {
            times.extend(result?);
        }
        let requests = times.len() as f64;
        let (p50, p99) = percentiles(times)?;
        Ok(Load { requests, rate: requests / duration.as_secs_f64(), p50, p99 })
    }

    /// Milliseconds of each connection, from connecting to the end of the answer.
    fn client(&self, duration: Duration) -> anyhow::Result<Vec<f64>> {
        let config = Arc::new(self.config()?);
        if self.kind == Kind::Resumed {
            self.connect(&config)?;
        }
        let (started, mut times) = (Instant::now(), Vec::new());
        while started.elapsed() < duration {
            let before = Instant::now();
            let kind = self.connect(&config)?;
            times.push(before.elapsed().as_secs_f64() * 1000.0);
            let expected = match self.kind {
                Kind::Full => kind != HandshakeKind::Resumed,
                Kind::Resumed => kind == HandshakeKind::Resumed,
            };
            ensure!(expected, "the handshake was {kind:?}");
        }
        Ok(times)
    }

    fn config(&self) -> anyhow::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(self.chain)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = match self.kind {
            Kind::Full => Resumption::disabled(),
            Kind::Resumed => Resumption::in_memory_sessions(64),
        };
        Ok(config)
    }

    fn connect(&self, config: &Arc<ClientConfig>) -> anyhow::Result<HandshakeKind> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(self.host.to_owned())?;
        let mut tls = StreamOwned::new(ClientConnection::new(Arc::clone(config), name)?, stream);
        write!(tls, "GET /1k HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.host)?;
        let mut answer = Vec::new();
        match tls.read_to_end(&mut answer) {
            Ok(_) => {}
            // Closed without a word of TLS: the length says whether all is there.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => {}
            Err(e) => return Err(e.into()),
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200") && answer.len() > 1000, "{}", String::from_utf8_lossy(&answer));
        tls.conn.handshake_kind().context("no handshake")
    }
}
