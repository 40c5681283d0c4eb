//! The scale of whatever has one, by a reference to it. Kinds come and go: they are looked up in discovery.

use kube::Client;
use serde_json::{Value, json};
use skiff_object::meta;
use skiff_reconcile::{Chain, ServedKind, ServedKinds};

use crate::{anything, objects};

/// How often somebody else may write to what is scaled meanwhile.
const ATTEMPTS: usize = 5;

/// What is to be scaled, in its namespace.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub namespace: &'a str,
    pub api_version: &'a str,
    pub kind: &'a str,
    pub name: &'a str,
}

/// A scale as it was read.
#[derive(Clone, Debug)]
pub struct Scale {
    path: String,
    /// Of what is scaled.
    pub uid: String,
    pub wanted: i32,
    pub current: i32,
    /// As text; empty where there is none.
    pub selector: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ScaleError {
    #[error("no matches for kind {kind:?} in group {group:?}")]
    Kind { kind: String, group: String },
    #[error("{resource} {name:?} not found")]
    Missing { resource: String, name: String },
    #[error("{0} does not implement the scale subresource")]
    Unscalable(String),
    /// In the words of the API: people read them in statuses.
    #[error("{}", Chain(.0))]
    Api(kube::Error),
}

/// Reads and writes scales.
pub struct Scales {
    client: Client,
    /// As they were served when one was missing last.
    kinds: ServedKinds,
}

impl Scales {
    pub fn new(client: Client) -> Self {
        Self { client, kinds: ServedKinds::default() }
    }

    pub async fn read(&mut self, target: Target<'_>) -> Result<Scale, ScaleError> {
        let kind = self.kind(target).await?;
        let path = format!("{}/scale", kind.object(Some(target.namespace), target.name));
        if let Some(scale) = anything::whole(&self.client, &path).await.map_err(ScaleError::Api)? {
            return Ok(Scale::of(path, &scale));
        }
        let resource = kind.group_resource();
        match self.is_scalable(&kind).await.map_err(ScaleError::Api)? {
            true => Err(ScaleError::Missing { resource, name: target.name.to_owned() }),
            false => Err(ScaleError::Unscalable(resource)),
        }
    }

    /// By its group, whatever version is asked for: as upstream.
    pub async fn kind(&mut self, target: Target<'_>) -> Result<ServedKind, ScaleError> {
        let group = target.api_version.split_once('/').map_or("", |(group, _)| group);
        let find = |kinds: &ServedKinds| {
            kinds.preferred().find(|served| served.group == group && served.kind == target.kind).cloned()
        };
        if let Some(kind) = find(&self.kinds) {
            return Ok(kind);
        }
        self.kinds = ServedKinds::discover(&self.client).await.map_err(ScaleError::Api)?;
        let missing = || ScaleError::Kind { kind: target.kind.to_owned(), group: group.to_owned() };
        find(&self.kinds).ok_or_else(missing)
    }

    async fn is_scalable(&self, kind: &ServedKind) -> Result<bool, kube::Error> {
        let collection = kind.collection(None);
        let version = collection.rsplit_once('/').map_or("", |(version, _)| version);
        let resources = anything::whole(&self.client, version).await?.unwrap_or_default();
        let scale = format!("{}/scale", kind.plural);
        Ok(meta::items(resources.get("resources")).iter().any(|resource| resource["name"] == scale.as_str()))
    }

    /// Asks for so many, whoever wrote to it meanwhile.
    pub async fn write(&self, scale: &Scale, replicas: i32) -> Result<(), kube::Error> {
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            let Some(mut document) = anything::whole(&self.client, &scale.path).await? else { break };
            if meta::uid(&document) != scale.uid {
                break;
            }
            document["spec"]["replicas"] = json!(replicas);
            result = anything::replace(&self.client, &scale.path, &document).await;
            match &result {
                Err(error) if objects::is_conflict(error) => {}
                Ok(()) | Err(_) => break,
            }
        }
        result
    }
}

impl Scale {
    fn of(path: String, document: &Value) -> Self {
        let number = |part: &str| meta::at(document, &[part, "replicas"]).and_then(Value::as_i64).unwrap_or(0);
        let number = |part: &str| i32::try_from(number(part)).unwrap_or(i32::MAX);
        Self {
            path,
            uid: meta::uid(document).to_owned(),
            wanted: number("spec"),
            current: number("status"),
            selector: meta::text_at(document, &["status", "selector"]).to_owned(),
        }
    }

    /// As it might have been read, for tests of what is made of it.
    #[cfg(test)]
    pub fn fixed(wanted: i32, current: i32, selector: &str) -> Self {
        Self { path: String::new(), uid: String::new(), wanted, current, selector: selector.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";

    fn target<'a>(api_version: &'a str, kind: &'a str, name: &'a str) -> Target<'a> {
        Target { namespace: "default", api_version, kind, name }
    }

    #[tokio::test]
    async fn what_has_a_scale_is_scaled_and_what_has_none_says_so() {
        let world = World::start().await;
        let labels = json!({"app": "web"});
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
        let spec = json!({"replicas": 2, "selector": {"matchLabels": labels}, "template": template});
        let made = world.post(SETS, json!({"metadata": {"name": "web"}, "spec": spec})).await;
        let mut scales = Scales::new(world.client.clone());
        let scale = scales.read(target("apps/v1beta1", "ReplicaSet", "web")).await.expect("a scale");
        assert_eq!((scale.wanted, scale.current, &*scale.selector), (2, 0, "app=web"));
        assert_eq!(scale.uid, made["metadata"]["uid"]);
        world.merge(&format!("{SETS}/web"), json!({"metadata": {"labels": {"a": "b"}}})).await;
        scales.write(&scale, 5).await.expect("written");
        let set = world.get(&format!("{SETS}/web")).await;
        assert_eq!((&set["spec"]["replicas"], &set["metadata"]["labels"]["a"]), (&json!(5), &json!("b")));
        let mut refused = async |api_version: &str, kind: &str| {
            scales.read(target(api_version, kind, "x")).await.expect_err("there is none").to_string()
        };
        assert_eq!(refused("apps/v1", "ReplicaSet").await, r#"replicasets.apps "x" not found"#);
        assert_eq!(refused("v1", "ConfigMap").await, "configmaps does not implement the scale subresource");
        assert_eq!(refused("a.b/v1", "Odd").await, r#"no matches for kind "Odd" in group "a.b""#);
        assert_eq!(refused("a/b/c", "").await, r#"no matches for kind "" in group "a""#);
    }
}
