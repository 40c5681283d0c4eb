//! The box's own names: which there are, and that they lead to the console. Pure.
//!
//! No Ingress gets one of them: whoever may write Ingresses would have the session of the box's owner, and a page that
//! looks like the one that asks for the code.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderValue};

use crate::annotations;
use crate::table::{Backend, Host, Path, PathKind, Protocol, Table};

/// Forms of the console are tiny.
const BODY_BYTES_MAX: u64 = 64 << 10;

/// The cookie of a session on the box's own pages.
const SESSION_COOKIE: &str = "__Host-skiff";

/// Takes that cookie from a request for somebody else. Browsers send it to the host it is of, whatever the port, and
/// names may come to mean something else.
pub fn remove_session(headers: &mut HeaderMap) {
    let is_it = |cookie: &str| {
        let name = cookie.split('=').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case(SESSION_COOKIE)
    };
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let has_it = |value: &HeaderValue| text(value).split(';').any(is_it);
    if !headers.get_all(header::COOKIE).iter().any(has_it) {
        return;
    }
    let cookies: Vec<String> = headers.get_all(header::COOKIE).iter().map(text).collect();
    headers.remove(header::COOKIE);
    for value in cookies {
        let kept: Vec<&str> = value.split(';').map(str::trim).filter(|cookie| !is_it(cookie)).collect();
        if let Ok(value) = HeaderValue::from_str(&kept.join("; "))
            && !kept.is_empty()
        {
            headers.append(header::COOKIE, value);
        }
    }
}

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

/// Leads the box's names to the console; says which backend that is.
pub fn route_to_console(table: &mut Table, names: &[String], console: SocketAddr) -> usize {
    let backend = table.backends.len();
    let path = Path {
        kind: PathKind::Prefix,
        path: "/".to_owned(),
        backend: Some(backend),
        options: table.options.len(),
        ingress: "the box's own pages".to_owned(),
    };
    table.backends.push(Backend { name: "console".to_owned(), protocol: Protocol::Http1, endpoints: vec![console] });
    table.options.push(annotations::defaults(BODY_BYTES_MAX));
    let host = |name: &String| Host { name: name.clone(), tls: false, trusted: false, paths: vec![path.clone()] };
    table.hosts.retain(|host| !names.contains(&host.name));
    table.hosts.extend(names.iter().map(host));
    backend
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: ([u8; 4], u16) = ([127, 0, 0, 1], 4711);

    fn table(claimed: &[&str]) -> Table {
        let host = |name: &&str| Host { name: (*name).to_owned(), tls: false, trusted: false, paths: Vec::new() };
        Table { hosts: claimed.iter().map(host).collect(), ..Table::default() }
    }

    #[test]
    fn the_session_is_for_nobody_else() {
        let left = |cookies: &[&str]| {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
            }
            remove_session(&mut headers);
            headers.get_all(header::COOKIE).iter().map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(left(&["a=1; __Host-skiff=x; b=2"]), ["a=1; b=2"]);
        assert_eq!(left(&["__host-SKIFF = x", "a=1;b=__Host-skiff=1"]), ["a=1; b=__Host-skiff=1"]);
        assert_eq!(left(&["__Host-skiff=x;__Host-skiff=y"]), [""; 0]);
        assert_eq!(left(&["a=1;b=2"]), ["a=1;b=2"]);
    }

    #[test]
    fn the_box_keeps_its_names() {
        let all = ["127.0.0.1", "192.168.1.10", "box", "box.local", "localhost", "skiff-2.local", "skiff.local"];
        let names = names("Box", "192.168.1.10".parse().unwrap(), "skiff.local", Some("skiff-2.local"));
        assert_eq!(names, all);
        for claimed in [&[][..], &["app.skiff.local", "*.local"], &["skiff.local"], &[""], &all] {
            let mut table = table(claimed);
            let console = route_to_console(&mut table, &names, CONSOLE.into());
            assert_eq!(table.backends[console].endpoints, [CONSOLE.into()]);
            for name in all {
                let hosts: Vec<&Host> = table.hosts.iter().filter(|host| host.name == name).collect();
                assert_eq!(hosts.len(), 1, "{name}");
                assert_eq!(hosts[0].paths[0].backend, Some(console));
                assert_eq!(table.options[hosts[0].paths[0].options].body_bytes_max, BODY_BYTES_MAX);
            }
        }
    }
}
