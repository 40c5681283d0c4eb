//! Admission that comes at run time: mutating and validating webhooks, and admission policies.
//!
//! Owns which there are, kept compiled in memory and made anew after any change; what they say of a write is in the files
//! beside. Without any, a write pays nothing.

mod call;
mod matching;
mod mutations;
pub mod policies;
pub mod webhooks;

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::Value;
use skiff_object::kinds::{self, Kind};
use skiff_object::scale;
use skiff_store::{ListOptions, Store};

use crate::request::Target;
use crate::status::ApiError;
use crate::strategy::Part;
use crate::write::{Author, Write};
use crate::{Api, codec};
pub use call::{CallError, Client};
use matching::Asked;
use policies::Policy;
use webhooks::Webhook;

const GROUP: &str = "admissionregistration.k8s.io/v1";

/// What is asked before something is written.
#[derive(Default)]
pub struct Extensions {
    compiled: ArcSwap<Compiled>,
}

#[derive(Default)]
pub struct Compiled {
    /// In the order of their configurations' names.
    pub mutating: Vec<Webhook>,
    pub validating: Vec<Webhook>,
    pub policies: Vec<Policy>,
    /// In the order of their names.
    pub mutators: Vec<Policy>,
}

impl Compiled {
    fn has_judges(&self) -> bool {
        !self.policies.is_empty() || !self.validating.is_empty()
    }
}

const SCALE: &str = "scale";

/// The kinds that say what is asked. Nobody is asked about these: else one could lock everybody out.
const KINDS: &[&str] = &[
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
];

pub fn is_exempt(kind: &Kind) -> bool {
    !kind.is_kept() || KINDS.iter().any(|name| kind.is("admissionregistration.k8s.io", name))
}

fn kind(name: &str) -> &'static Arc<Kind> {
    kinds::by_kind(GROUP, name).expect("a built-in kind")
}

impl Extensions {
    pub fn compiled(&self) -> Arc<Compiled> {
        self.compiled.load_full()
    }

    pub async fn reload<S: Store>(&self, store: &S) -> Result<(), skiff_store::Error> {
        let mut lists = Vec::new();
        for name in KINDS {
            let page = store.list(&kind(name).key_prefix(None), ListOptions::default()).await?;
            lists.push(page.entries.iter().map(codec::decode).collect::<Vec<Value>>());
        }
        let webhooks = |configurations: &[Value]| configurations.iter().flat_map(Webhook::read).collect();
        let compiled = Compiled {
            mutating: webhooks(&lists[0]),
            validating: webhooks(&lists[1]),
            policies: policies::read(KINDS[2], &lists[2], &lists[3]),
            mutators: policies::read(KINDS[4], &lists[4], &lists[5]),
        };
        self.compiled.store(Arc::new(compiled));
        Ok(())
    }
}

/// Where it is said what is asked.
pub fn prefixes() -> Vec<String> {
    KINDS.iter().map(|name| kind(name).key_prefix(None)).collect()
}

/// What a request to a part of an object brings, where it is no write of the object.
pub enum Body<'a> {
    /// An object of its own: an eviction, a binding, a request for a token.
    Create(&'a Value),
    /// What a stream is opened with.
    Connect(Value),
}

/// What is said of a part of an object that is written: `None` where nobody is asked about it.
fn subresource(write: &Write<'_>, part: Part) -> Option<&'static str> {
    match part {
        Part::Main if write.author.subresource == SCALE => Some(SCALE),
        // The eviction was asked about.
        Part::Main if write.author.subresource == "eviction" => None,
        Part::Main => Some(""),
        Part::Status => Some("status"),
        Part::EphemeralContainers => Some("ephemeralcontainers"),
        Part::Approval => Some("approval"),
        Part::Finalize | Part::Binding => None,
    }
}

/// A write as extensions see it.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    pub write: &'a Write<'a>,
    pub part: Part,
    pub name: &'a str,
    pub new: Option<&'a Value>,
    pub old: Option<&'a Value>,
}

