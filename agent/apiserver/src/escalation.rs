//! Nobody grants what they do not hold: whoever writes a role, or binds somebody to one, must hold its rules already, or
//! may `escalate` or `bind` that role. As upstream's `rbac.authorization.k8s.io` strategies decide.

use serde_json::{Value, json};
use skiff_object::kinds;
use skiff_object::kinds::Kind;
use skiff_object::meta;
use skiff_store::Store;

use crate::Api;
use crate::rbac::{Attributes, Rule, covers_path, covers_resource};
use crate::status::ApiError;
use crate::users::User;
use crate::write::Write;

const GROUP: &str = "rbac.authorization.k8s.io";

/// A role: its rules, and those that an aggregation may bring at any time. Its labels decide which other roles get its rules,
/// so that a role with others is as a new one.
pub fn check_role<S: Store>(api: &Api<S>, write: &Write<'_>, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    let user = &write.author.user;
    let same = |field: &str| old.is_some_and(|old| old.get(field) == new.get(field));
    let is_as_it_was =
        same("rules") && same("aggregationRule") && old.is_some_and(|old| meta::labels(old) == meta::labels(new));
    if user.is_master() || is_as_it_was || may(api, user, "escalate", write.kind, write.namespace, meta::name(new)) {
        return Ok(());
    }
    let aggregates = |role: &Value| role.get("aggregationRule").is_some_and(|rule| !rule.is_null());
    if aggregates(new) || old.is_some_and(aggregates) {
        let everything = vec![
            Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
            Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
        ];
        held(api, write, new, &everything)?;
    }
    held(api, write, new, &rules_of(new))
}

