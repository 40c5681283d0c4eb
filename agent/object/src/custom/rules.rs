//! The rules of a schema (`x-kubernetes-validations`): which expressions it has, and what they say of an object.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::Value;

use super::schema::{Schema, Topology};
use crate::cel::{CompileError, EvalError, Program, Val};
use crate::meta;
use crate::validate::{Errors, FieldError, FieldErrorKind, Node};

/// As upstream: steps of all rules of one object.
const BUDGET: u64 = 10_000_000;
/// More errors than these help nobody.
const ERRORS_MAX: usize = 100;
/// As upstream, of what an expression says.
const MESSAGE_CHARS_MAX: usize = 5120;
const VARIABLES: &[&str] = &["self", "oldSelf"];
const REASONS: &[&str] = &["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

#[derive(Debug)]
pub struct Rule {
    text: String,
    message: String,
    message_expression: String,
    reason: FieldErrorKind,
    field_path: String,
    /// It holds also where there was nothing before.
    optional_old: bool,
    compiled: OnceLock<Result<Program, CompileError>>,
    message_compiled: OnceLock<Result<Program, CompileError>>,
}

impl Rule {
    pub fn read(json: &Value) -> Self {
        let text = |name: &str| meta::text_at(json, &[name]).to_owned();
        let reason = match meta::text_at(json, &["reason"]) {
            "FieldValueDuplicate" => FieldErrorKind::Duplicate,
            "FieldValueForbidden" => FieldErrorKind::Forbidden,
            "FieldValueRequired" => FieldErrorKind::Required,
            _ => FieldErrorKind::Invalid,
        };
        Self {
            text: text("rule"),
            message: text("message"),
            message_expression: text("messageExpression"),
            reason,
            field_path: text("fieldPath"),
            optional_old: json.get("optionalOldSelf") == Some(&Value::Bool(true)),
            compiled: OnceLock::new(),
            message_compiled: OnceLock::new(),
        }
    }

    fn program(&self) -> Result<&Program, CompileError> {
        self.compiled.get_or_init(|| Program::compile(&self.text, VARIABLES)).as_ref().map_err(Clone::clone)
    }

    fn message_program(&self) -> Option<&Program> {
        if self.message_expression.is_empty() {
            return None;
        }
        self.message_compiled.get_or_init(|| Program::compile(&self.message_expression, VARIABLES)).as_ref().ok()
    }
}

/// Checks the rules that a schema has.
pub fn check(schema: &Node<'_>, errors: &mut Errors) {
    for rule in schema.get("x-kubernetes-validations").items() {
        let (text, message) = (rule.get("rule"), rule.get("messageExpression"));
        match text.text() {
            "" => errors.required(&text, "rule is not specified"),
            _ => compiles(&text, errors),
        }
        if !message.text().is_empty() {
            compiles(&message, errors);
        }
        errors.optional_one_of(&rule.get("reason"), REASONS);
        let said = rule.get("message");
        if said.text().contains('\n') {
            errors.invalid(&said, "message must not contain line breaks");
        }
    }
}

fn compiles(node: &Node<'_>, errors: &mut Errors) {
    match Program::compile(node.text(), VARIABLES) {
        Ok(_) => {}
        Err(error @ CompileError::Cost) => errors.forbidden(node, &error.to_string()),
        Err(error) => errors.invalid(node, &error.to_string()),
    }
}

/// What the rules say of an object, and of its change.
pub fn validate(schema: &Schema, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut judge = Judge { errors: Vec::new(), budget: BUDGET };
    judge.level(schema, object, old, "");
    judge.errors
}

struct Judge {
    errors: Vec<FieldError>,
    budget: u64,
}

impl Judge {
    fn level(&mut self, schema: &Schema, value: &Value, old: Option<&Value>, path: &str) {
        if value.is_null() || !schema.has_rules || self.errors.len() >= ERRORS_MAX {
            return;
        }
        for rule in &schema.rules {
            self.rule(rule, schema, value, old, path);
        }
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let Some(field) = schema.field(name) else { continue };
                    let is_property = schema.properties.contains_key(name);
                    let at = match (path, is_property) {
                        ("", _) => name.clone(),
                        (_, true) => format!("{path}.{name}"),
                        (_, false) => format!("{path}[{name}]"),
                    };
                    self.level(field, value, old.and_then(|old| old.get(name)), &at);
                }
            }
            Value::Array(items) => {
                let Some(of_items) = &schema.items else { return };
                let before = Before::of(schema, old);
                for (index, item) in items.iter().enumerate() {
                    self.level(of_items, item, before.item(item), &format!("{path}[{index}]"));
                }
            }
            Value::Bool(_) | Value::Null | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn rule(&mut self, rule: &Rule, schema: &Schema, value: &Value, old: Option<&Value>, path: &str) {
        let program = match rule.program() {
            Ok(program) => program,
            Err(error) => return self.refuse(rule, schema, path, &format!("rule compile error: {error}")),
        };
        // A rule about a transition says nothing where nothing was before.
        if old.is_none() && !rule.optional_old && program.uses("oldSelf") {
            return;
        }
        let of = |value| Val::of(value, Some(schema));
        let mut variables = vec![("self", of(value))];
        match (old, rule.optional_old) {
            (old, true) => variables.push(("oldSelf", Val::Optional(old.map(|old| of(old).into())))),
            (Some(old), false) => variables.push(("oldSelf", of(old))),
            (None, false) => {}
        }
        match program.evaluate(&variables, &mut self.budget) {
            Ok(Val::Bool(true)) => {}
            Ok(Val::Bool(false)) => {
                let mut said = rule.message_program().and_then(|program| {
                    let text = program.evaluate(&variables, &mut self.budget).ok()?;
                    matches!(text, Val::Text(_)).then(|| text.show().chars().take(MESSAGE_CHARS_MAX).collect())
                });
                said.get_or_insert_with(|| rule.message.clone());
                match said.as_deref() {
                    Some("") | None => self.refuse(rule, schema, path, &format!("failed rule: {}", rule.text)),
                    Some(said) => self.refuse(rule, schema, path, said),
                }
            }
            Ok(other) => {
                let why = format!("rule evaluates to {}, it must be bool: {}", other.type_name(), rule.text);
                self.refuse(rule, schema, path, &why);
            }
            Err(EvalError::Cost) => {
                let why =
                    "validation failed due to running out of cost budget, no further validation rules will be run";
                self.refuse(rule, schema, path, why);
            }
            Err(error) => self.refuse(rule, schema, path, &format!("rule evaluation error: {error}: {}", rule.text)),
        }
    }

    fn refuse(&mut self, rule: &Rule, schema: &Schema, path: &str, why: &str) {
        let shown = Value::from(schema.ty.map_or("", |ty| ty.as_str()));
        let at = format!("{path}{}", rule.field_path);
        let at = at.strip_prefix('.').unwrap_or(&at);
        let value = matches!(rule.reason, FieldErrorKind::Invalid | FieldErrorKind::Duplicate).then_some(&shown);
        let path = if at.is_empty() { "<nil>" } else { at };
        self.errors.push(FieldError::new(rule.reason, path, value, why));
    }
}

/// The items that were there before, by their keys, where they have any.
struct Before<'o, 's> {
    keys: &'s [String],
    items: HashMap<String, &'o Value>,
}

impl<'o, 's> Before<'o, 's> {
    fn of(schema: &'s Schema, old: Option<&'o Value>) -> Self {
        let Topology::Keyed(keys) = &schema.topology else { return Self { keys: &[], items: HashMap::new() } };
        let items = meta::items(old).iter().map(|item| (key(keys, item), item)).collect();
        Self { keys, items }
    }

    fn item(&self, item: &Value) -> Option<&'o Value> {
        if self.items.is_empty() { None } else { self.items.get(&key(self.keys, item)).copied() }
    }
}

fn key(keys: &[String], item: &Value) -> String {
    let values: Vec<&Value> = keys.iter().map(|key| item.get(key).unwrap_or(&Value::Null)).collect();
    serde_json::to_string(&values).unwrap_or_default()
}
