//! What goes into the bundle: asked of the API where it answers, and of the machine in any case.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use skiff_settings::Settings;
use skiff_store::{Embedded, ListOptions, Store};

use super::objects;
use super::redact::Redactor;
use super::{TEXT_BYTES_MAX, Text};
use crate::commands::client::Client;
use crate::commands::{CONFIG, status};
use crate::paths::Paths;
use crate::supervision::Plan;

const COMMAND_TIME_MAX: Duration = Duration::from_secs(20);
const API_TIME_MAX: Duration = Duration::from_secs(20);
/// Twice what is kept of a text: redaction makes it shorter.
const READ_BYTES_MAX: usize = 2 * TEXT_BYTES_MAX;
/// Literal environment variables that are shorter are numbers and words.
const VALUE_LENGTH_MIN: usize = 6;

const OBJECTS: &[(&str, &str)] = &[
    ("nodes", "/api/v1/nodes"),
    ("namespaces", "/api/v1/namespaces"),
    ("pods", "/api/v1/pods"),
    ("services", "/api/v1/services"),
    ("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("configmaps", "/api/v1/configmaps"),
    ("secrets", "/api/v1/secrets"),
    ("serviceaccounts", "/api/v1/serviceaccounts"),
    ("persistentvolumes", "/api/v1/persistentvolumes"),
    ("persistentvolumeclaims", "/api/v1/persistentvolumeclaims"),
    ("events", "/api/v1/events"),
    ("deployments", "/apis/apps/v1/deployments"),
    ("replicasets", "/apis/apps/v1/replicasets"),
    ("statefulsets", "/apis/apps/v1/statefulsets"),
    ("daemonsets", "/apis/apps/v1/daemonsets"),
    ("jobs", "/apis/batch/v1/jobs"),
    ("cronjobs", "/apis/batch/v1/cronjobs"),
    ("ingresses", "/apis/networking.k8s.io/v1/ingresses"),
    ("ingressclasses", "/apis/networking.k8s.io/v1/ingressclasses"),
];

const COMMANDS: &[(&str, &[&str])] = &[
    ("versions/kernel.txt", &["uname", "-a"]),
    ("versions/containerd.txt", &["containerd", "--version"]),
    ("versions/runc.txt", &["runc", "--version"]),
    ("logs/agent.txt", &["journalctl", "--no-pager", "--lines=5000", "--unit=skiff.service"]),
    ("logs/containerd-unit.txt", &["journalctl", "--no-pager", "--lines=5000", "--unit=skiff-containerd.service"]),
    ("logs/kernel.txt", &["dmesg", "--time-format=iso"]),
    ("network/nftables.txt", &["nft", "list", "ruleset"]),
    ("network/addresses.txt", &["ip", "address"]),
    ("network/links.txt", &["ip", "-statistics", "link"]),
    ("network/routes.txt", &["ip", "route", "show", "table", "all"]),
    ("network/rules.txt", &["ip", "rule"]),
    ("network/sockets.txt", &["ss", "-tulnp"]),
    ("machine/disk.txt", &["df", "-hT"]),
    ("machine/inodes.txt", &["df", "-i"]),
    ("machine/units.txt", &["systemctl", "--no-pager", "list-units", "--all"]),
    ("machine/unit-skiff.txt", &["systemctl", "--no-pager", "--lines=0", "status", "skiff", "skiff-containerd"]),
    ("machine/time.txt", &["timedatectl", "status"]),
];

const FILES: &[(&str, &str)] = &[
    ("versions/os-release.txt", "/etc/os-release"),
    ("network/resolv.conf", "/etc/resolv.conf"),
    ("machine/mounts.txt", "/proc/self/mountinfo"),
    ("machine/memory.txt", "/proc/meminfo"),
    ("machine/load.txt", "/proc/loadavg"),
    ("machine/pressure-memory.txt", "/proc/pressure/memory"),
    ("machine/pressure-io.txt", "/proc/pressure/io"),
    ("machine/cgroups.txt", "/proc/cgroups"),
    ("machine/command-line.txt", "/proc/cmdline"),
];

#[derive(Default)]
pub struct Collected {
    pub texts: Vec<Text>,
    /// What could not be had, and why.
    pub missing: Vec<String>,
    pub redactor: Redactor,
}

impl Collected {
    fn add(&mut self, name: impl Into<String>, content: impl Into<String>) {
        self.texts.push(Text { name: name.into(), content: content.into() });
    }
}

pub async fn collect(paths: &Paths) -> anyhow::Result<Collected> {
    let mut collected = Collected::default();
    collected.add(
        "versions/skiff.txt",
        format!("skiff {}\nKubernetes {}\n", env!("CARGO_PKG_VERSION"), skiff_apiserver::git_version()),
    );
    settings(paths, &mut collected);
    for name in ["ca.key", "server.key", "admin.key", "service-account.key"] {
        know_file(&paths.pki().join(name), &mut collected.redactor);
    }
    if let Ok(code) = std::fs::read_to_string(paths.code()) {
        collected.redactor.add(code.trim().as_bytes());
        collected.redactor.add(code.trim().replace('-', "").as_bytes());
    }
    match tokio::time::timeout(API_TIME_MAX, objects(paths, &mut collected)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => not_answered(paths, &format!("{error:#}"), &mut collected).await,
        Err(_) => not_answered(paths, "the API does not answer in time", &mut collected).await,
    }
    match tokio::time::timeout(API_TIME_MAX, status::text(paths)).await {
        Ok(Ok(text)) => collected.add("status.txt", text),
        Ok(Err(error)) => collected.add("status.txt", format!("{error:#}\n")),
        Err(_) => collected.add("status.txt", "the box does not answer in time\n"),
    }
    machine(paths, &mut collected).await;
    Ok(collected)
}

/// The settings, and the secrets in files that they name.
fn settings(paths: &Paths, collected: &mut Collected) {
    for (name, path) in [("settings/running.toml", paths.settings()), ("settings/skiff.toml", CONFIG.into())] {
        let Ok(text) = std::fs::read_to_string(&path) else {
            collected.missing.push(format!("{} (there is none)", path.display()));
            continue;
        };
        collected.add(name, text);
        let Ok(settings) = Settings::read(&path) else { continue };
        let acme = &settings.acme;
        let fallback = acme.fallback.as_ref().and_then(|second| second.account_hmac_key_file.as_ref());
        let tsig = acme.dns.as_ref().and_then(|dns| dns.tsig_secret_file.as_ref());
        let inline_fallback = acme.fallback.as_ref().and_then(|second| second.account_hmac_key.as_ref());
        let inline_tsig = acme.dns.as_ref().and_then(|dns| dns.tsig_secret.as_ref());
        for secret in acme.account_hmac_key.iter().chain(inline_fallback) {
            collected.redactor.add(secret.expose().as_bytes());
        }
        if let Some(secret) = inline_tsig {
            collected.redactor.add(secret.expose().as_bytes());
        }
        if let Some(hash) = &settings.host.admin.password_hash {
            collected.redactor.add(hash.expose().as_bytes());
        }
        for file in acme.account_hmac_key_file.iter().chain(fallback).chain(tsig) {
            know_file(file, &mut collected.redactor);
        }
    }
}

fn know_file(path: &Path, redactor: &mut Redactor) {
    if let Ok(content) = std::fs::read(path) {
        redactor.add(&content);
    }
}

async fn objects(paths: &Paths, collected: &mut Collected) -> anyhow::Result<()> {
    let mut client = Client::connect(paths).await?;
    let secrets = client.get("/api/v1/secrets").await?;
    for secret in secrets["items"].as_array().into_iter().flatten() {
        know_secret(secret, &mut collected.redactor);
    }
    for (name, path) in OBJECTS {
        match client.get(path).await {
            Ok(list) => {
                know_environment(&list, &mut collected.redactor);
                let text = serde_json::to_string_pretty(&objects::strip(list))?;
                collected.add(format!("objects/{name}.json"), text);
            }
            Err(error) => collected.missing.push(format!("{name}: {error:#}")),
        }
    }
    Ok(())
}

fn know_secret(secret: &Value, redactor: &mut Redactor) {
    for value in secret["data"].as_object().into_iter().flat_map(|data| data.values()) {
        let bytes = value.as_str().and_then(|text| BASE64_STANDARD.decode(text).ok());
        if let Some(bytes) = bytes {
            redactor.add(&bytes);
        }
    }
}

fn know_environment(object: &Value, redactor: &mut Redactor) {
    let mut values = Vec::new();
    objects::environment(object, &mut values);
    for value in values.iter().filter(|value| value.len() >= VALUE_LENGTH_MIN) {
        redactor.add(value.as_bytes());
    }
}

/// Without the API its database tells what the secrets are. Nobody else uses it then, which the lock makes sure.
async fn not_answered(paths: &Paths, why: &str, collected: &mut Collected) {
    collected.missing.push(format!("API objects: {why}"));
    let known = async {
        let _lock = crate::agent::lock(paths)?;
        anyhow::ensure!(paths.store().exists(), "there is no database");
        let plan = Plan::new(Settings::default(), paths.clone())?;
        let keys = crate::sealing::Keys::read(&paths.sealing_key())?;
        let sealing_keys = keys.map(|keys| keys.secrets()).unwrap_or_default();
        let config = skiff_store::Config { sealing_keys, ..plan.store() };
        let store = tokio::task::spawn_blocking(move || Embedded::open(config)).await??;
        let page = store.list("/registry/", ListOptions::default()).await?;
        for entry in &page.entries {
            let Some(object) = skiff_apiserver::stored(entry) else { continue };
            if entry.key.starts_with("/registry/secrets/") {
                know_secret(&object, &mut collected.redactor);
            }
            know_environment(&object, &mut collected.redactor);
        }
        store.close().await;
        anyhow::Ok(())
    };
    if let Err(error) = known.await {
        let why = format!("Secrets could not be read ({error:#}): only what looks like a secret is replaced in logs");
        collected.missing.push(why);
    }
}

async fn machine(paths: &Paths, collected: &mut Collected) {
    for (name, path) in FILES {
        if let Some(text) = tail(Path::new(path)) {
            collected.add(*name, text);
        }
    }
    if let Some(text) = tail(&paths.containerd_log()) {
        collected.add("logs/containerd.txt", text);
    }
    for (name, command) in COMMANDS {
        match run(command).await {
            Ok(text) => collected.add(*name, text),
            Err(error) => collected.missing.push(format!("{}: {error:#}", command.join(" "))),
        }
    }
}

/// The end of a file.
fn tail(path: &Path) -> Option<String> {
    let content = std::fs::read(path).ok()?;
    let start = content.len().saturating_sub(READ_BYTES_MAX);
    Some(String::from_utf8_lossy(&content[start..]).into_owned())
}

async fn run(command: &[&str]) -> anyhow::Result<String> {
    let [program, arguments @ ..] = command else { anyhow::bail!("there is no program") };
    let mut process = tokio::process::Command::new(program);
    process.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(COMMAND_TIME_MAX, process.output()).await??;
    let mut all = output.stdout;
    all.extend(output.stderr);
    let start = all.len().saturating_sub(READ_BYTES_MAX);
    Ok(String::from_utf8_lossy(&all[start..]).into_owned())
}
