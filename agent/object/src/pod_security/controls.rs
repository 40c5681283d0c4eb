//! The controls of both levels, one row each, in the order in which upstream names what is violated.
//!
//! Owns what each control looks at and its words. Upstream lets pods off some of them that are for Windows (`spec.os`) or in
//! a user namespace (`hostUsers: false`). Here such pods run as any other, so nothing is let off.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Level, Standard, Version, Violation};
use crate::meta;

pub const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
pub const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Where containers are, in upstream's order.
pub const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub struct Control {
    level: Level,
    /// The minor version that brought it.
    since: u32,
    /// The one that replaced it.
    until: Option<u32>,
    /// Where `restricted` has a stricter one in its place, since when.
    stricter_since: Option<u32>,
    pub check: fn(&Pod<'_>, Version) -> Option<Violation>,
}

impl Control {
    pub fn applies(&self, standard: Standard) -> bool {
        let Standard { level, version } = standard;
        let replaced = self.until.is_some_and(|until| version.is_at_least(until));
        let stricter =
            level == Level::Restricted && self.stricter_since.is_some_and(|since| version.is_at_least(since));
        level >= self.level && version.is_at_least(self.since) && !replaced && !stricter
    }
}

const BASELINE: Control =
    Control { level: Level::Baseline, since: 0, until: None, stricter_since: None, check: |_, _| None };
const RESTRICTED: Control = Control { level: Level::Restricted, ..BASELINE };

pub static CONTROLS: &[Control] = &[
    Control { check: app_armor, ..BASELINE },
    Control { stricter_since: Some(22), check: added_capabilities, ..BASELINE },
    Control { check: host_namespaces, ..BASELINE },
    Control { stricter_since: Some(0), check: host_paths, ..BASELINE },
    Control { check: host_ports, ..BASELINE },
    Control { since: 34, check: probe_hosts, ..BASELINE },
    Control { check: privileged, ..BASELINE },
    Control { check: proc_mount, ..BASELINE },
    Control { check: selinux, ..BASELINE },
    Control { until: Some(19), check: seccomp_annotations, ..BASELINE },
    Control { since: 19, stricter_since: Some(19), check: seccomp_not_off, ..BASELINE },
    Control { check: sysctls, ..BASELINE },
    Control { check: host_process, ..BASELINE },
    Control { since: 8, check: privilege_escalation, ..RESTRICTED },
    Control { since: 22, check: capabilities, ..RESTRICTED },
    Control { check: volume_types, ..RESTRICTED },
    Control { check: non_root, ..RESTRICTED },
    Control { since: 23, check: root_user, ..RESTRICTED },
    Control { since: 19, check: seccomp_on, ..RESTRICTED },
];

/// A pod, or the template of pods.
pub struct Pod<'a> {
    object: &'a Value,
    spec: &'a Value,
}

impl<'a> Pod<'a> {
    pub fn new(object: &'a Value) -> Self {
        Self { object, spec: object.get("spec").unwrap_or(&Value::Null) }
    }

    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        LISTS.into_iter().flat_map(|list| meta::items(self.spec.get(list)))
    }

    /// A field of the pod's own security context.
    fn context(&self, path: &[&str]) -> Option<&'a Value> {
        context(self.spec, path)
    }

    /// The names of the containers that are so.
    fn which(&self, is_so: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| is_so(container)).map(name).collect()
    }

    fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let all = meta::annotations(self.object).into_iter().flatten();
        all.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
    }

    fn volumes(&self) -> &'a [Value] {
        meta::items(self.spec.get("volumes"))
    }
}

fn name(named: &Value) -> &str {
    meta::text_at(named, &["name"])
}

/// A field of a security context; `null` is none.
fn context<'a>(of: &'a Value, path: &[&str]) -> Option<&'a Value> {
    of.get("securityContext").and_then(|context| meta::at(context, path)).filter(|value| !value.is_null())
}

fn is_true(value: Option<&Value>) -> bool {
    value == Some(&Value::Bool(true))
}

