//! Percent-encoding, times, numbers and words of a shell as the pages write them. Layer 5, pure.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::audit::search::is_unsafe_to_print;

/// Decodes `a=1&b=2` (application/x-www-form-urlencoded). What is malformed is taken as it stands.
pub(super) fn pairs(query: &str) -> Vec<(String, String)> {
    /// More than any page has; the rest is not looked at.
    const MOST: usize = 64;
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .take(MOST)
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                match (ahead.next().and_then(hex), ahead.next().and_then(hex)) {
                    (Some(high), Some(low)) => {
                        bytes.push(high << 4 | low);
                        rest = ahead;
                    }
                    (_, None) | (None, _) => bytes.push(byte),
                }
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Encodes one value for a query or a path segment.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

/// A number with thin groups of three: `1 234 567`.
pub(super) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A count and its noun.
pub(super) fn count(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(value), if value == 1 { one } else { many })
}

/// A moment in UTC, by `strftime` format; empty when it is out of range.
pub(super) fn moment(microseconds: i64, format: &str) -> String {
    Timestamp::from_microsecond(microseconds)
        .map(|time| time.to_zoned(TimeZone::UTC).strftime(format).to_string())
        .unwrap_or_default()
}

/// A moment to the second, for people: `2026-11-21 09:30:00`.
pub(super) fn second(microseconds: i64) -> String {
    moment(microseconds, "%Y-%m-%d %H:%M:%S")
}

/// A moment for links: RFC 3339.
pub(super) fn rfc3339(microseconds: i64) -> String {
    moment(microseconds, "%Y-%m-%dT%H:%M:%SZ")
}

/// How long ago, roughly.
pub(super) fn ago(microseconds: i64, now: i64) -> String {
    let seconds = now.saturating_sub(microseconds) / 1_000_000;
    match seconds {
        ..=1 => "just now".to_owned(),
        2..=119 => format!("{seconds} s ago"),
        120..=7_199 => format!("{} min ago", seconds / 60),
        7_200..=172_799 => format!("{} h ago", seconds / 3_600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

/// Bytes for people.
pub(super) fn bytes(value: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut unit = 0;
    let mut scaled = value as f64;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("B");
    if unit == 0 { format!("{value} B") } else { format!("{scaled:.1} {name}") }
}

/// A text as one word of a shell, to be pasted into a terminal. Control characters, which a terminal
/// or a line editor may act on before the shell sees a quote, are written as escapes (`$'…'`).
pub(super) fn shell_quoted(text: &str) -> String {
    if !text.chars().any(is_unsafe_to_print) {
        return format!("'{}'", text.replace('\'', "'\\''"));
    }
    let mut quoted = String::from("$'");
    for character in text.chars() {
        match character {
            '\'' | '\\' => quoted.extend(['\\', character]),
            // Three octal digits, so that what follows is not a part of it.
            other if is_unsafe_to_print(other) => {
                let mut bytes = [0; 4];
                for byte in other.encode_utf8(&mut bytes).bytes() {
                    quoted.push_str(&format!("\\{byte:03o}"));
                }
            }
            other => quoted.push(other),
        }
    }
    quoted + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_word_of_a_shell_whatever_it_holds() {
        // What a shell makes of such words is tested with one, in tests/console.
        assert_eq!(shell_quoted("SELECT 1"), "'SELECT 1'");
        assert_eq!(shell_quoted(""), "''");
        assert_eq!(shell_quoted("it's $(id) \\ !!"), "'it'\\''s $(id) \\ !!'");
        assert_eq!(shell_quoted("a\u{3}1\n'\\$(id)"), "$'a\\0031\\012\\'\\\\$(id)'");
        assert_eq!(shell_quoted("\u{202e}é\u{9b}"), "$'\\342\\200\\256é\\302\\233'");
    }

    #[test]
    fn queries_survive_what_clients_put_into_them() {
        for text in ["a b+c&d=e", "<script>\"'%00\u{e9}\u{1f600}", "100%", "%zz", "", "\r\n"] {
            let query = format!("x={}&y=1", encode(text));
            assert_eq!(pairs(&query)[0], ("x".to_owned(), text.to_owned()), "{query}");
        }
        assert_eq!(pairs("a=%zz&&b")[0].1, "%zz");
        assert_eq!(pairs("%ff=1")[0].0, "\u{fffd}");
    }

    #[test]
    fn numbers_and_times_are_for_people() {
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!((number(0), number(999)), ("0".to_owned(), "999".to_owned()));
        assert_eq!(count(1, "record", "records"), "1 record");
        assert_eq!(second(0), "1970-01-01 00:00:00");
        assert_eq!(rfc3339(1_500_000), "1970-01-01T00:00:01Z");
        assert_eq!(moment(i64::MAX, "%Y"), "");
        assert_eq!((ago(0, 90_000_000), ago(5, 0)), ("90 s ago".to_owned(), "just now".to_owned()));
        assert_eq!((bytes(12), bytes(1536)), ("12 B".to_owned(), "1.5 KiB".to_owned()));
    }
}
