//! A container's environment: literals, `$(VAR)` references, values from ConfigMaps, Secrets, the pod's fields and its
//! resources, and the variables that name the services of its namespace.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    Container, EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, Pod, ResourceFieldSelector, Service,
};

use crate::objects::{Lack, Missing, ObjectError, ObjectKind, Objects};
use crate::resources::{Amounts, parse_milli};

#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}", kind = kind_name(*kind))]
    MissingKey { kind: ObjectKind, namespace: String, name: String, key: String },
    #[error("fieldPath \"{path}\" is not supported")]
    FieldPath { path: String },
    #[error("unsupported container resource \"{resource}\"")]
    Resource { resource: String },
}

impl EnvError {
    pub fn missing(&self) -> Option<Missing> {
        match self {
            EnvError::Object(error) => error.missing(),
            EnvError::MissingKey { kind, name, .. } => {
                Some(Missing { kind: *kind, name: name.clone(), what: Lack::Key })
            }
            EnvError::FieldPath { .. } | EnvError::Resource { .. } => None,
        }
    }
}

fn kind_name(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::ConfigMap => "ConfigMap",
        ObjectKind::Secret => "Secret",
    }
}

/// What the values may refer to besides the pod's spec.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub node_name: String,
    pub host_ips: Vec<IpAddr>,
    pub pod_ips: Vec<IpAddr>,
    /// What a container without a limit may use.
    pub allocatable: Amounts,
}

/// All variables, in the order in which the runtime gets them.
pub async fn render(
    objects: &Objects,
    pod: &Pod,
    container: &Container,
    facts: &Facts,
    services: &[(String, String)],
) -> Result<Vec<(String, String)>, EnvError> {
    let mut vars = Vars::default();
    for (name, value) in services {
        vars.set(name, value.clone());
    }
    for source in container.env_from.iter().flatten() {
        env_from(objects, pod, source, &mut vars).await?;
    }
    for var in container.env.iter().flatten() {
        if let Some(value) = value(objects, pod, container, facts, var, &vars).await? {
            vars.set(&var.name, value);
        }
    }
    Ok(vars.list)
}

/// Variables by name that keep the order in which they first came.
#[derive(Debug, Default)]
struct Vars {
    list: Vec<(String, String)>,
    index: BTreeMap<String, usize>,
}

impl Vars {
    fn set(&mut self, name: &str, value: String) {
        match self.index.get(name) {
            Some(at) => self.list[*at].1 = value,
            None => {
                self.index.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.index.get(name).map(|at| self.list[*at].1.as_str())
    }
}

async fn env_from(objects: &Objects, pod: &Pod, source: &EnvFromSource, vars: &mut Vars) -> Result<(), EnvError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let (kind, name, optional) = match (&source.config_map_ref, &source.secret_ref) {
        (Some(reference), _) => (ObjectKind::ConfigMap, &reference.name, reference.optional),
        (None, Some(reference)) => (ObjectKind::Secret, &reference.name, reference.optional),
        (None, None) => return Ok(()),
    };
    let Some(data) = objects.find(kind, namespace, name).await? else {
        return match optional {
            Some(true) => Ok(()),
            _ => Err(ObjectError::Missing { kind, name: name.clone() }.into()),
        };
    };
    for (key, value) in &data.entries {
        vars.set(&format!("{prefix}{key}"), String::from_utf8_lossy(value).into_owned());
    }
    Ok(())
}

/// `None` when an optional source does not exist: then the variable is not set.
async fn value(
    objects: &Objects,
    pod: &Pod,
    container: &Container,
    facts: &Facts,
    var: &EnvVar,
    vars: &Vars,
) -> Result<Option<String>, EnvError> {
    let Some(source) = &var.value_from else {
        let raw = var.value.as_deref().unwrap_or_default();
        return Ok(Some(expand(raw, |name| vars.get(name).map(str::to_owned))));
    };
    let EnvVarSource { config_map_key_ref, secret_key_ref, field_ref, resource_field_ref, .. } = source;
    if let Some(reference) = config_map_key_ref {
        let at = (ObjectKind::ConfigMap, reference.name.as_str(), reference.key.as_str());
        return object_key(objects, pod, at, reference.optional == Some(true)).await;
    }
    if let Some(reference) = secret_key_ref {
        let at = (ObjectKind::Secret, reference.name.as_str(), reference.key.as_str());
        return object_key(objects, pod, at, reference.optional == Some(true)).await;
    }
    if let Some(selector) = field_ref {
        return field(pod, facts, selector).map(Some);
    }
    if let Some(selector) = resource_field_ref {
        return resource(pod, container, facts.allocatable, selector).map(Some);
    }
    Ok(None)
}

async fn object_key(
    objects: &Objects,
    pod: &Pod,
    (kind, name, key): (ObjectKind, &str, &str),
    optional: bool,
) -> Result<Option<String>, EnvError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let data = match objects.find(kind, namespace, name).await? {
        Some(data) => data,
        None if optional => return Ok(None),
        None => return Err(ObjectError::Missing { kind, name: name.to_owned() }.into()),
    };
    match data.entries.get(key) {
        Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        None if optional => Ok(None),
        None => Err(EnvError::MissingKey {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
        }),
    }
}

