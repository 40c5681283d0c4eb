//! Durations and ages as people read them.
//!
//! Owns the two forms kubectl prints; computes with times it is given and reads no clock.

use jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// A unit: from `from` seconds on, `unit` is shown, and until `until` also the smaller unit `rest`.
struct Step {
    from: i64,
    until: i64,
    unit: (i64, &'static str),
    rest: Option<(i64, &'static str)>,
}

const STEPS: &[Step] = &[
    Step { from: 0, until: 2 * MINUTE, unit: (1, "s"), rest: None },
    Step { from: 2 * MINUTE, until: 10 * MINUTE, unit: (MINUTE, "m"), rest: Some((1, "s")) },
    Step { from: 10 * MINUTE, until: 3 * HOUR, unit: (MINUTE, "m"), rest: None },
    Step { from: 3 * HOUR, until: 8 * HOUR, unit: (HOUR, "h"), rest: Some((MINUTE, "m")) },
    Step { from: 8 * HOUR, until: 2 * DAY, unit: (HOUR, "h"), rest: None },
    Step { from: 2 * DAY, until: 8 * DAY, unit: (DAY, "d"), rest: Some((HOUR, "h")) },
    Step { from: 8 * DAY, until: 2 * YEAR, unit: (DAY, "d"), rest: None },
    Step { from: 2 * YEAR, until: 8 * YEAR, unit: (YEAR, "y"), rest: Some((DAY, "d")) },
    Step { from: 8 * YEAR, until: i64::MAX, unit: (YEAR, "y"), rest: None },
];

/// Seconds as kubectl's `HumanDuration` writes them: `5m30s`, `3d`, `<invalid>` when negative.
pub fn human(seconds: i64) -> String {
    // A clock that is a second ahead is not worth a complaint.
    let seconds = match seconds {
        ..-1 => return "<invalid>".to_owned(),
        -1 => 0,
        0.. => seconds,
    };
    let step = STEPS.iter().find(|step| (step.from..step.until).contains(&seconds));
    let Some(Step { unit: (size, name), rest, .. }) = step else {
        return "<invalid>".to_owned();
    };
    let shown = seconds / size;
    match rest.map(|(rest_size, rest_name)| ((seconds % size) / rest_size, rest_name)) {
        Some((rest, rest_name)) if rest > 0 => format!("{shown}{name}{rest}{rest_name}"),
        Some(_) | None => format!("{shown}{name}"),
    }
}

/// How long ago a time was; `<unknown>` when there is none or it is malformed.
pub fn age(time: Option<&str>, now: Timestamp) -> String {
    match time.and_then(|time| time.parse::<Timestamp>().ok()) {
        Some(time) => human(now.as_second() - time.as_second()),
        None => "<unknown>".to_owned(),
    }
}

#[cfg(test)]
mod tests;