fn is_false(value: Option<&Value>) -> bool {
    value == Some(&Value::Bool(false))
}

fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    meta::items(value).iter().filter_map(Value::as_str)
}

fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}

fn quoted<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    items.into_iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names.iter().copied()))
}

/// Who does something: the pod itself, containers of it, or both. Empty: nobody.
#[derive(Default)]
struct Setters(Vec<String>);

impl Setters {
    fn of(pod: bool, names: &[&str]) -> Self {
        let pod = pod.then(|| "pod".to_owned());
        let names = (!names.is_empty()).then(|| containers(names));
        Self(pod.into_iter().chain(names).collect())
    }

    /// What they must not do, if there are any.
    fn forbid(&self, reason: &str, what: &str) -> Option<Violation> {
        if self.0.is_empty() {
            return None;
        }
        violation(reason, format!("{} {what}", self.0.join(" and ")))
    }
}

/// Setters of a field to a text that is not allowed, and these texts.
fn set_to<'a>(pod: &Pod<'a>, path: &[&str], allowed: impl Fn(&str) -> bool) -> (bool, Vec<&'a str>, BTreeSet<&'a str>) {
    let bad = |of: &'a Value| context(of, path).map(|v| v.as_str().unwrap_or_default()).filter(|text| !allowed(text));
    let mut values = BTreeSet::new();
    let by_pod = bad(pod.spec);
    values.extend(by_pod);
    let mut names = Vec::new();
    for container in pod.containers() {
        if let Some(value) = bad(container) {
            names.push(name(container));
            values.insert(value);
        }
    }
    (by_pod.is_some(), names, values)
}

fn app_armor(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let allowed = |profile: &str| matches!(profile, "RuntimeDefault" | "Localhost");
    let (by_pod, names, types) = set_to(pod, &["appArmorProfile", "type"], allowed);
    let allowed = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let annotations: BTreeSet<String> = pod
        .annotations()
        .filter(|(key, value)| key.starts_with(APP_ARMOR) && !allowed(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let mut setters = Setters::of(by_pod, &names);
    if !annotations.is_empty() {
        setters.0.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    let values: Vec<&str> = types.into_iter().chain(annotations.iter().map(String::as_str)).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    setters.forbid(reason, &format!("must not set AppArmor profile type to {}", quoted(values.iter().copied())))
}

/// Those that containers have anyway.
const CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Capabilities that are added and not allowed, and by which containers.
fn adding<'a>(pod: &Pod<'a>, allowed: &[&str]) -> (Vec<&'a str>, BTreeSet<&'a str>) {
    let (mut names, mut added) = (Vec::new(), BTreeSet::new());
    for container in pod.containers() {
        let bad: Vec<&str> =
            texts(context(container, &["capabilities", "add"])).filter(|c| !allowed.contains(c)).collect();
        if !bad.is_empty() {
            names.push(name(container));
            added.extend(bad);
        }
    }
    (names, added)
}

fn must_not_add(names: &[&str], added: BTreeSet<&str>) -> String {
    format!("{} must not include {} in securityContext.capabilities.add", containers(names), quoted(added))
}

fn added_capabilities(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let (names, added) = adding(pod, CAPABILITIES);
    if names.is_empty() { None } else { violation("non-default capabilities", must_not_add(&names, added)) }
}

fn host_namespaces(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| is_true(pod.spec.get(field)));
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    if shared.is_empty() { None } else { violation("host namespaces", shared.join(", ")) }
}

fn has(volume: &Value, source: &str) -> bool {
    volume.get(source).is_some_and(|source| !source.is_null())
}

fn host_paths(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let names: Vec<&str> = pod.volumes().iter().filter(|volume| has(volume, "hostPath")).map(name).collect();
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} {}", plural("volume", "volumes", names.len()), quoted(names.iter().copied()));
    violation("hostPath volumes", detail)
}

