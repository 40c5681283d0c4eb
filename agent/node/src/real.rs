//! Pods on a real containerd of their own, with the stock network plugins.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use skiff_cri::{Runtime, Supervisor, files_archive};
use tokio_util::sync::CancellationToken;

use crate::testing::{TestApi, condition};
use crate::{Config, Node, NodeApi};

pub const IMAGE: &str = "localhost/busybox:1";

pub struct RealBox {
    pub api: TestApi,
    pub server: NodeApi,
    config: Config,
    runtime: Arc<dyn Runtime>,
    supervisor: Option<Supervisor>,
    shutdown: CancellationToken,
    bridge: String,
    dir: tempfile::TempDir,
}

impl RealBox {
    pub async fn new(number: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (data, run) = (dir.path().join("data"), dir.path().join("run"));
        let settings = skiff_cri::Config::under(&data, &run);
        let bridge = format!("nodetest{number}");
        write_network(&settings.cni_conf_dir, &bridge, number, dir.path());
        let supervisor = Supervisor::start(settings, None).await.unwrap();
        let client = supervisor.client();
        import(&client, dir.path()).await;
        let mut config = Config::new("box", &data);
        config.cgroup_parent = format!("/skiff-node-test{number}");
        config.node_ips = vec!["127.0.0.1".parse().unwrap()];
        config.cluster_dns = vec!["10.43.0.10".parse().unwrap()];
        let api = TestApi::default();
        let runtime: Arc<dyn Runtime> = Arc::new(client);
        let shutdown = CancellationToken::new();
        let node = Node::build(config.clone(), api.client(), Arc::clone(&runtime), &shutdown);
        let server = node.server();
        tokio::spawn(node.run(shutdown.clone()));
        Self { api, server, config, runtime, supervisor: Some(supervisor), shutdown, bridge, dir }
    }

    /// As after an update of the agent.
    async fn restart(&mut self) {
        self.shutdown.cancel();
        self.shutdown = CancellationToken::new();
        let node = Node::build(self.config.clone(), self.api.client(), Arc::clone(&self.runtime), &self.shutdown);
        self.server = node.server();
        tokio::spawn(node.run(self.shutdown.clone()));
    }

    async fn container_ids(&self) -> Vec<String> {
        let all = self.runtime.list_containers(Default::default()).await.unwrap();
        let mut ids: Vec<_> = all.into_iter().map(|container| container.id).collect();
        ids.sort();
        ids
    }

    pub async fn stop(mut self) {
        for path in self.api.paths("/pods/") {
            self.api.delete(&path, 1);
            self.api.wait(&path, "never deleted", |pod| pod.is_none()).await;
        }
        self.shutdown.cancel();
        if let Some(supervisor) = self.supervisor.take() {
            supervisor.stop().await.unwrap();
        }
    }
}

impl Drop for RealBox {
    /// Leaves nothing behind, also when a test fails.
    fn drop(&mut self) {
        self.shutdown.cancel();
        let here = self.dir.path().to_string_lossy().into_owned();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&arguments).contains(&here) {
                kill(&entry.file_name().to_string_lossy());
            }
        }
        for dir in skiff_cgroup_dirs(&self.config.cgroup_parent) {
            kill_tree(&dir);
        }
        let _ = crate::volumes::mounts::remove_all(self.dir.path());
        let _ = std::process::Command::new("ip").args(["link", "del", &self.bridge]).output();
    }
}

fn kill(pid: &str) {
    if let Ok(pid) = pid.parse::<i32>() {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
    }
}

fn kill_tree(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        kill_tree(&entry.path());
    }
    std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines().for_each(kill);
    let _ = std::fs::remove_dir(dir);
}

fn skiff_cgroup_dirs(parent: &str) -> Vec<std::path::PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    hierarchies.chain([root.to_owned()]).map(|dir| dir.join(parent.trim_start_matches('/'))).collect()
}

fn write_network(dir: &Path, bridge: &str, number: u8, state: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    let list = json!({
        "cniVersion": "0.4.0", "name": bridge,
        "plugins": [{
            "type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": false, "hairpinMode": true,
            "ipam": {
                "type": "host-local", "dataDir": state.join("ipam"),
                "ranges": [[{"subnet": format!("10.231.{number}.0/24")}]], "routes": [{"dst": "0.0.0.0/0"}],
            },
        }],
    });
    std::fs::write(dir.join("10-test.conflist"), list.to_string()).unwrap();
}

