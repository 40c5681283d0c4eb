//! What is filled in or looked at beyond an object itself when it is written: other objects, and who writes. The upstream
//! plug-ins are named in place.

use serde_json::{Value, json};
use skiff_object::kinds::{self, Kind};
use skiff_object::validate::FieldError;
use skiff_object::{default, meta, qos};
use skiff_store::{Entry, ListOptions, Store};

use crate::status::ApiError;
use crate::strategy::{Check, Mutation};
use crate::write::Write;
use crate::{Api, addresses, certificates, escalation, limit_ranges, own_ports, random};

const OVERHEAD_OF_NOTHING: &str = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
const TOKEN_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Upstream's life of a pod's token: an hour and a little.
const TOKEN_SECONDS: u32 = 3607;
const TOLERATION_SECONDS: u32 = 300;

impl<S: Store> Api<S> {
    pub(crate) async fn fill_in(
        &self,
        mutation: Mutation,
        write: &Write<'_>,
        object: &mut Value,
    ) -> Result<(), ApiError> {
        let (kind, namespace) = (write.kind, write.namespace);
        match mutation {
            Mutation::ServiceAccount => self.service_account(kind, namespace.unwrap_or("default"), object).await,
            Mutation::DefaultTolerations => {
                default_tolerations(object);
                Ok(())
            }
            Mutation::Priority => self.priority(kind, object).await,
            Mutation::RuntimeClass => self.runtime_class(kind, object).await,
            Mutation::LimitRanges => limit_ranges::fill_in(self, namespace, object).await,
            Mutation::QosClass => {
                object["status"]["qosClass"] = json!(qos::class(&object["spec"]));
                Ok(())
            }
            Mutation::Requestor => {
                certificates::set_requestor(write, object);
                Ok(())
            }
            Mutation::JobSelector => {
                default::generate_job_selector(object);
                Ok(())
            }
        }
    }

    /// The error is a refusal of the whole write; what is wrong with a field is among the answers.
    pub(crate) async fn check(
        &self,
        check: Check,
        write: &Write<'_>,
        new: &Value,
        old: Option<&Value>,
    ) -> Result<Vec<FieldError>, ApiError> {
        match check {
            Check::RoleEscalation => escalation::check_role(self, write, new, old).map(|()| Vec::new()),
            Check::BindingEscalation => escalation::check_binding(self, write, new, old).await.map(|()| Vec::new()),
            Check::NodeAddresses => addresses::check_node(self, write, new, old).await.map(|()| Vec::new()),
            Check::PodAddresses => addresses::check_pod(self, write, new, old).await.map(|()| Vec::new()),
            Check::EndpointAddresses => Ok(addresses::check_endpoints(write, new, old)),
            Check::ExternalAddresses => addresses::check_external(self, write, new, old).map(|()| Vec::new()),
            Check::PodLimits => limit_ranges::check_pod(self, write, new, old).await.map(|()| Vec::new()),
            Check::ClaimLimits => limit_ranges::check_claim(self, write, new, old).await.map(|()| Vec::new()),
            Check::Certificates => certificates::check(self, write, new, old),
            Check::HostPorts => Ok(own_ports::check_host_ports(self.config(), new, old)),
            Check::ServiceAddresses => Ok(own_ports::check_service(self.config(), new, old)),
        }
    }

    /// The objects of a kind in a namespace, in order of their names.
    pub(crate) async fn entries_of(&self, kind: &Kind, namespace: Option<&str>) -> Result<Vec<Entry>, ApiError> {
        let page = self.store().list(&kind.key_prefix(namespace), ListOptions::default()).await;
        page.map(|page| page.entries).map_err(|error| ApiError::from_store(error, kind, ""))
    }

