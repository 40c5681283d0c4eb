//! What files a ConfigMap, Secret, downward or projected volume holds. Reads objects through the API; writes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, Pod, ProjectedVolumeSource, ServiceAccount, ServiceAccountTokenProjection,
    Volume, VolumeProjection,
};
use kube::Api;
use kube::api::PostParams;

use super::VolumeError;
use super::atomic::{File, Files, is_valid_path};
use crate::env::{self, Facts};
use crate::objects::{Data, ObjectError, ObjectKind, Objects};

const MODE_DEFAULT: i32 = 0o644;
/// Files of one volume, as upstream's limit on a ConfigMap or Secret: 1 MiB each, times a generous number of sources.
const VOLUME_BYTES_MAX: usize = 16 << 20;
const TOKEN_SECONDS_DEFAULT: i64 = 3600;

/// A service account token in use, by audience.
#[derive(Clone)]
pub struct Token {
    token: String,
    refresh_at: Timestamp,
}

/// The tokens of one pod, so that a refresh of the volume does not ask for new ones each time.
pub type Tokens = BTreeMap<String, Token>;

/// What is needed to fill volumes.
pub struct Sources<'a> {
    pub client: &'a kube::Client,
    pub objects: &'a Objects,
    pub pod: &'a Pod,
    pub facts: &'a Facts,
}

/// The files of the volume; `None` for a volume whose content is not ours.
pub async fn files(sources: &Sources<'_>, volume: &Volume, tokens: &mut Tokens) -> Result<Option<Files>, VolumeError> {
    let mut files = Files::new();
    if let Some(source) = &volume.config_map {
        let at = (ObjectKind::ConfigMap, source.name.as_str());
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        object(sources, at, source.items.as_deref(), mode, source.optional == Some(true), &mut files).await?;
    } else if let Some(source) = &volume.secret {
        let at = (ObjectKind::Secret, source.secret_name.as_deref().unwrap_or_default());
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        object(sources, at, source.items.as_deref(), mode, source.optional == Some(true), &mut files).await?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
        downward(sources, source.items.as_deref().unwrap_or_default(), mode, &mut files)?;
    } else if let Some(source) = &volume.projected {
        projected(sources, source, tokens, &mut files).await?;
    } else {
        return Ok(None);
    }
    let size: usize = files.values().map(|file| file.data.len()).sum();
    if size > VOLUME_BYTES_MAX {
        return Err(VolumeError::TooLarge { bytes_max: VOLUME_BYTES_MAX });
    }
    Ok(Some(files))
}

/// When a token of the pod is to be renewed.
pub fn refresh_at(tokens: &Tokens) -> Option<Timestamp> {
    tokens.values().map(|token| token.refresh_at).min()
}

async fn projected(
    sources: &Sources<'_>,
    source: &ProjectedVolumeSource,
    tokens: &mut Tokens,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let mode = source.default_mode.unwrap_or(MODE_DEFAULT);
    for projection in source.sources.iter().flatten() {
        let VolumeProjection { config_map, secret, downward_api, service_account_token, .. } = projection;
        if let Some(from) = config_map {
            let at = (ObjectKind::ConfigMap, from.name.as_str());
            object(sources, at, from.items.as_deref(), mode, from.optional == Some(true), files).await?;
        }
        if let Some(from) = secret {
            let at = (ObjectKind::Secret, from.name.as_str());
            object(sources, at, from.items.as_deref(), mode, from.optional == Some(true), files).await?;
        }
        if let Some(from) = downward_api {
            downward(sources, from.items.as_deref().unwrap_or_default(), mode, files)?;
        }
        if let Some(from) = service_account_token {
            let token = token(sources, from, tokens).await?;
            insert(files, &from.path, token_file(sources.pod, token, mode))?;
        }
    }
    Ok(())
}

/// A token is for its container's user alone: upstream gives it to the one user all containers run as.
fn token_file(pod: &Pod, token: String, mode: i32) -> File {
    let spec = pod.spec.as_ref();
    let context = spec.and_then(|spec| spec.security_context.as_ref());
    let fs_group = context.and_then(|context| context.fs_group);
    let user = context.and_then(|context| context.run_as_user).and_then(|user| u32::try_from(user).ok());
    let mode = match (fs_group, user) {
        (None, Some(_)) => 0o600,
        (Some(_), _) | (None, None) => mode.cast_unsigned(),
    };
    File { data: token.into_bytes(), mode, owner: user.filter(|_| fs_group.is_none()) }
}

fn insert(files: &mut Files, path: &str, file: File) -> Result<(), VolumeError> {
    if !is_valid_path(path) {
        return Err(VolumeError::Path { path: path.to_owned() });
    }
    files.insert(path.to_owned(), file);
    Ok(())
}

