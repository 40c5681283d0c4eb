//! OpenAPI v2, one document for all that is served, for clients that know nothing newer. Made when it is asked for, one at a
//! time; it stays in memory as long as it is being sent, and all who ask meanwhile get the same.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::header::{ACCEPT, ETAG, HeaderValue, IF_NONE_MATCH, VARY};
use http::{HeaderMap, Response, StatusCode};
use serde_json::Value;
use skiff_object::custom::openapi::{self, Described};
use skiff_object::kinds::Kind;
use skiff_object::openapi::{documents, v2};
use skiff_store::Store;
use tokio::sync::Mutex;

use crate::body::{self, Body};
use crate::present::JSON;
use crate::status::ApiError;
use crate::{Api, discovery};

const ASKED: &str = "com.github.proto-openapi.spec.v2";
const SENT: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The documents that are being sent: in JSON and in protobuf, with what names them.
#[derive(Default)]
pub struct OldOpenApi([Mutex<(String, Weak<Document>)>; 2]);

struct Document(Vec<u8>);

struct Shared(Arc<Document>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.0
    }
}

/// What client-go asks for; whoever asks for anything else gets JSON.
fn form(headers: &HeaderMap) -> v2::Form {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let first = accept.flat_map(|value| value.split(',')).next().unwrap_or_default();
    if first.contains(ASKED) { v2::Form::Protobuf } else { v2::Form::Json }
}

fn made(described: &[Vec<(Arc<Kind>, Value)>], form: v2::Form) -> Document {
    let mut builder = v2::Builder::new(form);
    for document in documents() {
        builder.push(serde_json::from_slice(&discovery::unpacked(document)).unwrap_or_default());
    }
    let types = discovery::metadata_types();
    for kinds in described {
        let kinds: Vec<Described<'_>> = kinds.iter().map(|(kind, definition)| Described { kind, definition }).collect();
        builder.push(openapi::document(&kinds, &types));
    }
    Document(builder.finish(&discovery::git_version()))
}

impl<S: Store> Api<S> {
    pub(crate) async fn old_openapi(&self, headers: &HeaderMap) -> Result<Response<Body>, ApiError> {
        let form = form(headers);
        let custom = discovery::custom_documents(&self.catalogue());
        let hashes: Vec<&str> =
            documents().iter().map(|d| d.hash).chain(custom.iter().map(|(_, hash)| hash.as_str())).collect();
        let etag = format!("\"{}\"", discovery::hash(&format!("{form:?} {}", hashes.join(" "))));
        let is_known = headers.get_all(IF_NONE_MATCH).iter().any(|known| known.as_bytes() == etag.as_bytes());
        let (media_type, slot) = match form {
            v2::Form::Json => (JSON, 0),
            v2::Form::Protobuf => (SENT, 1),
        };
        let mut response = if is_known {
            body::response(StatusCode::NOT_MODIFIED, media_type, body::full(Bytes::new()))
        } else {
            // Whoever comes while it is made waits for it.
            let mut last = self.inner.old_openapi.0[slot].lock().await;
            let document = match last.1.upgrade().filter(|_| last.0 == etag) {
                Some(document) => document,
                None => {
                    let document = Arc::new(self.make_old_openapi(&custom, form).await?);
                    *last = (etag.clone(), Arc::downgrade(&document));
                    document
                }
            };
            body::whole(StatusCode::OK, media_type, Bytes::from_owner(Shared(document)))
        };
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
        if let Ok(etag) = HeaderValue::from_str(&etag) {
            response.headers_mut().insert(ETAG, etag);
        }
        Ok(response)
    }

    async fn make_old_openapi(&self, custom: &[(String, String)], form: v2::Form) -> Result<Document, ApiError> {
        let mut described = Vec::new();
        for (path, _) in custom {
            let (group, version) = path.trim_start_matches("apis/").split_once('/').unwrap_or_default();
            described.push(self.described(group, version).await?);
        }
        let made = tokio::task::spawn_blocking(move || made(&described, form)).await;
        made.map_err(|error| ApiError::internal(error.to_string()))
    }
}
