//! What is recorded of which request: a policy in upstream's format, `audit.k8s.io/v1`. Pure.

use std::sync::Arc;

use serde::Deserialize;
use skiff_object::kinds::{Catalogue, Kind};

use crate::rbac::covers_path;
use crate::request::{Parts, Verb};
use crate::users::User;

/// How much of a request is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::None => "None",
            Level::Metadata => "Metadata",
            Level::Request => "Request",
            Level::RequestResponse => "RequestResponse",
        }
    }
}

/// When it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

impl Stage {
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::RequestReceived => "RequestReceived",
            Stage::ResponseStarted => "ResponseStarted",
            Stage::ResponseComplete => "ResponseComplete",
            Stage::Panic => "Panic",
        }
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicyError {
    #[error("{0}")]
    Syntax(String),
    #[error("{field}: {why}")]
    Invalid { field: String, why: &'static str },
}

/// What the owner of the box wants to know. The first rule that fits decides; without one nothing is recorded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Policy {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde::de::IgnoredAny,
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// A request as rules see it.
pub struct Asked<'a> {
    /// `None` where it is not known who asks.
    pub user: Option<&'a User>,
    pub verb: String,
    pub path: &'a str,
    pub about: About,
}

/// What a request is about.
#[derive(Default)]
pub struct About {
    /// A resource, whoever answers for it.
    pub parts: Option<(Parts, Verb)>,
    /// Its kind, where it is served here.
    pub kind: Option<Arc<Kind>>,
}

impl About {
    pub fn is(&self, wanted: Verb) -> bool {
        self.parts.as_ref().is_some_and(|(_, verb)| *verb == wanted)
    }

    /// Its answer may have no end.
    pub fn is_stream(&self) -> bool {
        self.is(Verb::Watch) || self.parts.as_ref().is_some_and(|(parts, _)| parts.is_passed_on())
    }
}

impl<'a> Asked<'a> {
    pub fn of<B>(catalogue: &Catalogue, user: Option<&'a User>, request: &'a http::Request<B>) -> Self {
        let (method, path) = (request.method(), request.uri().path());
        // What is no request is one of a path: it is refused, and recorded as that.
        let parts = Parts::of(request).and_then(|parts| parts.verb(method).ok().map(|verb| (parts, verb)));
        let kind = parts.as_ref().and_then(|(parts, _)| {
            catalogue.by_resource(&parts.group, &parts.version, &parts.resource).map(Arc::clone)
        });
        let verb = match &parts {
            Some((_, verb)) => verb.as_str().to_owned(),
            None => method.as_str().to_ascii_lowercase(),
        };
        Self { user, verb, path, about: About { parts, kind } }
    }
}

/// What is to be done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub level: Level,
    pub omits: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Policy {
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = serde_yaml::from_str(text).map_err(|error| PolicyError::Syntax(error.to_string()))?;
        policy.check()?;
        Ok(policy)
    }

    fn check(&self) -> Result<(), PolicyError> {
        let wrong = |field: String, why| Err(PolicyError::Invalid { field, why });
        if self.api_version != "audit.k8s.io/v1" {
            return wrong("apiVersion".to_owned(), "it must be \"audit.k8s.io/v1\"");
        }
        if self.kind != "Policy" {
            return wrong("kind".to_owned(), "it must be \"Policy\"");
        }
        if self.rules.is_empty() {
            return wrong("rules".to_owned(), "there must be at least one");
        }
        for (index, rule) in self.rules.iter().enumerate() {
            if let Some((field, why)) = rule.problem() {
                return wrong(format!("rules[{index}].{field}"), why);
            }
        }
        Ok(())
    }

    pub fn decide(&self, asked: &Asked<'_>) -> Decision {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(asked)) else {
            return Decision { level: Level::None, omits: Vec::new(), omit_managed_fields: false };
        };
        Decision {
            level: rule.level,
            omits: self.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn problem(&self) -> Option<(String, &'static str)> {
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if of_resources && !self.non_resource_urls.is_empty() {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            return Some(("nonResourceURLs".to_owned(), why));
        }
        for (index, url) in self.non_resource_urls.iter().enumerate().filter(|(_, url)| *url != "*") {
            let field = || format!("nonResourceURLs[{index}]");
            if !url.starts_with('/') {
                return Some((field(), "non-resource URL rules must begin with a '/' character"));
            }
            if url[..url.len() - 1].contains('*') {
                return Some((field(), "non-resource URL wildcards '*' must be the final character of the rule"));
            }
        }
        for (index, group) in self.resources.iter().enumerate() {
            if group.group.contains('/') {
                return Some((format!("resources[{index}].group"), "a group is named without its version"));
            }
            if !group.resource_names.is_empty() && group.resources.is_empty() {
                let why = "using resourceNames requires at least one resource";
                return Some((format!("resources[{index}].resourceNames"), why));
            }
        }
        None
    }

    fn matches(&self, asked: &Asked<'_>) -> bool {
        let has = |list: &[String], wanted: &str| list.is_empty() || list.iter().any(|one| one == wanted);
        // Whoever is not known is none of those that a rule names.
        let of_user = match asked.user {
            Some(user) => {
                let in_group = user.groups.iter().any(|group| has(&self.user_groups, group));
                has(&self.users, &user.name) && (self.user_groups.is_empty() || in_group)
            }
            None => self.users.is_empty() && self.user_groups.is_empty(),
        };
        if !of_user || !has(&self.verbs, &asked.verb) {
            return false;
        }
        match &asked.about.parts {
            Some((parts, _)) if !self.resources.is_empty() || !self.namespaces.is_empty() => {
                let in_namespace = has(&self.namespaces, parts.namespace.as_deref().unwrap_or_default());
                in_namespace && (self.resources.is_empty() || self.resources.iter().any(|one| one.matches(parts)))
            }
            Some(_) => self.non_resource_urls.is_empty(),
            None if !self.resources.is_empty() || !self.namespaces.is_empty() => false,
            None => {
                self.non_resource_urls.is_empty()
                    || self.non_resource_urls.iter().any(|url| covers_path(url, asked.path))
            }
        }
    }
}

impl Resources {
    fn matches(&self, parts: &Parts) -> bool {
        let (own, sub) = (parts.resource.as_str(), parts.subresource.as_deref());
        let name = parts.name.as_deref().unwrap_or_default();
        let named = self.resource_names.is_empty() || self.resource_names.iter().any(|one| one == name);
        let resource = |wanted: &String| match (wanted.as_str(), wanted.split_once('/')) {
            ("*", _) => true,
            (_, None) => wanted == own && sub.is_none(),
            (_, Some((resource, part))) => {
                let is_part = sub.is_some_and(|sub| part == "*" || part == sub);
                // `pods/*` is also pods.
                (resource == own && (is_part || part == "*")) || (resource == "*" && is_part)
            }
        };
        parts.group == self.group && named && (self.resources.is_empty() || self.resources.iter().any(resource))
    }
}
