//! What the tests of the ingress share: manifests, a client, and what is served to it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use skiff_tests::running_box::RunningBox;
use skiff_tests::{addresses, command};

use crate::{image, web};

/// An Ingress of one Service.
#[derive(Default)]
pub struct Manifest<'a> {
    pub name: &'a str,
    pub host: &'a str,
    /// `web` if it is empty.
    pub service: &'a str,
    /// TLS for the host; `Some("")` names no Secret.
    pub tls: Option<&'a str>,
    /// Without the prefix.
    pub annotations: &'a [(&'a str, &'a str)],
}

impl Manifest<'_> {
    pub fn text(&self) -> String {
        let Self { name, host, service, tls, annotations } = self;
        let service = if service.is_empty() { "web" } else { service };
        let annotations: String =
            annotations.iter().map(|(key, value)| format!("    ingress.skiff.dev/{key}: \"{value}\"\n")).collect();
        let tls = match tls {
            Some("") => format!("  tls:\n  - hosts: [\"{host}\"]\n"),
            Some(secret) => format!("  tls:\n  - {{hosts: [\"{host}\"], secretName: {secret}}}\n"),
            None => String::new(),
        };
        format!(
            "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {name}
  annotations:
    example.org/of: tests
{annotations}spec:
{tls}  rules:
  - host: \"{host}\"
    http:
      paths:
      - {{path: /, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 80}}}}}}}}
---
"
        )
    }
}

/// A Service of a program on this machine, which listens on `port` of all addresses.
pub fn outside(name: &str, port: u16, app_protocol: &str) -> anyhow::Result<String> {
    let address = addresses::own()?;
    Ok(format!(
        "apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  ports: [{{name: http, port: 80, appProtocol: {app_protocol}}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  labels: {{kubernetes.io/service-name: {name}}}
addressType: IPv4
ports: [{{name: http, port: {port}, protocol: TCP}}]
endpoints:
- {{addresses: [\"{address}\"], conditions: {{ready: true}}}}
---
"
    ))
}

/// Web servers that Ingresses can lead to, in the default namespace of a box.
pub fn start_web(running: &RunningBox, replicas: u32) -> anyhow::Result<()> {
    running.apply(&web::deployment(&image("nginx:1"), replicas))?;
    running.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]).map(drop)
}

/// The certificate of the box's CA, fetched as a person does and kept in `dir`.
pub fn box_ca(running: &RunningBox, dir: &Path) -> anyhow::Result<PathBuf> {
    let file = dir.join("ca.pem");
    let url = format!("http://127.0.0.1:{}/ca.pem", running.http_port());
    command::run("/usr/bin/curl", ["-sS4f", "-o", &file.to_string_lossy(), &url])?;
    Ok(file)
}

/// Fetches the start page of a host by HTTPS; the certificate has to be good.
pub fn fetch(running: &RunningBox, host: &str, root: &Path) -> anyhow::Result<String> {
    let port = running.https_port();
    let (resolve, url) = (format!("{host}:{port}:127.0.0.1"), format!("https://{host}:{port}/"));
    let root = root.to_string_lossy();
    command::run("/usr/bin/curl", ["-sSf", "-m", "5", "--cacert", &root, "--resolve", &resolve, &url])
}

/// What `openssl x509` says with this option (`-serial`, `-issuer`) of the certificate that is served for a host now.
pub fn served(running: &RunningBox, host: &str, option: &str) -> anyhow::Result<String> {
    let mut client = Command::new("/usr/bin/openssl");
    client.args(["s_client", "-connect", &format!("127.0.0.1:{}", running.https_port()), "-servername", host]);
    let chain = command::output(client)?.stdout;
    ensure!(chain.contains("BEGIN CERTIFICATE"), "no certificate was served for {host}");
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(chain.as_bytes())?;
    let said = command::run("/usr/bin/openssl", ["x509", "-noout", option, "-in", &file.path().to_string_lossy()])?;
    said.trim().split_once('=').map(|(_, value)| value.to_owned()).context(said.clone())
}
