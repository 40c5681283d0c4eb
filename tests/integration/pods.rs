//! What a container finds inside: environment, files, names, tokens.

use anyhow::ensure;
use skiff_tests::wait;

use crate::{Place, SOON, image};

pub fn configuration_reaches_the_container(place: &Place<'_>) -> anyhow::Result<()> {
    place.kubectl(&["create", "configmap", "settings", "--from-literal=color=blue", "--from-literal=file=content"])?;
    place.kubectl(&["create", "secret", "generic", "keys", "--from-literal=password=swordfish"])?;
    place.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: inside, labels: {{tier: back}}}}
spec:
  terminationGracePeriodSeconds: 1
  hostname: named
  containers:
  - name: a
    image: {}
    command: [sleep, '1000']
    env:
    - {{name: COLOR, valueFrom: {{configMapKeyRef: {{name: settings, key: color}}}}}}
    - {{name: PASSWORD, valueFrom: {{secretKeyRef: {{name: keys, key: password}}}}}}
    - {{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
    - {{name: LIMIT, valueFrom: {{resourceFieldRef: {{resource: limits.memory}}}}}}
    - {{name: BOTH, value: $(COLOR)-$(POD)}}
    envFrom: [{{configMapRef: {{name: settings}}, prefix: S_}}]
    resources: {{limits: {{memory: 64Mi}}, requests: {{cpu: 10m}}}}
    volumeMounts:
    - {{name: config, mountPath: /config}}
    - {{name: keys, mountPath: /keys, readOnly: true}}
    - {{name: info, mountPath: /info}}
    - {{name: one, mountPath: /one.txt, subPath: file}}
  volumes:
  - {{name: config, configMap: {{name: settings, items: [{{key: file, path: dir/renamed}}]}}}}
  - {{name: keys, secret: {{secretName: keys, defaultMode: 256}}}}
  - {{name: info, downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}}}
  - {{name: one, configMap: {{name: settings}}}}
",
        image("busybox:1")
    ))?;
    place.wait_ready("pod/inside")?;
    let sh = |script: &str| place.kubectl(&["exec", "inside", "--", "sh", "-c", script]);
    let environment = sh("echo $COLOR $PASSWORD $POD $LIMIT $BOTH $S_color $KUBERNETES_SERVICE_PORT")?;
    ensure!(environment.trim() == "blue swordfish inside 67108864 blue-inside blue 443", "{environment}");
    let files =
        sh("cat /config/dir/renamed; echo; cat /keys/password; echo; cat /info/labels; echo; cat /one.txt; hostname")?;
    for part in ["content", "swordfish", "tier=\"back\"", "named"] {
        ensure!(files.contains(part), "{part} is not in {files}");
    }
    ensure!(sh("stat -L -c %a /keys/password")?.trim() == "400");
    ensure!(sh("grep ' /keys ' /proc/mounts")?.contains("tmpfs"), "secrets are never on a disk");
    ensure!(sh("cat /etc/resolv.conf")?.contains("svc.cluster.local"));
    ensure!(place.json(&["get", "pod", "inside"])?["status"]["qosClass"] == "Burstable");

    // A missing ConfigMap holds the container back and says so; when it comes, the container starts.
    place.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: waiting}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: a, image: {}, command: [sleep, '1000'], envFrom: [{{configMapRef: {{name: later}}}}]}}\n",
        image("busybox:1")
    ))?;
    place.wait_for(
        "pod/waiting",
        "{.status.containerStatuses[0].state.waiting.reason}",
        "CreateContainerConfigError",
    )?;
    place.kubectl(&["create", "configmap", "later", "--from-literal=a=b"])?;
    place.wait_for("pod/waiting", "{.status.phase}", "Running")
}

pub fn the_service_account_can_ask_the_api(place: &Place<'_>) -> anyhow::Result<()> {
    place.kubectl(&["create", "serviceaccount", "reader"])?;
    place.kubectl(&["create", "role", "reader", "--verb=get,list", "--resource=pods"])?;
    let account = format!("--serviceaccount={}:reader", place.namespace);
    place.kubectl(&["create", "rolebinding", "reader", "--role=reader", &account])?;
    let can_i = format!("--as=system:serviceaccount:{}:reader", place.namespace);
    wait::until("the role is in force", SOON, || {
        ensure!(place.try_kubectl(&["auth", "can-i", "list", "pods", &can_i])?.ok);
        Ok(())
    })?;
    place.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: asks}}\nspec:\n  serviceAccountName: reader\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: a, image: {}, command: [sleep, '1000']}}\n",
        image("busybox:1")
    ))?;
    place.wait_ready("pod/asks")?;
    let dir = "/var/run/secrets/kubernetes.io/serviceaccount";
    let token = place.kubectl(&["exec", "asks", "--", "cat", &format!("{dir}/token")])?;
    ensure!(place.kubectl(&["exec", "asks", "--", "cat", &format!("{dir}/namespace")])? == place.namespace);
    let ca = place.kubectl(&["exec", "asks", "--", "cat", &format!("{dir}/ca.crt")])?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), ca)?;
    let ask = |path: &str| {
        skiff_tests::command::run(
            "curl",
            [
                "-s",
                "--cacert",
                &file.path().to_string_lossy(),
                "-H",
                &format!("Authorization: Bearer {token}"),
                &format!("https://127.0.0.1:{}{path}", place.shared.running.api_port()),
            ],
        )
    };
    ensure!(ask(&format!("/api/v1/namespaces/{}/pods", place.namespace))?.contains("\"kind\":\"PodList\""));
    let refused = ask("/api/v1/nodes")?;
    ensure!(refused.contains("Forbidden") && refused.contains(":reader"), "{refused}");
    // A token is bound to its pod: it ends with it.
    place.kubectl(&["delete", "pod", "asks", &wait::kubectl_timeout(SOON)])?;
    ensure!(ask("/api")?.contains("Unauthorized"));
    Ok(())
}

