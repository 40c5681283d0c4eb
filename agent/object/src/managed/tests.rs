//! What appliers and writers do to each other's fields, and the laws of sets.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::kinds::by_kind;

mod places;

/// An object that several write to.
struct Shared {
    kind: &'static Kind,
    object: Option<Value>,
}

fn shared(api_version: &str, kind: &str) -> Shared {
    Shared { kind: by_kind(api_version, kind).expect("is served"), object: None }
}

impl Shared {
    fn writing<'a>(&'a self, manager: &'a str, subresource: &'a str) -> Writing<'a> {
        let untouched: &[&[&str]] = if subresource.is_empty() { &[&["status"]] } else { &[&["spec"]] };
        Writing { kind: self.kind, manager, subresource, untouched, views: &[], now: "2026-01-02T03:04:05Z" }
    }

    fn try_apply(&mut self, manager: &str, config: Value, force: bool) -> Vec<String> {
        let config = self.whole(config);
        match apply(&self.writing(manager, ""), self.object.as_ref(), &config, force).expect("readable") {
            Applied::Object(mut object, managers) => {
                managers.write(&mut object);
                self.object = Some(object);
                Vec::new()
            }
            Applied::Conflicts(conflicts) => {
                conflicts.into_iter().map(|c| format!("{} {}", c.manager.name, c.path)).collect()
            }
        }
    }

    fn apply(&mut self, manager: &str, config: Value) -> &mut Self {
        let conflicts = self.try_apply(manager, config, false);
        assert_eq!(conflicts, Vec::<String>::new());
        self
    }

    fn whole(&self, mut object: Value) -> Value {
        object["apiVersion"] = self.kind.api_version().into();
        object["kind"] = json!(self.kind.kind);
        meta::set(&mut object, "name", "shared");
        object
    }

    fn update(&mut self, manager: &str, new: Value) -> &mut Self {
        let mut new = self.whole(new);
        let managers = self.object.as_ref().map(|old| Managers::read(old).expect("readable")).unwrap_or_default();
        update(&self.writing(manager, ""), managers, self.object.as_ref(), &new).write(&mut new);
        self.object = Some(new);
        self
    }

    fn owned(&self, manager: &str) -> String {
        let managers = Managers::read(self.object.as_ref().expect("an object")).expect("readable");
        let of = managers.entries.iter().filter(|(known, _)| known.name == manager);
        of.flat_map(|(_, entry)| entry.fields.paths()).collect::<Vec<_>>().join(" ")
    }

    fn at(&self, pointer: &str) -> Value {
        self.object.as_ref().and_then(|object| object.pointer(pointer)).cloned().unwrap_or(Value::Null)
    }
}

/// An empty one is none, as Go writes it.
fn map(data: Value) -> Value {
    if data == json!({}) { data } else { json!({"data": data}) }
}

fn containers(containers: Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": containers}}}})
}

const CONTAINERS: &str = "/spec/template/spec/containers";

#[test]
fn an_applier_owns_what_it_applies_and_removes_what_it_gives_up() {
    let mut object = shared("v1", "ConfigMap");
    object.apply("a", map(json!({"x": "1", "y": "1"})));
    assert_eq!(object.owned("a"), ".data.x .data.y");
    object.apply("b", map(json!({"z": "1", "y": "1"})));
    object.apply("a", map(json!({"x": "2"})));
    assert_eq!(object.at("/data"), json!({"x": "2", "y": "1", "z": "1"}), "b has y, too");
    object.apply("b", json!({}));
    assert_eq!(object.at("/data"), json!({"x": "2"}));
    assert_eq!(object.owned("b"), "");
    object.apply("a", json!({}));
    assert_eq!(object.at("/data"), Value::Null);
    assert_eq!(object.at("/metadata/managedFields"), Value::Null);
}

#[test]
fn a_conflict_names_manager_and_field_and_force_takes_it() {
    let mut object = shared("v1", "ConfigMap");
    object.apply("a", map(json!({"x": "1", "y": "1"})));
    assert_eq!(object.try_apply("b", map(json!({"x": "2"})), false), ["a .data.x"]);
    assert_eq!(object.at("/data/x"), "1");
    assert_eq!(object.try_apply("b", map(json!({"x": "1"})), false), Vec::<String>::new(), "the same value is none");
    assert_eq!(object.try_apply("b", map(json!({"x": "2"})), true), Vec::<String>::new());
    assert_eq!((object.owned("a"), object.owned("b")), (".data.y".to_owned(), ".data.x".to_owned()));
    object.apply("a", map(json!({"y": "1"})));
    assert_eq!(object.at("/data"), json!({"x": "2", "y": "1"}), "what was taken from a stays");
}

