//! The box's own pages: how it is doing, what to do next, and the administrator's kubeconfig for whoever has the
//! one-time code. Server-side HTML without scripts.
//!
//! The pages are served through the ingress's proxy, which ends TLS and says who asks; here is listened on loopback
//! only. Nothing is kept but in memory, and the code and the CA's fingerprint in the run directory, for the screen.

mod access;
mod health;
mod kubeconfig;
mod machine;
mod page;
mod random;
mod server;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher;
use kube::{Api, Client};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use skiff_reconcile::Informer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use health::{Health, Pods, Problem};

#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    pub node_address: IpAddr,
    pub version: String,
    /// What the API's certificate is valid for: only these may stand in a kubeconfig that is handed out.
    pub api_names: Vec<String>,
    pub api_port: u16,
    /// Of the ingress, for links.
    pub https_port: u16,
    /// The administrator's, as it is used on this machine.
    pub kubeconfig: PathBuf,
    /// The disk that is shown is the one it is on.
    pub data_dir: PathBuf,
    /// Where the one-time code is kept for the screen and for `skiff status`.
    pub code_file: PathBuf,
    /// Where the SHA-256 of the box CA's certificate is kept for the screen.
    pub fingerprint_file: PathBuf,
    /// Where the name is written that the box has in the home network, once it is known.
    pub local_name_file: PathBuf,
}

impl Config {
    /// Whether this is what the box is called. Any other name may be somebody's who made it lead here, so that a page of
    /// theirs counts as ours for a browser (DNS rebinding).
    fn is_own(&self, host: &str) -> bool {
        if let Ok(address) = host.parse::<IpAddr>() {
            return address.is_loopback() || address == self.node_address || is_of_an_interface(address);
        }
        let announced = std::fs::read_to_string(&self.local_name_file).unwrap_or_default();
        self.api_names.iter().any(|name| name.eq_ignore_ascii_case(host)) || announced.trim().eq_ignore_ascii_case(host)
    }
}

fn is_of_an_interface(address: IpAddr) -> bool {
    let entries = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|entry| entry.address);
    let mut addresses = entries.filter_map(|found| {
        let v4 = found.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| found.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    addresses.any(|found| found == address)
}

/// Serves the pages until `shutdown`.
pub async fn run(config: Config, client: Client, listener: TcpListener, shutdown: CancellationToken) {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    let only = watcher::Config::default().fields("metadata.name=box-ca");
    let ca = Informer::spawn(secrets, only, shutdown.clone());
    let server = server::Server::new(
        config,
        client,
        Box::new({
            let ca = ca.clone();
            move || fingerprint(&ca)
        }),
    );
    let server = Arc::new(server);
    tokio::spawn(keep_fingerprint(Arc::clone(&server), ca, shutdown.clone()));
    server::serve(server, listener, shutdown).await;
}

async fn keep_fingerprint(server: Arc<server::Server>, ca: Informer<Secret>, shutdown: CancellationToken) {
    let mut changes = ca.changes();
    loop {
        if let Some(fingerprint) = fingerprint(&ca) {
            keep(&server.config.fingerprint_file, &format!("{fingerprint}\n"), 0o644);
        }
        tokio::select! {
            () = changes.next() => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Of the box CA's certificate, as browsers show it; `None` until the ingress has made it.
fn fingerprint(ca: &Informer<Secret>) -> Option<String> {
    let secrets = ca.list();
    let pem = &secrets.first()?.data.as_ref()?.get("tls.crt")?.0;
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    let bytes: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    Some(bytes.join(":"))
}

fn keep(path: &Path, text: &str, mode: u32) {
    if let Err(error) = skiff_host::files::replace_volatile(path, text.as_bytes(), mode) {
        tracing::error!(%error, path = %path.display(), "cannot be written");
    }
}
