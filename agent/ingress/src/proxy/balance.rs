//! Endpoints of a backend: how busy each is, which failed lately, and which takes the next request.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A failed endpoint gets no requests for this long, doubled with each further failure.
const SET_ASIDE_MIN: Duration = Duration::from_millis(500);
const SET_ASIDE_MAX: Duration = Duration::from_secs(30);

/// One address of a backend. It outlives changes of the table, so that what is known of it is kept.
#[derive(Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// Names it in a session cookie without telling its address.
    pub cookie: String,
    pub active: AtomicUsize,
    pub requests: AtomicU64,
    pub failures: AtomicU64,
    failures_in_a_row: AtomicU32,
    /// Milliseconds of `elapsed` until which it is set aside; zero: it is not.
    set_aside_until: AtomicU64,
    last_error: Mutex<Option<String>>,
}

/// Milliseconds on a clock that only goes forward.
fn elapsed() -> u64 {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Endpoint {
    pub fn new(address: SocketAddr, cookie_key: &str) -> Self {
        // So that zero stays free to say "not set aside".
        elapsed();
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, cookie_key.as_bytes());
        let tag = aws_lc_rs::hmac::sign(&key, address.to_string().as_bytes());
        let cookie = tag.as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            address,
            cookie,
            active: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            failures_in_a_row: AtomicU32::new(0),
            set_aside_until: AtomicU64::new(0),
            last_error: Mutex::default(),
        }
    }

    pub fn succeeded(&self) {
        if self.failures_in_a_row.load(Ordering::Relaxed) != 0 {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
            self.set_aside_until.store(0, Ordering::Relaxed);
        }
    }

    pub fn failed(&self, error: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let before = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed);
        let delay = SET_ASIDE_MIN.saturating_mul(1 << before.min(10)).min(SET_ASIDE_MAX);
        let until = elapsed() + u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.set_aside_until.store(until, Ordering::Relaxed);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_owned());
    }

    pub fn set_aside_ms(&self) -> u64 {
        match self.set_aside_until.load(Ordering::Relaxed) {
            0 => 0,
            until => until.saturating_sub(elapsed()),
        }
    }

    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Counts a request as long as it lives.
#[derive(Debug)]
pub struct Active(Arc<Endpoint>);

impl Active {
    pub fn on(endpoint: Arc<Endpoint>) -> Self {
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        endpoint.requests.fetch_add(1, Ordering::Relaxed);
        Self(endpoint)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The less busy of two random endpoints that are well and were not tried; where there is none, one that was set aside;
/// at last one that was tried.
pub fn pick<'a>(endpoints: &'a [Arc<Endpoint>], tried: &[SocketAddr]) -> Option<&'a Arc<Endpoint>> {
    if let ([only], []) = (endpoints, tried) {
        return Some(only);
    }
    let fresh = |e: &&Arc<Endpoint>| !tried.contains(&e.address);
    two_choices(endpoints, |e| fresh(&e) && e.set_aside_ms() == 0)
        .or_else(|| two_choices(endpoints, |e| fresh(&e)))
        .or_else(|| two_choices(endpoints, |_| true))
}

fn two_choices(endpoints: &[Arc<Endpoint>], usable: impl Fn(&Arc<Endpoint>) -> bool) -> Option<&Arc<Endpoint>> {
    let count = endpoints.iter().filter(|e| usable(e)).count();
    let nth = |n: usize| endpoints.iter().filter(|e| usable(e)).nth(n);
    match count {
        0 => None,
        1 => nth(0),
        _ => {
            let first = fastrand::usize(..count);
            let second = (first + 1 + fastrand::usize(..count - 1)) % count;
            let (a, b) = (nth(first)?, nth(second)?);
            let load = |e: &Arc<Endpoint>| e.active.load(Ordering::Relaxed);
            Some(if load(b) < load(a) { b } else { a })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: u8) -> Vec<Arc<Endpoint>> {
        (0..count).map(|n| Arc::new(Endpoint::new(SocketAddr::from(([10, 0, 0, n], 80)), "key"))).collect()
    }

    #[test]
    fn the_less_busy_gets_more() {
        let all = endpoints(2);
        let _held: Vec<_> = (0..5).map(|_| Active::on(Arc::clone(&all[0]))).collect();
        assert!((0..100).all(|_| pick(&all, &[]).unwrap().address == all[1].address));
    }

    #[test]
    fn what_failed_is_set_aside_and_comes_back() {
        let all = endpoints(3);
        all[1].failed("connection refused");
        assert!((0..100).all(|_| pick(&all, &[]).unwrap().address != all[1].address));
        let tried = [all[0].address, all[2].address];
        assert_eq!(pick(&all, &tried).unwrap().address, all[1].address, "better than one that was tried");
        all[1].succeeded();
        assert!((0..200).any(|_| pick(&all, &[]).unwrap().address == all[1].address));
        assert_eq!(pick(&all[..1], &[all[0].address]).unwrap().address, all[0].address, "the last resort");
        assert!(pick(&[], &[]).is_none());
    }

    #[test]
    fn a_cookie_does_not_tell_the_address() {
        let all = endpoints(2);
        assert_ne!(all[0].cookie, all[1].cookie);
        assert!(!all[0].cookie.contains("10"), "or only by chance: {}", all[0].cookie);
    }
}