#[test]
fn an_update_takes_fields_without_a_word() {
    let mut object = shared("v1", "ConfigMap");
    object.apply("a", map(json!({"x": "1", "y": "1"})));
    object.update("b", map(json!({"x": "2", "y": "1"})));
    assert_eq!((object.owned("a"), object.owned("b")), (".data.y".to_owned(), ".data.x".to_owned()));
    assert_eq!(object.try_apply("a", map(json!({"x": "1", "y": "1"})), false), ["b .data.x"]);
    object.update("b", map(json!({"y": "1"})));
    assert_eq!(object.owned("b"), "", "what is gone is nobody's");
    object.apply("a", map(json!({"x": "1", "y": "1"})));
}

#[test]
fn what_was_there_before_belongs_to_whoever_was_before() {
    let mut object = shared("v1", "ConfigMap");
    object.object = Some(object.whole(map(json!({"x": "1", "old": "1"}))));
    object.update("b", map(json!({"x": "1", "old": "1"})));
    assert_eq!(object.at("/metadata/managedFields"), Value::Null, "nobody is told of before");
    assert_eq!(object.try_apply("a", map(json!({"x": "2"})), false), ["before-first-apply .data.x"]);
    object.apply("a", map(json!({"x": "1"})));
    object.apply("a", json!({}));
    assert_eq!(object.at("/data"), json!({"x": "1", "old": "1"}));
    assert_eq!(object.owned("before-first-apply"), ".data .data.old .data.x");
}

#[test]
fn the_last_label_takes_no_name_with_it() {
    let mut object = shared("v1", "ConfigMap");
    object.apply("a", json!({"metadata": {"labels": {"a": "b"}}, "data": {"x": "1"}}));
    let mut stored = object.object.take().expect("made");
    meta::set(&mut stored, "uid", "u");
    object.object = Some(stored);
    object.apply("a", json!({"data": {"x": "1"}}));
    let kept = object.object.as_ref().and_then(|object| object["metadata"].as_object()).expect("metadata");
    assert_eq!(kept.keys().collect::<Vec<_>>(), ["managedFields", "name", "uid"]);
}

/// Such an entry is not written again: an object would change with the second application of nothing.
#[test]
fn who_owns_nothing_is_nobody() {
    let mut object = shared("v1", "ConfigMap");
    let mut before = object.whole(map(json!({"x": "1"})));
    let entry = json!({"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1"});
    meta::set(&mut before, "managedFields", json!([entry]));
    object.object = Some(before);
    object.apply("a", json!({}));
    assert_eq!(object.owned("before-first-apply"), ".data .data.x");
    let first = object.object.clone();
    object.apply("a", json!({}));
    assert_eq!(object.object, first);
}

