//! Who may see more: the one-time code, how often it may be guessed, and the sessions it opens. In memory only; time
//! comes from the caller.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::random;

/// Wrong codes that are nothing but typing mistakes.
const FREE_TRIES: u32 = 5;
/// After them, and twice as long after each further one.
const WAIT_FIRST: Duration = Duration::from_secs(10);
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// From all who have guessed wrong before, together. Who has not is always heard, so that nobody can keep the owner out;
/// a guess from each address of a home's network is nothing against 2^40 codes.
const TRIES_A_MINUTE: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);
/// After so many wrong ones the code becomes another: nobody gets nearer to it by going on.
const WRONG_MAX: u32 = 50;
/// Guessers remembered one by one; the one that was silent longest is forgotten.
const CLIENTS_MAX: usize = 1024;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);
pub const SESSION_TIME: Duration = Duration::from_secs(3600);
/// A household's devices; one more ends the oldest.
const SESSIONS_MAX: usize = 16;

pub struct Access {
    code: String,
    wrong: u32,
    clients: HashMap<IpAddr, Tries>,
    everybody: Window,
    sessions: Vec<Session>,
}

struct Tries {
    wrong: u32,
    last: Instant,
    wait_until: Instant,
}

/// Tries since the beginning of a minute.
struct Window {
    since: Instant,
    tries: u32,
}

struct Session {
    id: String,
    /// As the box was called when it began: it counts for no other name.
    host: String,
    until: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The identifier of the new session; the code is another now.
    Right(String),
    Wrong {
        /// The code has become another.
        is_replaced: bool,
    },
    Wait(Duration),
}

impl Access {
    pub fn new(now: Instant) -> Self {
        Self {
            code: random::code(),
            wrong: 0,
            clients: HashMap::new(),
            everybody: Window { since: now, tries: 0 },
            sessions: Vec::new(),
        }
    }

    pub fn code(&self) -> &str {
        &self.code
    }

    pub fn sign_in(&mut self, client: IpAddr, host: &str, typed: &str, now: Instant) -> Answer {
        let client = network(client);
        if let Some(wait) = self.wait(client, now) {
            return Answer::Wait(wait);
        }
        self.everybody.tries += 1;
        if random::is_equal(&random::normalize(typed), &self.code) {
            self.replace_code();
            self.clients.remove(&client);
            return Answer::Right(self.open(host, now));
        }
        self.note_wrong(client, now);
        self.wrong += 1;
        let is_replaced = self.wrong >= WRONG_MAX;
        if is_replaced {
            self.replace_code();
        }
        Answer::Wrong { is_replaced }
    }

    fn wait(&mut self, client: IpAddr, now: Instant) -> Option<Duration> {
        let own = self.clients.get(&client)?.wait_until.saturating_duration_since(now);
        if now.duration_since(self.everybody.since) >= MINUTE {
            self.everybody = Window { since: now, tries: 0 };
        }
        let all = if self.everybody.tries < TRIES_A_MINUTE {
            Duration::ZERO
        } else {
            (self.everybody.since + MINUTE).saturating_duration_since(now)
        };
        Some(own.max(all)).filter(|wait| !wait.is_zero())
    }

    fn note_wrong(&mut self, client: IpAddr, now: Instant) {
        self.clients.retain(|_, tries| now.duration_since(tries.last) < FORGOTTEN_AFTER);
        if self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&client) {
            let oldest = self.clients.iter().min_by_key(|(_, tries)| tries.last).map(|(address, _)| *address);
            oldest.map(|address| self.clients.remove(&address));
        }
        let tries = self.clients.entry(client).or_insert(Tries { wrong: 0, last: now, wait_until: now });
        tries.wrong += 1;
        tries.last = now;
        if tries.wrong >= FREE_TRIES {
            // Beyond 2^16 it is the longest wait anyway.
            let doubled = WAIT_FIRST * 2u32.pow((tries.wrong - FREE_TRIES).min(16));
            tries.wait_until = now + doubled.min(WAIT_MAX);
        }
    }

    fn replace_code(&mut self) {
        self.code = random::code();
        self.wrong = 0;
    }

    fn open(&mut self, host: &str, now: Instant) -> String {
        self.sessions.retain(|session| session.until > now);
        if self.sessions.len() >= SESSIONS_MAX {
            self.sessions.remove(0);
        }
        let id = random::session();
        self.sessions.push(Session { id: id.clone(), host: host.to_owned(), until: now + SESSION_TIME });
        id
    }

    pub fn is_signed_in(&self, id: &str, host: &str, now: Instant) -> bool {
        // Every session is compared, so that the time says nothing about any.
        self.sessions.iter().filter(|s| random::is_equal(&s.id, id) & (s.host == host) & (s.until > now)).count() > 0
    }

    pub fn sign_out(&mut self, id: &str) {
        self.sessions.retain(|session| !random::is_equal(&session.id, id));
    }
}

/// Who counts as one client: an address, or a home's network of IPv6, which has more addresses than can be counted.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !(u128::from(u64::MAX)))),
    }
}
