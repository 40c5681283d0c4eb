//! What services may say, type by type.

use super::*;

fn service(more: Value) -> Value {
    json!({"spec": with(json!({"ports": [{"port": 80}]}), more)})
}

fn of_type(ty: &str, more: Value) -> Value {
    with(service(more), json!({"spec": {"type": ty}}))
}

#[test]
fn fields_of_types() {
    let balanced = "may only be used when `type` is 'LoadBalancer'";
    let external =
        "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services";
    let health = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
    table(
        "v1",
        "Service",
        &[
            (service(json!({})), ""),
            (
                of_type("X", json!({})),
                "spec.type: Unsupported value: \"X\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ),
            (service(json!({"externalTrafficPolicy": "Local"})), external),
            (service(json!({"externalTrafficPolicy": "Local", "externalIPs": ["8.8.8.8"]})), ""),
            (of_type("NodePort", json!({"externalTrafficPolicy": "Local"})), ""),
            (
                of_type("NodePort", json!({"externalTrafficPolicy": "X"})),
                "spec.externalTrafficPolicy: Unsupported value: \"X\": supported values: \"Cluster\", \"Local\"",
            ),
            (
                service(json!({"internalTrafficPolicy": "X"})),
                "spec.internalTrafficPolicy: Unsupported value: \"X\": supported values: \"Cluster\", \"Local\"",
            ),
            (
                service(json!({"trafficDistribution": "X"})),
                "spec.trafficDistribution: Unsupported value: \"X\": supported values: \"PreferClose\", \"PreferSameZone\", \"PreferSameNode\"",
            ),
            (service(json!({"trafficDistribution": "PreferClose"})), ""),
            (
                service(json!({"loadBalancerSourceRanges": ["10.0.0.0/8"]})),
                &format!("spec.LoadBalancerSourceRanges: Forbidden: {balanced}"),
            ),
            (of_type("LoadBalancer", json!({"loadBalancerSourceRanges": [" 10.0.0.0/8 "]})), ""),
            (
                of_type("LoadBalancer", json!({"loadBalancerSourceRanges": ["x"]})),
                "spec.LoadBalancerSourceRanges[0]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (service(json!({"loadBalancerClass": "a.b/c"})), &format!("spec.loadBalancerClass: Forbidden: {balanced}")),
            (of_type("LoadBalancer", json!({"loadBalancerClass": "a.b/c"})), ""),
            (
                service(json!({"allocateLoadBalancerNodePorts": true})),
                &format!("spec.allocateLoadBalancerNodePorts: Forbidden: {balanced}"),
            ),
            (
                of_type("NodePort", json!({"healthCheckNodePort": 30000})),
                &format!("spec.healthCheckNodePort: Invalid value: 30000: {health}"),
            ),
            (of_type("LoadBalancer", json!({"healthCheckNodePort": 30000, "externalTrafficPolicy": "Local"})), ""),
            (
                service(json!({"externalIPs": ["127.0.0.1"]})),
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
        ],
    );
}

#[test]
fn affinities() {
    let seconds = |number: i64| {
        service(
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": number}}}),
        )
    };
    let at = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
    table(
        "v1",
        "Service",
        &[
            (seconds(86400), ""),
            (service(json!({"sessionAffinity": "ClientIP"})), ""),
            (seconds(0), &format!("{at}: Invalid value: 0: must be greater than 0 and less than 86400")),
            (
                service(json!({"sessionAffinity": "X"})),
                "spec.sessionAffinity: Unsupported value: \"X\": supported values: \"ClientIP\", \"None\"",
            ),
            // Upstream's defaults take this out.
            (
                service(
                    json!({"sessionAffinity": "None", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}),
                ),
                "",
            ),
        ],
    );
}

#[test]
fn addresses() {
    let named =
        |more: Value| with(json!({"spec": {"type": "ExternalName", "externalName": "a.b."}}), json!({"spec": more}));
    table(
        "v1",
        "Service",
        &[
            (service(json!({"clusterIP": "None"})), ""),
            (
                of_type("NodePort", json!({"clusterIP": "None"})),
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
            ),
            (
                service(json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"]})),
                "spec.clusterIPs: Invalid value: [\"10.0.0.2\"]: first value must match `clusterIP`",
            ),
            (
                service(json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "10.0.0.2"]})),
                "spec.clusterIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\"]: may specify no more than one IP for each IP family",
            ),
            (service(json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]})), ""),
            (
                service(json!({"clusterIP": "10.0.0.1", "ipFamilies": ["IPv6"]})),
                "spec.clusterIPs[0]: Invalid value: \"10.0.0.1\": expected an IPv6 value as indicated by `ipFamilies[0]`",
            ),
            (
                service(json!({"ipFamilies": ["IPv5"]})),
                "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
            ),
            (service(json!({"ipFamilies": ["IPv4", "IPv4"]})), "spec.ipFamilies[1]: Duplicate value: \"IPv4\""),
            (
                service(json!({"ipFamilyPolicy": "X"})),
                "spec.ipFamilyPolicy: Unsupported value: \"X\": supported values: \"PreferDualStack\", \"RequireDualStack\", \"SingleStack\"",
            ),
            (named(json!({})), ""),
            (named(json!({"externalName": ""})), "spec.externalName: Required value"),
            (
                named(json!({"ipFamilies": ["IPv4"]})),
                "spec.ipFamilies: Forbidden: may not be set for ExternalName services",
            ),
        ],
    );
}

#[test]
fn ports() {
    let ports = |list: Value| json!({"spec": {"type": "NodePort", "ports": list}});
    table(
        "v1",
        "Service",
        &[
            (ports(json!([{"port": 80, "name": "a"}, {"port": 80, "protocol": "UDP", "name": "b"}])), ""),
            (
                ports(json!([{"port": 80, "name": "a"}, {"port": 81, "name": "a"}])),
                "spec.ports[1].name: Duplicate value: \"a\"",
            ),
            (
                ports(
                    json!([{"port": 80, "name": "a", "nodePort": 30000}, {"port": 81, "name": "b", "nodePort": 30000}]),
                ),
                "spec.ports[1].nodePort: Duplicate value: 30000",
            ),
            (
                ports(json!([{"port": 80, "targetPort": "A"}])),
                "spec.ports[0].targetPort: Invalid value: \"A\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)\nspec.ports[0].targetPort: Invalid value: \"A\": must contain at least one letter (a-z)",
            ),
            (ports(json!([{"port": 80, "appProtocol": "kubernetes.io/h2c"}])), ""),
            (
                ports(json!([{"port": 80, "protocol": "X"}])),
                "spec.ports[0].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
        ],
    );
}
