//! Who is served when many ask: requests worked on at once, in all and of one caller; those whose bodies are large, which run
//! apart; and watches. What streams gives its place among the requests back with the first byte.
//!
//! Places are those of priority levels (`levels.rs`); without any, all are of one.

mod levels;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use http::{HeaderValue, Response};
use serde_json::Value;
use skiff_object::kinds::{self, Kind};
use skiff_store::{ListOptions, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::audit::ActingFor;
use crate::body::{self, Body};
use crate::codec;
use crate::compress::Kept;
use crate::request::Parts;
use crate::status::ApiError;
use crate::users::User;
use levels::{Levels, Running};

pub use levels::defaults;

/// Requests worked on at once, watches and streams aside; as upstream, more are asked to come back.
const REQUESTS_MAX: usize = 400;
/// Of one caller, so that none keeps all others out. Who administers the box, and nodes, are not held to that.
const REQUESTS_OF_ONE_MAX: usize = 100;
/// Of all accounts of a namespace: who may make one may make a thousand.
const REQUESTS_OF_NAMESPACE_MAX: usize = 200;
/// A body from this size on costs so much time that other requests would wait for it.
pub const LARGE_BYTES: usize = 64 * 1024;
/// Large bodies worked on at once: each may take a processor for a second, and a hundred times its size of memory.
const LARGE_MAX: usize = 2;
/// Large bodies of one caller, those that wait included. One at a time is worked on.
const LARGE_OF_ONE_MAX: usize = 4;
/// Watches of one caller: each is told of each change for itself, and holds what its client does not read.
const WATCHES_OF_ONE_MAX: usize = 250;
/// Bytes of one caller's large answers that are not read yet: who does not read them fills nobody's memory.
const ANSWERS_OF_ONE_MAX: usize = 128 << 20;

/// Who says what levels there are.
const KINDS: [&str; 2] = ["FlowSchema", "PriorityLevelConfiguration"];

fn kind(name: &str) -> &'static Arc<Kind> {
    kinds::by_kind("flowcontrol.apiserver.k8s.io/v1", name).expect("a built-in kind")
}

pub fn prefixes() -> Vec<String> {
    KINDS.iter().map(|name| kind(name).key_prefix(None)).collect()
}

const NODES: &str = "system:nodes";
const ACCOUNTS: &str = "system:serviceaccount:";

/// Whose a request is counted as.
#[derive(Clone, Debug)]
pub struct Caller {
    name: String,
    /// What all accounts of its namespace are counted as; of others it is the name.
    all: String,
    is_exempt: bool,
}

impl Caller {
    /// Who acts as another is counted as itself.
    pub fn of<B>(user: &User, request: &http::Request<B>) -> Self {
        Self::from(request.extensions().get().map_or(user, |ActingFor(own)| own))
    }
}

impl From<&User> for Caller {
    fn from(user: &User) -> Self {
        let account = user.name.strip_prefix(ACCOUNTS).and_then(|account| account.split_once(':'));
        let all = account.map_or_else(|| user.name.clone(), |(namespace, _)| format!("{ACCOUNTS}{namespace}"));
        Self { name: user.name.clone(), all, is_exempt: is_exempt(user) }
    }
}

/// Requests whose body goes on to another, and may have any size.
pub fn is_proxied<B>(request: &http::Request<B>) -> bool {
    Parts::of(request).is_some_and(|parts| parts.subresource.as_deref() == Some("proxy"))
}

/// What of a caller's is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    Request,
    RequestOfNamespace,
    Large,
    Watch,
    /// Bytes that wait to be read.
    Answer(usize),
}

struct Flow {
    requests: usize,
    large: usize,
    watches: usize,
    answers: usize,
    /// The turn of its large bodies.
    turn: Arc<Semaphore>,
}

impl Default for Flow {
    fn default() -> Self {
        Self { requests: 0, large: 0, watches: 0, answers: 0, turn: Arc::new(Semaphore::new(1)) }
    }
}

pub struct Fairness {
    levels: ArcSwap<Levels>,
    places: Arc<Semaphore>,
    large: Arc<Semaphore>,
    flows: Arc<Mutex<HashMap<String, Flow>>>,
}

/// A place among the requests, or among the watches, until it is dropped.
pub struct Place {
    _permits: Vec<OwnedSemaphorePermit>,
    _running: Option<Running>,
    _counted: Vec<Counted>,
    /// What the client is told of how it was counted.
    pub told: Option<[HeaderValue; 2]>,
}

