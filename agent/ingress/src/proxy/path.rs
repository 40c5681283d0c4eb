//! Paths as backends read them: the form that is routed by and forwarded, and what is refused because two programs
//! would read it in two ways. Pure.
//!
//! Backends decode, merge slashes and resolve dots, so that `/%61dmin`, `//admin` and `/x/../admin` are `/admin` to
//! them, and have to be to us before a rule for `/admin` is looked up. What is forwarded: the path as it came, but with
//! unreserved characters decoded (RFC 3986, 6.2.2.2), dot segments resolved (6.2.2.3), and slashes merged where that
//! leads to another rule. Everything else stays encoded as it was: an encoded slash is part of a name for many.
//!
//! Where backends differ (encoded slashes, `;parameters`, decoding twice), every reading has to lead to a rule with the
//! same protection; `Routes::find` refuses the others.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use http::StatusCode;
use http::uri::{PathAndQuery, Uri};

use super::request::Refusal;

/// As often as something is decoded that was encoded several times: more programs in a row are not behind one rule.
const DECODINGS_MAX: usize = 3;

/// A path that is understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Target<'p> {
    /// To look rules up with: decoded but for what would look like a separator. Slashes are merged.
    pub key: Cow<'p, str>,
    /// As it is forwarded, slashes merged.
    pub normal: Cow<'p, str>,
    /// The same where slashes were not merged, if there were any to merge.
    pub unmerged: Option<Unmerged>,
    /// Keys of what other programs may take it for.
    pub others: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Unmerged {
    pub key: String,
    pub normal: String,
}

const fn bad(reason: &'static str) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, reason)
}

/// Reads a path in origin form, or the asterisk of OPTIONS.
pub fn read(path: &str) -> Result<Target<'_>, Refusal> {
    if is_plain(path) || path == "*" {
        return Ok(Target { key: path.into(), normal: path.into(), unmerged: None, others: Vec::new() });
    }
    check_encoding(path)?;
    let decoded: Vec<String> = path.split('/').skip(1).map(decode_unreserved).collect();
    if decoded.iter().any(|segment| hides_dots(segment)) {
        return Err(bad("the request's path has dot segments that are not read by all in the same way"));
    }
    let segments = resolve(&decoded)?;
    let normal = join(&segments);
    let keys: Vec<String> = segments.iter().map(|segment| key(segment)).collect();
    let own = join(&keys);
    let has_dots = decoded.iter().any(|segment| is_dots(segment));
    let has_empty = decoded.iter().rev().skip(1).any(String::is_empty);
    let unmerged = (has_empty && !has_dots).then(|| {
        let keys: Vec<String> = decoded.iter().map(|segment| key(segment)).collect();
        Unmerged { key: join(&keys), normal: join(&decoded) }
    });
    let others = others(&keys, &own);
    Ok(Target { key: own.into(), normal: normal.into(), unmerged, others })
}

/// The key of a rule's path; one that no request can have is kept as it is.
pub fn of_rule(path: &str) -> String {
    read(path).map_or_else(|_| path.to_owned(), |target| target.key.into_owned())
}

/// The target with another path.
pub fn replace(uri: &mut Uri, path: &str) -> Result<(), Refusal> {
    if uri.path() == path {
        return Ok(());
    }
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let invalid = |_| bad("the request's target is not valid");
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).map_err(invalid)?);
    *uri = Uri::from_parts(parts).map_err(|_| bad("the request's target is not valid"))?;
    Ok(())
}

/// Nothing in it is read in more than one way: nearly every path.
fn is_plain(path: &str) -> bool {
    let mut before = b'x';
    path.bytes().all(|byte| {
        let pair = (before, byte);
        before = byte;
        byte.is_ascii() && !matches!(byte, b'%' | b';' | b'\\') && !matches!(pair, (b'/', b'/' | b'.'))
    })
}

