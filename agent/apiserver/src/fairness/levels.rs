//! Priority levels: which part of all places a request is counted among, by upstream's `FlowSchema` and
//! `PriorityLevelConfiguration`. What one level leaves free others use, but for what it does not lend.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::HeaderValue;
use serde_json::{Value, json};
use skiff_object::meta;
use tokio::sync::Notify;

use crate::rbac::covers_path;
use crate::request::Parts;
use crate::users::User;

/// As upstream: who waits longer is asked to come back.
const WAIT_MAX: Duration = Duration::from_secs(15);
/// Requests of a level that wait: each holds what it sent.
const WAITING_MAX: usize = 200;

/// The schemas, and the levels that they name.
#[derive(Default)]
pub struct Levels {
    /// In the order in which they are asked.
    schemas: Vec<Schema>,
    levels: Vec<Arc<Level>>,
    freed: Arc<Notify>,
}

struct Schema {
    uid: HeaderValue,
    level: Arc<Level>,
    rules: Vec<Rule>,
}

pub struct Level {
    name: String,
    uid: HeaderValue,
    /// Places of its own; `None`: it is not limited.
    places: Option<usize>,
    /// Of these, what it does not lend.
    kept: usize,
    borrows_max: usize,
    waits_max: usize,
    used: Arc<Used>,
}

#[derive(Default)]
pub struct Used {
    running: AtomicUsize,
    waiting: AtomicUsize,
}

/// One who is counted, until it is dropped.
pub struct Running {
    used: Arc<Used>,
    freed: Arc<Notify>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.used.running.fetch_sub(1, Ordering::AcqRel);
        // Of any level: its place may have been a borrowed one.
        self.freed.notify_waiters();
    }
}

struct Waiting<'a>(&'a Used);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<Resources>,
    paths: Vec<Paths>,
}

enum Subject {
    User(String),
    Group(String),
    Account { namespace: String, name: String },
}

struct Resources {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    of_cluster: bool,
}

struct Paths {
    verbs: Vec<String>,
    paths: Vec<String>,
}

