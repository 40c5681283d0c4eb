//! What a request asks for, from its method, path and query. Pure.

use std::sync::Arc;

use http::Method;
use skiff_object::kinds::{Catalogue, Kind, Scope};

use crate::status::ApiError;

/// The verbs of RBAC for resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Create => "create",
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
            Verb::DeleteCollection => "deletecollection",
        }
    }
}

/// A request about objects of one kind.
#[derive(Clone, Debug)]
pub struct Target {
    pub kind: Arc<Kind>,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
    /// What follows the subresource: the path of a proxied request.
    pub rest: String,
    pub verb: Verb,
}

impl Target {
    pub fn name(&self) -> Result<&str, ApiError> {
        self.name.as_deref().ok_or_else(|| ApiError::bad_request("name must be provided"))
    }

    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// `pods/log`, as RBAC names it.
    pub fn resource(&self) -> String {
        named_resource(&self.kind.plural, self.subresource.as_deref())
    }
}

/// A query string, decoded; later values win.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect(),
        )
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(k, v)| k == key && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    pub fn all(&self, key: &str) -> Vec<&str> {
        self.0.iter().filter(|(own, _)| own == key).map(|(_, value)| value.as_str()).collect()
    }

    pub fn is_true(&self, key: &str) -> bool {
        // As upstream reads one: `True` and `yes`, too.
        let first = self.0.iter().find(|(k, _)| k == key);
        first.is_some_and(|(_, text)| !text.eq_ignore_ascii_case("false") && text != "0")
    }

    pub fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                ApiError::bad_request(format!("invalid value {text:?} for {key}: it must be a whole number"))
            })
        };
        self.get(key).map(parse).transpose()
    }
}

/// Percent-decoding, with `+` as a space; what is not UTF-8 is replaced.
pub(crate) fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What a path says of a resource, whoever answers it.
pub struct Parts {
    pub group: String,
    pub version: String,
    pub namespace: Option<String>,
    pub resource: String,
    pub name: Option<String>,
    pub subresource: Option<String>,
    rest: String,
    is_watched: bool,
}

/// Subresources that another answers, when it likes to, and that may have no end.
const PASSED_ON: &[&str] = &["attach", "exec", "log", "portforward", "proxy"];

impl Parts {
    pub fn of<B>(request: &http::Request<B>) -> Option<Self> {
        Self::read(request.uri().path(), &Query::parse(request.uri().query()))
    }

    pub fn is_passed_on(&self) -> bool {
        self.subresource.as_deref().is_some_and(|part| PASSED_ON.contains(&part))
    }

    /// `None` where the path is not one of a resource.
    pub fn read(path: &str, query: &Query) -> Option<Self> {
        let mut segments = path.split('/').skip(1);
        let (group, version) = match segments.next() {
            Some("api") => ("", segments.next()),
            Some("apis") => (segments.next().unwrap_or_default(), segments.next()),
            _ => return None,
        };
        let version = version.filter(|v| !v.is_empty())?;
        let mut rest: Vec<String> = segments.map(path_decode).collect();
        while rest.last().is_some_and(String::is_empty) {
            rest.pop();
        }
        if rest.is_empty() {
            return None;
        }
        // The deprecated `/watch/` prefix is still what some old clients use.
        let is_watched = rest[0] == "watch" && rest.len() > 1;
        if is_watched {
            rest.remove(0);
        }
        let is_subresource_of_namespace = rest.len() == 3 && matches!(rest[2].as_str(), "status" | "finalize");
        let namespace = (rest[0] == "namespaces"
            && rest.len() > 2
            && !(group.is_empty() && is_subresource_of_namespace))
            .then(|| {
                rest.remove(0);
                rest.remove(0)
            });
        let mut parts = rest.into_iter();
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            namespace,
            resource: parts.next().unwrap_or_default(),
            name: parts.next(),
            subresource: parts.next(),
            rest: parts.collect::<Vec<_>>().join("/"),
            is_watched: is_watched || query.is_true("watch"),
        })
    }

    pub fn verb(&self, method: &Method) -> Result<Verb, ApiError> {
        for segment in self.namespace.iter().chain(&self.name).chain(&self.subresource) {
            check_segment(segment)?;
        }
        verb(method, self.name.is_some(), self.subresource.is_some(), self.is_watched)
    }

    /// `pods/log`, as RBAC names it.
    pub fn named_resource(&self) -> String {
        named_resource(&self.resource, self.subresource.as_deref())
    }
}

fn named_resource(resource: &str, subresource: Option<&str>) -> String {
    match subresource {
        Some(subresource) => format!("{resource}/{subresource}"),
        None => resource.to_owned(),
    }
}

/// `None` where the path is not one of a resource.
pub fn target(catalogue: &Catalogue, method: &Method, path: &str, query: &Query) -> Result<Option<Target>, ApiError> {
    let Some(parts) = Parts::read(path, query) else { return Ok(None) };
    let kind = catalogue.by_resource(&parts.group, &parts.version, &parts.resource);
    let kind = kind.ok_or_else(ApiError::path_not_found)?;
    let fits = match kind.scope {
        Scope::Cluster => parts.namespace.is_none(),
        Scope::Namespaced => true,
    };
    if !fits {
        return Err(ApiError::path_not_found());
    }
    let verb = parts.verb(method)?;
    let Parts { namespace, name, subresource, rest, .. } = parts;
    Ok(Some(Target { kind: Arc::clone(kind), namespace, name, subresource, rest, verb }))
}

/// Names become keys of the store and, on the node, folders: one that is decoded to several would be somebody else's.
fn check_segment(segment: &str) -> Result<(), ApiError> {
    let why = match segment {
        "" => "it must not be empty",
        "." | ".." => "it must not be \".\" or \"..\"",
        _ if segment.contains(['/', '%']) => "it must not contain '/' or '%'",
        _ if segment.contains(char::is_control) => "it must not contain control characters",
        _ => return Ok(()),
    };
    Err(ApiError::bad_request(format!("invalid name {segment:?} in the path: {why}")))
}

fn path_decode(segment: &str) -> String {
    decode(&segment.replace('+', "%2B"))
}

fn verb(method: &Method, named: bool, sub: bool, watched: bool) -> Result<Verb, ApiError> {
    match *method {
        Method::GET | Method::HEAD if watched && !sub => Ok(Verb::Watch),
        Method::GET | Method::HEAD if named => Ok(Verb::Get),
        Method::GET | Method::HEAD => Ok(Verb::List),
        Method::POST if !named || sub => Ok(Verb::Create),
        Method::PUT if named => Ok(Verb::Update),
        Method::PATCH if named => Ok(Verb::Patch),
        Method::DELETE if named => Ok(Verb::Delete),
        Method::DELETE => Ok(Verb::DeleteCollection),
        _ => Err(ApiError::method_not_allowed(method.as_str())),
    }
}
