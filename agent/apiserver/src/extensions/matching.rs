//! Which writes a webhook or a policy is asked about. Pure.

use std::sync::Arc;

use serde_json::Value;
use skiff_object::cel::{CONDITION_VARIABLES, Program, Val};
use skiff_object::kinds::{Catalogue, Kind};
use skiff_object::labels::Selector;
use skiff_object::meta;

/// Steps that the conditions of one webhook may take together.
const CONDITIONS_BUDGET: u64 = 1_000_000;

/// A write as it is told.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// `CREATE`, `UPDATE` or `DELETE`.
    pub operation: &'a str,
    pub kind: &'a Kind,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub name: &'a str,
    pub object: Option<&'a Value>,
    pub old: Option<&'a Value>,
    /// Of its namespace; `None` for what is in none.
    pub namespace: Option<&'a Value>,
}

struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    scope: String,
}

/// Where it is asked, and about what.
pub struct Constraints {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Also about what is written through another version.
    is_equivalent: bool,
    namespaces: Selector,
    objects: Selector,
}

fn texts(json: &Value, name: &str) -> Vec<String> {
    meta::items(json.get(name)).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

impl Rule {
    fn read(json: &Value) -> Self {
        Self {
            operations: texts(json, "operations"),
            groups: texts(json, "apiGroups"),
            versions: texts(json, "apiVersions"),
            resources: texts(json, "resources"),
            names: texts(json, "resourceNames"),
            scope: meta::text_at(json, &["scope"]).to_owned(),
        }
    }

    fn matches(&self, asked: &Asked<'_>, kind: &Kind) -> bool {
        let has = |list: &[String], wanted: &str| list.iter().any(|one| one == "*" || one == wanted);
        let in_scope = match self.scope.as_str() {
            "Namespaced" => kind.namespaced(),
            "Cluster" => !kind.namespaced(),
            _ => true,
        };
        let resource = |one: &String| match one.split_once('/') {
            None => asked.subresource.is_empty() && (one == "*" || *one == *kind.plural),
            Some((resource, subresource)) => {
                let of_part = subresource == "*" || subresource == asked.subresource && !subresource.is_empty();
                (resource == "*" || resource == kind.plural) && of_part
            }
        };
        in_scope
            && has(&self.operations, asked.operation)
            && has(&self.groups, &kind.group)
            && has(&self.versions, &kind.version)
            && self.resources.iter().any(resource)
            && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
    }
}

impl Constraints {
    /// Of a webhook, or of what a policy matches. Selectors that are none match nothing.
    pub fn read(json: &Value, rules: &str) -> Self {
        let all = |name: &str| meta::items(json.get(name)).iter().map(Rule::read).collect();
        let selector = |name: &str| match json.get(name) {
            Some(selector) => Selector::from_label_selector(selector).unwrap_or_else(|_| Selector::nothing()),
            None => Selector::default(),
        };
        Self {
            rules: all(rules),
            excluded: all("excludeResourceRules"),
            is_equivalent: meta::text_at(json, &["matchPolicy"]) != "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// The kind in whose form it is asked, if it is.
    pub fn matches(&self, asked: &Asked<'_>, catalogue: &Catalogue) -> Option<Arc<Kind>> {
        let kind = self.kind(&self.rules, asked, catalogue)?;
        let is_excluded = self.kind(&self.excluded, asked, catalogue).is_some();
        (!is_excluded && self.selects(asked)).then_some(kind)
    }

    /// The same where no rules mean all that somebody else matched.
    pub fn narrows(&self, asked: &Asked<'_>, catalogue: &Catalogue) -> bool {
        let by_rules = self.rules.is_empty() || self.kind(&self.rules, asked, catalogue).is_some();
        by_rules && self.kind(&self.excluded, asked, catalogue).is_none() && self.selects(asked)
    }

    fn kind(&self, rules: &[Rule], asked: &Asked<'_>, catalogue: &Catalogue) -> Option<Arc<Kind>> {
        let own = catalogue.by_resource(&asked.kind.group, &asked.kind.version, &asked.kind.plural);
        let others = catalogue
            .kinds()
            .filter(|kind| self.is_equivalent && kind.prefix == asked.kind.prefix && ***kind != *asked.kind);
        own.into_iter().chain(others).find(|kind| rules.iter().any(|rule| rule.matches(asked, kind))).cloned()
    }

    fn selects(&self, asked: &Asked<'_>) -> bool {
        let labels = |object: Option<&Value>| object.is_some_and(|object| self.objects.matches(&meta::labels(object)));
        let of_namespace = match (asked.namespace, asked.kind.is("", "Namespace")) {
            (Some(namespace), _) => self.namespaces.matches(&meta::labels(namespace)),
            (None, true) => {
                let own = asked.object.or(asked.old);
                own.is_some_and(|own| self.namespaces.matches(&meta::labels(own)))
            }
            (None, false) => true,
        };
        of_namespace && (self.objects.is_empty() || labels(asked.object) || labels(asked.old))
    }
}

/// The conditions under which it is asked.
pub struct Conditions(Vec<(String, Option<Program>)>);

impl Conditions {
    pub fn read(json: &Value) -> Self {
        let condition = |json: &Value| {
            let expression = meta::text_at(json, &["expression"]);
            (meta::text_at(json, &["name"]).to_owned(), Program::compile(expression, CONDITION_VARIABLES).ok())
        };
        Self(meta::items(json.get("matchConditions")).iter().map(condition).collect())
    }

    /// Whether all hold. One that is false decides, whatever others have no value.
    pub fn hold(&self, asked: &Asked<'_>, request: &Value) -> Result<bool, String> {
        let null = Value::Null;
        let variables = [
            ("object", Val::of(asked.object.unwrap_or(&null), None)),
            ("oldObject", Val::of(asked.old.unwrap_or(&null), None)),
            ("request", Val::of(request, None)),
        ];
        let (mut failed, mut budget) = (None, CONDITIONS_BUDGET);
        for (name, program) in &self.0 {
            let result = program.as_ref().map(|program| program.evaluate(&variables, &mut budget));
            match result {
                Some(Ok(Val::Bool(true))) => {}
                Some(Ok(Val::Bool(false))) => return Ok(false),
                Some(Ok(_)) | None => drop(failed.get_or_insert(format!("match condition {name:?} is no condition"))),
                Some(Err(error)) => drop(failed.get_or_insert(format!("match condition {name:?}: {error}"))),
            }
        }
        failed.map_or(Ok(true), Err)
    }
}