fn texts(json: &Value, field: &str) -> Vec<String> {
    meta::items(json.get(field)).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

fn uid(object: &Value) -> HeaderValue {
    HeaderValue::from_str(meta::uid(object)).unwrap_or_else(|_| HeaderValue::from_static(""))
}

impl Levels {
    /// Those of the objects, sharing so many places. Who runs at a level now is counted there still.
    pub fn read(schemas: &[Value], levels: &[Value], places: usize, before: &Levels) -> Self {
        let shares = |level: &Value| {
            let asked = meta::at(level, &["spec", "limited", "nominalConcurrencyShares"]).and_then(Value::as_u64);
            usize::try_from(asked.unwrap_or(0)).unwrap_or(usize::MAX)
        };
        let all: usize = levels.iter().map(shares).fold(0, usize::saturating_add).max(1);
        let levels: Vec<Arc<Level>> = levels
            .iter()
            .map(|level| {
                let own = places.saturating_mul(shares(level)).div_ceil(all);
                Arc::new(Level::read(level, own, places, before))
            })
            .collect();
        let mut ordered: Vec<(u64, &str, Schema)> = schemas
            .iter()
            .filter_map(|schema| {
                let name = meta::text_at(schema, &["spec", "priorityLevelConfiguration", "name"]);
                // One whose level is not there is as if it were not there.
                let level = Arc::clone(levels.iter().find(|level| level.name == name)?);
                let precedence = meta::at(schema, &["spec", "matchingPrecedence"]).and_then(Value::as_u64);
                let rules = meta::items(meta::at(schema, &["spec", "rules"])).iter().map(Rule::read).collect();
                Some((precedence.unwrap_or(u64::MAX), meta::name(schema), Schema { uid: uid(schema), level, rules }))
            })
            .collect();
        ordered.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let schemas = ordered.into_iter().map(|(_, _, schema)| schema).collect();
        Self { schemas, levels, freed: Arc::clone(&before.freed) }
    }

    /// The level of a request, and what names its schema and it. `None` where no schema is about it.
    pub fn of<B>(&self, user: &User, request: &http::Request<B>) -> Option<(Arc<Level>, [HeaderValue; 2])> {
        let mut asked = None;
        let found = self.schemas.iter().find(|schema| {
            schema
                .rules
                .iter()
                .filter(|rule| rule.is_of(user))
                .any(|rule| rule.is_of_all() || rule.covers(asked.get_or_insert_with(|| Asked::of(request))))
        })?;
        Some((Arc::clone(&found.level), [found.uid.clone(), found.level.uid.clone()]))
    }

    /// Places that a level may not take: what others keep for themselves.
    fn kept_by_others(&self, own: &Level) -> usize {
        let kept = |level: &Arc<Level>| level.kept.saturating_sub(level.used.running.load(Ordering::Acquire));
        self.levels.iter().filter(|level| level.name != own.name).map(kept).sum()
    }

    fn running(&self) -> usize {
        let limited = self.levels.iter().filter(|level| level.places.is_some());
        limited.map(|level| level.used.running.load(Ordering::Acquire)).sum()
    }

    fn try_enter(&self, level: &Level, places: usize) -> Option<Running> {
        let is_free = |before: usize| {
            level.places.is_none_or(|nominal| {
                let borrows = || self.running() + self.kept_by_others(level) < places;
                before < nominal || before - nominal < level.borrows_max && borrows()
            })
        };
        let more = |before| is_free(before).then_some(before + 1);
        level.used.running.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Running { used: Arc::clone(&level.used), freed: Arc::clone(&self.freed) })
    }

    /// A place at a level, at once, or after a while where the level lets wait.
    pub async fn enter(&self, level: &Level, places: usize) -> Option<Running> {
        if let Some(running) = self.try_enter(level, places) {
            return Some(running);
        }
        if level.used.waiting.fetch_add(1, Ordering::AcqRel) >= level.waits_max {
            level.used.waiting.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        let _waiting = Waiting(&level.used);
        let waited = tokio::time::timeout(WAIT_MAX, async {
            loop {
                let freed = self.freed.notified();
                if let Some(running) = self.try_enter(level, places) {
                    return running;
                }
                freed.await;
            }
        });
        waited.await.ok()
    }
}

impl Level {
    fn read(object: &Value, own: usize, places: usize, before: &Levels) -> Self {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let name = meta::name(object).to_owned();
        let limited = spec.get("limited").filter(|_| meta::text_at(spec, &["type"]) == "Limited");
        let number = |path: &[&str]| {
            let found = limited.and_then(|limited| meta::at(limited, path)).and_then(Value::as_u64);
            found.and_then(|number| usize::try_from(number).ok())
        };
        let lent = own * number(&["lendablePercent"]).unwrap_or(0).min(100) / 100;
        let borrows = number(&["borrowingLimitPercent"]).map_or(places, |percent| own.saturating_mul(percent) / 100);
        let is_queued = limited.is_some_and(|limited| meta::text_at(limited, &["limitResponse", "type"]) == "Queue");
        let queue = |field: &str, default| number(&["limitResponse", "queuing", field]).unwrap_or(default);
        let waits = queue("queues", 64).saturating_mul(queue("queueLengthLimit", 50)).min(WAITING_MAX);
        let known = before.levels.iter().find(|level| level.name == name);
        Self {
            uid: uid(object),
            places: limited.map(|_| own),
            kept: limited.map_or(0, |_| own - lent),
            borrows_max: borrows,
            waits_max: if is_queued { waits } else { 0 },
            used: known.map(|level| Arc::clone(&level.used)).unwrap_or_default(),
            name,
        }
    }

    pub fn is_limited(&self) -> bool {
        self.places.is_some()
    }

    /// How long a request of it waits for a place.
    pub fn wait_max(&self) -> Duration {
        if self.waits_max > 0 { WAIT_MAX } else { Duration::ZERO }
    }
}

/// A request as rules see it.
struct Asked {
    verb: String,
    path: String,
    parts: Option<Parts>,
}

impl Asked {
    fn of<B>(request: &http::Request<B>) -> Self {
        let (path, parts) = (request.uri().path(), Parts::of(request));
        let verb = parts.as_ref().and_then(|parts| parts.verb(request.method()).ok());
        let verb = verb.map_or_else(|| request.method().as_str().to_ascii_lowercase(), |verb| verb.as_str().to_owned());
        Self { verb, path: path.to_owned(), parts }
    }
}

impl Rule {
    fn read(json: &Value) -> Self {
        let subject = |json: &Value| {
            let text = |kind: &str, field: &str| meta::text_at(json, &[kind, field]).to_owned();
            match meta::text_at(json, &["kind"]) {
                "User" => Some(Subject::User(text("user", "name"))),
                "Group" => Some(Subject::Group(text("group", "name"))),
                "ServiceAccount" => Some(Subject::Account {
                    namespace: text("serviceAccount", "namespace"),
                    name: text("serviceAccount", "name"),
                }),
                _ => None,
            }
        };
        let resources = |json: &Value| Resources {
            verbs: texts(json, "verbs"),
            groups: texts(json, "apiGroups"),
            resources: texts(json, "resources"),
            namespaces: texts(json, "namespaces"),
            of_cluster: json.get("clusterScope") == Some(&Value::Bool(true)),
        };
        let paths = |json: &Value| Paths { verbs: texts(json, "verbs"), paths: texts(json, "nonResourceURLs") };
        Self {
            subjects: meta::items(json.get("subjects")).iter().filter_map(subject).collect(),
            resources: meta::items(json.get("resourceRules")).iter().map(resources).collect(),
            paths: meta::items(json.get("nonResourceRules")).iter().map(paths).collect(),
        }
    }

    fn is_of(&self, user: &User) -> bool {
        self.subjects.iter().any(|subject| match subject {
            Subject::User(name) => name == "*" || *name == user.name,
            Subject::Group(name) => name == "*" || user.groups.contains(name),
            Subject::Account { namespace, name } => {
                let of_namespace = user.name.strip_prefix("system:serviceaccount:");
                let own = of_namespace.and_then(|rest| rest.strip_prefix(namespace.as_str())?.strip_prefix(':'));
                own.is_some_and(|own| name == "*" || own == name)
            }
        })
    }

    /// Known without reading a request.
    fn is_of_all(&self) -> bool {
        let all = |list: &[String]| list.iter().any(|one| one == "*");
        let resources = |of: &Resources| {
            all(&of.verbs) && all(&of.groups) && all(&of.resources) && all(&of.namespaces) && of.of_cluster
        };
        self.resources.iter().any(resources) && self.paths.iter().any(|of| all(&of.verbs) && all(&of.paths))
    }

    fn covers(&self, asked: &Asked) -> bool {
        let Some(parts) = &asked.parts else {
            let fits = |pattern: &String| covers_path(pattern, &asked.path);
            return self.paths.iter().any(|of| has(&of.verbs, &asked.verb) && of.paths.iter().any(fits));
        };
        self.resources.iter().any(|of| {
            let is_there = match parts.namespace.as_deref() {
                Some(namespace) => has(&of.namespaces, namespace),
                None => of.of_cluster,
            };
            let named = has(&of.resources, &parts.named_resource());
            has(&of.verbs, &asked.verb) && has(&of.groups, &parts.group) && named && is_there
        })
    }
}

/// What every cluster has: who administers it is not limited, and all others share what there is.
pub fn defaults() -> [(&'static str, Value); 4] {
    let schema = |name: &str, precedence: u64, subjects: Value| {
        let all = json!(["*"]);
        json!({"metadata": {"name": name}, "spec": {"matchingPrecedence": precedence,
            "priorityLevelConfiguration": {"name": name}, "rules": [{"subjects": subjects,
                "resourceRules": [{"verbs": all, "apiGroups": all, "resources": all, "clusterScope": true, "namespaces": all}],
                "nonResourceRules": [{"verbs": all, "nonResourceURLs": all}]}]}})
    };
    let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
    let everybody = json!([group("system:unauthenticated"), group("system:authenticated")]);
    [
        ("PriorityLevelConfiguration", json!({"metadata": {"name": "exempt"}, "spec": {"type": "Exempt"}})),
        (
            "PriorityLevelConfiguration",
            json!({"metadata": {"name": "catch-all"}, "spec": {"type": "Limited",
                "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}}}}),
        ),
        ("FlowSchema", schema("exempt", 1, json!([group("system:masters")]))),
        ("FlowSchema", schema("catch-all", 10_000, everybody)),
    ]
}

#[cfg(test)]
mod tests;
