//! Amounts of CPU and memory: what a pod asks for in total, its quality of service, and the numbers the kernel wants for
//! them. All of it is pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use skiff_object::quantity::Quantity as Exact;
use skiff_object::requests::{self, Role};

pub type ResourceList = BTreeMap<String, Quantity>;

/// The kernel's scale: 1024 shares are one CPU's worth.
const SHARES_PER_CPU: u64 = 1024;
const SHARES_MIN: u64 = 2;
const SHARES_MAX: u64 = 262_144;
/// Microseconds in which a CPU limit is measured.
pub const CPU_PERIOD_US: i64 = 100_000;
/// The kernel refuses less.
const CPU_QUOTA_US_MIN: i64 = 1000;

/// The value of a quantity in thousandths, rounded up; `None` when it is not a quantity.
pub fn parse_milli(text: &str) -> Option<i64> {
    text.parse::<Exact>().ok().map(|quantity| quantity.milli_value())
}

/// Thousandths of a CPU, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu_milli: Option<u64>,
    pub memory_bytes: Option<u64>,
}

impl Amounts {
    fn of(list: Option<&ResourceList>) -> Self {
        Self::from_exact(&exact(list))
    }

    fn from_exact(amounts: &requests::Amounts) -> Self {
        let get = |name: &str, value: fn(&Exact) -> i64| u64::try_from(value(amounts.get(name)?)).ok();
        Self { cpu_milli: get("cpu", Exact::milli_value), memory_bytes: get("memory", Exact::value) }
    }

    /// Resources of which nothing is asked for are as if they were not named.
    fn without_zero(self) -> Self {
        let some = |value: Option<u64>| value.filter(|value| *value > 0);
        Self { cpu_milli: some(self.cpu_milli), memory_bytes: some(self.memory_bytes) }
    }

    pub fn requests(container: &Container) -> Self {
        let resources = container.resources.as_ref();
        let requests = Self::of(resources.and_then(|r| r.requests.as_ref()));
        let limits = Self::limits(container);
        Self {
            cpu_milli: requests.cpu_milli.or(limits.cpu_milli),
            memory_bytes: requests.memory_bytes.or(limits.memory_bytes),
        }
    }

    pub fn limits(container: &Container) -> Self {
        Self::of(container.resources.as_ref().and_then(|r| r.limits.as_ref()))
    }
}

pub fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.containers.iter()
}

pub fn init_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten()
}

/// A sidecar: an init container that keeps running.
pub fn is_restartable_init(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What the pod asks for.
pub fn pod_requests(spec: &PodSpec) -> Amounts {
    sum(spec, |container| {
        let resources = container.resources.as_ref();
        // A limit without a request is one; the API has written it down, except in what is older.
        let mut own = exact(resources.and_then(|resources| resources.limits.as_ref()));
        own.extend(exact(resources.and_then(|resources| resources.requests.as_ref())));
        own
    })
}

/// The pod's limit; `None` for a resource when any container has no limit for it.
pub fn pod_limits(spec: &PodSpec) -> Amounts {
    let limits = sum(spec, |container| exact(container.resources.as_ref().and_then(|r| r.limits.as_ref())));
    let all = |get: fn(&Amounts) -> Option<u64>| {
        let main = containers(spec).all(|c| get(&Amounts::limits(c)).is_some_and(|v| v > 0));
        main && init_containers(spec).all(|c| get(&Amounts::limits(c)).is_some_and(|v| v > 0))
    };
    Amounts {
        cpu_milli: limits.cpu_milli.filter(|_| all(|a| a.cpu_milli)),
        memory_bytes: limits.memory_bytes.filter(|_| all(|a| a.memory_bytes)),
    }
}

fn sum(spec: &PodSpec, own: impl Fn(&Container) -> requests::Amounts) -> Amounts {
    let init = init_containers(spec).map(|c| (Role::of_init(c.restart_policy.as_deref()), own(c)));
    let main = containers(spec).map(|c| (Role::Main, own(c)));
    Amounts::from_exact(&requests::sum(init.chain(main), &exact(spec.overhead.as_ref()))).without_zero()
}

fn exact(list: Option<&ResourceList>) -> requests::Amounts {
    requests::amounts(list.into_iter().flatten().map(|(name, quantity)| (name.as_str(), quantity.0.as_str())))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl Qos {
    pub fn as_str(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }

    /// https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
    pub fn of(spec: &PodSpec) -> Self {
        let all = || containers(spec).chain(init_containers(spec));
        let none = |a: Amounts| a.cpu_milli.unwrap_or(0) == 0 && a.memory_bytes.unwrap_or(0) == 0;
        if all().all(|c| none(Amounts::requests(c)) && none(Amounts::limits(c))) {
            return Qos::BestEffort;
        }
        let guaranteed = all().all(|c| {
            let (requests, limits) = (Amounts::requests(c), Amounts::limits(c));
            limits.cpu_milli.is_some() && limits.memory_bytes.is_some() && requests == limits
        });
        if guaranteed { Qos::Guaranteed } else { Qos::Burstable }
    }
}

pub fn cpu_shares(milli: u64) -> i64 {
    let shares = (milli * SHARES_PER_CPU / 1000).clamp(SHARES_MIN, SHARES_MAX);
    i64::try_from(shares).unwrap_or(i64::MAX)
}

pub fn cpu_quota_us(milli: u64) -> i64 {
    let quota = i64::try_from(milli).unwrap_or(i64::MAX / CPU_PERIOD_US).saturating_mul(CPU_PERIOD_US) / 1000;
    quota.max(CPU_QUOTA_US_MIN)
}

/// Which process the kernel ends first when memory is short: a pod that uses more than it asked for goes before one
/// that asked for much.
pub fn oom_score_adj(qos: Qos, memory_request: u64, memory_capacity: u64) -> i64 {
    match qos {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let share = 1000 * memory_request / memory_capacity.max(1);
            let score = 1000 - i64::try_from(share).unwrap_or(1000);
            // 3 to 999: above the guaranteed pods, below those that asked for nothing.
            score.clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn quality_of_service_follows_upstream() {
        let of = |resources: serde_json::Value| {
            Qos::of(&spec(json!({"containers": [{"name": "a", "resources": resources}]})))
        };
        assert_eq!(of(json!({})), Qos::BestEffort);
        assert_eq!(of(json!({"requests": {"cpu": "1"}})), Qos::Burstable);
        assert_eq!(of(json!({"limits": {"cpu": "1", "memory": "1Gi"}})), Qos::Guaranteed);
        assert_eq!(of(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}})), Qos::Burstable);
    }

    #[test]
    fn init_containers_count_by_their_maximum_and_sidecars_by_their_sum() {
        let with = |cpu: &str| json!({"requests": {"cpu": cpu}});
        let pod = spec(json!({
            "initContainers": [
                {"name": "side", "restartPolicy": "Always", "resources": with("100m")},
                {"name": "init", "resources": with("900m")},
            ],
            "containers": [{"name": "a", "resources": with("200m")}, {"name": "b", "resources": with("300m")}],
        }));
        assert_eq!(pod_requests(&pod), Amounts { cpu_milli: Some(1000), memory_bytes: None });
        let limited = spec(json!({
            "overhead": {"memory": "1Mi"},
            "containers": [{"name": "a", "resources": {"limits": {"memory": "1.5Gi", "cpu": "0.1"}}}],
        }));
        let expected = Amounts { cpu_milli: Some(100), memory_bytes: Some((1536 + 1) << 20) };
        assert_eq!((pod_requests(&limited), pod_limits(&limited)), (expected, expected));
    }
}
