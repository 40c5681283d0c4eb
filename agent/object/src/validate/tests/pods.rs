//! Pods: containers, resources, places.

use super::*;

/// A pod of one container, with more in its spec.
fn spec(more: Value) -> Value {
    pod(with(json!({"containers": [{"name": "a", "image": "x"}]}), more))
}

#[test]
fn containers_of_all_kinds() {
    let init = |more: Value| spec(json!({"initContainers": [with(json!({"name": "i", "image": "x"}), more)]}));
    table(
        "v1",
        "Pod",
        &[
            (
                one_container(json!({"restartPolicy": "Always"})),
                "spec.containers[0].restartPolicy: Forbidden: may not be set for non-init containers",
            ),
            (init(json!({"restartPolicy": "Always"})), ""),
            (
                init(json!({"restartPolicy": "Never"})),
                "spec.initContainers[0].restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ),
            (
                init(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}})),
                "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always",
            ),
            (init(json!({"restartPolicy": "Always", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}})), ""),
            (init(json!({"name": "a"})), "spec.initContainers[0].name: Duplicate value: \"a\""),
            (
                one_container(json!({"imagePullPolicy": "Sometimes"})),
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ),
            (
                one_container(json!({"terminationMessagePolicy": "X"})),
                "spec.containers[0].terminationMessagePolicy: Unsupported value: \"X\": supported values: \"File\", \"FallbackToLogsOnError\"",
            ),
            (
                one_container(json!({"ports": [{"containerPort": 80, "protocol": "ICMP"}]})),
                "spec.containers[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ),
            (
                with(
                    one_container(json!({"ports": [{"containerPort": 80, "hostPort": 81}]})),
                    json!({"spec": {"hostNetwork": true}}),
                ),
                "spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true",
            ),
            (
                with(
                    one_container(json!({"ports": [{"containerPort": 80, "hostPort": 80}]})),
                    json!({"spec": {"hostNetwork": true}}),
                ),
                "",
            ),
        ],
    );
}

#[test]
fn resize_policies() {
    let at = "spec.containers[0].resizePolicy";
    let policies = |list: Value| one_container(json!({"resizePolicy": list}));
    let never = |list: Value| with(policies(list), json!({"spec": {"restartPolicy": "Never"}}));
    let restart = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    table(
        "v1",
        "Pod",
        &[
            (policies(restart.clone()), ""),
            (
                policies(json!([{"resourceName": "disk", "restartPolicy": "NotRequired"}])),
                &format!("{at}: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\""),
            ),
            (
                policies(json!([{"resourceName": "cpu", "restartPolicy": "X"}])),
                &format!("{at}: Unsupported value: \"X\": supported values: \"NotRequired\", \"RestartContainer\""),
            ),
            (
                policies(
                    json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "cpu", "restartPolicy": "NotRequired"}]),
                ),
                &format!("{at}[1]: Duplicate value: \"cpu\""),
            ),
            (
                never(restart),
                &format!(
                    "{at}: Invalid value: \"RestartContainer\": must be 'NotRequired' when `restartPolicy` is 'Never'"
                ),
            ),
        ],
    );
}

