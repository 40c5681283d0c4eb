//! Objects of any kind, by the path where they are: for what handles kinds that nobody knew when this was written.

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::Request;
use http::header::{ACCEPT, CONTENT_TYPE};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::DeleteParams;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

#[derive(Deserialize)]
struct Head {
    metadata: ObjectMeta,
}

/// A part of a list.
#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
    metadata: PageMetadata,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(rename = "continue")]
    next: Option<String>,
}

fn request(request: http::request::Builder, body: Vec<u8>) -> Result<Request<Vec<u8>>, kube::Error> {
    request.body(body).map_err(kube::Error::HttpError)
}

/// `None` if there is no such object.
pub async fn metadata(client: &Client, path: &str) -> Result<Option<ObjectMeta>, kube::Error> {
    let request = request(Request::get(path).header(ACCEPT, METADATA), Vec::new())?;
    match client.request::<Head>(request).await {
        Ok(head) => Ok(Some(head.metadata)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// The whole object; `None` if there is none.
pub async fn whole(client: &Client, path: &str) -> Result<Option<Value>, kube::Error> {
    match client.request(request(Request::get(path), Vec::new())?).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// A list in parts of `limit` objects, so that it is never in memory whole. All parts are of one moment.
pub fn pages<'a>(
    client: &'a Client,
    path: &'a str,
    limit: usize,
) -> BoxStream<'a, Result<Vec<ObjectMeta>, kube::Error>> {
    let pages = parts(client, path, limit, METADATA_LIST);
    pages.map_ok(|heads: Vec<Head>| heads.into_iter().map(|head| head.metadata).collect()).boxed()
}

/// The same with the objects whole.
pub fn whole_pages<'a>(
    client: &'a Client,
    path: &'a str,
    limit: usize,
) -> BoxStream<'a, Result<Vec<Value>, kube::Error>> {
    parts(client, path, limit, "application/json")
}

fn parts<'a, T: DeserializeOwned + Send + 'a>(
    client: &'a Client,
    path: &'a str,
    limit: usize,
    accept: &'static str,
) -> BoxStream<'a, Result<Vec<T>, kube::Error>> {
    let step = move |state: Option<Option<String>>| async move {
        let Some(after) = state else { return Ok(None) };
        let page: Page<T> = page(client, path, limit, after.as_deref(), accept).await?;
        let next = page.metadata.next.filter(|token| !token.is_empty()).map(Some);
        Ok(Some((page.items, next)))
    };
    futures::stream::try_unfold(Some(None), step).boxed()
}

async fn page<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    limit: usize,
    after: Option<&str>,
    accept: &str,
) -> Result<Page<T>, kube::Error> {
    // Tokens are base64 without padding or the like, made by the server for this very use.
    let after = after.map(|token| format!("&continue={}", escape(token))).unwrap_or_default();
    let request = Request::get(format!("{path}?limit={limit}{after}")).header(ACCEPT, accept);
    client.request(self::request(request, Vec::new())?).await
}

/// As a part of a query or of a path.
pub fn escape(token: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    token.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

pub async fn delete(client: &Client, path: &str, params: &DeleteParams) -> Result<(), kube::Error> {
    let body = serde_json::to_vec(params).map_err(kube::Error::SerdeError)?;
    let request = request(Request::delete(path).header(CONTENT_TYPE, "application/json"), body)?;
    client.request::<Value>(request).await.map(drop)
}

/// Puts a whole object in the place of what is there.
pub async fn replace(client: &Client, path: &str, object: &Value) -> Result<(), kube::Error> {
    let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
    let request = request(Request::put(path).header(CONTENT_TYPE, "application/json"), body)?;
    client.request::<Value>(request).await.map(drop)
}

pub async fn merge(client: &Client, path: &str, patch: &Value) -> Result<(), kube::Error> {
    let body = serde_json::to_vec(patch).map_err(kube::Error::SerdeError)?;
    let request = Request::patch(path).header(CONTENT_TYPE, "application/merge-patch+json");
    client.request::<Value>(self::request(request.header(ACCEPT, METADATA), body)?).await.map(drop)
}
