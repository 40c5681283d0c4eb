//! Ingresses, network policies, endpoints, nodes.

use super::*;

#[test]
fn ingresses() {
    let path = |path: Value| {
        let base =
            json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}});
        json!({"spec": {"rules": [{"http": {"paths": [with(base, path)]}}]}})
    };
    let backend = |backend: Value| json!({"spec": {"defaultBackend": backend}});
    let at = "spec.rules[0].http.paths[0]";
    let none = "spec.defaultBackend: Invalid value: \"\": resource or service backend is required";
    table(
        "networking.k8s.io/v1",
        "Ingress",
        &[
            (path(json!({})), ""),
            (json!({"spec": {}}), "spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"),
            (
                path(json!({"pathType": "X"})),
                &format!(
                    "{at}.pathType: Unsupported value: \"X\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\""
                ),
            ),
            (path(json!({"path": "/a//b"})), &format!("{at}.path: Invalid value: \"/a//b\": must not contain '//'")),
            (
                path(json!({"backend": {"service": {"port": {"name": "http"}}}})),
                &format!("{at}.backend: Invalid value: \"\": cannot set both port name & port number"),
            ),
            (backend(json!({})), none),
            (
                backend(json!({"service": {"name": "s"}})),
                "spec.defaultBackend: Required value: port name or number is required",
            ),
            (backend(json!({"resource": {"kind": "K", "name": "n", "apiGroup": "a.b"}})), ""),
            (
                backend(json!({"resource": {"kind": "K"}})),
                "spec.defaultBackend.resource.name: Required value: name is required",
            ),
            (
                with(path(json!({})), json!({"spec": {"tls": [{"hosts": ["a_b"]}]}})),
                "spec.tls[0].hosts[0]: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ),
            (
                with(
                    path(json!({})),
                    json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}}, "spec": {"ingressClassName": "b"}}),
                ),
                "annotations.kubernetes.io/ingress.class: Invalid value: \"a\": must match `ingressClassName` when both are specified",
            ),
        ],
    );
    let class = |parameters: Value| json!({"spec": {"controller": "a.b/c", "parameters": parameters}});
    let parameters = |more: Value| class(with(json!({"kind": "K", "name": "n"}), more));
    table(
        "networking.k8s.io/v1",
        "IngressClass",
        &[
            (json!({"spec": {"controller": "a.b/c"}}), ""),
            (
                json!({"spec": {"controller": "c"}}),
                "spec.controller: Invalid value: \"c\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
            (parameters(json!({})), ""),
            (
                parameters(json!({"scope": "X"})),
                "spec.parameters.scope: Unsupported value: \"X\": supported values: \"Cluster\", \"Namespace\"",
            ),
            (
                parameters(json!({"scope": "Namespace"})),
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ),
            (
                parameters(json!({"namespace": "n"})),
                "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
            ),
        ],
    );
}

