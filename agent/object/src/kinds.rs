//! The table of kinds: every built-in resource the API serves, and where it is stored.
//!
//! Owns names, scopes, subresources and storage keys (upstream's etcd layout). Custom resources are not here: they
//! are read from their definitions by the API server.

mod table;

pub use table::{EMBEDDED, GROUPS, KINDS};

/// Whether objects of a kind live in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Namespaced,
    Cluster,
}

/// One served kind in one group and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub scope: Scope,
    /// Where objects are kept, as upstream lays them out in etcd: `/registry/pods`. Empty for virtual kinds.
    pub prefix: &'static str,
    /// Kept in memory on one box: losing the newest of them in a power cut is harmless.
    pub volatile: bool,
    /// Create-only and answered at once, never stored (the reviews).
    pub virtual_: bool,
    /// Has `/status`.
    pub status: bool,
    /// Has `/scale`.
    pub scale: bool,
    /// The subresources other than `status` and `scale`.
    pub subresources: &'static [&'static str],
    /// The group and version whose form is stored, where that is not the kind's own.
    pub storage_version: Option<&'static str>,
    /// The name of the type in [`crate::schema`].
    pub schema: &'static str,
}

/// An API group with its versions, the preferred one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Empty for the core group.
    pub name: &'static str,
    pub versions: &'static [&'static str],
}

impl Kind {
    /// `v1` for the core group, else `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The kind of a list of these objects.
    pub fn list_kind(&self) -> String {
        if self.kind.ends_with("List") { self.kind.to_owned() } else { format!("{}List", self.kind) }
    }

    /// `pods` for the core group, else `deployments.apps`.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
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

    /// The kind whose form is written to the store: itself, but for kinds served under two versions.
    pub fn stored(&'static self) -> &'static Kind {
        self.storage_version.and_then(|version| by_kind(version, self.kind)).unwrap_or(self)
    }
}

/// The kind served at `/apis/GROUP/VERSION/PLURAL` (the core group is the empty string).
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|k| k.plural == plural && k.version == version && k.group == group)
}

/// The kind of an object, from its `apiVersion` and `kind`.
pub fn by_kind(api_version: &str, kind: &str) -> Option<&'static Kind> {
    find(KINDS, api_version, kind)
}

/// A kind that occurs only as the body of a subresource or an option, such as `Binding`, `Eviction` or `Scale`.
pub fn embedded(api_version: &str, kind: &str) -> Option<&'static Kind> {
    find(EMBEDDED, api_version, kind)
}

fn find(table: &'static [Kind], api_version: &str, kind: &str) -> Option<&'static Kind> {
    let (group, version) = split_api_version(api_version);
    table.iter().find(|k| k.kind == kind && k.version == version && k.group == group)
}

/// Splits `apps/v1` into group and version; the core group is the empty string.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// The served groups in upstream's discovery order (core first), versions preferred first.
pub fn group_versions() -> &'static [Group] {
    GROUPS
}

#[cfg(test)]
mod tests;
