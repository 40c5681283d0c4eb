//! Patterns as Go's regular expressions mean them, which schemas are written for.
//!
//! Owns what the two syntaxes have different: classes of letters are ASCII there, brackets within a class and braces that
//! repeat nothing are themselves, and what takes characters away from a class is text.

use regex::{Regex, RegexBuilder};

/// A pattern whose automaton is larger than this matches nothing worth it.
const BYTES_MAX: usize = 16 << 20;
/// As Go: more repetitions of one thing are refused.
const REPEATED_MAX: u32 = 1000;

/// `None`: it is none.
pub fn compile(pattern: &str) -> Option<Regex> {
    let translated = translate(pattern)?;
    RegexBuilder::new(&translated).size_limit(BYTES_MAX).dfa_size_limit(BYTES_MAX).build().ok()
}

fn translate(pattern: &str) -> Option<String> {
    let (mut out, mut rest, mut in_class) = (String::with_capacity(pattern.len()), pattern, false);
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let used = match c {
            '\\' => escaped(&mut out, after, in_class)? + 1,
            '[' if in_class && after.starts_with(':') => named_class(&mut out, rest),
            '[' if !in_class => {
                in_class = true;
                begin_class(&mut out, after) + 1
            }
            ']' if in_class => {
                in_class = false;
                push(&mut out, c)
            }
            // What would be an operation on classes is text.
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                push(&mut out, c)
            }
            '{' if !in_class => brace(&mut out, rest)?,
            c => push(&mut out, c),
        };
        rest = &rest[used..];
    }
    Some(out)
}

fn push(out: &mut String, c: char) -> usize {
    out.push(c);
    c.len_utf8()
}

/// `[`, with `^` and a bracket that is the first of the class: how much it is after the `[`.
fn begin_class(out: &mut String, after: &str) -> usize {
    out.push('[');
    let negated = usize::from(after.starts_with('^'));
    if negated > 0 {
        out.push('^');
    }
    match after[negated..].starts_with(']') {
        true => {
            out.push_str("\\]");
            negated + 1
        }
        false => negated,
    }
}

fn named_class(out: &mut String, rest: &str) -> usize {
    let length = rest.find(":]").map_or(1, |at| at + 2);
    out.push_str(if length == 1 { "\\[" } else { &rest[..length] });
    length
}

/// What follows a backslash: how much of it was taken.
fn escaped(out: &mut String, after: &str, in_class: bool) -> Option<usize> {
    let c = after.chars().next()?;
    let ascii = match c {
        'd' | 'w' | 's' => ascii_class(c),
        'D' | 'W' | 'S' => {
            out.push_str(&format!("[^{}]", ascii_class(c)));
            return Some(1);
        }
        'Q' => {
            let (text, length) =
                after[1..].split_once("\\E").map_or((&after[1..], after.len()), |(t, _)| (t, t.len() + 3));
            out.push_str(&regex::escape(text));
            return Some(length);
        }
        // ASCII, too.
        'b' | 'B' if !in_class => {
            out.push_str(&format!("(?-u:\\{c})"));
            return Some(1);
        }
        '<' | '>' => {
            out.push(c);
            return Some(1);
        }
        'u' | 'U' => return None,
        'p' | 'P' | 'x' if after[1..].starts_with('{') => {
            let length = after.find('}')? + 1;
            out.push('\\');
            out.push_str(&after[..length]);
            return Some(length);
        }
        c => {
            out.push('\\');
            out.push(c);
            return Some(c.len_utf8());
        }
    };
    out.push_str(&if in_class { ascii.to_owned() } else { format!("[{ascii}]") });
    Some(1)
}

fn ascii_class(c: char) -> &'static str {
    match c {
        'd' | 'D' => "0-9",
        'w' | 'W' => "0-9A-Za-z_",
        _ => "\\t\\n\\f\\r ",
    }
}

/// A repetition, or a brace that is one; `None` where it repeats too often.
fn brace(out: &mut String, rest: &str) -> Option<usize> {
    let inner = rest.find('}').map(|end| &rest[1..end]);
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let bounds = inner.and_then(|inner| match inner.split_once(',') {
        Some((least, "")) => Some((number(least)?, 0)),
        Some((least, most)) => Some((number(least)?, number(most)?)),
        None => Some((number(inner)?, 0)),
    });
    match (bounds, inner) {
        (Some((least, most)), _) if least > REPEATED_MAX || most > REPEATED_MAX => None,
        (Some(_), Some(inner)) => {
            out.push_str(&rest[..inner.len() + 2]);
            Some(inner.len() + 2)
        }
        _ => {
            out.push_str("\\{");
            Some(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, right, wrong) in [
            (r"^\w{1,253}$", "abc_9", "ü"),
            (r"^[\w.-]{1,253}$", "a.b-c", "a b"),
            (r"^\S{1,1000}$", "abc", "a b"),
            (r"^[\p{L}\p{Z}\p{N}_.:/=+\-@]{0,255}$", "Größe 1", "a#"),
            (r"^\d{1,3}(?:,\d{3}){0,300}$", "1,000", "१"),
            (r"^[^[]$", "a", "["),
            (r"^[a-z[]+$", "a[", "]"),
            (r"^[]a]$", "]", "b"),
            (r"^{.*}$", "{x}", "x"),
            (r"^a{,3}$", "a{,3}", "aaa"),
            (r"^\Qa.b\E$", "a.b", "axb"),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^[[:alpha:]-]+$", "a-b", "1"),
            (r"^\<a\>$", "<a>", "a"),
            (r"^[^\s/]+$", "ab", "a/b"),
            (r"^[\D]$", "a", "1"),
            (r"\bcat\b", "a cat", "concat"),
            (r"^\p{Lu}\x{41}$", "ÄA", "aA"),
        ] {
            let compiled = compile(pattern).unwrap_or_else(|| panic!("{pattern}"));
            assert!(compiled.is_match(right) && !compiled.is_match(wrong), "{pattern}");
        }
        for none in [r"(", r"x{1001}", r"\u0041", r"[", r"\", r"(?<!a)b"] {
            assert!(compile(none).is_none(), "{none}");
        }
    }
}
