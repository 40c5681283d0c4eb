//! containerd's task events as a stream that never ends. A lost subscription is taken up again, and `Event::Lost` tells
//! the reader that something may have happened meanwhile.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use super::NAMESPACE;
use crate::pb::events::{Envelope, SubscribeRequest, TaskEvent, TaskExit};
use crate::runtime::{Event, EventStream};

/// containerd restarts within a second or so.
const RETRY_DELAY: Duration = Duration::from_millis(300);

/// containerd answers a subscription only with its first event, so that the answer cannot be waited for; a request it
/// refuses, or a socket nobody listens on, shows well within this time.
const SETTLE: Duration = Duration::from_millis(50);

type Subscription = tonic::Streaming<Envelope>;

enum State {
    /// No subscription; to be tried after a delay.
    Disconnected { delay: Duration },
    /// Asked for, and told to the reader; the first event has not come yet.
    Subscribing(BoxFuture<'static, Result<Subscription, String>>),
    /// Events flow.
    Subscribed(Box<Subscription>),
}

impl State {
    fn after(answer: Result<Subscription, String>) -> Self {
        match answer {
            Ok(stream) => State::Subscribed(Box::new(stream)),
            Err(error) => {
                tracing::debug!(error, "container events are not available, will retry");
                State::Disconnected { delay: RETRY_DELAY }
            }
        }
    }
}

pub(super) fn stream(channel: Channel) -> EventStream {
    let state = State::Disconnected { delay: Duration::ZERO };
    futures::stream::unfold((channel, state), |(channel, mut state)| async move {
        loop {
            let (event, next) = step(&channel, state).await;
            state = next;
            if let Some(event) = event {
                return Some((event, (channel, state)));
            }
        }
    })
    .boxed()
}

async fn step(channel: &Channel, state: State) -> (Option<Event>, State) {
    match state {
        State::Disconnected { delay } => {
            tokio::time::sleep(delay).await;
            let mut asked = subscribe(channel.clone()).boxed();
            match tokio::time::timeout(SETTLE, &mut asked).await {
                Ok(Err(error)) => (None, State::after(Err(error))),
                Ok(Ok(stream)) => (Some(Event::Lost), State::after(Ok(stream))),
                Err(_) => (Some(Event::Lost), State::Subscribing(asked)),
            }
        }
        State::Subscribing(asked) => (None, State::after(asked.await)),
        State::Subscribed(mut stream) => match stream.message().await {
            Ok(Some(envelope)) => (parse(&envelope), State::Subscribed(stream)),
            Ok(None) | Err(_) => (None, State::Disconnected { delay: RETRY_DELAY }),
        },
    }
}

async fn subscribe(channel: Channel) -> Result<Subscription, String> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| error.to_string())?;
    let topics = ["/tasks/exit", "/tasks/oom", "/tasks/start"];
    let filters = topics.map(|topic| format!("topic==\"{topic}\",namespace==\"{NAMESPACE}\"")).to_vec();
    let mut request = tonic::Request::new(SubscribeRequest { filters });
    request.metadata_mut().insert("containerd-namespace", tonic::metadata::MetadataValue::from_static(NAMESPACE));
    let path = PathAndQuery::from_static("/containerd.services.events.v1.Events/Subscribe");
    let codec = ProstCodec::<SubscribeRequest, Envelope>::default();
    let answer = grpc.server_streaming(request, path, codec).await.map_err(|status| status.to_string())?;
    Ok(answer.into_inner())
}

/// `None` for the end of a process that is not a container's first one (a probe's, for instance).
fn parse(envelope: &Envelope) -> Option<Event> {
    let value = envelope.event.as_ref()?.value.clone();
    match envelope.topic.as_str() {
        "/tasks/exit" => {
            let exit = TaskExit::decode(value).ok()?;
            let first = exit.id == exit.container_id;
            first.then_some(Event::Exited { id: exit.container_id, exit_code: exit.exit_status })
        }
        "/tasks/oom" => Some(Event::OutOfMemory { id: TaskEvent::decode(value).ok()?.container_id }),
        "/tasks/start" => Some(Event::Started { id: TaskEvent::decode(value).ok()?.container_id }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::events::Any;

    fn envelope(topic: &str, message: &impl Message) -> Envelope {
        let value = message.encode_to_vec().into();
        let event = Some(Any { type_url: String::new(), value });
        Envelope { namespace: NAMESPACE.to_owned(), topic: topic.to_owned(), event }
    }

    #[test]
    fn only_the_first_process_of_a_container_counts() {
        let exit = |id: &str| TaskExit { container_id: "c".into(), id: id.into(), pid: 1, exit_status: 3 };
        let first = parse(&envelope("/tasks/exit", &exit("c")));
        assert_eq!(first, Some(Event::Exited { id: "c".into(), exit_code: 3 }));
        assert_eq!(parse(&envelope("/tasks/exit", &exit("probe"))), None);
    }
}
