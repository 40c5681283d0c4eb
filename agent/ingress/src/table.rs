//! What the agent hands to the proxy: every route, as data. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Everything the proxy serves. Lists are in a stable order, so that equal tables are equal as text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    pub hosts: Vec<Host>,
    pub backends: Vec<Backend>,
    pub options: Vec<Options>,
    /// Names, also `*.example.org`, to the certificate served for them.
    pub certificates: BTreeMap<String, CertificateId>,
    /// For clients that name no host, or one that is not known.
    pub default_certificate: Option<CertificateId>,
    /// RFC 8555, 8.3: tokens and what they answer.
    pub http_answers: BTreeMap<String, String>,
    /// RFC 8737: names and the certificate that proves them.
    pub alpn_answers: BTreeMap<String, CertificateId>,
    pub own: Own,
}

/// Derived from a certificate's content: another one has another name.
pub type CertificateId = String;

/// A certificate chain with its key, in PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    pub id: CertificateId,
    pub chain: String,
    pub key: String,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Lower case; `*.example.org` for one more label; empty for every name.
    pub name: String,
    /// Plain HTTP is sent to HTTPS.
    pub tls: bool,
    /// The certificate is one that clients trust without our CA: only then may they be told to insist on it.
    pub trusted: bool,
    /// The first that matches counts.
    pub paths: Vec<Path>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    pub kind: PathKind,
    pub path: String,
    /// In `Table::backends`; without one the answer is 503.
    pub backend: Option<usize>,
    /// In `Table::options`.
    pub options: usize,
    /// `NAMESPACE/NAME` of the Ingress.
    pub ingress: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PathKind {
    Exact,
    /// Whole elements of the path.
    Prefix,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// `NAMESPACE/SERVICE:PORT`
    pub name: String,
    pub protocol: Protocol,
    pub endpoints: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Http1,
    /// HTTP/2 without TLS, as gRPC uses it.
    H2c,
}

/// What the annotations of an Ingress choose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    pub connect_timeout_ms: u64,
    /// From the end of the request to the head of the answer.
    pub response_timeout_ms: u64,
    /// Without a byte in either direction of a body or an upgraded connection.
    pub idle_timeout_ms: u64,
    pub body_bytes_max: u64,
    /// Networks that may ask; empty: everybody.
    pub allow: Vec<String>,
    pub basic_auth: Option<BasicAuth>,
    pub forward_auth: Option<ForwardAuth>,
    pub rate_limit: Option<RateLimit>,
    /// The name of the cookie that keeps a client with its endpoint.
    pub session_cookie: Option<String>,
    pub ssl_redirect: bool,
    /// Seconds; zero: not sent.
    pub hsts_seconds: u64,
    pub compress: bool,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasicAuth {
    pub realm: String,
    /// Users and the hashes of their passwords (bcrypt), or, after `plain:`, the password itself.
    pub users: BTreeMap<String, String>,
}

impl std::fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BasicAuth").field("realm", &self.realm).finish_non_exhaustive()
    }
}

/// Another Service decides on each request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardAuth {
    /// In `Table::backends`.
    pub backend: Option<usize>,
    pub host: String,
    pub path: String,
    /// Where browsers that are refused with 401 are sent to.
    pub sign_in: Option<String>,
    /// Headers of its answer that the application gets.
    pub headers: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    pub requests: u32,
    pub per_seconds: u32,
    /// Requests that may come at once.
    pub burst: u32,
}

/// What the box itself answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Host names and addresses that mean the box.
    pub names: Vec<String>,
    /// One of them: looked up for every address that the box is called by.
    pub address: String,
    /// The backend of the box's own pages, which alone gets the cookie of their sessions.
    pub console: Option<usize>,
    /// The box CA's certificate.
    pub ca_pem: String,
    pub ca_profile: String,
    /// Keys the cookies that keep clients with their endpoints.
    pub cookie_key: String,
    /// What an unknown challenge token named `skiff-check` answers: tells this box from another.
    pub check_token: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    pub backend: String,
    pub address: SocketAddr,
    pub active: usize,
    pub requests: u64,
    pub failures: u64,
    /// Set aside after failures, for so many milliseconds more.
    pub set_aside_ms: u64,
    pub last_error: Option<String>,
}
