//! Who answers for a group and version instead of the box.

use super::errors::Errors;
use super::names;
use super::node::Node;

const GROUP_PRIORITY_MAX: i64 = 20_000;
const VERSION_PRIORITY_MAX: i64 = 1000;

pub fn api_service(object: &Node<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    let (group, version, service) = (spec.get("group"), spec.get("version"), spec.get("service"));
    let required = format!("{}.{}", version.text(), group.text());
    let name = object.at(&["metadata", "name"]);
    if name.text() != required {
        errors.invalid(&name, &format!("must be `spec.version+\".\"+spec.group`: {required:?}"));
    }
    if group.text().is_empty() {
        if version.text() != "v1" {
            errors.required(&group, "only v1 may have an empty group and it better be legacy kube");
        }
    } else {
        errors.named(&group, names::dns_subdomain);
    }
    errors.named(&version, names::dns1035_label);
    let bounds = [("groupPriorityMinimum", GROUP_PRIORITY_MAX), ("versionPriority", VERSION_PRIORITY_MAX)];
    for (field, max) in bounds {
        let field = spec.get(field);
        if !(1..=max).contains(&field.int().unwrap_or_default()) {
            errors.invalid(&field, &format!("must be positive and less than {}", max + 1));
        }
    }
    let (bundle, is_insecure) = (spec.get("caBundle"), spec.get("insecureSkipTLSVerify"));
    if !service.value.is_object() {
        if !bundle.is_empty() {
            errors.invalid_unsaid(&bundle, "local APIServices may not have a caBundle");
        }
        if is_insecure.is_true() {
            errors.invalid(&is_insecure, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    }
    errors.set(&service.get("namespace"));
    errors.set(&service.get("name"));
    errors.in_range(&service.get("port"), 1, 65_535);
    if is_insecure.is_true() && !bundle.is_empty() {
        errors.invalid(&is_insecure, "may not be true if caBundle is present");
    }
}