/// A binding: the rules of the role it names.
pub async fn check_binding<S: Store>(
    api: &Api<S>,
    write: &Write<'_>,
    new: &Value,
    old: Option<&Value>,
) -> Result<(), ApiError> {
    let user = &write.author.user;
    let same = |field: &str| old.is_some_and(|old| old.get(field) == new.get(field));
    if user.is_master() || same("subjects") && same("roleRef") {
        return Ok(());
    }
    let name = meta::text_at(new, &["roleRef", "name"]);
    let kind = kinds::by_kind(&format!("{GROUP}/v1"), meta::text_at(new, &["roleRef", "kind"]));
    let Some(kind) = kind else { return Ok(()) };
    if may(api, user, "bind", kind, write.namespace, name) {
        return Ok(());
    }
    let namespace = write.namespace.filter(|_| kind.namespaced());
    // One that binds nothing yet may bind anything later.
    let role = api.read(kind, namespace, name).await?.ok_or_else(|| ApiError::not_found(kind, name))?;
    let rules = match api.authorizer().cluster_role_rules(name).filter(|_| !kind.namespaced()) {
        Some(rules) => rules,
        None => rules_of(&role),
    };
    held(api, write, new, &rules)
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

fn rules_of(role: &Value) -> Vec<Rule> {
    meta::items(role.get("rules")).iter().filter_map(|rule| serde_json::from_value(rule.clone()).ok()).collect()
}

fn may<S: Store>(api: &Api<S>, user: &User, verb: &str, kind: &Kind, namespace: Option<&str>, name: &str) -> bool {
    let (group, resource) = (&*kind.group, &*kind.plural);
    let name = Some(name);
    api.authorizer().allows(user, &Attributes::Resource { verb, group, resource, namespace, name, of_node: None })
}

fn held<S: Store>(api: &Api<S>, write: &Write<'_>, new: &Value, granted: &[Rule]) -> Result<(), ApiError> {
    let user = &write.author.user;
    let own = api.authorizer().rules_in(user, write.namespace);
    let missing = uncovered(&own, granted);
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> = missing.iter().map(shown).collect();
    let why = format!(
        "user \"{}\" (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        json!(user.groups),
        missing.join("\n")
    );
    Err(ApiError::forbidden_object(write.kind, meta::name(new), &why))
}

/// Rules of one verb, group, resource and name each, or of one verb and path.
fn atoms(rule: &Rule) -> Vec<Rule> {
    let one = |text: &String| vec![text.clone()];
    let mut atoms = Vec::new();
    for verb in &rule.verbs {
        let base = || Rule { verbs: one(verb), ..Rule::default() };
        atoms.extend(rule.non_resource_urls.iter().map(|url| Rule { non_resource_urls: one(url), ..base() }));
        for (group, resource) in
            rule.api_groups.iter().flat_map(|group| rule.resources.iter().map(move |resource| (group, resource)))
        {
            let atom = || Rule { api_groups: one(group), resources: one(resource), ..base() };
            if rule.resource_names.is_empty() {
                atoms.push(atom());
            }
            atoms.extend(rule.resource_names.iter().map(|name| Rule { resource_names: one(name), ..atom() }));
        }
    }
    atoms
}

/// What of the granted rules nobody of the own ones covers. Pure.
pub fn uncovered(own: &[Rule], granted: &[Rule]) -> Vec<Rule> {
    granted.iter().flat_map(atoms).filter(|atom| !own.iter().any(|own| covers(own, atom))).collect()
}

fn covers(own: &Rule, atom: &Rule) -> bool {
    let has = |own: &[String], wanted: &[String]| {
        own.iter().any(|o| o == "*") || wanted.iter().all(|wanted| own.contains(wanted))
    };
    let resources = atom.resources.iter().all(|wanted| own.resources.iter().any(|o| covers_resource(o, wanted)));
    let names = own.resource_names.is_empty()
        || !atom.resource_names.is_empty() && atom.resource_names.iter().all(|n| own.resource_names.contains(n));
    let paths = atom.non_resource_urls.iter().all(|url| own.non_resource_urls.iter().any(|o| covers_path(o, url)));
    has(&own.verbs, &atom.verbs) && has(&own.api_groups, &atom.api_groups) && resources && names && paths
}

/// As upstream writes a rule in its refusal.
fn shown(rule: &Rule) -> String {
    let fields = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ];
    let fields: Vec<String> = fields
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", json!(list)))
        .collect();
    format!("{{{}}}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
        let list = |text: &str| text.split(',').filter(|t| !t.is_empty()).map(str::to_owned).collect();
        let api_groups = groups.split(',').map(str::to_owned).collect();
        Rule {
            verbs: list(verbs),
            api_groups,
            resources: list(resources),
            resource_names: list(names),
            ..Rule::default()
        }
    }

    #[test]
    fn what_is_not_held_is_named() {
        let editor = rule("get,list,create", "", "pods,configmaps", "");
        let cases = [
            (rule("get", "", "pods", ""), 0),
            (rule("get,delete", "", "pods", ""), 1),
            (rule("get", "", "pods,secrets", ""), 1),
            (rule("get", "apps", "pods", ""), 1),
            (rule("*", "", "pods", ""), 1),
            (rule("get", "*", "pods", ""), 1),
            (rule("get", "", "*", ""), 1),
            (rule("get", "", "pods/log", ""), 1),
            (rule("get", "", "pods", "one"), 0),
        ];
        for (granted, missing) in cases {
            assert_eq!(
                uncovered(std::slice::from_ref(&editor), std::slice::from_ref(&granted)).len(),
                missing,
                "{granted:?}"
            );
        }
        let named = rule("get", "", "secrets", "one");
        assert_eq!(uncovered(std::slice::from_ref(&named), &[rule("get", "", "secrets", "one")]).len(), 0);
        assert_eq!(uncovered(std::slice::from_ref(&named), &[rule("get", "", "secrets", "two")]).len(), 1);
        assert_eq!(uncovered(std::slice::from_ref(&named), &[rule("get", "", "secrets", "")]).len(), 1);
        let admin = rule("*", "*", "*", "");
        assert!(uncovered(&[admin], &[rule("*", "*", "*", ""), rule("get", "", "pods/log", "a")]).is_empty());
        let path = |url: &str| Rule { verbs: all(), non_resource_urls: vec![url.to_owned()], ..Rule::default() };
        assert!(uncovered(&[path("/healthz/*")], &[path("/healthz/a")]).is_empty());
        assert_eq!(uncovered(&[path("/healthz")], &[path("/metrics"), path("*")]).len(), 2);
    }
}
