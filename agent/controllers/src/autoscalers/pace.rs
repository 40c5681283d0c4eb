//! How fast a number of replicas may change: what was asked for lately, what was changed lately, and the rules of an
//! autoscaler's behaviour. Pure.

use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{HPAScalingRules, HorizontalPodAutoscaler};
use tokio::time::Instant;

/// How long fewer replicas have to be asked for where nothing is said: upstream's number.
const DOWN_WINDOW: Duration = Duration::from_secs(300);
/// The longest windows and periods that validation takes.
const WINDOW_MAX: Duration = Duration::from_secs(3600);
const PERIOD_MAX: Duration = Duration::from_secs(1800);

/// What is known of one autoscaler since this start; in memory, as upstream's.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What the metrics asked for.
    recommendations: Vec<(Instant, i32)>,
    /// By how many the target was changed.
    changes: Vec<(Instant, i32)>,
}

impl History {
    /// What is there first was asked for.
    pub fn begin(&mut self, current: i32, now: Instant) {
        if self.recommendations.is_empty() {
            self.recommendations.push((now, current));
        }
    }

    pub fn recommended(&mut self, replicas: i32, now: Instant) {
        self.recommendations.retain(|(at, _)| now.duration_since(*at) < WINDOW_MAX);
        self.recommendations.push((now, replicas));
    }

    pub fn changed(&mut self, by: i32, now: Instant) {
        self.changes.retain(|(at, _)| now.duration_since(*at) < PERIOD_MAX);
        self.changes.push((now, by));
    }

    fn recommendations_within(&self, window: Duration, now: Instant) -> impl Iterator<Item = i32> {
        self.recommendations.iter().filter(move |(at, _)| now.duration_since(*at) < window).map(|(_, count)| *count)
    }

    /// How many there would be without the changes of a period.
    fn before(&self, period: Duration, current: i32, now: Instant) -> i64 {
        let changes = self.changes.iter().filter(|(at, _)| now.duration_since(*at) < period);
        changes.fold(i64::from(current), |count, (_, by)| count - i64::from(*by))
    }
}

/// A reason and a message of a condition.
pub type Why = (&'static str, &'static str);

const READY: Why = ("ReadyForNewScale", "recommended size matches current size");
const UP_STABILIZED: Why = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: Why = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const WITHIN: Why = ("DesiredWithinRange", "the desired count is within the acceptable range");
const TOO_FEW: Why = ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const TOO_MANY: Why = ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const UP_LIMIT: Why = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: Why =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");

/// What becomes of a wanted number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paced {
    pub replicas: i32,
    /// Whether what was asked for lately holds it back.
    pub able: Why,
    pub limit: Why,
    /// Whether the limit was met.
    pub is_limited: bool,
}

/// The bounds of a number, and what it is now.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub current: i32,
    pub min: i32,
    pub max: i32,
}

pub fn paced(
    autoscaler: &HorizontalPodAutoscaler,
    bounds: Bounds,
    desired: i32,
    history: &History,
    now: Instant,
) -> Paced {
    let Some(behavior) = &autoscaler.spec.behavior else { return plainly(bounds, desired, history, now) };
    let none = HPAScalingRules::default();
    let up = behavior.scale_up.as_ref().unwrap_or(&none);
    let down = behavior.scale_down.as_ref().unwrap_or(&none);
    let stable = stabilized(bounds, desired, (window(up, Duration::ZERO), window(down, DOWN_WINDOW)), history, now);
    let able = match stable == desired {
        true => READY,
        false if desired >= bounds.current => UP_STABILIZED,
        false => DOWN_STABILIZED,
    };
    let (replicas, limit) = by_rules(bounds, stable, (up, down), history, now);
    Paced { replicas, able, limit, is_limited: replicas != stable }
}

fn window(rules: &HPAScalingRules, default: Duration) -> Duration {
    let seconds = rules.stabilization_window_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(default, Duration::from_secs)
}

