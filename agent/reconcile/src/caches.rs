//! The informers that the parts of a process share: one of each kind, made when it is first asked for.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::Informer;

/// Clones share the same informers.
#[derive(Clone)]
pub struct Caches {
    client: Client,
    shutdown: CancellationToken,
    known: Arc<Mutex<HashMap<TypeId, Box<dyn Any + Send + Sync>>>>,
}

impl Caches {
    /// `client` reads for everybody: it must be allowed to see all objects of what is asked for.
    pub fn new(client: Client, shutdown: CancellationToken) -> Self {
        Self { client, shutdown, known: Arc::default() }
    }

    /// All objects of one kind, in every namespace.
    pub fn of<K>(&self) -> Informer<K>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let informer = known.entry(TypeId::of::<K>()).or_insert_with(|| {
            let api: Api<K> = Api::all(self.client.clone());
            Box::new(Informer::spawn(api, watcher::Config::default(), self.shutdown.clone()))
        });
        informer.downcast_ref::<Informer<K>>().expect("it is kept under its type").clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::{Namespace, Node};
    use kube::client::Body;

    use super::*;

    #[tokio::test]
    async fn a_kind_is_listed_once_however_many_ask() {
        let lists = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lists);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let counted = Arc::clone(&counted);
            async move {
                if is_watch {
                    std::future::pending::<()>().await;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let list = br#"{"apiVersion":"v1","kind":"List","metadata":{"resourceVersion":"1"},"items":[]}"#;
                Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(list.to_vec())))
            }
        });
        let shutdown = CancellationToken::new();
        let caches = Caches::new(Client::new(service, "default"), shutdown.clone());
        for _ in 0..3 {
            caches.clone().of::<Namespace>().synced().await;
            caches.of::<Node>().synced().await;
        }
        assert_eq!(lists.load(Ordering::SeqCst), 2);
        shutdown.cancel();
    }
}
