//! What policies change of an object (`MutatingAdmissionPolicy`): an expression makes a part of one that is merged into it,
//! or a JSON patch.

use serde_json::Value;
use skiff_object::cel::{MUTATION_VARIABLES, Program};
use skiff_object::decode::{self, FieldValidation};
use skiff_object::patch::{self, PatchKind};
use skiff_object::{managed, meta};
use skiff_store::Store;

use super::matching::Asked;
use super::policies::Policy;
use super::webhooks::request;
use crate::Api;
use crate::status::ApiError;
use crate::write::Author;

pub struct Mutation {
    text: String,
    program: Option<Program>,
    is_patch: bool,
}

impl Mutation {
    pub fn read(json: &Value) -> Self {
        let is_patch = meta::text_at(json, &["patchType"]) == "JSONPatch";
        let field = if is_patch { "jsonPatch" } else { "applyConfiguration" };
        let text = meta::text_at(json, &[field, "expression"]).to_owned();
        Self { program: Program::compile(&text, MUTATION_VARIABLES).ok(), text, is_patch }
    }
}

impl Policy {
    /// What its mutations make of an object, one after the other.
    fn change(&self, asked: &Asked<'_>, request: &Value, params: &Value) -> Result<Value, String> {
        let mut object = asked.object.cloned().unwrap_or_default();
        for mutation in &self.mutations {
            let now = Asked { object: Some(&object), ..*asked };
            let made = self.evaluate(&now, request, params, |variables, budget| match &mutation.program {
                Some(program) => program.evaluate_json(variables, budget),
                None => Ok(Value::Null),
            });
            let of = |why: String| format!("expression '{}' resulted in error: {why}", mutation.text);
            let made = made.map_err(|error| of(error.to_string()))?;
            let changed = match (mutation.is_patch, &made) {
                (true, Value::Array(_)) => {
                    patch::apply(asked.kind, &object, PatchKind::Json, &made).map_err(|error| error.to_string())
                }
                (true, _) => Err("it is no list of JSONPatch".to_owned()),
                (false, Value::Object(_)) => {
                    managed::merged(asked.kind, &object, &made).map_err(|error| error.to_string())
                }
                (false, _) => Err("it is no Object".to_owned()),
            };
            let decoded = decode::decode_value(asked.kind, changed.map_err(of)?, FieldValidation::Ignore);
            object = decoded.map_err(|error| of(error.to_string()))?.value;
        }
        Ok(object)
    }
}

impl<S: Store> Api<S> {
    /// What the policies make of an object; `None` where nobody changed it. Those that ask for it see what others made of it
    /// after them; with `is_again` only they are asked.
    pub(super) async fn mutate_by_policies(
        &self,
        author: &Author,
        asked: Asked<'_>,
        is_again: bool,
    ) -> Result<Option<Value>, ApiError> {
        let compiled = self.extensions().compiled();
        let mut changed: Option<Value> = None;
        // The policy that changed it last.
        let mut last = None;
        for round in usize::from(is_again)..2 {
            for (index, policy) in compiled.mutators.iter().enumerate() {
                let is_seen = round > 0 && !is_again && last.is_none_or(|last| last <= index);
                if round > 0 && (is_seen || !policy.is_reinvoked) {
                    continue;
                }
                let now = Asked { object: changed.as_ref().or(asked.object), ..asked };
                if let Some(object) = self.mutate_by(policy, author, &now).await? {
                    changed = Some(object);
                    last = Some(index);
                }
            }
        }
        Ok(changed)
    }

    async fn mutate_by(&self, policy: &Policy, author: &Author, asked: &Asked<'_>) -> Result<Option<Value>, ApiError> {
        let catalogue = self.catalogue();
        if asked.object.is_none() || !policy.is_about(asked, &catalogue) {
            return Ok(None);
        }
        let request = request(author, asked, asked.kind, [None, None]);
        if !policy.holds(asked, &request)? {
            return Ok(None);
        }
        let mut changed: Option<Value> = None;
        for (binding, all) in self.bound(policy, asked, &catalogue).await? {
            for params in all {
                let now = Asked { object: changed.as_ref().or(asked.object), ..*asked };
                match policy.change(&now, &request, &params) {
                    Ok(object) if now.object != Some(&object) => changed = Some(object),
                    Ok(_) => {}
                    Err(why) => policy.failed(asked, Some(binding), &why)?,
                }
            }
        }
        Ok(changed)
    }
}
