//! Annotations of pods that once were fields, or still are in another way.
//!
//! Owns their form, and that they say what the fields say.

use super::super::containers;
use super::super::errors::Errors;
use super::super::node::Node;
use super::super::volumes;

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Checks annotations; `path` is what upstream calls the map.
pub fn check(annotations: &Node<'_>, path: &str, spec: &Node<'_>, errors: &mut Errors) {
    for (key, value) in annotations.entries() {
        let keyed = Node { path: format!("{path}[{key}]"), ..value.clone() };
        match key {
            MIRROR if spec.get("nodeName").is_empty() => {
                errors.invalid_text(&keyed, "must set spec.nodeName if mirror pod annotation is set");
            }
            DELETION_COST if !is_cost(value.text()) => errors.invalid_text(&keyed, "must be a 32bit integer"),
            SECCOMP_POD => seccomp(&Node { path: format!("{path}.{key}"), ..value }, errors),
            _ if key.starts_with(SECCOMP_CONTAINER) => {
                seccomp(&Node { path: format!("{path}.{key}"), ..value }, errors);
            }
            _ => {
                if let Some(name) = key.strip_prefix(APP_ARMOR) {
                    app_armor(name, &keyed, spec, errors);
                }
            }
        }
    }
}

/// A number of 32 bits without a plus sign or zeros before it.
fn is_cost(text: &str) -> bool {
    (text == "0" || text.starts_with(|c: char| matches!(c, '-' | '1'..='9'))) && text.parse::<i32>().is_ok()
}

fn seccomp(profile: &Node<'_>, errors: &mut Errors) {
    match profile.text() {
        "runtime/default" | "docker/default" | "unconfined" => {}
        text => match text.strip_prefix("localhost/") {
            Some(path) => volumes::descending_path(profile, path, errors),
            None => errors.invalid_text(profile, "must be a valid seccomp profile"),
        },
    }
}

fn app_armor(container: &str, profile: &Node<'_>, spec: &Node<'_>, errors: &mut Errors) {
    if !containers::all(spec).iter().any(|other| other.get("name").text() == container) {
        errors.invalid_value(profile, &container.into(), "container not found");
    }
    let text = profile.text();
    if !matches!(text, "" | "runtime/default" | "unconfined") && !text.starts_with("localhost/") {
        errors.invalid_text(profile, &format!("invalid AppArmor profile name: {text:?}"));
    }
}

/// What an annotation has to say beside a field, and what is said when it does not.
struct Match<'a> {
    what: &'a str,
    profile: Node<'a>,
    annotation: Node<'a>,
}

/// Checks that annotations about profiles say what the fields say.
pub fn profiles_match(annotations: &Node<'_>, spec: &Node<'_>, errors: &mut Errors) {
    let context = spec.get("securityContext");
    Match { what: "seccomp", profile: context.get("seccompProfile"), annotation: annotations.key(SECCOMP_POD) }
        .check(errors);
    let containers = containers::all(spec);
    for container in &containers {
        let profile = container.at(&["securityContext", "seccompProfile"]);
        let annotation = annotations.key(&format!("{SECCOMP_CONTAINER}{}", container.get("name").text()));
        Match { what: "seccomp", profile, annotation }.check(errors);
    }
    if spec.at(&["os", "name"]).text() == "windows" {
        return;
    }
    for container in &containers {
        let own = container.at(&["securityContext", "appArmorProfile"]);
        let value = if own.is_missing() { context.get("appArmorProfile").value } else { own.value };
        let annotation = annotations.key(&format!("{APP_ARMOR}{}", container.get("name").text()));
        Match { what: "apparmor", profile: Node { value, ..own }, annotation }.check(errors);
    }
}

impl Match<'_> {
    fn check(&self, errors: &mut Errors) {
        if self.profile.is_missing() || self.annotation.is_missing() {
            return;
        }
        let (ty, file) = (self.profile.get("type"), self.profile.get("localhostProfile"));
        let said = self.annotation.text();
        let same = match ty.text() {
            "Unconfined" => said == "unconfined",
            "RuntimeDefault" => said == "runtime/default" || self.what == "seccomp" && said == "docker/default",
            "Localhost" => said.starts_with("localhost/"),
            _ => true,
        };
        if !same {
            errors.forbidden(&ty, &format!("{} type in annotation and field must match", self.what));
        } else if ty.text() == "Localhost" && said.strip_prefix("localhost/") != file.value.as_str() {
            errors.forbidden(&file, &format!("{} profile in annotation and field must match", self.what));
        }
    }
}
