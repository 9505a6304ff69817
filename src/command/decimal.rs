//! Decimal numbers that INCRBYFLOAT and HINCRBYFLOAT add.

use crate::resp::CmdError;
use crate::value::longdouble::LongDouble;

/// What counts as a number. Infinity is one, but no sum with it is.
pub enum Number {
    Finite(LongDouble),
    Infinite,
}

pub fn parse(text: &[u8]) -> Result<Number, CmdError> {
    if let Some(number) = LongDouble::parse(text) {
        return Ok(Number::Finite(number));
    }
    let unsigned = text.strip_prefix(b"-").or(text.strip_prefix(b"+"));
    let word = unsigned.unwrap_or(text);
    if word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"infinity") {
        return Ok(Number::Infinite);
    }
    Err(CmdError::NotFloat)
}
