//! `GET /containerLogs/NAMESPACE/POD/CONTAINER`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use super::{Body, BoxError, Query, Refusal, Server, check_container};
use crate::logs::line::Stream;
use crate::logs::read::{Options, pump};
use crate::pods::observe::State;

/// Pieces of a log that wait for a slow client.
const PIECES_MAX: usize = 16;
/// How soon a follower's stream ends after its container.
const ENDED_POLL: Duration = Duration::from_millis(500);

impl Server {
    pub(super) async fn logs(
        &self,
        namespace: &str,
        pod_name: &str,
        name: &str,
        query: &Query,
    ) -> Result<Response<Body>, Refusal> {
        let options = options(query)?;
        let pod = self.pod(namespace, pod_name)?;
        check_container(&pod, name)?;
        let observed = self.observe(&pod).await?;
        let container = match query.is_set("previous") {
            true => {
                let missing = || {
                    Refusal::BadRequest(format!(
                        "previous terminated container \"{name}\" in pod \"{pod_name}\" not found"
                    ))
                };
                let id = last_ended(&pod, name).ok_or_else(missing)?;
                observed.containers.iter().find(|container| container.id == id).ok_or_else(missing)?
            }
            false => {
                let waiting = || {
                    let state = "waiting to start: ContainerCreating";
                    Refusal::BadRequest(format!("container \"{name}\" in pod \"{pod_name}\" is {state}"))
                };
                observed.container(name).ok_or_else(waiting)?
            }
        };
        let path = crate::logs::path(&self.context, &pod, name, container.attempt);
        let ended = Arc::new(AtomicBool::new(container.state != State::Running));
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        if options.follow && container.state == State::Running {
            tokio::spawn(watch_end(self.clone(), container.id.clone(), Arc::clone(&ended), sender.clone()));
        }
        tokio::task::spawn_blocking(move || pump(path, options, ended, &sender));
        Ok(response(receiver))
    }
}

/// The container that ended last, by the pod's status: not the current one, unless that waits to start again.
fn last_ended(pod: &Pod, name: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    let last = all.into_iter().find(|status| status.name == name)?.last_state.clone()?;
    let id = last.terminated?.container_id?;
    Some(id.trim_start_matches("containerd://").to_owned())
}

/// Notes when the container has ended, until nobody reads any more.
async fn watch_end(server: Server, id: String, ended: Arc<AtomicBool>, sender: mpsc::Sender<std::io::Result<Bytes>>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(ENDED_POLL) => {}
            () = sender.closed() => return,
        }
        let status = server.context.runtime.container_status(&id).await;
        let running = status.is_ok_and(|status| status.state() == skiff_cri::pb::ContainerState::Running);
        if !running {
            ended.store(true, Ordering::Release);
            return;
        }
    }
}

fn response(receiver: mpsc::Receiver<std::io::Result<Bytes>>) -> Response<Body> {
    let pieces = futures::stream::unfold(receiver, |mut receiver| async {
        let piece = receiver.recv().await?;
        Some((piece.map(Frame::data).map_err(BoxError::from), receiver))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(pieces)));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    response
}

fn options(query: &Query) -> Result<Options, Refusal> {
    let since_time = query.get("sinceTime").filter(|text| !text.is_empty());
    let since_time = since_time.map(|text| {
        text.parse::<Timestamp>().map_err(|_| Refusal::BadRequest(format!("invalid sinceTime \"{text}\"")))
    });
    let since_seconds = query.number::<i64>("sinceSeconds")?;
    let since = match (since_time, since_seconds) {
        (Some(time), _) => Some(time?),
        (None, Some(seconds)) => Some(Timestamp::now() - jiff::SignedDuration::from_secs(seconds)),
        (None, None) => None,
    };
    Ok(Options {
        follow: query.is_set("follow"),
        timestamps: query.is_set("timestamps"),
        // Negative means all, as in upstream.
        tail_lines: query.number::<i64>("tailLines")?.and_then(|lines| u64::try_from(lines).ok()),
        since,
        limit_bytes: query.number("limitBytes")?,
        stream: match query.get("stream") {
            Some("Stdout") => Some(Stream::Stdout),
            Some("Stderr") => Some(Stream::Stderr),
            Some(_) | None => None,
        },
    })
}
