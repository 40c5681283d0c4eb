//! The box's own names: which there are, and which of them lead to the console. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::annotations;
use crate::table::{Backend, Host, Path, PathKind, Protocol, Table};

/// Forms of the console are tiny.
const BODY_BYTES_MAX: u64 = 64 << 10;

/// What people call the box. `announced` is the name avahi gave it, which differs when another box had the name first.
pub fn names(node_name: &str, node_address: IpAddr, local_domain: &str, announced: Option<&str>) -> Vec<String> {
    let node = node_name.to_lowercase();
    let names = [
        local_domain.to_owned(),
        node.clone(),
        format!("{node}.local"),
        "localhost".to_owned(),
        node_address.to_string(),
        "127.0.0.1".to_owned(),
    ];
    let unique: BTreeSet<String> = names.into_iter().chain(announced.map(str::to_lowercase)).collect();
    unique.into_iter().collect()
}

/// Leads the box's names to the console, but for those that an Ingress claims: by name, or, where the box is called by
/// its address, by claiming every name.
pub fn route_to_console(table: &mut Table, names: &[String], console: SocketAddr) {
    let claimed: BTreeSet<String> = table.hosts.iter().map(|host| host.name.clone()).collect();
    let is_bare = |name: &String| name == "localhost" || name.parse::<IpAddr>().is_ok();
    let is_claimed = |name: &String| claimed.contains(name) || is_bare(name) && claimed.contains("");
    let free: Vec<&String> = names.iter().filter(|name| !is_claimed(name)).collect();
    if free.is_empty() {
        return;
    }
    let path = Path {
        kind: PathKind::Prefix,
        path: "/".to_owned(),
        backend: Some(table.backends.len()),
        options: table.options.len(),
        ingress: "the box's own pages".to_owned(),
    };
    table.backends.push(Backend { name: "console".to_owned(), protocol: Protocol::Http1, endpoints: vec![console] });
    table.options.push(annotations::defaults(BODY_BYTES_MAX));
    let host = |name: &String| Host { name: name.clone(), tls: false, trusted: false, paths: vec![path.clone()] };
    table.hosts.extend(free.into_iter().map(host));
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: ([u8; 4], u16) = ([127, 0, 0, 1], 4711);

    fn table(claimed: &[&str]) -> Table {
        let host = |name: &&str| Host { name: (*name).to_owned(), tls: false, trusted: false, paths: Vec::new() };
        Table { hosts: claimed.iter().map(host).collect(), ..Table::default() }
    }

    /// The names that lead to the console beside these of Ingresses.
    fn routed(claimed: &[&str]) -> Vec<String> {
        let mut table = table(claimed);
        let names = names("Box", "192.168.1.10".parse().unwrap(), "skiff.local", Some("skiff-2.local"));
        route_to_console(&mut table, &names, CONSOLE.into());
        let ours = |host: &&Host| host.paths.iter().any(|path| path.backend.is_some());
        for path in table.hosts.iter().filter(ours).flat_map(|host| &host.paths) {
            assert_eq!(table.backends[path.backend.unwrap()].endpoints, [CONSOLE.into()]);
            assert_eq!(table.options[path.options].body_bytes_max, BODY_BYTES_MAX);
        }
        table.hosts.iter().filter(ours).map(|host| host.name.clone()).collect()
    }

    #[test]
    fn an_ingress_wins_what_it_claims() {
        let all = ["127.0.0.1", "192.168.1.10", "box", "box.local", "localhost", "skiff-2.local", "skiff.local"];
        assert_eq!(routed(&[]), all);
        assert_eq!(routed(&["app.skiff.local", "*.local"]), all);
        let without = ["127.0.0.1", "192.168.1.10", "box", "box.local", "localhost", "skiff-2.local"];
        assert_eq!(routed(&["skiff.local"]), without);
        assert_eq!(routed(&[""]), ["box", "box.local", "skiff-2.local", "skiff.local"]);
        let mut table = table(&all);
        let before = table.clone();
        route_to_console(&mut table, &all.map(str::to_owned), CONSOLE.into());
        assert_eq!(table, before);
    }
}
