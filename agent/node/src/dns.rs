//! What a pod's resolv.conf and hosts files say. Pure; the sandbox's settings carry the former, a mount the latter.
//! https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/

use std::fmt::Write as _;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::PodSpec;
use skiff_cri::pb::DnsConfig;

/// The C library reads no more name servers, and Kubernetes allows no more search domains or characters in them.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

/// What a resolver file says.
pub fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_owned)),
            Some("search") => config.searches = words.map(str::to_owned).collect(),
            Some("options") => config.options = words.map(str::to_owned).collect(),
            Some(_) | None => {}
        }
    }
    config
}

/// Where names are looked up for a pod.
pub fn config(spec: &PodSpec, namespace: &str, servers: &[IpAddr], domain: &str, host: DnsConfig) -> DnsConfig {
    let host_network = spec.host_network == Some(true);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = policy == "ClusterFirstWithHostNet" || policy == "ClusterFirst" && !host_network;
    let mut config = match policy {
        "None" => DnsConfig::default(),
        _ if cluster && !servers.is_empty() => cluster_first(namespace, servers, domain, host),
        _ => host,
    };
    if let Some(extra) = &spec.dns_config {
        append(&mut config.servers, extra.nameservers.iter().flatten());
        append(&mut config.searches, extra.searches.iter().flatten());
        for option in extra.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            let text = option.value.as_ref().map_or_else(|| name.to_owned(), |value| format!("{name}:{value}"));
            config.options.retain(|old| old.split(':').next() != Some(name));
            config.options.push(text);
        }
    }
    bounded(config)
}

fn cluster_first(namespace: &str, servers: &[IpAddr], domain: &str, host: DnsConfig) -> DnsConfig {
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    append(&mut searches, host.searches.iter());
    DnsConfig {
        servers: servers.iter().map(IpAddr::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn append<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

fn bounded(mut config: DnsConfig) -> DnsConfig {
    config.servers.truncate(NAMESERVERS_MAX);
    config.searches.truncate(SEARCHES_MAX);
    while config.searches.iter().map(|search| search.len() + 1).sum::<usize>() > SEARCH_CHARS_MAX {
        config.searches.pop();
    }
    config
}

/// The pod's hosts file.
pub fn hosts(spec: &PodSpec, ips: &[IpAddr], hostname: &str, domain: &str, namespace: &str) -> String {
    let mut text =
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                    fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
            .to_owned();
    let subdomain = spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty());
    for ip in ips {
        let _ = match subdomain {
            Some(subdomain) => writeln!(text, "{ip}\t{hostname}.{subdomain}.{namespace}.svc.{domain}\t{hostname}"),
            None => writeln!(text, "{ip}\t{hostname}"),
        };
    }
    append_aliases(&mut text, spec);
    text
}

/// The hosts file of a pod in the host's network: the host's own, and what the pod adds.
pub fn host_network_hosts(spec: &PodSpec, host: &str) -> String {
    let mut text = format!("# Kubernetes-managed hosts file (host network).\n{host}");
    append_aliases(&mut text, spec);
    text
}

fn append_aliases(text: &mut String, spec: &PodSpec) {
    for alias in spec.host_aliases.iter().flatten() {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        if !names.is_empty() {
            let _ = writeln!(text, "{}\t{}", alias.ip, names.join("\t"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    fn check(spec: serde_json::Value, expected: expect_test::Expect) {
        expected.assert_eq(&rendered(spec));
    }

    fn rendered(spec: serde_json::Value) -> String {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let host = parse("nameserver 1.1.1.1\nsearch lan home\noptions edns0\n");
        let c = config(&spec, "shop", &["10.43.0.10".parse().unwrap()], "cluster.local", host);
        format!("{} | {} | {}", c.servers.join(" "), c.searches.join(" "), c.options.join(" "))
    }

    #[test]
    fn policies() {
        for spec in [json!({}), json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})] {
            let expected = "10.43.0.10 | shop.svc.cluster.local svc.cluster.local cluster.local lan home | ndots:5";
            let mut spec = spec;
            spec["containers"] = json!([]);
            assert_eq!(rendered(spec), expected);
        }
        check(json!({"containers": [], "hostNetwork": true}), expect!["1.1.1.1 | lan home | edns0"]);
        check(json!({"containers": [], "dnsPolicy": "Default"}), expect!["1.1.1.1 | lan home | edns0"]);
        let own = json!({"nameservers": ["9.9.9.9"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}]});
        check(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": own}), expect!["9.9.9.9 | x | ndots:2"]);
        check(
            json!({"containers": [], "dnsConfig": own}),
            expect!["10.43.0.10 9.9.9.9 | shop.svc.cluster.local svc.cluster.local cluster.local lan home x | ndots:2"],
        );
    }

    #[test]
    fn hosts_name_the_pod_and_its_aliases() {
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [], "subdomain": "db", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}],
        }))
        .unwrap();
        let text = hosts(&spec, &["10.0.0.7".parse().unwrap()], "db-0", "cluster.local", "shop");
        assert!(text.contains("10.0.0.7\tdb-0.db.shop.svc.cluster.local\tdb-0\n"));
        assert!(text.ends_with("1.2.3.4\ta\tb\n"));
    }
}