#[test]
fn items_are_owned_by_key() {
    let mut object = shared("apps/v1", "Deployment");
    object.apply("a", containers(json!([{"name": "x", "image": "1", "ports": [{"containerPort": 80}]}])));
    let before = r#".spec.template.spec.containers[name="x"]"#;
    let port = format!(r#"{before}.ports[containerPort=80,protocol="TCP"]"#);
    assert_eq!(object.owned("a"), format!("{before} {before}.image {before}.name {port} {port}.containerPort"));
    object.apply(
        "b",
        containers(json!([{"name": "side", "image": "2"}, {"name": "x", "env": [{"name": "E", "value": "1"}]}])),
    );
    assert_eq!(object.at(&format!("{CONTAINERS}/0/name")), "side");
    assert_eq!(object.at(&format!("{CONTAINERS}/1/env")), json!([{"name": "E", "value": "1"}]));
    assert_eq!(object.at(&format!("{CONTAINERS}/1/image")), "1");
    object.apply("b", containers(json!([{"name": "side", "image": "2"}])));
    assert_eq!(
        object.at(&format!("{CONTAINERS}/1")),
        json!({"name": "x", "image": "1", "ports": [{"containerPort": 80}]})
    );
    object.apply("b", json!({}));
    assert_eq!(object.at(CONTAINERS).as_array().map(Vec::len), Some(1));
}

#[test]
fn sets_are_owned_by_value_and_whole_lists_as_one() {
    let mut object = shared("v1", "ConfigMap");
    let finalizers = |all: &[&str]| json!({"metadata": {"finalizers": all}});
    object.apply("a", finalizers(&["x/a"])).apply("b", finalizers(&["x/b"]));
    assert_eq!(object.at("/metadata/finalizers"), json!(["x/a", "x/b"]));
    assert_eq!(object.owned("b"), r#".metadata.finalizers[="x/b"]"#);
    object.apply("a", json!({}));
    assert_eq!(object.at("/metadata/finalizers"), json!(["x/b"]));

    let mut object = shared("apps/v1", "Deployment");
    let command = |words: &[&str]| containers(json!([{"name": "x", "command": words}]));
    object.apply("a", command(&["one", "two"]));
    let path = r#"a .spec.template.spec.containers[name="x"].command"#;
    assert_eq!(object.try_apply("b", command(&["one"]), false), [path]);
    let selector = |labels: Value| json!({"spec": {"selector": {"matchLabels": labels}}});
    object.apply("c", selector(json!({"app": "x"})));
    assert_eq!(object.owned("c"), ".spec.selector");
    assert_eq!(object.try_apply("d", selector(json!({"also": "y"})), false), ["c .spec.selector"]);
}

#[test]
fn items_keep_their_order() {
    for (live, applied, merged) in [
        ("abc", "c", "abc"),
        ("abc", "ca", "bca"),
        ("abc", "xc", "abxc"),
        ("abc", "cxa", "bcxa"),
        ("ab", "xab", "xab"),
        ("ab", "abx", "abx"),
        ("", "ba", "ba"),
    ] {
        let list = |names: &str| names.chars().map(|name| json!({"name": name.to_string()})).collect::<Vec<_>>();
        let mut object = shared("apps/v1", "Deployment");
        object.update("u", containers(list(live).into())).apply("a", containers(list(applied).into()));
        let order: String =
            object.at(CONTAINERS).as_array().expect("a list").iter().filter_map(|c| c["name"].as_str()).collect();
        assert_eq!(order, merged, "{applied} on {live}");
    }
}

#[test]
fn a_status_is_another_write_of_the_same_manager() {
    let mut object = shared("apps/v1", "Deployment");
    object.apply("a", json!({"spec": {"replicas": 1}, "status": {"replicas": 9}}));
    assert_eq!(object.owned("a"), ".spec.replicas", "the status is not written here");
    let live = object.object.clone().expect("an object");
    let status = object.whole(json!({"status": {"replicas": 1}, "spec": {"replicas": 5}}));
    let applied = apply(&object.writing("a", "status"), Some(&live), &status, false).expect("readable");
    let Applied::Object(mut new, managers) = applied else { panic!("nobody has the status") };
    managers.write(&mut new);
    let entries = meta::items(meta::field(&new, "managedFields"));
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["subresource"], "status");
    assert_eq!(entries[1]["fieldsV1"], json!({"f:status": {"f:replicas": {}}}));
}

#[test]
fn what_changes_nothing_keeps_its_time() {
    let mut object = shared("v1", "ConfigMap");
    object.apply("a", map(json!({"x": "1"})));
    let before = object.object.clone();
    let later = Writing { now: "2027-01-01T00:00:00Z", ..object.writing("a", "") };
    let config = object.whole(map(json!({"x": "1"})));
    let again = apply(&later, object.object.as_ref(), &config, false).expect("readable");
    let Applied::Object(mut again, managers) = again else { panic!("a conflict with itself") };
    managers.write(&mut again);
    assert_eq!(Some(again), before);
}

#[test]
fn the_oldest_changes_become_one() {
    let mut object = shared("v1", "ConfigMap");
    object.update("first", map(json!({"k": "0"})));
    for n in 0..20 {
        let mut data = object.at("/data");
        data[format!("k{n}")] = "1".into();
        object.update(&format!("m{n:02}"), map(data));
    }
    let entries = object.at("/metadata/managedFields").as_array().cloned().unwrap_or_default();
    assert_eq!(entries.len(), UPDATERS_MAX);
    assert_eq!(object.owned("m19"), ".data.k19");
    assert!(object.owned(ANCIENT).contains(".data.k0 "), "{}", object.owned(ANCIENT));
}

#[test]
fn the_old_way_of_kubectl_is_taken_over() {
    let note = |data: Value| {
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": data});
        json!({"kubectl.kubernetes.io/last-applied-configuration": config.to_string()})
    };
    let applied = |data: Value| json!({"metadata": {"annotations": note(data.clone())}, "data": data});
    let mut object = shared("v1", "ConfigMap");
    object.update("kubectl-client-side-apply", applied(json!({"x": "1", "y": "1"})));
    assert_eq!(object.try_apply("me", map(json!({"x": "2"})), false), ["kubectl-client-side-apply .data.x"]);
    object.apply("kubectl", map(json!({"x": "2"})));
    let noted = object.at("/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration");
    let noted: Value = serde_json::from_str(noted.as_str().expect("a text")).expect("JSON");
    assert_eq!(noted["data"], json!({"x": "2"}), "who goes back finds what is so");

    // What another changed since is not the old way's.
    let mut object = shared("v1", "ConfigMap");
    object.update("kubectl-client-side-apply", applied(json!({"x": "1"})));
    let mut changed = object.object.clone().expect("an object");
    changed["data"]["x"] = "5".into();
    object.update("editor", changed);
    assert_eq!(object.try_apply("kubectl", map(json!({"x": "2"})), false), ["editor .data.x"]);
}

#[test]
fn items_that_are_there_twice_stay_as_they_are() {
    let mut object = shared("v1", "Pod");
    let env = |values: &[(&str, &str)]| {
        let env: Vec<_> = values.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        json!({"spec": {"containers": [{"name": "c", "env": env}]}})
    };
    object.update("u", env(&[("A", "1"), ("A", "2")]));
    object.apply("a", env(&[("B", "1")]));
    let values = |object: &Shared| {
        let all = object.at("/spec/containers/0/env");
        all.as_array()
            .expect("a list")
            .iter()
            .map(|e| format!("{}{}", e["name"], e["value"]))
            .collect::<String>()
            .replace('"', "")
    };
    assert_eq!(values(&object), "A1A2B1");
    object.update("v", env(&[("A", "1"), ("A", "3")]));
    assert!(object.owned("v").contains("env[name=\"A\"]"), "{}", object.owned("v"));
    let twice = apply(&object.writing("a", ""), None, &env(&[("A", "1"), ("A", "2")]), false);
    let error = twice.expect_err("twice").to_string();
    assert_eq!(error, ".spec.containers[name=\"c\"].env[name=\"A\"]: the applied object has this item twice");
}

#[test]
fn what_many_own_as_one_is_not_lost_with_an_item_of_it() {
    let data =
        |count: usize| map((0..count).map(|n| (format!("k{n}"), "1".into())).collect::<serde_json::Map<_, _>>().into());
    let mut object = shared("v1", "ConfigMap");
    object.update("u", data(PARTS_MAX + 1));
    object.apply("a", map(json!({"k0": "1"}))).apply("a", json!({}));
    assert_eq!(object.at("/data").as_object().map(serde_json::Map::len), Some(PARTS_MAX));
}

#[test]
fn an_entry_without_a_time_has_none_after_a_write() {
    let entry = json!({"manager": "x", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {}}});
    let mut object = json!({"metadata": {"managedFields": [entry]}});
    Managers::read(&object).expect("readable").write(&mut object);
    assert_eq!(object["metadata"]["managedFields"], json!([entry]));
}