#[test]
fn resources_of_containers() {
    let at = "spec.containers[0].resources";
    let resources = |value: Value| one_container(json!({"resources": value}));
    let template = |value: Value| {
        let spec = json!({"containers": [{"name": "a", "image": "x", "resources": value}]});
        json!({"template": {"spec": spec}})
    };
    table(
        "v1",
        "PodTemplate",
        &[
            (
                template(json!({"requests": {"nvidia.com/gpu": "1"}})),
                "template.spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
            ),
            (template(json!({"requests": {"nvidia.com/gpu": "1"}, "limits": {"nvidia.com/gpu": "1"}})), ""),
        ],
    );
    table(
        "v1",
        "Pod",
        &[
            (resources(json!({"limits": {"nvidia.com/gpu": "1"}})), ""),
            (
                resources(json!({"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "1"}})),
                &format!("{at}.requests: Invalid value: \"1\": must be equal to nvidia.com/gpu limit of 2"),
            ),
            (
                resources(json!({"limits": {"nvidia.com/gpu": "500m"}})),
                &format!(
                    "{at}.limits[nvidia.com/gpu]: Invalid value: \"500m\": must be an integer\n{at}.requests[nvidia.com/gpu]: Invalid value: \"500m\": must be an integer"
                ),
            ),
            (
                resources(json!({"limits": {"hugepages-2Mi": "2Mi"}})),
                &format!("{at}: Forbidden: HugePages require cpu or memory"),
            ),
            (resources(json!({"limits": {"hugepages-2Mi": "2Mi", "cpu": "1"}})), ""),
            (
                resources(json!({"claims": [{"name": "gpu"}]})),
                &format!(
                    "{at}.claims[0]: Not found: \"gpu\": must be one of the names in pod.spec.resourceClaims which is empty"
                ),
            ),
            (
                with(
                    resources(json!({"claims": [{"name": "gpu"}]})),
                    json!({"spec": {"resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]}}),
                ),
                "",
            ),
            (
                with(
                    resources(json!({"claims": [{"name": "gpu"}, {"name": "gpu"}]})),
                    json!({"spec": {"resourceClaims": [{"name": "gpu", "resourceClaimName": "c"}]}}),
                ),
                &format!("{at}.claims[1]: Duplicate value: \"gpu\""),
            ),
            (
                spec(json!({"resourceClaims": [{"name": "gpu"}]})),
                "spec.resourceClaims[0]: Invalid value: {\"Name\":\"gpu\",\"ResourceClaimName\":null,\"ResourceClaimTemplateName\":null}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ),
            (
                spec(json!({"overhead": {"disk": "1"}})),
                "spec.overhead.limits[disk]: Invalid value: \"disk\": must be a standard resource type or fully qualified\nspec.overhead.limits[disk]: Invalid value: \"disk\": must be a standard resource for containers",
            ),
            (spec(json!({"overhead": {"cpu": "1"}})), ""),
        ],
    );
}

#[test]
fn resources_of_pods() {
    let whole = |resources: Value, own: Value| {
        pod(json!({"resources": resources, "containers": [{"name": "a", "image": "x", "resources": own}]}))
    };
    table(
        "v1",
        "Pod",
        &[
            (whole(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}), json!({})), ""),
            (
                whole(json!({"limits": {"ephemeral-storage": "1"}}), json!({})),
                "spec.resources.limits[ephemeral-storage]: Unsupported value: \"ephemeral-storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
            ),
            (
                whole(json!({"requests": {"cpu": "1"}}), json!({"requests": {"cpu": "2"}})),
                "spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 2",
            ),
            (
                whole(json!({"claims": [{"name": "x"}]}), json!({})),
                "spec.resources.claims: Forbidden: claims cannot be set for Resources at pod-level\nspec.resources.claims[0]: Not found: \"x\": must be one of the names in pod.spec.resourceClaims which is empty",
            ),
        ],
    );
}

#[test]
fn variables() {
    let at = "spec.containers[0].env[0].valueFrom";
    let from = |source: Value| one_container(json!({"env": [{"name": "X", "valueFrom": source}]}));
    let field = |path: &str| from(json!({"fieldRef": {"fieldPath": path}}));
    let fields = "supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"";
    table(
        "v1",
        "Pod",
        &[
            (field("spec.nodeName"), ""),
            (field("spec.host"), ""),
            (field("metadata.labels['app']"), ""),
            (field("status.phase"), &format!("{at}.fieldRef.fieldPath: Unsupported value: \"status.phase\": {fields}")),
            (
                field("spec.x"),
                &format!(
                    "{at}.fieldRef.fieldPath: Invalid value: \"spec.x\": error converting fieldPath: field label not supported: spec.x"
                ),
            ),
            (
                field("metadata.name['x']"),
                &format!(
                    "{at}.fieldRef.fieldPath: Invalid value: \"metadata.name['x']\": error converting fieldPath: field label does not support subscript: metadata.name['x']"
                ),
            ),
            (from(json!({"resourceFieldRef": {"resource": "limits.cpu"}})), ""),
            (
                from(json!({"resourceFieldRef": {"resource": "limits.gpu"}})),
                &format!(
                    "{at}.resourceFieldRef.resource: Unsupported value: \"limits.gpu\": supported values: \"limits.cpu\", \"limits.ephemeral-storage\", \"limits.memory\", \"requests.cpu\", \"requests.ephemeral-storage\", \"requests.memory\""
                ),
            ),
            (
                from(json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "10m"}})),
                &format!(
                    "{at}.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource"
                ),
            ),
            (from(json!({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}})), ""),
            (
                from(json!({})),
                &format!(
                    "{at}: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
                ),
            ),
            (
                one_container(json!({"envFrom": [{}]})),
                "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
            ),
            (one_container(json!({"envFrom": [{"configMapRef": {"name": "a"}}]})), ""),
        ],
    );
}

#[test]
fn probes_and_hooks() {
    let stop = |seconds: i64| one_container(json!({"lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}}));
    let at = "spec.containers[0]";
    table(
        "v1",
        "Pod",
        &[
            (stop(30), ""),
            (stop(0), ""),
            (
                stop(31),
                &format!(
                    "{at}.lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)"
                ),
            ),
            (
                one_container(json!({"lifecycle": {"postStart": {}}})),
                &format!("{at}.lifecycle.postStart: Required value: must specify a handler type"),
            ),
            (
                one_container(json!({"livenessProbe": {"httpGet": {"port": 80, "scheme": "FTP"}}})),
                &format!(
                    "{at}.livenessProbe.httpGet.scheme: Unsupported value: \"FTP\": supported values: \"HTTP\", \"HTTPS\""
                ),
            ),
            (
                one_container(json!({"livenessProbe": {"httpGet": {"port": 80, "httpHeaders": [{"name": "a b"}]}}})),
                &format!(
                    "{at}.livenessProbe.httpGet.httpHeaders: Invalid value: \"a b\": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"
                ),
            ),
            (
                one_container(json!({"livenessProbe": {"exec": {"command": ["x"]}, "tcpSocket": {"port": 80}}})),
                &format!("{at}.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type"),
            ),
            (
                one_container(json!({"readinessProbe": {"grpc": {"port": 80}, "terminationGracePeriodSeconds": 1}})),
                &format!(
                    "{at}.readinessProbe.terminationGracePeriodSeconds: Invalid value: 1: must not be set for readinessProbes"
                ),
            ),
            (one_container(json!({"readinessProbe": {"grpc": {"port": 80}, "successThreshold": 3}})), ""),
        ],
    );
}

#[test]
fn policies_and_names() {
    table(
        "v1",
        "Pod",
        &[
            (spec(json!({"imagePullSecrets": [{"name": ""}]})), ""),
            (spec(json!({"terminationGracePeriodSeconds": -5})), ""),
            (
                spec(json!({"preemptionPolicy": "Sometimes"})),
                "spec.preemptionPolicy: Unsupported value: \"Sometimes\": supported values: \"PreemptLowerPriority\", \"Never\"",
            ),
            (spec(json!({"preemptionPolicy": "Never"})), ""),
            (
                spec(json!({"schedulingGates": [{"name": "a"}, {"name": "a"}]})),
                "spec.schedulingGates[1]: Duplicate value: \"a\"",
            ),
            (spec(json!({"schedulingGates": [{"name": "a"}, {"name": "b"}]})), ""),
            (
                spec(json!({"schedulingGates": [{"name": "a"}], "nodeName": "n"})),
                "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared",
            ),
            (
                spec(json!({"dnsPolicy": "None"})),
                "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
            ),
            (
                spec(json!({"dnsPolicy": "None", "dnsConfig": {"searches": ["a"]}})),
                "spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None",
            ),
            (
                spec(
                    json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.0.0.1"], "searches": ["a_b.c.", "."]}}),
                ),
                "",
            ),
            (
                spec(json!({"dnsConfig": {"options": [{"value": "1"}]}})),
                "spec.dnsConfig.options[0]: Required value: must not be empty",
            ),
            (
                spec(json!({"hostAliases": [{"ip": "x"}]})),
                "spec.hostAliases[0].ip: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (
                spec(json!({"activeDeadlineSeconds": 0})),
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            ),
        ],
    );
}

#[test]
fn places() {
    let required = |term: Value| {
        spec(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}}),
        )
    };
    let term = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]";
    let pods = |term: Value| {
        spec(json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}))
    };
    let pod_term = "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]";
    let spread = |more: Value| {
        let constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"a": "b"}}});
        spec(json!({"topologySpreadConstraints": [with(constraint, more)]}))
    };
    let at = "spec.topologySpreadConstraints[0]";
    let qualified = "name part must be non-empty";
    table(
        "v1",
        "Pod",
        &[
            (required(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]})), ""),
            (
                required(json!({"matchFields": [{"key": "metadata.uid", "operator": "In", "values": ["n"]}]})),
                &format!("{term}.matchFields[0].key: Invalid value: \"metadata.uid\": not a valid field selector key"),
            ),
            (
                required(json!({"matchFields": [{"key": "metadata.name", "operator": "Exists"}]})),
                &format!("{term}.matchFields[0].operator: Invalid value: \"Exists\": not a valid selector operator"),
            ),
            (
                required(json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["-"]}]})),
                &format!(
                    "{term}.matchExpressions[0].values[0]: Invalid value: \"-\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                ),
            ),
            (pods(json!({"topologyKey": "zone", "labelSelector": {}})), ""),
            (
                pods(json!({"topologyKey": "zone", "matchLabelKeys": ["a"]})),
                &format!("{pod_term}.matchLabelKeys: Forbidden: must not be specified when labelSelector is not set"),
            ),
            (spread(json!({})), ""),
            (
                spread(json!({"whenUnsatisfiable": "Never"})),
                &format!(
                    "{at}.whenUnsatisfiable: Unsupported value: \"Never\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\""
                ),
            ),
            (
                spread(json!({"minDomains": 0})),
                &format!("{at}.minDomains: Invalid value: 0: must be greater than zero"),
            ),
            (
                spread(json!({"minDomains": 1, "whenUnsatisfiable": "ScheduleAnyway"})),
                &format!(
                    "{at}.minDomains: Invalid value: 1: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway"
                ),
            ),
            (
                spread(json!({"nodeTaintsPolicy": "X"})),
                &format!("{at}.nodeTaintsPolicy: Unsupported value: \"X\": supported values: \"Honor\", \"Ignore\""),
            ),
            (
                spread(json!({"matchLabelKeys": ["a"]})),
                &format!(
                    "{at}.matchLabelKeys[0]: Invalid value: \"a\": exists in both matchLabelKeys and labelSelector"
                ),
            ),
            (
                spec(json!({"tolerations": [{"key": "a", "operator": "Lt"}]})),
                "spec.tolerations[0].operator: Unsupported value: \"Lt\": supported values: \"Equal\", \"Exists\"",
            ),
            (
                spec(json!({"tolerations": [{"key": "a", "effect": "Never"}]})),
                "spec.tolerations[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ),
            (spec(json!({"tolerations": [{"operator": "Exists"}]})), ""),
        ],
    );
    let empty = show(create(kind("v1", "Pod"), &whole(kind("v1", "Pod"), pods(json!({"labelSelector": {}})))));
    assert!(empty.contains(&format!("{pod_term}.topologyKey: Required value: can not be empty")), "{empty}");
    assert!(empty.contains(&format!("{pod_term}.topologyKey: Invalid value: \"\": {qualified}")), "{empty}");
}

