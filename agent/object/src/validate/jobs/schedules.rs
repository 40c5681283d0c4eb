//! The schedules of cron jobs, and the time zones they are in.
//!
//! Owns whether a schedule can be read, in the words of the library that upstream reads it with; when it is next is the
//! controller's.

use super::super::errors::Errors;
use super::super::node::Node;

const MACROS: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What a field of a schedule may be: its least and its greatest number, and names for them.
struct Field {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

/// Minutes, hours, days, months, weekdays.
const FIELDS: &[Field] = &[
    Field { min: 0, max: 59, names: &[] },
    Field { min: 0, max: 23, names: &[] },
    Field { min: 1, max: 31, names: &[] },
    Field { min: 1, max: 12, names: MONTHS },
    Field { min: 0, max: 6, names: DAYS },
];

pub fn schedule(schedule: &Node<'_>, errors: &mut Errors) {
    let text = schedule.text();
    if text.is_empty() {
        errors.required(schedule, "");
    } else if text.contains("TZ") {
        errors.invalid(schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
    } else if let Some(why) = problem(text) {
        errors.invalid(schedule, &why);
    }
}

fn problem(text: &str) -> Option<String> {
    if let Some(duration) = text.strip_prefix("@every ") {
        let why = duration_problem(duration)?;
        return Some(format!("failed to parse duration {text}: {why}"));
    }
    if text.starts_with('@') {
        return (!MACROS.contains(&text)).then(|| format!("unrecognized descriptor: {text}"));
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Some(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    fields.iter().zip(FIELDS).find_map(|(field, bounds)| {
        field.split(',').filter(|part| !part.is_empty()).find_map(|part| bounds.problem(part).err())
    })
}

impl Field {
    /// `*`, `5`, `5-10`, each with `/2` or without.
    fn problem(&self, part: &str) -> Result<(), String> {
        let range_and_step: Vec<&str> = part.split('/').collect();
        let range: Vec<&str> = range_and_step[0].split('-').collect();
        let (start, mut end) = if matches!(range[0], "*" | "?") {
            (self.min, self.max)
        } else {
            let start = self.number(range[0])?;
            match range.as_slice() {
                [_] => (start, start),
                [_, end] => (start, self.number(end)?),
                _ => return Err(format!("too many hyphens: {part}")),
            }
        };
        let step = match range_and_step.as_slice() {
            [_] => 1,
            [_, step] => {
                if range.len() == 1 {
                    end = self.max;
                }
                integer(step)?
            }
            _ => return Err(format!("too many slashes: {part}")),
        };
        let (min, max) = (self.min, self.max);
        if start < min {
            Err(format!("beginning of range ({start}) below minimum ({min}): {part}"))
        } else if end > max {
            Err(format!("end of range ({end}) above maximum ({max}): {part}"))
        } else if start > end {
            Err(format!("beginning of range ({start}) beyond end of range ({end}): {part}"))
        } else if step == 0 {
            Err(format!("step of range should be a positive number: {part}"))
        } else {
            Ok(())
        }
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_lowercase();
        match self.names.iter().position(|name| *name == lower) {
            Some(position) => Ok(self.min + u32::try_from(position).unwrap_or(0)),
            None => integer(text),
        }
    }
}

fn integer(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        let why = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
        return Err(format!("failed to parse int from {text}: {why}"));
    }
    // More is above every maximum anyway.
    Ok(digits.parse().unwrap_or(u32::MAX))
}

const UNITS: &[&str] = &["ns", "us", "µs", "μs", "ms", "s", "m", "h"];

/// What is wrong with `1h30m`, as Go says it.
fn duration_problem(text: &str) -> Option<String> {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return None;
    }
    let invalid = || Some(format!("time: invalid duration {text:?}"));
    if rest.is_empty() {
        return invalid();
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        if rest[..number].matches('.').count() > 1 || !rest[..number].contains(|c: char| c.is_ascii_digit()) {
            return invalid();
        }
        rest = &rest[number..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        match &rest[..unit] {
            "" => return Some(format!("time: missing unit in duration {text:?}")),
            unit if !UNITS.contains(&unit) => {
                return Some(format!("time: unknown unit {unit:?} in duration {text:?}"));
            }
            _ => rest = &rest[unit..],
        }
    }
    None
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