    /// NamespaceLifecycle: nothing is made in a namespace that is not there or is going away.
    pub(crate) async fn namespace_lives(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<(), ApiError> {
        let Some(namespace) = namespace.filter(|_| kind.namespaced()) else { return Ok(()) };
        let namespaces = kinds::by_kind("v1", "Namespace").expect("a built-in kind");
        let found = self.require(namespaces, None, namespace).await?;
        if meta::deletion_timestamp(&found).is_some() {
            let why = format!("unable to create new content in namespace {namespace} because it is being terminated");
            return Err(ApiError::forbidden_object(kind, name, &why));
        }
        Ok(())
    }

    /// ServiceAccount: the pod runs as an account that exists, with a token that is bound to the pod.
    async fn service_account(&self, kind: &Kind, namespace: &str, pod: &mut Value) -> Result<(), ApiError> {
        if meta::annotation(pod, "kubernetes.io/config.mirror").is_some() {
            return Ok(());
        }
        let spec = meta::map_mut(&mut pod["spec"]);
        let asked = spec.get("serviceAccountName").and_then(Value::as_str).filter(|n| !n.is_empty());
        let name = asked.unwrap_or("default").to_owned();
        spec.insert("serviceAccountName".to_owned(), json!(name));
        spec.insert("serviceAccount".to_owned(), json!(name));
        let accounts = kinds::by_kind("v1", "ServiceAccount").expect("a built-in kind");
        let Some(account) = self.read(accounts, Some(namespace), &name).await? else {
            let why =
                format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
            return Err(ApiError::forbidden_object(kind, meta::name(pod), &why));
        };
        let spec = meta::map_mut(&mut pod["spec"]);
        let automount =
            spec.get("automountServiceAccountToken").or_else(|| account.get("automountServiceAccountToken"));
        if automount != Some(&json!(false)) {
            mount_token(spec);
        }
        if !spec.contains_key("imagePullSecrets")
            && let Some(secrets) = account.get("imagePullSecrets")
        {
            spec.insert("imagePullSecrets".to_owned(), secrets.clone());
        }
        Ok(())
    }

    /// Priority: the class becomes a number.
    async fn priority(&self, kind: &Kind, pod: &mut Value) -> Result<(), ApiError> {
        let name = meta::text_at(pod, &["spec", "priorityClassName"]).to_owned();
        let classes = kinds::by_kind("scheduling.k8s.io/v1", "PriorityClass").expect("a built-in kind");
        let class = if name.is_empty() {
            self.default_class(classes).await?
        } else {
            let why = || format!("no PriorityClass with name {name} was found");
            let class = self.read(classes, None, &name).await?;
            Some(class.ok_or_else(|| ApiError::forbidden_object(kind, meta::name(pod), &why()))?)
        };
        let value = class.as_ref().map_or(json!(0), |class| class["value"].clone());
        let policy = class.as_ref().and_then(|class| class.get("preemptionPolicy").cloned());
        let policy = policy.unwrap_or(json!("PreemptLowerPriority"));
        if let Some(class) = &class {
            pod["spec"]["priorityClassName"] = meta::name(class).into();
        }
        let given = pod["spec"].get("priority").filter(|given| !given.is_null() && **given != value);
        if let Some(given) = given {
            let why = format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller \
                 computed {value} from the given PriorityClass name"
            );
            return Err(ApiError::forbidden_object(kind, meta::name(pod), &why));
        }
        let given = pod["spec"].get("preemptionPolicy").filter(|given| !given.is_null() && **given != policy);
        if let Some(given) = given {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let why = format!(
                "the string value of PreemptionPolicy ({}) must not be provided in pod spec; priority admission \
                 controller computed {} from the given PriorityClass name",
                text(given),
                text(&policy)
            );
            return Err(ApiError::forbidden_object(kind, meta::name(pod), &why));
        }
        pod["spec"]["priority"] = value;
        pod["spec"]["preemptionPolicy"] = policy;
        Ok(())
    }

    /// That of pods that name none: of several, the lowest.
    async fn default_class(&self, classes: &Kind) -> Result<Option<Value>, ApiError> {
        let all = self.entries_of(classes, None).await?.into_iter().map(|entry| crate::codec::decode(&entry));
        let defaults = all.filter(|class| class.get("globalDefault") == Some(&json!(true)));
        Ok(defaults.min_by_key(|class| class["value"].as_i64()))
    }

