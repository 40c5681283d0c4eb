//! Rules in the Common Expression Language, as `x-kubernetes-validations` has them.
//!
//! Owns their evaluation over JSON and its bound: the `cel` crate reads an expression, and here it is walked with a budget, so
//! that no rule takes longer than another. The functions are the standard ones and those that Kubernetes adds.

mod eval;
mod functions;
mod macros;
mod values;

use std::fmt;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::parser::PrattParser;

pub use values::Val;

use eval::{Evaluation, Patterns};

/// What match conditions are about, and what admission policies are.
pub const CONDITION_VARIABLES: &[&str] = &["object", "oldObject", "request"];
pub const POLICY_VARIABLES: &[&str] = &["object", "oldObject", "request", "params", "namespaceObject", "variables"];

/// What mutations are about: these, and the types of what they make.
pub const MUTATION_VARIABLES: &[&str] =
    &["object", "oldObject", "request", "params", "namespaceObject", "variables", OBJECT, JSON_PATCH, "jsonpatch"];
const OBJECT: &str = "Object";
const JSON_PATCH: &str = "JSONPatch";

/// As upstream: steps of one expression.
pub const BUDGET: u64 = 1_000_000;
/// As upstream.
const SOURCE_BYTES_MAX: usize = 100 * 1024;
/// Reading goes as deep on the stack as brackets do.
const BRACKETS_MAX: u16 = 48;
/// Walking goes as deep as operators follow each other.
const DEPTH_MAX: usize = 200;
/// An expression is as deep as it is long where it is one chain, and is dropped so.
const NODES_MAX: usize = 4000;
/// What makes it deeper, counted before it is read.
const DEEPENING: &[u8] = b".[({?:!-+*/%<>=&|";
/// Loops within loops beyond this are refused before they run: they cost a power of what they are about.
const LOOPS_MAX: usize = 3;

/// An expression that was read.
pub struct Program {
    expression: IdedExpr,
    patterns: Patterns,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").finish_non_exhaustive()
    }
}

/// Why an expression is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    #[error("compilation failed: {0}")]
    Syntax(String),
    #[error("the expression is longer than {SOURCE_BYTES_MAX} bytes or {NODES_MAX} parts")]
    Long,
    #[error("the expression has more than {DEPTH_MAX} operators within each other")]
    Deep,
    #[error(
        "estimated rule cost exceeds budget (try simplifying the rule: it has more than {LOOPS_MAX} loops within each other)"
    )]
    Cost,
    #[error("compilation failed: undeclared reference to '{0}' (in container '')")]
    Undeclared(String),
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    #[error("no such key: {0}")]
    Key(String),
    #[error("no such overload: {0}")]
    Overload(String),
    #[error("{0}")]
    Value(String),
    #[error("operation cancelled: actual cost limit exceeded")]
    Cost,
}

