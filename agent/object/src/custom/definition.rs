//! A `CustomResourceDefinition`: whether it is one, in upstream's words, and the kinds that it makes.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::jsonpath::JsonPath;
use super::{Custom, Packed, PrinterColumn, Scale, structural};
use crate::kinds::{Kind, Nature, Scope};
use crate::meta;
use crate::schema::Text;
use crate::validate::{Errors, Node, admission, names};

pub const GROUP: &str = "apiextensions.k8s.io";
pub const KIND: &str = "CustomResourceDefinition";

const APPROVAL: &str = "api-approved.kubernetes.io";
const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
/// As upstream.
const SELECTABLE_MAX: usize = 8;

/// Gives a definition the names that it leaves out.
pub fn set_defaults(crd: &mut Value) {
    let kind = meta::text_at(crd, &["spec", "names", "kind"]).to_owned();
    let Some(spec) = crd.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        let mut fill = |name: &str, value: String| {
            if names.get(name).is_none_or(|old| old == "") && !kind.is_empty() {
                names.insert(name.to_owned(), value.into());
            }
        };
        fill("singular", kind.to_lowercase());
        fill("listKind", format!("{kind}List"));
    }
    let conversion = spec.entry("conversion").or_insert_with(|| json!({"strategy": "None"}));
    if let Some(service) = conversion.pointer_mut("/webhook/clientConfig/service").and_then(Value::as_object_mut) {
        service.entry("port").or_insert(443.into());
    }
}

pub(crate) fn validate(crd: &Node<'_>, errors: &mut Errors) {
    let spec = crd.get("spec");
    let (group, names_node) = (spec.get("group"), spec.get("names"));
    let expected = format!("{}.{}", names_node.get("plural").text(), group.text());
    let name = crd.at(&["metadata", "name"]);
    if name.text() != expected {
        errors.invalid(&name, "must be spec.names.plural+\".\"+spec.group");
    }
    validate_group(crd, &group, errors);
    errors.one_of(&spec.get("scope"), &["Cluster", "Namespaced"]);
    validate_names(&names_node, errors);
    if spec.get("preserveUnknownFields").is_true() {
        let detail = "must be set to true in order to use x-kubernetes-preserve-unknown-fields in the schema instead";
        errors.invalid(&spec.get("preserveUnknownFields"), detail);
    }
    let versions = spec.get("versions");
    if versions.items().is_empty() {
        errors.required(&versions, "must have at least one version");
    }
    let (mut seen, mut stored) = (HashSet::new(), 0);
    for version in versions.items() {
        let name = version.get("name");
        errors.named(&name, names::dns1035_label);
        if !seen.insert(name.text()) {
            errors.invalid_value(&versions, versions.value, "must contain unique version names");
        }
        stored += usize::from(version.get("storage").is_true());
        validate_version(&version, errors);
    }
    if stored != 1 && !seen.is_empty() {
        errors.invalid_value(&versions, versions.value, "must have exactly one version marked as storage version");
    }
    validate_conversion(&spec.get("conversion"), errors);
}

fn validate_group(crd: &Node<'_>, group: &Node<'_>, errors: &mut Errors) {
    errors.named(group, names::dns_subdomain);
    let is_of = |domain: &str| group.text() == domain || group.text().ends_with(&format!(".{domain}"));
    if !group.text().is_empty() && !group.text().contains('.') {
        errors.invalid(group, "should be a domain with at least one dot");
    }
    let approval = crd.at(&["metadata", "annotations"]).key(APPROVAL);
    if (is_of("k8s.io") || is_of("kubernetes.io")) && approval.is_empty() {
        let detail = format!(
            "protected groups must have approval annotation {APPROVAL:?}, see \
             https://github.com/kubernetes/enhancements/pull/1111"
        );
        errors.required(&approval, &detail);
    }
}

fn validate_names(node: &Node<'_>, errors: &mut Errors) {
    let lower = |text: &str| names::dns1035_label(&text.to_lowercase());
    let mixed = |field: &Node<'_>, errors: &mut Errors| match field.text() {
        "" => errors.required(field, ""),
        text => {
            for problem in lower(text) {
                errors.invalid(field, &format!("may have mixed case, but should otherwise match: {problem}"));
            }
        }
    };
    errors.named(&node.get("plural"), names::dns1035_label);
    errors.named(&node.get("singular"), names::dns1035_label);
    mixed(&node.get("kind"), errors);
    mixed(&node.get("listKind"), errors);
    for list in ["shortNames", "categories"] {
        node.get(list).items().iter().for_each(|name| errors.invalid_all(name, names::dns1035_label(name.text())));
    }
    if !node.get("kind").text().is_empty() && node.get("kind").text() == node.get("listKind").text() {
        errors.invalid(&node.get("listKind"), "kind and listKind may not be the same");
    }
}