/// Without rules: the most of what was asked for in five minutes, and at most twice as many at once.
fn plainly(bounds: Bounds, desired: i32, history: &History, now: Instant) -> Paced {
    let stable = history.recommendations_within(DOWN_WINDOW, now).fold(desired, i32::max);
    let able = if stable == desired { READY } else { DOWN_STABILIZED };
    let fastest = bounds.current.saturating_mul(2).max(4);
    let (most, met) = if bounds.max > fastest { (fastest, UP_LIMIT) } else { (bounds.max, TOO_MANY) };
    let (replicas, limit) = match stable {
        stable if stable < bounds.min => (bounds.min, TOO_FEW),
        stable if stable > most => (most, met),
        stable => (stable, WITHIN),
    };
    Paced { replicas, able, limit, is_limited: replicas != stable }
}

/// More only if no less was asked for in the window of scaling up, and fewer likewise.
fn stabilized(bounds: Bounds, desired: i32, (up, down): (Duration, Duration), history: &History, now: Instant) -> i32 {
    let least = history.recommendations_within(up, now).fold(desired, i32::min);
    let most = history.recommendations_within(down, now).fold(desired, i32::max);
    bounds.current.max(least).min(most)
}

fn by_rules(
    bounds: Bounds,
    wanted: i32,
    (up, down): (&HPAScalingRules, &HPAScalingRules),
    history: &History,
    now: Instant,
) -> (i32, Why) {
    let Bounds { current, min, max } = bounds;
    if wanted > current {
        let fastest = highest(up, current, history, now).max(current);
        let (most, met) = if max > fastest { (fastest, UP_LIMIT) } else { (max, TOO_MANY) };
        return if wanted > most { (most, met) } else { (wanted, WITHIN) };
    }
    if wanted < current {
        let fastest = lowest(down, current, history, now).min(current);
        let (least, met) = if min < fastest { (fastest, DOWN_LIMIT) } else { (min, TOO_FEW) };
        return if wanted < least { (least, met) } else { (wanted, WITHIN) };
    }
    (wanted, WITHIN)
}

/// How many there may be by the rules of scaling up. A share is rounded up, so that it comes to something.
fn highest(rules: &HPAScalingRules, current: i32, history: &History, now: Instant) -> i32 {
    let proposals = proposals(rules, current, history, now, |before, kind, value| match kind {
        "Percent" => (before as f64 * (1.0 + f64::from(value) / 100.0)).ceil() as i64,
        _ => before.saturating_add(i64::from(value)),
    });
    let chosen = match rules.select_policy.as_deref() {
        Some("Disabled") => None,
        Some("Min") => proposals.into_iter().min(),
        Some(_) | None => proposals.into_iter().max(),
    };
    chosen.map_or(current, saturated)
}

/// How many there have to be by the rules of scaling down.
fn lowest(rules: &HPAScalingRules, current: i32, history: &History, now: Instant) -> i32 {
    let proposals = proposals(rules, current, history, now, |before, kind, value| match kind {
        "Percent" => (before as f64 * (1.0 - f64::from(value) / 100.0)) as i64,
        _ => before.saturating_sub(i64::from(value)),
    });
    let chosen = match rules.select_policy.as_deref() {
        Some("Disabled") => None,
        // The least change.
        Some("Min") => proposals.into_iter().max(),
        Some(_) | None => proposals.into_iter().min(),
    };
    chosen.map_or(current, saturated)
}

/// What each policy says, from how many there were before its period.
fn proposals(
    rules: &HPAScalingRules,
    current: i32,
    history: &History,
    now: Instant,
    propose: fn(i64, &str, i32) -> i64,
) -> Vec<i64> {
    let policies = rules.policies.iter().flatten().map(|policy| {
        let period = Duration::from_secs(u64::try_from(policy.period_seconds).unwrap_or(0));
        propose(history.before(period, current, now), &policy.type_, policy.value)
    });
    policies.collect()
}

fn saturated(count: i64) -> i32 {
    i32::try_from(count).unwrap_or(if count < 0 { i32::MIN } else { i32::MAX })
}
