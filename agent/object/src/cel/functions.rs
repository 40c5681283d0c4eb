//! The functions of expressions: the standard ones, and Kubernetes' for texts, lists, sets, quantities and addresses. The
//! first argument of a method is what it is called on.

mod lists;
mod operators;
mod others;
mod texts;

use super::EvalError;
use super::eval::Evaluation;
use super::values::Val;

type Outcome<'a> = Result<Val<'a>, EvalError>;

/// Calls a function of a name space (mostly none).
pub fn call<'a>(evaluation: &mut Evaluation<'_, 'a>, space: &str, name: &str, arguments: &[Val<'a>]) -> Outcome<'a> {
    for argument in arguments {
        if !matches!(name, "size" | "_[_]" | "_?._" | "_[?_]" | "hasValue" | "value" | "orValue") {
            evaluation.spend_on(argument)?;
        }
    }
    let found = operators::call(evaluation, name, arguments)
        .or_else(|| texts::call(evaluation, name, arguments))
        .or_else(|| lists::call(evaluation, space, name, arguments))
        .or_else(|| others::call(space, name, arguments));
    found.unwrap_or_else(|| {
        let types: Vec<&str> = arguments.iter().map(Val::type_name).collect();
        Err(EvalError::Overload(format!("{name}({})", types.join(", "))))
    })
}

fn int<'a>(value: usize) -> Val<'a> {
    Val::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

fn wrong<'a>(why: impl Into<String>) -> Outcome<'a> {
    Err(EvalError::Value(why.into()))
}
