//! The walk over an expression, with a budget: each step takes one, and what is as long as its data takes as many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};

use regex::Regex;

use super::functions;
use super::values::{Val, unescaped};
use super::{EvalError, NAMESPACES, TYPES};
use crate::custom::compile_pattern;

/// Bytes of a text that cost as much as a step, as upstream counts them.
const BYTES_A_STEP: usize = 10;
/// Compiling a pattern takes as long as so many steps.
const COMPILE_STEPS: u64 = 5_000;
/// Those that one expression keeps.
const PATTERNS_MAX: usize = 8;

/// The patterns that an expression has compiled. Mostly they are part of it, and the same each time.
pub type Patterns = Mutex<HashMap<String, Option<Arc<Regex>>>>;

pub struct Evaluation<'v, 'a> {
    variables: &'v [(&'a str, Val<'a>)],
    /// The innermost last.
    scope: Vec<(String, Val<'a>)>,
    spent: u64,
    budget: u64,
    patterns: &'v Patterns,
}

type Outcome<'a> = Result<Val<'a>, EvalError>;

impl<'v, 'a> Evaluation<'v, 'a> {
    pub fn new(variables: &'v [(&'a str, Val<'a>)], patterns: &'v Patterns, budget: u64) -> Self {
        Self { variables, scope: Vec::new(), spent: 0, budget, patterns }
    }

    pub fn spent(&self) -> u64 {
        self.spent
    }

    pub fn spend(&mut self, steps: usize) -> Result<(), EvalError> {
        self.spent = self.spent.saturating_add(u64::try_from(steps).unwrap_or(u64::MAX));
        if self.spent > self.budget { Err(EvalError::Cost) } else { Ok(()) }
    }

    /// All that is in a value, however often it is shared: whoever compares or prints it walks as far.
    pub fn spend_on(&mut self, value: &Val<'_>) -> Result<(), EvalError> {
        match value {
            Val::Text(text) => self.spend(text.len() / BYTES_A_STEP),
            Val::Bytes(bytes) => self.spend(bytes.len() / BYTES_A_STEP),
            Val::Json(json, _) => self.spend(weight(json)),
            Val::List(items) => {
                self.spend(items.len())?;
                items.iter().try_for_each(|item| self.spend_on(item))
            }
            Val::Map(entries) => {
                self.spend(entries.len().saturating_mul(entries.len()))?;
                entries.iter().try_for_each(|(key, value)| self.spend_on(key).and_then(|()| self.spend_on(value)))
            }
            Val::Optional(Some(inner)) => self.spend_on(inner),
            Val::Null | Val::Bool(_) | Val::Int(_) | Val::Uint(_) | Val::Double(_) | Val::Optional(None) => Ok(()),
            Val::Time(_) | Val::Span(_) | Val::Quantity(_) | Val::Address(..) | Val::Type(_) => Ok(()),
        }
    }

    /// A pattern, compiled once; `None`: it is none.
    pub fn regex(&mut self, pattern: &str) -> Result<Option<Arc<Regex>>, EvalError> {
        let mut known = self.patterns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(pattern) {
            return Ok(found.clone());
        }
        self.spent += COMPILE_STEPS;
        let compiled = compile_pattern(pattern).map(Arc::new);
        if known.len() == PATTERNS_MAX {
            known.clear();
        }
        known.insert(pattern.to_owned(), compiled.clone());
        drop(known);
        self.spend(0).map(|()| compiled)
    }

