//! The node's API, which the API server forwards to: logs, commands, ports, statistics. Authorization has been done.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use k8s_openapi::api::core::v1::Pod;
use skiff_reconcile::Informer;

use crate::context::Context;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
pub type Body = http_body_util::combinators::BoxBody<Bytes, BoxError>;

#[derive(Clone)]
pub struct Server {
    pub(crate) context: Arc<Context>,
    pub(crate) informer: Informer<Pod>,
}

impl Server {
    pub(crate) fn new(context: Arc<Context>, informer: Informer<Pod>) -> Self {
        Self { context, informer }
    }

    pub async fn handle(&self, _request: Request<Body>) -> Response<Body> {
        let mut response = Response::new(Full::new(Bytes::from_static(b"not found\n")).map_err(|e| match e {}).boxed());
        *response.status_mut() = StatusCode::NOT_FOUND;
        response
    }
}
