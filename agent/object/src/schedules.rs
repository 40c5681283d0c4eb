//! The schedules of cron jobs: five fields, a macro, or a fixed interval.
//!
//! Owns what a schedule means, in the words of the library that upstream reads it with: `robfig/cron`, version 3. When it is
//! next is the controller's, who knows the time.

use std::time::Duration;

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Macros, and what each stands for.
const MACROS: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// What a field of a schedule may be: its least and its greatest number, and names for them.
struct Field {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

/// Minutes, hours, days, months, weekdays.
const FIELDS: [Field; 5] = [
    Field { min: 0, max: 59, names: &[] },
    Field { min: 0, max: 23, names: &[] },
    Field { min: 1, max: 31, names: &[] },
    Field { min: 1, max: 12, names: MONTHS },
    Field { min: 0, max: 6, names: DAYS },
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Calendar(Calendar),
    /// In whole seconds, at least one.
    Every(Duration),
}

/// The minutes of a year at which something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    minutes: Numbers,
    hours: Numbers,
    days: Numbers,
    months: Numbers,
    weekdays: Numbers,
}

/// Those that a field allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbers {
    /// Bit n is number n.
    bits: u64,
    /// Whether the field said `*`: it asks for nothing.
    any: bool,
}

impl Numbers {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| number < u64::BITS && self.bits & (1 << number) != 0)
    }
}

impl Calendar {
    /// The weekday is counted from Sunday, which is 0. Where a schedule names days of the month and of the week, either is
    /// enough.
    pub fn has_day(&self, month: i8, day: i8, weekday: i8) -> bool {
        let (day, weekday) = (self.days.has(day), self.weekdays.has(weekday));
        let is_day = if self.days.any || self.weekdays.any { day && weekday } else { day || weekday };
        self.months.has(month) && is_day
    }

    pub fn has_hour(&self, hour: i8) -> bool {
        self.hours.has(hour)
    }

    pub fn has_minute(&self, minute: i8) -> bool {
        self.minutes.has(minute)
    }
}

impl Schedule {
    /// The error is why the text is no schedule.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(duration) = text.strip_prefix("@every ") {
            let parsed = duration_nanos(duration).map_err(|why| format!("failed to parse duration {text}: {why}"))?;
            let seconds = u64::try_from(parsed / NANOS_PER_SECOND).unwrap_or(0).max(1);
            return Ok(Schedule::Every(Duration::from_secs(seconds)));
        }
        if !text.starts_with('@') {
            return calendar(text);
        }
        let meant = MACROS.iter().find(|(name, _)| *name == text);
        meant.map_or_else(|| Err(format!("unrecognized descriptor: {text}")), |(_, meant)| calendar(meant))
    }
}

fn calendar(text: &str) -> Result<Schedule, String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let &[minutes, hours, days, months, weekdays] = fields.as_slice() else {
        let found = fields.len();
        return Err(format!("expected exactly 5 fields, found {found}: [{}]", fields.join(" ")));
    };
    Ok(Schedule::Calendar(Calendar {
        minutes: FIELDS[0].numbers(minutes)?,
        hours: FIELDS[1].numbers(hours)?,
        days: FIELDS[2].numbers(days)?,
        months: FIELDS[3].numbers(months)?,
        weekdays: FIELDS[4].numbers(weekdays)?,
    }))
}

impl Field {
    fn numbers(&self, text: &str) -> Result<Numbers, String> {
        let mut numbers = Numbers::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let part = self.part(part)?;
            numbers = Numbers { bits: numbers.bits | part.bits, any: numbers.any || part.any };
        }
        Ok(numbers)
    }

    /// `*`, `5`, `5-10`, each with `/2` or without.
    fn part(&self, part: &str) -> Result<Numbers, String> {
        let range_and_step: Vec<&str> = part.split('/').collect();
        let range: Vec<&str> = range_and_step[0].split('-').collect();
        let is_star = matches!(range[0], "*" | "?");
        let (start, mut end) = if is_star {
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
            let numbers = (start..=end).step_by(usize::try_from(step).unwrap_or(usize::MAX));
            // With a step, a star asks for something.
            Ok(Numbers { bits: numbers.fold(0, |bits, number| bits | 1 << number), any: is_star && step == 1 })
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

const NANOS_PER_SECOND: i128 = 1_000_000_000;
const UNITS: &[(&str, i128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", NANOS_PER_SECOND),
    ("m", 60 * NANOS_PER_SECOND),
    ("h", 3600 * NANOS_PER_SECOND),
];

/// `1h30m`, as Go reads it and says what is wrong with it.
fn duration_nanos(text: &str) -> Result<i128, String> {
    let is_negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let invalid = || format!("time: invalid duration {text:?}");
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let number;
        (number, rest) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len()));
        if number.matches('.').count() > 1 || !number.contains(|c: char| c.is_ascii_digit()) {
            return Err(invalid());
        }
        let unit;
        (unit, rest) = rest.split_at(rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len()));
        let size = match UNITS.iter().find(|(name, _)| *name == unit) {
            Some((_, size)) => *size,
            None if unit.is_empty() => return Err(format!("time: missing unit in duration {text:?}")),
            None => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        nanos += times(number, size).ok_or_else(invalid)?;
        if nanos > i128::from(i64::MAX) {
            return Err(invalid());
        }
    }
    Ok(if is_negative { -nanos } else { nanos })
}

