//! Durations and sizes as operators write them: `30s`, `5m`, `64KiB`. Layer 0.
//!
//! One grammar for the configuration file, the environment and flags: a whole number followed by a
//! unit. Refuses signs, fractions, missing or unknown units, sums (`1h30m`) and whatever does not
//! fit 64 bits, so that a typing error never becomes a limit that nobody meant.

use std::time::Duration;

use thiserror::Error;

/// Why a duration or a size was refused. The text is for the operator and quotes what was given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UnitError {
    /// Not a whole number followed by a known unit of time.
    #[error(
        "`{0}` is not a duration: write a whole number and a unit, one of ms, s, m, h, d, for example `30s`"
    )]
    Duration(String),
    /// Not a whole number followed by a known unit of size.
    #[error(
        "`{0}` is not a size: write a whole number and a unit, one of B, KiB, MiB, GiB, for example `64KiB`"
    )]
    Size(String),
    /// A number that does not fit.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

/// Longest part of a refused text that an error quotes, in characters.
const QUOTED_CHARS: usize = 40;

/// Parses a duration: a whole number and `ms`, `s`, `m`, `h` or `d` (24 h). `0` may stand alone.
///
/// # Errors
/// [`UnitError::Duration`] when the text has another form, [`UnitError::TooLarge`] when it
/// overflows.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let text = text.trim();
    let malformed = || UnitError::Duration(quoted(text));
    let (digits, unit) = split(text).ok_or_else(malformed)?;
    let milliseconds_a_unit: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if digits.bytes().all(|digit| digit == b'0') => 1,
        _ => return Err(malformed()),
    };
    multiply(digits, milliseconds_a_unit, text).map(Duration::from_millis)
}

/// Parses a size in bytes: a whole number and `B`, `KiB`, `MiB` or `GiB`. `0` may stand alone.
///
/// # Errors
/// [`UnitError::Size`] when the text has another form (powers of ten such as `kB` are refused, as
/// they are so often meant as powers of two), [`UnitError::TooLarge`] when it overflows.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    let malformed = || UnitError::Size(quoted(text));
    let (digits, unit) = split(text).ok_or_else(malformed)?;
    let bytes_a_unit: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "" if digits.bytes().all(|digit| digit == b'0') => 1,
        _ => return Err(malformed()),
    };
    multiply(digits, bytes_a_unit, text)
}

/// The leading digits (at least one) and what follows them, a space between the two left off.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    (!digits.is_empty()).then(|| (digits, unit.strip_prefix(' ').unwrap_or(unit)))
}

/// `digits` times `factor`; `text` is what an error quotes.
fn multiply(digits: &str, factor: u64, text: &str) -> Result<u64, UnitError> {
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| UnitError::TooLarge(quoted(text)))
}

/// The text as an error may quote it: shortened, control characters escaped.
fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTED_CHARS).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            (" 90 d ", 7_776_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn other_forms_of_durations_are_refused() {
        for text in ["", "s", "30", "-1s", "+1s", "1.5s", "1h30m", "30S", "5 min", "１s", "1e3s"] {
            assert_eq!(
                parse_duration(text),
                Err(UnitError::Duration(text.trim().into())),
                "{text}"
            );
        }
        assert!(matches!(parse_duration("99999999999999999999d"), Err(UnitError::TooLarge(_))));
        assert!(matches!(parse_duration("18446744073709551615s"), Err(UnitError::TooLarge(_))));
    }

    #[test]
    fn sizes_are_a_number_and_a_binary_unit() {
        for (text, bytes) in
            [("0", 0), ("512B", 512), ("64KiB", 65_536), ("1MiB", 1_048_576), ("2 GiB", 2 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn other_forms_of_sizes_are_refused() {
        for text in ["", "KiB", "64", "64k", "64KB", "64kib", "-1B", "0.5MiB", "0x10B"] {
            assert_eq!(parse_size(text), Err(UnitError::Size(text.into())), "{text}");
        }
        assert!(matches!(parse_size("18446744073709551615KiB"), Err(UnitError::TooLarge(_))));
    }

    #[test]
    fn an_error_quotes_a_bounded_printable_part() {
        let message = parse_size(&"\u{1b}x".repeat(1_000)).unwrap_err().to_string();
        assert!(message.len() < 500 && !message.contains('\u{1b}'), "{message}");
    }
}