async fn object(
    sources: &Sources<'_>,
    (kind, name): (ObjectKind, &str),
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let namespace = sources.pod.metadata.namespace.as_deref().unwrap_or_default();
    let data = match sources.objects.find(kind, namespace, name).await? {
        Some(data) => data,
        None if optional => return Ok(()),
        None => return Err(ObjectError::Missing { kind, name: name.to_owned() }.into()),
    };
    select(&data, (kind, name), items, mode, optional, files)
}

fn select(
    data: &Data,
    (kind, name): (ObjectKind, &str),
    items: Option<&[KeyToPath]>,
    mode: i32,
    optional: bool,
    files: &mut Files,
) -> Result<(), VolumeError> {
    let file = |data: &[u8], mode: i32| File { data: data.to_vec(), mode: mode.cast_unsigned(), owner: None };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        for (key, value) in &data.entries {
            insert(files, key, file(value, mode))?;
        }
        return Ok(());
    };
    for item in items {
        match data.entries.get(&item.key) {
            Some(value) => insert(files, &item.path, file(value, item.mode.unwrap_or(mode)))?,
            None if optional => {}
            None => {
                return Err(VolumeError::MissingKey { kind, name: name.to_owned(), key: item.key.clone() });
            }
        }
    }
    Ok(())
}

fn downward(
    sources: &Sources<'_>,
    items: &[DownwardAPIVolumeFile],
    mode: i32,
    files: &mut Files,
) -> Result<(), VolumeError> {
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(selector), _) => env::field(sources.pod, sources.facts, selector)?,
            (None, Some(selector)) => {
                let first = sources.pod.spec.as_ref().and_then(|spec| spec.containers.first());
                let Some(container) = first else { continue };
                env::resource(sources.pod, container, sources.facts.allocatable, selector)?
            }
            (None, None) => continue,
        };
        let mode = item.mode.unwrap_or(mode).cast_unsigned();
        insert(files, &item.path, File { data: text.into_bytes(), mode, owner: None })?;
    }
    Ok(())
}

/// The token for an audience, from the API when there is none or 80 % of its life is over.
async fn token(
    sources: &Sources<'_>,
    projection: &ServiceAccountTokenProjection,
    tokens: &mut Tokens,
) -> Result<String, VolumeError> {
    let audience = projection.audience.clone().unwrap_or_default();
    let seconds = projection.expiration_seconds.unwrap_or(TOKEN_SECONDS_DEFAULT);
    let key = format!("{audience} {seconds}");
    let now = Timestamp::now();
    if let Some(token) = tokens.get(&key).filter(|token| token.refresh_at > now) {
        return Ok(token.token.clone());
    }
    let meta = &sources.pod.metadata;
    let account = sources.pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: (!audience.is_empty()).then(|| vec![audience]),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
            }),
            expiration_seconds: Some(seconds),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let api: Api<ServiceAccount> = Api::namespaced(sources.client.clone(), namespace);
    let wrap = |source| VolumeError::Token { account: account.to_owned(), source: Box::new(source) };
    let answer = api.create_token_request(account, &PostParams::default(), &request).await.map_err(wrap)?;
    let status = answer.status.unwrap_or_default();
    let life = status.expiration_timestamp.map_or(seconds, |end| end.0.as_second() - now.as_second());
    let refresh_in = Duration::from_secs(u64::try_from(life * 8 / 10).unwrap_or(0));
    let token = Token { token: status.token.unwrap_or_default(), refresh_at: now + refresh_in };
    tokens.insert(key, token.clone());
    Ok(token.token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_choose_keys_paths_and_modes() {
        let data = Data { entries: BTreeMap::from([("k".to_owned(), b"v".to_vec())]), secret_type: None };
        let item = |key: &str, path: &str| KeyToPath {
            key: key.into(),
            path: path.into(),
            mode: Some(0o400),
            ..KeyToPath::default()
        };
        let mut files = Files::new();
        let at = (ObjectKind::ConfigMap, "c");
        select(&data, at, Some(&[item("k", "d/f")]), 0o644, false, &mut files).unwrap();
        assert_eq!((files["d/f"].mode, files["d/f"].data.as_slice()), (0o400, b"v".as_slice()));
        let missing = select(&data, at, Some(&[item("x", "f")]), 0o644, false, &mut files);
        assert_eq!(missing.unwrap_err().to_string(), "configmap references non-existent config key: x");
        assert!(select(&data, at, Some(&[item("x", "f")]), 0o644, true, &mut files).is_ok());
        assert!(select(&data, at, Some(&[item("k", "../f")]), 0o644, false, &mut files).is_err());
    }
}
