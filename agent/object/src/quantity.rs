//! Quantities: exact decimal numbers with a suffix, such as `100m`, `1.5Gi` or `2e3`.
//!
//! Owns parsing, the canonical form and arithmetic, as apimachinery's `resource.Quantity` has them: at most nine
//! decimal places (more are rounded away from zero), at most 2^63-1 (more is capped).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Units of a quantity in one: a quantity counts billionths.
const NANOS: i128 = 1_000_000_000;
/// The largest magnitude upstream can hold.
const NANOS_MAX: i128 = i64::MAX as i128 * NANOS;
/// The significant digits that are kept exactly; those beyond only round up. Decimals need 28 (19 before the point,
/// nine after); with a binary suffix, 20 are what fits in 128 bits.
const DIGITS_MAX: (usize, usize) = (28, 20);

/// Which family of suffixes the canonical form uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// `n u m k M G T P E`
    #[default]
    DecimalSi,
    /// `Ki Mi Gi Ti Pi Ei`
    BinarySi,
    /// `e3`
    DecimalExponent,
}

/// An exact quantity. Equality and order are those of the number; the format only matters when it is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Display is upstream's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
    #[error("unable to parse numeric part of quantity")]
    Number,
}

/// What a suffix multiplies by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    /// A power of ten.
    Ten(i32),
    /// A power of 1024.
    Binary(u32),
}

const SUFFIXES: &[(&str, Scale)] = &[
    ("", Scale::Ten(0)),
    ("n", Scale::Ten(-9)),
    ("u", Scale::Ten(-6)),
    ("m", Scale::Ten(-3)),
    ("k", Scale::Ten(3)),
    ("M", Scale::Ten(6)),
    ("G", Scale::Ten(9)),
    ("T", Scale::Ten(12)),
    ("P", Scale::Ten(15)),
    ("E", Scale::Ten(18)),
    ("Ki", Scale::Binary(1)),
    ("Mi", Scale::Binary(2)),
    ("Gi", Scale::Binary(3)),
    ("Ti", Scale::Binary(4)),
    ("Pi", Scale::Binary(5)),
    ("Ei", Scale::Binary(6)),
];

impl Quantity {
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSi };

    /// Parses a quantity; see the type's documentation for rounding and capping.
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        let (number, suffix) = split(text)?;
        let (scale, mut format) = parse_suffix(suffix)?;
        let nanos = parse_number(number, scale)?.clamp(-NANOS_MAX, NANOS_MAX);
        if format == Format::BinarySi && nanos > 0 && nanos < NANOS {
            format = Format::DecimalSi;
        }
        Ok(Quantity { nanos, format })
    }

    pub fn from_value(value: i64, format: Format) -> Quantity {
        Quantity { nanos: i128::from(value) * NANOS, format }
    }

    pub fn from_milli(milli: i64, format: Format) -> Quantity {
        Quantity { nanos: i128::from(milli) * (NANOS / 1000), format }
    }

    /// The whole number, rounded up.
    pub fn value(&self) -> i64 {
        saturate(ceil_div(self.nanos, NANOS))
    }

    /// Thousandths, rounded up.
    pub fn milli_value(&self) -> i64 {
        saturate(ceil_div(self.nanos, NANOS / 1000))
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Whether nothing is after the decimal point.
    pub fn is_integer(&self) -> bool {
        self.nanos % NANOS == 0
    }

    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANOS as f64
    }
}

/// The sum, capped; the format is the left one's, unless that is zero.
impl std::ops::Add for Quantity {
    type Output = Quantity;
    fn add(self, other: Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity { nanos: (self.nanos + other.nanos).clamp(-NANOS_MAX, NANOS_MAX), format }
    }
}