impl Program {
    /// Reads an expression about some variables.
    pub fn compile(source: &str, variables: &[&str]) -> Result<Self, CompileError> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(CompileError::Long);
        }
        if source.bytes().filter(|byte| DEEPENING.contains(byte)).count() > NODES_MAX {
            return Err(CompileError::Long);
        }
        let parser = PrattParser::new()
            .max_recursion_depth(BRACKETS_MAX)
            .max_expression_node_count(NODES_MAX)
            .enable_optional_syntax(true)
            .enable_ident_escape_syntax(true);
        let expression = parser.parse(source).map_err(|error| CompileError::Syntax(error.to_string()))?;
        if is_deeper(&expression, DEPTH_MAX) {
            return Err(CompileError::Deep);
        }
        let expression = macros::expand(expression);
        let mut known: Vec<&str> = variables.to_vec();
        check(&expression, &mut known, 0)?;
        Ok(Self { expression, patterns: Patterns::default() })
    }

    /// Whether it is about a variable.
    pub fn uses(&self, variable: &str) -> bool {
        let is_it = |expr: &Expr| matches!(expr, Expr::Ident(name) if name == variable);
        let mut open = vec![&self.expression];
        while let Some(next) = open.pop() {
            if is_it(&next.expr) {
                return true;
            }
            open.extend(parts(&next.expr));
        }
        false
    }

    /// Its value; what it took is taken from the budget.
    pub fn evaluate<'a>(&'a self, variables: &[(&'a str, Val<'a>)], budget: &mut u64) -> Result<Val<'a>, EvalError> {
        self.evaluate_to(variables, budget, |_, made| Ok(made))
    }

    /// What it is as a part of an object: all that is in it is paid for, however often it is shared.
    pub fn evaluate_json<'a>(
        &'a self,
        variables: &[(&'a str, Val<'a>)],
        budget: &mut u64,
    ) -> Result<serde_json::Value, EvalError> {
        self.evaluate_to(variables, budget, |evaluation, made| {
            evaluation.spend_on(&made)?;
            made.to_json()
        })
    }

    fn evaluate_to<'a, T>(
        &'a self,
        variables: &[(&'a str, Val<'a>)],
        budget: &mut u64,
        of: impl FnOnce(&mut Evaluation<'_, 'a>, Val<'a>) -> Result<T, EvalError>,
    ) -> Result<T, EvalError> {
        let mut evaluation = Evaluation::new(variables, &self.patterns, (*budget).min(BUDGET));
        let made = evaluation.run(&self.expression);
        let result = made.and_then(|made| of(&mut evaluation, made));
        *budget = budget.saturating_sub(evaluation.spent());
        result
    }
}

/// The names that mean something without being a variable.
const NAMESPACES: &[&str] = &["optional", "sets", "math", "base64", "strings", "lists", "jsonpatch"];
const TYPES: &[&str] =
    &["int", "uint", "double", "bool", "string", "bytes", "list", "map", "null_type", "type", "timestamp", "duration"];

/// Every name is known, and loops are not too deep within each other.
fn check<'e>(expression: &'e IdedExpr, known: &mut Vec<&'e str>, loops: usize) -> Result<(), CompileError> {
    match &expression.expr {
        Expr::Ident(name) => {
            let is_known = known.iter().any(|known| known == name);
            let is_known = is_known || NAMESPACES.contains(&name.as_str()) || TYPES.contains(&name.as_str());
            if is_known { Ok(()) } else { Err(CompileError::Undeclared(name.clone())) }
        }
        Expr::Comprehension(comprehension) => {
            if loops == LOOPS_MAX {
                return Err(CompileError::Cost);
            }
            check(&comprehension.iter_range, known, loops)?;
            check(&comprehension.accu_init, known, loops)?;
            let before = known.len();
            known.push(&comprehension.iter_var);
            known.extend(comprehension.iter_var2.as_deref());
            known.push(&comprehension.accu_var);
            for part in [&comprehension.loop_cond, &comprehension.loop_step, &comprehension.result] {
                check(part, known, loops + 1)?;
            }
            known.truncate(before);
            Ok(())
        }
        expr => {
            if let Expr::Struct(of) = expr {
                let name = of.type_name.split('.').next().unwrap_or_default();
                if !known.contains(&name) || ![OBJECT, JSON_PATCH].contains(&name) {
                    return Err(CompileError::Undeclared(of.type_name.clone()));
                }
            }
            parts(expr).into_iter().try_for_each(|part| check(part, known, loops))
        }
    }
}

fn is_deeper(expression: &IdedExpr, max: usize) -> bool {
    let mut open = vec![(expression, 0)];
    while let Some((next, depth)) = open.pop() {
        if depth > max {
            return true;
        }
        open.extend(parts(&next.expr).into_iter().map(|part| (part, depth + 1)));
    }
    false
}

/// The expressions within one.
fn parts(expr: &Expr) -> Vec<&IdedExpr> {
    match expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(c) => {
            vec![&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Struct(of) => of.entries.iter().flat_map(|entry| of_entry(&entry.expr)).collect(),
        Expr::Select(select) => vec![&select.operand],
    }
}

fn of_entry(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

#[cfg(test)]
mod tests;