/// Parts of volumes: made, files as well as folders, and no way out of the volume.
pub fn parts_of_volumes_stay_in_them(place: &Place<'_>) -> anyhow::Result<()> {
    place.kubectl(&["create", "configmap", "parts", "--from-literal=key=value"])?;
    place.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: parts}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{{name: data, emptyDir: {{}}}}, {{name: config, configMap: {{name: parts}}}}]
  initContainers:
  - {{name: fill, image: {image}, command: [sh, -c, 'echo one > /d/file; ln -s /etc /d/out; mkdir /d/in'], volumeMounts: [{{name: data, mountPath: /d}}]}}
  containers:
  - name: a
    image: {image}
    command: [sh, -c, 'trap exit TERM; sleep 100000 & wait']
    volumeMounts:
    - {{name: data, mountPath: /file, subPath: file}}
    - {{name: data, mountPath: /made, subPath: in/new}}
    - {{name: config, mountPath: /key, subPath: key}}
    - {{name: config, mountPath: /all}}
  - name: refused
    image: {image}
    volumeMounts: [{{name: data, mountPath: /out, subPath: out}}]
",
        image = image("busybox:1")
    ))?;
    let reason = "{.status.containerStatuses[?(@.name==\"refused\")].state.waiting.reason}";
    place.wait_for("pod/parts", reason, "CreateContainerConfigError")?;
    place.wait_for("pod/parts", "{.status.containerStatuses[?(@.name==\"a\")].ready}", "true")?;
    wait::until("an event says why", SOON, || {
        let events = place.kubectl(&["get", "events"])?;
        ensure!(events.contains("failed to prepare subPath for volumeMount \"data\""), "{events}");
        ensure!(events.contains("\"out\" goes through a symbolic link"), "{events}");
        Ok(())
    })?;
    let sh = |script: &str| place.kubectl(&["exec", "parts", "-c", "a", "--", "sh", "-c", script]);
    ensure!(sh("cat /file /key; echo hello > /made/f; cat /made/f")? == "one\nvaluehello\n");
    let refused =
        place.try_kubectl(&["exec", "parts", "-c", "a", "--", "sh", "-c", "echo x > /all/key || echo x > /key"])?;
    ensure!(!refused.ok && refused.stderr.contains("Read-only file system"), "{}", refused.stderr);
    let uid = place.kubectl(&["get", "pod", "parts", "-o", "jsonpath={.metadata.uid}"])?;
    let mounted = || std::fs::read_to_string("/proc/self/mountinfo").map(|table| table.contains(&uid));
    ensure!(mounted()?);
    place.kubectl(&["delete", "pod", "parts", &wait::kubectl_timeout(SOON)])?;
    ensure!(!mounted()?, "a part is still mounted");
    Ok(())
}

/// Clients that speak the oldest protocols, or nothing but WebSockets.
pub fn streams_of_old_clients(place: &Place<'_>) -> anyhow::Result<()> {
    place.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: old}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: a, image: {}, command: [sh, -c, 'echo said; trap exit TERM; sleep 100000 & wait']}}\n",
        image("busybox:1")
    ))?;
    place.wait_ready("pod/old")?;
    place.kubectl(&["create", "serviceaccount", "old"])?;
    place.kubectl(&["create", "role", "old", "--verb=get,create", "--resource=pods/log,pods/exec"])?;
    let account = format!("--serviceaccount={}:old", place.namespace);
    place.kubectl(&["create", "rolebinding", "old", "--role=old", &account])?;
    let token = place.kubectl(&["create", "token", "old"])?;
    let ask = |path: &str, protocol: &str| {
        let url = format!(
            "https://127.0.0.1:{}/api/v1/namespaces/{}/pods/old/{path}",
            place.shared.running.api_port(),
            place.namespace
        );
        let authorization = format!("Authorization: Bearer {}", token.trim());
        let offered = format!("Sec-WebSocket-Protocol: {protocol}");
        let mut arguments = vec!["-s", "-k", "-i", "--http1.1", "--max-time", "20", "-H", &authorization];
        arguments.extend(["-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13"]);
        arguments.extend(["-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]);
        if !protocol.is_empty() {
            arguments.extend(["-H", &offered]);
        }
        arguments.push(&url);
        skiff_tests::command::output({
            let mut command = std::process::Command::new("curl");
            command.args(&arguments);
            command
        })
    };
    wait::until("the role is in force", SOON, || {
        let answer = ask("log", "binary.k8s.io")?.stdout;
        ensure!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        ensure!(answer.to_lowercase().contains("sec-websocket-protocol: binary.k8s.io"), "{answer}");
        ensure!(answer.contains("said\n"), "{answer}");
        Ok(())
    })?;
    let answer = ask("log", "base64.binary.k8s.io")?.stdout;
    ensure!(answer.contains("c2FpZAo="), "{answer}");
    let answer = ask("log", "")?.stdout;
    ensure!(answer.contains("said\n"), "{answer}");
    let answer = ask("exec?command=echo&command=hello&stdout=1", "channel.k8s.io")?.stdout;
    ensure!(answer.starts_with("HTTP/1.1 101") && answer.contains("\u{1}hello\n"), "{answer:?}");
    let answer = ask("exec?command=false&stdout=1", "channel.k8s.io")?.stdout;
    ensure!(answer.contains("\u{3}command terminated with non-zero exit code"), "{answer:?}");
    Ok(())
}