/// The difference, capped; the format is the left one's, unless that is zero.
impl std::ops::Sub for Quantity {
    type Output = Quantity;
    fn sub(self, other: Quantity) -> Quantity {
        self + Quantity { nanos: -other.nanos, format: other.format }
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(items: I) -> Quantity {
        items.fold(Quantity::ZERO, |sum, item| sum + item)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Quantity, QuantityError> {
        Quantity::parse(text)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        match self.format {
            Format::DecimalSi => self.write_decimal(f, "", suffix_of),
            Format::DecimalExponent => self.write_decimal(f, "e", |_| ""),
            Format::BinarySi if self.nanos.abs() < 1024 * NANOS => self.write_decimal(f, "", suffix_of),
            Format::BinarySi => self.write_binary(f),
        }
    }
}

impl Quantity {
    fn write_decimal(&self, f: &mut fmt::Formatter<'_>, e: &str, suffix: fn(i32) -> &'static str) -> fmt::Result {
        let (mut mantissa, mut exponent) = (self.nanos, -9);
        while mantissa % 1000 == 0 {
            mantissa /= 1000;
            exponent += 3;
        }
        match (e, exponent) {
            ("", _) | (_, 0) => write!(f, "{mantissa}{}", suffix(exponent)),
            (e, exponent) => write!(f, "{mantissa}{e}{exponent}"),
        }
    }

    fn write_binary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut mantissa, mut exponent) = (div_away(self.nanos, NANOS), 0);
        while mantissa % 1024 == 0 {
            mantissa /= 1024;
            exponent += 1;
        }
        let suffix = SUFFIXES.iter().find(|(name, scale)| *scale == Scale::Binary(exponent) && !name.is_empty());
        write!(f, "{mantissa}{}", suffix.map_or("", |(name, _)| *name))
    }
}

fn suffix_of(exponent: i32) -> &'static str {
    SUFFIXES.iter().find(|(_, scale)| *scale == Scale::Ten(exponent)).map_or("", |(name, _)| *name)
}

/// Splits into the number (with its sign) and the suffix.
fn split(text: &str) -> Result<(&str, &str), QuantityError> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    if !unsigned[..digits].contains(|c: char| c.is_ascii_digit()) {
        return Err(QuantityError::Format);
    }
    let (number, suffix) = text.split_at(text.len() - unsigned.len() + digits);
    let letters = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let exponent = letters.strip_prefix(['+', '-']).unwrap_or(letters);
    if !exponent.chars().all(|c| c.is_ascii_digit()) {
        return Err(QuantityError::Format);
    }
    if number.matches('.').count() > 1 {
        return Err(QuantityError::Number);
    }
    Ok((number, suffix))
}

fn parse_suffix(suffix: &str) -> Result<(Scale, Format), QuantityError> {
    if let Some((_, scale)) = SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        let format = match scale {
            Scale::Ten(_) => Format::DecimalSi,
            Scale::Binary(_) => Format::BinarySi,
        };
        return Ok((*scale, format));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
    let exponent: i32 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
    Ok((Scale::Ten(exponent), Format::DecimalExponent))
}

/// The number times the scale, in billionths; huge numbers come out beyond the cap.
fn parse_number(number: &str, scale: Scale) -> Result<i128, QuantityError> {
    let negative = number.starts_with('-');
    let unsigned = number.trim_start_matches(['+', '-']);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    let digits: String = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    let (power, factor, digits_max) = match scale {
        Scale::Ten(power) => (i64::from(power), 1, DIGITS_MAX.0),
        Scale::Binary(power) => (0, 1024_i128.pow(power), DIGITS_MAX.1),
    };
    // A digit that was cut off still counts for rounding, hence `lost`.
    let (kept, lost) = digits.split_at(digits.len().min(digits_max));
    let exponent = power + 9 - fraction.len() as i64 + lost.len() as i64;
    let mantissa: i128 = kept.parse().map_err(|_| QuantityError::Number)?;
    let lost = lost.bytes().any(|digit| digit != b'0');
    let magnitude = scale_up_or_round(mantissa, factor, exponent, lost);
    Ok(if negative { -magnitude } else { magnitude })
}

/// `mantissa * factor * 10^exponent`, rounded up; beyond the cap it only stays beyond the cap.
fn scale_up_or_round(mantissa: i128, factor: i128, exponent: i64, lost: bool) -> i128 {
    let Some(value) = mantissa.checked_mul(factor) else {
        return NANOS_MAX;
    };
    let power = u32::try_from(exponent.unsigned_abs()).ok().and_then(|power| 10_i128.checked_pow(power));
    let rounded_up = i128::from(lost);
    match (exponent >= 0, power) {
        (true, Some(power)) => value.checked_mul(power).unwrap_or(NANOS_MAX),
        (true, None) => NANOS_MAX,
        (false, Some(power)) => ceil_div(value + rounded_up, power),
        (false, None) => 1,
    }
}

fn ceil_div(value: i128, divisor: i128) -> i128 {
    let quotient = value / divisor;
    if value % divisor > 0 { quotient + 1 } else { quotient }
}

fn div_away(value: i128, divisor: i128) -> i128 {
    value.signum() * ceil_div(value.abs(), divisor)
}

fn saturate(value: i128) -> i64 {
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

#[cfg(test)]
mod tests;
