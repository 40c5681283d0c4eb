//! containerd's configuration file, rendered from `Config`. Everything that pods do not need is switched off, which
//! keeps containerd small. It touches nothing.

use std::fmt::Write as _;
use std::path::Path;

use super::Config;

/// Plugins that only cost memory here: other snapshotters, tracing, containerd's own restarter (the node
/// agent restarts containers) and the directory for extra binaries, which a read-only root would refuse.
const PLUGINS_OFF: &[&str] = &[
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.internal.v1.tracing",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
];

/// containerd goes last when memory is short, just before the agent.
const OOM_SCORE: i32 = -999;

/// What the machine decides rather than the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomScores {
    /// The process may lower OOM scores.
    Free,
    /// Without CAP_SYS_RESOURCE no process can be given a score below our own.
    Restricted,
}

/// A value of TOML's basic string.
fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn path(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

/// containerd's configuration, format version 2 (containerd 1.6 and 1.7; 2.x converts it when it starts). What a version
/// does not know it passes over: 1.6 does not flush layers to the disk before it takes them for there.
pub fn render(config: &Config, oom: OomScores) -> String {
    let mut off: Vec<String> = PLUGINS_OFF.iter().map(|name| quote(name)).collect();
    if config.snapshotter != "native" {
        off.push(quote("io.containerd.snapshotter.v1.native"));
    }
    let restricted = oom == OomScores::Restricted;
    let oom_score = if restricted { 0 } else { OOM_SCORE };
    let mut text = format!(
        "# Written by skiff at each start: changes are lost.\nversion = 2\nroot = {root}\nstate = {state}\n\
         oom_score = {oom_score}\ndisabled_plugins = [{off}]\n\n",
        root = path(&config.root),
        state = path(&config.state),
        off = off.join(", "),
    );
    if let Some(cgroup) = &config.cgroup {
        let _ = write!(text, "[cgroup]\npath = {}\n\n", quote(cgroup));
    }
    let _ = write!(
        text,
        "[debug]\nlevel = \"warn\"\n\n\
         [grpc]\naddress = {socket}\n\n\
         [plugins.\"io.containerd.monitor.v1.cgroups\"]\nno_prometheus = true\n\n\
         [plugins.\"io.containerd.grpc.v1.cri\"]\n\
         sandbox_image = {sandbox}\n\
         restrict_oom_score_adj = {restricted}\n\
         max_concurrent_downloads = {downloads}\n\
         image_pull_with_sync_fs = true\n\
         netns_mounts_under_state_dir = true\n\
         enable_unprivileged_ports = true\nenable_unprivileged_icmp = true\n\
         stream_server_address = \"127.0.0.1\"\nstream_server_port = \"0\"\n\n\
         [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = {bin}\nconf_dir = {conf}\n\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = {snapshotter}\n\
         default_runtime_name = \"runc\"\ndiscard_unpacked_layers = true\n\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\n\
         [plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc.options]\n\
         BinaryName = {runtime}\nRoot = {runtime_root}\nSystemdCgroup = {systemd}\n",
        socket = path(&config.socket),
        sandbox = quote(&config.sandbox_image),
        downloads = config.concurrent_downloads_max,
        bin = path(&super::plugins::dir(config)),
        conf = path(&config.cni_conf_dir),
        snapshotter = quote(&config.snapshotter),
        runtime = path(&config.runtime),
        runtime_root = path(&config.state.join("runc")),
        systemd = config.systemd_cgroup,
    );
    if let Some(dir) = &config.registry_hosts_dir {
        let _ = write!(text, "\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = {}\n", path(dir));
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn config() -> Config {
        Config {
            cgroup: Some("/skiff/containerd".to_owned()),
            ..Config::under(Path::new("/var/lib/box"), Path::new("/run/box"))
        }
    }

    #[test]
    fn a_whole_file() {
        expect![[r##"
            # Written by skiff at each start: changes are lost.
            version = 2
            root = "/var/lib/box/containerd"
            state = "/run/box/containerd"
            oom_score = 0
            disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.restart", "io.containerd.internal.v1.tracing", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.snapshotter.v1.native"]

            [cgroup]
            path = "/skiff/containerd"

            [debug]
            level = "warn"

            [grpc]
            address = "/run/box/containerd/containerd.sock"

            [plugins."io.containerd.monitor.v1.cgroups"]
            no_prometheus = true

            [plugins."io.containerd.grpc.v1.cri"]
            sandbox_image = "localhost/skiff/pause:1"
            restrict_oom_score_adj = true
            max_concurrent_downloads = 3
            image_pull_with_sync_fs = true
            netns_mounts_under_state_dir = true
            enable_unprivileged_ports = true
            enable_unprivileged_icmp = true
            stream_server_address = "127.0.0.1"
            stream_server_port = "0"

            [plugins."io.containerd.grpc.v1.cri".cni]
            bin_dir = "/var/lib/box/containerd/skiff-cni"
            conf_dir = "/run/box/cni/net.d"

            [plugins."io.containerd.grpc.v1.cri".containerd]
            snapshotter = "overlayfs"
            default_runtime_name = "runc"
            discard_unpacked_layers = true

            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
            runtime_type = "io.containerd.runc.v2"

            [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
            BinaryName = "runc"
            Root = "/run/box/containerd/runc"
            SystemdCgroup = false
        "##]]
        .assert_eq(&render(&config(), OomScores::Restricted));
    }

    #[test]
    fn strings_are_escaped() {
        assert_eq!(quote("a\"b\\c\n"), r#""a\"b\\c\u000a""#);
    }
}
