//! x87 extended precision: what INCRBYFLOAT computes with, bit for bit.
//!
//! Redis adds C long doubles, which on x86-64 carry 64 bits of mantissa, and prints 17 decimals. The
//! sums differ visibly from those of a 64-bit double, so the arithmetic is done here: exactly, on
//! big integers, and rounded to 64 bits (half to even) where the hardware would round.

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::Zero;

/// Bits of a long double's mantissa, and the exponents of the smallest number above its range and
/// of the smallest denormal. Denormals keep all their bits here, which shows in no sum: at 17
/// decimals they print as zero.
const MANTISSA_BITS: u64 = 64;
const EXPONENT_MAX: i64 = 16384;
const EXPONENT_MIN: i64 = -16445;
/// Decimal digits and exponent beyond which a number is out of range anyway: bounds the work.
const DECIMAL_EXPONENT_MAX: i64 = 5000;
const TEXT_MAX_BYTES: usize = 5 * 1024;
const DECIMALS: u32 = 17;

/// `mantissa * 2^exponent`, the mantissa at most 64 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongDouble {
    mantissa: BigInt,
    exponent: i64,
}

impl LongDouble {
    pub const ZERO: LongDouble = LongDouble {
        mantissa: BigInt::ZERO,
        exponent: 0,
    };

    /// Parses a decimal or hexadecimal number as `strtold` does, the whole text. `None` for
    /// anything else, and for what is too large or so small that it would become zero.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= TEXT_MAX_BYTES {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let (negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        match unsigned.strip_prefix("0x").or(unsigned.strip_prefix("0X")) {
            Some(hexadecimal) => parse_scaled(negative, hexadecimal, &HEXADECIMAL),
            None => parse_scaled(negative, unsigned, &DECIMAL),
        }
    }

    /// Whether the number is one that does not round to zero.
    fn is_not_underflow(&self) -> bool {
        // Half of the smallest denormal is rounded to even, which is zero.
        let half = EXPONENT_MIN - 1;
        let top = self.exponent + self.mantissa.bits() as i64 - 1;
        let exactly_half = top == half && self.mantissa.magnitude().count_ones() == 1;
        top >= half && !exactly_half
    }

    /// The sum; `None` if it is out of range.
    pub fn add(&self, other: &LongDouble) -> Option<LongDouble> {
        let exponent = self.exponent.min(other.exponent);
        let align = |n: &LongDouble| &n.mantissa << (n.exponent - exponent) as u64;
        let sum = align(self) + align(other);
        let negative = sum.sign() == Sign::Minus;
        let magnitude = sum.into_parts().1;
        if magnitude.is_zero() {
            return Some(LongDouble::ZERO);
        }
        let one = BigUint::from(1u8);
        if exponent >= 0 {
            round(negative, magnitude << exponent as u64, &one)
        } else {
            round(negative, magnitude, &(one << exponent.unsigned_abs()))
        }
    }

    /// As C's `%.17Lf`, without trailing zeros.
    pub fn to_fixed(&self) -> String {
        let scaled = self.mantissa.magnitude() * BigUint::from(10u8).pow(DECIMALS);
        let scaled = if self.exponent >= 0 {
            scaled << self.exponent as u64
        } else {
            divide_half_even(
                &scaled,
                &(BigUint::from(1u8) << self.exponent.unsigned_abs()),
            )
        };
        let digits = format!(
            "{:0>width$}",
            scaled.to_string(),
            width = DECIMALS as usize + 1
        );
        let (whole, fraction) = digits.split_at(digits.len() - DECIMALS as usize);
        let fraction = fraction.trim_end_matches('0');
        let sign = if self.mantissa.sign() == Sign::Minus {
            "-"
        } else {
            ""
        };
        match fraction {
            "" if whole == "0" => "0".into(),
            "" => format!("{sign}{whole}"),
            _ => format!("{sign}{whole}.{fraction}"),
        }
    }
}

/// How a number is written: `digits[.digits][<mark>power]`.
struct Notation {
    radix: u32,
    mark: char,
    /// What the power is a power of.
    base: u8,
    /// How much one digit after the point takes from the power.
    power_per_digit: i64,
    /// Powers beyond which a number is out of range, however many digits it has.
    power_max: i64,
}

