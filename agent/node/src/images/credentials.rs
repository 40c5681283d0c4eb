//! Registry credentials from a pod's imagePullSecrets and those of its service account (which admission copies into the
//! pod). Only the secrets of types `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg` count.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use skiff_cri::pb::AuthConfig;

use crate::context::Context;
use crate::objects::ObjectKind;

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default, rename = "identitytoken")]
    identity_token: String,
}

pub async fn for_image(context: &Context, pod: &Pod, image: &str) -> Vec<AuthConfig> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let names = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let mut found = Vec::new();
    for reference in names {
        match context.objects.find(ObjectKind::Secret, namespace, &reference.name).await {
            Ok(Some(data)) => {
                let new = data.entries.get(".dockerconfigjson").map(|json| parse(json));
                let old = data.entries.get(".dockercfg").map(|json| parse_old(json));
                found.extend(select(new.or(old).unwrap_or_default(), image));
            }
            Ok(None) => tracing::debug!(namespace, secret = reference.name, "image pull secret does not exist"),
            Err(error) => tracing::warn!(%error, namespace, secret = reference.name, "image pull secret not read"),
        }
    }
    found
}

fn parse(json: &[u8]) -> BTreeMap<String, Entry> {
    serde_json::from_slice::<DockerConfig>(json).map(|config| config.auths).unwrap_or_default()
}

fn parse_old(json: &[u8]) -> BTreeMap<String, Entry> {
    serde_json::from_slice(json).unwrap_or_default()
}

/// The registry an image comes from: its first part if that looks like a host.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        Some(_) | None => "docker.io",
    }
}

fn select(entries: BTreeMap<String, Entry>, image: &str) -> Vec<AuthConfig> {
    let wanted = registry(image);
    let fits = |key: &str| {
        let plain = key.trim_start_matches("https://").trim_start_matches("http://");
        let host = plain.split('/').next().unwrap_or(plain);
        let docker_hub = wanted == "docker.io" && (host == "index.docker.io" || host == "registry-1.docker.io");
        let path_fits = plain.strip_prefix(host).is_none_or(|path| {
            let path = path.trim_matches('/');
            path.is_empty() || path == "v1" || path == "v2" || image.starts_with(&format!("{host}/{path}"))
        });
        (host == wanted || docker_hub) && path_fits
    };
    let matching = entries.into_iter().filter(|(key, _)| fits(key));
    // The longest key names the image most closely.
    let mut all: Vec<_> = matching.collect();
    all.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
    all.into_iter().map(|(_, entry)| credential(entry)).collect()
}

fn credential(entry: Entry) -> AuthConfig {
    let decoded = STANDARD.decode(&entry.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (username, password) = match pair {
        Some((user, password)) if entry.username.is_empty() => (user.to_owned(), password.to_owned()),
        Some(_) | None => (entry.username, entry.password),
    };
    AuthConfig { username, password, identity_token: entry.identity_token, ..AuthConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_credential_comes_first() {
        let json = br#"{"auths": {"reg.example:5000": {"auth": "dTpw"},
            "https://reg.example:5000/team": {"username": "t", "password": "x"}, "other": {"auth": "YTpi"}}}"#;
        let users = |image: &str| select(parse(json), image).into_iter().map(|auth| auth.username).collect::<Vec<_>>();
        assert_eq!(users("reg.example:5000/team/app:1"), ["t", "u"]);
        assert_eq!(users("reg.example:5000/app"), ["u"]);
        assert!(users("app").is_empty());
    }
}
