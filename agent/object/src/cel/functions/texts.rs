//! Functions of texts.

use std::sync::Arc;

use super::super::eval::Evaluation;
use super::super::values::Val;
use super::{Outcome, int, wrong};

/// What a text may become by replacing in it.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

pub fn call<'a>(evaluation: &mut Evaluation<'_, 'a>, name: &str, arguments: &[Val<'a>]) -> Option<Outcome<'a>> {
    let [Val::Text(text), rest @ ..] = arguments else { return None };
    let list = |parts: Vec<String>| Val::List(Arc::new(parts.into_iter().map(Val::text).collect()));
    Some(match (name, rest) {
        ("startsWith", [Val::Text(part)]) => Ok(Val::Bool(text.starts_with(&**part))),
        ("endsWith", [Val::Text(part)]) => Ok(Val::Bool(text.ends_with(&**part))),
        ("contains", [Val::Text(part)]) => Ok(Val::Bool(text.contains(&**part))),
        ("matches" | "find" | "findAll", [Val::Text(pattern), limit @ ..]) => {
            let steps = 1 + text.len() * (1 + pattern.len() / 4) / 10;
            match evaluation.spend(steps).and_then(|()| evaluation.regex(pattern)) {
                Err(error) => Err(error),
                Ok(None) => wrong(format!("error parsing regexp: {pattern:?}")),
                Ok(Some(regex)) => Ok(match name {
                    "matches" => Val::Bool(regex.is_match(text)),
                    "find" => Val::text(regex.find(text).map_or("", |found| found.as_str())),
                    _ => {
                        let limit = limit.first().and_then(as_count).unwrap_or(usize::MAX);
                        list(regex.find_iter(text).take(limit).map(|found| found.as_str().to_owned()).collect())
                    }
                }),
            }
        }
        ("lowerAscii", []) => Ok(Val::text(text.to_ascii_lowercase())),
        ("upperAscii", []) => Ok(Val::text(text.to_ascii_uppercase())),
        ("trim", []) => Ok(Val::text(text.trim())),
        ("reverse", []) => Ok(Val::text(text.chars().rev().collect::<String>())),
        ("charAt", [Val::Int(at)]) => match usize::try_from(*at).ok().filter(|at| *at <= text.chars().count()) {
            Some(at) => Ok(Val::text(text.chars().nth(at).map(String::from).unwrap_or_default())),
            None => wrong(format!("index out of range: {at}")),
        },
        ("indexOf", [Val::Text(part), from @ ..]) => {
            let from = from.first().and_then(as_count).unwrap_or(0);
            let start = byte_at(text, from);
            let found = start.and_then(|start| Some(start + text[start..].find(&**part)?));
            Ok(found.map_or(Val::Int(-1), |at| int(text[..at].chars().count())))
        }
        ("lastIndexOf", [Val::Text(part)]) => {
            Ok(text.rfind(&**part).map_or(Val::Int(-1), |at| int(text[..at].chars().count())))
        }
        ("replace", [Val::Text(from), Val::Text(to), limit @ ..]) => {
            let limit = limit.first().and_then(as_count).unwrap_or(usize::MAX);
            let longest = text.len().saturating_add(text.len().saturating_add(1).saturating_mul(to.len()));
            if let Err(error) = evaluation.spend(longest / 10) {
                return Some(Err(error));
            }
            if longest > TEXT_BYTES_MAX * 8 {
                wrong("the text would be too long")
            } else {
                Ok(Val::text(text.replacen(&**from, to, limit)))
            }
        }
        ("split", [Val::Text(at), limit @ ..]) => {
            let limit = limit.first().and_then(as_count).unwrap_or(usize::MAX);
            Ok(list(match (&**at, limit) {
                (_, 0) => Vec::new(),
                ("", _) => text.chars().map(String::from).collect(),
                (at, limit) => text.splitn(limit, at).map(str::to_owned).collect(),
            }))
        }
        ("substring", [Val::Int(_), ..]) => substring(text, rest),
        ("format", [arguments]) => format(text, arguments),
        _ => return None,
    })
}

fn as_count(value: &Val<'_>) -> Option<usize> {
    match value {
        Val::Int(count) => usize::try_from(*count).ok(),
        _ => None,
    }
}

/// Where a character begins.
fn byte_at(text: &str, character: usize) -> Option<usize> {
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(character)
}

fn substring<'a>(text: &str, rest: &[Val<'a>]) -> Outcome<'a> {
    let from = rest.first().and_then(as_count).and_then(|from| byte_at(text, from));
    let to = match rest.get(1) {
        Some(to) => as_count(to).and_then(|to| byte_at(text, to)),
        None => Some(text.len()),
    };
    match (from, to) {
        (Some(from), Some(to)) if from <= to => Ok(Val::text(&text[from..to])),
        _ => wrong("invalid substring range"),
    }
}

/// `%s`, `%d`, `%f` and `%%`; what else there is prints as a text.
fn format<'a>(template: &str, arguments: &Val<'a>) -> Outcome<'a> {
    let Some(arguments) = arguments.items() else { return wrong("format needs a list") };
    let (mut out, mut next, mut chars) = (String::new(), arguments.iter(), template.chars());
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('%') => out.push('%'),
            Some(_) => match next.next() {
                // What it is long was paid for with the list.
                Some(argument) => out.push_str(&argument.show()),
                None => return wrong("index out of range in format"),
            },
            None => return wrong("unexpected end of format"),
        }
        if out.len() > TEXT_BYTES_MAX {
            return wrong("the text would be too long");
        }
    }
    Ok(Val::text(out))
}
