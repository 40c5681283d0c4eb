//! Whether a new pod may run here at all. The scheduler has looked before; this guards against races and against pods
//! bound by hand.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::context::Context;
use crate::resources::pod_requests;
use crate::status::Ended;

struct Room {
    resource: &'static str,
    reason: &'static str,
    requested: u64,
    used: u64,
    capacity: u64,
}

pub fn admit(context: &Context, pod: &Pod, active: &[Arc<Pod>]) -> Result<(), Ended> {
    let max = u64::from(context.config.max_pods);
    let requests = |pod: &Pod| pod.spec.as_ref().map(pod_requests).unwrap_or_default();
    let own = requests(pod);
    let sum = |get: fn(crate::resources::Amounts) -> Option<u64>| -> u64 {
        active.iter().filter_map(|pod| get(requests(pod))).sum()
    };
    let config = &context.config;
    let rooms = [
        Room { resource: "pods", reason: "OutOfpods", requested: 1, used: active.len() as u64, capacity: max },
        Room {
            resource: "cpu",
            reason: "OutOfcpu",
            requested: own.cpu_milli.unwrap_or(0),
            used: sum(|amounts| amounts.cpu_milli),
            capacity: (context.machine.cpus * 1000).saturating_sub(config.reserved_cpu_milli),
        },
        Room {
            resource: "memory",
            reason: "OutOfmemory",
            requested: own.memory_bytes.unwrap_or(0),
            used: sum(|amounts| amounts.memory_bytes),
            capacity: context.machine.memory_bytes.saturating_sub(config.reserved_memory_bytes),
        },
    ];
    match rooms.into_iter().find(|room| room.requested > 0 && room.used + room.requested > room.capacity) {
        None => Ok(()),
        Some(Room { resource, reason, requested, used, capacity }) => Err(Ended {
            reason,
            message: format!(
                "Pod was rejected: Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, \
                 capacity: {capacity}"
            ),
        }),
    }
}
