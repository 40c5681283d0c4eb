//! Values as upstream's internal types print themselves in errors.
//!
//! Owns their Go names, in Go's order: they have no tags, so all that is not set is printed, too.

use serde_json::Value;

/// How a field is printed.
pub enum Shape {
    /// A text, `""` if it is not set.
    Text,
    /// A number or a number or text, `0` if it is not set.
    Number,
    /// Anything behind a pointer, `null` if it is not set; types of the API have tags and print as they are.
    Any,
    /// Another type behind a pointer.
    Pointer(&'static [Field]),
    List(&'static [Field]),
}

use Shape::{Any, List, Number, Pointer, Text};

/// The name of a field in JSON and in Go.
pub type Field = (&'static str, &'static str, Shape);

pub const ROLE_REF: &[Field] = &[("apiGroup", "APIGroup", Text), ("kind", "Kind", Text), ("name", "Name", Text)];

pub const TAINT: &[Field] =
    &[("key", "Key", Text), ("value", "Value", Text), ("effect", "Effect", Text), ("timeAdded", "TimeAdded", Any)];

pub const TOLERATION: &[Field] = &[
    ("key", "Key", Text),
    ("operator", "Operator", Text),
    ("value", "Value", Text),
    ("effect", "Effect", Text),
    ("tolerationSeconds", "TolerationSeconds", Any),
];

pub const RESOURCE_CLAIM: &[Field] = &[
    ("name", "Name", Text),
    ("resourceClaimName", "ResourceClaimName", Any),
    ("resourceClaimTemplateName", "ResourceClaimTemplateName", Any),
];

pub const SERVICE_PORT: &[Field] = &[
    ("name", "Name", Text),
    ("protocol", "Protocol", Text),
    ("appProtocol", "AppProtocol", Any),
    ("port", "Port", Number),
    ("targetPort", "TargetPort", Number),
    ("nodePort", "NodePort", Number),
];

pub const SERVICE_CIDR: &[Field] = &[("cidrs", "CIDRs", Any)];

pub const ROLLING_UPDATE: &[Field] = &[("maxUnavailable", "MaxUnavailable", Number), ("maxSurge", "MaxSurge", Number)];

pub const STRATEGY: &[Field] = &[("type", "Type", Text), ("rollingUpdate", "RollingUpdate", Pointer(ROLLING_UPDATE))];

pub const STATEFUL_ROLLING_UPDATE: &[Field] =
    &[("partition", "Partition", Number), ("maxUnavailable", "MaxUnavailable", Any)];

pub const STATEFUL_STRATEGY: &[Field] =
    &[("type", "Type", Text), ("rollingUpdate", "RollingUpdate", Pointer(STATEFUL_ROLLING_UPDATE))];

pub const BUDGET: &[Field] = &[
    ("minAvailable", "MinAvailable", Any),
    ("selector", "Selector", Any),
    ("maxUnavailable", "MaxUnavailable", Any),
    ("unhealthyPodEvictionPolicy", "UnhealthyPodEvictionPolicy", Any),
];

const SUCCESS_RULE: &[Field] =
    &[("succeededIndexes", "SucceededIndexes", Any), ("succeededCount", "SucceededCount", Any)];

pub const SUCCESS_POLICY: &[Field] = &[("rules", "Rules", List(SUCCESS_RULE))];

const EXIT_CODES: &[Field] =
    &[("containerName", "ContainerName", Any), ("operator", "Operator", Text), ("values", "Values", Any)];

const CONDITION_PATTERN: &[Field] = &[("type", "Type", Text), ("status", "Status", Text)];

const FAILURE_RULE: &[Field] = &[
    ("action", "Action", Text),
    ("onExitCodes", "OnExitCodes", Pointer(EXIT_CODES)),
    ("onPodConditions", "OnPodConditions", List(CONDITION_PATTERN)),
];

pub const FAILURE_POLICY: &[Field] = &[("rules", "Rules", List(FAILURE_RULE))];

pub const PARENT_REF: &[Field] = &[
    ("group", "Group", Text),
    ("resource", "Resource", Text),
    ("namespace", "Namespace", Text),
    ("name", "Name", Text),
];

const ATTACHMENT_SOURCE: &[Field] =
    &[("persistentVolumeName", "PersistentVolumeName", Any), ("inlineVolumeSpec", "InlineVolumeSpec", Any)];

pub const ATTACHMENT: &[Field] =
    &[("attacher", "Attacher", Text), ("source", "Source", Pointer(ATTACHMENT_SOURCE)), ("nodeName", "NodeName", Text)];

pub const PROFILE: &[Field] = &[("type", "Type", Text), ("localhostProfile", "LocalhostProfile", Any)];

const CAPABILITIES: &[Field] = &[("add", "Add", Any), ("drop", "Drop", Any)];

const SE_LINUX_OPTIONS: &[Field] =
    &[("user", "User", Text), ("role", "Role", Text), ("type", "Type", Text), ("level", "Level", Text)];

const WINDOWS_OPTIONS: &[Field] = &[
    ("gmsaCredentialSpecName", "GMSACredentialSpecName", Any),
    ("gmsaCredentialSpec", "GMSACredentialSpec", Any),
    ("runAsUserName", "RunAsUserName", Any),
    ("hostProcess", "HostProcess", Any),
];

pub const SECURITY_CONTEXT: &[Field] = &[
    ("capabilities", "Capabilities", Pointer(CAPABILITIES)),
    ("privileged", "Privileged", Any),
    ("seLinuxOptions", "SELinuxOptions", Pointer(SE_LINUX_OPTIONS)),
    ("windowsOptions", "WindowsOptions", Pointer(WINDOWS_OPTIONS)),
    ("runAsUser", "RunAsUser", Any),
    ("runAsGroup", "RunAsGroup", Any),
    ("runAsNonRoot", "RunAsNonRoot", Any),
    ("readOnlyRootFilesystem", "ReadOnlyRootFilesystem", Any),
    ("allowPrivilegeEscalation", "AllowPrivilegeEscalation", Any),
    ("procMount", "ProcMount", Any),
    ("seccompProfile", "SeccompProfile", Pointer(PROFILE)),
    ("appArmorProfile", "AppArmorProfile", Pointer(PROFILE)),
];

const REQUIREMENT: &[Field] = &[("key", "Key", Text), ("operator", "Operator", Text), ("values", "Values", Any)];

pub const NODE_SELECTOR_TERM: &[Field] =
    &[("matchExpressions", "MatchExpressions", List(REQUIREMENT)), ("matchFields", "MatchFields", List(REQUIREMENT))];

const NODE_SELECTOR: &[Field] = &[("nodeSelectorTerms", "NodeSelectorTerms", List(NODE_SELECTOR_TERM))];

pub const VOLUME_AFFINITY: &[Field] = &[("required", "Required", Pointer(NODE_SELECTOR))];

/// The text of a value: one that is missing is behind a pointer.
pub fn shown(value: &Value, fields: &[Field]) -> String {
    if value.is_null() {
        return "null".to_owned();
    }
    let each = |(key, name, shape): &Field| format!("{name:?}:{}", field(&value[*key], shape));
    let all: Vec<String> = fields.iter().map(each).collect();
    format!("{{{}}}", all.join(","))
}

fn field(value: &Value, shape: &Shape) -> String {
    match (shape, value) {
        (Text, Value::Null) => "\"\"".to_owned(),
        (Number, Value::Null) => "0".to_owned(),
        (Pointer(fields), Value::Object(_)) => shown(value, fields),
        (List(fields), Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|item| shown(item, fields)).collect();
            format!("[{}]", items.join(","))
        }
        (Text | Number | Any | Pointer(_) | List(_), _) => value.to_string(),
    }
}