/// A field of the pod, for `fieldRef` in variables and in downward volumes.
pub fn field(pod: &Pod, facts: &Facts, selector: &ObjectFieldSelector) -> Result<String, EnvError> {
    let path = selector.field_path.as_str();
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let own = |text: Option<&String>| text.cloned().unwrap_or_default();
    let join = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    let first = |ips: &[IpAddr]| ips.first().map(IpAddr::to_string).unwrap_or_default();
    if let Some((map, key)) = path.split_once('[').and_then(|(map, rest)| Some((map, rest.strip_suffix(']')?))) {
        let key = key.trim_matches(['\'', '"']);
        return match map {
            "metadata.labels" => Ok(own(meta.labels.as_ref().and_then(|labels| labels.get(key)))),
            "metadata.annotations" => Ok(own(meta.annotations.as_ref().and_then(|all| all.get(key)))),
            _ => Err(EnvError::FieldPath { path: path.to_owned() }),
        };
    }
    Ok(match path {
        "metadata.name" => own(meta.name.as_ref()),
        "metadata.namespace" => own(meta.namespace.as_ref()),
        "metadata.uid" => own(meta.uid.as_ref()),
        "metadata.labels" => map_text(meta.labels.as_ref()),
        "metadata.annotations" => map_text(meta.annotations.as_ref()),
        "spec.nodeName" => facts.node_name.clone(),
        "spec.serviceAccountName" => own(spec.and_then(|spec| spec.service_account_name.as_ref())),
        "status.hostIP" => first(&facts.host_ips),
        "status.hostIPs" => join(&facts.host_ips),
        "status.podIP" => first(&facts.pod_ips),
        "status.podIPs" => join(&facts.pod_ips),
        _ => return Err(EnvError::FieldPath { path: path.to_owned() }),
    })
}

/// One `key="value"` a line, as upstream writes labels into a volume.
fn map_text(map: Option<&BTreeMap<String, String>>) -> String {
    let lines = map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// A request or limit in units of the divisor, rounded up, for `resourceFieldRef`.
pub fn resource(
    pod: &Pod,
    container: &Container,
    allocatable: Amounts,
    selector: &ResourceFieldSelector,
) -> Result<String, EnvError> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let all = pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let container = named.and_then(|name| all.into_iter().find(|c| c.name == name)).unwrap_or(container);
    let (requests, limits) = (Amounts::requests(container), Amounts::limits(container));
    let milli_of_bytes = |bytes: Option<u64>| bytes.map(|bytes| i128::from(bytes) * 1000);
    let milli = match selector.resource.as_str() {
        "limits.cpu" => limits.cpu_milli.or(allocatable.cpu_milli).map(i128::from),
        "requests.cpu" => requests.cpu_milli.map(i128::from),
        "limits.memory" => milli_of_bytes(limits.memory_bytes.or(allocatable.memory_bytes)),
        "requests.memory" => milli_of_bytes(requests.memory_bytes),
        other if other.ends_with("ephemeral-storage") => None,
        other => return Err(EnvError::Resource { resource: other.to_owned() }),
    };
    let divisor = selector.divisor.as_ref().and_then(|divisor| parse_milli(&divisor.0)).filter(|d| *d > 0);
    let divisor = i128::from(divisor.unwrap_or(1000));
    let milli = milli.unwrap_or(0);
    Ok((milli / divisor + i128::from(milli % divisor != 0)).to_string())
}