/// A decimal number of units, without what is smaller than a nanosecond.
fn times(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()? };
    let mut part = 0;
    let mut place = unit;
    for digit in fraction.bytes() {
        // In tenths of the unit, hundredths and so on, each cut to whole nanoseconds.
        place /= 10;
        part += place * i128::from(digit - b'0');
    }
    Some(i128::from(whole) * unit + part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Which minutes, hours, days of the month, months and weekdays it is due at.
    fn check(text: &str, expected: [&[i8]; 5]) {
        let Ok(Schedule::Calendar(calendar)) = Schedule::parse(text) else { panic!("{text} is no calendar") };
        let of = |numbers: Numbers| (0..64).filter(|number| numbers.has(*number)).collect::<Vec<_>>();
        let Calendar { minutes, hours, days, months, weekdays } = calendar;
        assert_eq!([minutes, hours, days, months, weekdays].map(of), expected.map(<[i8]>::to_vec), "{text}");
    }

    fn range(first: i8, last: i8) -> Vec<i8> {
        (first..=last).collect()
    }

    #[test]
    fn the_five_fields() {
        let (hours, days, months, weekdays) = (range(0, 23), range(1, 31), range(1, 12), range(0, 6));
        check("*/20 * * * *", [&[0, 20, 40], &hours, &days, &months, &weekdays]);
        check("5/25 1-3 ? JAN,mar sun-Tue", [&[5, 30, 55], &[1, 2, 3], &days, &[1, 3], &[0, 1, 2]]);
        check("0,30 10-20/5 1,15 * 5", [&[0, 30], &[10, 15, 20], &[1, 15], &months, &[5]]);
        check("@hourly", [&[0], &hours, &days, &months, &weekdays]);
        check("@weekly", [&[0], &[0], &days, &months, &[0]]);
        check("@annually", [&[0], &[0], &[1], &[1], &weekdays]);
        check(", * * * *", [&[], &hours, &days, &months, &weekdays]);
    }

    #[test]
    fn either_day_is_enough_where_both_are_named() {
        let check = |text: &str, day: i8, weekday: i8, expected: bool| {
            let Ok(Schedule::Calendar(calendar)) = Schedule::parse(text) else { panic!("{text} is no calendar") };
            assert_eq!(calendar.has_day(1, day, weekday), expected, "{text} on the {day}., weekday {weekday}");
        };
        check("0 0 13 * 5", 13, 1, true);
        check("0 0 13 * 5", 14, 5, true);
        check("0 0 13 * 5", 14, 4, false);
        check("0 0 13 * *", 14, 5, false);
        check("0 0 * * 5", 13, 4, false);
        check("0 0 */2 * 5", 3, 4, true);
    }

    #[test]
    fn intervals_are_of_whole_seconds() {
        let check = |text: &str, expected: Result<u64, &str>| {
            let expected = expected.map(|seconds| Schedule::Every(Duration::from_secs(seconds)));
            assert_eq!(Schedule::parse(text), expected.map_err(str::to_owned), "{text}");
        };
        check("@every 1h30m", Ok(5400));
        check("@every 1.5h", Ok(5400));
        check("@every 2500ms", Ok(2));
        check("@every .5s", Ok(1));
        check("@every -5m", Ok(1));
        check("@every 0", Ok(1));
        let far = "failed to parse duration @every 9999999h: time: invalid duration \"9999999h\"";
        check("@every 9999999h", Err(far));
        check("@every 5", Err("failed to parse duration @every 5: time: missing unit in duration \"5\""));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[@*?/,0-9a-z. -]{0,24}", prefix in "(@every )?") {
            let _ = Schedule::parse(&format!("{prefix}{text}"));
        }

        #[test]
        fn any_characters_are_answered(text in ".{0,24}") {
            let _ = Schedule::parse(&text);
        }
    }
}
