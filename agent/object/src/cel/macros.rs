//! Loops over two variables (the key or the index, and the value), which the reader of expressions leaves as calls:
//! `all`, `exists`, `existsOne`, `transformList` and `transformMap`.

use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, operators,
};

/// What a loop has made so far: no name that an expression can have.
const MADE: &str = "@made";
/// Puts an entry into a map.
pub const INSERT: &str = "@insert";

/// An expression with the loops in it written out.
pub fn expand(mut expression: IdedExpr) -> IdedExpr {
    let each = |expressions: &mut Vec<IdedExpr>| {
        for one in std::mem::take(expressions) {
            expressions.push(expand(one));
        }
    };
    let boxed = |expression: &mut Box<IdedExpr>| **expression = expand(std::mem::take(&mut **expression));
    match &mut expression.expr {
        Expr::Call(call) => {
            call.target.iter_mut().for_each(boxed);
            each(&mut call.args);
        }
        Expr::List(list) => each(&mut list.elements),
        Expr::Select(select) => boxed(&mut select.operand),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| entries(&mut entry.expr)),
        Expr::Struct(of) => of.entries.iter_mut().for_each(|entry| entries(&mut entry.expr)),
        Expr::Comprehension(of) => {
            for part in [&mut of.iter_range, &mut of.accu_init, &mut of.loop_cond, &mut of.loop_step, &mut of.result] {
                *part = expand(std::mem::take(part));
            }
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
    }
    if let Expr::Call(call) = &mut expression.expr
        && let Some(made) = of_call(call)
    {
        expression.expr = Expr::Comprehension(Box::new(made));
    }
    expression
}

fn entries(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::StructField(field) => field.value = expand(std::mem::take(&mut field.value)),
        EntryExpr::MapEntry(entry) => {
            entry.key = expand(std::mem::take(&mut entry.key));
            entry.value = expand(std::mem::take(&mut entry.value));
        }
    }
}

fn of_call(call: &mut CallExpr) -> Option<ComprehensionExpr> {
    let name = |argument: Option<&IdedExpr>| match argument.map(|argument| &argument.expr) {
        Some(Expr::Ident(name)) => Some(name.clone()),
        _ => None,
    };
    let (first, second) = (name(call.args.first())?, name(call.args.get(1))?);
    let is_loop = matches!(
        (call.func_name.as_str(), call.args.len()),
        ("all" | "exists" | "existsOne" | "exists_one", 3) | ("transformList" | "transformMap", 3 | 4)
    );
    if !is_loop {
        return None;
    }
    let range = *call.target.take()?;
    let mut arguments = std::mem::take(&mut call.args).split_off(2);
    let body = arguments.pop()?;
    let filter = arguments.pop();
    let parts = match call.func_name.as_str() {
        "all" => (
            boolean(true),
            call_of(operators::NOT_STRICTLY_FALSE, vec![made()]),
            call_of(operators::LOGICAL_AND, vec![made(), body]),
            made(),
        ),
        "exists" => {
            let goes_on = call_of(operators::LOGICAL_NOT, vec![made()]);
            let condition = call_of(operators::NOT_STRICTLY_FALSE, vec![goes_on]);
            (boolean(false), condition, call_of(operators::LOGICAL_OR, vec![made(), body]), made())
        }
        "transformList" => {
            let step = call_of(operators::ADD, vec![made(), list(vec![body])]);
            (list(Vec::new()), boolean(true), filtered(filter, step), made())
        }
        "transformMap" => {
            let key = plain(Expr::Ident(first.clone()));
            let empty = plain(Expr::Map(MapExpr { entries: Vec::new() }));
            (empty, boolean(true), filtered(filter, call_of(INSERT, vec![made(), key, body])), made())
        }
        _ => {
            let one = || plain(Expr::Literal(LiteralValue::Int(1.into())));
            let none = plain(Expr::Literal(LiteralValue::Int(0.into())));
            let step = filtered(Some(body), call_of(operators::ADD, vec![made(), one()]));
            (none, boolean(true), step, call_of(operators::EQUALS, vec![made(), one()]))
        }
    };
    let (accu_init, loop_cond, loop_step, result) = parts;
    Some(ComprehensionExpr {
        iter_range: range,
        iter_var: first,
        iter_var2: Some(second),
        accu_var: MADE.to_owned(),
        accu_init,
        loop_cond,
        loop_step,
        result,
    })
}

fn plain(expr: Expr) -> IdedExpr {
    IdedExpr { id: 0, expr }
}

fn made() -> IdedExpr {
    plain(Expr::Ident(MADE.to_owned()))
}

fn boolean(value: bool) -> IdedExpr {
    plain(Expr::Literal(LiteralValue::Boolean(value.into())))
}

fn list(elements: Vec<IdedExpr>) -> IdedExpr {
    plain(Expr::List(ListExpr { elements, optional_indices: Vec::new() }))
}

fn call_of(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    plain(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
}

/// A step that only what the filter takes makes.
fn filtered(filter: Option<IdedExpr>, step: IdedExpr) -> IdedExpr {
    match filter {
        Some(filter) => call_of(operators::CONDITIONAL, vec![filter, step, made()]),
        None => step,
    }
}
