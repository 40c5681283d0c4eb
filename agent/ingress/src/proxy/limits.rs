//! Who may ask, how often, and over how many connections.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::table::RateLimit;

/// A set of networks. Both families are kept as IPv6.
#[derive(Clone, Debug, Default)]
pub struct Networks(Vec<(u128, u128)>);

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// One network as base and mask.
fn network(text: &str) -> Option<(u128, u128)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.trim().parse().ok()?;
    let (own_bits, before) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
    let length = length.unwrap_or(own_bits);
    if length > own_bits {
        return None;
    }
    let mask = u128::MAX.checked_shl(128 - before - length).unwrap_or(0);
    Some((bits(address) & mask, mask))
}

impl Networks {
    /// What is not a network was refused before: here it matches nothing.
    pub fn parse(list: &[String]) -> Self {
        Self(list.iter().filter_map(|text| network(text)).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = bits(address);
        self.0.iter().any(|(base, mask)| address & mask == *base)
    }
}

pub fn is_network(text: &str) -> bool {
    network(text).is_some()
}

/// Who counts as one client: an IPv4 address, or an IPv6 network of 64 bits, as one home has it.
fn client(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => Ipv6Addr::to_bits(v6) >> 64 << 64,
    }
}

/// One client gets a part of all connections, so that it takes several to keep the others out; a school behind one
/// address still has thousands.
const CLIENT_PART: usize = 8;
/// But at least these: a browser opens six for each name.
const CLIENT_CONNECTIONS_MIN: usize = 64;

/// Open connections of each client.
#[derive(Debug, Default)]
pub struct Connections(Mutex<HashMap<u128, usize>>);

impl Connections {
    /// Counts one more, unless the client has what one client gets of `connections_max`.
    pub fn open(&self, address: IpAddr, connections_max: usize) -> bool {
        let limit = (connections_max / CLIENT_PART).max(CLIENT_CONNECTIONS_MIN);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = all.entry(client(address)).or_insert(0);
        let is_free = *open < limit;
        *open += usize::from(is_free);
        is_free
    }

    pub fn close(&self, address: IpAddr) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let client = client(address);
        if let Some(open) = all.get_mut(&client) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                all.remove(&client);
            }
        }
    }
}

/// Clients remembered at once: those idle for longest are forgotten first, which only helps them.
const CLIENTS_MAX: usize = 16_384;

/// A token bucket for each client.
#[derive(Debug)]
pub struct RateLimiter {
    limit: RateLimit,
    clients: Mutex<HashMap<u128, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl RateLimiter {
    pub fn new(limit: RateLimit) -> Self {
        Self { limit, clients: Mutex::default() }
    }

    fn per_second(&self) -> f64 {
        f64::from(self.limit.requests) / f64::from(self.limit.per_seconds.max(1))
    }

    /// Whether this request may pass; else the seconds until the next one may.
    pub fn admit(&self, address: IpAddr, now: Instant) -> Result<(), u64> {
        let client = client(address);
        let (rate, burst) = (self.per_second(), f64::from(self.limit.burst.max(1)));
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS_MAX {
            forget(&mut clients, rate, burst, now);
        }
        let bucket = clients.entry(client).or_insert(Bucket { tokens: burst, at: now });
        bucket.tokens = (bucket.tokens + now.duration_since(bucket.at).as_secs_f64() * rate).min(burst);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            let wait = ((1.0 - bucket.tokens) / rate).ceil();
            return Err(wait.clamp(1.0, 3600.0) as u64);
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

/// Those whose bucket is full again; if that is not enough, all.
fn forget(clients: &mut HashMap<u128, Bucket>, rate: f64, burst: f64, now: Instant) {
    clients.retain(|_, b| b.tokens + now.duration_since(b.at).as_secs_f64() * rate < burst);
    if clients.len() >= CLIENTS_MAX {
        clients.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn networks_of_both_families() {
        let list = ["10.0.0.0/8", "192.168.1.7", "fd00::/8", "0.0.0.0/33", "what"].map(str::to_owned);
        let networks = Networks::parse(&list);
        let contains = |text: &str| networks.contains(text.parse().unwrap());
        assert!(contains("10.1.2.3") && contains("192.168.1.7") && contains("fd12::1") && contains("::ffff:10.0.0.1"));
        assert!(!contains("11.0.0.1") && !contains("192.168.1.8") && !contains("fe80::1"));
        assert!(is_network("0.0.0.0/0") && !is_network("10.0.0.0/33") && !is_network("10.0.0/8") && !is_network("a/8"));
        assert!(Networks::parse(&["0.0.0.0/0".to_owned()]).contains("1.2.3.4".parse().unwrap()));
        assert!(!Networks::parse(&["0.0.0.0/0".to_owned()]).contains("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn a_bucket_empties_and_fills() {
        let limiter = RateLimiter::new(RateLimit { requests: 2, per_seconds: 1, burst: 3 });
        let (start, client) = (Instant::now(), "10.0.0.1".parse().unwrap());
        let passed = (0..5).filter(|_| limiter.admit(client, start).is_ok()).count();
        assert_eq!(passed, 3);
        assert_eq!(limiter.admit(client, start), Err(1));
        assert!(limiter.admit("10.0.0.2".parse().unwrap(), start).is_ok(), "another client");
        assert!(limiter.admit(client, start + Duration::from_millis(600)).is_ok());
    }

    #[test]
    fn connections_of_a_client_are_bounded() {
        let connections = Connections::default();
        let open = |address: &str| connections.open(address.parse().unwrap(), 800);
        assert_eq!((0..200).filter(|n| open(&format!("2001:db8::{n:x}:1"))).count(), 100, "one home");
        assert!(open("2001:db8:0:1::1") && open("192.0.2.1") && open("192.0.2.2"));
        connections.close("2001:db8::1".parse().unwrap());
        assert!(open("2001:db8::2") && !open("2001:db8::3"));
        for address in ["2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"] {
            connections.close(address.parse().unwrap());
        }
        assert_eq!(connections.0.lock().unwrap().len(), 1, "who has none is forgotten");
    }

    #[test]
    fn clients_remembered_are_bounded() {
        let limiter = RateLimiter::new(RateLimit { requests: 1, per_seconds: 60, burst: 1 });
        let now = Instant::now();
        for n in 0..2 * CLIENTS_MAX as u32 {
            let _ = limiter.admit(std::net::Ipv4Addr::from_bits(n).into(), now);
        }
        assert!(limiter.clients.lock().unwrap().len() <= CLIENTS_MAX);
    }
}
