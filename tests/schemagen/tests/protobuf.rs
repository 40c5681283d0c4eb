//! What skiff-object writes in protobuf, read by another implementation: the types that prost makes from upstream's
//! `.proto` files. What such a type reads and writes again has to be the object still: a field of another type or number
//! would be refused or be missing.
//!
//! Run it in its folder with `cargo test`, as the tables are made anew.

use k8s_pb::api::{
    admissionregistration::v1 as admissionregistration, apps::v1 as apps, authentication::v1 as authentication,
    authorization::v1 as authorization, autoscaling::v1 as autoscaling_v1, autoscaling::v2 as autoscaling_v2,
    batch::v1 as batch, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
    events::v1 as events, networking::v1 as networking, node::v1 as node, policy::v1 as policy, rbac::v1 as rbac,
    scheduling::v1 as scheduling, storage::v1 as storage,
};
use k8s_pb::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_pb::apimachinery::pkg::{apis::meta::v1 as meta, runtime};
use prost::Message;
use samples::Samples;
use serde_json::{Value, json};
use skiff_object::decode::{FieldValidation, decode_value};
use skiff_object::kinds::{self, Kind};
use skiff_object::protobuf::decode;
use skiff_object::protobuf::encode::{self, Json, List, Shape};
use skiff_object::schema::{Named, Ty};

#[path = "../../../agent/object/src/protobuf/samples.rs"]
mod samples;

/// Objects of each kind.
const SEEDS: u64 = 200;

fn encoded(kind: &Kind, object: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    encode::object(&mut out, Shape::Whole(kind), Json::Value(object)).expect("it can be written");
    out
}

/// The envelope, taken apart by prost.
fn envelope(bytes: &[u8]) -> runtime::Unknown {
    let rest = bytes.strip_prefix(b"k8s\0").expect("the magic");
    runtime::Unknown::decode(rest).expect("an envelope")
}

fn canonical(kind: &Kind, object: Value) -> Value {
    decode_value(kind, object, FieldValidation::Strict).expect("an object of its kind").value
}

/// Fields that skiff-object has numbers for and prost's types do not know yet.
const NEWER: &[&str] = &[
    "nodeAllocatableResourceClaimStatuses",
    "preventPodSchedulingIfMissing",
    "schedulingGroup",
    "shardInfo",
    "volumeStatus",
];

