//! What the agent around this service says of itself: which of its parts do not work, and what is wrong with the box.

use futures::future::BoxFuture;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use skiff_store::Store;

use crate::Api;
use crate::body::{self, Body};
use crate::request::Query;

/// What is wrong with the box, as a list of `about` and `text`.
pub const PROBLEMS: &str = "/skiff/v1/problems";
/// The agent's parts and how the last pass of each reconciler ended.
pub const PARTS: &str = "/skiff/v1/parts";

pub trait AgentReport: Send + Sync + 'static {
    /// Parts that do not work, and why.
    fn failing(&self) -> Vec<(String, String)>;
    fn problems(&self) -> BoxFuture<'_, Value>;
    fn parts(&self) -> Value;
    /// What is told of the process, in Prometheus' format.
    fn metrics(&self) -> String;
}

impl<S: Store> Api<S> {
    pub(crate) async fn problems(&self) -> Response<Body> {
        let problems = match self.agent() {
            Some(agent) => agent.problems().await,
            None => json!([]),
        };
        body::json(StatusCode::OK, &problems)
    }

    pub(crate) fn parts(&self) -> Response<Body> {
        body::json(StatusCode::OK, &self.agent().map_or_else(|| json!([]), |agent| agent.parts()))
    }

    /// Each check on a line where one fails or all are asked for, as upstream prints them. Anybody may ask: the reason is
    /// for those who may ask for problems.
    pub(crate) fn readiness(&self, query: &Query) -> Response<Body> {
        let failing = self.agent().map(|agent| agent.failing()).unwrap_or_default();
        let checks = [("bootstrap".to_owned(), self.is_ready())].into_iter();
        let checks: Vec<_> = checks.chain(failing.into_iter().map(|(part, _)| (part, false))).collect();
        let ready = checks.iter().all(|(_, works)| *works);
        if ready && !query.is_true("verbose") {
            return body::text(StatusCode::OK, "ok");
        }
        let line = |(name, works): &(String, bool)| match works {
            true => format!("[+]{name} ok\n"),
            false => format!("[-]{name} failed: reason withheld\n"),
        };
        let lines: String = checks.iter().map(line).collect();
        let (code, verdict) = match ready {
            true => (StatusCode::OK, "passed"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
        };
        body::text(code, format!("{lines}readyz check {verdict}\n"))
    }
}