#[test]
fn annotations() {
    let noted = |key: &str, value: &str| with(spec(json!({})), json!({"metadata": {"annotations": {key: value}}}));
    let cost = "controller.kubernetes.io/pod-deletion-cost";
    let app_armor = "container.apparmor.security.beta.kubernetes.io/";
    let confined = |profile: &str| {
        let pod = one_container(json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}));
        with(pod, json!({"metadata": {"annotations": {format!("{app_armor}a"): profile}}}))
    };
    table(
        "v1",
        "Pod",
        &[
            (noted(cost, "-5"), ""),
            (
                noted(cost, "+5"),
                &format!("metadata.annotations[{cost}]: Invalid value: \"+5\": must be a 32bit integer"),
            ),
            (noted(&format!("{app_armor}a"), "runtime/default"), ""),
            (
                noted(&format!("{app_armor}b"), "runtime/default"),
                &format!("metadata.annotations[{app_armor}b]: Invalid value: \"b\": container not found"),
            ),
            (
                noted(&format!("{app_armor}a"), "x"),
                &format!(
                    "metadata.annotations[{app_armor}a]: Invalid value: \"x\": invalid AppArmor profile name: \"x\""
                ),
            ),
            (confined("runtime/default"), ""),
            (
                confined("unconfined"),
                "spec.containers[0].securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and field must match",
            ),
            (
                noted("kubernetes.io/config.mirror", "x"),
                "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName if mirror pod annotation is set",
            ),
        ],
    );
}
