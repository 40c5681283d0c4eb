//! The table of defaults: type, field, value.
//!
//! Owns constant defaults only; those that depend on other fields are in [`super::rules`].

use serde_json::{Map, Value};

/// A default, with what counts as left out.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    /// For a missing or empty text.
    Text(&'static str),
    /// The empty text, for a missing one.
    EmptyText,
    /// For a missing number; zero is a value.
    Int(i64),
    /// For a missing number or zero.
    NonZero(i64),
    Bool(bool),
    /// An empty map, whose own defaults follow.
    Map,
}

impl Default {
    pub fn value(&self) -> Value {
        match self {
            Default::Text(text) => (*text).into(),
            Default::EmptyText => "".into(),
            Default::Int(number) | Default::NonZero(number) => (*number).into(),
            Default::Bool(value) => (*value).into(),
            Default::Map => Value::Object(Map::new()),
        }
    }
}

use self::Default::{Bool, EmptyText, Int, NonZero, Text};

/// Types without their `io.k8s.api.`.
#[rustfmt::skip] // one row a line reads as a table
pub const ROWS: &[(&str, &str, Default)] = &[
    ("core.v1.PodSpec", "dnsPolicy", Text("ClusterFirst")),
    ("core.v1.PodSpec", "restartPolicy", Text("Always")),
    ("core.v1.PodSpec", "schedulerName", Text("default-scheduler")),
    ("core.v1.PodSpec", "securityContext", Default::Map),
    ("core.v1.PodSpec", "terminationGracePeriodSeconds", Int(30)),
    ("core.v1.Container", "resources", Default::Map),
    ("core.v1.Container", "terminationMessagePath", Text("/dev/termination-log")),
    ("core.v1.Container", "terminationMessagePolicy", Text("File")),
    ("core.v1.EphemeralContainer", "resources", Default::Map),
    ("core.v1.EphemeralContainer", "terminationMessagePath", Text("/dev/termination-log")),
    ("core.v1.EphemeralContainer", "terminationMessagePolicy", Text("File")),
    ("core.v1.ContainerPort", "protocol", Text("TCP")),
    ("core.v1.Probe", "timeoutSeconds", NonZero(1)),
    ("core.v1.Probe", "periodSeconds", NonZero(10)),
    ("core.v1.Probe", "successThreshold", NonZero(1)),
    ("core.v1.Probe", "failureThreshold", NonZero(3)),
    ("core.v1.HTTPGetAction", "path", Text("/")),
    ("core.v1.HTTPGetAction", "scheme", Text("HTTP")),
    ("core.v1.GRPCAction", "service", EmptyText),
    ("core.v1.ObjectFieldSelector", "apiVersion", Text("v1")),
    ("core.v1.ResourceFieldSelector", "divisor", Text("0")),
    ("core.v1.SecretVolumeSource", "defaultMode", Int(0o644)),
    ("core.v1.ConfigMapVolumeSource", "defaultMode", Int(0o644)),
    ("core.v1.DownwardAPIVolumeSource", "defaultMode", Int(0o644)),
    ("core.v1.ProjectedVolumeSource", "defaultMode", Int(0o644)),
    ("core.v1.ServiceAccountTokenProjection", "expirationSeconds", Int(3600)),
    ("core.v1.HostPathVolumeSource", "type", EmptyText),
    ("core.v1.ISCSIVolumeSource", "iscsiInterface", Text("default")),
    ("core.v1.ISCSIPersistentVolumeSource", "iscsiInterface", Text("default")),
    ("core.v1.RBDVolumeSource", "pool", Text("rbd")),
    ("core.v1.RBDVolumeSource", "user", Text("admin")),
    ("core.v1.RBDVolumeSource", "keyring", Text("/etc/ceph/keyring")),
    ("core.v1.RBDPersistentVolumeSource", "pool", Text("rbd")),
    ("core.v1.RBDPersistentVolumeSource", "user", Text("admin")),
    ("core.v1.RBDPersistentVolumeSource", "keyring", Text("/etc/ceph/keyring")),
    ("core.v1.AzureDiskVolumeSource", "cachingMode", Text("ReadWrite")),
    ("core.v1.AzureDiskVolumeSource", "kind", Text("Shared")),
    ("core.v1.AzureDiskVolumeSource", "fsType", Text("ext4")),
    ("core.v1.AzureDiskVolumeSource", "readOnly", Bool(false)),
    ("core.v1.ScaleIOVolumeSource", "storageMode", Text("ThinProvisioned")),
    ("core.v1.ScaleIOVolumeSource", "fsType", Text("xfs")),
    ("core.v1.ScaleIOPersistentVolumeSource", "storageMode", Text("ThinProvisioned")),
    ("core.v1.ScaleIOPersistentVolumeSource", "fsType", Text("xfs")),
    ("core.v1.PersistentVolumeClaimSpec", "volumeMode", Text("Filesystem")),
    ("core.v1.PersistentVolumeClaim", "status", Default::Map),
    ("core.v1.PersistentVolumeClaimStatus", "phase", Text("Pending")),
    ("core.v1.PersistentVolume", "status", Default::Map),
    ("core.v1.PersistentVolumeStatus", "phase", Text("Pending")),
    ("core.v1.PersistentVolumeSpec", "persistentVolumeReclaimPolicy", Text("Retain")),
    ("core.v1.PersistentVolumeSpec", "volumeMode", Text("Filesystem")),
    ("core.v1.Service", "status", Default::Map),
    ("core.v1.ServiceStatus", "loadBalancer", Default::Map),
    ("core.v1.ServiceSpec", "sessionAffinity", Text("None")),
    ("core.v1.ServiceSpec", "type", Text("ClusterIP")),
    ("core.v1.ServicePort", "protocol", Text("TCP")),
    ("core.v1.ClientIPConfig", "timeoutSeconds", Int(10800)),
    ("core.v1.EndpointPort", "protocol", Text("TCP")),
    ("core.v1.Secret", "type", Text("Opaque")),
    ("core.v1.ReplicationControllerSpec", "replicas", Int(1)),
    ("apps.v1.DeploymentSpec", "replicas", Int(1)),
    ("apps.v1.DeploymentSpec", "strategy", Default::Map),
    ("apps.v1.DeploymentSpec", "revisionHistoryLimit", Int(10)),
    ("apps.v1.DeploymentSpec", "progressDeadlineSeconds", Int(600)),
    ("apps.v1.DeploymentStrategy", "type", Text("RollingUpdate")),
    ("apps.v1.RollingUpdateDeployment", "maxSurge", Text("25%")),
    ("apps.v1.RollingUpdateDeployment", "maxUnavailable", Text("25%")),
    ("apps.v1.ReplicaSetSpec", "replicas", Int(1)),
    ("apps.v1.StatefulSetSpec", "replicas", Int(1)),
    ("apps.v1.StatefulSetSpec", "podManagementPolicy", Text("OrderedReady")),
    ("apps.v1.StatefulSetSpec", "updateStrategy", Default::Map),
    ("apps.v1.StatefulSetSpec", "revisionHistoryLimit", Int(10)),
    ("apps.v1.StatefulSetSpec", "persistentVolumeClaimRetentionPolicy", Default::Map),
    ("apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy", "whenDeleted", Text("Retain")),
    ("apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy", "whenScaled", Text("Retain")),
    ("apps.v1.StatefulSetUpdateStrategy", "type", Text("RollingUpdate")),
    ("apps.v1.RollingUpdateStatefulSetStrategy", "partition", Int(0)),
    ("apps.v1.DaemonSetSpec", "updateStrategy", Default::Map),
    ("apps.v1.DaemonSetSpec", "revisionHistoryLimit", Int(10)),
    ("apps.v1.DaemonSetUpdateStrategy", "type", Text("RollingUpdate")),
    ("apps.v1.RollingUpdateDaemonSet", "maxUnavailable", Int(1)),
    ("apps.v1.RollingUpdateDaemonSet", "maxSurge", Int(0)),
    ("batch.v1.CronJobSpec", "concurrencyPolicy", Text("Allow")),
    ("batch.v1.CronJobSpec", "suspend", Bool(false)),
    ("batch.v1.CronJobSpec", "successfulJobsHistoryLimit", Int(3)),
    ("batch.v1.CronJobSpec", "failedJobsHistoryLimit", Int(1)),
    ("batch.v1.PodFailurePolicyOnPodConditionsPattern", "status", Text("True")),
    ("autoscaling.v1.HorizontalPodAutoscalerSpec", "minReplicas", Int(1)),
    ("autoscaling.v2.HorizontalPodAutoscalerSpec", "minReplicas", Int(1)),
    ("networking.v1.NetworkPolicyPort", "protocol", Text("TCP")),
    ("networking.v1.IngressClassParametersReference", "scope", Text("Cluster")),
    ("discovery.v1.EndpointPort", "name", EmptyText),
    ("discovery.v1.EndpointPort", "protocol", Text("TCP")),
    ("rbac.v1.RoleRef", "apiGroup", Text("rbac.authorization.k8s.io")),
    ("scheduling.v1.PriorityClass", "preemptionPolicy", Text("PreemptLowerPriority")),
    ("storage.v1.StorageClass", "reclaimPolicy", Text("Delete")),
    ("storage.v1.StorageClass", "volumeBindingMode", Text("Immediate")),
    ("storage.v1.CSIDriverSpec", "attachRequired", Bool(true)),
    ("storage.v1.CSIDriverSpec", "podInfoOnMount", Bool(false)),
    ("storage.v1.CSIDriverSpec", "storageCapacity", Bool(false)),
    ("storage.v1.CSIDriverSpec", "requiresRepublish", Bool(false)),
    ("storage.v1.CSIDriverSpec", "seLinuxMount", Bool(false)),
    ("storage.v1.CSIDriverSpec", "fsGroupPolicy", Text("ReadWriteOnceWithFSType")),
    ("authentication.v1.TokenRequestSpec", "expirationSeconds", Int(3600)),
];
