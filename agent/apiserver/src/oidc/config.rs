//! Whose tokens are believed beside the box's own, and who their bearers are: upstream's `AuthenticationConfiguration`. Pure.

use serde::Deserialize;
use skiff_object::cel::Program;

/// All issuers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AuthenticationConfig {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    pub jwt: Vec<Issuer>,
}

/// One of them, with how its tokens are read.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Issuer {
    pub issuer: Source,
    #[serde(default)]
    pub claim_validation_rules: Vec<ClaimRule>,
    pub claim_mappings: Mappings,
    #[serde(default)]
    pub user_validation_rules: Vec<UserRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Source {
    pub url: String,
    #[serde(rename = "discoveryURL")]
    pub discovery_url: Option<String>,
    /// In PEM; the system's if absent.
    pub certificate_authority: Option<String>,
    #[serde(default)]
    pub audiences: Vec<String>,
    #[serde(default)]
    pub audience_match_policy: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClaimRule {
    #[serde(default)]
    pub claim: String,
    #[serde(default)]
    pub required_value: String,
    #[serde(default)]
    pub expression: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct UserRule {
    pub expression: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mappings {
    pub username: Mapping,
    #[serde(default)]
    pub groups: Mapping,
    #[serde(default)]
    pub uid: Mapping,
    #[serde(default)]
    pub extra: Vec<ExtraMapping>,
}

/// A claim with what is put before it, or an expression.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mapping {
    #[serde(default)]
    pub claim: String,
    pub prefix: Option<String>,
    #[serde(default)]
    pub expression: String,
}

impl Mapping {
    pub fn source(&self) -> &str {
        if self.claim.is_empty() { &self.expression } else { &self.claim }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ExtraMapping {
    pub key: String,
    pub value_expression: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AuthenticationConfigError {
    #[error("{0}")]
    Syntax(String),
    #[error("{field}: {why}")]
    Invalid { field: String, why: String },
}

/// Whose keys nobody else gives a meaning to.
const RESERVED: [&str; 2] = ["k8s.io", "kubernetes.io"];
const CLAIMS: &[&str] = &["claims"];
const USER: &[&str] = &["user"];

impl AuthenticationConfig {
    pub fn parse(text: &str) -> Result<Self, AuthenticationConfigError> {
        let config: Self =
            serde_yaml::from_str(text).map_err(|error| AuthenticationConfigError::Syntax(error.to_string()))?;
        config.check().map_or(Ok(config), Err)
    }

    /// One issuer whose tokens have the usual claims.
    pub fn of(source: Source, username: Mapping, groups: Mapping) -> Result<Self, AuthenticationConfigError> {
        let mappings = Mappings { username, groups, ..Mappings::default() };
        let issuer = Issuer {
            issuer: source,
            claim_validation_rules: Vec::new(),
            claim_mappings: mappings,
            user_validation_rules: Vec::new(),
        };
        let config = Self { jwt: vec![issuer], ..Self::default() };
        match config.jwt[0].problem() {
            Some((field, why)) => Err(AuthenticationConfigError::Invalid { field, why }),
            None => Ok(config),
        }
    }

    fn check(&self) -> Option<AuthenticationConfigError> {
        let wrong = |field: &str, why: &str| {
            Some(AuthenticationConfigError::Invalid { field: field.to_owned(), why: why.to_owned() })
        };
        let versions = ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1"];
        if !versions.contains(&self.api_version.as_str()) {
            return wrong("apiVersion", "it must be \"apiserver.config.k8s.io/v1\"");
        }
        if self.kind != "AuthenticationConfiguration" {
            return wrong("kind", "it must be \"AuthenticationConfiguration\"");
        }
        let mut seen = Vec::new();
        for (index, issuer) in self.jwt.iter().enumerate() {
            if let Some((field, why)) = issuer.problem() {
                return wrong(&format!("jwt[{index}].{field}"), &why);
            }
            if seen.contains(&&issuer.issuer.url) {
                return wrong(&format!("jwt[{index}].issuer.url"), "another issuer has it");
            }
            seen.push(&issuer.issuer.url);
        }
        None
    }
}

impl Issuer {
    /// All there are, each with the variable that it is about.
    pub fn expressions(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let mappings = &self.claim_mappings;
        let mapped = [&mappings.username, &mappings.groups, &mappings.uid].map(|mapping| mapping.expression.as_str());
        let extras = mappings.extra.iter().map(|extra| extra.value_expression.as_str());
        let rules = self.claim_validation_rules.iter().map(|rule| rule.expression.as_str());
        let of_user = self.user_validation_rules.iter().map(|rule| (rule.expression.as_str(), "user"));
        mapped.into_iter().chain(extras).chain(rules).map(|text| (text, "claims")).chain(of_user)
    }

    fn problem(&self) -> Option<(String, String)> {
        let source = &self.issuer;
        let wrong = |field: &str, why: &str| Some((field.to_owned(), why.to_owned()));
        let is_https = |url: &str| url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty());
        if !is_https(&source.url) {
            return wrong("issuer.url", "it must begin with https://");
        }
        if source.discovery_url.as_deref().is_some_and(|url| !is_https(url)) {
            return wrong("issuer.discoveryURL", "it must begin with https://");
        }
        if source.audiences.is_empty() {
            return wrong("issuer.audiences", "at least one audience is required");
        }
        if !["", "MatchAny"].contains(&source.audience_match_policy.as_str()) {
            return wrong("issuer.audienceMatchPolicy", "it must be \"MatchAny\"");
        }
        let mappings = &self.claim_mappings;
        for (field, mapping, is_needed) in
            [("username", &mappings.username, true), ("groups", &mappings.groups, false), ("uid", &mappings.uid, false)]
        {
            let field = format!("claimMappings.{field}");
            match (mapping.claim.is_empty(), mapping.expression.is_empty()) {
                (true, true) if is_needed => return wrong(&field, "claim or expression is required"),
                (false, false) => return wrong(&field, "claim and expression cannot both be set"),
                // An empty prefix has to be said: without one the issuer's users could be anybody.
                (false, true) if mapping.prefix.is_none() && !field.ends_with("uid") => {
                    return wrong(&format!("{field}.prefix"), "prefix is required when claim is set; it may be \"\"");
                }
                _ => {}
            }
            if let Some(why) = uncompiled(&mapping.expression, CLAIMS) {
                return Some((format!("{field}.expression"), why));
            }
        }
        if let Some(problem) = mappings.problem_of_extra().or_else(|| self.problem_of_mail()) {
            return Some(problem);
        }
        for (index, rule) in self.claim_validation_rules.iter().enumerate() {
            if rule.claim.is_empty() == rule.expression.is_empty() {
                return wrong(
                    &format!("claimValidationRules[{index}]"),
                    "claim or expression is required, and not both",
                );
            }
            if let Some(why) = uncompiled(&rule.expression, CLAIMS) {
                return Some((format!("claimValidationRules[{index}].expression"), why));
            }
        }
        for (index, rule) in self.user_validation_rules.iter().enumerate() {
            if let Some(why) = uncompiled(&rule.expression, USER) {
                return Some((format!("userValidationRules[{index}].expression"), why));
            }
        }
        None
    }
}

impl Issuer {
    /// Whoever's mail is not proven could be anybody's.
    fn problem_of_mail(&self) -> Option<(String, String)> {
        let mappings = &self.claim_mappings;
        let extras = mappings.extra.iter().map(|extra| &extra.value_expression);
        let rules = self.claim_validation_rules.iter().map(|rule| &rule.expression);
        let mut all = std::iter::once(&mappings.username.expression).chain(extras).chain(rules);
        let by_mail = names(&mappings.username.expression, "email");
        let is_missed = by_mail && !all.any(|expression| names(expression, "email_verified"));
        let why = "claims.email_verified must be used in it, in a valueExpression of extra, or in a claimValidationRule, since \
                   it uses claims.email";
        is_missed.then(|| ("claimMappings.username.expression".to_owned(), why.to_owned()))
    }
}

impl Mappings {
    fn problem_of_extra(&self) -> Option<(String, String)> {
        let wrong = |field: &str, why: &str| Some((field.to_owned(), why.to_owned()));
        for (index, extra) in self.extra.iter().enumerate() {
            if !extra.key.contains('/') || extra.key.to_lowercase() != extra.key {
                return wrong(&format!("claimMappings.extra[{index}].key"), "it must be a lower-case DOMAIN/PATH");
            }
            let domain = extra.key.split('/').next().unwrap_or_default();
            if RESERVED.iter().any(|own| domain == *own || domain.ends_with(&format!(".{own}"))) {
                return wrong(&format!("claimMappings.extra[{index}].key"), "k8s.io and kubernetes.io are reserved");
            }
            if self.extra[..index].iter().any(|before| before.key == extra.key) {
                return wrong(&format!("claimMappings.extra[{index}].key"), "it is there twice");
            }
            if let Some(why) = uncompiled(&extra.value_expression, CLAIMS) {
                return Some((format!("claimMappings.extra[{index}].valueExpression"), why));
            }
        }
        None
    }
}

/// Whether an expression is about a claim.
fn names(expression: &str, claim: &str) -> bool {
    let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    expression.match_indices(&format!("claims.{claim}")).any(|(at, found)| is_end(&expression[at + found.len()..]))
}

fn uncompiled(expression: &str, variables: &[&str]) -> Option<String> {
    if expression.is_empty() {
        return None;
    }
    Program::compile(expression, variables).err().map(|error| error.to_string())
}
