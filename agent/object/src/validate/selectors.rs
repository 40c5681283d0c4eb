//! Label selectors in objects, and whether they match a template.
//!
//! Owns the check of the form; what a selector selects is [`crate::labels`]'s.

use super::errors::Errors;
use super::metadata;
use super::names;
use super::node::Node;
use crate::labels::Selector;

/// Checks a `LabelSelector`.
pub fn label_selector(selector: &Node<'_>, errors: &mut Errors) {
    metadata::labels(&selector.get("matchLabels"), errors);
    for expression in selector.get("matchExpressions").items() {
        let (operator, values) = (expression.get("operator"), expression.get("values"));
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.invalid_text(&operator, "not a valid selector operator"),
        }
        errors.formed(&expression.get("key"), names::qualified_name);
        values.items().iter().for_each(|value| errors.formed(value, names::label_value));
    }
}

/// Checks a selector, which may not be empty, and that it selects its own template.
pub fn selects_template(emptiness: &str, selector: &Node<'_>, template: &Node<'_>, errors: &mut Errors) {
    label_selector(selector, errors);
    match Selector::from_label_selector(selector.value) {
        Ok(parsed) if parsed.is_empty() => errors.invalid(selector, emptiness),
        Ok(parsed) => matches_template(&parsed, template, errors),
        Err(_) => {} // reported above
    }
}

/// Checks that the labels of a template are selected.
pub fn matches_template(selector: &Selector, template: &Node<'_>, errors: &mut Errors) {
    if !selector.matches(&template.at(&["metadata", "labels"]).value.as_object()) {
        matches_nothing(template, errors);
    }
}

/// A selector that is missing selects nothing.
pub fn matches_nothing(template: &Node<'_>, errors: &mut Errors) {
    errors.invalid(&template.at(&["metadata", "labels"]), "`selector` does not match template `labels`");
}
