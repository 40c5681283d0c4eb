//! For each control a pod that passes and one that does not, in upstream's words.

use serde_json::{Value, json};

use super::*;

const LATEST: Version = Version::Latest;

fn standard(level: Level, version: Version) -> Standard {
    Standard { level, version }
}

/// A pod that `restricted` allows.
fn good() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "image": "localhost/a:1", "securityContext": {"allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]}}}]}})
}

/// The good pod with something of it replaced.
fn with(pointer: &str, value: Value) -> Value {
    let mut pod = good();
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    let mut at = &mut pod;
    for name in parent.split('/').filter(|name| !name.is_empty()) {
        at = match name.parse::<usize>() {
            Ok(index) => &mut at[index],
            Err(_) => &mut at[name],
        };
    }
    at[field] = value;
    pod
}

fn check_at(standard: Standard, pod: &Value, expected: &str) {
    assert_eq!(details(&violations(standard, pod)), expected, "{standard} {pod}");
}

fn check(level: Level, pointer: &str, value: Value, expected: &str) {
    check_at(standard(level, LATEST), &with(pointer, value), expected);
}

const CONTAINER: &str = "/spec/containers/0";

#[test]
fn a_pod_that_asks_for_nothing_passes() {
    for level in [Level::Privileged, Level::Baseline, Level::Restricted] {
        check_at(standard(level, LATEST), &good(), "");
    }
    check_at(standard(Level::Baseline, LATEST), &json!({"spec": {"containers": [{"name": "a"}]}}), "");
    for odd in [Value::Null, json!([]), json!({"spec": 1}), json!({"spec": {"containers": "x", "volumes": {}}})] {
        check_at(standard(Level::Restricted, LATEST), &odd, "");
    }
}

#[test]
fn what_everybody_forgets_is_named_as_upstream_does() {
    let plain = json!({"spec": {"containers": [{"name": "x"}]}});
    check_at(
        standard(Level::Restricted, LATEST),
        &plain,
        r#"allowPrivilegeEscalation != false (container "x" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "x" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "x" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "x" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#,
    );
    assert_eq!(
        reasons(&violations(standard(Level::Restricted, LATEST), &plain)),
        "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"
    );
}

/// Of each control of the level: where in the good pod, a value that passes, one that does not, and what is said of it.
fn check_controls(level: Level, controls: &[(&str, Value, Value, &str)]) {
    for (pointer, passes, fails, expected) in controls {
        check(level, pointer, passes.clone(), "");
        check(level, pointer, fails.clone(), expected);
        check(Level::Privileged, pointer, fails.clone(), "");
    }
}