fn without_newer(object: &mut Value) {
    match object {
        Value::Object(map) => {
            map.retain(|name, _| !NEWER.contains(&name.as_str()));
            // The health of a resource.
            if map.contains_key("resourceID") {
                map.remove("message");
            }
            map.values_mut().for_each(without_newer);
        }
        Value::Array(items) => items.iter_mut().for_each(without_newer),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Objects of a kind go through its type in prost and are the same.
fn check<T: Message + Default>(api_version: &str, kind: &str) -> String {
    let found = kinds::by_kind(api_version, kind).or_else(|| kinds::body(api_version, kind));
    let kind = found.unwrap_or_else(|| panic!("{api_version} {kind} is served"));
    for seed in 0..SEEDS {
        let mut object = Samples::new(seed).object(kind);
        without_newer(&mut object);
        let object = canonical(kind, object);
        let mut unknown = envelope(&encoded(kind, &object));
        let type_meta = unknown.type_meta.clone().expect("what says the kind");
        assert_eq!(type_meta.kind.as_deref(), Some(&*kind.kind));
        assert_eq!(type_meta.api_version, Some(kind.api_version()));
        let message = T::decode(unknown.raw.as_deref().unwrap_or_default());
        let message = message.unwrap_or_else(|error| panic!("{} {seed}: {error}", kind.kind));
        unknown.raw = Some(message.encode_to_vec());
        let again = [b"k8s\0".to_vec(), unknown.encode_to_vec()].concat();
        let read = decode(kind, &again).unwrap_or_else(|error| panic!("{} {seed}: {error}", kind.kind));
        assert_eq!(canonical(kind, read), object, "{} {seed}", kind.kind);
    }
    kind.type_name.to_string()
}

macro_rules! check_all {
    ($($version:literal: $module:ident { $($kind:ident),* $(,)? })*) => {
        vec![$($(check::<$module::$kind>($version, stringify!($kind))),*),*]
    };
}

#[test]
fn every_kind_goes_through_prost() {
    let checked = check_all! {
        "v1": core { Binding, ConfigMap, Endpoints, Event,
            LimitRange, Namespace, Node, PersistentVolumeClaim,
            PersistentVolume, Pod, PodTemplate,
            ReplicationController, ResourceQuota, Secret,
            ServiceAccount, Service }
        "apps/v1": apps { ControllerRevision, DaemonSet, Deployment,
            ReplicaSet, StatefulSet }
        "events.k8s.io/v1": events { Event }
        "authentication.k8s.io/v1": authentication { SelfSubjectReview, TokenReview,
            TokenRequest }
        "authorization.k8s.io/v1": authorization { LocalSubjectAccessReview,
            SelfSubjectAccessReview, SelfSubjectRulesReview,
            SubjectAccessReview }
        "autoscaling/v2": autoscaling_v2 { HorizontalPodAutoscaler }
        "autoscaling/v1": autoscaling_v1 { HorizontalPodAutoscaler, Scale }
        "batch/v1": batch { CronJob, Job }
        "networking.k8s.io/v1": networking { IngressClass, Ingress, IPAddress,
            NetworkPolicy, ServiceCIDR }
        "policy/v1": policy { PodDisruptionBudget, Eviction }
        "rbac.authorization.k8s.io/v1": rbac { ClusterRoleBinding, ClusterRole,
            RoleBinding, Role }
        "storage.k8s.io/v1": storage { CSIDriver, CSINode,
            CSIStorageCapacity, StorageClass, VolumeAttachment,
            VolumeAttributesClass }
        "scheduling.k8s.io/v1": scheduling { PriorityClass }
        "coordination.k8s.io/v1": coordination { Lease }
        "node.k8s.io/v1": node { RuntimeClass }
        "discovery.k8s.io/v1": discovery { EndpointSlice }
        "apiextensions.k8s.io/v1": apiextensions { CustomResourceDefinition }
        "admissionregistration.k8s.io/v1": admissionregistration {
            MutatingWebhookConfiguration,
            ValidatingAdmissionPolicy,
            ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration }
        "v1": meta { Status, DeleteOptions }
    };
    for kind in kinds::typed() {
        assert!(checked.contains(&kind.type_name.to_string()), "{} is not checked", kind.type_name);
    }
}

/// The names of fields, which the way there and back does not see: one of each odd form.
#[test]
fn prost_sees_the_fields_by_their_names() {
    let kind = |version: &str, kind: &str| kinds::by_kind(version, kind).expect("a kind").clone();
    let raw = |version: &str, name: &str, object: Value| envelope(&encoded(&kind(version, name), &object)).raw();

    let pod = json!({"metadata": {"creationTimestamp": "2026-01-04T13:52:00Z", "managedFields": [{"fieldsV1": {"f:a": {}}}]},
        "spec": {"volumes": [{"name": "v", "configMap": {"name": "c"}}], "containers": [{"name": "a", "livenessProbe":
        {"httpGet": {"port": "http"}}, "resources": {"limits": {"cpu": "500m"}}}]}});
    let pod = core::Pod::decode(&*raw("v1", "Pod", pod)).expect("a pod");
    let metadata = pod.metadata.expect("metadata");
    assert_eq!(metadata.creation_timestamp.expect("a time").seconds, Some(1_767_534_720));
    assert_eq!(
        metadata.managed_fields[0].fields_v1.clone().expect("fields").raw.as_deref(),
        Some(&br#"{"f:a":{}}"#[..])
    );
    let spec = pod.spec.expect("a spec");
    let source = spec.volumes[0].volume_source.clone().expect("a source").config_map.expect("a map");
    assert_eq!(source.local_object_reference.expect("a reference").name.as_deref(), Some("c"));
    let container = &spec.containers[0];
    let probe = container.liveness_probe.clone().expect("a probe").handler.expect("a handler").http_get.expect("HTTP");
    let port = probe.port.expect("a port");
    assert_eq!((port.r#type, port.str_val.as_deref()), (Some(1), Some("http")));
    let limits = &container.resources.as_ref().expect("resources").limits;
    assert_eq!(limits["cpu"].string.as_deref(), Some("500m"));

    let event = json!({"eventTime": "2026-01-04T13:52:00.123456Z"});
    let event = core::Event::decode(&*raw("v1", "Event", event)).expect("an event").event_time.expect("a time");
    assert_eq!((event.seconds, event.nanos), (Some(1_767_534_720), Some(123_456_000)));

    let schema = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {"x-kubernetes-int-or-string": true,
        "items": {"$ref": "r"}, "additionalProperties": {"type": "object"}}}}]}});
    let definition = raw("apiextensions.k8s.io/v1", "CustomResourceDefinition", schema);
    let definition = apiextensions::CustomResourceDefinition::decode(&*definition).expect("a definition");
    let version = definition.spec.expect("a spec").versions.remove(0);
    let schema = version.schema.expect("a schema").open_apiv3_schema.expect("a schema");
    assert_eq!(schema.x_kubernetes_int_or_string, Some(true));
    let items = schema.items.expect("items").schema.expect("one");
    assert_eq!(items.r#ref.as_deref(), Some("r"));
    let additional = schema.additional_properties.expect("additional ones");
    assert_eq!((additional.allows, additional.schema.expect("one").r#type.as_deref()), (Some(true), Some("object")));
}

trait Raw {
    fn raw(self) -> Vec<u8>;
}

impl Raw for runtime::Unknown {
    fn raw(self) -> Vec<u8> {
        self.raw.expect("a message")
    }
}

#[test]
fn prost_reads_lists_and_events() {
    let pods = kinds::by_kind("v1", "Pod").expect("a kind");
    let metadata = json!({"resourceVersion": "7", "continue": "more", "remainingItemCount": 300});
    for shape in [Shape::Whole(pods), Shape::Metadata] {
        let mut list = List::new(shape, &metadata, 0).expect("a list");
        for name in ["a", "b"] {
            list.push(Json::Value(&json!({"metadata": {"name": name}, "spec": {"nodeName": "box"}}))).expect("an item");
        }
        let unknown = envelope(&list.finish());
        let kind = unknown.type_meta.clone().expect("what says the kind").kind.expect("a kind");
        let (metadata, names) = match shape {
            Shape::Whole(_) => {
                assert_eq!(kind, "PodList");
                let list = core::PodList::decode(&*unknown.raw()).expect("a list");
                (list.metadata, list.items.into_iter().map(|pod| pod.metadata).collect::<Vec<_>>())
            }
            Shape::Metadata => {
                assert_eq!(kind, "PartialObjectMetadataList");
                let list = meta::PartialObjectMetadataList::decode(&*unknown.raw()).expect("a list");
                (list.metadata, list.items.into_iter().map(|pod| pod.metadata).collect::<Vec<_>>())
            }
        };
        let metadata = metadata.expect("metadata");
        assert_eq!((metadata.resource_version.as_deref(), metadata.r#continue.as_deref()), (Some("7"), Some("more")));
        assert_eq!(metadata.remaining_item_count, Some(300));
        let names: Vec<_> = names.into_iter().map(|metadata| metadata.expect("metadata").name).collect();
        assert_eq!(names, [Some("a".to_owned()), Some("b".to_owned())]);
    }

    let mut frame = Vec::new();
    let object = json!({"metadata": {"name": "a"}});
    encode::event(&mut frame, "ADDED", Shape::Whole(pods), Json::Value(&object)).expect("an event");
    let (length, event) = frame.split_first_chunk::<4>().expect("a length");
    assert_eq!(u32::from_be_bytes(*length) as usize, event.len());
    let event = meta::WatchEvent::decode(event).expect("an event");
    assert_eq!(event.r#type.as_deref(), Some("ADDED"));
    let unknown = envelope(&event.object.expect("an object").raw.expect("one"));
    let pod = core::Pod::decode(&*unknown.raw()).expect("a pod");
    assert_eq!(pod.metadata.expect("metadata").name.as_deref(), Some("a"));
}