#[test]
fn many_items_are_owned_as_one() {
    let mut object = shared("v1", "ConfigMap");
    let data =
        |count: usize| map((0..count).map(|n| (format!("k{n}"), "1".into())).collect::<serde_json::Map<_, _>>().into());
    object.update("u", data(PARTS_MAX));
    assert_eq!(object.owned("u").split(' ').count(), PARTS_MAX + 1);
    object.update("u", data(PARTS_MAX + 1));
    assert_eq!(object.owned("u"), ".data");
    object.apply("a", map(json!({"k0": "2"})));
    assert_eq!(object.owned("u"), ".data");
}

#[test]
fn what_is_no_set_is_refused() {
    let read = |fields: Value| {
        Managers::read(&json!({"metadata": {"managedFields": [{"operation": "Update", "fieldsV1": fields}]}}))
    };
    for (fields, why) in [
        (json!({"spec": {}}), "\"spec\" is no element"),
        (json!({"k:[1]": {}}), "no element"),
        (json!({"i:x": {}}), "no element"),
        (json!({"f:a": 1}), "must be an object"),
        (json!("x"), "must be an object"),
    ] {
        let error = read(fields).expect_err("refused").to_string();
        assert!(error.starts_with("metadata.managedFields[0].fieldsV1") && error.contains(why), "{error}");
    }
    let deep = (0..200).fold(json!({}), |below, _| json!({"f:a": below}));
    assert_eq!(read(deep), Err(ManagedError::Fields(0, SetError::TooDeep)));
    let many = |count: usize, name: usize| {
        let entry = json!({"operation": "Update", "manager": "m".repeat(name), "fieldsV1": {}});
        Managers::read(&json!({"metadata": {"managedFields": vec![entry; count]}})).map(|_| ())
    };
    assert_eq!(many(ENTRIES_MAX, TEXT_MAX), Ok(()));
    assert_eq!(
        (many(ENTRIES_MAX + 1, 1), many(1, TEXT_MAX + 1)),
        (Err(ManagedError::TooMuch), Err(ManagedError::TooMuch))
    );
    let operation = json!({"metadata": {"managedFields": [{"operation": "Own"}]}});
    assert_eq!(Managers::read(&operation), Err(ManagedError::Operation(0)));
}

