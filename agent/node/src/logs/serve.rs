//! Container logs: finds the files of a container, and sends what was asked for. Files are only read here; rotating and
//! removing them is the pod workers' duty.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderValue, Request, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use jiff::{SignedDuration, Timestamp};
use skiff_cri::{Runtime, pb};
use tokio::sync::mpsc;

use crate::server::{Body, Found, Query, Refusal, Target};
use crate::streaming::upgrade::Offer;

mod files;
mod lines;
mod pump;
mod socket;
mod tail;

use files::LogFiles;
use pump::Pump;

/// Chunks that wait for a slow client; with 32 KiB each this bounds what one client holds.
const CHUNKS_MAX: usize = 4;

/// What the client asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Options {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail_lines: Option<u64>,
    since: Option<Timestamp>,
    limit_bytes: Option<u64>,
}

impl Options {
    fn parse(query: &Query, now: Timestamp) -> Result<Self, Refusal> {
        let limit_bytes = number(query, "limitBytes")?;
        if limit_bytes == Some(0) {
            return Err(Refusal::bad_request("limitBytes must be greater than 0"));
        }
        Ok(Self {
            follow: query.is_set("follow"),
            previous: query.is_set("previous"),
            timestamps: query.is_set("timestamps"),
            tail_lines: number(query, "tailLines")?,
            since: since(query, now)?,
            limit_bytes,
        })
    }
}

fn number(query: &Query, key: &str) -> Result<Option<u64>, Refusal> {
    let invalid = |text: &str| Refusal::bad_request(format!("{key} must be a whole number, not \"{text}\""));
    query.get(key).map(|text| text.parse().map_err(|_| invalid(text))).transpose()
}

fn since(query: &Query, now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
    match (number(query, "sinceSeconds")?, query.get("sinceTime")) {
        (Some(_), Some(_)) => Err(Refusal::bad_request("at most one of sinceTime or sinceSeconds may be specified")),
        (Some(seconds), None) => {
            let span = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            Ok(Some(now.checked_sub(span).unwrap_or(Timestamp::MIN)))
        }
        (None, Some(time)) => {
            let parsed = time.parse().map_err(|_| Refusal::bad_request("sinceTime must be a time as in RFC 3339"));
            parsed.map(Some)
        }
        (None, None) => Ok(None),
    }
}

pub(crate) async fn answer(
    runtime: &Arc<dyn Runtime>,
    logs_dir: &Path,
    target: Target<'_>,
    request: Request<Body>,
) -> Result<Response<Body>, Refusal> {
    let options = Options::parse(&Query::of(&request), Timestamp::now())?;
    let found = Found::find(runtime.as_ref(), target).await?;
    let container = select(&found, target, &options)?;
    let files = LogFiles::new(log_path(runtime.as_ref(), logs_dir, target, container).await);
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let pump = Pump { runtime: Arc::clone(runtime), container: container.id.clone(), files, options, client: sender };
    if Offer::is_websocket(request.headers()) {
        let response = socket::answer(request, receiver)?;
        tokio::spawn(pump.run());
        return Ok(response);
    }
    tokio::spawn(pump.run());
    let mut response = Response::new(body(receiver));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn select<'a>(found: &'a Found, target: Target<'_>, options: &Options) -> Result<&'a pb::Container, Refusal> {
    let Target { pod, container, .. } = target;
    if options.previous {
        let missing = || format!("previous terminated container \"{container}\" in pod \"{pod}\" not found");
        return found.previous().ok_or_else(|| Refusal::bad_request(missing()));
    }
    let started = found.newest().filter(|newest| newest.state != pb::ContainerState::Created as i32);
    let waiting = || format!("container \"{container}\" in pod \"{pod}\" is waiting to start: ContainerCreating");
    started.ok_or_else(|| Refusal::bad_request(waiting()))
}

/// Where the runtime says it writes, else where the pod workers told it to.
async fn log_path(runtime: &dyn Runtime, logs_dir: &Path, target: Target<'_>, container: &pb::Container) -> PathBuf {
    let status = runtime.container_status(&container.id).await;
    let told = status.map(|status| PathBuf::from(status.log_path)).unwrap_or_default();
    if told.is_absolute() {
        return told;
    }
    let uid = crate::server::uid(container);
    let pod_dir = logs_dir.join(format!("{}_{}_{uid}", target.namespace, target.pod));
    pod_dir.join(target.container).join(format!("{}.log", crate::server::attempt(container)))
}

fn body(receiver: mpsc::Receiver<Bytes>) -> Body {
    let chunks = futures::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    BodyExt::boxed(StreamBody::new(chunks.map(|chunk| Ok(Frame::data(chunk)))))
}

#[cfg(test)]
mod tests;