const DECIMAL: Notation = Notation {
    radix: 10,
    mark: 'e',
    base: 10,
    power_per_digit: 1,
    power_max: DECIMAL_EXPONENT_MAX + TEXT_MAX_BYTES as i64,
};

const HEXADECIMAL: Notation = Notation {
    radix: 16,
    mark: 'p',
    base: 2,
    power_per_digit: 4,
    power_max: 4 * (DECIMAL_EXPONENT_MAX + TEXT_MAX_BYTES as i64),
};

fn parse_scaled(negative: bool, text: &str, notation: &Notation) -> Option<LongDouble> {
    let (digits, power) = match text.find([notation.mark, notation.mark.to_ascii_uppercase()]) {
        Some(at) => (&text[..at], parse_power(&text[at + 1..])?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = [whole, fraction].concat();
    if all.is_empty() || !all.chars().all(|digit| digit.is_digit(notation.radix)) {
        return None;
    }
    let number = BigUint::parse_bytes(all.as_bytes(), notation.radix)?;
    if number.is_zero() {
        return Some(LongDouble::ZERO);
    }
    let power = power.saturating_sub(fraction.len() as i64 * notation.power_per_digit);
    if !(-notation.power_max..=notation.power_max).contains(&power) {
        return None;
    }
    let scale = BigUint::from(notation.base).pow(power.unsigned_abs() as u32);
    let (above, below) = if power >= 0 {
        (number * scale, BigUint::from(1u8))
    } else {
        (number, scale)
    };
    round(negative, above, &below).filter(LongDouble::is_not_underflow)
}

/// An exponent; one of too many digits stands for one that is out of range.
fn parse_power(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let out_of_range = if text.starts_with('-') {
        i64::MIN
    } else {
        i64::MAX
    };
    Some(text.parse().unwrap_or(out_of_range))
}

/// `above / below` rounded to 64 bits of mantissa.
fn round(negative: bool, above: BigUint, below: &BigUint) -> Option<LongDouble> {
    let mut exponent = above.bits() as i64 - below.bits() as i64 - MANTISSA_BITS as i64;
    let quotient = |exponent: i64| {
        if exponent >= 0 {
            divide_half_even(&above, &(below << exponent as u64))
        } else {
            divide_half_even(&(&above << exponent.unsigned_abs()), below)
        }
    };
    let mut mantissa = quotient(exponent);
    if mantissa.bits() > MANTISSA_BITS {
        exponent += 1;
        mantissa = quotient(exponent);
    }
    if exponent + MANTISSA_BITS as i64 > EXPONENT_MAX {
        return None;
    }
    let sign = if negative { Sign::Minus } else { Sign::Plus };
    Some(LongDouble {
        mantissa: BigInt::from_biguint(sign, mantissa),
        exponent,
    })
}

fn divide_half_even(above: &BigUint, below: &BigUint) -> BigUint {
    let quotient = above / below;
    let twice = (above - &quotient * below) << 1u8;
    let up = match twice.cmp(below) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => quotient.bit(0),
        std::cmp::Ordering::Less => false,
    };
    if up { quotient + 1u8 } else { quotient }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        let parse = |text: &str| LongDouble::parse(text.as_bytes()).unwrap();
        parse(a).add(&parse(b)).unwrap().to_fixed()
    }

    #[test]
    fn sums_are_those_of_redis() {
        // Captured from redis-server 7.0.15.
        for (a, b, expected) in [
            ("3.0", "1.1", "4.1"),
            ("1", "0.5", "1.5"),
            ("17179869184", "1.5", "17179869185.5"),
            ("5.0e3", "2.0e2", "5200"),
            ("1", "-1.1", "-0.1"),
            ("0", "0", "0"),
            ("0", "0x1p-3", "0.125"),
            ("0x1F", "0X.8P1", "32"),
            ("5005.5", "0x10", "5021.5"),
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_number_does_not_parse() {
        for bad in [
            "",
            "-",
            "abc",
            "1.2.3",
            " 1",
            "1 ",
            "1e",
            "1e99999",
            "nan",
            ".",
            "0x",
            "1e-5000",
            "1e-99999",
            "1e-99999999999999999999",
            "0x1p",
            "0x.p1",
            "0xg",
            "1e+-1",
        ] {
            assert_eq!(LongDouble::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert!(LongDouble::parse(b"1e-4950").is_some(), "a denormal");
        assert!(LongDouble::parse(b"0e99999999999999999999").is_some());
    }
}
