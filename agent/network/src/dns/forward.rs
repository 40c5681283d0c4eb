//! Names outside the cluster: asked of the upstream servers, and remembered for as long as they allow.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Answers remembered; the cache is emptied of what has expired, or all of it, when it is full.
const CACHE_MAX: usize = 4096;
const TTL_MAX: Duration = Duration::from_secs(3600);
/// How long "no such name" is believed without the zone saying so.
const NEGATIVE_TTL: Duration = Duration::from_secs(30);
/// Resolvers ask again after 5 s: two servers are tried before that.
const SERVER_TIME_MAX: Duration = Duration::from_secs(2);
const UDP_BYTES: u16 = 1232;

type Key = (String, u16);

struct Cached {
    message: Message,
    stored: Instant,
    until: Instant,
}

pub(crate) struct Upstream {
    servers: Vec<IpAddr>,
    cache: Mutex<HashMap<Key, Cached>>,
}

impl Upstream {
    pub(crate) fn new(servers: Vec<IpAddr>) -> Self {
        Self { servers, cache: Mutex::default() }
    }

    /// The servers of the settings, or those of the host at this moment: it may have moved to another network.
    fn servers(&self) -> Vec<IpAddr> {
        if !self.servers.is_empty() {
            return self.servers.clone();
        }
        parse_resolv_conf(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }

    pub(crate) async fn ask(&self, question: &Query) -> Option<Message> {
        let key = (question.name().to_ascii().to_ascii_lowercase(), u16::from(question.query_type()));
        if let Some(message) = self.cached(&key) {
            return Some(message);
        }
        for server in self.servers() {
            let asked = tokio::time::timeout(SERVER_TIME_MAX, ask_server(server, question)).await;
            if let Ok(Ok(message)) = asked {
                self.remember(key, &message);
                return Some(message);
            }
        }
        None
    }

    /// With the time to live that is left.
    fn cached(&self, key: &Key) -> Option<Message> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let cached = cache.get(key).filter(|cached| cached.until > now)?;
        let age = u32::try_from(now.duration_since(cached.stored).as_secs()).unwrap_or(u32::MAX);
        let mut message = cached.message.clone();
        for record in &mut message.answers {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(message)
    }

    fn remember(&self, key: Key, message: &Message) {
        let code = message.metadata.response_code;
        if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
            return;
        }
        let shortest = message.answers.iter().map(|record| record.ttl).min();
        let life = shortest.map_or(NEGATIVE_TTL, |ttl| Duration::from_secs(u64::from(ttl))).min(TTL_MAX);
        let now = Instant::now();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE_MAX {
            cache.retain(|_, cached| cached.until > now);
            if cache.len() >= CACHE_MAX {
                cache.clear();
            }
        }
        cache.insert(key, Cached { message: message.clone(), stored: now, until: now + life });
    }
}

pub(crate) fn parse_resolv_conf(text: &str) -> Vec<IpAddr> {
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let servers = text.lines().map(fields).filter(|f| f.len() >= 2 && f[0] == "nameserver");
    servers.filter_map(|f| f[1].parse().ok()).collect()
}

async fn ask_server(server: IpAddr, question: &Query) -> std::io::Result<Message> {
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(question.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_BYTES);
    query.edns = Some(edns);
    let bytes = query.to_vec().map_err(std::io::Error::other)?;
    let address = SocketAddr::from((server, 53));
    let any: IpAddr = if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; usize::from(UDP_BYTES)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Ok(message) = Message::from_vec(&buffer[..length]) else { continue };
        // Anybody can send to the socket: only an answer to this very question counts.
        if message.metadata.id != query.metadata.id || message.queries.first() != Some(question) {
            continue;
        }
        return if message.metadata.truncation { ask_over_tcp(address, &bytes).await } else { Ok(message) };
    }
}

async fn ask_over_tcp(address: SocketAddr, query: &[u8]) -> std::io::Result<Message> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_u16(u16::try_from(query.len()).unwrap_or(u16::MAX)).await?;
    stream.write_all(query).await?;
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Message::from_vec(&bytes).map_err(std::io::Error::other)
}
