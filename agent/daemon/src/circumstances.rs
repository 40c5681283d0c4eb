//! What the agent was started under and cannot change while it runs: the node's address and the clock. When one of them
//! becomes another, the agent begins anew, which takes a second and leaves the pods alone.
//!
//! A lease of DHCP may come late or change. A box without a battery for its clock starts at the time its image was
//! built or the last time it knew, until the network tells the time: what was minted before may be expired then.

use std::net::IpAddr;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How soon a change is noticed. It is looked for, as both are cheap to look at.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// While the node waits for its address.
const CHECK_INTERVAL_FIRST: Duration = Duration::from_millis(200);
/// A DHCP server that is there answers within seconds; a box without a network is to serve its own screen.
const ADDRESS_WAIT_MAX: Duration = Duration::from_secs(30);
/// Certificates are backdated by more, and clocks are set by less all the time.
const CLOCK_STEP_SECONDS: i64 = 3600;

/// The node's address, and where it is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// The settings say so: it stays.
    Chosen(IpAddr),
    /// The machine has it.
    Found(IpAddr),
    /// The machine has none yet: the pod network's bridge stands in.
    Provisional(IpAddr),
}

impl Address {
    pub fn ip(self) -> IpAddr {
        match self {
            Address::Chosen(ip) | Address::Found(ip) | Address::Provisional(ip) => ip,
        }
    }

    /// Another address to begin anew with. A machine that lost its network keeps the address it had. Pure.
    fn next(self, default: &[IpAddr], any: Option<IpAddr>) -> Option<IpAddr> {
        match self {
            Address::Chosen(_) => None,
            Address::Found(ip) if default.contains(&ip) => None,
            Address::Found(_) => default.first().copied(),
            Address::Provisional(_) => default.first().copied().or(any),
        }
    }
}

/// Why the agent begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    Address(IpAddr),
    Clock { by_seconds: i64 },
}

pub struct Circumstances {
    address: Address,
    /// Not the machine's address to others.
    bridge: String,
    clock: i64,
}

impl Circumstances {
    pub fn new(address: Address, bridge: &str) -> Self {
        Self { address, bridge: bridge.to_owned(), clock: clock() }
    }

    /// Waits for an address where there is none, but not for ever.
    pub async fn wait_for_address(&self) -> Option<Changed> {
        match self.address {
            Address::Chosen(_) | Address::Found(_) => None,
            Address::Provisional(_) => {
                let found = self.watch(CHECK_INTERVAL_FIRST);
                tokio::time::timeout(ADDRESS_WAIT_MAX, found).await.ok()
            }
        }
    }

    pub async fn changed(&self) -> Changed {
        self.watch(CHECK_INTERVAL).await
    }

    async fn watch(&self, interval: Duration) -> Changed {
        loop {
            tokio::time::sleep(interval).await;
            if let Some(changed) = self.look() {
                return changed;
            }
        }
    }

    fn look(&self) -> Option<Changed> {
        let by_seconds = clock() - self.clock;
        if by_seconds.abs() >= CLOCK_STEP_SECONDS {
            return Some(Changed::Clock { by_seconds });
        }
        let default = skiff_host::links::default_addresses();
        let any = skiff_host::links::primary_address(&self.bridge);
        self.address.next(&default, any).map(Changed::Address)
    }
}

/// When the machine was started, by its clock: changes only when the clock is set.
fn clock() -> i64 {
    let seconds = |clock| clock_gettime(clock).map_or(0, |time| time.tv_sec());
    seconds(ClockId::CLOCK_REALTIME) - seconds(ClockId::CLOCK_BOOTTIME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 168, 1, last])
    }

    #[test]
    fn another_address_is_followed() {
        let cases = [
            // The settings are not asked twice.
            (Address::Chosen(ip(1)), vec![ip(2)], Some(ip(2)), None),
            (Address::Found(ip(1)), vec![ip(1)], Some(ip(1)), None),
            (Address::Found(ip(1)), vec![ip(2)], Some(ip(2)), Some(ip(2))),
            // One of several on the same interface.
            (Address::Found(ip(2)), vec![ip(1), ip(2)], Some(ip(1)), None),
            // The cable was pulled; another interface without a way out is no reason to move.
            (Address::Found(ip(1)), vec![], None, None),
            (Address::Found(ip(1)), vec![], Some(ip(9)), None),
            (Address::Provisional(ip(1)), vec![], None, None),
            (Address::Provisional(ip(1)), vec![], Some(ip(9)), Some(ip(9))),
            (Address::Provisional(ip(1)), vec![ip(2)], Some(ip(9)), Some(ip(2))),
        ];
        for (address, default, any, expected) in cases {
            assert_eq!(address.next(&default, any), expected, "{address:?} {default:?} {any:?}");
        }
    }

    #[test]
    fn a_clock_that_only_goes_is_no_change() {
        let now = Circumstances::new(Address::Chosen(ip(1)), "none");
        assert_eq!(now.look(), None);
        let set = Circumstances { clock: now.clock - 86_400, ..now };
        assert!(matches!(set.look(), Some(Changed::Clock { by_seconds: 86_390..=86_410 })));
    }
}
