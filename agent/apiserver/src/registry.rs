//! Objects as they are read: from the store, in the form of the version that is asked for. Knows no HTTP and writes
//! nothing.

use serde_json::Value;
use skiff_object::kinds::Kind;
use skiff_store::{Entry, Store};

use crate::status::ApiError;
use crate::{Api, codec};

impl<S: Store> Api<S> {
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
        match self.entry(kind, namespace, name).await? {
            Some(entry) => self.served(kind, codec::decode(&entry)).await.map(Some),
            None => Ok(None),
        }
    }

    pub(crate) async fn require(&self, kind: &Kind, namespace: Option<&str>, name: &str) -> Result<Value, ApiError> {
        self.read(kind, namespace, name).await?.ok_or_else(|| ApiError::not_found(kind, name))
    }
}