fn host_ports(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let ports_of = |container: &Value| -> Vec<String> {
        let ports = meta::items(container.get("ports")).iter().filter_map(|port| port.get("hostPort")?.as_i64());
        ports.filter(|port| *port != 0).map(|port| port.to_string()).collect()
    };
    let names = pod.which(|container| !ports_of(container).is_empty());
    let ports: BTreeSet<String> = pod.containers().flat_map(ports_of).collect();
    if names.is_empty() {
        return None;
    }
    let (uses, what) = (plural("uses", "use", names.len()), plural("hostPort", "hostPorts", ports.len()));
    let ports = ports.into_iter().collect::<Vec<_>>().join(", ");
    violation("hostPort", format!("{} {uses} {what} {ports}", containers(&names)))
}

const PROBES: [&[&str]; 5] = [
    &["livenessProbe"],
    &["readinessProbe"],
    &["startupProbe"],
    &["lifecycle", "postStart"],
    &["lifecycle", "preStop"],
];

fn hosts_of(container: &Value) -> Vec<&str> {
    let probes = PROBES.iter().filter_map(|path| meta::at(container, path));
    let actions =
        probes.flat_map(|probe| ["httpGet", "tcpSocket"].map(|action| meta::text_at(probe, &[action, "host"])));
    actions.filter(|host| !host.is_empty()).collect()
}

/// The node probes, from its own network: it would reach for a pod what the pod cannot.
fn probe_hosts(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let names: BTreeSet<&str> = pod.which(|container| !hosts_of(container).is_empty()).into_iter().collect();
    let hosts: BTreeSet<&str> = pod.containers().flat_map(hosts_of).collect();
    if names.is_empty() {
        return None;
    }
    let names: Vec<&str> = names.into_iter().collect();
    let uses = plural("uses", "use", names.len());
    let what = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    violation("probe or lifecycle host", format!("{} {uses} {what} {}", containers(&names), quoted(hosts)))
}

fn privileged(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let names = pod.which(|container| is_true(context(container, &["privileged"])));
    Setters::of(false, &names).forbid("privileged", "must not set securityContext.privileged=true")
}

fn proc_mount(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let (_, names, types) = set_to(pod, &["procMount"], |mount| mount == "Default");
    let what = format!("must not set securityContext.procMount to {}", quoted(types));
    Setters::of(false, &names).forbid("procMount", &what)
}

fn selinux(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    let allowed = |ty: &str| {
        matches!(ty, "" | "container_t" | "container_init_t" | "container_kvm_t")
            || ty == "container_engine_t" && version.is_at_least(31)
    };
    let option = |of: &Value, field: &str| {
        context(of, &["seLinuxOptions", field]).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let sets = |of: &Value, field: &str| !option(of, field).is_empty();
    let is_bad = |of: &Value| !allowed(&option(of, "type")) || sets(of, "user") || sets(of, "role");
    let all = || std::iter::once(pod.spec).chain(pod.containers());
    let types: BTreeSet<String> = all().map(|of| option(of, "type")).filter(|ty| !allowed(ty)).collect();
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quoted(types.iter().map(String::as_str))));
    }
    for field in ["user", "role"] {
        if all().any(|of| sets(of, field)) {
            data.push(format!("{field} may not be set"));
        }
    }
    let setters = Setters::of(is_bad(pod.spec), &pod.which(is_bad));
    setters.forbid("seLinuxOptions", &format!("set forbidden securityContext.seLinuxOptions: {}", data.join("; ")))
}

fn seccomp_annotations(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let allowed = |v: &str| matches!(v, "runtime/default" | "docker/default") || v.starts_with("localhost/");
    let is_read = |key: &str| {
        key == SECCOMP_POD
            || key.strip_prefix(SECCOMP_CONTAINER).is_some_and(|of| pod.containers().any(|c| name(c) == of))
    };
    let bad = pod.annotations().filter(|(key, value)| is_read(key) && !allowed(value));
    let bad: BTreeSet<String> = bad.map(|(key, value)| format!("{key}={value:?}")).collect();
    if bad.is_empty() {
        return None;
    }
    let what = plural("annotation", "annotations", bad.len());
    violation("seccompProfile", format!("forbidden {what} {}", bad.into_iter().collect::<Vec<_>>().join(", ")))
}

