//! How many replicas one metric asks for. Pure; the rules are upstream's:
//! <https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details>.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;
use skiff_object::quantity::Quantity;

use super::metrics::{Sample, Samples};
use crate::objects;

/// Within this a pod that starts may use more than it ever will: upstream's numbers.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_mins(5);
const READINESS_DELAY: SignedDuration = SignedDuration::from_secs(30);
/// How far from its target a metric may be.
const TOLERANCE: f64 = 0.1;
const CPU: &str = "cpu";

/// How far from its target a metric may be, above and below.
#[derive(Clone, Copy, Debug)]
pub struct Tolerances {
    pub up: f64,
    pub down: f64,
}

impl Tolerances {
    pub fn of(autoscaler: &HorizontalPodAutoscaler) -> Self {
        let behavior = autoscaler.spec.behavior.as_ref();
        let up = behavior.and_then(|behavior| behavior.scale_up.as_ref());
        let down = behavior.and_then(|behavior| behavior.scale_down.as_ref());
        let tolerance = |quantity: &str| Quantity::parse(quantity).ok().map(|quantity| quantity.as_f64());
        Self {
            up: up.and_then(|rules| tolerance(&rules.tolerance.as_ref()?.0)).unwrap_or(TOLERANCE),
            down: down.and_then(|rules| tolerance(&rules.tolerance.as_ref()?.0)).unwrap_or(TOLERANCE),
        }
    }

    fn hold(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What the number is worked out from, beside the metric itself.
#[derive(Clone, Copy, Debug)]
pub struct Basis<'a> {
    /// How many are asked for, and how many there are.
    pub wanted: i32,
    pub current: i32,
    /// Those of the target.
    pub pods: &'a [Arc<Pod>],
    pub tolerances: Tolerances,
    pub now: Timestamp,
}

/// A number of replicas, and what is used; the latter in percent, or in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub replicas: i32,
    /// Of what is requested.
    pub utilization: Option<i32>,
    pub usage: i64,
}

/// The pods by what is known of them.
#[derive(Debug, Default)]
struct Groups<'a> {
    ready: usize,
    /// Not running yet, or not settled: they may use nothing as they may use much.
    unready: Vec<&'a Pod>,
    /// They do not say what they use.
    missing: Vec<&'a Pod>,
}

/// Sorts the pods, and leaves the samples of those that count. Only of the processor is it known that much is used at first.
fn grouped<'a>(basis: Basis<'a>, resource: Option<&str>, samples: &mut Samples) -> Groups<'a> {
    let mut groups = Groups::default();
    for pod in basis.pods {
        let name = pod.name_any();
        if objects::is_deleted(&**pod) || objects::phase(pod) == "Failed" {
            samples.remove(&name);
            continue;
        }
        if objects::phase(pod) == "Pending" {
            samples.remove(&name);
            groups.unready.push(pod);
            continue;
        }
        match samples.get(&name) {
            None => groups.missing.push(pod),
            Some(sample) if resource == Some(CPU) && is_unsettled(pod, sample, basis.now) => {
                samples.remove(&name);
                groups.unready.push(pod);
            }
            Some(_) => groups.ready += 1,
        }
    }
    groups
}

/// Whether what a pod uses of the processor says little.
fn is_unsettled(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let ready = objects::condition(pod, "Ready");
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let (Some(ready), Some(started)) = (ready, started) else { return true };
    let changed = ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let is_unready = ready.status == "False";
    if now.duration_since(started.0) < CPU_INITIALIZATION {
        // A whole window has to be of after it became what it is.
        let window = SignedDuration::try_from(sample.window).unwrap_or(SignedDuration::MAX);
        return is_unready || sample.at.duration_since(changed) < window;
    }
    // It never became ready.
    is_unready && changed.duration_since(started.0) < READINESS_DELAY
}

const NO_PODS: &str = "no pods returned by selector while calculating replica count";
const NO_METRICS: &str = "did not receive metrics for targeted pods (pods might be unready)";

