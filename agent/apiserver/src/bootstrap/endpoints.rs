//! The endpoints of the `kubernetes` Service: the address of every API server that is alive. Each has a Lease that it renews,
//! adds its own address, and takes away only those whose Lease has run out, as upstream's lease reconciler does. Leases are
//! volatile: on one box nothing of this reaches the disk unless the address is another.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_object::kinds;
use skiff_object::meta;
use skiff_store::{ListOptions, Store};

use crate::prepare::DeleteOptions;
use crate::status::ApiError;
use crate::strategy::Part;
use crate::write::{Author, Operation, Write};
use crate::{Api, codec};

const NAMESPACE: &str = "kube-system";
/// Upstream's, on the leases of API servers.
const LABEL: (&str, &str) = ("apiserver.kubernetes.io/identity", "kube-apiserver");
/// As often as a node renews its own, which is long enough to lose one renewal or two on a busy board.
const RENEWAL: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i64 = 40;

/// What a lease says of an API server, or what is to be done with it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Servers {
    alive: BTreeSet<IpAddr>,
    /// The names of leases that have run out.
    over: Vec<String>,
}

impl<S: Store + Clone> Api<S> {
    /// Until the shutdown. What fails is tried again at the next renewal.
    pub(crate) async fn keep_endpoints(self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEWAL) => {}
                () = self.shutdown().cancelled() => return,
            }
            let address = self.config().address;
            if let Err(error) = self.publish_address(address.ip(), address.port()).await {
                tracing::warn!(%error, "the endpoints of the API's Service were not kept up to date, will retry");
            }
        }
    }
}

impl<S: Store> Api<S> {
    /// Says that this server is alive, and makes the endpoints those that are.
    pub(super) async fn publish_address(&self, address: IpAddr, port: u16) -> Result<(), ApiError> {
        let now = Timestamp::now();
        self.renew_lease(address, now).await?;
        let leases = kinds::by_kind("coordination.k8s.io/v1", "Lease").expect("a built-in kind");
        let page = self.store().list(&leases.key_prefix(Some(NAMESPACE)), ListOptions::default()).await;
        let page = page.map_err(|error| ApiError::from_store(error, leases, ""))?;
        let found: Vec<Value> = page.entries.iter().map(codec::decode).collect();
        let Servers { mut alive, over } = servers(&found, now);
        alive.insert(address);
        // One slice has addresses of one family, and all servers of a cluster have the same port, as upstream's.
        let alive: Vec<String> =
            alive.iter().filter(|a| a.is_ipv4() == address.is_ipv4()).map(ToString::to_string).collect();
        for name in over {
            let options = DeleteOptions::default();
            let operation = Operation::Delete { name: &name, options: &options };
            match self
                .write(Write { author: &Author::own(), kind: leases, namespace: Some(NAMESPACE), operation })
                .await
            {
                Ok(_) => tracing::info!(lease = name, "an API server is no longer alive"),
                // Another server was faster.
                Err(error) if error.reason == "NotFound" => {}
                Err(error) => return Err(error),
            }
        }
        self.write_endpoints(&alive, address, port).await
    }

    async fn write_endpoints(&self, alive: &[String], own: IpAddr, port: u16) -> Result<(), ApiError> {
        let ports = json!([{"name": "https", "port": port, "protocol": "TCP"}]);
        let addresses: Vec<Value> = alive.iter().map(|ip| json!({"ip": ip})).collect();
        let endpoints = json!({
            "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": addresses, "ports": ports}],
        });
        self.ensure_current("v1", "Endpoints", endpoints, "subsets").await?;
        let endpoints: Vec<Value> =
            alive.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
        let slice = json!({
            "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": if own.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": endpoints,
            "ports": ports,
        });
        self.ensure_current("discovery.k8s.io/v1", "EndpointSlice", slice, "endpoints").await
    }

    async fn renew_lease(&self, address: IpAddr, now: Timestamp) -> Result<(), ApiError> {
        let kind = kinds::by_kind("coordination.k8s.io/v1", "Lease").expect("a built-in kind");
        // Colons are in no name.
        let name = format!("apiserver-{}", address.to_string().replace(['.', ':'], "-"));
        let spec = json!({"holderIdentity": address.to_string(), "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()});
        if self.read(kind, Some(NAMESPACE), &name).await?.is_none() {
            let lease = json!({"metadata": {"name": name, "labels": {LABEL.0: LABEL.1}}, "spec": spec});
            return self.make(kind, Some(NAMESPACE), lease).await;
        }
        let change = |old: &Value| {
            let mut new = old.clone();
            new["spec"] = spec.clone();
            Ok(new)
        };
        let operation = Operation::Update { name: &name, part: Part::Main, change: &change };
        self.write(Write { author: &Author::own(), kind, namespace: Some(NAMESPACE), operation }).await.map(drop)
    }
}

/// Pure.
fn servers(leases: &[Value], now: Timestamp) -> Servers {
    let mut found = Servers::default();
    for lease in leases.iter().filter(|lease| meta::text_at(lease, &["metadata", "labels", LABEL.0]) == LABEL.1) {
        let spec = &lease["spec"];
        let renewed = meta::text_at(spec, &["renewTime"]).parse::<Timestamp>();
        let seconds = spec["leaseDurationSeconds"].as_i64().unwrap_or(LEASE_SECONDS);
        let lives = renewed.is_ok_and(|renewed| now.as_second() - renewed.as_second() <= seconds);
        match meta::text_at(spec, &["holderIdentity"]).parse() {
            Ok(address) if lives => drop(found.alive.insert(address)),
            Ok(_) => found.over.push(meta::name(lease).to_owned()),
            // Upstream's own leases name their holder otherwise: they are none of ours.
            Err(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_alive_until_its_lease_runs_out() {
        let lease = |name: &str, holder: &str, renewed: i64, label: &str| {
            let at = Timestamp::from_second(renewed).expect("a time").strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
            json!({"metadata": {"name": name, "labels": {LABEL.0: label}},
                "spec": {"holderIdentity": holder, "leaseDurationSeconds": 40, "renewTime": at}})
        };
        let leases = [
            lease("a", "10.0.0.1", 1000, LABEL.1),
            lease("b", "10.0.0.2", 961, LABEL.1),
            lease("c", "10.0.0.3", 959, LABEL.1),
            lease("other", "10.0.0.4", 1000, "something-else"),
            lease("upstream's", "apiserver-x_1", 100, LABEL.1),
        ];
        let expected =
            Servers { alive: [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from).into(), over: vec!["c".to_owned()] };
        assert_eq!(servers(&leases, Timestamp::from_second(1000).expect("a time")), expected);
        assert_eq!(servers(&[], Timestamp::now()), Servers::default());
    }
}