    /// RuntimeClass: it is there, and what it takes and where it is counts with the pod.
    async fn runtime_class(&self, kind: &Kind, pod: &mut Value) -> Result<(), ApiError> {
        let name = meta::text_at(pod, &["spec", "runtimeClassName"]).to_owned();
        let given =
            pod["spec"].get("overhead").cloned().filter(|given| given.as_object().is_some_and(|o| !o.is_empty()));
        let refuse = |pod: &Value, why: &str| Err(ApiError::forbidden_object(kind, meta::name(pod), why));
        if name.is_empty() {
            return if given.is_some() { refuse(pod, OVERHEAD_OF_NOTHING) } else { Ok(()) };
        }
        let classes = kinds::by_kind("node.k8s.io/v1", "RuntimeClass").expect("a built-in kind");
        let Some(class) = self.read(classes, None, &name).await? else {
            return refuse(pod, &format!("pod rejected: RuntimeClass {name:?} not found"));
        };
        let overhead = meta::at(&class, &["overhead", "podFixed"]).cloned().filter(|overhead| overhead.is_object());
        match (&overhead, &given) {
            (Some(overhead), Some(given)) if overhead != given => {
                return refuse(pod, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
            }
            (None, Some(_)) => return refuse(pod, OVERHEAD_OF_NOTHING),
            (Some(overhead), _) => pod["spec"]["overhead"] = overhead.clone(),
            (None, None) => {}
        }
        let selector = meta::at(&class, &["scheduling", "nodeSelector"]).and_then(Value::as_object);
        for (key, value) in selector.into_iter().flatten() {
            let own = meta::at(pod, &["spec", "nodeSelector", key]);
            if own.is_some_and(|own| own != value) {
                let why =
                    format!("conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; the pod has another");
                return refuse(pod, &why);
            }
            pod["spec"]["nodeSelector"][key] = value.clone();
        }
        for toleration in meta::items(meta::at(&class, &["scheduling", "tolerations"])) {
            if !meta::items(meta::at(pod, &["spec", "tolerations"])).contains(toleration) {
                push(&mut pod["spec"], "tolerations", toleration.clone());
            }
        }
        Ok(())
    }
}

fn mount_token(spec: &mut serde_json::Map<String, Value>) {
    let mounted =
        |container: &Value| meta::items(container.get("volumeMounts")).iter().any(|m| m["mountPath"] == TOKEN_MOUNT);
    let lists = ["initContainers", "containers"];
    let unmounted = lists.iter().any(|list| meta::items(spec.get(*list)).iter().any(|c| !mounted(c)));
    if !unmounted {
        return;
    }
    let name = format!("kube-api-access-{}", random::suffix());
    for list in lists {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if !mounted(container) {
                push(container, "volumeMounts", json!({"name": name, "readOnly": true, "mountPath": TOKEN_MOUNT}));
            }
        }
    }
    let volume = json!({
        "name": name,
        "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]},
    });
    match spec.get_mut("volumes").and_then(Value::as_array_mut) {
        Some(volumes) => volumes.push(volume),
        None => drop(spec.insert("volumes".to_owned(), json!([volume]))),
    }
}

fn push(object: &mut Value, list: &str, item: Value) {
    match object.get_mut(list).and_then(Value::as_array_mut) {
        Some(items) => items.push(item),
        None => object[list] = json!([item]),
    }
}

/// DefaultTolerationSeconds: a pod leaves a node that is gone for five minutes.
fn default_tolerations(pod: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerations = meta::items(meta::at(pod, &["spec", "tolerations"]));
        let covers = |t: &Value| {
            let any_key = t.get("key").is_none_or(|k| k == "" || k == key);
            let any_effect = t.get("effect").is_none_or(|e| e == "" || e == "NoExecute");
            any_key && any_effect
        };
        if !tolerations.iter().any(covers) {
            let toleration = json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS});
            push(&mut pod["spec"], "tolerations", toleration);
        }
    }
}
