//! Amounts of CPU and memory: quantities, what a pod asks for in total, its quality of service, and the numbers the
//! kernel wants for them. All of it is pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

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
pub fn parse_milli(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (numerator, denominator) = match suffix {
        "n" => (1, 1_000_000),
        "u" => (1, 1000),
        "m" => (1, 1),
        "" => (1000, 1),
        "k" => (1000 * 1000, 1),
        "M" => (1000 * 1000_i128.pow(2), 1),
        "G" => (1000 * 1000_i128.pow(3), 1),
        "T" => (1000 * 1000_i128.pow(4), 1),
        "P" => (1000 * 1000_i128.pow(5), 1),
        "E" => (1000 * 1000_i128.pow(6), 1),
        "Ki" => (1000 << 10, 1),
        "Mi" => (1000 << 20, 1),
        "Gi" => (1000 << 30, 1),
        "Ti" => (1000_i128 << 40, 1),
        "Pi" => (1000_i128 << 50, 1),
        "Ei" => (1000_i128 << 60, 1),
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok().filter(|power| *power <= 18)?;
            (1000 * 10_i128.pow(power), 1)
        }
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = digits.checked_mul(numerator)?;
    let divisor = scale.checked_mul(denominator)?;
    Some(scaled.div_euclid(divisor) + i128::from(scaled.rem_euclid(divisor) != 0))
}

fn milli(list: Option<&ResourceList>, name: &str) -> Option<u64> {
    let quantity = list?.get(name)?;
    u64::try_from(parse_milli(&quantity.0)?).ok()
}

/// Thousandths of a CPU, and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub cpu_milli: Option<u64>,
    pub memory_bytes: Option<u64>,
}

impl Amounts {
    pub fn of(list: Option<&ResourceList>) -> Self {
        Self { cpu_milli: milli(list, "cpu"), memory_bytes: milli(list, "memory").map(|m| m.div_ceil(1000)) }
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

/// What the pod asks for: the sum over what runs together, or the largest init container if that is more.
pub fn pod_requests(spec: &PodSpec) -> Amounts {
    total(spec, Amounts::requests)
}

/// The pod's limit; `None` for a resource when any container has no limit for it.
pub fn pod_limits(spec: &PodSpec) -> Amounts {
    let limits = total(spec, Amounts::limits);
    let all = |get: fn(&Amounts) -> Option<u64>| {
        let main = containers(spec).all(|c| get(&Amounts::limits(c)).is_some_and(|v| v > 0));
        main && init_containers(spec).all(|c| get(&Amounts::limits(c)).is_some_and(|v| v > 0))
    };
    Amounts {
        cpu_milli: limits.cpu_milli.filter(|_| all(|a| a.cpu_milli)),
        memory_bytes: limits.memory_bytes.filter(|_| all(|a| a.memory_bytes)),
    }
}

fn total(spec: &PodSpec, amounts: fn(&Container) -> Amounts) -> Amounts {
    let one = |get: fn(&Amounts) -> Option<u64>| {
        let value = |container: &Container| get(&amounts(container)).unwrap_or(0);
        let main: u64 = containers(spec).map(value).sum();
        let mut sidecars = 0;
        let mut init_max = 0;
        for container in init_containers(spec) {
            let mine = value(container);
            if is_restartable_init(container) {
                sidecars += mine;
                init_max = init_max.max(sidecars);
            } else {
                init_max = init_max.max(sidecars + mine);
            }
        }
        let sum = (main + sidecars).max(init_max);
        (sum > 0).then_some(sum)
    };
    Amounts { cpu_milli: one(|a| a.cpu_milli), memory_bytes: one(|a| a.memory_bytes) }
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

    #[test]
    fn quantities_are_read_exactly() {
        for (text, value) in [
            ("1", 1000),
            ("100m", 100),
            ("0.5", 500),
            ("1Ki", 1_024_000),
            ("1.5Gi", 1_610_612_736_000),
            ("1e3", 1_000_000),
            ("1n", 1),
            ("2E", 2_000_000_000_000_000_000_000),
        ] {
            assert_eq!(parse_milli(text), Some(value), "{text}");
        }
        for text in ["", "x", "1Q", "1.2.3", "--1"] {
            assert_eq!(parse_milli(text), None, "{text}");
        }
    }

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
        assert_eq!(pod_requests(&pod).cpu_milli, Some(1000));
    }
}