async fn import(client: &skiff_cri::Containerd, dir: &Path) {
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let archive = dir.join("busybox.tar");
    let files = [("bin/busybox", 0o755, busybox.as_slice()), ("bin/sh", 0o755, busybox.as_slice())];
    std::fs::write(&archive, files_archive(IMAGE, &files, r#"["/bin/busybox"]"#)).unwrap();
    client.import_images(&archive).await.unwrap();
    while client.image_status(IMAGE).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn sleeper() -> Value {
    json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "app", "image": IMAGE, "command": ["/bin/sh", "-c", "echo up; exec /bin/busybox sleep 1000"]}],
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_run_on_containerd() {
    let mut test = RealBox::new(1).await;
    test.api.wait("/api/v1/nodes/box", "not ready", |node| condition(node, "Ready") == Some("True")).await;
    let start = Instant::now();
    let path = test.api.pod("one", sleeper());
    let pod = test.api.wait_ready(&path).await;
    eprintln!("one pod ready after {:?}", start.elapsed());
    let ip: IpAddr = pod["status"]["podIP"].as_str().unwrap().parse().unwrap();
    assert!(ip.to_string().starts_with("10.231.1."));

    let start = Instant::now();
    let paths: Vec<_> = (0..20).map(|n| test.api.pod(&format!("p{n}"), sleeper())).collect();
    for path in &paths {
        test.api.wait_ready(path).await;
    }
    eprintln!("twenty pods ready after {:?}", start.elapsed());

    let before = test.container_ids().await;
    assert_eq!(before.len(), 21);
    test.restart().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(test.container_ids().await, before);
    for path in &paths {
        assert_eq!(test.api.get(path).unwrap()["status"]["containerStatuses"][0]["restartCount"], 0);
    }
    let start = Instant::now();
    for path in &paths {
        test.api.delete(path, 1);
    }
    for path in &paths {
        test.api.wait(path, "never deleted", |pod| pod.is_none()).await;
    }
    eprintln!("twenty pods deleted after {:?}", start.elapsed());
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_environment_and_limits_reach_the_container() {
    let test = RealBox::new(2).await;
    let object =
        |kind: &str, data: Value| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "c"}, "data": data});
    test.api.put("/api/v1/namespaces/default/configmaps/c", object("ConfigMap", json!({"k": "from map"})));
    test.api.put("/api/v1/namespaces/default/secrets/c", object("Secret", json!({"s": "c2VjcmV0"})));
    let script = "echo $A; echo $IP; cat /map/k; echo; cat /secret/s; echo; cat /token/token; echo; cat /etc/resolv.conf; \
                  hostname; echo hello > /empty/f; id -u; echo last words > /dev/termination-log; grep one /etc/hosts; exit 4";
    let mounts = json!([
        {"name": "map", "mountPath": "/map"}, {"name": "secret", "mountPath": "/secret", "readOnly": true},
        {"name": "token", "mountPath": "/token"}, {"name": "empty", "mountPath": "/empty", "subPath": "a/b"},
    ]);
    let spec = json!({
        "restartPolicy": "Never", "securityContext": {"runAsUser": 1000, "fsGroup": 2000},
        "volumes": [
            {"name": "map", "configMap": {"name": "c"}}, {"name": "secret", "secret": {"secretName": "c"}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            {"name": "empty", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        ],
        "containers": [{
            "name": "app", "image": IMAGE,
            "command": ["/bin/busybox", "sh", "-c", format!("PATH=/x; for a in cat hostname id grep; do alias $a=\"/bin/busybox $a\"; done; {script}")],
            "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
                    {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}},
            "volumeMounts": mounts,
        }],
    });
    let path = test.api.pod("one", spec);
    let done = |pod: Option<&Value>| pod.unwrap()["status"]["phase"] == "Failed";
    let pod = test.api.wait(&path, "never done", done).await.unwrap();
    let terminated = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    let uid = pod["metadata"]["uid"].as_str().unwrap();
    let log = test.config.pod_log_dir("default", "one", uid).join("app/0.log");
    let text = std::fs::read_to_string(log).unwrap();
    eprintln!("{text}");
    assert_eq!((&terminated["exitCode"], &terminated["reason"]), (&json!(4), &json!("Error")), "{text}");
    assert_eq!(terminated["message"], "last words\n");
    for expected in ["F from map", "F 10.231.2.", "F secret", "F t0k3n", "nameserver 10.43.0.10", "F one", "F 1000"] {
        assert!(text.contains(expected), "{expected}");
    }
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_out_of_memory_is_told_and_restarts() {
    let test = RealBox::new(3).await;
    let script = "/bin/busybox tail -f /dev/zero";
    let spec = json!({
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "app", "image": IMAGE, "command": ["/bin/sh", "-c", script],
            "resources": {"limits": {"memory": "16Mi"}},
        }],
    });
    let path = test.api.pod("one", spec);
    let killed = |pod: Option<&Value>| {
        let status = &pod.unwrap()["status"]["containerStatuses"][0];
        status["restartCount"].as_i64() > Some(0) && status["lastState"]["terminated"]["exitCode"].as_i64().is_some()
    };
    let pod = test.api.wait(&path, "never killed", killed).await.unwrap();
    eprintln!("{}", pod["status"]["containerStatuses"][0]["lastState"]);
    test.stop().await;
}
