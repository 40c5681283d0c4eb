//! As whom pods run, and what does not go with their system.

use super::*;

fn spec(more: Value) -> Value {
    pod(with(json!({"containers": [{"name": "a", "image": "x"}]}), more))
}

#[test]
fn contexts_of_pods() {
    let context = |more: Value| spec(json!({"securityContext": more}));
    let sysctl = |name: &str| context(json!({"sysctls": [{"name": name, "value": "1"}]}));
    let at = "spec.securityContext";
    table(
        "v1",
        "Pod",
        &[
            (sysctl("net.ipv4.tcp_syncookies"), ""),
            (sysctl("net/ipv4/conf/eth0.1/forwarding"), ""),
            (
                sysctl("_net"),
                &format!(
                    r#"{at}.sysctls[0].name: Invalid value: "_net": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"#
                ),
            ),
            (
                context(json!({"sysctls": [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}]})),
                &format!("{at}.sysctls[1].name: Duplicate value: \"a\""),
            ),
            (
                context(json!({"fsGroupChangePolicy": "X"})),
                &format!(
                    "{at}.fsGroupChangePolicy: Unsupported value: \"X\": supported values: \"Always\", \"OnRootMismatch\""
                ),
            ),
            (
                context(json!({"supplementalGroupsPolicy": "X"})),
                &format!(
                    "{at}.supplementalGroupsPolicy: Unsupported value: \"X\": supported values: \"Merge\", \"Strict\""
                ),
            ),
            (
                context(json!({"seLinuxChangePolicy": "X"})),
                &format!(
                    "{at}.seLinuxChangePolicy: Unsupported value: \"X\": supported values: \"MountOption\", \"Recursive\""
                ),
            ),
            (
                context(json!({"supplementalGroups": [-1]})),
                &format!("{at}.supplementalGroups[0]: Invalid value: -1: must be between 0 and 2147483647, inclusive"),
            ),
            (
                spec(json!({"shareProcessNamespace": true, "hostPID": true})),
                &format!(
                    "{at}.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled"
                ),
            ),
            (spec(json!({"shareProcessNamespace": true})), ""),
            (
                spec(json!({"hostUsers": false, "hostNetwork": true})),
                "spec.hostNetwork: Forbidden: when `hostUsers` is false",
            ),
            (
                spec(json!({"hostUsers": false, "hostPID": true, "hostIPC": true})),
                "spec.hostPID: Forbidden: when `hostUsers` is false\nspec.hostIPC: Forbidden: when `hostUsers` is false",
            ),
            (spec(json!({"hostUsers": false})), ""),
            (spec(json!({"hostUsers": true, "hostNetwork": true})), ""),
        ],
    );
}

#[test]
fn profiles() {
    let app_armor = |profile: Value| one_container(json!({"securityContext": {"appArmorProfile": profile}}));
    let seccomp = |profile: Value| one_container(json!({"securityContext": {"seccompProfile": profile}}));
    let at = "spec.containers[0].securityContext";
    table(
        "v1",
        "Pod",
        &[
            (app_armor(json!({"type": "RuntimeDefault"})), ""),
            (
                app_armor(json!({"type": "X"})),
                &format!(
                    "{at}.appArmorProfile.type: Unsupported value: \"X\": supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\""
                ),
            ),
            (
                app_armor(json!({})),
                &format!("{at}.appArmorProfile.type: Required value: type is required when appArmorProfile is set"),
            ),
            (
                app_armor(json!({"type": "Localhost"})),
                &format!(
                    "{at}.appArmorProfile.localhostProfile: Required value: must be set when AppArmor type is Localhost"
                ),
            ),
            (
                app_armor(json!({"type": "Localhost", "localhostProfile": " p"})),
                &format!(
                    "{at}.appArmorProfile.localhostProfile: Invalid value: \" p\": must not be padded with whitespace"
                ),
            ),
            (
                app_armor(json!({"type": "Unconfined", "localhostProfile": "p"})),
                &format!(
                    "{at}.appArmorProfile.localhostProfile: Invalid value: \"p\": can only be set when AppArmor type is Localhost"
                ),
            ),
            (seccomp(json!({"type": "Localhost", "localhostProfile": "a/b.json"})), ""),
            (
                seccomp(json!({"type": "Localhost", "localhostProfile": "../b.json"})),
                &format!("{at}.seccompProfile.localhostProfile: Invalid value: \"../b.json\": must not contain '..'"),
            ),
            (
                seccomp(json!({})),
                &format!("{at}.seccompProfile.type: Required value: type is required when seccompProfile is set"),
            ),
            (
                seccomp(json!({"type": "X"})),
                &format!(
                    "{at}.seccompProfile.type: Unsupported value: \"X\": supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\""
                ),
            ),
        ],
    );
}

#[test]
fn contexts_of_containers() {
    let context = |more: Value| one_container(json!({"securityContext": more}));
    let at = "spec.containers[0].securityContext";
    table(
        "v1",
        "Pod",
        &[
            (
                context(json!({"procMount": "X"})),
                &format!("{at}.procMount: Unsupported value: \"X\": supported values: \"Default\", \"Unmasked\""),
            ),
            (
                context(json!({"procMount": "Unmasked"})),
                &format!("{at}.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"),
            ),
            (with(context(json!({"procMount": "Unmasked"})), json!({"spec": {"hostUsers": false}})), ""),
            (context(json!({"procMount": "Default"})), ""),
            (
                context(json!({"runAsUser": -1})),
                &format!("{at}.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive"),
            ),
            (
                context(json!({"windowsOptions": {"runAsUserName": ""}})),
                &format!(
                    "{at}.windowsOptions.runAsUserName: Invalid value: \"\": runAsUserName cannot be an empty string"
                ),
            ),
            (context(json!({"windowsOptions": {"runAsUserName": "NT\\user"}})), ""),
        ],
    );
}

#[test]
fn systems() {
    let windows = |more: Value| spec(with(json!({"os": {"name": "windows"}}), more));
    table(
        "v1",
        "Pod",
        &[
            (windows(json!({})), ""),
            (spec(json!({"os": {"name": "linux"}, "securityContext": {"fsGroup": 1}})), ""),
            (
                windows(json!({"securityContext": {"fsGroup": 1}})),
                "spec.securityContext.fsGroup: Forbidden: cannot be set for a windows pod",
            ),
            (
                windows(json!({"hostPID": true, "shareProcessNamespace": false})),
                "spec.hostPID: Forbidden: cannot be set for a windows pod\nspec.shareProcessNamespace: Forbidden: cannot be set for a windows pod",
            ),
            (
                with(
                    one_container(json!({"securityContext": {"privileged": false}})),
                    json!({"spec": {"os": {"name": "windows"}}}),
                ),
                "spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod",
            ),
            (
                spec(json!({"os": {"name": "linux"}, "securityContext": {"windowsOptions": {}}})),
                "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
            ),
            (
                spec(json!({"os": {"name": "plan9"}})),
                "spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\"",
            ),
            (spec(json!({"os": {}})), "spec.os.name: Required value: cannot be empty"),
            (
                spec(json!({"securityContext": {"windowsOptions": {"hostProcess": true}}})),
                "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers",
            ),
        ],
    );
}
