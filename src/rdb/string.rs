//! Strings: bytes as they are, integers in binary, or LZF (Redis: rdbSaveRawString).
//!
//! ```text
//! length  bytes
//! c0 x  |  c1 x x  |  c2 x x x x       a signed integer, little-endian, standing for its text
//! c3  length  length  LZF              compressed bytes, their number first, then the plain number
//! ```

use bytes::Bytes;

use super::Sink;
use super::error::{Error, Fault, Result};
use super::input::Input;
use super::length::{self, Length};
use crate::number::parse_i64;
use crate::value::lzf;

const INT8: u8 = 0;
const INT16: u8 = 1;
const INT32: u8 = 2;
const LZF: u8 = 3;

/// Text of a 32-bit integer is not longer.
const INT_TEXT_MAX: usize = 11;
/// Twenty bytes and less never compress.
const COMPRESS_ABOVE_BYTES: usize = 20;

/// Writes strings in the form Redis would choose.
#[derive(Debug, Default)]
pub struct StringWriter {
    /// Absent with `rdbcompression no`.
    compressor: Option<lzf::Compressor>,
}

impl StringWriter {
    /// `compress`: `rdbcompression`.
    pub fn new(compress: bool) -> StringWriter {
        StringWriter::with(compress.then(lzf::Compressor::default))
    }

    /// Goes on with a compressor whose tables are there already; `None`: `rdbcompression no`.
    pub fn with(compressor: Option<lzf::Compressor>) -> StringWriter {
        StringWriter { compressor }
    }

    /// Whether strings are compressed.
    pub fn compresses(&self) -> bool {
        self.compressor.is_some()
    }

    pub fn into_compressor(self) -> Option<lzf::Compressor> {
        self.compressor
    }

    pub fn put(&mut self, out: &mut impl Sink, bytes: &[u8]) {
        if bytes.len() <= INT_TEXT_MAX
            && let Some(n) = parse_i64(bytes)
            && put_short_int(out, n)
        {
            return;
        }
        if bytes.len() > COMPRESS_ABOVE_BYTES
            && let Some(compressor) = &mut self.compressor
            && let Some(packed) = compressor.compress(bytes)
        {
            return put_lzf(out, packed, bytes.len());
        }
        put_plain(out, bytes);
    }

    /// The text of an integer.
    pub fn put_int(&mut self, out: &mut impl Sink, n: i64) {
        if !put_short_int(out, n) {
            put_plain(out, itoa::Buffer::new().format(n).as_bytes());
        }
    }
}

/// A string without any encoding.
pub fn put_plain(out: &mut impl Sink, bytes: &[u8]) {
    put_plain_head(out, bytes.len());
    out.put(bytes);
}

/// What stands before the bytes of a string without any encoding.
pub fn put_plain_head(out: &mut impl Sink, len: usize) {
    length::put(out, len as u64);
}

/// A string of `len` bytes that is compressed already.
pub fn put_lzf(out: &mut impl Sink, packed: &[u8], len: usize) {
    put_lzf_head(out, packed.len(), len);
    out.put(packed);
}

/// What stands before a string of `len` bytes that is compressed.
pub fn put_lzf_head(out: &mut impl Sink, packed_len: usize, len: usize) {
    out.put(&[length::encoded(LZF)]);
    length::put(out, packed_len as u64);
    length::put(out, len as u64);
}

fn put_short_int(out: &mut impl Sink, n: i64) -> bool {
    if let Ok(n) = i8::try_from(n) {
        let [a] = n.to_le_bytes();
        out.put(&[length::encoded(INT8), a]);
    } else if let Ok(n) = i16::try_from(n) {
        let [a, b] = n.to_le_bytes();
        out.put(&[length::encoded(INT16), a, b]);
    } else if let Ok(n) = i32::try_from(n) {
        let [a, b, c, d] = n.to_le_bytes();
        out.put(&[length::encoded(INT32), a, b, c, d]);
    } else {
        return false;
    }
    true
}

