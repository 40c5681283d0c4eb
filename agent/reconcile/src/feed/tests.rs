//! The feed over a server that says what the test wants, with paused time.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use kube::client::Body;

use super::*;

fn event(what: &str, name: &str, owner: &str) -> String {
    let owners = if owner.is_empty() { String::new() } else { format!(r#","ownerReferences":[{{"uid":"{owner}"}}]"#) };
    let metadata = format!(r#"{{"name":"{name}","namespace":"a","uid":"{name}"{owners}}}"#);
    format!(r#"{{"type":"{what}","object":{{"apiVersion":"v1","kind":"ConfigMap","metadata":{metadata}}}}}"#) + "\n"
}

const BOOKMARK: &str = "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}\n";

/// Answers the n-th request for the feed with the n-th text, and then with errors.
fn server(streams: Vec<String>) -> (Client, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let body = match request.uri().path() {
            PATH => streams.get(counted.fetch_add(1, Ordering::SeqCst)).cloned(),
            _ => Some(r#"{"items":[]}"#.to_owned()),
        };
        let status = if body.is_some() { 200 } else { 500 };
        let response = Response::builder().status(status).body(Body::from(body.unwrap_or_default().into_bytes()));
        async move { Ok::<_, std::convert::Infallible>(response.expect("a response")) }
    });
    (Client::new(service, "default"), asked)
}

fn names(feed: &Feed) -> Vec<String> {
    let mut names: Vec<String> = feed.read(|index| index.objects().map(|(_, o)| o.name.to_string()).collect());
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_begins_with_replaces_all_that_was_known() {
    let one = [event("ADDED", "x", ""), event("ADDED", "y", "x"), BOOKMARK.into(), event("DELETED", "x", "")].concat();
    let two = [event("ADDED", "z", ""), BOOKMARK.into()].concat();
    let broken = [event("ADDED", "half", ""), "{\"type\":\"ADD".to_owned()].concat();
    let (client, asked) = server(vec![one, broken, two]);
    let shutdown = CancellationToken::new();
    let feed = Feed::spawn(client, shutdown.clone());
    let (mut changes, follower) = (feed.changes(), feed.follow());
    feed.synced().await;
    while names(&feed) != ["y"] {
        changes.next().await;
    }
    assert!(follower.take().contains(&Uid::of("y")), "who has lost its owner hears of it");
    while names(&feed) != ["z"] {
        changes.next().await;
        assert!(!names(&feed).contains(&"half".to_owned()), "half a list is none");
    }
    assert_eq!(follower.take(), HashSet::from([Uid::of("z")]));
    // A server that fails is asked less and less.
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = asked.load(Ordering::SeqCst);
    assert!((50..90).contains(&asked), "{asked}");
    assert_eq!(names(&feed), ["z"], "what was known stays known meanwhile");
    shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn who_follows_late_hears_of_everything_first() {
    let told = |name: &str| Told {
        metadata: ToldMetadata { uid: name.to_owned(), name: name.to_owned(), ..ToldMetadata::default() },
        ..Told::default()
    };
    let feed = Feed::fixed([told("a"), told("b")], ServedKinds::default());
    feed.synced().await;
    let follower = feed.follow();
    assert_eq!(follower.take(), HashSet::from([Uid::of("a"), Uid::of("b")]));
    assert!(follower.take().is_empty());
}