fn nibble(byte: Option<&u8>) -> Option<u8> {
    byte.and_then(|byte| char::from(*byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
}

/// The byte that a `%` at the front of `rest` stands for.
fn encoded(rest: &[u8]) -> Option<u8> {
    match rest.first() {
        Some(b'%') => Some(nibble(rest.get(1))? << 4 | nibble(rest.get(2))?),
        Some(_) | None => None,
    }
}

fn check_encoding(path: &str) -> Result<(), Refusal> {
    let bytes = path.as_bytes();
    let mut before = None;
    let mut at = 0;
    while at < bytes.len() {
        let byte = match (bytes[at], encoded(&bytes[at..])) {
            (b'%', None) => return Err(bad("the request's path has a percent sign without two digits")),
            (_, Some(byte)) => byte,
            (byte, None) => byte,
        };
        if byte < b' ' || byte == 0x7f {
            return Err(bad("the request's path has an encoded control character"));
        }
        // A character in more bytes than it needs: some decoders take `C0 AF` for a slash.
        if matches!(before, Some(0xc0 | 0xc1)) && (0x80..0xc0).contains(&byte) {
            return Err(bad("the request's path is not valid UTF-8"));
        }
        before = Some(byte);
        at += if bytes[at] == b'%' { 3 } else { 1 };
    }
    Ok(())
}

/// Decodes what `keep` does not say to leave. What is not ASCII becomes or stays encoded.
fn decode(text: &str, decodes: impl Fn(u8) -> bool) -> String {
    let bytes = text.as_bytes();
    let mut decoded = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        match encoded(&bytes[at..]) {
            Some(byte) if byte.is_ascii() && decodes(byte) => decoded.push(char::from(byte)),
            Some(_) => decoded.push_str(&text[at..at + 3]),
            None if bytes[at].is_ascii() => decoded.push(char::from(bytes[at])),
            None => decoded.push_str(&format!("%{:02X}", bytes[at])),
        }
        at += if encoded(&bytes[at..]).is_some() { 3 } else { 1 };
    }
    decoded
}

/// RFC 3986, 2.3.
fn decode_unreserved(segment: &str) -> String {
    decode(segment, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

/// One segment for comparing: everything decoded but what would look like a separator or like another encoding.
fn key(segment: &str) -> String {
    let decoded = decode(segment, |byte| !matches!(byte, b'%' | b'/' | b'\\'));
    let mut key = String::with_capacity(decoded.len());
    let mut digits = 0_u8;
    for letter in decoded.chars() {
        digits = if letter == '%' { 3 } else { digits };
        key.push(if digits > 0 { letter.to_ascii_uppercase() } else { letter });
        digits = digits.saturating_sub(1);
    }
    key
}

fn decode_fully(segment: &str) -> String {
    let mut text = segment.to_owned();
    for _ in 0..DECODINGS_MAX {
        let next = decode(&text, |byte| byte >= b' ' && byte != 0x7f);
        if next == text {
            break;
        }
        text = next;
    }
    text
}

fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

const SEPARATORS: [char; 2] = ['/', '\\'];
/// Begin what some programs take for no part of a name: parameters, and what was meant for after the path.
const ENDINGS: [char; 3] = [';', '?', '#'];

fn without_ending(segment: &str) -> &str {
    segment.split(ENDINGS).next().unwrap_or_default()
}

/// Whether somebody may find a dot segment in what is none for us.
fn hides_dots(segment: &str) -> bool {
    !is_dots(segment)
        && decode_fully(segment).split(SEPARATORS).any(|part| is_dots(part) || is_dots(without_ending(part)))
}

/// RFC 3986, 5.2.4, with slashes merged first, as servers do that serve files.
fn resolve(decoded: &[String]) -> Result<Vec<&str>, Refusal> {
    let mut segments: Vec<&str> = Vec::with_capacity(decoded.len());
    for segment in decoded {
        match segment.as_str() {
            "" | "." => {}
            ".." => {
                segments.pop().ok_or(bad("the request's path leads above its root"))?;
            }
            segment => segments.push(segment),
        }
    }
    if decoded.last().is_none_or(|last| last.is_empty() || is_dots(last)) {
        segments.push("");
    }
    Ok(segments)
}

fn join<S: AsRef<str>>(segments: &[S]) -> String {
    segments.iter().flat_map(|segment| ["/", segment.as_ref()]).collect()
}

/// The keys of other readings: encoded slashes separate or do not, parameters count or do not, decoded once or more.
fn others(keys: &[String], own: &str) -> Vec<String> {
    let is_read_in_one_way =
        |key: &String| !key.contains(ENDINGS) && !["%2F", "%5C", "%25"].iter().any(|e| key.contains(e));
    let mut others = Vec::new();
    if keys.iter().all(is_read_in_one_way) {
        return others;
    }
    let as_is = |segment: &str| segment.to_owned();
    let once = |segment: &str| segment.replace("%2F", "/").replace("%5C", "/");
    let fully = |segment: &str| decode_fully(segment).replace('\\', "/");
    let decodings: [&dyn Fn(&str) -> String; 3] = [&as_is, &once, &fully];
    let endings: [&dyn Fn(&str) -> String; 2] = [&as_is, &|segment| without_ending(segment).to_owned()];
    for decoding in decodings {
        for ending in endings {
            let read: Vec<String> = keys.iter().map(|key| decoding(key)).collect();
            let parts: Vec<String> = read.iter().flat_map(|text| text.split('/')).map(ending).collect();
            let last = parts.len().saturating_sub(1);
            let merged: Vec<String> =
                parts.into_iter().enumerate().filter(|(n, p)| *n == last || !p.is_empty()).map(|(_, p)| p).collect();
            let other = join(&merged);
            if other != own && !others.contains(&other) {
                others.push(other);
            }
        }
    }
    others
}
