//! Every kind of field by every way in which two managers meet there: a table of places, each of which goes through all
//! of the scenarios.

use super::*;

/// A field of a kind, and two values that it may have. What is there or not, like an item of a set, has one.
struct Place {
    kind: (&'static str, &'static str),
    /// Where it is, as conflicts name it.
    path: &'static str,
    pointer: &'static str,
    one: Value,
    /// `Null`: it has no other value.
    other: Value,
}

fn place(
    kind: (&'static str, &'static str),
    path: &'static str,
    pointer: &'static str,
    one: Value,
    other: Value,
) -> Place {
    Place { kind, path, pointer, one, other }
}

const MAP: (&str, &str) = ("v1", "ConfigMap");
const DEPLOYMENT: (&str, &str) = ("apps/v1", "Deployment");
const SERVICE: (&str, &str) = ("v1", "Service");
const POD: (&str, &str) = ("v1", "Pod");

fn places() -> Vec<Place> {
    let owner = |controller: bool| {
        json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u",
            "controller": controller}]}})
    };
    let spec = |spec: Value| json!({"spec": spec});
    let container = |mut fields: Value| {
        fields["name"] = "c".into();
        json!({"spec": {"containers": [fields]}})
    };
    let image = |image: &str| container(json!({"image": image}));
    let env = |value: &str| container(json!({"env": [{"name": "E", "value": value}]}));
    let port = |name: &str| container(json!({"ports": [{"containerPort": 80, "name": name}]}));
    let limit = |cpu: &str| container(json!({"resources": {"limits": {"cpu": cpu}}}));
    let surge = |surge: Value| spec(json!({"strategy": {"rollingUpdate": {"maxSurge": surge}}}));
    let spread = |skew: i32| {
        spec(json!({"topologySpreadConstraints": [{"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "maxSkew": skew}]}))
    };
    let volume = |medium: &str| spec(json!({"volumes": [{"name": "v", "emptyDir": {"medium": medium}}]}));
    let service_port = |target: i32| spec(json!({"ports": [{"port": 80, "protocol": "UDP", "targetPort": target}]}));
    let labels = |value: &str| json!({"metadata": {"labels": {"a.b/c": value}}});
    vec![
        place(MAP, ".data.x", "/data/x", json!({"data": {"x": "1"}}), json!({"data": {"x": "2"}})),
        place(MAP, ".metadata.labels.a.b/c", "/metadata/labels/a.b~1c", labels("1"), labels("2")),
        place(MAP, ".immutable", "/immutable", json!({"immutable": true}), json!({"immutable": false})),
        place(
            MAP,
            ".metadata.finalizers[=\"x/y\"]",
            "/metadata/finalizers/0",
            json!({"metadata": {"finalizers": ["x/y"]}}),
            Value::Null,
        ),
        place(MAP, ".metadata.ownerReferences[uid=\"u\"]", "/metadata/ownerReferences/0", owner(true), owner(false)),
        place(
            DEPLOYMENT,
            ".spec.replicas",
            "/spec/replicas",
            spec(json!({"replicas": 1})),
            spec(json!({"replicas": 0})),
        ),
        place(
            DEPLOYMENT,
            ".spec.selector",
            "/spec/selector",
            spec(json!({"selector": {"matchLabels": {"a": "1"}}})),
            spec(json!({"selector": {"matchLabels": {"b": "1"}}})),
        ),
        place(
            DEPLOYMENT,
            ".spec.strategy.rollingUpdate.maxSurge",
            "/spec/strategy/rollingUpdate/maxSurge",
            surge(json!("25%")),
            surge(json!(1)),
        ),
        place(POD, ".spec.containers[name=\"c\"].image", "/spec/containers/0/image", image("1"), image("2")),
        place(
            POD,
            ".spec.containers[name=\"c\"].env[name=\"E\"].value",
            "/spec/containers/0/env/0/value",
            env("1"),
            env("2"),
        ),
        place(
            POD,
            ".spec.containers[name=\"c\"].ports[containerPort=80,protocol=\"TCP\"].name",
            "/spec/containers/0/ports/0/name",
            port("web"),
            port("http"),
        ),
        place(
            POD,
            ".spec.containers[name=\"c\"].resources.limits.cpu",
            "/spec/containers/0/resources/limits/cpu",
            limit("1"),
            limit("500m"),
        ),
        place(
            POD,
            ".spec.containers[name=\"c\"].command",
            "/spec/containers/0/command",
            container(json!({"command": ["a", "b"]})),
            container(json!({"command": ["a"]})),
        ),
        place(
            POD,
            ".spec.nodeSelector",
            "/spec/nodeSelector",
            spec(json!({"nodeSelector": {"a": "1"}})),
            spec(json!({"nodeSelector": {"b": "1"}})),
        ),
        place(
            POD,
            ".spec.tolerations",
            "/spec/tolerations",
            spec(json!({"tolerations": [{"key": "a"}]})),
            spec(json!({"tolerations": [{"key": "b"}]})),
        ),
        place(
            POD,
            ".spec.imagePullSecrets[name=\"s\"]",
            "/spec/imagePullSecrets/0",
            spec(json!({"imagePullSecrets": [{"name": "s"}]})),
            Value::Null,
        ),
        place(
            POD,
            ".spec.topologySpreadConstraints[topologyKey=\"zone\",whenUnsatisfiable=\"DoNotSchedule\"].maxSkew",
            "/spec/topologySpreadConstraints/0/maxSkew",
            spread(1),
            spread(2),
        ),
        place(
            POD,
            ".spec.volumes[name=\"v\"].emptyDir.medium",
            "/spec/volumes/0/emptyDir/medium",
            volume(""),
            volume("Memory"),
        ),
        place(
            SERVICE,
            ".spec.ports[port=80,protocol=\"UDP\"].targetPort",
            "/spec/ports/0/targetPort",
            service_port(1),
            service_port(2),
        ),
        place(
            SERVICE,
            ".spec.selector",
            "/spec/selector",
            spec(json!({"selector": {"a": "1"}})),
            spec(json!({"selector": {"a": "2"}})),
        ),
    ]
}

impl Place {
    fn shared(&self) -> Shared {
        shared(self.kind.0, self.kind.1)
    }

    fn value(&self, of: &Value) -> Value {
        of.pointer(self.pointer).cloned().unwrap_or(Value::Null)
    }

    fn has(&self, object: &Shared, of: &Value) -> bool {
        object.at(self.pointer) == self.value(of)
    }

    fn is_owned(&self, object: &Shared, manager: &str) -> bool {
        let managers = Managers::read(object.object.as_ref().expect("an object")).expect("readable");
        let of = managers.entries.iter().filter(|(known, _)| known.name == manager);
        of.flat_map(|(_, entry)| entry.fields.paths()).any(|path| path == self.path)
    }
}

type Scenario = (&'static str, bool, fn(&Place));

/// What happens, whether the place needs another value for it, and what is checked.
const SCENARIOS: &[Scenario] = &[
    ("who applies it has it, and giving it up removes it", false, |place| {
        let mut object = place.shared();
        object.apply("a", place.one.clone());
        assert!(place.has(&object, &place.one) && place.is_owned(&object, "a"));
        object.apply("a", json!({}));
        assert_eq!(object.at(place.pointer), Value::Null);
    }),
    ("applying it again changes nothing", false, |place| {
        let mut object = place.shared();
        object.apply("a", place.one.clone());
        let before = object.object.clone();
        object.apply("a", place.one.clone());
        assert_eq!(object.object, before);
    }),
    ("two who apply the same share it until both give it up", false, |place| {
        let mut object = place.shared();
        object.apply("a", place.one.clone()).apply("b", place.one.clone());
        assert!(place.is_owned(&object, "a") && place.is_owned(&object, "b"));
        object.apply("a", json!({}));
        assert!(place.has(&object, &place.one) && !place.is_owned(&object, "a"));
        object.apply("b", json!({}));
        assert_eq!(object.at(place.pointer), Value::Null);
    }),
    ("what an updater made stays when an applier gives it up", false, |place| {
        let mut object = place.shared();
        object.update("u", place.one.clone()).apply("a", place.one.clone()).apply("a", json!({}));
        assert!(place.has(&object, &place.one) && place.is_owned(&object, "u"));
    }),
    ("an updater that removes it leaves it to nobody", false, |place| {
        let mut object = place.shared();
        object.apply("a", place.one.clone()).update("u", json!({}));
        assert!(!place.is_owned(&object, "a") && !place.is_owned(&object, "u"));
        object.apply("a", place.one.clone());
        assert!(place.has(&object, &place.one) && place.is_owned(&object, "a"));
    }),
    ("another manager's apply of something else leaves it alone", false, |place| {
        let mut object = place.shared();
        object.apply("a", place.one.clone()).apply("b", json!({"metadata": {"annotations": {"b": "1"}}}));
        assert!(place.has(&object, &place.one) && place.is_owned(&object, "a"));
        object.apply("b", json!({}));
        assert!(place.has(&object, &place.one) && place.is_owned(&object, "a"));
    }),
    ("another value is a conflict that names owner and place", true, |place| {
        let mut object = place.shared();
        object.apply("a", place.one.clone());
        assert_eq!(object.try_apply("b", place.other.clone(), false), [format!("a {}", place.path)]);
        assert!(place.has(&object, &place.one) && !place.is_owned(&object, "b"));
    }),
    ("force takes it, and what was taken is not given back", true, |place| {
        let mut object = place.shared();
        object.apply("a", place.one.clone());
        assert_eq!(object.try_apply("b", place.other.clone(), true), Vec::<String>::new());
        assert!(place.has(&object, &place.other) && place.is_owned(&object, "b") && !place.is_owned(&object, "a"));
        object.apply("a", json!({}));
        assert!(place.has(&object, &place.other));
    }),
    ("the owner may change it", true, |place| {
        let mut object = place.shared();
        object.apply("a", place.one.clone()).apply("a", place.other.clone());
        assert!(place.has(&object, &place.other) && place.is_owned(&object, "a"));
    }),
    ("an update takes it, and an apply of the old value is a conflict", true, |place| {
        let mut object = place.shared();
        object.apply("a", place.one.clone()).update("u", place.other.clone());
        assert!(place.is_owned(&object, "u") && !place.is_owned(&object, "a"));
        assert_eq!(object.try_apply("a", place.one.clone(), false), [format!("u {}", place.path)]);
        object.apply("a", place.other.clone());
        assert!(place.is_owned(&object, "u") && place.is_owned(&object, "a"));
    }),
];

#[test]
fn every_place_goes_through_every_scenario() {
    let mut cases = 0;
    for place in places() {
        for (name, needs_other, check) in SCENARIOS {
            if *needs_other && place.other.is_null() {
                continue;
            }
            cases += 1;
            let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&place)));
            assert!(checked.is_ok(), "{}: {name}", place.path);
        }
    }
    assert!(cases >= 150, "{cases} cases");
}
