//! What this server serves: group and resource lists, aggregated discovery, the version.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use skiff_object::custom::openapi::{self, Described};
use skiff_object::kinds::{Catalogue, Kind, Nature, Scope};
use skiff_object::openapi::Document;

use crate::aggregation::{self, Aggregation};
use crate::body::{self, Body};
use crate::compress::{self, Gzip};
use crate::present::JSON;
use crate::tokens::{ISSUER, Tokens};

/// The Kubernetes level this server follows.
pub const MINOR: &str = "34";

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const UPDATE_VERBS: &[&str] = &["get", "patch", "update"];

/// The answer to a discovery path, `None` for any other.
pub fn answer(
    catalogue: &Catalogue,
    others: &Aggregation,
    path: &str,
    headers: &HeaderMap,
    server_address: &str,
) -> Option<Response<Body>> {
    let aggregated = wants_aggregated(headers);
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let document = match segments.as_slice() {
        ["version"] => version(),
        ["api"] if aggregated => return Some(aggregated_response(vec![aggregated_group(catalogue, "")])),
        ["apis"] if aggregated => {
            let mut all = groups(catalogue).into_iter().map(|group| aggregated_group(catalogue, group)).collect();
            aggregation::add_groups(others, catalogue, true, &mut all);
            return Some(aggregated_response(all));
        }
        ["api"] => json!({"kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]}),
        ["apis"] => {
            let mut all = groups(catalogue).into_iter().map(|name| group(catalogue, name)).collect();
            aggregation::add_groups(others, catalogue, false, &mut all);
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": all})
        }
        ["api", "v1"] => resource_list(catalogue, "", "v1"),
        ["apis", name] if groups(catalogue).contains(name) => {
            let mut group = group(catalogue, name);
            group["kind"] = json!("APIGroup");
            group["apiVersion"] = json!("v1");
            group
        }
        ["apis", name, version] if versions(catalogue, name).contains(version) => {
            resource_list(catalogue, name, version)
        }
        _ => aggregation::group_document(others, catalogue, path)?,
    };
    Some(body::json(StatusCode::OK, &document))
}

/// Where who trusts this issuer's tokens finds its keys (OpenID Connect Discovery), and those.
pub fn issuer(path: &str, tokens: &Tokens, server_address: &str) -> Option<Response<Body>> {
    let (content_type, document) = match path.trim_end_matches('/') {
        "/.well-known/openid-configuration" => {
            let keys = format!("https://{server_address}/openid/v1/jwks");
            let document = json!({"issuer": ISSUER, "jwks_uri": keys, "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"]});
            ("application/json", document)
        }
        "/openid/v1/jwks" => ("application/jwk-set+json", tokens.key_set()),
        _ => return None,
    };
    let mut response = body::json(StatusCode::OK, &document);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    Some(response)
}

pub fn version() -> Value {
    json!({
        "major": "1", "minor": MINOR, "gitVersion": git_version(), "gitCommit": "", "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z", "goVersion": "", "compiler": "rustc",
        "platform": format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }),
    })
}

pub fn git_version() -> String {
    format!("v1.{MINOR}.0+skiff-{}", env!("CARGO_PKG_VERSION"))
}

/// The group and version whose document is asked for, where definitions make it.
pub fn custom_document(catalogue: &Catalogue, path: &str) -> Option<(String, String)> {
    let (group, version) = path.strip_prefix("/openapi/v3/apis/")?.trim_end_matches('/').split_once('/')?;
    let is_described = kinds_of(catalogue, group, version).any(|kind| kind.custom.is_some() || is_computed(kind));
    is_described.then(|| (group.to_owned(), version.to_owned()))
}

/// What is computed is described as what a definition makes is.
pub fn is_computed(kind: &Kind) -> bool {
    kind.nature == Nature::Computed
}

/// Where each document of custom kinds is, and what names its content.
pub fn custom_documents(catalogue: &Catalogue) -> Vec<(String, String)> {
    let mut documents: Vec<(String, Vec<&str>)> = Vec::new();
    for kind in catalogue.kinds() {
        let stamp = match &kind.custom {
            Some(custom) => custom.stamp.as_str(),
            None if is_computed(kind) => &kind.kind,
            None => continue,
        };
        let path = format!("apis/{}/{}", kind.group, kind.version);
        match documents.last_mut().filter(|(last, _)| *last == path) {
            Some((_, stamps)) => stamps.push(stamp),
            None => documents.push((path, vec![stamp])),
        }
    }
    documents.into_iter().map(|(path, stamps)| (path, hash(&stamps.join(" ")))).collect()
}