fn any_set() -> impl Strategy<Value = FieldSet> {
    let element = prop_oneof![
        "[a-c]".prop_map(|name| format!("f:{name}")),
        (0..3).prop_map(|n| format!("k:{{\"name\":\"{n}\"}}")),
        (0..3).prop_map(|n| format!("v:{n}")),
    ];
    let level = proptest::collection::btree_map(element, Just(json!({})), 0..4);
    let level = level.prop_map(|fields| Value::Object(fields.into_iter().collect()));
    let tree = level.prop_recursive(3, 24, 4, |below| {
        proptest::collection::btree_map("[a-c]".prop_map(|name| format!("f:{name}")), below, 0..4)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()))
    });
    tree.prop_map(|fields| FieldSet::read(&fields).expect("a set"))
}

proptest! {
    #[test]
    fn sets_are_sets(a in any_set(), b in any_set()) {
        prop_assert_eq!(&FieldSet::read(&a.to_json()).expect("readable"), &a);
        prop_assert_eq!(a.clone().union(&b), b.clone().union(&a));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&a).is_empty());
        prop_assert!(a.without(&b).intersection(&b).is_empty());
    }

    /// Applying is idempotent, sets what was applied, and only touches what is the applier's.
    #[test]
    fn applying_sets_what_is_applied(
        before in proptest::collection::btree_map("[a-e]", "[0-2]", 0..5),
        first in proptest::collection::btree_map("[a-e]", "[0-2]", 0..5),
        second in proptest::collection::btree_map("[a-e]", "[0-2]", 0..5),
    ) {
        let mut object = shared("v1", "ConfigMap");
        object.update("u", map(json!(before)));
        object.try_apply("a", map(json!(first)), true);
        object.try_apply("a", map(json!(second)), true);
        let once = object.object.clone();
        object.try_apply("a", map(json!(second)), false);
        prop_assert_eq!(&once, &object.object);
        let data = object.at("/data");
        for (key, value) in &second {
            prop_assert_eq!(&data[key], value);
        }
        for key in before.keys().filter(|key| !first.contains_key(*key) && !second.contains_key(*key)) {
            prop_assert_eq!(&data[key], &before[key]);
        }
        for key in first.keys().filter(|key| !second.contains_key(*key)) {
            // Taken from the updater if it was another value, and so gone; else it is the updater's still.
            let kept = before.get(key) == first.get(key);
            prop_assert_eq!(data.get(key).is_some(), kept);
        }
    }
}

#[test]
fn an_empty_struct_is_applied_once() {
    let kind = by_kind("v1", "Pod").expect("a kind");
    let writing =
        Writing { kind, manager: "one", subresource: "", untouched: &[], views: &[], now: "2026-01-01T00:00:00Z" };
    let config = |spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec});
    let write = |live: Option<&Value>, spec: Value| match apply(&writing, live, &config(spec), false).expect("it fits")
    {
        Applied::Object(mut object, managers) => {
            managers.write(&mut object);
            object
        }
        Applied::Conflicts(conflicts) => panic!("{conflicts:?}"),
    };
    let first = write(None, json!({"containers": [{"name": "c", "image": "i"}]}));
    let second = write(Some(&first), json!({}));
    assert_eq!(second["spec"], json!({}));
    assert_eq!(write(Some(&second), json!({})), second);
}
