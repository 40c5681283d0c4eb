//! Which kinds are served and where, as discovery tells: what a controller needs that handles every kind. Kinds may come
//! and go at run time, so that nothing here is known beforehand.

use std::collections::{HashMap, HashSet};

use http::Request;
use kube::Client;
use serde::Deserialize;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// One kind in one version, and where its objects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedKind {
    /// Empty for the core group.
    pub group: String,
    pub version: String,
    pub kind: String,
    pub plural: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl ServedKind {
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// How a resource is called among all groups: `deployments.apps`.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    pub fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    /// Where the objects are; of one namespace, if the kind has any.
    pub fn collection(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let namespace = namespace.filter(|_| self.namespaced).map(|n| format!("/namespaces/{n}")).unwrap_or_default();
        format!("{root}/{}{namespace}/{}", self.api_version(), self.plural)
    }

    pub fn object(&self, namespace: Option<&str>, name: &str) -> String {
        format!("{}/{name}", self.collection(namespace))
    }
}

/// All that is served at one moment.
#[derive(Clone, Debug, Default)]
pub struct ServedKinds {
    kinds: Vec<ServedKind>,
    by_kind: HashMap<(String, String), usize>,
}

impl ServedKinds {
    pub fn new(kinds: Vec<ServedKind>) -> Self {
        let by_kind = kinds.iter().enumerate().map(|(at, k)| ((k.api_version(), k.kind.clone()), at)).collect();
        Self { kinds, by_kind }
    }

    /// Asks the server.
    pub async fn discover(client: &Client) -> Result<Self, kube::Error> {
        let mut kinds = Vec::new();
        for root in ["/api", "/apis"] {
            let request = Request::get(root).header(http::header::ACCEPT, AGGREGATED);
            let request = request.body(Vec::new()).expect("a constant path");
            let groups: Groups = client.request(request).await?;
            groups.items.into_iter().for_each(|group| group.read(&mut kinds));
        }
        Ok(Self::new(kinds))
    }

    pub fn get(&self, api_version: &str, kind: &str) -> Option<&ServedKind> {
        self.by_kind.get(&(api_version.to_owned(), kind.to_owned())).map(|at| &self.kinds[*at])
    }

    /// Each kind in its preferred version.
    pub fn preferred(&self) -> impl Iterator<Item = &ServedKind> {
        let mut seen = HashSet::new();
        self.kinds.iter().filter(move |kind| seen.insert((kind.group.as_str(), kind.plural.as_str())))
    }
}

#[derive(Deserialize)]
struct Groups {
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: GroupName,
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
struct GroupName {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    resource: String,
    response_kind: ResponseKind,
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct ResponseKind {
    kind: String,
}

impl Group {
    fn read(self, kinds: &mut Vec<ServedKind>) {
        for version in self.versions {
            kinds.extend(version.resources.into_iter().map(|resource| ServedKind {
                group: self.metadata.name.clone(),
                version: version.version.clone(),
                kind: resource.response_kind.kind,
                plural: resource.resource,
                namespaced: resource.scope == "Namespaced",
                verbs: resource.verbs,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_is_read_and_each_kind_has_one_preferred_version() {
        let resource = |plural: &str, kind: &str, scope: &str| {
            format!(
                r#"{{"resource":"{plural}","responseKind":{{"kind":"{kind}"}},"scope":"{scope}","verbs":["list"]}}"#
            )
        };
        let scaler = resource("horizontalpodautoscalers", "HorizontalPodAutoscaler", "Namespaced");
        let text = format!(
            r#"{{"items":[{{"metadata":{{}},"versions":[{{"version":"v1","resources":[{}]}}]}},
                {{"metadata":{{"name":"autoscaling"}},"versions":[{{"version":"v2","resources":[{scaler}]}},
                    {{"version":"v1","resources":[{scaler}]}}]}}]}}"#,
            resource("nodes", "Node", "Cluster"),
        );
        let groups: Groups = serde_json::from_str(&text).expect("discovery");
        let mut kinds = Vec::new();
        groups.items.into_iter().for_each(|group| group.read(&mut kinds));
        let kinds = ServedKinds::new(kinds);
        let preferred: Vec<_> = kinds.preferred().map(|k| k.collection(Some("a"))).collect();
        assert_eq!(preferred, ["/api/v1/nodes", "/apis/autoscaling/v2/namespaces/a/horizontalpodautoscalers"]);
        let old = kinds.get("autoscaling/v1", "HorizontalPodAutoscaler").expect("it is served");
        assert_eq!(old.object(Some("a"), "x"), "/apis/autoscaling/v1/namespaces/a/horizontalpodautoscalers/x");
        assert!(old.can("list") && !old.can("delete") && kinds.get("v1", "Pod").is_none());
    }
}