/// A share of what the pods request.
pub fn by_utilization(
    basis: Basis<'_>,
    resource: &str,
    container: Option<&str>,
    mut samples: Samples,
    target: i32,
) -> Result<Proposal, String> {
    if basis.pods.is_empty() {
        return Err(NO_PODS.to_owned());
    }
    let groups = grouped(basis, Some(resource), &mut samples);
    let requests = requests(basis.pods, resource, container)?;
    if samples.is_empty() {
        return Err(NO_METRICS.to_owned());
    }
    let (ratio, utilization, usage) = utilization(&samples, &requests, target)?;
    let ratio_of = |samples: &Samples| utilization_ratio(samples, &requests, target);
    // What is not known used all of what it may if fewer are wanted, even more than that if the target is.
    let full = |pod: &Pod| {
        let request = requests.get(&pod.name_any()).copied().unwrap_or(0);
        milli_share(request, i64::from(target.max(100)))
    };
    let replicas = settled(basis, &groups, samples, ratio, full, ratio_of)?;
    Ok(Proposal { replicas, utilization: Some(utilization), usage })
}

/// An amount that pods use in the mean, in thousandths.
pub fn by_average(
    basis: Basis<'_>,
    resource: Option<&str>,
    mut samples: Samples,
    target: i64,
) -> Result<Proposal, String> {
    if basis.pods.is_empty() {
        return Err(NO_PODS.to_owned());
    }
    let groups = grouped(basis, resource, &mut samples);
    if samples.is_empty() {
        return Err(NO_METRICS.to_owned());
    }
    let (ratio, usage) = average(&samples, target);
    let replicas = settled(basis, &groups, samples, ratio, |_| target, |samples| Ok(average(samples, target).0))?;
    Ok(Proposal { replicas, utilization: None, usage })
}

/// The number that a ratio asks for. What is not known is taken for what makes the change smaller, and turns none around.
fn settled(
    basis: Basis<'_>,
    groups: &Groups<'_>,
    mut samples: Samples,
    ratio: f64,
    full: impl Fn(&Pod) -> i64,
    ratio_of: impl Fn(&Samples) -> Result<f64, String>,
) -> Result<i32, String> {
    let Basis { wanted, tolerances, now, .. } = basis;
    let counts_unready = !groups.unready.is_empty() && ratio > 1.0;
    if !counts_unready && groups.missing.is_empty() {
        let changed = rounded(ratio * groups.ready as f64);
        return Ok(if tolerances.hold(ratio) { wanted } else { changed });
    }
    let guessed = |value: i64| Sample { value, at: now, window: std::time::Duration::ZERO };
    for pod in &groups.missing {
        if ratio < 1.0 {
            samples.insert(pod.name_any(), guessed(full(pod)));
        } else if ratio > 1.0 {
            samples.insert(pod.name_any(), guessed(0));
        }
    }
    if counts_unready {
        samples.extend(groups.unready.iter().map(|pod| (pod.name_any(), guessed(0))));
    }
    let again = ratio_of(&samples)?;
    let turns = |a: f64, b: f64| a < 1.0 && b > 1.0 || a > 1.0 && b < 1.0;
    let changed = rounded(again * samples.len() as f64);
    if tolerances.hold(again) || turns(ratio, again) || turns(again, f64::from(changed) / f64::from(wanted.max(1))) {
        return Ok(wanted);
    }
    Ok(changed)
}

/// Of an object, or of all that is outside: as many as bring it to the target. Of none, as many as it is targets.
pub fn by_whole(basis: Basis<'_>, usage: i64, target: i64) -> Result<Proposal, String> {
    let ratio = quotient(usage, target);
    let proposed = |replicas: i32| Ok(Proposal { replicas, utilization: None, usage });
    if basis.wanted == 0 {
        return proposed(rounded(ratio));
    }
    if basis.tolerances.hold(ratio) {
        return proposed(basis.wanted);
    }
    if basis.pods.is_empty() {
        return Err(format!("unable to calculate ready pods: {NO_PODS}"));
    }
    let ready = basis.pods.iter().filter(|pod| objects::phase(pod) == "Running" && objects::is_ready(pod)).count();
    proposed(rounded(ratio * ready as f64))
}