fn confines(profile: &str) -> bool {
    matches!(profile, "RuntimeDefault" | "Localhost")
}

fn seccomp_not_off(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let (by_pod, names, types) = set_to(pod, &["seccompProfile", "type"], confines);
    let what = format!("must not set securityContext.seccompProfile.type to {}", quoted(types));
    Setters::of(by_pod, &names).forbid("seccompProfile", &what)
}

fn seccomp_on(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    let profile = ["seccompProfile", "type"];
    seccomp_not_off(pod, version).or_else(|| {
        if pod.context(&profile).is_some() {
            return None;
        }
        let names = pod.which(|container| context(container, &profile).is_none());
        let what = r#"must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost""#;
        if names.is_empty() {
            None
        } else {
            violation("seccompProfile", format!("pod or {} {what}", containers(&names)))
        }
    })
}

/// Those that are of the pod alone, and since when upstream knows it.
const SYSCTLS: &[(&str, u32)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

fn sysctls(pod: &Pod<'_>, version: Version) -> Option<Violation> {
    let allowed = |name: &str| SYSCTLS.iter().any(|(safe, since)| *safe == name && version.is_at_least(*since));
    let bad: Vec<&str> =
        meta::items(pod.context(&["sysctls"])).iter().map(name).filter(|name| !allowed(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

fn host_process(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let sets = |of: &Value| is_true(context(of, &["windowsOptions", "hostProcess"]));
    let what = "must not set securityContext.windowsOptions.hostProcess=true";
    Setters::of(sets(pod.spec), &pod.which(sets)).forbid("hostProcess", what)
}

fn privilege_escalation(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let names = pod.which(|container| !is_false(context(container, &["allowPrivilegeEscalation"])));
    let what = "must set securityContext.allowPrivilegeEscalation=false";
    Setters::of(false, &names).forbid("allowPrivilegeEscalation != false", what)
}

fn capabilities(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let keeping = pod.which(|container| !texts(context(container, &["capabilities", "drop"])).any(|c| c == "ALL"));
    let (names, added) = adding(pod, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    }
    if !names.is_empty() {
        details.push(must_not_add(&names, added));
    }
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

const VOLUMES: &[&str] =
    &["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
const OTHER_VOLUMES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

/// The type of a volume that is not allowed.
fn restricted_type(volume: &Value) -> Option<&'static str> {
    let other = OTHER_VOLUMES.iter().copied().find(|source| has(volume, source));
    let known = VOLUMES.iter().any(|source| has(volume, source));
    other.or_else(|| (!known).then_some("unknown"))
}

fn volume_types(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let bad = pod.volumes().iter().filter_map(|volume| Some((name(volume), restricted_type(volume)?)));
    let (names, types): (Vec<&str>, BTreeSet<&str>) = bad.unzip();
    if names.is_empty() {
        return None;
    }
    let (what, uses) = (plural("volume", "volumes", names.len()), plural("uses", "use", names.len()));
    let of = plural("restricted volume type", "restricted volume types", types.len());
    let detail = format!("{what} {} {uses} {of} {}", quoted(names), quoted(types));
    violation("restricted volume types", detail)
}

fn non_root(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let reason = "runAsNonRoot != true";
    let field = ["runAsNonRoot"];
    let refused =
        Setters::of(is_false(pod.context(&field)), &pod.which(|container| is_false(context(container, &field))));
    refused.forbid(reason, "must not set securityContext.runAsNonRoot=false").or_else(|| {
        if is_true(pod.context(&field)) {
            return None;
        }
        let names = pod.which(|container| context(container, &field).is_none());
        let detail = || format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&names));
        if names.is_empty() { None } else { violation(reason, detail()) }
    })
}

fn root_user(pod: &Pod<'_>, _: Version) -> Option<Violation> {
    let is_root = |of: &Value| context(of, &["runAsUser"]).and_then(Value::as_i64) == Some(0);
    Setters::of(is_root(pod.spec), &pod.which(is_root)).forbid("runAsUser=0", "must not set runAsUser=0")
}