impl<'a> Told<'a> {
    fn asked(&self, namespace: Option<&'a Value>) -> Option<Asked<'a>> {
        let operation = match (self.new, self.old) {
            (Some(_), None) => "CREATE",
            (Some(_), Some(_)) => "UPDATE",
            (None, _) => "DELETE",
        };
        let kind = self.write.kind;
        let subresource = subresource(self.write, self.part)?;
        Some(Asked { operation, kind, subresource, name: self.name, object: self.new, old: self.old, namespace })
    }
}

impl<S: Store> Api<S> {
    /// Whether anybody is asked. The API's own writes are not: it has to start whatever was installed.
    fn is_asked(&self, kind: &Kind, author: &Author, of: impl Fn(&Compiled) -> bool) -> bool {
        !is_exempt(kind) && !author.is_api && of(&self.extensions().compiled())
    }

    /// Whether a write may be refused by what came at run time.
    pub(crate) fn has_judges(&self, kind: &Kind, author: &Author) -> bool {
        self.is_asked(kind, author, Compiled::has_judges)
    }

    async fn namespace_of(&self, kind: &Kind, namespace: Option<&str>) -> Result<Option<Value>, ApiError> {
        let namespaces = kinds::by_kind("v1", "Namespace").expect("a built-in kind");
        match namespace.filter(|_| kind.namespaced()) {
            Some(name) => self.read(namespaces, None, name).await,
            None => Ok(None),
        }
    }

    /// What policies and mutating webhooks make of a new object.
    pub(crate) async fn extend(&self, told: Told<'_>, warnings: &mut Vec<String>) -> Result<Option<Value>, ApiError> {
        let write = told.write;
        if !self.is_asked(write.kind, write.author, |compiled| {
            !compiled.mutating.is_empty() || !compiled.mutators.is_empty()
        }) {
            return Ok(None);
        }
        let namespace = self.namespace_of(write.kind, write.namespace).await?;
        match told.asked(namespace.as_ref()) {
            // A scale is made of the object, and not the object of it.
            Some(asked) if asked.subresource != SCALE => self.changed(write.author, asked, warnings).await,
            Some(_) | None => Ok(None),
        }
    }

    /// Policies first, and those that ask for it again after the webhooks.
    async fn changed(
        &self,
        author: &Author,
        asked: Asked<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Value>, ApiError> {
        let by_policies = self.mutate_by_policies(author, asked, false).await?;
        let asked = Asked { object: by_policies.as_ref().or(asked.object), ..asked };
        let Some(by_webhooks) = self.mutate(author, asked, warnings).await? else { return Ok(by_policies) };
        let again = self.mutate_by_policies(author, Asked { object: Some(&by_webhooks), ..asked }, true).await?;
        Ok(Some(again.unwrap_or(by_webhooks)))
    }

    /// Whether policies and validating webhooks take a write; answers with their warnings.
    pub(crate) async fn consent(&self, told: Told<'_>) -> Result<Vec<String>, ApiError> {
        let write = told.write;
        if !self.has_judges(write.kind, write.author) {
            return Ok(Vec::new());
        }
        let namespace = self.namespace_of(write.kind, write.namespace).await?;
        let Some(asked) = told.asked(namespace.as_ref()) else { return Ok(Vec::new()) };
        if asked.subresource != SCALE {
            return self.ask(write.author, &asked).await;
        }
        let scaled = |object: Option<&Value>| object.map(|object| scale::read(write.kind, object));
        let (object, old) = (scaled(asked.object), scaled(asked.old));
        self.ask(write.author, &Asked { object: object.as_ref(), old: old.as_ref(), ..asked }).await
    }

    /// The same of a request to a part of an object that is no write of it.
    pub(crate) async fn consent_to(
        &self,
        target: &Target,
        author: &Author,
        body: Body<'_>,
    ) -> Result<Vec<String>, ApiError> {
        let kind = &*target.kind;
        if !self.has_judges(kind, author) {
            return Ok(Vec::new());
        }
        let namespace = self.namespace_of(kind, target.namespace()).await?;
        let (operation, object) = match &body {
            Body::Create(object) => ("CREATE", *object),
            Body::Connect(options) => ("CONNECT", options),
        };
        let (subresource, name) = (target.subresource.as_deref().unwrap_or_default(), target.name()?);
        let (object, namespace) = (Some(object), namespace.as_ref());
        self.ask(author, &Asked { operation, kind, subresource, name, object, old: None, namespace }).await
    }

    async fn ask(&self, author: &Author, asked: &Asked<'_>) -> Result<Vec<String>, ApiError> {
        let mut warnings = Vec::new();
        self.ask_policies(author, asked, &mut warnings).await?;
        self.ask_webhooks(author, asked, &mut warnings).await?;
        Ok(warnings)
    }
}
