//! Authorization by roles and their bindings, as upstream's RBAC authorizer decides.
//!
//! The rules are kept compiled in memory and made anew after any change of a role or a binding.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::Deserialize;
use skiff_object::kinds;
use skiff_object::labels::Selector;
use skiff_object::roles::{self, Role};
use skiff_store::{ListOptions, Store};

use crate::codec;
use crate::users::User;

const GROUP: &str = "rbac.authorization.k8s.io";

/// What somebody wants to do.
#[derive(Clone, Debug)]
pub enum Attributes<'a> {
    Resource {
        verb: &'a str,
        group: &'a str,
        /// With its subresource: `pods/log`.
        resource: &'a str,
        namespace: Option<&'a str>,
        /// That of the path, or the one that a list is narrowed to by its fields.
        name: Option<&'a str>,
        /// The node that a list of pods is narrowed to by its fields.
        of_node: Option<&'a str>,
    },
    Path {
        verb: &'a str,
        path: &'a str,
    },
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    metadata: Metadata,
    rules: Vec<Rule>,
    subjects: Vec<Subject>,
    role_ref: RoleRef,
    aggregation_rule: Option<AggregationRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
    labels: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AggregationRule {
    cluster_role_selectors: Vec<serde_json::Value>,
}

/// Rules given in one namespace or everywhere.
struct Grant {
    namespace: Option<String>,
    rules: Arc<[Rule]>,
}

#[derive(Default)]
pub struct Authorizer {
    compiled: RwLock<Arc<Compiled>>,
}

/// Roles and bindings as they were read last.
#[derive(Default)]
struct Compiled {
    grants: Vec<Grant>,
    /// Which grants each user and each group has.
    by_user: HashMap<String, Vec<usize>>,
    by_group: HashMap<String, Vec<usize>>,
    /// The rules of each ClusterRole, with those it aggregates.
    cluster_roles: HashMap<String, Arc<[Rule]>>,
}

impl Compiled {
    fn add(&mut self, grant: Grant, subjects: Vec<Subject>) {
        let number = self.grants.len();
        for subject in subjects {
            match subject.kind.as_str() {
                "User" => self.by_user.entry(subject.name).or_default().push(number),
                "Group" => self.by_group.entry(subject.name).or_default().push(number),
                "ServiceAccount" => {
                    let namespace = Some(subject.namespace).filter(|n| !n.is_empty()).or(grant.namespace.clone());
                    let user = format!("system:serviceaccount:{}:{}", namespace.unwrap_or_default(), subject.name);
                    self.by_user.entry(user).or_default().push(number);
                }
                _ => {}
            }
        }
        self.grants.push(grant);
    }

    /// All that a user has, by its name and by its groups. One that it has twice comes twice.
    fn of<'a>(&'a self, user: &'a User) -> impl Iterator<Item = &'a Grant> {
        let by_group = user.groups.iter().filter_map(|group| self.by_group.get(group));
        self.by_user.get(&user.name).into_iter().chain(by_group).flatten().map(|number| &self.grants[*number])
    }
}

impl Authorizer {
    pub fn allows(&self, user: &User, wanted: &Attributes<'_>) -> bool {
        let allowed = |grant: &Grant| grant.rules.iter().any(|rule| grants(grant.namespace.as_deref(), rule, wanted));
        user.is_master() || self.compiled().of(user).any(allowed)
    }

    /// Whether the rules of a ClusterRole, granted everywhere, would allow it.
    pub fn role_allows(&self, role: &str, wanted: &Attributes<'_>) -> bool {
        let compiled = self.compiled();
        compiled.cluster_roles.get(role).is_some_and(|rules| rules.iter().any(|rule| grants(None, rule, wanted)))
    }