/// Replaces `$(NAME)` by its value; an unknown name stays as it is, and `$$` stands for one dollar sign.
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let reference = rest.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        match reference {
            Some((name, after)) => {
                match lookup(name) {
                    Some(value) => out.push_str(&value),
                    None => out.push_str(&format!("$({name})")),
                }
                rest = after;
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
    out
}

/// `{NAME}_SERVICE_HOST` and its like for one service with an address.
pub fn service_vars(service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else {
        return Vec::new();
    };
    let Some(ports) = spec.ports.as_deref().filter(|ports| !ports.is_empty()) else { return Vec::new() };
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let upper = |text: &str| text.to_uppercase().replace('-', "_");
    let base = upper(service.metadata.name.as_deref().unwrap_or_default());
    let mut vars = vec![
        (format!("{base}_SERVICE_HOST"), ip.to_owned()),
        (format!("{base}_SERVICE_PORT"), ports[0].port.to_string()),
    ];
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            vars.push((format!("{base}_SERVICE_PORT_{}", upper(name)), port.port.to_string()));
        }
    }
    for (at, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if at == 0 {
            vars.push((format!("{base}_PORT"), url.clone()));
        }
        let prefix = format!("{base}_PORT_{}_{}", port.port, protocol.to_uppercase());
        vars.push((prefix.clone(), url));
        vars.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        vars.push((format!("{prefix}_PORT"), port.port.to_string()));
        vars.push((format!("{prefix}_ADDR"), ip.to_owned()));
    }
    vars
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_expanded_as_upstream_does() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, result) in [
            ("x$(A)y", "x1y"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("a$$$(A)", "a$1"),
        ] {
            assert_eq!(expand(text, lookup), result, "{text}");
        }
    }

    #[test]
    fn services_become_variables() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "my-db"},
            "spec": {"clusterIP": "10.0.0.5", "ports": [{"name": "sql", "port": 5432}]},
        }))
        .unwrap();
        let vars = service_vars(&service);
        assert!(vars.contains(&("MY_DB_SERVICE_PORT_SQL".into(), "5432".into())));
        assert!(vars.contains(&("MY_DB_PORT_5432_TCP".into(), "tcp://10.0.0.5:5432".into())));
        let headless: Service = serde_json::from_value(json!({"spec": {"clusterIP": "None"}})).unwrap();
        assert!(service_vars(&headless).is_empty());
    }

    #[test]
    fn fields_and_resources() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "labels": {"a": "b", "c": "d"}},
            "spec": {"containers": [{"name": "x", "resources": {"limits": {"cpu": "1500m", "memory": "1Mi"}}}]},
        }))
        .unwrap();
        let of = |path: &str| {
            field(&pod, &Facts::default(), &ObjectFieldSelector { field_path: path.into(), ..Default::default() })
        };
        assert_eq!(of("metadata.labels['c']").unwrap(), "d");
        assert_eq!(of("metadata.labels").unwrap(), "a=\"b\"\nc=\"d\"");
        assert!(of("spec.containers").is_err());
        let container = &pod.spec.as_ref().unwrap().containers[0];
        let amount = |name: &str| {
            let selector = ResourceFieldSelector { resource: name.into(), ..Default::default() };
            resource(&pod, container, Amounts::default(), &selector).unwrap()
        };
        assert_eq!(amount("limits.cpu"), "2");
        assert_eq!(amount("limits.memory"), "1048576");
    }
}
