//! A file that may be broken anywhere, cut into its statements: headers, keys with their values, and what is neither.
//!
//! Nothing is known here of what the keys mean.

use std::ops::Range;

use toml::{Table, Value};

/// A value over more lines than this is broken; it bounds what is tried at each.
const VALUE_LINES_MAX: usize = 200;
/// Lines that are tried as the ends of values over several lines, in the whole file.
const TRIES_MAX: usize = 5_000;

/// The lines of one statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Counted from zero.
    pub lines: Range<usize>,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// `[a.b]`: the table that the keys below are in.
    Header(Vec<String>),
    Entry {
        key: Vec<String>,
        value: Value,
    },
    /// What is wrong, and with which key as far as one can tell.
    Broken {
        key: Option<String>,
        is_header: bool,
        message: String,
    },
}

/// The statements of a file, without blank lines and comments. Total: every line that is not empty is in one of them.
pub fn parse(lines: &[String]) -> Vec<Statement> {
    let mut statements = Vec::new();
    let mut tries = 0;
    let mut next = 0;
    while next < lines.len() {
        let trimmed = lines[next].trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            next += 1;
            continue;
        }
        let statement = statement(lines, next, &mut tries);
        next = statement.lines.end;
        statements.push(statement);
    }
    statements
}

fn statement(lines: &[String], start: usize, tries: &mut usize) -> Statement {
    let message = match alone(&lines[start]) {
        Ok(content) => return Statement { lines: start..start + 1, content },
        Err(message) => message,
    };
    let key = named_key(&lines[start]);
    let is_header = lines[start].trim_start().starts_with('[');
    if is_header || !opens_value(&lines[start]) {
        return Statement { lines: start..start + 1, content: Content::Broken { key, is_header, message } };
    }
    let last = lines.len().min(start + VALUE_LINES_MAX);
    // A text that swallows whole settings was not closed where it ought to be.
    let is_text = lines[start].split_once('=').is_some_and(|(_, value)| !value.trim_start().starts_with(['[', '{']));
    let is_setting = |line: &str| named_key(line).is_some() && alone(line).is_ok();
    let mut text = lines[start].clone();
    for (end, line) in lines.iter().enumerate().take(last).skip(start + 1) {
        *tries += 1;
        if *tries > TRIES_MAX || (is_text && is_setting(line)) {
            break;
        }
        text.push('\n');
        text.push_str(line);
        if let Ok(content) = alone(&text) {
            return Statement { lines: start..end + 1, content };
        }
    }
    // It is broken up to the line that begins something else.
    let is_blank = |line: &String| line.trim().is_empty() || line.trim_start().starts_with('#');
    let follows = |line: &String| !is_blank(line) && (named_key(line).is_some() || alone(line).is_ok());
    let length = lines[start + 1..last].iter().position(follows).unwrap_or(last - start - 1);
    let message = "the value is not closed".to_owned();
    Statement { lines: start..start + 1 + length, content: Content::Broken { key, is_header: false, message } }
}

/// A text that is one statement and nothing else.
fn alone(text: &str) -> Result<Content, String> {
    let table: Table = toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())?;
    let is_header = text.trim_start().starts_with('[');
    let mut key = Vec::new();
    let mut value = Value::Table(table);
    loop {
        match value {
            Value::Table(table) if table.len() == 1 => {
                let (name, inner) = table.into_iter().next().expect("it has one");
                key.push(name);
                value = inner;
            }
            Value::Table(table) if is_header && table.is_empty() => return Ok(Content::Header(key)),
            // `[[a]]`, which no setting is.
            Value::Array(_) if is_header => return Err("a list of tables is not used here: write [NAME]".to_owned()),
            _ if is_header => return Err("a header stands on a line of its own".to_owned()),
            value => return Ok(Content::Entry { key, value }),
        }
    }
}

/// What stands before the first `=`, if it looks like a key.
fn named_key(line: &str) -> Option<String> {
    let key = line.split_once('=')?.0.trim();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!key.is_empty() && key.len() <= 64 && key.chars().all(allowed)).then(|| key.to_owned())
}

/// Whether a value begins that may go on below.
fn opens_value(line: &str) -> bool {
    let value = line.split_once('=').map_or("", |(_, value)| value.trim_start());
    ["[", "{", "\"\"\"", "'''"].iter().any(|opening| value.starts_with(opening))
}
