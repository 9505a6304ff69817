//! x87 extended precision: what INCRBYFLOAT computes with, bit for bit.
//!
//! Redis adds C long doubles, which on x86-64 carry 64 bits of mantissa, and prints 17 decimals. The
//! sums differ visibly from those of a 64-bit double, so the arithmetic is done here: exactly, on
//! big integers, and rounded to 64 bits (half to even) where the hardware would round.

use num_bigint::{BigInt, BigUint, Sign};
use num_traits::Zero;

/// Bits of a long double's mantissa, and the exponent range within which it is normal. Numbers
/// below the range would be denormal; at 17 decimals they print as zero either way.
const MANTISSA_BITS: u64 = 64;
const EXPONENT_MAX: i64 = 16384;
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

    /// Parses a decimal number as `strtold` does, the whole text. `None` for anything else, and for
    /// what is too large.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() > TEXT_MAX_BYTES {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let (negative, unsigned) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (digits, power) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], unsigned[at + 1..].parse::<i64>().ok()?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let all = [whole, fraction].concat();
        if all.is_empty() || !all.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let number: BigUint = all.parse().ok()?;
        let power = power.checked_sub(fraction.len() as i64)?;
        if number.is_zero() {
            return Some(LongDouble::ZERO);
        }
        if power < -DECIMAL_EXPONENT_MAX - TEXT_MAX_BYTES as i64 {
            return Some(LongDouble::ZERO);
        }
        if power > DECIMAL_EXPONENT_MAX {
            return None;
        }
        let ten = BigUint::from(10u8).pow(power.unsigned_abs() as u32);
        let (above, below) = if power >= 0 {
            (number * ten, BigUint::from(1u8))
        } else {
            (number, ten)
        };
        round(negative, above, &below)
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
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
        }
    }

    #[test]
    fn what_is_no_number_does_not_parse() {
        for bad in [
            "", "-", "abc", "1.2.3", " 1", "1 ", "1e", "1e99999", "nan", ".", "0x",
        ] {
            assert_eq!(LongDouble::parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert!(LongDouble::parse(b"1e-99999").is_some());
    }
}