/// The same shared out among the replicas there are.
pub fn by_share(basis: Basis<'_>, usage: i64, target: i64) -> Proposal {
    let all = target.saturating_mul(i64::from(basis.current));
    let replicas = match basis.tolerances.hold(quotient(usage, all)) {
        true => basis.current,
        false => rounded(quotient(usage, target)),
    };
    let each = quotient(usage, i64::from(basis.current.max(1))).ceil() as i64;
    Proposal { replicas, utilization: None, usage: each }
}

fn quotient(value: i64, divisor: i64) -> f64 {
    value as f64 / divisor as f64
}

/// Up; what is no number is none, and what is too much is capped.
fn rounded(replicas: f64) -> i32 {
    // A cast keeps within the bounds of its type.
    replicas.ceil().max(0.0) as i32
}

fn milli_share(amount: i64, percent: i64) -> i64 {
    i64::try_from(i128::from(amount) * i128::from(percent) / 100).unwrap_or(i64::MAX)
}

/// The mean over the target, and the mean.
fn average(samples: &Samples, target: i64) -> (f64, i64) {
    let sum = samples.values().fold(0_i128, |sum, sample| sum + i128::from(sample.value));
    let mean = i64::try_from(sum / samples.len().max(1) as i128).unwrap_or(i64::MAX);
    (quotient(mean, target), mean)
}

/// The share of what is requested over the target, the share in percent, and the mean of what is used.
fn utilization(samples: &Samples, requests: &BTreeMap<String, i64>, target: i32) -> Result<(f64, i32, i64), String> {
    let known: Vec<(i64, i64)> =
        samples.iter().filter_map(|(name, sample)| Some((sample.value, *requests.get(name)?))).collect();
    let used: i128 = known.iter().map(|(used, _)| i128::from(*used)).sum();
    let requested: i128 = known.iter().map(|(_, requested)| i128::from(*requested)).sum();
    if requested == 0 {
        return Err("no metrics returned matched known pods".to_owned());
    }
    let percent = i32::try_from(used * 100 / requested).unwrap_or(i32::MAX);
    let mean = i64::try_from(used / known.len().max(1) as i128).unwrap_or(i64::MAX);
    Ok((f64::from(percent) / f64::from(target), percent, mean))
}

fn utilization_ratio(samples: &Samples, requests: &BTreeMap<String, i64>, target: i32) -> Result<f64, String> {
    utilization(samples, requests, target).map(|(ratio, _, _)| ratio)
}

/// What each pod requests, or one of its containers; all that run have to.
fn requests(pods: &[Arc<Pod>], resource: &str, container: Option<&str>) -> Result<BTreeMap<String, i64>, String> {
    let each = pods.iter().map(|pod| Ok((pod.name_any(), request(pod, resource, container)?)));
    each.collect()
}

fn request(pod: &Pod, resource: &str, container: Option<&str>) -> Result<i64, String> {
    let Some(spec) = &pod.spec else { return Ok(0) };
    let milli = |quantity: &str| Quantity::parse(quantity).map_or(0, |quantity| quantity.milli_value());
    let whole = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get(resource));
    if let (None, Some(whole)) = (container, whole) {
        return Ok(milli(&whole.0));
    }
    let sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(sidecar));
    let mut sum = 0_i64;
    for found in all.filter(|found| container.is_none_or(|name| found.name == name)) {
        let requested = found.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get(resource));
        let missing =
            || format!("missing request for {resource} in container {} of Pod {}", found.name, pod.name_any());
        sum = sum.saturating_add(milli(&requested.ok_or_else(missing)?.0));
    }
    Ok(sum)
}
