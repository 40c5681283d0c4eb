//! What is asked of the keys that Secrets are encrypted with.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::*;
use crate::sealing_keys::{PATH, SealingKeys};

struct Fake;

impl SealingKeys for Fake {
    fn status(&self) -> BoxFuture<'_, Result<Value, String>> {
        async { Ok(json!({"keys": []})) }.boxed()
    }

    fn rotate(&self) -> BoxFuture<'_, Result<Value, String>> {
        async { Err("the disk is full".to_owned()) }.boxed()
    }
}

#[tokio::test]
async fn the_agent_answers_for_the_keys() {
    let server = Server::start().await;
    assert_eq!(server.get(PATH).await.0, StatusCode::NOT_FOUND, "nobody answers for them yet");
    server.api.seal_with(Arc::new(Fake));
    assert_eq!(server.get(PATH).await, (StatusCode::OK, json!({"keys": []})));
    let (code, answer) = server.call(Method::POST, PATH, "", "").await;
    assert_eq!((code, &answer["reason"]), (StatusCode::INTERNAL_SERVER_ERROR, &json!("InternalError")));
    assert!(answer["message"].as_str().unwrap_or_default().ends_with("the disk is full"), "{answer}");
    assert_eq!(server.call(Method::DELETE, PATH, "", "").await.0, StatusCode::METHOD_NOT_ALLOWED);
}