pub fn hash(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The document of a group and version that definitions make.
pub fn custom_openapi(kinds: &[(Arc<Kind>, Value)]) -> Response<Body> {
    let described: Vec<Described<'_>> = kinds.iter().map(|(kind, definition)| Described { kind, definition }).collect();
    let stamps: Vec<&str> =
        kinds.iter().filter_map(|(kind, _)| kind.custom.as_ref()).map(|custom| custom.stamp.as_str()).collect();
    let mut response = body::json(StatusCode::OK, &openapi::document(&described, &metadata_types()));
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", hash(&stamps.join(" ")))) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

/// The types of metadata, from a document that has them.
pub fn metadata_types() -> Value {
    let documents = skiff_object::openapi::documents();
    let found = documents.iter().find(|document| document.group_version == "apis/coordination.k8s.io/v1");
    let mut document: Value =
        found.and_then(|document| serde_json::from_slice(&unpacked(document)).ok()).unwrap_or_default();
    document.pointer_mut("/components/schemas").map(Value::take).unwrap_or_default()
}

pub fn unpacked(document: &Document) -> Vec<u8> {
    let mut json = Vec::new();
    let read = flate2::read::GzDecoder::new(document.gzip).read_to_end(&mut json);
    read.expect("what is part of the program is whole");
    json
}

/// The OpenAPI v3 root, or one of its documents as the client accepts it.
pub fn openapi<B>(
    catalogue: &Catalogue,
    others: &Aggregation,
    path: &str,
    request: &Request<B>,
) -> Option<Response<Body>> {
    let rest = path.strip_prefix("/openapi/v3")?.trim_matches('/');
    let documents = skiff_object::openapi::documents();
    if rest.is_empty() {
        let built_in = documents.iter().map(|d| (d.group_version.to_owned(), d.hash.to_owned()));
        let mut paths: serde_json::Map<String, Value> = built_in
            .chain(custom_documents(catalogue))
            .map(|(path, hash)| {
                let url = format!("/openapi/v3/{path}?hash={hash}");
                (path, json!({"serverRelativeURL": url}))
            })
            .collect();
        aggregation::add_documents(others, catalogue, &mut paths);
        return Some(body::json(StatusCode::OK, &json!({"paths": paths})));
    }
    let document = documents.iter().find(|d| d.group_version == rest)?;
    let mut response = match Gzip::of(request.headers()) {
        Gzip::Taken => {
            let mut response = body::response(StatusCode::OK, JSON, body::full(Bytes::from_static(document.gzip)));
            compress::say(response.headers_mut());
            response
        }
        Gzip::Unknown => body::json_bytes(StatusCode::OK, unpacked(document)),
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&format!("\"{}\"", document.hash)) {
        headers.insert(header::ETAG, etag);
    }
    if request.uri().query().is_some_and(|query| query.contains(document.hash)) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable, max-age=31536000"));
    }
    Some(response)
}

fn wants_aggregated(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let mut ranges = accept.flat_map(|v| v.split(','));
    ranges.any(|r| {
        r.contains("as=APIGroupDiscoveryList") && r.contains("v=v2;")
            || r.ends_with("v=v2") && r.contains("as=APIGroupDiscoveryList")
    })
}

fn groups(catalogue: &Catalogue) -> Vec<&str> {
    catalogue.groups().iter().map(|g| &*g.name).filter(|name| !name.is_empty()).collect()
}

fn versions<'a>(catalogue: &'a Catalogue, group: &str) -> Vec<&'a str> {
    let found = catalogue.groups().iter().find(|g| g.name == group);
    found.map(|g| g.versions.iter().map(|version| &**version).collect()).unwrap_or_default()
}

fn group(catalogue: &Catalogue, name: &str) -> Value {
    let versions: Vec<Value> = versions(catalogue, name)
        .into_iter()
        .map(|v| json!({"groupVersion": format!("{name}/{v}"), "version": v}))
        .collect();
    json!({"name": name, "preferredVersion": versions.first(), "versions": versions})
}

fn kinds_of<'a>(catalogue: &'a Catalogue, group: &'a str, version: &'a str) -> impl Iterator<Item = &'a Arc<Kind>> {
    catalogue.kinds().filter(move |k| k.group == group && k.version == version)
}

fn verbs(kind: &Kind) -> &'static [&'static str] {
    match kind.nature {
        Nature::Stored | Nature::Volatile => VERBS,
        Nature::Computed => &["get", "list"],
        Nature::Review | Nature::Body => &["create"],
    }
}

