//! When a schedule is due, in a time zone. Pure.
//!
//! It is due at each minute at which the clock on the wall shows one of its times, as with upstream: not at a time that the
//! clock leaves out when it is set forward, and twice at one that it shows again when it is set back.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use skiff_object::schedules::{Calendar, Schedule};

/// A day that does not come within so many years never comes: upstream's number.
const YEARS_MAX: i16 = 5;
const MINUTE: i64 = 60;
/// More are not counted.
pub const COUNTED_MAX: usize = 100;

/// The first time after an instant.
pub fn next(schedule: &Schedule, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    match schedule {
        Schedule::Calendar(calendar) => next_of(calendar, after, zone),
        Schedule::Every(interval) => {
            let start = Timestamp::from_second(after.as_second()).ok()?;
            start.checked_add(SignedDuration::try_from(*interval).ok()?).ok()
        }
    }
}

fn next_of(calendar: &Calendar, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let mut at = minute_from(after.as_second().checked_add(1)?)?;
    let last_year = zone.to_datetime(at).year().saturating_add(YEARS_MAX);
    loop {
        let local = zone.to_datetime(at);
        if local.year() > last_year {
            return None;
        }
        let (date, hour, minute) = (local.date(), i64::from(local.hour()), i64::from(local.minute()));
        let minutes = if !calendar.has_day(date.month(), date.day(), date.weekday().to_sunday_zero_offset()) {
            (24 - hour) * 60 - minute
        } else if !calendar.has_hour(local.hour()) {
            60 - minute
        } else if !calendar.has_minute(local.minute()) {
            1
        } else {
            return Some(at);
        };
        let target = at.as_second().checked_add(minutes * MINUTE)?;
        // The clock may be set before that: then what it shows is looked at anew.
        let set = zone.following(at).next().map(|set| set.timestamp().as_second()).filter(|set| *set < target);
        at = minute_from(set.unwrap_or(target))?;
    }
}

/// The whole minute at or after a second.
fn minute_from(second: i64) -> Option<Timestamp> {
    let past = second.rem_euclid(MINUTE);
    let second = if past == 0 { second } else { second.checked_add(MINUTE - past)? };
    Timestamp::from_second(second).ok()
}

/// The times that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub last: Timestamp,
    /// How many, or one more than are counted.
    pub count: usize,
}

/// What was due after `since` and up to `now`.
pub fn due(schedule: &Schedule, since: Timestamp, now: Timestamp, zone: &TimeZone) -> Option<Due> {
    let times = std::iter::successors(next(schedule, since, zone), |at| next(schedule, *at, zone));
    let mut times = times.take_while(|at| *at <= now);
    let first = times.next()?;
    let (mut last, mut count) = (first, 1);
    for at in times.by_ref().take(COUNTED_MAX) {
        (last, count) = (at, count + 1);
    }
    if count > COUNTED_MAX {
        last = latest(schedule, last, now, zone);
    }
    Some(Due { last, count })
}

/// The last time up to `now`, without a look at each: `from` is one, and after `end` there is none.
fn latest(schedule: &Schedule, from: Timestamp, now: Timestamp, zone: &TimeZone) -> Timestamp {
    if let Schedule::Every(interval) = schedule {
        let seconds = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX).max(1);
        let passed = now.as_second().saturating_sub(from.as_second());
        return Timestamp::from_second(now.as_second() - passed % seconds).unwrap_or(from);
    }
    let (mut last, mut end) = (from.as_second(), now.as_second());
    while last < end {
        let middle = last + (end - last) / 2;
        let later = Timestamp::from_second(middle).ok().and_then(|middle| next(schedule, middle, zone));
        match later.filter(|later| *later <= now) {
            Some(later) => last = later.as_second(),
            None => end = middle,
        }
    }
    Timestamp::from_second(last).unwrap_or(from)
}
