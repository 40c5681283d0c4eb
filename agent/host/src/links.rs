//! Interfaces, addresses and routes, through iproute2.

use std::net::{IpAddr, Ipv4Addr};

use crate::command::{self, CommandError};

/// Makes a bridge with its address, or brings the one that is there up to date.
pub async fn ensure_bridge(name: &str, address: Ipv4Addr, prefix_len: u8, mtu: u16) -> Result<(), CommandError> {
    if !exists(name) {
        ip(&["link", "add", "name", name, "type", "bridge"]).await?;
    }
    // Set, it stays. Else it follows the lowest one of the pods, and when that pod goes the others answer to nobody.
    if let Some(own) = hardware_address(name) {
        ip(&["link", "set", name, "address", &own]).await?;
    }
    ip(&["link", "set", name, "mtu", &mtu.to_string(), "up"]).await?;
    ip(&["address", "replace", &format!("{address}/{prefix_len}"), "dev", name]).await
}

pub async fn ensure_address(name: &str, address: Ipv4Addr) -> Result<(), CommandError> {
    ip(&["address", "replace", &format!("{address}/32"), "dev", name]).await
}

/// Sends a network to an interface, so that it is reachable from this machine without a default route.
pub async fn ensure_route(network: &str, name: &str, source: Ipv4Addr) -> Result<(), CommandError> {
    ip(&["route", "replace", network, "dev", name, "src", &source.to_string()]).await
}

pub async fn remove(name: &str) -> Result<(), CommandError> {
    if exists(name) { ip(&["link", "delete", name]).await } else { Ok(()) }
}

async fn ip(arguments: &[&str]) -> Result<(), CommandError> {
    command::run("ip", arguments, "").await.map(drop)
}

pub fn exists(name: &str) -> bool {
    addresses_of_interfaces().iter().any(|(interface, _)| interface == name)
}

/// The IPv4 address that other machines reach this one at: that of the interface with the default route, else the
/// first that is neither loopback nor on `bridge`, which only pods are connected to.
pub fn primary_address(bridge: &str) -> Option<IpAddr> {
    let elsewhere = || addresses_of_interfaces().into_iter().filter(|(name, _)| name != bridge);
    default_addresses().first().copied().or_else(|| elsewhere().find_map(|(_, address)| usable(address)))
}

/// The IPv4 addresses of the interface with the default route.
pub fn default_addresses() -> Vec<IpAddr> {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let Some(default) = default_interface(&routes) else { return Vec::new() };
    addresses_of_interfaces().into_iter().filter(|(name, _)| *name == default).filter_map(|(_, a)| usable(a)).collect()
}

/// The IPv4 addresses of all interfaces.
pub fn own_addresses() -> Vec<std::net::Ipv4Addr> {
    let all = addresses_of_interfaces().into_iter().filter_map(|(_, address)| address);
    let v4 = |address| match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    };
    all.filter_map(v4).collect()
}

fn usable(address: Option<IpAddr>) -> Option<IpAddr> {
    address.filter(|a| a.is_ipv4() && !a.is_loopback())
}

/// From the kernel's routing table as `/proc/net/route` shows it.
pub(crate) fn default_interface(routes: &str) -> Option<String> {
    let fields = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let default = routes.lines().skip(1).map(fields).find(|f| f.len() > 7 && f[1] == "00000000" && f[7] == "00000000");
    default.map(|mut fields| fields.swap_remove(0))
}

pub(crate) fn hardware_address(name: &str) -> Option<String> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten().filter(|entry| entry.interface_name == name);
    let bytes = all.filter_map(|entry| entry.address?.as_link_addr()?.addr()).next()?;
    Some(bytes.map(|byte| format!("{byte:02x}")).join(":"))
}

fn addresses_of_interfaces() -> Vec<(String, Option<IpAddr>)> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.map(|entry| {
        let address = entry.address.and_then(|a| a.as_sockaddr_in().map(|a| IpAddr::V4(a.ip())));
        (entry.interface_name, address)
    })
    .collect()
}
