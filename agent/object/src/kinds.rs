//! What a kind of object is, and the catalogue of those that are served.
//!
//! Owns names, scopes, subresources and storage keys (upstream's etcd layout). A catalogue is a value: the built-in kinds
//! are the first one, and a kind that comes at run time makes another.

mod table;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::custom::Custom;
use crate::schema::{self, Text, Ty};

/// Whether objects of a kind live in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// What becomes of an object of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// It is kept, durably.
    Stored,
    /// It is kept in memory on one box: losing the newest of them in a power cut is harmless.
    Volatile,
    /// A question, create-only and answered at once.
    Review,
    /// It is made when it is asked for, and kept nowhere.
    Computed,
    /// The body of a subresource or of an option: it has a type but no path of its own.
    Body,
}

/// One served kind in one group and version.
#[derive(Debug, Clone)]
pub struct Kind {
    pub group: Text,
    pub version: Text,
    pub kind: Text,
    pub plural: Text,
    pub singular: Text,
    pub short_names: Vec<Text>,
    pub categories: Vec<Text>,
    pub scope: Scope,
    pub nature: Nature,
    /// Where objects are kept, as upstream lays them out in etcd: `/registry/pods`. Empty for what is not kept.
    pub prefix: Text,
    /// Has `/status`.
    pub status: bool,
    /// Has `/scale`.
    pub scale: bool,
    /// The subresources other than `status` and `scale`.
    pub subresources: Vec<Text>,
    /// The group and version whose form is stored, where that is not the kind's own.
    pub storage_version: Option<Text>,
    /// The name of its type; empty where a definition made it.
    pub type_name: Text,
    /// What it is where a definition made it.
    pub custom: Option<Arc<Custom>>,
}

/// One kind is the same as another if it is served at the same place.
impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Kind {}

/// An API group with its versions, the preferred one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Empty for the core group.
    pub name: Text,
    pub versions: Vec<Text>,
}

impl Kind {
    fn identity(&self) -> (&str, &str, &str) {
        (&self.group, &self.version, &self.kind)
    }

    /// Whether it is this kind of this group, whatever the version.
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.kind == kind && self.group == group
    }

    /// The type of its objects; a custom one is free of form here.
    pub fn ty(&self) -> Ty {
        schema::find(&self.type_name)
    }

    /// `v1` for the core group, else `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The kind of a list of these objects.
    pub fn list_kind(&self) -> String {
        if self.kind.ends_with("List") { self.kind.to_string() } else { format!("{}List", self.kind) }
    }

    /// `pods` for the core group, else `deployments.apps`.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_string() } else { format!("{}.{}", self.plural, self.group) }
    }

    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    pub fn has_subresource(&self, name: &str) -> bool {
        match name {
            "status" => self.status,
            "scale" => self.scale,
            name => self.subresources.iter().any(|known| *known == name),
        }
    }

    /// Whether objects of this kind are kept.
    pub fn is_kept(&self) -> bool {
        match self.nature {
            Nature::Stored | Nature::Volatile => true,
            Nature::Review | Nature::Computed | Nature::Body => false,
        }
    }

    /// The storage key of one object.
    pub fn key(&self, namespace: Option<&str>, name: &str) -> String {
        let mut key = self.key_prefix(namespace);
        key.push_str(name);
        key
    }

    /// What the keys of all objects (of one namespace) start with; it ends with `/`.
    pub fn key_prefix(&self, namespace: Option<&str>) -> String {
        match (self.scope, namespace) {
            (Scope::Namespaced, Some(namespace)) if !namespace.is_empty() => {
                format!("{}/{namespace}/", self.prefix)
            }
            (Scope::Namespaced, Some(_) | None) | (Scope::Cluster, Some(_) | None) => {
                format!("{}/", self.prefix)
            }
        }
    }
}

/// The kinds that are served.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// In the order of discovery.
    kinds: Vec<Arc<Kind>>,
    groups: Vec<Group>,
    by_resource: HashMap<(Text, Text, Text), usize>,
    by_kind: HashMap<(Text, Text, Text), usize>,
}