#[test]
fn network_policies() {
    let port = |port: Value| json!({"spec": {"ingress": [{"ports": [port]}]}});
    let block = |block: Value| json!({"spec": {"ingress": [{"from": [{"ipBlock": block}]}]}});
    let at = "spec.ingress[0].ports[0]";
    let from = "spec.ingress[0].from[0]";
    table(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        &[
            (port(json!({"port": 80, "endPort": 90})), ""),
            (
                port(json!({"port": 80, "endPort": 70})),
                &format!("{at}.endPort: Invalid value: 80: must be greater than or equal to `port`"),
            ),
            (
                port(json!({"endPort": 70})),
                &format!("{at}.endPort: Invalid value: 70: may not be specified when `port` is not specified"),
            ),
            (
                port(json!({"port": "http", "endPort": 70})),
                &format!("{at}.endPort: Invalid value: 70: may not be specified when `port` is non-numeric"),
            ),
            (
                port(json!({"protocol": "ICMP"})),
                &format!("{at}.protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\""),
            ),
            (block(json!({"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]})), ""),
            (
                block(json!({"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]})),
                &format!("{from}.ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`"),
            ),
            (
                block(json!({"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]})),
                &format!("{from}.ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`"),
            ),
            (
                block(json!({"cidr": "x"})),
                &format!(
                    "{from}.ipBlock.cidr: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
                ),
            ),
            (json!({"spec": {"ingress": [{"from": [{}]}]}}), &format!("{from}: Required value: must specify a peer")),
            (
                json!({"spec": {"policyTypes": ["X"]}}),
                "spec.policyTypes[0]: Unsupported value: \"X\": supported values: \"Ingress\", \"Egress\"",
            ),
            (
                json!({"spec": {"policyTypes": ["Ingress", "Egress", "Ingress"]}}),
                "spec.policyTypes: Invalid value: [\"Ingress\",\"Egress\",\"Ingress\"]: may not specify more than two policyTypes",
            ),
        ],
    );
}

#[test]
fn endpoints() {
    let subset = |more: Value| json!({"subsets": [with(json!({"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}), more)]});
    table(
        "v1",
        "Endpoints",
        &[
            (subset(json!({})), ""),
            (
                subset(json!({"addresses": [{"ip": "x"}]})),
                "subsets[0].addresses[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (
                subset(json!({"ports": [{"port": 0}]})),
                "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ),
            (
                subset(json!({"ports": [{"port": 80}, {"port": 81, "name": "b"}]})),
                "subsets[0].ports[0].name: Required value",
            ),
            (json!({"subsets": [{}]}), "subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`"),
        ],
    );
    let slice = |ty: &str, endpoint: Value| json!({"addressType": ty, "endpoints": [endpoint]});
    table(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        &[
            (slice("FQDN", json!({"addresses": ["a.b."]})), ""),
            (
                slice("FQDN", json!({"addresses": ["a"]})),
                "endpoints[0].addresses[0]: Invalid value: \"a\": should be a domain with at least two segments separated by dots",
            ),
            (
                slice("IPv4", json!({"addresses": ["fd00::1"]})),
                "endpoints[0].addresses[0]: Invalid value: \"fd00::1\": must be a valid IPv4 address",
            ),
            (
                slice("X", json!({"addresses": ["a"]})),
                "addressType: Unsupported value: \"X\": supported values: \"FQDN\", \"IPv4\", \"IPv6\"",
            ),
            (
                slice(
                    "IPv4",
                    json!({"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "z"}, {"name": "z"}]}}),
                ),
                "endpoints[0].hints.forZones[1].name: Duplicate value: \"z\"",
            ),
            (slice("IPv4", json!({"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "z"}]}})), ""),
            (
                json!({"addressType": "IPv4", "ports": [{"name": "a"}, {"name": "a"}]}),
                "ports[1].name: Duplicate value: \"a\"",
            ),
        ],
    );
}

#[test]
fn nodes_and_ranges() {
    let taints = |list: Value| json!({"spec": {"taints": list}});
    table(
        "v1",
        "Node",
        &[
            (taints(json!([{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoExecute"}])), ""),
            (taints(json!([{"key": "a"}])), "metadata.taints[0].effect: Required value"),
            (
                taints(json!([{"key": "a", "effect": "X"}])),
                "metadata.taints[0].effect: Unsupported value: \"X\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ),
            (
                taints(json!([{"key": "a", "effect": "NoExecute"}, {"key": "a", "effect": "NoExecute"}])),
                "metadata.taints[1]: Duplicate value: {\"Key\":\"a\",\"Value\":\"\",\"Effect\":\"NoExecute\",\"TimeAdded\":null}: taints must be unique by key and effect pair",
            ),
        ],
    );
    table(
        "networking.k8s.io/v1",
        "ServiceCIDR",
        &[
            (json!({"spec": {"cidrs": ["10.0.0.0/16", "fd00::/112"]}}), ""),
            (
                json!({"spec": {"cidrs": ["10.0.0.0/16", "10.1.0.0/16"]}}),
                "spec.cidrs: Invalid value: {\"CIDRs\":[\"10.0.0.0/16\",\"10.1.0.0/16\"]}: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            ),
            (json!({"spec": {}}), "spec.cidrs: Required value: at least one CIDR required"),
        ],
    );
    let address = |spec: Value| json!({"metadata": {"name": "10.0.0.1"}, "spec": spec});
    table(
        "networking.k8s.io/v1",
        "IPAddress",
        &[
            (address(json!({"parentRef": {"resource": "services", "name": "a", "namespace": "b"}})), ""),
            (address(json!({})), "spec.parentRef: Required value"),
            (address(json!({"parentRef": {"name": "a"}})), "spec.parentRef.resource: Required value"),
        ],
    );
}
