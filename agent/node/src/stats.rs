//! `/stats/summary` and `/metrics/resource`: what pods use, for `kubectl top` and autoscaling.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_cri::pb;

use crate::context::Context;
use crate::machine::{Disk, memory_available};
use crate::names;

struct Usage {
    cpu_nanos: u64,
    cpu_nano_cores: Option<u64>,
    memory_bytes: u64,
    time: String,
    namespace: String,
    pod: String,
    uid: String,
    container: String,
}

/// `None`: it does not run.
fn usage(stats: &pb::ContainerStats) -> Option<Usage> {
    let attributes = stats.attributes.as_ref()?;
    let label = |name: &str| attributes.labels.get(name).cloned().unwrap_or_default();
    let (cpu, memory) = (stats.cpu.clone()?, stats.memory.clone().unwrap_or_default());
    let time = Timestamp::from_nanosecond(i128::from(cpu.timestamp)).unwrap_or_else(|_| Timestamp::now());
    Some(Usage {
        cpu_nanos: cpu.usage_core_nano_seconds.map_or(0, |v| v.value),
        cpu_nano_cores: cpu.usage_nano_cores.map(|v| v.value),
        memory_bytes: memory.working_set_bytes.map_or(0, |v| v.value),
        time: time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        namespace: label(names::POD_NAMESPACE),
        pod: label(names::POD_NAME),
        uid: label(names::POD_UID),
        container: label(names::CONTAINER_NAME),
    })
}

/// Nanoseconds of CPU time the machine has used since its start.
fn node_cpu_nanos() -> u64 {
    /// The unit of /proc/stat, fixed in the kernel's interface.
    const NANOS_PER_TICK: u64 = 10_000_000;
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal: all but the two of idleness.
    let busy: u64 = ticks.iter().take(8).enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, v)| v).sum();
    busy * NANOS_PER_TICK
}

/// Asks the runtime and the machine each time: nothing is kept while nobody asks.
#[derive(Clone)]
pub struct Statistics {
    pub(crate) context: Arc<Context>,
}

impl Statistics {
    async fn usages(&self) -> skiff_cri::Result<Vec<Usage>> {
        let stats = self.context.runtime.list_container_stats(HashMap::new()).await?;
        Ok(stats.iter().filter_map(usage).collect())
    }

    pub async fn summary(&self) -> skiff_cri::Result<Value> {
        let mut pods: HashMap<String, Vec<Usage>> = HashMap::new();
        for usage in self.usages().await? {
            pods.entry(usage.uid.clone()).or_default().push(usage);
        }
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let total = self.context.machine.memory_bytes;
        let available = memory_available().unwrap_or(0);
        let disk = Disk::observe(&self.context.config.data_dir).unwrap_or_default();
        let filesystem = json!({
            "time": now, "availableBytes": disk.available_bytes, "capacityBytes": disk.bytes,
            "usedBytes": disk.bytes.saturating_sub(disk.available_bytes),
            "inodes": disk.inodes, "inodesFree": disk.free_inodes,
        });
        let items: Vec<Value> = pods.values().map(|usages| pod_stats(usages)).collect();
        Ok(json!({
            "node": {
                "nodeName": self.context.config.node_name,
                "cpu": {"time": now, "usageCoreNanoSeconds": node_cpu_nanos()},
                "memory": {
                    "time": now, "availableBytes": available, "usageBytes": total.saturating_sub(available),
                    "workingSetBytes": total.saturating_sub(available),
                },
                "fs": filesystem,
                "runtime": {"imageFs": filesystem},
            },
            "pods": items,
        }))
    }

    pub async fn resource_metrics(&self) -> skiff_cri::Result<String> {
        let mut text = String::new();
        let usages = self.usages().await?;
        let labels = |usage: &Usage| {
            format!("{{container=\"{}\",namespace=\"{}\",pod=\"{}\"}}", usage.container, usage.namespace, usage.pod)
        };
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        let mut metric = |name: &str, kind: &str, lines: Vec<(String, f64)>| {
            let _ = writeln!(text, "# TYPE {name} {kind}");
            for (labels, value) in lines {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let cpu = usages.iter().map(|usage| (labels(usage), seconds(usage.cpu_nanos))).collect();
        metric("container_cpu_usage_seconds_total", "counter", cpu);
        let memory = usages.iter().map(|usage| (labels(usage), usage.memory_bytes as f64)).collect();
        metric("container_memory_working_set_bytes", "gauge", memory);
        metric("node_cpu_usage_seconds_total", "counter", vec![(String::new(), seconds(node_cpu_nanos()))]);
        let used = self.context.machine.memory_bytes.saturating_sub(memory_available().unwrap_or(0));
        metric("node_memory_working_set_bytes", "gauge", vec![(String::new(), used as f64)]);
        Ok(text)
    }
}

fn pod_stats(usages: &[Usage]) -> Value {
    let containers: Vec<_> = usages
        .iter()
        .map(|usage| {
            json!({
                "name": usage.container,
                "cpu": {
                    "time": usage.time, "usageCoreNanoSeconds": usage.cpu_nanos, "usageNanoCores": usage.cpu_nano_cores,
                },
                "memory": {"time": usage.time, "workingSetBytes": usage.memory_bytes},
            })
        })
        .collect();
    let first = usages.first();
    let own = |get: fn(&Usage) -> &String| first.map(get).cloned().unwrap_or_default();
    json!({
        "podRef": {"name": own(|u| &u.pod), "namespace": own(|u| &u.namespace), "uid": own(|u| &u.uid)},
        "containers": containers,
        "cpu": {
            "time": own(|u| &u.time),
            "usageCoreNanoSeconds": usages.iter().map(|usage| usage.cpu_nanos).sum::<u64>(),
        },
        "memory": {
            "time": own(|u| &u.time),
            "workingSetBytes": usages.iter().map(|usage| usage.memory_bytes).sum::<u64>(),
        },
    })
}
