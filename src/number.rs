//! Numbers as Redis reads and prints them: the one leaf that every room may use.

mod print;

pub use print::{DoubleText, format_f64, format_g};

/// Parses a canonical signed 64-bit decimal: no spaces, no `+`, no leading zeros, no `-0`.
/// Redis: util.c string2ll, the form that may also be stored as an integer.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    match digits {
        [] => return None,
        [b'0'] => return (!negative).then_some(0),
        [b'0', ..] => return None,
        _ if digits.len() > 19 => return None,
        _ => {}
    }
    let mut value: u64 = 0;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    if negative {
        0i64.checked_sub_unsigned(value)
    } else {
        i64::try_from(value).ok()
    }
}

/// Parses a double within Redis' rules: the whole text, no leading space, no NaN, nothing that
/// overflows or underflows, `inf`/`infinity` with a sign and in any case, hexadecimal floats included.
/// Redis: util.c string2d.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let plain = !text.first()?.is_ascii_whitespace() && !text.contains(&0);
    let (value, in_range) = strtod(text).filter(|_| plain)?;
    in_range.then_some(value)
}

/// A double as C reads a whole text: blanks may come first, a NUL ends it, no text is zero, and what
/// overflows is infinite. Also whether the number was in range. `None`: there is more than a number,
/// or it is NaN.
pub fn strtod(text: &[u8]) -> Option<(f64, bool)> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some((0.0, true));
    }
    let text = std::str::from_utf8(text).ok()?;
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(("0x" | "0X", digits)) = unsigned.split_at_checked(2) {
        let magnitude = parse_hex_f64(digits)?;
        let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
        return Some((sign * magnitude, true));
    }
    let value: f64 = text.parse().ok()?;
    if value.is_nan() {
        return None;
    }
    let named_infinity = unsigned.starts_with(['i', 'I']);
    let digits = unsigned.split(['e', 'E']).next().unwrap_or_default();
    let named_zero = !digits.contains(|digit| matches!(digit, '1'..='9'));
    let in_range = match value {
        0.0 => named_zero,
        _ => value.is_finite() || named_infinity,
    };
    Some((value, in_range))
}

/// The part of a hexadecimal float after `0x`: digits, an optional fraction, an optional `p` power.
fn parse_hex_f64(text: &str) -> Option<f64> {
    let (mantissa, power) = match text.find(['p', 'P']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value = 0.0f64;
    for digit in whole.chars().chain(fraction.chars()) {
        value = value * 16.0 + f64::from(digit.to_digit(16)?);
    }
    let value = value * 2f64.powi(power.checked_sub(4 * i32::try_from(fraction.len()).ok()?)?);
    value.is_finite().then_some(value)
}

/// The number a text begins with, as C's `strtod` finds it, and its length in bytes: decimal and
/// hexadecimal floats, `inf`, `infinity`, `nan` and `nan(...)`, each with a sign. No blanks are skipped.
pub fn strtod_front(text: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let digits = text.get(sign..)?;
    let negative = text.first() == Some(&b'-');
    let signed = |value: f64| if negative { -value } else { value };
    let starts = |name: &[u8]| {
        digits
            .get(..name.len())
            .is_some_and(|front| front.eq_ignore_ascii_case(name))
    };
    if starts(b"nan") {
        return Some((signed(f64::NAN), sign + 3 + nan_payload_len(&digits[3..])));
    }
    if starts(b"inf") {
        let len = if starts(b"infinity") { 8 } else { 3 };
        return Some((signed(f64::INFINITY), sign + len));
    }
    if starts(b"0x")
        && let Some(len) = float_len(&digits[2..], u8::is_ascii_hexdigit, b'p')
    {
        let body = std::str::from_utf8(&digits[2..2 + len]).ok()?;
        let value = parse_hex_f64(body).unwrap_or(f64::INFINITY);
        return Some((signed(value), sign + 2 + len));
    }
    let len = float_len(digits, u8::is_ascii_digit, b'e')?;
    let value: f64 = std::str::from_utf8(&digits[..len]).ok()?.parse().ok()?;
    Some((signed(value), sign + len))
}

/// The length of `(letters, digits or underscores)` at the front, or zero.
fn nan_payload_len(text: &[u8]) -> usize {
    if text.first() != Some(&b'(') {
        return 0;
    }
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let end = 1 + text[1..].iter().take_while(|byte| inner(byte)).count();
    if text.get(end) == Some(&b')') {
        end + 1
    } else {
        0
    }
}

/// The length of digits, a fraction and a power at the front. `None`: there is no digit.
fn float_len(text: &[u8], digit: fn(&u8) -> bool, power: u8) -> Option<usize> {
    let run = |at: usize| text[at..].iter().take_while(|byte| digit(byte)).count();
    let whole = run(0);
    let mut end = whole;
    if text.get(end) == Some(&b'.') {
        let fraction = run(end + 1);
        if whole + fraction == 0 {
            return None;
        }
        end += 1 + fraction;
    } else if whole == 0 {
        return None;
    }
    if text
        .get(end)
        .is_some_and(|byte| byte.to_ascii_lowercase() == power)
    {
        let sign = usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        let from = end + 1 + sign;
        let tail = text.get(from..).unwrap_or_default();
        let exponent = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if exponent > 0 {
            end = from + exponent;
        }
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_integers_parse() {
        for (text, value) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1 ", None),
            ("12a", None),
            ("184467440737095516160", None),
        ] {
            assert_eq!(parse_i64(text.as_bytes()), value, "{text}");
        }
    }

    #[test]
    fn numbers_are_found_at_the_front_of_a_text() {
        for (text, value, len) in [
            ("12,", 12.0, 2),
            ("-1.5e3]", -1500.0, 6),
            ("1e+", 1.0, 1),
            ("1.", 1.0, 2),
            (".5", 0.5, 2),
            ("0x1F.8p1!", 63.0, 8),
            ("0xg", 0.0, 1),
            ("-Infinit", f64::NEG_INFINITY, 4),
            ("infinityy", f64::INFINITY, 8),
            ("1e999", f64::INFINITY, 5),
            ("+007", 7.0, 4),
        ] {
            assert_eq!(strtod_front(text.as_bytes()), Some((value, len)), "{text}");
        }
        for (text, len) in [("nan(a_1)b", 8), ("-NaN(", 4)] {
            let (value, found) = strtod_front(text.as_bytes()).expect("not a number");
            assert!(value.is_nan() && found == len, "{text}");
        }
        for text in ["", "-", ".", "e5", "x", " 1", "+.e1"] {
            assert_eq!(strtod_front(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn doubles_parse_whole_texts_only() {
        assert_eq!(parse_f64(b"1e3"), Some(1000.0));
        assert_eq!(parse_f64(b"+inf"), Some(f64::INFINITY));
        assert_eq!(parse_f64(b"-Infinity"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_f64(b"0x1p3"), Some(8.0));
        assert_eq!(parse_f64(b"0x.8"), Some(0.5));
        for bad in [
            "nan",
            "1e999",
            " 1",
            "1 ",
            "",
            "1e",
            "0x",
            "abc",
            "\u{1c0}1",
            "0\u{1c0}",
            "0x\u{1c0}",
        ] {
            assert_eq!(parse_f64(bad.as_bytes()), None, "{bad}");
        }
    }
}
