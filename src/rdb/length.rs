//! Lengths, and the same byte's other meaning: how a string is encoded (Redis: rdb.h).
//!
//! ```text
//! 00xxxxxx                             6 bits
//! 01xxxxxx  x                          14 bits, big-endian
//! 10000000  x x x x                    32 bits, big-endian
//! 10000001  x x x x x x x x            64 bits, big-endian
//! 11xxxxxx                             no length: encoding x of a string
//! ```

use super::Sink;
use super::error::{Error, Fault, Result};
use super::input::Input;

const BITS_32: u8 = 0x80;
const BITS_64: u8 = 0x81;
const ENCODED: u8 = 0xc0;

/// What stands where a length may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Plain(u64),
    /// A string in this encoding follows.
    Encoded(u8),
}

pub fn put(out: &mut impl Sink, len: u64) {
    match len {
        0..=0x3f => out.put(&[len as u8]),
        0x40..=0x3fff => out.put(&[0x40 | (len >> 8) as u8, len as u8]),
        0x4000..=0xffff_ffff => {
            let [a, b, c, d] = (len as u32).to_be_bytes();
            out.put(&[BITS_32, a, b, c, d]);
        }
        _ => {
            let mut bytes = [BITS_64; 9];
            bytes[1..].copy_from_slice(&len.to_be_bytes());
            out.put(&bytes);
        }
    }
}

/// The byte that stands for a string's encoding.
pub const fn encoded(encoding: u8) -> u8 {
    ENCODED | encoding
}

/// A length or an encoding.
pub fn take_any(input: &mut Input) -> Result<Length> {
    let start = input.position();
    let first = input.byte()?;
    Ok(match first >> 6 {
        0 => Length::Plain(u64::from(first)),
        1 => Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(input.byte()?)),
        2 => match first {
            BITS_32 => Length::Plain(u64::from(u32::from_be_bytes(input.array()?))),
            BITS_64 => Length::Plain(u64::from_be_bytes(input.array()?)),
            _ => return Err(Error::new(start, Fault::Length)),
        },
        _ => Length::Encoded(first & 0x3f),
    })
}

/// A length; a string's encoding is a fault.
pub fn take(input: &mut Input) -> Result<u64> {
    let start = input.position();
    match take_any(input)? {
        Length::Plain(len) => Ok(len),
        Length::Encoded(_) => Err(Error::new(start, Fault::Length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn lengths_survive_in_their_shortest_form() {
        for (len, bytes) in [
            (0, 1),
            (63, 1),
            (64, 2),
            (16383, 2),
            (16384, 5),
            (0xffff_ffff, 5),
            (0x1_0000_0000, 9),
            (u64::MAX, 9),
        ] {
            let mut out = Vec::new();
            put(&mut out, len);
            assert_eq!(out.len(), bytes, "{len}");
            for cut in 0..out.len() {
                let mut input = Input::new(Bytes::copy_from_slice(&out[..cut]), 0);
                assert!(take(&mut input).is_err());
            }
            assert_eq!(take(&mut Input::new(out.into(), 0)), Ok(len));
        }
    }

    #[test]
    fn no_length_is_a_fault_where_it_begins() {
        let fault = Error {
            at: 7,
            fault: Fault::Length,
        };
        for first in [0x82, 0xbf, 0xc0, 0xff] {
            let bytes = Bytes::copy_from_slice(&[first, 0, 0, 0, 0]);
            assert_eq!(take(&mut Input::new(bytes, 7)), Err(fault.clone()));
        }
        let mut input = Input::new(Bytes::from_static(&[0xc3]), 0);
        assert_eq!(take_any(&mut input), Ok(Length::Encoded(3)));
    }
}
