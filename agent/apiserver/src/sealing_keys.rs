//! The keys that Secrets are encrypted with where they rest: who may ask for paths asks which there are and wants a new one.
//! What that means the agent around this service knows; no key passes through here.

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Method, Response, StatusCode};
use serde_json::Value;
use skiff_store::Store;

use crate::Api;
use crate::body::{self, Body};
use crate::status::ApiError;

/// GET tells which keys there are; POST puts a new one in the place of those.
pub const PATH: &str = "/skiff/v1/sealing-keys";

pub trait SealingKeys: Send + Sync + 'static {
    fn status(&self) -> BoxFuture<'_, Result<Value, String>>;
    /// Goes on where nobody waits for it any more.
    fn rotate(&self) -> BoxFuture<'_, Result<Value, String>>;
}

impl<S: Store> Api<S> {
    /// Lets the agent around this service answer for them.
    pub fn seal_with(&self, keys: Arc<dyn SealingKeys>) {
        self.inner.sealing_keys.store(Some(Arc::new(keys)));
    }

    pub(crate) async fn sealing_keys(&self, method: &Method) -> Result<Response<Body>, ApiError> {
        let keys = self.inner.sealing_keys.load_full().ok_or_else(ApiError::path_not_found)?;
        let (code, answer) = match *method {
            Method::GET | Method::HEAD => (StatusCode::OK, keys.status().await),
            Method::POST => (StatusCode::CREATED, keys.rotate().await),
            _ => return Err(ApiError::method_not_allowed(method.as_str())),
        };
        answer.map(|answer| body::json(code, &answer)).map_err(ApiError::internal)
    }
}