/// A string in any form. Plain bytes share the input's memory.
pub fn take(input: &mut Input) -> Result<Bytes> {
    let start = input.position();
    let int = match length::take_any(input)? {
        Length::Plain(len) => return input.take_shared(len),
        Length::Encoded(LZF) => return take_lzf(input),
        Length::Encoded(INT8) => i32::from(i8::from_le_bytes(input.array()?)),
        Length::Encoded(INT16) => i32::from(i16::from_le_bytes(input.array()?)),
        Length::Encoded(INT32) => i32::from_le_bytes(input.array()?),
        Length::Encoded(_) => return Err(Error::new(start, Fault::Length)),
    };
    let mut text = itoa::Buffer::new();
    Ok(Bytes::copy_from_slice(text.format(int).as_bytes()))
}

fn take_lzf(input: &mut Input) -> Result<Bytes> {
    let start = input.position();
    let packed_len = length::take(input)?;
    let len = length::take(input)?;
    let packed = input.take(packed_len)?;
    usize::try_from(len)
        .ok()
        .and_then(|len| lzf::decompress(packed, len))
        .map(Bytes::from)
        .ok_or(Error::new(start, Fault::Lzf))
}

/// Steps over a string without unpacking it; how long it is.
pub fn skip(input: &mut Input) -> Result<u64> {
    let start = input.position();
    match length::take_any(input)? {
        Length::Plain(len) => input.take(len).map(|_| len),
        Length::Encoded(LZF) => {
            let packed_len = length::take(input)?;
            let len = length::take(input)?;
            input.take(packed_len)?;
            Ok(len)
        }
        Length::Encoded(encoding @ (INT8 | INT16 | INT32)) => {
            let len = 1 << encoding;
            input.take(len).map(|_| len)
        }
        Length::Encoded(_) => Err(Error::new(start, Fault::Length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bytes: &[u8], compress: bool) -> Vec<u8> {
        let mut out = Vec::new();
        StringWriter::new(compress).put(&mut out, bytes);
        let mut input = Input::new(out.clone().into(), 0);
        assert_eq!(take(&mut input).as_deref(), Ok(bytes));
        assert!(input.is_empty());
        let mut input = Input::new(out.clone().into(), 0);
        assert!(skip(&mut input).is_ok() && input.is_empty());
        for cut in 0..out.len() {
            let cut = Bytes::copy_from_slice(&out[..cut]);
            assert!(take(&mut Input::new(cut.clone(), 0)).is_err());
            assert!(skip(&mut Input::new(cut, 0)).is_err());
        }
        out
    }

    #[test]
    fn each_string_takes_its_shortest_form() {
        assert_eq!(written(b"", true), [0]);
        assert_eq!(written(b"-128", true), [0xc0, 0x80]);
        assert_eq!(written(b"128", true), [0xc1, 0x80, 0]);
        assert_eq!(written(b"-32769", true), [0xc2, 0xff, 0x7f, 0xff, 0xff]);
        assert_eq!(written(b"2147483648", true)[0], 10);
        assert_eq!(written(b"-2147483648", true)[0], 0xc2);
        for text in ["01", "+1", "-0", " 1", "1.0"] {
            assert_eq!(written(text.as_bytes(), true)[0], text.len() as u8);
        }
        assert_eq!(written(&[b'a'; 20], true)[0], 20);
        assert_eq!(
            written(&[b'a'; 21], true),
            [0xc3, 6, 21, 1, b'a', b'a', 0xe0, 10, 0]
        );
        assert_eq!(written(&[b'a'; 21], false)[0], 21);
        assert_eq!(written(&[b'a'; 70], false)[..2], [0x40, 70]);
    }

    #[test]
    fn integers_are_written_as_their_text() {
        for n in [
            0,
            1,
            -1,
            127,
            -129,
            40_000,
            i64::from(i32::MIN),
            1 << 40,
            i64::MIN,
        ] {
            let mut out = Vec::new();
            StringWriter::default().put_int(&mut out, n);
            assert_eq!(out, written(n.to_string().as_bytes(), false));
        }
    }

    #[test]
    fn unknown_forms_and_big_claims_are_refused() {
        for bytes in [
            &[0xc4][..],
            &[0xff],
            &[0x82],
            &[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            // A terabyte out of one byte.
            &[0xc3, 1, 0x81, 0, 0, 1, 0, 0, 0, 0, 0, 0],
            // Lengths that are no lengths.
            &[0xc3, 0xc0, 1, 0],
        ] {
            let mut input = Input::new(Bytes::copy_from_slice(bytes), 0);
            assert!(take(&mut input).is_err(), "{bytes:x?}");
        }
    }
}
