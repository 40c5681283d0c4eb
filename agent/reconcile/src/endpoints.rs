//! Which endpoints of a Service's port traffic is sent to: the same for packets and for requests. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use skiff_object::addresses;

/// Where the ready endpoints listen; where all that is left is going away, those that still serve. Addresses that are no
/// `A` (of another family) are left out, and so are those of whichever machine sends, as the API takes them from nobody.
pub fn choose<'a, A, S>(port: &ServicePort, slices: S) -> BTreeSet<(A, u16)>
where
    A: FromStr + Ord,
    S: IntoIterator<Item = &'a EndpointSlice> + Clone,
{
    let select = |wanted: fn(&Endpoint) -> bool| -> BTreeSet<(A, u16)> {
        let mut found = BTreeSet::new();
        for slice in slices.clone() {
            let name = port.name.as_deref().unwrap_or_default();
            let named = slice.ports.iter().flatten().filter(|p| p.name.as_deref().unwrap_or_default() == name);
            for number in named.filter_map(|p| u16::try_from(p.port?).ok()).filter(|number| *number != 0) {
                let chosen = slice.endpoints.iter().flatten().filter(|e| wanted(e));
                let addresses = chosen.flat_map(|e| &e.addresses).filter(|a| is_of_api(slice) || is_elsewhere(a));
                let addresses = addresses.filter_map(|a| a.parse().ok());
                found.extend(addresses.map(|address: A| (address, number)));
            }
        }
        found
    };
    let ready = select(is_ready);
    if ready.is_empty() { select(is_draining) } else { ready }
}

/// The API's own, which may listen on a loopback address alone.
fn is_of_api(slice: &EndpointSlice) -> bool {
    let (namespace, name) = (&slice.metadata.namespace, &slice.metadata.name);
    namespace.as_deref() == Some("default") && name.as_deref() == Some("kubernetes")
}

fn is_elsewhere(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok_and(|address| addresses::special(address).is_none())
}

/// Nothing said is ready.
pub fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|c| c.ready) != Some(false)
}

fn is_draining(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().is_some_and(|c| c.serving == Some(true) && c.terminating == Some(true))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::{Value, json};

    use super::*;

    fn slice(endpoints: &Value) -> EndpointSlice {
        let ports = json!([{"name": "web", "port": 8080}, {"name": "other", "port": 9}, {"name": "web", "port": 70_000}, {"name": "web", "port": 0}]);
        serde_json::from_value(json!({"addressType": "IPv4", "ports": ports, "endpoints": endpoints})).expect("a slice")
    }

    fn chosen(endpoints: &Value) -> Vec<String> {
        let port: ServicePort = serde_json::from_value(json!({"name": "web", "port": 80})).expect("a port");
        choose::<IpAddr, _>(&port, [&slice(endpoints)]).into_iter().map(|(a, n)| format!("{a}:{n}")).collect()
    }

    #[test]
    fn ready_endpoints_or_else_those_that_still_serve() {
        let at = |address: &str, conditions: Value| json!({"addresses": [address], "conditions": conditions});
        let draining = at("10.0.0.2", json!({"ready": false, "serving": true, "terminating": true}));
        let broken = at("10.0.0.3", json!({"ready": false, "serving": false, "terminating": true}));
        let unready = at("10.0.0.4", json!({"ready": false, "serving": true, "terminating": false}));
        let ready = at("10.0.0.1", json!({}));
        assert_eq!(chosen(&json!([draining, broken, unready, ready])), ["10.0.0.1:8080"]);
        assert_eq!(chosen(&json!([draining, broken, unready])), ["10.0.0.2:8080"]);
        assert!(chosen(&json!([broken, unready])).is_empty());
        let own = slice(&json!([at("127.0.0.1", json!({})), at("::1", json!({})), at("169.254.169.254", json!({}))]));
        let port: ServicePort = serde_json::from_value(json!({"name": "web", "port": 80})).expect("a port");
        assert!(choose::<IpAddr, _>(&port, [&own]).is_empty(), "the sender's own are none");
        let mut of_api = own;
        of_api.metadata.namespace = Some("default".to_owned());
        of_api.metadata.name = Some("kubernetes".to_owned());
        assert_eq!(choose::<IpAddr, _>(&port, [&of_api]).len(), 3);
        let both = slice(&json!([at("fd00::1", json!({})), draining]));
        let port: ServicePort = serde_json::from_value(json!({"name": "web", "port": 80})).expect("a port");
        let of_ours = choose::<Ipv4Addr, _>(&port, [&both]);
        assert_eq!(of_ours, BTreeSet::from([([10, 0, 0, 2].into(), 8080)]), "another family's are none");
    }
}