fn resource_list(catalogue: &Catalogue, group: &str, version: &str) -> Value {
    let mut resources = Vec::new();
    for kind in kinds_of(catalogue, group, version) {
        let namespaced = matches!(kind.scope, Scope::Namespaced);
        let mut resource = json!({
            "name": kind.plural, "singularName": kind.singular, "namespaced": namespaced, "kind": kind.kind,
            "verbs": verbs(kind),
        });
        if !kind.short_names.is_empty() {
            resource["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            resource["categories"] = json!(kind.categories);
        }
        resources.push(resource);
        for sub in subresources(kind) {
            let mut resource = json!({"name": format!("{}/{}", kind.plural, sub.name), "singularName": "",
                "namespaced": namespaced, "kind": sub.kind, "verbs": sub.verbs});
            if let Some((group, version)) = sub.response {
                resource["group"] = json!(group);
                resource["version"] = json!(version);
            }
            resources.push(resource);
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
}

struct Subresource<'a> {
    name: &'a str,
    kind: &'a str,
    /// Where the kind is of another group.
    response: Option<(&'static str, &'static str)>,
    verbs: &'static [&'static str],
}

fn subresources(kind: &Kind) -> Vec<Subresource<'_>> {
    let mut all = Vec::new();
    fn plain<'a>(name: &'a str, kind: &'a str, verbs: &'static [&'static str]) -> Subresource<'a> {
        Subresource { name, kind, response: None, verbs }
    }
    if kind.status {
        all.push(plain("status", &kind.kind, UPDATE_VERBS));
    }
    if kind.scale {
        let response = Some(("autoscaling", "v1"));
        all.push(Subresource { name: "scale", kind: "Scale", response, verbs: UPDATE_VERBS });
    }
    for name in kind.subresources.iter().map(|name| &**name) {
        all.push(match name {
            "log" => plain(name, "Pod", &["get"]),
            "exec" => plain(name, "PodExecOptions", &["create", "get"]),
            "attach" => plain(name, "PodAttachOptions", &["create", "get"]),
            "portforward" => plain(name, "PodPortForwardOptions", &["create", "get"]),
            "proxy" => {
                let options = match &*kind.kind {
                    "Pod" => "PodProxyOptions",
                    "Node" => "NodeProxyOptions",
                    _ => "ServiceProxyOptions",
                };
                plain(name, options, &["create", "delete", "get", "patch", "update"])
            }
            "binding" => plain(name, "Binding", &["create"]),
            "eviction" => Subresource { name, kind: "Eviction", response: Some(("policy", "v1")), verbs: &["create"] },
            "token" => {
                let response = Some(("authentication.k8s.io", "v1"));
                Subresource { name, kind: "TokenRequest", response, verbs: &["create"] }
            }
            "finalize" => plain(name, "Namespace", &["update"]),
            _ => plain(name, &kind.kind, UPDATE_VERBS),
        });
    }
    all
}

fn aggregated_response(items: Vec<Value>) -> Response<Body> {
    let document = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": items});
    let mut response = body::json(StatusCode::OK, &document);
    let content_type = HeaderValue::from_static("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

fn aggregated_group(catalogue: &Catalogue, group: &str) -> Value {
    let versions: Vec<Value> = versions(catalogue, group)
        .into_iter()
        .map(|version| {
            let resources: Vec<Value> =
                kinds_of(catalogue, group, version).map(|kind| aggregated_resource(kind)).collect();
            json!({"version": version, "freshness": "Current", "resources": resources})
        })
        .collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
    json!({"metadata": metadata, "versions": versions})
}

fn aggregated_resource(kind: &Kind) -> Value {
    let response = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let subresources: Vec<Value> = subresources(kind)
        .into_iter()
        .map(|sub| {
            let (group, version) = sub.response.unwrap_or((&kind.group, &kind.version));
            json!({"subresource": sub.name, "responseKind": response(group, version, sub.kind), "verbs": sub.verbs})
        })
        .collect();
    let mut resource = json!({
        "resource": kind.plural, "responseKind": response(&kind.group, &kind.version, &kind.kind),
        "scope": match kind.scope { Scope::Namespaced => "Namespaced", Scope::Cluster => "Cluster" },
        "singularResource": kind.singular, "verbs": verbs(kind),
    });
    for (field, list) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
        if !list.is_empty() {
            resource[field] = json!(list);
        }
    }
    if !subresources.is_empty() {
        resource["subresources"] = json!(subresources);
    }
    resource
}