fn validate_version(version: &Node<'_>, errors: &mut Errors) {
    let schema = version.at(&["schema", "openAPIV3Schema"]);
    if schema.value.is_object() {
        structural::check(&schema, errors);
    } else {
        errors.required(&schema, "schemas are required");
    }
    for column in version.get("additionalPrinterColumns").items() {
        errors.set(&column.get("name"));
        errors.one_of(&column.get("type"), COLUMN_TYPES);
        errors.optional_one_of(&column.get("format"), COLUMN_FORMATS);
        path(&column.get("jsonPath"), errors);
    }
    let selectable = version.get("selectableFields").items();
    if selectable.len() > SELECTABLE_MAX {
        errors.too_many(&version.get("selectableFields"), selectable.len(), SELECTABLE_MAX);
    }
    for field in selectable {
        let field = field.get("jsonPath");
        path(&field, errors);
        if JsonPath::parse(field.text()).is_ok_and(|path| path.fields().is_none()) {
            errors.invalid(&field, "is an invalid path: it must be a path of fields");
        }
    }
    let scale = version.at(&["subresources", "scale"]);
    if scale.value.is_object() {
        below(&scale.get("specReplicasPath"), ".spec", errors);
        below(&scale.get("statusReplicasPath"), ".status", errors);
        let selector = scale.get("labelSelectorPath");
        if !selector.text().is_empty() && !selector.text().starts_with(".spec.") {
            below(&selector, ".status", errors);
        }
    }
}

fn path(node: &Node<'_>, errors: &mut Errors) {
    match (node.text(), JsonPath::parse(node.text())) {
        ("", _) => errors.required(node, ""),
        (_, Err(why)) => errors.invalid(node, &format!("is an invalid path: {why}")),
        (_, Ok(_)) => {}
    }
}

fn below(node: &Node<'_>, part: &str, errors: &mut Errors) {
    let fields = JsonPath::parse(node.text()).ok().filter(|path| path.fields().is_some());
    match node.text() {
        "" => errors.required(node, ""),
        text if fields.is_none() || !text.starts_with(&format!("{part}.")) => {
            errors.invalid(node, &format!("should be a json path under {part}"));
        }
        _ => {}
    }
}

fn validate_conversion(conversion: &Node<'_>, errors: &mut Errors) {
    let (strategy, webhook) = (conversion.get("strategy"), conversion.get("webhook"));
    errors.one_of(&strategy, &["None", "Webhook"]);
    let (client, versions) = (webhook.get("clientConfig"), webhook.get("conversionReviewVersions"));
    match strategy.text() {
        "Webhook" if !client.value.is_object() => {
            errors.required(&client, "required when strategy is set to Webhook");
        }
        "Webhook" => {
            admission::client(&client, errors);
            admission::review_versions(&versions, errors);
        }
        "None" if webhook.value.is_object() => {
            errors.forbidden(&webhook, "should not be set when strategy is not set to Webhook");
        }
        _ => {}
    }
}

/// What changed of a definition that may not.
pub(crate) fn validate_update(new: &Node<'_>, old: &Node<'_>, errors: &mut Errors) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let established = meta::items(meta::at(old.value, &["status", "conditions"])).iter().any(|condition| {
        meta::text_at(condition, &["type"]) == "Established" && meta::text_at(condition, &["status"]) == "True"
    });
    let fixed: &[&[&str]] =
        if established { &[&["group"], &["scope"], &["names", "kind"], &["names", "plural"]] } else { &[&["group"]] };
    for path in fixed {
        let field = spec.at(path);
        if field.value != before.at(path).value {
            errors.invalid(&field, "field is immutable");
        }
    }
    let versions: Vec<&str> = spec.get("versions").items().iter().map(|version| version.get("name").text()).collect();
    for stored in old.at(&["status", "storedVersions"]).items() {
        if !versions.contains(&stored.text()) {
            errors.invalid(&stored, "must appear in spec.versions");
        }
    }
}

/// The version in whose form objects are stored.
pub fn storage_version(crd: &Value) -> Option<&str> {
    let versions = meta::items(meta::at(crd, &["spec", "versions"])).iter();
    let mut stored = versions.filter(|version| version.get("storage") == Some(&Value::Bool(true)));
    stored.next().map(|version| meta::text_at(version, &["name"]))
}

/// The kinds of the versions that are served, the preferred one first.
pub fn kinds(crd: &Value, names: &Value) -> Vec<Kind> {
    let all = meta::items(meta::at(crd, &["spec", "versions"]));
    let mut served: Vec<&Value> =
        all.iter().filter(|version| version.get("served") == Some(&Value::Bool(true))).collect();
    served.sort_by_key(|version| std::cmp::Reverse(priority(meta::text_at(version, &["name"]))));
    served.into_iter().map(|version| kind(crd, names, version, all.len() > 1)).collect()
}