#[test]
#[rustfmt::skip] // a control a row
fn baseline() {
    let context = |value: Value| json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "seccompProfile": value});
    let of_container = format!("{CONTAINER}/securityContext");
    let at = |field: &str| format!("{of_container}/{field}");
    check_controls(Level::Baseline, &[
        ("/metadata/annotations", json!({"container.apparmor.security.beta.kubernetes.io/a": "runtime/default"}), json!({"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}),
            r#"forbidden AppArmor profile (annotation must not set AppArmor profile type to "container.apparmor.security.beta.kubernetes.io/a="unconfined"")"#),
        ("/spec/securityContext/appArmorProfile", json!({"type": "RuntimeDefault"}), json!({"type": "Unconfined"}),
            r#"forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")"#),
        (&at("appArmorProfile"), json!({"type": "Localhost"}), json!({"type": "Unconfined"}),
            r#"forbidden AppArmor profile (container "a" must not set AppArmor profile type to "Unconfined")"#),
        (&at("capabilities"), json!({"add": ["CHOWN", "NET_BIND_SERVICE"]}), json!({"add": ["NET_RAW", "SYS_ADMIN", "CHOWN"]}),
            r#"non-default capabilities (container "a" must not include "NET_RAW", "SYS_ADMIN" in securityContext.capabilities.add)"#),
        ("/spec/hostNetwork", json!(false), json!(true), "host namespaces (hostNetwork=true)"),
        ("/spec/hostPID", json!(false), json!(true), "host namespaces (hostPID=true)"),
        ("/spec/hostIPC", Value::Null, json!(true), "host namespaces (hostIPC=true)"),
        ("/spec/volumes", json!([{"name": "v", "emptyDir": {}}, {"name": "w", "hostPath": null}]), json!([{"name": "v", "hostPath": {"path": "/"}}]),
            r#"hostPath volumes (volume "v")"#),
        (&format!("{CONTAINER}/ports"), json!([{"containerPort": 80, "hostPort": 0}]), json!([{"containerPort": 80, "hostPort": 80}, {"containerPort": 9, "hostPort": 9}]),
            r#"hostPort (container "a" uses hostPorts 80, 9)"#),
        (&format!("{CONTAINER}/livenessProbe"), json!({"httpGet": {"port": 80, "host": ""}}), json!({"httpGet": {"port": 80, "host": "169.254.169.254"}}),
            r#"probe or lifecycle host (container "a" uses probe or lifecycle host "169.254.169.254")"#),
        (&format!("{CONTAINER}/lifecycle"), json!({"preStop": {"httpGet": {"port": 80}}}), json!({"preStop": {"tcpSocket": {"host": "x"}}, "postStart": {"httpGet": {"host": "y"}}}),
            r#"probe or lifecycle host (container "a" uses probe or lifecycle hosts "x", "y")"#),
        (&at("privileged"), json!(false), json!(true), r#"privileged (container "a" must not set securityContext.privileged=true)"#),
        (&at("procMount"), json!("Default"), json!("Unmasked"), r#"procMount (container "a" must not set securityContext.procMount to "Unmasked")"#),
        (&at("seLinuxOptions"), json!({"type": "container_t", "level": "s0"}), json!({"type": "spc_t", "user": "u", "role": "r"}),
            r#"seLinuxOptions (container "a" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set; role may not be set)"#),
        ("/spec/securityContext/seLinuxOptions", json!({"type": "container_engine_t"}), json!({"user": "u"}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: user may not be set)"),
        (&of_container, context(json!({"type": "Localhost"})), context(json!({"type": "Unconfined"})),
            r#"seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")"#),
        ("/spec/securityContext/seccompProfile", Value::Null, json!({"type": "Unconfined"}),
            r#"seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")"#),
        ("/spec/securityContext/sysctls", json!([{"name": "net.ipv4.tcp_rmem"}]), json!([{"name": "net.ipv4.tcp_syncookies"}, {"name": "kernel.msgmax"}, {"name": "vm.x"}]),
            "forbidden sysctls (kernel.msgmax, vm.x)"),
        ("/spec/securityContext/windowsOptions", json!({"hostProcess": false}), json!({"hostProcess": true}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)"),
    ]);
}

#[test]
#[rustfmt::skip] // a control a row
fn restricted() {
    let at = |field: &str| format!("{CONTAINER}/securityContext/{field}");
    check_controls(Level::Restricted, &[
        (&at("allowPrivilegeEscalation"), json!(false), json!(true),
            r#"allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false)"#),
        (&at("allowPrivilegeEscalation"), json!(false), Value::Null,
            r#"allowPrivilegeEscalation != false (container "a" must set securityContext.allowPrivilegeEscalation=false)"#),
        (&at("capabilities"), json!({"drop": ["NET_RAW", "ALL"], "add": ["NET_BIND_SERVICE"]}), json!({"drop": ["all"], "add": ["CHOWN", "NET_RAW"]}),
            r#"unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"]; container "a" must not include "CHOWN", "NET_RAW" in securityContext.capabilities.add)"#),
        ("/spec/volumes", json!([{"name": "a", "configMap": {}}, {"name": "b", "csi": {}}, {"name": "c", "downwardAPI": {}}, {"name": "d", "emptyDir": {}}, {"name": "e", "ephemeral": {}},
            {"name": "f", "persistentVolumeClaim": {}}, {"name": "g", "projected": {}}, {"name": "h", "secret": {}}]), json!([{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "nfs": {}}]),
            r#"restricted volume types (volumes "v", "w" use restricted volume types "hostPath", "nfs")"#),
        ("/spec/volumes", json!([]), json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
            r#"restricted volume types (volume "v" uses restricted volume type "hostPath")"#),
        ("/spec/volumes", json!([]), json!([{"name": "v", "image": {}}]),
            r#"restricted volume types (volume "v" uses restricted volume type "unknown")"#),
        (&at("runAsNonRoot"), json!(true), json!(false), r#"runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false)"#),
        ("/spec/securityContext/runAsNonRoot", json!(true), json!(false), "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)"),
        ("/spec/securityContext/runAsNonRoot", json!(true), Value::Null, r#"runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true)"#),
        (&at("runAsUser"), json!(1000), json!(0), r#"runAsUser=0 (container "a" must not set runAsUser=0)"#),
        ("/spec/securityContext/runAsUser", json!(1), json!(0), "runAsUser=0 (pod must not set runAsUser=0)"),
        ("/spec/securityContext/seccompProfile", json!({"type": "Localhost"}), Value::Null,
            r#"seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#),
        ("/spec/securityContext/seccompProfile", json!({"type": "RuntimeDefault"}), json!({"type": "Unconfined"}),
            r#"seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")"#),
        ("/spec/hostPID", json!(false), json!(true), "host namespaces (hostPID=true)"),
    ]);
}

#[test]
fn all_containers_count() {
    let mut pod = good();
    pod["spec"]["initContainers"] = json!([{"name": "i", "securityContext": {"privileged": true}}]);
    pod["spec"]["ephemeralContainers"] = json!([{"name": "e", "securityContext": {"privileged": true}}]);
    check_at(
        standard(Level::Baseline, LATEST),
        &pod,
        r#"privileged (containers "i", "e" must not set securityContext.privileged=true)"#,
    );
    let mut pod = with("/spec/securityContext/runAsUser", json!(0));
    pod["spec"]["containers"][0]["securityContext"]["runAsUser"] = json!(0);
    check_at(
        standard(Level::Restricted, LATEST),
        &pod,
        r#"runAsUser=0 (pod and container "a" must not set runAsUser=0)"#,
    );
}

#[test]
fn a_version_has_the_controls_of_its_time() {
    let changes = [
        (
            "/spec/securityContext/sysctls",
            json!([{"name": "net.ipv4.ip_local_reserved_ports"}]),
            Level::Baseline,
            27,
            true,
        ),
        ("/spec/securityContext/sysctls", json!([{"name": "net.ipv4.tcp_fin_timeout"}]), Level::Baseline, 29, true),
        ("/spec/securityContext/sysctls", json!([{"name": "net.ipv4.tcp_wmem"}]), Level::Baseline, 32, true),
        ("/spec/securityContext/seLinuxOptions", json!({"type": "container_engine_t"}), Level::Baseline, 31, true),
        ("/spec/containers/0/startupProbe", json!({"tcpSocket": {"host": "x"}}), Level::Baseline, 34, false),
        ("/spec/securityContext/runAsUser", json!(0), Level::Restricted, 23, false),
        ("/spec/containers/0/securityContext/capabilities", json!({}), Level::Restricted, 22, false),
        ("/spec/securityContext/seccompProfile", Value::Null, Level::Restricted, 19, false),
        ("/spec/containers/0/securityContext/allowPrivilegeEscalation", Value::Null, Level::Restricted, 8, false),
    ];
    for (pointer, value, level, minor, passes_since) in changes {
        let pod = with(pointer, value);
        for (version, since) in [(minor - 1, false), (minor, true), (minor + 1, true), (9999, true)] {
            let passes = violations(standard(level, Version::Minor(version)), &pod).is_empty();
            assert_eq!(passes, since == passes_since, "{pointer} as of 1.{version}");
        }
        assert_eq!(violations(standard(level, LATEST), &pod).is_empty(), passes_since, "{pointer}");
    }
    let annotated = with("/metadata/annotations", json!({"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}));
    check_at(
        standard(Level::Baseline, Version::Minor(18)),
        &annotated,
        r#"seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")"#,
    );
    check_at(standard(Level::Baseline, LATEST), &annotated, "");
}

/// Upstream lets these off; here they run as any other.
#[test]
fn nothing_is_let_off_for_what_has_no_effect() {
    let mut pod = json!({"spec": {"hostUsers": false, "os": {"name": "windows"}, "containers": [{"name": "x"}]}});
    assert_eq!(violations(standard(Level::Restricted, LATEST), &pod).len(), 4);
    pod["spec"]["containers"][0]["securityContext"] = json!({"procMount": "Unmasked"});
    assert_eq!(violations(standard(Level::Baseline, LATEST), &pod).len(), 1);
}

#[test]
fn labels_say_what_is_asked() {
    let policy = |labels: Value| {
        let object = json!({"metadata": {"labels": labels}});
        let (policy, errors) = Policy::of(meta::labels(&object));
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        (format!("{} {} {}", policy.enforce, policy.audit, policy.warn), errors)
    };
    assert_eq!(policy(Value::Null), ("privileged:latest privileged:latest privileged:latest".to_owned(), vec![]));
    let asked = json!({"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/enforce-version": "v1.29",
        "pod-security.kubernetes.io/warn": "restricted", "pod-security.kubernetes.io/audit-version": "latest"});
    assert_eq!(policy(asked), ("baseline:v1.29 privileged:latest restricted:latest".to_owned(), vec![]));
    let (read, errors) = policy(json!({"pod-security.kubernetes.io/enforce": "Baseline",
        "pod-security.kubernetes.io/warn": "", "pod-security.kubernetes.io/warn-version": "v1.029"}));
    assert_eq!(read, "restricted:latest privileged:latest privileged:latest");
    assert_eq!(
        errors,
        [
            r#"metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "Baseline": must be one of privileged, baseline, restricted"#,
            r#"metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: "": must be one of privileged, baseline, restricted"#,
            r#"metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "v1.029": must be "latest" or "v1.x""#,
        ]
    );
    for wrong in ["v1.", "v1", "1.29", "v2.0", "v1.-1", "v1.+1", "v1.99999999999", "Latest", "v1.29.1"] {
        assert_eq!(Version::parse(wrong), None, "{wrong}");
    }
    assert_eq!(Version::parse("v1.0"), Some(Version::Minor(0)));
}

#[test]
fn only_what_is_looked_at_is_significant() {
    let changes = [
        ("/metadata/labels", json!({"a": "b"}), false),
        ("/metadata/annotations", json!({"a": "b"}), false),
        ("/metadata/annotations", json!({"container.apparmor.security.beta.kubernetes.io/a": "x"}), true),
        ("/metadata/annotations", json!({"seccomp.security.alpha.kubernetes.io/pod": "x"}), true),
        ("/spec/activeDeadlineSeconds", json!(1), false),
        ("/spec/tolerations", json!([{"operator": "Exists"}]), false),
        ("/spec/containers/0/resources", json!({"limits": {"cpu": "1"}}), false),
        ("/spec/containers/0/image", json!("localhost/b:1"), true),
        ("/spec/ephemeralContainers", json!([{"name": "e"}]), true),
        ("/spec/hostNetwork", json!(true), true),
        ("/status", json!({"phase": "Running"}), false),
    ];
    for (pointer, value, significant) in changes {
        assert_eq!(is_significant(&with(pointer, value), &good()), significant, "{pointer}");
    }
}
