//! Objects as they are read: from the store, in the form of the version that is asked for. Knows no HTTP and writes
//! nothing.

use serde_json::Value;
use skiff_object::convert;
use skiff_object::kinds::Kind;
use skiff_store::{Entry, Store};

use crate::status::ApiError;
use crate::{Api, codec};

impl<S: Store> Api<S> {
    /// A stored object in the form of a kind.
    pub(crate) fn served(&self, kind: &Kind, stored: Value) -> Value {
        let catalogue = self.catalogue();
        let storage = catalogue.stored(kind);
        convert::convert(storage, kind, stored)
    }

    /// An object in the form in which its kind is stored.
    pub(crate) fn stored_form(&self, kind: &Kind, object: Value) -> Value {
        let catalogue = self.catalogue();
        let storage = catalogue.stored(kind);
        if storage == kind { object } else { convert::convert(kind, storage, object) }
    }

    pub(crate) async fn entry(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Entry>, ApiError> {
        let entry = self.store().get(&kind.key(namespace, name)).await;
        entry.map_err(|e| ApiError::from_store(e, kind, name))
    }

    pub(crate) async fn read(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Option<Value>, ApiError> {
        Ok(self.entry(kind, namespace, name).await?.map(|e| self.served(kind, codec::decode(&e))))
    }

    pub(crate) async fn require(&self, kind: &Kind, namespace: Option<&str>, name: &str) -> Result<Value, ApiError> {
        self.read(kind, namespace, name).await?.ok_or_else(|| ApiError::not_found(kind, name))
    }
}
