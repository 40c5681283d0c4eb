//! Admission policies in the Common Expression Language, bound where their bindings say, and what those that judge say
//! (`ValidatingAdmissionPolicy`). What those that change do is in `mutations.rs`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use skiff_object::cel::{MUTATION_VARIABLES, POLICY_VARIABLES, Program, Val};
use skiff_object::kinds::{Catalogue, Kind};
use skiff_object::labels::Selector;
use skiff_object::meta;
use skiff_store::Store;

use super::matching::{Asked, Conditions, Constraints};
use super::mutations::Mutation;
use super::webhooks::request;
use crate::status::ApiError;
use crate::write::Author;
use crate::{Api, audit};

/// Steps that one binding of a policy may take, as upstream's budget for all of its expressions.
const BUDGET: u64 = 10_000_000;
/// As upstream; what is longer is cut.
const AUDIT_TEXT_BYTES_MAX: usize = 10 * 1024;

pub struct Policy {
    kind: &'static str,
    name: String,
    constraints: Constraints,
    conditions: Conditions,
    fails_closed: bool,
    params: Option<(String, String)>,
    variables: Vec<(String, Option<Program>)>,
    validations: Vec<Validation>,
    notes: Vec<Note>,
    pub(super) mutations: Vec<Mutation>,
    /// Whether it is asked once more when others changed the object after it.
    pub(super) is_reinvoked: bool,
    bindings: Vec<Binding>,
}

struct Validation {
    text: String,
    program: Option<Program>,
    message: String,
    message_program: Option<Program>,
    reason: String,
}

/// What one validation has against a write.
struct Judgement {
    index: usize,
    reason: String,
    message: String,
}

/// What is added to the event in the audit log.
struct Note {
    key: String,
    expression: String,
    program: Option<Program>,
}

pub(super) struct Binding {
    name: String,
    constraints: Constraints,
    actions: Vec<String>,
    params: Option<ParamRef>,
}

struct ParamRef {
    name: String,
    namespace: String,
    selector: Option<Selector>,
    denies_without: bool,
}

/// The policies that are bound.
pub fn read(kind: &'static str, policies: &[Value], bindings: &[Value]) -> Vec<Policy> {
    let bound = |policy: &Value| {
        let name = meta::name(policy).to_owned();
        let own = bindings.iter().filter(|binding| meta::text_at(binding, &["spec", "policyName"]) == name);
        let bindings: Vec<Binding> = own.map(Binding::read).collect();
        (!bindings.is_empty()).then(|| Policy::read(kind, policy, bindings))
    };
    policies.iter().filter_map(bound).collect()
}

fn compile(text: &str) -> Option<Program> {
    Program::compile(text, POLICY_VARIABLES).ok()
}

/// A condition that is left out, or the object that is judged, is nothing.
const NULL: &Value = &Value::Null;

impl Policy {
    fn read(kind: &'static str, policy: &Value, bindings: Vec<Binding>) -> Self {
        let spec = policy.get("spec").unwrap_or(&Value::Null);
        let constraints = spec.get("matchConstraints").unwrap_or(&Value::Null);
        let variable = |json: &Value| {
            let program = Program::compile(meta::text_at(json, &["expression"]), MUTATION_VARIABLES).ok();
            (meta::text_at(json, &["name"]).to_owned(), program)
        };
        let params = spec
            .get("paramKind")
            .map(|kind| (meta::text_at(kind, &["apiVersion"]).to_owned(), meta::text_at(kind, &["kind"]).to_owned()));
        let note = |json: &Value| {
            let expression = meta::text_at(json, &["valueExpression"]).to_owned();
            Note { key: meta::text_at(json, &["key"]).to_owned(), program: compile(&expression), expression }
        };
        Self {
            kind,
            name: meta::name(policy).to_owned(),
            constraints: Constraints::read(constraints, "resourceRules"),
            conditions: Conditions::read(spec),
            fails_closed: meta::text_at(spec, &["failurePolicy"]) != "Ignore",
            params,
            variables: meta::items(spec.get("variables")).iter().map(variable).collect(),
            validations: meta::items(spec.get("validations")).iter().map(Validation::read).collect(),
            notes: meta::items(spec.get("auditAnnotations")).iter().map(note).collect(),
            mutations: meta::items(spec.get("mutations")).iter().map(Mutation::read).collect(),
            is_reinvoked: meta::text_at(spec, &["reinvocationPolicy"]) == "IfNeeded",
            bindings,
        }
    }

