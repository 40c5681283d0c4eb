//! What a plan has to say of an object, and the way to say it.

use kube::Resource;
use skiff_reconcile::{EventKind, Recorder};

use crate::objects;

/// An event to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub kind: EventKind,
    pub reason: &'static str,
    pub message: String,
}

impl Said {
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind: EventKind::Normal, reason, message: message.into() }
    }

    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind: EventKind::Warning, reason, message: message.into() }
    }
}

pub async fn tell<K: Resource<DynamicType = ()>>(recorder: &Recorder, object: &K, said: &[Said]) {
    for Said { kind, reason, message } in said {
        recorder.event(&objects::reference(object), *kind, reason, message).await;
    }
}