    pub fn run(&mut self, expression: &IdedExpr) -> Outcome<'a> {
        self.spend(1)?;
        match &expression.expr {
            Expr::Unspecified => Err(EvalError::Value("an empty expression".to_owned())),
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => self.variable(name),
            Expr::Select(select) => self.select(select),
            Expr::List(list) => self.list(list),
            Expr::Map(map) => {
                let mut entries = Vec::with_capacity(map.entries.len());
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        entries.push((self.run(&entry.key)?, self.run(&entry.value)?));
                    }
                }
                Ok(Val::Map(Arc::new(entries)))
            }
            Expr::Struct(of) => {
                let mut fields = Vec::with_capacity(of.entries.len());
                for entry in &of.entries {
                    let EntryExpr::StructField(field) = &entry.expr else { continue };
                    match (self.run(&field.value)?, field.optional) {
                        (Val::Optional(inner), true) => {
                            fields.extend(inner.map(|inner| (Val::text(unescaped(&field.field)), (*inner).clone())));
                        }
                        (value, _) => fields.push((Val::text(unescaped(&field.field)), value)),
                    }
                }
                Ok(Val::Map(Arc::new(fields)))
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
        }
    }

    fn variable(&self, name: &str) -> Outcome<'a> {
        let inner = self.scope.iter().rev().find(|(own, _)| own == name).map(|(_, value)| value);
        let found = inner.or_else(|| self.variables.iter().find(|(own, _)| *own == name).map(|(_, value)| value));
        let ty = || TYPES.iter().find(|ty| **ty == name).map(|ty| Val::Type(ty));
        found.cloned().or_else(ty).ok_or_else(|| EvalError::Key(name.to_owned()))
    }

    fn list(&mut self, list: &cel::common::ast::ListExpr) -> Outcome<'a> {
        let mut items = Vec::with_capacity(list.elements.len());
        for (index, element) in list.elements.iter().enumerate() {
            match self.run(element)? {
                Val::Optional(inner) if list.optional_indices.contains(&index) => {
                    items.extend(inner.map(|inner| (*inner).clone()));
                }
                item => items.push(item),
            }
        }
        Ok(Val::List(Arc::new(items)))
    }

    fn select(&mut self, select: &SelectExpr) -> Outcome<'a> {
        let operand = self.run(&select.operand)?;
        let key = Val::text(select.field.as_str());
        if let Val::Optional(inner) = &operand {
            // Through what may be there one sees what may be there.
            let found = inner.as_ref().and_then(|inner| inner.get(&key));
            return Ok(if select.test { Val::Bool(found.is_some()) } else { Val::Optional(found.map(Arc::new)) });
        }
        let found = operand.get(&key);
        match (select.test, found) {
            (true, found) => Ok(Val::Bool(found.is_some_and(|found| !matches!(found, Val::Null)))),
            (false, Some(found)) => Ok(found),
            (false, None) => Err(EvalError::Key(select.field.clone())),
        }
    }

    fn call(&mut self, call: &CallExpr) -> Outcome<'a> {
        let argument = |index: usize| call.args.get(index).ok_or_else(|| EvalError::Overload(call.func_name.clone()));
        match call.func_name.as_str() {
            operators::LOGICAL_AND => self.logical(call, false),
            operators::LOGICAL_OR => self.logical(call, true),
            operators::CONDITIONAL => match self.run(argument(0)?)? {
                Val::Bool(true) => self.run(argument(1)?),
                Val::Bool(false) => self.run(argument(2)?),
                other => Err(EvalError::Overload(format!("{}?_:_", other.type_name()))),
            },
            operators::NOT_STRICTLY_FALSE => match self.run(argument(0)?) {
                Ok(Val::Bool(false)) => Ok(Val::Bool(false)),
                Err(EvalError::Cost) => Err(EvalError::Cost),
                Ok(_) | Err(_) => Ok(Val::Bool(true)),
            },
            name => {
                let target = match call.target.as_deref() {
                    Some(IdedExpr { expr: Expr::Ident(space), .. }) if NAMESPACES.contains(&space.as_str()) => None,
                    Some(target) => Some(self.run(target)?),
                    None => None,
                };
                let space = match call.target.as_deref() {
                    Some(IdedExpr { expr: Expr::Ident(space), .. }) if target.is_none() => space.as_str(),
                    _ => "",
                };
                let mut arguments = Vec::with_capacity(call.args.len() + 1);
                arguments.extend(target);
                for argument in &call.args {
                    arguments.push(self.run(argument)?);
                }
                functions::call(self, space, name, &arguments)
            }
        }
    }

    /// The other side decides where one has no value.
    fn logical(&mut self, call: &CallExpr, decisive: bool) -> Outcome<'a> {
        let mut failed = None;
        for argument in &call.args {
            match self.run(argument) {
                Ok(Val::Bool(value)) if value == decisive => return Ok(Val::Bool(decisive)),
                Ok(Val::Bool(_)) => {}
                Ok(other) => {
                    failed.get_or_insert(EvalError::Overload(format!("{} in a condition", other.type_name())));
                }
                Err(EvalError::Cost) => return Err(EvalError::Cost),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(Val::Bool(!decisive)), Err)
    }

    fn comprehension(&mut self, of: &ComprehensionExpr) -> Outcome<'a> {
        let range = self.run(&of.iter_range)?;
        let entries: Vec<(Val<'a>, Option<Val<'a>>)> = match (range.items(), range.entries()) {
            (Some(items), _) if of.iter_var2.is_none() => items.into_iter().map(|item| (item, None)).collect(),
            (Some(items), _) => {
                let index = |index: usize| Val::Int(i64::try_from(index).unwrap_or(i64::MAX));
                items.into_iter().enumerate().map(|(at, item)| (index(at), Some(item))).collect()
            }
            (None, Some(entries)) => entries.into_iter().map(|(key, value)| (key, Some(value))).collect(),
            (None, None) => return Err(EvalError::Overload(format!("a loop over {}", range.type_name()))),
        };
        self.spend(entries.len())?;
        let depth = self.scope.len();
        let first = self.run(&of.accu_init)?;
        self.scope.push((of.accu_var.clone(), first));
        let result = self.iterate(of, entries, depth).and_then(|()| self.run(&of.result));
        self.scope.truncate(depth);
        result
    }

    fn iterate(
        &mut self,
        of: &ComprehensionExpr,
        entries: Vec<(Val<'a>, Option<Val<'a>>)>,
        accu: usize,
    ) -> Result<(), EvalError> {
        for (key, value) in entries {
            self.scope.truncate(accu + 1);
            self.scope.push((of.iter_var.clone(), key));
            if let (Some(name), Some(value)) = (&of.iter_var2, value) {
                self.scope.push((name.clone(), value));
            }
            if matches!(self.run(&of.loop_cond)?, Val::Bool(false)) {
                break;
            }
            if let Some(appended) = self.appended(of, accu)? {
                if let Some(item) = appended {
                    push(&mut self.scope[accu].1, item);
                }
                continue;
            }
            let next = self.run(&of.loop_step)?;
            self.scope[accu].1 = next;
        }
        self.scope.truncate(accu + 1);
        Ok(())
    }

    /// What `map` and `filter` append, so that their list is not copied with each item: `None` for other loops, and
    /// `Some(None)` where this round appends nothing.
    #[expect(clippy::option_option, reason = "the two are told apart above")]
    fn appended(&mut self, of: &ComprehensionExpr, accu: usize) -> Result<Option<Option<Val<'a>>>, EvalError> {
        let is_accu = |expr: &IdedExpr| matches!(&expr.expr, Expr::Ident(name) if *name == of.accu_var);
        if !matches!(self.scope[accu].1, Val::List(_)) {
            return Ok(None);
        }
        let item = |step: &'_ IdedExpr| match &step.expr {
            Expr::Call(call) if call.func_name == operators::ADD && call.args.len() == 2 && is_accu(&call.args[0]) => {
                match &call.args[1].expr {
                    Expr::List(list) if list.elements.len() == 1 => Some(list.elements[0].clone()),
                    _ => None,
                }
            }
            _ => None,
        };
        if let Some(item) = item(&of.loop_step) {
            return Ok(Some(Some(self.run(&item)?)));
        }
        let Expr::Call(call) = &of.loop_step.expr else { return Ok(None) };
        if call.func_name != operators::CONDITIONAL || call.args.len() != 3 || !is_accu(&call.args[2]) {
            return Ok(None);
        }
        let Some(item) = item(&call.args[1]) else { return Ok(None) };
        match self.run(&call.args[0])? {
            Val::Bool(true) => Ok(Some(Some(self.run(&item)?))),
            Val::Bool(false) => Ok(Some(None)),
            other => Err(EvalError::Overload(format!("{} in a condition", other.type_name()))),
        }
    }
}

fn push<'a>(list: &mut Val<'a>, item: Val<'a>) {
    if let Val::List(items) = list {
        Arc::make_mut(items).push(item);
    }
}

/// Values within one, all counted.
fn weight(json: &serde_json::Value) -> usize {
    use serde_json::Value;
    match json {
        Value::Array(items) => 1 + items.iter().map(weight).sum::<usize>(),
        // Maps are compared entry by entry.
        Value::Object(map) => 1 + map.len().saturating_mul(map.len()) / 8 + map.values().map(weight).sum::<usize>(),
        Value::String(text) => 1 + text.len() / BYTES_A_STEP,
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
    }
}

fn of_literal<'a>(literal: &LiteralValue) -> Val<'a> {
    match literal {
        LiteralValue::Boolean(value) => Val::Bool(*value.inner()),
        LiteralValue::Bytes(value) => Val::Bytes(value.inner().into()),
        LiteralValue::Double(value) => Val::Double(*value.inner()),
        LiteralValue::Int(value) => Val::Int(*value.inner()),
        LiteralValue::Null => Val::Null,
        LiteralValue::String(value) => Val::text(value.inner()),
        LiteralValue::UInt(value) => Val::Uint(*value.inner()),
    }
}
