//! Doubles as C's printf writes them.

use std::fmt::{self, Write};

/// What `%.17g` takes at most: `-1.2345678901234567e-308`.
const TEXT_MAX_BYTES: usize = 24;
/// Digits that tell every double from its neighbours.
const DIGITS_MAX: u8 = 17;
/// Bits of a double behind the point.
const FRACTION_BITS: i32 = 52;
/// The powers of ten by which 53 bits can be multiplied within 128.
const POW10: [u128; 23] = {
    let mut powers = [1; 23];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// A double's text.
#[derive(Clone, Copy)]
pub struct DoubleText {
    bytes: [u8; TEXT_MAX_BYTES],
    len: usize,
}

impl DoubleText {
    fn new(sign: bool) -> DoubleText {
        let mut text = DoubleText {
            bytes: [0; TEXT_MAX_BYTES],
            len: 0,
        };
        if sign {
            text.push(b"-");
        }
        text
    }

    fn push(&mut self, more: &[u8]) {
        self.bytes[self.len..self.len + more.len()].copy_from_slice(more);
        self.len += more.len();
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub fn to_vec(self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
}

impl fmt::Debug for DoubleText {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl PartialEq<&str> for DoubleText {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

/// Formats a double as C's `%.17g`, with `inf`, `-inf` and `nan` as Redis spells them.
pub fn format_f64(value: f64) -> DoubleText {
    // Integers below 2^53 print without an exponent and are by far the most frequent.
    if value != 0.0 && value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        let mut text = DoubleText::new(false);
        text.push(itoa::Buffer::new().format(value as i64).as_bytes());
        return text;
    }
    format_g(value, DIGITS_MAX)
}

/// C's `%.{precision}g`: that many significant digits, up to 17, trailing zeros removed, exponent form
/// outside 1e-4..1e`precision`. `nan` has no sign.
pub fn format_g(value: f64, precision: u8) -> DoubleText {
    let mut text = DoubleText::new(value.is_sign_negative() && !value.is_nan());
    let word: &[u8] = match value {
        _ if value.is_nan() => b"nan",
        _ if value.is_infinite() => b"inf",
        0.0 => b"0",
        _ => b"",
    };
    if !word.is_empty() {
        text.push(word);
        return text;
    }
    let precision = precision.clamp(1, DIGITS_MAX);
    let (digits, exponent) = exact_digits(value.abs(), precision)
        .unwrap_or_else(|| printed_digits(value.abs(), precision));
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(digits).trim_end_matches('0').as_bytes();
    const ZEROS: [u8; DIGITS_MAX as usize] = [b'0'; DIGITS_MAX as usize];
    if !(-4..i32::from(precision)).contains(&exponent) {
        let (first, rest) = digits.split_at(1);
        text.push(first);
        if !rest.is_empty() {
            text.push(b".");
            text.push(rest);
        }
        text.push(if exponent < 0 { b"e-" } else { b"e+" });
        let exponent = exponent.unsigned_abs();
        text.push(if exponent < 10 { b"0" } else { b"" });
        text.push(itoa::Buffer::new().format(exponent).as_bytes());
    } else if exponent < 0 {
        text.push(b"0.");
        text.push(&ZEROS[..exponent.unsigned_abs() as usize - 1]);
        text.push(digits);
    } else {
        let whole = exponent as usize + 1;
        match digits.split_at_checked(whole) {
            Some((whole, [])) => text.push(whole),
            Some((whole, fraction)) => {
                text.push(whole);
                text.push(b".");
                text.push(fraction);
            }
            None => {
                text.push(digits);
                text.push(&ZEROS[..whole - digits.len()]);
            }
        }
    }
    text
}

/// A positive double to so many significant digits, halves to even, as an integer of so many digits
/// and the power of ten of the first of them. In integers of 128 bits, which serve magnitudes that
/// people use, and several times as fast as [`printed_digits`].
fn exact_digits(value: f64, precision: u8) -> Option<(u64, i32)> {
    let bits = value.to_bits();
    let exponent = (bits >> FRACTION_BITS) as i32 - 1023;
    if exponent == -1023 {
        return None;
    }
    let mantissa = bits & ((1 << FRACTION_BITS) - 1) | 1 << FRACTION_BITS;
    // The logarithm of the power of two is that of the value, or one less.
    let least = (exponent * 1233) >> 12;
    let limit = POW10[usize::from(precision)];
    for first in [least, least + 1] {
        let power = usize::try_from(i32::from(precision) - 1 - first).ok()?;
        let scaled = u128::from(mantissa) * POW10.get(power)?;
        let digits = match exponent - FRACTION_BITS {
            up @ 0.. => scaled.checked_shl(up as u32)?,
            down => {
                let down = down.unsigned_abs();
                let (whole, half) = (scaled.checked_shr(down)?, 1 << (down - 1));
                let rest = scaled - (whole << down);
                whole + u128::from(rest > half || rest == half && whole & 1 == 1)
            }
        };
        if digits < limit {
            return (digits >= limit / 10).then_some((digits as u64, first));
        }
    }
    None
}

/// The same for every double.
fn printed_digits(value: f64, precision: u8) -> (u64, i32) {
    let mut text = String::with_capacity(TEXT_MAX_BYTES);
    let fraction = usize::from(precision) - 1;
    // Writing to a string does not fail, and what is written has this form.
    let _ = write!(text, "{value:.fraction$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = mantissa.bytes().filter(u8::is_ascii_digit);
    let number = digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    (number, exponent.parse().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_print_as_c_does() {
        for (value, text) in [
            (0.1, "0.10000000000000001"),
            (3.0, "3"),
            (-2.5, "-2.5"),
            (1e17, "1e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (-0.0, "-0"),
            (0.0, "0"),
            (12345678901234567890.0, "1.2345678901234567e+19"),
            // Halves go to the even digit.
            (1e15 + 0.25, "1000000000000000.2"),
            (1e15 + 0.75, "1000000000000000.8"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (99_999_999_999_999_984.0, "99999999999999984"),
            (f64::MAX, "1.7976931348623157e+308"),
            (-f64::MIN_POSITIVE, "-2.2250738585072014e-308"),
            (5e-324, "4.9406564584124654e-324"),
        ] {
            assert_eq!(format_f64(value), text);
        }
    }

    #[test]
    fn doubles_print_with_fewer_digits_too() {
        for (value, precision, text) in [
            (1.0 / 3.0, 14, "0.33333333333333"),
            (9_007_199_254_740_992.0, 14, "9.007199254741e+15"),
            (99_999_999_999_999.0, 14, "99999999999999"),
            (99_999_999_999_999.9, 14, "1e+14"),
            (1023.2, 14, "1023.2"),
            (0.0003, 14, "0.0003"),
            (1234.5, 3, "1.23e+03"),
            (9.99, 1, "1e+01"),
            (f64::NEG_INFINITY, 3, "-inf"),
            (-0.0, 14, "-0"),
        ] {
            assert_eq!(format_g(value, precision), text);
        }
    }

    #[test]
    fn digits_are_those_of_the_slow_way() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut fast = 0;
        for _ in 0..200_000 {
            let magnitude = 10_f64.powi(rng.i32(-8..20));
            let value = match rng.u8(..4) {
                0 => f64::from_bits(rng.u64(..)).abs(),
                1 => rng.f64() * magnitude,
                // Powers of ten, their neighbours, and ties.
                2 => f64::from_bits(magnitude.to_bits() + rng.u64(..3) - 1),
                _ => rng.u64(..1 << 53) as f64 / f64::from(1 << rng.u8(..20)),
            };
            let precision = rng.u8(1..=17);
            if !value.is_finite() || value == 0.0 {
                continue;
            }
            let Some(digits) = exact_digits(value, precision) else {
                continue;
            };
            fast += 1;
            assert_eq!(
                digits,
                printed_digits(value, precision),
                "{value:e} {precision}"
            );
        }
        assert!(fast > 50_000, "{fast}");
    }
}