/// That a caller has a request, or waits with one: also who goes away while it waits is counted no longer.
pub struct Counted {
    flows: Arc<Mutex<HashMap<String, Flow>>>,
    caller: String,
    counts: Counts,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(flow) = flows.get_mut(&self.caller) else { return };
        let (count, taken) = flow.count(self.counts);
        *count -= taken;
        if flow.requests + flow.large + flow.watches + flow.answers == 0 {
            flows.remove(&self.caller);
        }
    }
}

impl Flow {
    /// What it is counted with, and as how many.
    fn count(&mut self, counts: Counts) -> (&mut usize, usize) {
        match counts {
            Counts::Request | Counts::RequestOfNamespace => (&mut self.requests, 1),
            Counts::Large => (&mut self.large, 1),
            Counts::Watch => (&mut self.watches, 1),
            Counts::Answer(bytes) => (&mut self.answers, bytes),
        }
    }
}

impl Default for Fairness {
    fn default() -> Self {
        Self {
            levels: ArcSwap::default(),
            places: Arc::new(Semaphore::new(REQUESTS_MAX)),
            large: Arc::new(Semaphore::new(LARGE_MAX)),
            flows: Arc::default(),
        }
    }
}

/// Who administers the box, and nodes: a node follows each object that its pods use.
fn is_exempt(user: &User) -> bool {
    user.is_master() || user.groups.iter().any(|group| group == NODES)
}

impl Fairness {
    pub async fn reload<S: Store>(&self, store: &S) -> Result<(), skiff_store::Error> {
        let mut lists = Vec::new();
        for name in KINDS {
            let page = store.list(&kind(name).key_prefix(None), ListOptions::default()).await?;
            lists.push(page.entries.iter().map(codec::decode).collect::<Vec<Value>>());
        }
        self.levels.store(Arc::new(Levels::read(&lists[0], &lists[1], REQUESTS_MAX, &self.levels.load())));
        Ok(())
    }

    /// A place for a request: at its priority level, and among all.
    pub async fn place<B>(&self, user: &User, request: &http::Request<B>) -> Result<Place, ApiError> {
        let caller = Caller::of(user, request);
        let mut counted = vec![self.enter(&caller, Counts::Request)?];
        if caller.all != caller.name {
            counted.push(self.enter(&caller, Counts::RequestOfNamespace)?);
        }
        // What another answers takes no place that others wait for.
        if Parts::of(request).is_some_and(|parts| parts.is_passed_on()) {
            return Ok(Place { _permits: Vec::new(), _running: None, _counted: counted, told: None });
        }
        let levels = self.levels.load_full();
        let Some((level, told)) = levels.of(user, request) else {
            let permit = Arc::clone(&self.places).try_acquire_owned().map_err(|_| ApiError::too_many_requests())?;
            return Ok(Place { _permits: vec![permit], _running: None, _counted: counted, told: None });
        };
        let running = levels.enter(&level, REQUESTS_MAX).await.ok_or_else(ApiError::too_many_requests)?;
        let mut permits = Vec::new();
        if level.is_limited() {
            let permit = tokio::time::timeout(level.wait_max(), Arc::clone(&self.places).acquire_owned()).await;
            let permit = permit.ok().and_then(Result::ok);
            permits.push(permit.ok_or_else(ApiError::too_many_requests)?);
        }
        Ok(Place { _permits: permits, _running: Some(running), _counted: counted, told: Some(told) })
    }

    /// A place for a request with a large body: one of a few, for which others of its kind may have to be waited. Of one
    /// caller's the next has to wait for the one before, so that others come between.
    pub async fn large_place(&self, caller: &Caller) -> Result<Place, ApiError> {
        let counted = vec![self.enter(caller, Counts::Large)?];
        let turn = self.flow(&caller.name, |flow| Arc::clone(&flow.turn));
        // Neither is ever closed.
        let closed = |_| ApiError::too_many_requests();
        let turn = turn.acquire_owned().await.map_err(closed)?;
        let permit = Arc::clone(&self.large).acquire_owned().await.map_err(closed)?;
        Ok(Place { _permits: vec![permit, turn], _running: None, _counted: counted, told: None })
    }

    /// A place for a watch, for as long as it lasts.
    pub fn watch(&self, caller: &Caller) -> Result<Place, ApiError> {
        let counted = vec![self.enter(caller, Counts::Watch)?];
        Ok(Place { _permits: Vec::new(), _running: None, _counted: counted, told: None })
    }

