//! From Kubernetes' protobuf to the JSON that everything here works on, by the schema's field numbers.
//!
//! Clients that speak protobuf send it for every built-in kind. Fields newer than the table are passed over, as
//! protobuf does. The other direction is [`encode`].

pub mod encode;
mod schemas;
pub(crate) mod wire;

use serde_json::{Map, Number, Value};

use crate::kinds::Kind;
use crate::schema::{Field, Named, Ty};
use schemas::OneOf;

/// Before every object that is stored or sent (`k8s` and a zero byte).
const MAGIC: &[u8] = b"k8s\0";
/// Deeper nesting than any object has is an attack on the stack.
const DEPTH_MAX: usize = 64;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProtobufError {
    #[error("the body is not Kubernetes protobuf: it does not begin with \"k8s\\0\"")]
    Magic,
    #[error("the protobuf body ends in the middle of a field")]
    Truncated,
    #[error("the protobuf body has a field of a type that does not fit")]
    WireType,
    #[error("the protobuf body is nested too deeply")]
    Depth,
    #[error("the protobuf body has a text that is not UTF-8")]
    Text,
}

/// The object in a request's body, with the `apiVersion` and `kind` it came with.
pub fn decode(kind: &Kind, body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
    let (mut api_version, mut kind_name, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields(envelope) {
        match field? {
            (1, Wire::Bytes(type_meta)) => {
                for field in Fields(type_meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => api_version = string(text)?,
                        (2, Wire::Bytes(text)) => kind_name = string(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let ty = kind.ty().named().ok_or(ProtobufError::WireType)?;
    let mut object = message(ty, raw, 0)?;
    for (field, text) in [("apiVersion", api_version), ("kind", kind_name)] {
        if !text.is_empty() {
            object.insert(field.to_owned(), Value::String(text));
        }
    }
    Ok(Value::Object(object))
}

/// A field as it is on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A fixed64: only doubles have it here.
    Double(f64),
}

struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Wire<'a>), ProtobufError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Wire<'a>), ProtobufError> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| ProtobufError::WireType)?;
        let wire = match key & 7 {
            0 => Wire::Number(self.varint()?),
            1 => {
                let bytes = <[u8; 8]>::try_from(self.take(8)?).map_err(|_| ProtobufError::Truncated)?;
                Wire::Double(f64::from_le_bytes(bytes))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Truncated)?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                let bytes = <[u8; 4]>::try_from(self.take(4)?).map_err(|_| ProtobufError::Truncated)?;
                Wire::Number(u64::from(u32::from_le_bytes(bytes)))
            }
            _ => return Err(ProtobufError::WireType),
        };
        Ok((number, wire))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(ProtobufError::Truncated)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::WireType)
    }
}

fn string(bytes: &[u8]) -> Result<String, ProtobufError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| ProtobufError::Text)
}

