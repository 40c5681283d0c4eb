//! The text form of label selectors.
//!
//! Owns tokens and grammar, and upstream's messages about them; the forms of keys and values are checked later.

use super::{Operator, Requirement, SelectorError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    /// `=`, `==`, `!=`, `<`, `>`, `!`, `,`, `(` or `)`.
    Sign(&'a str),
}

const SIGNS: &[&str] = &["==", "!=", "=", "<", ">", "!", ",", "(", ")"];

/// Parses a comma-separated list of requirements.
pub fn requirements(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let tokens = tokens(text);
    let mut rest: &[Token<'_>] = &tokens;
    let mut found = Vec::new();
    while !rest.is_empty() {
        found.push(requirement(&mut rest)?);
        match rest {
            [] => {}
            [Token::Sign(","), Token::Word(_) | Token::Sign("!"), ..] => rest = &rest[1..],
            [Token::Sign(","), other @ ..] => {
                return Err(unexpected(other.first(), "identifier after ','"));
            }
            [other, ..] => return Err(unexpected(Some(other), "',' or 'end of string'")),
        }
    }
    Ok(found)
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut rest = text.trim_start();
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        let token_len = match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => {
                tokens.push(Token::Sign(&rest[..sign.len()]));
                sign.len()
            }
            None => {
                let end = rest.find(|c: char| c.is_whitespace() || "=!<>,()".contains(c)).unwrap_or(rest.len());
                tokens.push(Token::Word(&rest[..end]));
                end
            }
        };
        rest = rest[token_len..].trim_start();
    }
    tokens
}

fn requirement(rest: &mut &[Token<'_>]) -> Result<Requirement, SelectorError> {
    let negated = take_if(rest, Token::Sign("!"));
    let key = match rest {
        [Token::Word(key), tail @ ..] => {
            *rest = tail;
            (*key).to_owned()
        }
        other => return Err(unexpected(other.first(), "identifier")),
    };
    if negated {
        return Ok(Requirement { key, operator: Operator::DoesNotExist });
    }
    let operator = operator(rest)?;
    Ok(Requirement { key, operator })
}

fn operator(rest: &mut &[Token<'_>]) -> Result<Operator, SelectorError> {
    let (first, tail) = match *rest {
        [] | [Token::Sign(","), ..] => return Ok(Operator::Exists),
        [first, tail @ ..] => (*first, tail),
    };
    *rest = tail;
    match first {
        Token::Sign("=" | "==") => Ok(Operator::Equals(value(rest))),
        Token::Sign("!=") => Ok(Operator::NotEquals(value(rest))),
        Token::Sign(">") => bound(rest).map(Operator::GreaterThan),
        Token::Sign("<") => bound(rest).map(Operator::LessThan),
        Token::Word("in") => values(rest).map(Operator::In),
        Token::Word("notin") => values(rest).map(Operator::NotIn),
        Token::Word(_) | Token::Sign(_) => Err(unexpected(Some(&first), "in, notin, =, ==, !=, gt, lt")),
    }
}

/// A value may be empty: `a=`.
fn value(rest: &mut &[Token<'_>]) -> String {
    match *rest {
        [Token::Word(word), tail @ ..] => {
            *rest = tail;
            (*word).to_owned()
        }
        [Token::Sign(_), ..] | [] => String::new(),
    }
}

fn bound(rest: &mut &[Token<'_>]) -> Result<i64, SelectorError> {
    let text = value(rest);
    let message = "for 'Gt', 'Lt' operators, the value must be an integer";
    text.parse().map_err(|_| SelectorError::Requirement(format!("values[0]: Invalid value: {text:?}: {message}")))
}

fn values(rest: &mut &[Token<'_>]) -> Result<Vec<String>, SelectorError> {
    if !take_if(rest, Token::Sign("(")) {
        return Err(unexpected(rest.first(), "'('"));
    }
    let mut values = Vec::new();
    loop {
        values.push(value(rest));
        match *rest {
            [Token::Sign(","), tail @ ..] => *rest = tail,
            [Token::Sign(")"), tail @ ..] => {
                *rest = tail;
                values.sort();
                values.dedup();
                return Ok(values);
            }
            other => return Err(unexpected(other.first(), "',' or ')'")),
        }
    }
}

fn take_if(rest: &mut &[Token<'_>], token: Token<'_>) -> bool {
    let found = rest.first() == Some(&token);
    if found {
        *rest = &rest[1..];
    }
    found
}

fn unexpected(found: Option<&Token<'_>>, expected: &str) -> SelectorError {
    let found = match found {
        Some(Token::Word(text) | Token::Sign(text)) => text,
        None => "",
    };
    SelectorError::Syntax(format!("found '{found}', expected: {expected}"))
}