    pub(super) fn is_about(&self, asked: &Asked<'_>, catalogue: &Catalogue) -> bool {
        self.constraints.matches(asked, catalogue).is_some()
    }

    /// Whether its conditions hold. One that has no value refuses the write, where the policy may not fail.
    pub(super) fn holds(&self, asked: &Asked<'_>, request: &Value) -> Result<bool, ApiError> {
        match self.conditions.hold(asked, request) {
            Err(why) => self.failed(asked, None, &why).map(|()| false),
            holds => Ok(holds.unwrap_or_default()),
        }
    }

    /// What cannot be evaluated refuses the write, where the policy may not fail.
    pub(super) fn failed(&self, asked: &Asked<'_>, binding: Option<&Binding>, why: &str) -> Result<(), ApiError> {
        if self.fails_closed { Err(denied(asked, self, binding, "", why)) } else { Ok(()) }
    }

    /// Evaluates something of it, about a write and with parameters or without.
    pub(super) fn evaluate<T>(
        &self,
        asked: &Asked<'_>,
        request: &Value,
        params: &Value,
        evaluate: impl FnOnce(&[(&str, Val<'_>)], &mut u64) -> T,
    ) -> T {
        let mut variables = vec![
            ("object", Val::of(asked.object.unwrap_or(NULL), None)),
            ("oldObject", Val::of(asked.old.unwrap_or(NULL), None)),
            ("request", Val::of(request, None)),
            ("params", Val::of(params, None)),
            ("namespaceObject", Val::of(asked.namespace.unwrap_or(NULL), None)),
            ("variables", Val::Map(std::sync::Arc::default())),
        ];
        let mut budget = BUDGET;
        let mut own = Vec::new();
        for (name, program) in &self.variables {
            // One without a value is missed where it is asked for.
            if let Some(Ok(value)) = program.as_ref().map(|program| program.evaluate(&variables, &mut budget)) {
                own.push((Val::text(name.as_str()), value));
                let last = variables.len() - 1;
                variables[last].1 = Val::Map(std::sync::Arc::new(own.clone()));
            }
        }
        evaluate(&variables, &mut budget)
    }

    /// What its validations say.
    fn judge(&self, asked: &Asked<'_>, request: &Value, params: &Value) -> Vec<Judgement> {
        self.evaluate(asked, request, params, |variables, budget| self.judgements(variables, budget))
    }

    fn judgements(&self, variables: &[(&str, Val<'_>)], budget: &mut u64) -> Vec<Judgement> {
        let mut said = Vec::new();
        for (index, validation) in self.validations.iter().enumerate() {
            let result = validation.program.as_ref().map(|program| program.evaluate(variables, budget));
            match result {
                Some(Ok(Val::Bool(true))) => {}
                Some(Ok(Val::Bool(false))) => {
                    let message = validation
                        .message_program
                        .as_ref()
                        .and_then(|program| program.evaluate(variables, budget).ok().map(|text| text.show()));
                    let message = message.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| validation.said());
                    said.push(Judgement { index, reason: validation.reason.clone(), message });
                }
                Some(Ok(_)) | None if self.fails_closed => {
                    let message = format!("expression '{}' is no condition", validation.text);
                    said.push(Judgement { index, reason: String::new(), message });
                }
                Some(Err(error)) if self.fails_closed => {
                    let message = format!("expression '{}' resulted in error: {error}", validation.text);
                    said.push(Judgement { index, reason: String::new(), message });
                }
                Some(_) | None => {}
            }
        }
        said
    }
}

impl Note {
    /// `None` where there is nothing to say.
    fn text(&self, variables: &[(&str, Val<'_>)], budget: &mut u64) -> Result<Option<String>, String> {
        let result = self.program.as_ref().map(|program| program.evaluate(variables, budget));
        match result {
            Some(Ok(Val::Null)) => Ok(None),
            Some(Ok(Val::Text(text))) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
            Some(Ok(_)) | None => Err(format!("valueExpression '{}' is neither text nor null", self.expression)),
            Some(Err(error)) => Err(format!("valueExpression '{}' resulted in error: {error}", self.expression)),
        }
    }
}

impl Validation {
    fn read(json: &Value) -> Self {
        let text = |name: &str| meta::text_at(json, &[name]).to_owned();
        let message = text("messageExpression");
        Self {
            program: compile(&text("expression")),
            text: text("expression"),
            message: text("message"),
            message_program: (!message.is_empty()).then(|| compile(&message)).flatten(),
            reason: text("reason"),
        }
    }

    fn said(&self) -> String {
        if self.message.is_empty() { format!("failed expression: {}", self.text) } else { self.message.clone() }
    }
}

impl Binding {
    fn read(binding: &Value) -> Self {
        let spec = binding.get("spec").unwrap_or(&Value::Null);
        let actions = meta::items(spec.get("validationActions")).iter().filter_map(Value::as_str);
        let params = spec.get("paramRef").map(|json| ParamRef {
            name: meta::text_at(json, &["name"]).to_owned(),
            namespace: meta::text_at(json, &["namespace"]).to_owned(),
            selector: json.get("selector").and_then(|selector| Selector::from_label_selector(selector).ok()),
            denies_without: meta::text_at(json, &["parameterNotFoundAction"]) != "Allow",
        });
        Self {
            name: meta::name(binding).to_owned(),
            constraints: Constraints::read(spec.get("matchResources").unwrap_or(&Value::Null), "resourceRules"),
            actions: actions.map(str::to_owned).collect(),
            params,
        }
    }
}

/// What the bindings of one policy have to say in the audit log, by key: each thing once.
#[derive(Default)]
struct Notes<'p>(BTreeMap<&'p str, Vec<String>>);

impl<'p> Notes<'p> {
    /// Said at once: a write that is refused is recorded, too.
    fn take(
        &mut self,
        policy: &'p Policy,
        binding: &Binding,
        asked: &Asked<'_>,
        request: &Value,
        params: &Value,
    ) -> Result<(), ApiError> {
        if policy.notes.is_empty() {
            return Ok(());
        }
        let said: Vec<_> = policy.evaluate(asked, request, params, |variables, budget| {
            policy.notes.iter().map(|note| (&*note.key, note.text(variables, budget))).collect()
        });
        for (key, text) in said {
            match text {
                Err(why) => policy.failed(asked, Some(binding), &why)?,
                Ok(None) => {}
                Ok(Some(mut text)) => {
                    text.truncate(text.floor_char_boundary(AUDIT_TEXT_BYTES_MAX));
                    let all = self.0.entry(key).or_default();
                    if !all.contains(&text) {
                        all.push(text);
                    }
                    audit::annotate(&format!("{}/{key}", policy.name), all.join(", "));
                }
            }
        }
        Ok(())
    }
}

impl<S: Store> Api<S> {
    /// Whether the policies take a write.
    pub(crate) async fn ask_policies(
        &self,
        author: &Author,
        asked: &Asked<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let (compiled, catalogue) = (self.extensions().compiled(), self.catalogue());
        let (mut audited, mut denial) = (Vec::new(), None);
        for policy in &compiled.policies {
            if !policy.is_about(asked, &catalogue) {
                continue;
            }
            let request = request(author, asked, asked.kind, [None, None]);
            if !policy.holds(asked, &request)? {
                continue;
            }
            let mut notes = Notes::default();
            for (binding, all) in self.bound(policy, asked, &catalogue).await? {
                for params in all {
                    notes.take(policy, binding, asked, &request, &params)?;
                    for Judgement { index, reason, message } in policy.judge(asked, &request, &params) {
                        // What is refused is also recorded.
                        if binding.actions.iter().any(|action| action == "Deny") && denial.is_none() {
                            denial = Some(denied(asked, policy, Some(binding), &reason, &message));
                        }
                        if binding.actions.iter().any(|action| action == "Audit") {
                            audited.push(json!({"message": message, "policy": policy.name, "binding": binding.name,
                                "expressionIndex": index,
                                "validationActions": binding.actions}));
                        }
                        if binding.actions.iter().any(|action| action == "Warn") {
                            warnings.push(format!(
                                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {message}",
                                policy.name, binding.name
                            ));
                        }
                    }
                }
            }
        }
        if !audited.is_empty() {
            audit::annotate("validation.policy.admission.k8s.io/validation_failure", Value::from(audited).to_string());
        }
        denial.map_or(Ok(()), Err)
    }

    /// The bindings of a policy that are about a write, with what each gives it.
    pub(super) async fn bound<'p>(
        &self,
        policy: &'p Policy,
        asked: &Asked<'_>,
        catalogue: &Catalogue,
    ) -> Result<Vec<(&'p Binding, Vec<Value>)>, ApiError> {
        let mut bound = Vec::new();
        for binding in policy.bindings.iter().filter(|binding| binding.constraints.narrows(asked, catalogue)) {
            bound.push((binding, self.params(policy, binding, asked).await?));
        }
        Ok(bound)
    }

    /// What a binding gives its policy: one null where it takes no parameters.
    async fn params(&self, policy: &Policy, binding: &Binding, asked: &Asked<'_>) -> Result<Vec<Value>, ApiError> {
        let (Some((api_version, kind_name)), Some(reference)) = (&policy.params, &binding.params) else {
            return Ok(vec![Value::Null]);
        };
        let missing = |why: &str| match policy.fails_closed {
            true => Err(denied(asked, policy, Some(binding), "", why)),
            false => Ok(Vec::new()),
        };
        let catalogue = self.catalogue();
        let Some(kind) = catalogue.by_kind(api_version, kind_name) else {
            return missing(&format!("failed to find resource for param: {api_version}, Kind={kind_name}"));
        };
        let own = asked.namespace.map(meta::name);
        let namespace = match (kind.namespaced(), reference.namespace.as_str()) {
            (true, "") => own,
            (true, namespace) => Some(namespace),
            (false, _) => None,
        };
        let found = self.selected(kind, namespace, reference).await?;
        if found.is_empty() && reference.denies_without {
            return missing("no params found for policy binding with `Deny` parameterNotFoundAction");
        }
        Ok(found)
    }

    async fn selected(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        reference: &ParamRef,
    ) -> Result<Vec<Value>, ApiError> {
        let Some(selector) = &reference.selector else {
            return Ok(self.read(kind, namespace, &reference.name).await?.into_iter().collect());
        };
        let entries = self.entries_of(kind, namespace).await?;
        let mut selected = Vec::new();
        for entry in &entries {
            let object = self.served(kind, crate::codec::decode(entry)).await?;
            if selector.matches(&meta::labels(&object)) {
                selected.push(object);
            }
        }
        Ok(selected)
    }
}

fn denied(asked: &Asked<'_>, policy: &Policy, binding: Option<&Binding>, reason: &str, why: &str) -> ApiError {
    let binding = binding.map(|binding| format!(" with binding '{}'", binding.name)).unwrap_or_default();
    let why = format!("{} '{}'{binding} denied request: {why}", policy.kind, policy.name);
    ApiError::denied_object(asked.kind, asked.name, reason, &why)
}