fn message(ty: Named, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, ProtobufError> {
    let mut object = Map::new();
    fill(&mut object, ty, 0, bytes, depth)?;
    Ok(object)
}

/// Puts the fields of a message into the object: all of its own (`holder` is 0), or those that JSON has inline from the
/// message at the end of that path.
fn fill(
    object: &mut Map<String, Value>,
    ty: Named,
    holder: u16,
    bytes: &[u8],
    depth: usize,
) -> Result<(), ProtobufError> {
    if depth > DEPTH_MAX {
        return Err(ProtobufError::Depth);
    }
    let fields: Vec<Field> = ty.fields().collect();
    for field in Fields(bytes) {
        let (number, wire) = field?;
        let is_it = |field: &&Field| field.tag.0 == holder && u32::from(field.tag.1) == number;
        if let Some(field) = fields.iter().find(is_it) {
            let Some(one_of) = OneOf::of(ty, field.name) else {
                add(object, ty, field, wire, depth)?;
                continue;
            };
            let Wire::Bytes(inner) = wire else { return Err(ProtobufError::WireType) };
            one_of.read(object, field.name, ty, inner, depth + 1)?;
        } else if let (Some(within), Wire::Bytes(inner)) = (within(holder, number), wire)
            && fields.iter().any(|field| field.tag.0 == within || (holder == 0 && field.tag.0 & 0xff == within))
        {
            fill(object, ty, within, inner, depth + 1)?;
        }
    }
    Ok(())
}

/// The path to a message in another, as the table has it: the outer one's number is the lower byte.
fn within(holder: u16, number: u32) -> Option<u16> {
    let number = u16::from(u8::try_from(number).ok().filter(|number| *number != 0)?);
    match holder {
        0 => Some(number),
        outer if outer < 0x100 => Some(outer | number << 8),
        _ => None,
    }
}

fn add(
    object: &mut Map<String, Value>,
    owner: Named,
    field: &Field,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), ProtobufError> {
    let (name, ty) = (field.name, field.ty);
    match ty {
        Ty::List(item) => {
            let value = value(item.ty(), wire, depth)?;
            if let Value::Array(items) = object.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                items.push(value);
            }
        }
        Ty::Map(item) => {
            let Wire::Bytes(entry) = wire else { return Err(ProtobufError::WireType) };
            let (key, value) = map_entry(item.ty(), entry, depth)?;
            if let Value::Object(map) = object.entry(name).or_insert_with(|| Value::Object(Map::new())) {
                map.insert(key, value);
            }
        }
        Ty::String
        | Ty::Int32
        | Ty::Int64
        | Ty::Bool
        | Ty::Double
        | Ty::IntOrString
        | Ty::Quantity
        | Ty::DateTime
        | Ty::MicroTime
        | Ty::Bytes
        | Ty::Any
        | Ty::Ref(_) => {
            let value = value(ty, wire, depth)?;
            if !is_unset(owner, field, &value) {
                object.insert(name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// Numbers and flags that Go holds by value and leaves out of JSON where they are zero: to it, zero is the same as none.
/// Sorted.
const BY_VALUE: &[&str] = &[
    "active",
    "authenticated",
    "availableReplicas",
    "chapAuthDiscovery",
    "chapAuthSession",
    "code",
    "containerPort",
    "count",
    "currentReplicas",
    "denied",
    "deprecated",
    "deprecatedCount",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "failed",
    "failureThreshold",
    "fullyLabeledReplicas",
    "generation",
    "globalDefault",
    "healthCheckNodePort",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "initialDelaySeconds",
    "minReadySeconds",
    "nodePort",
    "nullable",
    "number",
    "numberAvailable",
    "numberUnavailable",
    "observedGeneration",
    "partition",
    "paused",
    "periodSeconds",
    "preserveUnknownFields",
    "priority",
    "publishNotReadyAddresses",
    "readOnly",
    "readyReplicas",
    "replicas",
    "retryAfterSeconds",
    "signal",
    "sizeBytes",
    "sslEnabled",
    "stdin",
    "stdinOnce",
    "succeeded",
    "successThreshold",
    "timeoutSeconds",
    "tty",
    "unavailableReplicas",
    "uniqueItems",
    "unschedulable",
    "updatedNumberScheduled",
    "updatedReplicas",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
];

/// Those of the same names that Go holds by pointer: it sends them only when they are set, and their zero means
/// something.
const BY_POINTER: &[(&str, &str)] = &[
    ("AzureDiskVolumeSource", "readOnly"),
    ("CSIVolumeSource", "readOnly"),
    ("ClientIPConfig", "timeoutSeconds"),
    ("DeploymentSpec", "replicas"),
    ("HorizontalPodAutoscalerStatus", "observedGeneration"),
    ("MutatingWebhook", "timeoutSeconds"),
    ("PodSpec", "priority"),
    ("ReplicaSetSpec", "replicas"),
    ("ReplicationControllerSpec", "replicas"),
    ("RollingUpdateStatefulSetStrategy", "partition"),
    ("StatefulSetSpec", "replicas"),
    ("ValidatingWebhook", "timeoutSeconds"),
    ("VolumeNodeResources", "count"),
];

/// Texts that Go holds by pointer and whose being empty means something: no class of storage, a port without a name, a
/// lease that was given up, the core group.
const TEXT_BY_POINTER: &[(&str, &str)] = &[
    ("io.k8s.api.coordination.v1.LeaseSpec", "holderIdentity"),
    ("io.k8s.api.core.v1.GRPCAction", "service"),
    ("io.k8s.api.core.v1.PersistentVolumeClaimSpec", "storageClassName"),
    ("io.k8s.api.core.v1.PersistentVolumeClaimSpec", "volumeAttributesClassName"),
    ("io.k8s.api.core.v1.PodDNSConfigOption", "value"),
    ("io.k8s.api.core.v1.PodSpec", "runtimeClassName"),
    ("io.k8s.api.core.v1.TypedLocalObjectReference", "apiGroup"),
    ("io.k8s.api.core.v1.TypedObjectReference", "apiGroup"),
    ("io.k8s.api.discovery.v1.EndpointPort", "name"),
];

/// Go writes every field that it holds by value, also the empty ones that JSON leaves out; what is required is in both.
fn is_unset(owner: Named, field: &Field, value: &Value) -> bool {
    let name = field.name;
    let is_by_value =
        || !field.required && BY_VALUE.binary_search(&name).is_ok() && !BY_POINTER.contains(&(owner.go_name(), name));
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty() && !field.required && !TEXT_BY_POINTER.contains(&(owner.name(), name)),
        Value::Bool(false) => is_by_value(),
        Value::Number(number) => number.as_i64() == Some(0) && is_by_value(),
        Value::Bool(true) | Value::Array(_) | Value::Object(_) => false,
    }
}

fn map_entry(item: Ty, entry: &[u8], depth: usize) -> Result<(String, Value), ProtobufError> {
    let (mut key, mut found) = (String::new(), None);
    for field in Fields(entry) {
        match field? {
            (1, Wire::Bytes(text)) => key = string(text)?,
            (2, wire) => found = Some(value(item, wire, depth + 1)?),
            _ => {}
        }
    }
    let empty = if matches!(item, Ty::String | Ty::Bytes) { Value::String(String::new()) } else { Value::Null };
    Ok((key, found.unwrap_or(empty)))
}

fn value(ty: Ty, wire: Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
    match (ty, wire) {
        (Ty::String, Wire::Bytes(text)) => Ok(Value::String(string(text)?)),
        // Two's complement in 64 bits, whatever the width.
        (Ty::Int32 | Ty::Int64, Wire::Number(number)) => Ok(Value::from(number as i64)),
        (Ty::Bool, Wire::Number(number)) => Ok(Value::Bool(number != 0)),
        (Ty::Double, Wire::Double(number)) => Ok(double(number)),
        (Ty::Bytes, Wire::Bytes(bytes)) => Ok(Value::String(crate::base64::encode(bytes))),
        (Ty::Quantity, Wire::Bytes(bytes)) => first_text(bytes, 1),
        (Ty::DateTime | Ty::MicroTime, Wire::Bytes(bytes)) => time(ty, bytes),
        (Ty::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes),
        (Ty::Any, Wire::Bytes(bytes)) => free_form(bytes),
        (Ty::Ref(named), Wire::Bytes(bytes)) => message(named, bytes, depth + 1).map(Value::Object),
        // A list as the value of a map is a message that holds it.
        (Ty::List(item), Wire::Bytes(bytes)) => {
            let mut items = Vec::new();
            for field in Fields(bytes) {
                let (_, wire) = field?;
                items.push(value(item.ty(), wire, depth + 1)?);
            }
            Ok(Value::Array(items))
        }
        (
            Ty::String
            | Ty::Int32
            | Ty::Int64
            | Ty::Bool
            | Ty::Double
            | Ty::IntOrString
            | Ty::Quantity
            | Ty::DateTime
            | Ty::MicroTime
            | Ty::Bytes
            | Ty::Any
            | Ty::Map(_)
            | Ty::List(_)
            | Ty::Ref(_),
            Wire::Number(_) | Wire::Bytes(_) | Wire::Double(_),
        ) => Err(ProtobufError::WireType),
    }
}

/// As Go writes it in JSON: a whole number has no decimals.
fn double(number: f64) -> Value {
    /// Beyond this a double no longer holds every integer.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

fn first_text(bytes: &[u8], wanted: u32) -> Result<Value, ProtobufError> {
    for field in Fields(bytes) {
        if let (number, Wire::Bytes(text)) = field?
            && number == wanted
        {
            return Ok(Value::String(string(text)?));
        }
    }
    Ok(Value::Null)
}

/// `{type: 0 int, 1 string; intVal; strVal}`.
fn int_or_string(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = value as i64,
            (3, Wire::Bytes(value)) => text = string(value)?,
            _ => {}
        }
    }
    Ok(if is_text { Value::String(text) } else { Value::from(number) })
}

fn time(ty: Ty, bytes: &[u8]) -> Result<Value, ProtobufError> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields(bytes) {
        match field? {
            (1, Wire::Number(value)) => seconds = value as i64,
            (2, Wire::Number(value)) => nanos = value as i32,
            _ => {}
        }
    }
    // Go's zero time is sent as nothing at all.
    const UNSET: i64 = -62_135_596_800;
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let Ok(at) = jiff::Timestamp::new(seconds, nanos.clamp(0, 999_999_999)) else { return Ok(Value::Null) };
    if seconds == UNSET {
        return Ok(Value::Null);
    }
    let form = if matches!(ty, Ty::MicroTime) { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(Value::String(at.strftime(form).to_string()))
}

/// JSON inside protobuf; what is not JSON is left out.
fn free_form(bytes: &[u8]) -> Result<Value, ProtobufError> {
    for field in Fields(bytes) {
        if let (1, Wire::Bytes(raw)) = field? {
            return Ok(serde_json::from_slice(raw).unwrap_or(Value::Null));
        }
    }
    Ok(Value::Null)
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
