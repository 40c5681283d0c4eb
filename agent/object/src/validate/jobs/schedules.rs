//! The schedules of cron jobs, and the time zones they are in.
//!
//! Owns what is said of them; what a schedule means is in [`crate::schedules`].

use super::super::errors::Errors;
use super::super::node::Node;
use crate::schedules::Schedule;

pub fn schedule(schedule: &Node<'_>, errors: &mut Errors) {
    let text = schedule.text();
    if text.is_empty() {
        errors.required(schedule, "");
    } else if text.contains("TZ") {
        errors.invalid(schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    } else if let Err(why) = Schedule::parse(text) {
        errors.invalid(schedule, &why);
    }
}

/// The names of the IANA database, one a line.
const ZONES: &str = include_str!("zones.txt");
const ZONE_PART_MAX: usize = 14;

pub fn zone(zone: &Node<'_>, errors: &mut Errors) {
    let Some(name) = zone.value.as_str() else {
        return;
    };
    if name.is_empty() {
        return errors.invalid(zone, "timeZone must be nil or non-empty string");
    }
    let unknown = format!("unknown time zone {name}");
    let part = |part: &str| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b".-_+".contains(&b);
        let dots = part == "." || part == "..";
        !dots && !part.starts_with('-') && (1..=ZONE_PART_MAX).contains(&part.len()) && part.bytes().all(letter)
    };
    if !name.split('/').all(part) {
        return errors.invalid(zone, &unknown);
    }
    if name.eq_ignore_ascii_case("Local") {
        errors.invalid(zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
    }
    if name != "Local" && !ZONES.lines().any(|known| known == name) {
        errors.invalid(zone, &unknown);
    }
}
