//! The types to generate from: the kinds that Skiff serves and what they reach.
//!
//! Owns the list of Rust types; every row of the table of kinds must be in it, which [`definitions`] checks.

use k8s_openapi::api::{
    admissionregistration::v1 as admissionregistration, apps::v1 as apps, authentication::v1 as authentication, authorization::v1 as authorization,
    autoscaling::v1 as autoscaling_v1, autoscaling::v2 as autoscaling_v2, batch::v1 as batch,
    certificates::v1 as certificates, coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery, events::v1 as events, flowcontrol::v1 as flowcontrol,
    networking::v1 as networking, node::v1 as node, policy::v1 as policy, rbac::v1 as rbac,
    scheduling::v1 as scheduling, storage::v1 as storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};
use skiff_object::kinds;

macro_rules! register {
    ($generator:ident; $($type:ty),* $(,)?) => { $( $generator.subschema_for::<$type>(); )* };
}

/// All definitions by name, such as `io.k8s.api.core.v1.Pod`.
pub fn definitions() -> anyhow::Result<Map<String, Value>> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    register!(generator;
        core::Binding, core::ConfigMap, core::Endpoints, core::Event, core::LimitRange, core::Namespace, core::Node,
        core::PersistentVolumeClaim, core::PersistentVolume, core::Pod, core::PodTemplate,
        core::ReplicationController, core::ResourceQuota, core::Secret, core::ServiceAccount, core::Service,
        apps::ControllerRevision, apps::DaemonSet, apps::Deployment, apps::ReplicaSet, apps::StatefulSet,
        events::Event, authentication::SelfSubjectReview, authentication::TokenReview, authentication::TokenRequest,
        authorization::LocalSubjectAccessReview, authorization::SelfSubjectAccessReview,
        authorization::SelfSubjectRulesReview, authorization::SubjectAccessReview,
        autoscaling_v2::HorizontalPodAutoscaler, autoscaling_v1::HorizontalPodAutoscaler, autoscaling_v1::Scale,
        batch::CronJob, batch::Job, networking::IngressClass, networking::Ingress, networking::IPAddress,
        networking::NetworkPolicy, networking::ServiceCIDR, policy::PodDisruptionBudget, policy::Eviction,
        rbac::ClusterRoleBinding, rbac::ClusterRole, rbac::RoleBinding, rbac::Role,
        storage::CSIDriver, storage::CSINode, storage::CSIStorageCapacity, storage::StorageClass,
        storage::VolumeAttachment, storage::VolumeAttributesClass, scheduling::PriorityClass,
        coordination::Lease, node::RuntimeClass, discovery::EndpointSlice,
        apiextensions::CustomResourceDefinition, admissionregistration::MutatingWebhookConfiguration,
        admissionregistration::ValidatingWebhookConfiguration, admissionregistration::ValidatingAdmissionPolicy,
        admissionregistration::ValidatingAdmissionPolicyBinding, admissionregistration::MutatingAdmissionPolicy,
        admissionregistration::MutatingAdmissionPolicyBinding, apiregistration::APIService,
        certificates::CertificateSigningRequest, flowcontrol::FlowSchema, flowcontrol::PriorityLevelConfiguration,
        meta::Status, meta::DeleteOptions, meta::ListMeta, meta::APIResourceList, meta::Patch,
    );
    let definitions: Map<String, Value> = generator.take_definitions(true).into_iter().collect();
    for kind in kinds::built_in().kinds().chain(kinds::bodies()) {
        // What is computed has no type of its own.
        let is_typed = kind.type_name.is_empty() || definitions.contains_key(&*kind.type_name);
        anyhow::ensure!(is_typed, "no definition of {}", kind.type_name);
    }
    Ok(definitions)
}