fn kind(crd: &Value, names: &Value, version: &Value, has_versions: bool) -> Kind {
    let group = meta::text_at(crd, &["spec", "group"]);
    let text = |value: &str| Text::Owned(value.to_owned());
    let name = |field: &str| text(meta::text_at(names, &[field]));
    let list = |field: &str| meta::items(names.get(field)).iter().filter_map(Value::as_str).map(text).collect();
    let subresource = |name: &str| meta::at(version, &["subresources", name]).is_some();
    let plural = meta::text_at(names, &["plural"]);
    let own = meta::text_at(version, &["name"]);
    let storage = storage_version(crd).filter(|stored| *stored != own);
    let is_cluster = meta::text_at(crd, &["spec", "scope"]) == "Cluster";
    Kind {
        group: text(group),
        version: text(own),
        kind: name("kind"),
        plural: name("plural"),
        singular: name("singular"),
        short_names: list("shortNames"),
        categories: list("categories"),
        scope: if is_cluster { Scope::Cluster } else { Scope::Namespaced },
        nature: Nature::Stored,
        prefix: Text::Owned(format!("/registry/{group}/{plural}")),
        status: subresource("status"),
        scale: subresource("scale"),
        subresources: Vec::new(),
        storage_version: storage.map(|stored| Text::Owned(format!("{group}/{stored}"))),
        type_name: Text::Borrowed(""),
        custom: Some(Arc::new(custom(crd, version, has_versions))),
    }
}

fn custom(crd: &Value, version: &Value, has_versions: bool) -> Custom {
    let schema = meta::at(version, &["schema", "openAPIV3Schema"]).unwrap_or(&Value::Null);
    let columns = meta::items(version.get("additionalPrinterColumns")).iter().filter_map(PrinterColumn::read);
    let scale = meta::at(version, &["subresources", "scale"]).and_then(|scale| {
        let path = |name: &str| JsonPath::parse(meta::text_at(scale, &[name])).ok();
        let selector = path("labelSelectorPath").filter(|path| *path != JsonPath::default());
        Some(Scale { spec_replicas: path("specReplicasPath")?, status_replicas: path("statusReplicasPath")?, selector })
    });
    let selectable = meta::items(version.get("selectableFields")).iter().filter_map(|field| {
        let path = meta::text_at(field, &["jsonPath"]);
        Some((path.strip_prefix('.').unwrap_or(path).to_owned(), JsonPath::parse(path).ok()?))
    });
    Custom {
        columns: columns.collect(),
        scale,
        selectable: selectable.collect(),
        has_versions,
        webhook: meta::at(crd, &["spec", "conversion", "webhook"]).filter(|_| has_versions).cloned(),
        has_defaults: has_defaults(schema),
        is_going: meta::deletion_timestamp(crd).is_some(),
        deprecation: deprecation(crd, version),
        stamp: format!("{}-{}", meta::uid(crd), meta::generation(crd)),
        schema: Packed::new(schema),
    }
}

/// Told without reading the schema: there may be many, and few are used.
fn has_defaults(schema: &Value) -> bool {
    let Value::Object(map) = schema else { return false };
    let all = |name: &str| map.get(name).and_then(Value::as_object).is_some_and(|all| all.values().any(has_defaults));
    let one = |name: &str| map.get(name).is_some_and(has_defaults);
    map.contains_key("default") || all("properties") || one("items") || one("additionalProperties")
}

fn deprecation(crd: &Value, version: &Value) -> Option<String> {
    if version.get("deprecated") != Some(&Value::Bool(true)) {
        return None;
    }
    Some(match meta::text_at(version, &["deprecationWarning"]) {
        "" => {
            let (group, kind) =
                (meta::text_at(crd, &["spec", "group"]), meta::text_at(crd, &["spec", "names", "kind"]));
            format!("{group}/{} {kind} is deprecated", meta::text_at(version, &["name"]))
        }
        text => text.to_owned(),
    })
}

/// How a version stands to others: `v2` before `v1` before `v1beta2` before `v1alpha1` before all that are none of these.
fn priority(version: &str) -> (u8, u32, u32, std::cmp::Reverse<String>) {
    let name = std::cmp::Reverse(version.to_owned());
    let parsed = version.strip_prefix('v').and_then(|rest| {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let major: u32 = rest[..digits].parse().ok()?;
        match &rest[digits..] {
            "" => Some((3, major, 0)),
            rest => {
                let (class, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
                    (Some(minor), _) => (2, minor),
                    (_, Some(minor)) => (1, minor),
                    (None, None) => return None,
                };
                Some((class, major, minor.parse().ok()?))
            }
        }
    });
    parsed.map_or((0, 0, 0, name.clone()), |(class, major, minor)| (class, major, minor, name))
}