impl Catalogue {
    fn empty() -> Self {
        Self { kinds: Vec::new(), groups: Vec::new(), by_resource: HashMap::new(), by_kind: HashMap::new() }
    }

    /// With more kinds, but for those whose place is taken. Their groups and versions come last in discovery, unless they
    /// are there already.
    pub fn with(&self, kinds: impl IntoIterator<Item = Arc<Kind>>) -> Self {
        let mut with = self.clone();
        for kind in kinds {
            with.add(kind);
        }
        with
    }

    fn add(&mut self, kind: Arc<Kind>) {
        let at = |last: &Text| (kind.group.clone(), kind.version.clone(), last.clone());
        let (resource, name) = (at(&kind.plural), at(&kind.kind));
        if self.by_resource.contains_key(&resource) || self.by_kind.contains_key(&name) {
            return;
        }
        self.by_resource.insert(resource, self.kinds.len());
        self.by_kind.insert(name, self.kinds.len());
        match self.groups.iter_mut().find(|group| group.name == kind.group) {
            Some(group) if group.versions.contains(&kind.version) => {}
            Some(group) => group.versions.push(kind.version.clone()),
            None => self.groups.push(Group { name: kind.group.clone(), versions: vec![kind.version.clone()] }),
        }
        self.kinds.push(kind);
    }

    pub fn kinds(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.kinds.iter()
    }

    /// The served groups in upstream's discovery order (core first), versions preferred first.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The kind served at `/apis/GROUP/VERSION/PLURAL` (the core group is the empty string).
    pub fn by_resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        let key = (group.to_owned().into(), version.to_owned().into(), plural.to_owned().into());
        self.by_resource.get(&key).map(|index| &self.kinds[*index])
    }

    /// The kind of an object, from its `apiVersion` and `kind`.
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        let (group, version) = split_api_version(api_version);
        let key = (group.to_owned().into(), version.to_owned().into(), kind.to_owned().into());
        self.by_kind.get(&key).map(|index| &self.kinds[*index])
    }

    /// The kind in whose form objects of this one are stored: itself, but for kinds served under two versions.
    pub fn stored<'a>(&'a self, kind: &'a Kind) -> &'a Kind {
        let other = kind.storage_version.as_ref().and_then(|version| self.by_kind(version, &kind.kind));
        other.map_or(kind, |other| other)
    }
}

static CATALOGUE: LazyLock<Arc<Catalogue>> = LazyLock::new(|| {
    let mut catalogue = Catalogue::empty();
    catalogue.groups = table::groups();
    for row in table::KINDS {
        catalogue.add(Arc::new(row.kind()));
    }
    Arc::new(catalogue)
});

static BODIES: LazyLock<Vec<Arc<Kind>>> =
    LazyLock::new(|| table::BODIES.iter().map(|row| Arc::new(row.kind())).collect());

/// The kinds that are part of the program.
pub fn built_in() -> &'static Arc<Catalogue> {
    &CATALOGUE
}

/// The kinds that are part of the program and have a type: all but what is computed.
pub fn typed() -> impl Iterator<Item = &'static Arc<Kind>> {
    built_in().kinds().chain(bodies()).filter(|kind| !kind.type_name.is_empty())
}

/// A kind that is part of the program.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Arc<Kind>> {
    CATALOGUE.by_kind(api_version, kind)
}

/// A kind that is part of the program, by its place.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Arc<Kind>> {
    CATALOGUE.by_resource(group, version, plural)
}

/// Kinds that are only ever the body of a subresource or of an option.
pub fn bodies() -> impl Iterator<Item = &'static Arc<Kind>> {
    BODIES.iter()
}

/// A kind that occurs only as the body of a subresource or an option, such as `Binding`, `Eviction` or `Scale`.
pub fn body(api_version: &str, kind: &str) -> Option<&'static Arc<Kind>> {
    let (group, version) = split_api_version(api_version);
    BODIES.iter().find(|k| k.kind == kind && k.version == version && k.group == group)
}

/// Splits `apps/v1` into group and version; the core group is the empty string.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

#[cfg(test)]
mod tests;
