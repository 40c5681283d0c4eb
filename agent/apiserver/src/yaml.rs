//! Bodies and answers in YAML. JSON is YAML too, and read as such first: it is what clients send. What is left is small,
//! written by hand, and bounded before and while it is read: an alias repeats what may be large, and brackets cost by their depth.

use std::cell::Cell;
use std::fmt;

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body_util::BodyExt;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::body::{self, Body};
use crate::compress::Whole;
use crate::present::{JSON, YAML};
use crate::status::ApiError;

pub(crate) const BYTES_MAX: usize = 256 * 1024;
/// A larger answer stays JSON, which is YAML, too.
const ANSWER_BYTES_MAX: u64 = 8 << 20;
/// Of brackets that are open at once.
const DEPTH_MAX: usize = 100;
/// What aliases may make of it: bytes of text, and some for each value.
const EXPANDED_MAX: usize = 4 << 20;
const VALUE_BYTES: usize = 64;

pub async fn read(bytes: Bytes) -> Result<Value, ApiError> {
    if let Ok(value) = serde_json::from_slice(&bytes) {
        return Ok(value);
    }
    if bytes.len() > BYTES_MAX {
        return Err(ApiError::too_large(&format!("limit of a body in YAML is {BYTES_MAX}, send JSON")));
    }
    let read = tokio::task::spawn_blocking(move || parse(&bytes)).await;
    let read = read.map_err(|error| ApiError::internal(error.to_string()))?;
    read.map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))
}

/// An answer in JSON that is there as a whole, in YAML.
pub async fn answer(response: Response<Body>) -> Response<Body> {
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|ty| ty.as_bytes() == JSON.as_bytes());
    let size = http_body::Body::size_hint(response.body()).exact();
    if !is_json || size.is_none_or(|size| size > ANSWER_BYTES_MAX) {
        return response;
    }
    let (mut parts, sent) = response.into_parts();
    let written = match sent.collect().await {
        Ok(bytes) => tokio::task::spawn_blocking(move || write(&bytes.to_bytes())).await.ok().flatten(),
        Err(_) => None,
    };
    let Some(text) = written else {
        return ApiError::internal("the answer cannot be written in YAML").into_response();
    };
    let text = Bytes::from(text);
    // It may be compressed as the JSON may.
    if parts.extensions.remove::<Whole>().is_some() {
        parts.extensions.insert(Whole(text.clone()));
    }
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(YAML));
    Response::from_parts(parts, body::full(text))
}

fn write(json: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(json).ok()?;
    serde_yaml::to_string(&value).ok()
}

pub(crate) fn parse(bytes: &[u8]) -> Result<Value, String> {
    check_depth(bytes)?;
    let left = Cell::new(EXPANDED_MAX);
    Bounded { left: &left }.deserialize(serde_yaml::Deserializer::from_slice(bytes)).map_err(|error| error.to_string())
}

/// Counts brackets wherever they are: in a text, too, as nobody has so many that do not close.
fn check_depth(bytes: &[u8]) -> Result<(), String> {
    let mut depth = 0_usize;
    for byte in bytes {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} brackets are open at once"));
        }
    }
    Ok(())
}

/// Reads a value and takes what it needs from what is left.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    left: &'a Cell<usize>,
}

impl Bounded<'_> {
    fn take<E: serde::de::Error>(self, bytes: usize) -> Result<(), E> {
        let left = self.left.get().checked_sub(bytes + VALUE_BYTES);
        self.left.set(left.ok_or_else(|| E::custom("its aliases make too much of it"))?);
        Ok(())
    }

    fn simple<E: serde::de::Error>(self, value: impl Into<Value>) -> Result<Value, E> {
        self.take(0)?;
        Ok(value.into())
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.simple(value)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.simple(value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.simple(value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.simple(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.simple(Value::Null)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.take(text.len())?;
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.take(0)?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.take(0)?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.take(key.len())?;
            // Which of the two is meant cannot be known.
            if map.contains_key(&key) {
                return Err(serde::de::Error::custom(format!("key {key:?} already set in map")));
            }
            map.insert(key, entries.next_value_seed(self)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_people_write_is_read() {
        let text = "a: 1\nb: [x, 'y', \"z\"]\nc: &c {d: true, e: null, f: 1.5}\ng: *c\nh: |\n  [[ -e \\e[0m ]]\n";
        let c = json!({"d": true, "e": null, "f": 1.5});
        let expected = json!({"a": 1, "b": ["x", "y", "z"], "c": c, "g": c, "h": "[[ -e \\e[0m ]]\n"});
        assert_eq!(parse(text.as_bytes()), Ok(expected));
    }

    #[test]
    fn what_costs_more_than_it_says_is_refused() {
        let deep = format!("--- {}", "[".repeat(200_000));
        let nested = (0..30)
            .fold("a0: &a0 [x, x]\n".to_owned(), |text, n| format!("{text}a{}: &a{} [*a{n}, *a{n}]\n", n + 1, n + 1));
        let repeated = format!("[&a \"{}\"{}]", "x".repeat(100_000), ", *a".repeat(30_000));
        for text in [deep, nested, repeated, "&a [*a]".to_owned(), "a: 1\na: 2".to_owned()] {
            let started = std::time::Instant::now();
            assert!(parse(text.as_bytes()).is_err());
            assert!(started.elapsed() < std::time::Duration::from_secs(5), "{}", &text[..20]);
        }
    }
}