    /// Lets a caller have a large answer, until it has read it or is gone.
    pub fn answer(&self, caller: &Caller, response: Response<Body>) -> Response<Body> {
        let Some(Kept(bytes)) = response.extensions().get().cloned() else { return response };
        match self.enter(caller, Counts::Answer(bytes)) {
            Ok(counted) => response.map(|body| body::kept_with(body, counted)),
            Err(error) => error.into_response(),
        }
    }

    /// Asks before an answer of so many bytes is made; what is returned is held while they are in memory.
    pub fn reserve(&self, caller: &Caller, bytes: usize) -> Result<Counted, ApiError> {
        if bytes > ANSWERS_OF_ONE_MAX && !caller.is_exempt {
            return Err(ApiError::bad_request(format!(
                "the answer would have {} MiB, and {} MiB are sent at once: ask for less with a selector, or for parts with \
                 limit",
                bytes >> 20,
                ANSWERS_OF_ONE_MAX >> 20
            )));
        }
        self.enter(caller, Counts::Answer(bytes))
    }

    fn flow<T>(&self, caller: &str, of: impl FnOnce(&mut Flow) -> T) -> T {
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        of(flows.entry(caller.to_owned()).or_default())
    }

    fn enter(&self, caller: &Caller, counts: Counts) -> Result<Counted, ApiError> {
        let (max, name) = match counts {
            Counts::Request => (REQUESTS_OF_ONE_MAX, &caller.name),
            Counts::RequestOfNamespace => (REQUESTS_OF_NAMESPACE_MAX, &caller.all),
            Counts::Large => (LARGE_OF_ONE_MAX, &caller.name),
            Counts::Watch => (WATCHES_OF_ONE_MAX, &caller.name),
            Counts::Answer(_) => (ANSWERS_OF_ONE_MAX, &caller.all),
        };
        self.flow(name, |flow| {
            let (count, more) = flow.count(counts);
            // One is let in whatever its size.
            if *count > 0 && *count + more > max && !caller.is_exempt {
                return Err(ApiError::too_many_requests());
            }
            *count += more;
            Ok(Counted { flows: Arc::clone(&self.flows), caller: name.clone(), counts })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Identity;

    fn get() -> http::Request<()> {
        http::Request::get("/api/v1/pods").body(()).expect("a request")
    }

    fn user(name: &str) -> User {
        User { name: name.to_owned(), ..User::anonymous() }
    }

    #[tokio::test]
    async fn one_caller_leaves_places_to_others() {
        let fairness = Fairness::default();
        let (greedy, other) = (user("greedy"), user("other"));
        let mut held = Vec::new();
        for _ in 0..REQUESTS_OF_ONE_MAX {
            held.push(fairness.place(&greedy, &get()).await.map_err(|error| error.to_string()).expect("a place"));
        }
        assert_eq!(fairness.place(&greedy, &get()).await.err().map(|error| error.code.as_u16()), Some(429));
        held.push(fairness.place(&other, &get()).await.map_err(|error| error.to_string()).expect("others have theirs"));
        let admin = User::of(&Identity::Administrator);
        while held.len() < REQUESTS_MAX {
            held.push(fairness.place(&admin, &get()).await.map_err(|error| error.to_string()).expect("a place"));
        }
        assert!(fairness.place(&user("third"), &get()).await.is_err(), "all are taken");
        drop(held);
        assert!(fairness.place(&greedy, &get()).await.is_ok());
        assert!(fairness.flows.lock().expect("a lock").is_empty(), "who is gone leaves nothing");
    }

    fn caller(name: &str) -> Caller {
        Caller::from(&user(name))
    }

    #[tokio::test]
    async fn one_callers_large_bodies_leave_room_for_anothers() {
        let fairness = Fairness::default();
        let greedy = caller("greedy");
        let first = fairness.large_place(&greedy).await;
        let mut second = Box::pin(fairness.large_place(&greedy));
        assert!(tokio::time::timeout(Duration::from_millis(20), &mut second).await.is_err(), "one at a time");
        assert!(fairness.large_place(&caller("other")).await.is_ok(), "others come between");
        drop(first);
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn what_a_caller_does_not_read_is_bounded() {
        let fairness = Fairness::default();
        let greedy = caller("greedy");
        let large = || {
            let mut response = Response::new(body::full("x"));
            response.extensions_mut().insert(Kept(50 << 20));
            response
        };
        let mut held = vec![fairness.answer(&greedy, large()), fairness.answer(&greedy, large())];
        assert_eq!(held.iter().map(|response| response.status().as_u16()).collect::<Vec<_>>(), [200, 200]);
        assert_eq!(fairness.answer(&greedy, large()).status(), 429);
        assert_eq!(fairness.answer(&caller("other"), large()).status(), 200);
        assert_eq!(fairness.answer(&Caller::from(&User::of(&Identity::Administrator)), large()).status(), 200);
        held.pop();
        assert_eq!(fairness.answer(&greedy, large()).status(), 200);
        held.clear();
        assert!(fairness.flows.lock().expect("a lock").is_empty(), "what is read is forgotten");
    }

    #[tokio::test]
    async fn watches_of_one_caller_are_bounded() {
        let fairness = Fairness::default();
        let greedy = caller("greedy");
        let held: Vec<Place> = (0..WATCHES_OF_ONE_MAX).map(|_| fairness.watch(&greedy).expect("a place")).collect();
        assert!(fairness.watch(&greedy).is_err() && fairness.watch(&caller("other")).is_ok());
        assert!(fairness.place(&user("greedy"), &get()).await.is_ok(), "it may still ask");
        drop(held);
        assert!(fairness.watch(&greedy).is_ok());
    }

    #[tokio::test]
    async fn large_bodies_wait_for_each_other() {
        let fairness = Fairness::default();
        let one = user("one");
        let names = ["one", "another"];
        let callers: Vec<Caller> = names[..LARGE_MAX].iter().map(|name| caller(name)).collect();
        let mut first = Vec::new();
        for caller in &callers {
            first.push(fairness.large_place(caller).await.map_err(|error| error.to_string()).expect("a place"));
        }
        // Who gives up while it waits is gone.
        let waits = tokio::time::timeout(Duration::from_millis(20), fairness.large_place(&caller("two"))).await;
        assert!(waits.is_err());
        assert!(!fairness.flows.lock().expect("a lock").contains_key("two"));
        assert!(fairness.place(&one, &get()).await.is_ok(), "others pass");
        let two = caller("two");
        let (next, ()) = tokio::join!(fairness.large_place(&two), async { drop(first) });
        assert!(next.is_ok());
    }

    #[tokio::test]
    async fn who_has_many_names_is_one_caller() {
        let fairness = Fairness::default();
        let mut held = Vec::new();
        for number in 0..REQUESTS_OF_NAMESPACE_MAX {
            let account = user(&format!("{ACCOUNTS}garden:{number}"));
            held.push(fairness.place(&account, &get()).await.map_err(|error| error.to_string()).expect("a place"));
        }
        assert!(fairness.place(&user("system:serviceaccount:garden:more"), &get()).await.is_err());
        assert!(fairness.place(&user("system:serviceaccount:kitchen:one"), &get()).await.is_ok());
        let mut acting = get();
        acting.extensions_mut().insert(ActingFor(user("system:serviceaccount:garden:more")));
        assert!(fairness.place(&user("anybody"), &acting).await.is_err());
    }

    #[tokio::test]
    async fn what_another_answers_takes_nobodys_place() {
        let fairness = Fairness::default();
        let proxied = || http::Request::get("/api/v1/namespaces/a/pods/b/proxy/slow").body(()).expect("a request");
        let named = http::Request::get("/api/v1/namespaces/proxy/pods").body(()).expect("a request");
        assert!(is_proxied(&proxied()) && !is_proxied(&named));
        let mut held = Vec::new();
        for number in 0..REQUESTS_MAX {
            let somebody = user(&number.to_string());
            held.push(fairness.place(&somebody, &proxied()).await.map_err(|error| error.to_string()).expect("a place"));
        }
        assert!(fairness.place(&user("other"), &get()).await.is_ok());
    }

    #[tokio::test]
    async fn an_answer_is_held_until_it_is_out_of_memory() {
        use http_body_util::BodyExt;
        let fairness = Fairness::default();
        let greedy = caller("greedy");
        let mut response = Response::new(body::full("x"));
        response.extensions_mut().insert(Kept(100 << 20));
        let mut body = fairness.answer(&greedy, response).into_body();
        // As a server takes it, before its client has read anything.
        let taken = body.frame().await;
        drop(body);
        assert!(fairness.reserve(&greedy, 50 << 20).is_err());
        drop(taken);
        let reserved = fairness.reserve(&greedy, 50 << 20);
        assert!(reserved.is_ok() && fairness.reserve(&greedy, 100 << 20).is_err());
        assert!(fairness.reserve(&caller("other"), ANSWERS_OF_ONE_MAX + 1).is_err(), "not even one");
    }
}
