//! The node object: pure, from the settings, the machine and the runtime.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeSpec};
use serde_json::{Value, json};
use skiff_cri::Runtime;
use skiff_object::quantity::{Format, Quantity};

use crate::context::Context;
use crate::machine::Disk;
use crate::pressure::Pressure;

/// Image names in the node's status; more would only make the object large.
const IMAGES_MAX: usize = 50;
const IMAGE_NAMES_MAX: usize = 5;

/// What the runtime says about itself.
#[derive(Clone, Debug, Default)]
pub(super) struct RuntimeFacts {
    version: String,
    /// Why pods cannot run, if so.
    trouble: Option<String>,
    images: Vec<Value>,
}

impl RuntimeFacts {
    pub(super) fn is_ready(&self) -> bool {
        self.trouble.is_none()
    }

    /// What the machine lacks says more than what the runtime makes of it.
    pub(super) fn lacking(mut self, lacks: Option<&str>) -> Self {
        self.trouble = lacks.map(str::to_owned).or(self.trouble);
        self
    }

    pub(super) async fn observe(runtime: &dyn Runtime) -> Self {
        let mut facts = Self::default();
        match futures::try_join!(runtime.version(), runtime.status(), runtime.list_images()) {
            Ok((version, status, mut images)) => {
                let number = version.runtime_version.trim_start_matches('v').to_owned();
                facts.version = format!("{}://{number}", version.runtime_name);
                let bad = status.conditions.iter().find(|condition| !condition.status);
                facts.trouble = bad.map(|c| match c.r#type.as_str() {
                    "NetworkReady" => format!(
                        "container runtime network not ready: NetworkReady=false reason:{} message:{}",
                        c.reason, c.message
                    ),
                    kind => format!("container runtime status check: {kind} is false: {}", c.message),
                });
                images.sort_by_key(|image| (std::cmp::Reverse(image.size), image.id.clone()));
                let listed = images.iter().take(IMAGES_MAX).map(|image| {
                    let names = image.repo_digests.iter().chain(&image.repo_tags).take(IMAGE_NAMES_MAX);
                    json!({"names": names.collect::<Vec<_>>(), "sizeBytes": image.size})
                });
                facts.images = listed.collect();
            }
            Err(error) => facts.trouble = Some(format!("container runtime is down: {error}")),
        }
        facts
    }
}

pub(super) fn labels(context: &Context) -> BTreeMap<String, String> {
    let config = &context.config;
    let arch = arch();
    let mut labels = BTreeMap::from([
        ("kubernetes.io/hostname".to_owned(), config.node_name.clone()),
        ("kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("kubernetes.io/arch".to_owned(), arch.to_owned()),
        ("beta.kubernetes.io/os".to_owned(), "linux".to_owned()),
        ("beta.kubernetes.io/arch".to_owned(), arch.to_owned()),
    ]);
    labels.extend(config.labels.clone());
    labels
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(super) fn node(context: &Context) -> Node {
    let cidr = context.config.pod_cidr.clone();
    let mut node = Node {
        spec: Some(NodeSpec { pod_cidrs: cidr.clone().map(|cidr| vec![cidr]), pod_cidr: cidr, ..NodeSpec::default() }),
        ..Node::default()
    };
    node.metadata.name = Some(context.config.node_name.clone());
    node.metadata.labels = Some(labels(context));
    node
}

/// All of the status that is ours, without the conditions.
pub(super) fn status(context: &Context, runtime: &RuntimeFacts) -> Value {
    let (config, machine) = (&context.config, &context.machine);
    let internal = config.node_ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}));
    let hostname = json!({"type": "Hostname", "address": config.node_name});
    let disk = Disk::observe(&config.data_dir).unwrap_or_default();
    // As the API writes them: in another form they would look changed each time.
    let bytes = |bytes: u64| Quantity::from_value((bytes / 1024 * 1024).cast_signed(), Format::BinarySi).to_string();
    let amounts = |cpu_milli: u64, memory_bytes: u64| {
        json!({
            "cpu": Quantity::from_milli(cpu_milli.cast_signed(), Format::DecimalSi).to_string(),
            "memory": bytes(memory_bytes),
            "pods": config.max_pods.to_string(),
            "ephemeral-storage": bytes(disk.bytes),
        })
    };
    let cpu = machine.cpus * 1000;
    let reserved_memory = config.reserved_memory_bytes.min(machine.memory_bytes);
    json!({
        "addresses": internal.chain([hostname]).collect::<Vec<_>>(),
        "capacity": amounts(cpu, machine.memory_bytes),
        "allocatable": amounts(cpu.saturating_sub(config.reserved_cpu_milli), machine.memory_bytes - reserved_memory),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.api_port}},
        "images": runtime.images,
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.system_uuid,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel_version,
            "osImage": machine.os_image,
            "containerRuntimeVersion": runtime.version,
            "kubeletVersion": config.version,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": arch(),
        },
    })
}

pub(super) fn conditions(runtime: &RuntimeFacts, pressure: Pressure) -> Vec<NodeCondition> {
    let condition = |name: &str, status: bool, reason: &str, message: &str| NodeCondition {
        type_: name.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        ..NodeCondition::default()
    };
    let memory = match pressure.memory {
        true => ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        false => ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    };
    let disk = match pressure.disk {
        true => ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        false => ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    };
    let ready = match &runtime.trouble {
        Some(trouble) => condition("Ready", false, "KubeletNotReady", trouble),
        None => condition("Ready", true, "KubeletReady", "kubelet is posting ready status"),
    };
    vec![
        condition("MemoryPressure", pressure.memory, memory.0, memory.1),
        condition("DiskPressure", pressure.disk, disk.0, disk.1),
        condition("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ready,
    ]
}
