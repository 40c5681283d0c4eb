//! Admission policies in the Common Expression Language: `ValidatingAdmissionPolicy`, bound where its bindings say.

use serde_json::{Value, json};
use skiff_object::cel::{POLICY_VARIABLES, Program, Val};
use skiff_object::kinds::Kind;
use skiff_object::labels::Selector;
use skiff_object::meta;
use skiff_store::Store;

use super::matching::{Asked, Conditions, Constraints};
use super::webhooks::request;
use crate::status::ApiError;
use crate::write::Author;
use crate::{Api, audit};

/// Steps that one binding of a policy may take, as upstream's budget for all of its expressions.
const BUDGET: u64 = 10_000_000;

pub struct Policy {
    name: String,
    constraints: Constraints,
    conditions: Conditions,
    fails_closed: bool,
    params: Option<(String, String)>,
    variables: Vec<(String, Option<Program>)>,
    validations: Vec<Validation>,
    bindings: Vec<Binding>,
}

struct Validation {
    text: String,
    program: Option<Program>,
    message: String,
    message_program: Option<Program>,
    reason: String,
}

struct Binding {
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
pub fn read(policies: &[Value], bindings: &[Value]) -> Vec<Policy> {
    let bound = |policy: &Value| {
        let name = meta::name(policy).to_owned();
        let own = bindings.iter().filter(|binding| meta::text_at(binding, &["spec", "policyName"]) == name);
        let bindings: Vec<Binding> = own.map(Binding::read).collect();
        (!bindings.is_empty()).then(|| Policy::read(policy, bindings))
    };
    policies.iter().filter_map(bound).collect()
}

fn compile(text: &str) -> Option<Program> {
    Program::compile(text, POLICY_VARIABLES).ok()
}

impl Policy {
    fn read(policy: &Value, bindings: Vec<Binding>) -> Self {
        let spec = policy.get("spec").unwrap_or(&Value::Null);
        let constraints = spec.get("matchConstraints").unwrap_or(&Value::Null);
        let variable =
            |json: &Value| (meta::text_at(json, &["name"]).to_owned(), compile(meta::text_at(json, &["expression"])));
        let params = spec
            .get("paramKind")
            .map(|kind| (meta::text_at(kind, &["apiVersion"]).to_owned(), meta::text_at(kind, &["kind"]).to_owned()));
        Self {
            name: meta::name(policy).to_owned(),
            constraints: Constraints::read(constraints, "resourceRules"),
            conditions: Conditions::read(spec),
            fails_closed: meta::text_at(spec, &["failurePolicy"]) != "Ignore",
            params,
            variables: meta::items(spec.get("variables")).iter().map(variable).collect(),
            validations: meta::items(spec.get("validations")).iter().map(Validation::read).collect(),
            bindings,
        }
    }

    /// What its validations say, with parameters or without.
    fn judge(&self, asked: &Asked<'_>, request: &Value, params: &Value) -> Vec<(String, String)> {
        let null = Value::Null;
        let mut variables = vec![
            ("object", Val::of(asked.object.unwrap_or(&null), None)),
            ("oldObject", Val::of(asked.old.unwrap_or(&null), None)),
            ("request", Val::of(request, None)),
            ("params", Val::of(params, None)),
            ("namespaceObject", Val::of(asked.namespace.unwrap_or(&null), None)),
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
        let mut said = Vec::new();
        for validation in &self.validations {
            let result = validation.program.as_ref().map(|program| program.evaluate(&variables, &mut budget));
            match result {
                Some(Ok(Val::Bool(true))) => {}
                Some(Ok(Val::Bool(false))) => {
                    let message = validation
                        .message_program
                        .as_ref()
                        .and_then(|program| program.evaluate(&variables, &mut budget).ok().map(|text| text.show()));
                    let message = message.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| validation.said());
                    said.push((validation.reason.clone(), message));
                }
                Some(Ok(_)) | None if self.fails_closed => {
                    said.push((String::new(), format!("expression '{}' is no condition", validation.text)));
                }
                Some(Err(error)) if self.fails_closed => {
                    let why = format!("expression '{}' resulted in error: {error}", validation.text);
                    said.push((String::new(), why));
                }
                Some(_) | None => {}
            }
        }
        said
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

impl<S: Store> Api<S> {
    /// Whether the policies take a write.
    pub(crate) async fn ask_policies(
        &self,
        author: &Author,
        asked: &Asked<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let (compiled, catalogue) = (self.extensions().compiled(), self.catalogue());
        let mut audited = Vec::new();
        for policy in &compiled.policies {
            if policy.constraints.matches(asked, &catalogue).is_none() {
                continue;
            }
            let request = request(author, asked, asked.kind, [None, None]);
            match policy.conditions.hold(asked, &request) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) if policy.fails_closed => return Err(denied(asked, policy, None, "", &why)),
                Err(_) => continue,
            }
            for binding in policy.bindings.iter().filter(|binding| binding.constraints.narrows(asked, &catalogue)) {
                for params in self.params(policy, binding, asked).await? {
                    for (reason, message) in policy.judge(asked, &request, &params) {
                        if binding.actions.iter().any(|action| action == "Deny") {
                            return Err(denied(asked, policy, Some(binding), &reason, &message));
                        }
                        if binding.actions.iter().any(|action| action == "Audit") {
                            audited.push(json!({"message": message, "policy": policy.name, "binding": binding.name,
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
        Ok(())
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
    let why = format!("ValidatingAdmissionPolicy '{}'{binding} denied request: {why}", policy.name);
    ApiError::denied_object(asked.kind, asked.name, reason, &why)
}