    /// What a user may do in a namespace, or in none: for `kubectl auth can-i --list`.
    pub fn rules_in(&self, user: &User, namespace: Option<&str>) -> Vec<Rule> {
        let all = || vec!["*".to_owned()];
        if user.is_master() {
            let resources = Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() };
            return vec![resources, Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() }];
        }
        let compiled = self.compiled();
        let here = |grant: &&Grant| grant.namespace.is_none() || grant.namespace.as_deref() == namespace;
        compiled.of(user).filter(here).flat_map(|grant| grant.rules.iter().cloned()).collect()
    }

    /// Compiles the roles and bindings as they are stored now.
    pub async fn reload<S: Store>(&self, store: &S) -> Result<(), skiff_store::Error> {
        let cluster_roles = load(store, "clusterroles").await?;
        let roles = load(store, "roles").await?;
        let cluster_bindings = load(store, "clusterrolebindings").await?;
        let bindings = load(store, "rolebindings").await?;
        let cluster_roles = cluster_role_rules(&cluster_roles);
        let all = cluster_bindings.into_iter().chain(bindings);
        let mut compiled = Compiled::default();
        for (grant, subjects) in all.filter_map(|binding| grant(binding, &cluster_roles, &roles)) {
            compiled.add(grant, subjects);
        }
        compiled.cluster_roles = cluster_roles;
        *self.compiled.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(compiled);
        Ok(())
    }

    fn compiled(&self) -> Arc<Compiled> {
        Arc::clone(&self.compiled.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All rules of a ClusterRole, aggregated ones among them.
    pub fn cluster_role_rules(&self, name: &str) -> Option<Vec<Rule>> {
        self.compiled().cluster_roles.get(name).map(|rules| rules.to_vec())
    }
}

/// Where the roles and their bindings are.
pub fn prefixes() -> Vec<String> {
    ["clusterroles", "roles", "clusterrolebindings", "rolebindings"].map(prefix).to_vec()
}

fn prefix(plural: &str) -> String {
    kinds::by_resource(GROUP, "v1", plural).expect("a kind of the RBAC group").key_prefix(None)
}

async fn load<S: Store>(store: &S, plural: &str) -> Result<Vec<Object>, skiff_store::Error> {
    let page = store.list(&prefix(plural), ListOptions::default()).await?;
    Ok(page.entries.iter().filter_map(|e| serde_json::from_slice(&codec::text(e)).ok()).collect())
}

fn grant(
    binding: Object,
    cluster_roles: &HashMap<String, Arc<[Rule]>>,
    roles: &[Object],
) -> Option<(Grant, Vec<Subject>)> {
    let namespace = Some(binding.metadata.namespace).filter(|n| !n.is_empty());
    let rules = match binding.role_ref.kind.as_str() {
        "ClusterRole" => Arc::clone(cluster_roles.get(&binding.role_ref.name)?),
        "Role" => {
            let here = |r: &&Object| {
                r.metadata.name == binding.role_ref.name && Some(&r.metadata.namespace) == namespace.as_ref()
            };
            roles.iter().find(here)?.rules.clone().into()
        }
        _ => return None,
    };
    Some((Grant { namespace, rules }, binding.subjects))
}

/// The rules of each ClusterRole; an aggregated one's are those of the roles that it selects, whatever it shows itself.
fn cluster_role_rules(all: &[Object]) -> HashMap<String, Arc<[Rule]>> {
    let views: Vec<Role<'_>> = all.iter().map(view).collect();
    let rules = |place: usize| {
        let parts = roles::parts(&views, place).into_iter().map(|part| &all[part]);
        parts.flat_map(|part| part.rules.iter().cloned()).collect()
    };
    all.iter().enumerate().map(|(place, role)| (role.metadata.name.clone(), rules(place))).collect()
}

fn view(role: &Object) -> Role<'_> {
    let selectors = role.aggregation_rule.as_ref().map(|rule| rule.cluster_role_selectors.iter());
    let parse = |selector: &serde_json::Value| Selector::from_label_selector(selector).ok();
    Role {
        name: &role.metadata.name,
        labels: &role.metadata.labels,
        selectors: selectors.map(|selectors| selectors.filter_map(parse).collect()),
    }
}

fn grants(granted_in: Option<&str>, rule: &Rule, wanted: &Attributes<'_>) -> bool {
    let has = |list: &[String], value: &str| list.iter().any(|v| v == "*" || v == value);
    match wanted {
        Attributes::Resource { verb, group, resource, namespace, name, of_node: _ } => {
            let here = granted_in.is_none() || granted_in == *namespace;
            let named = rule.resource_names.is_empty()
                || name.is_some_and(|name| rule.resource_names.iter().any(|n| n == name));
            here && named
                && has(&rule.verbs, verb)
                && has(&rule.api_groups, group)
                && rule.resources.iter().any(|r| covers_resource(r, resource))
        }
        Attributes::Path { verb, path } => {
            granted_in.is_none()
                && has(&rule.verbs, verb)
                && rule.non_resource_urls.iter().any(|granted| covers_path(granted, path))
        }
    }
}

/// `*`, the resource itself, or `*/scale` for a subresource of any.
pub fn covers_resource(granted: &str, wanted: &str) -> bool {
    let any_parent =
        granted.strip_prefix("*/").is_some_and(|sub| wanted.split_once('/').is_some_and(|(_, s)| s == sub));
    granted == "*" || granted == wanted || any_parent
}

pub fn covers_path(granted: &str, wanted: &str) -> bool {
    granted == "*" || granted == wanted || granted.strip_suffix('*').is_some_and(|prefix| wanted.starts_with(prefix))
}
