//! The payload of DUMP, RESTORE and MIGRATE: one value.
//!
//! ```text
//! type  value  version u16 little-endian  CRC-64 of all before it, little-endian
//! ```

use bytes::Bytes;

use super::error::{Error, Fault, Result};
use super::file::{opcode, put_function};
use super::object::{self, Body, Encode, Object, Taken};
use super::string::{self, StringWriter};
use super::{Input, VERSION_READ_MAX, crc64, is_read};

const FOOTER: usize = 2 + 8;

/// The payload that holds a value.
pub fn put(value: &impl Encode, strings: &mut StringWriter) -> Vec<u8> {
    let ty = value.ty();
    let mut payload = vec![ty.byte()];
    value.write(&mut Body::new(&mut payload, strings));
    // The version of type and encoding: whoever reads 10 may be handed most of what exists.
    debug_assert!(ty.version() <= VERSION_READ_MAX);
    seal(payload, ty.version() as u16)
}

/// The version of a payload of functions. Redis: rdb.h of 7.0.
const FUNCTIONS_VERSION: u16 = 10;

/// Adds what every payload ends with.
pub fn seal(mut payload: Vec<u8>, version: u16) -> Vec<u8> {
    payload.extend_from_slice(&version.to_le_bytes());
    let crc = crc64::update(0, &payload);
    payload.extend_from_slice(&crc.to_le_bytes());
    payload
}

/// Why a payload is refused, as RESTORE tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not a payload, or one of a version that is not read: "DUMP payload version or checksum are
    /// wrong".
    Footer,
    /// "Bad data format".
    Value(Error),
}

/// What FUNCTION DUMP replies with: libraries by their texts.
pub fn put_functions<'t>(texts: impl Iterator<Item = &'t [u8]>) -> Vec<u8> {
    let mut payload = Vec::new();
    for text in texts {
        put_function(&mut payload, &mut StringWriter::new(true), text);
    }
    seal(payload, FUNCTIONS_VERSION)
}

/// The texts of libraries in a payload of FUNCTION DUMP.
///
/// # Errors
/// What FUNCTION RESTORE tells of it.
pub fn take_functions(payload: &Bytes) -> std::result::Result<Vec<Bytes>, &'static str> {
    const FOOTER_WRONG: &str = "ERR DUMP payload version or checksum are wrong";
    const FAILED: &str = "ERR failed loading the given functions payload";
    let body = payload.len().checked_sub(FOOTER).ok_or(FOOTER_WRONG)?;
    let version = u16::from_le_bytes([payload[body], payload[body + 1]]);
    let crc: [u8; 8] = payload[body + 2..].try_into().map_err(|_| FOOTER_WRONG)?;
    let sealed = crc64::update(0, &payload[..body + 2]);
    if !is_read(u32::from(version)) || u64::from_le_bytes(crc) != sealed {
        return Err(FOOTER_WRONG);
    }
    let mut input = Input::new(payload.slice(..body), 0);
    let mut texts = Vec::new();
    while !input.is_empty() {
        match input.byte() {
            Ok(opcode::FUNCTION_2) => {
                texts.push(string::take(&mut input).map_err(|_| FAILED)?);
            }
            Ok(_) => return Err("ERR given type is not a function"),
            Err(_) => return Err("ERR can not read data type"),
        }
    }
    Ok(texts)
}

/// The value in a payload. It may share the payload's memory.
pub fn take(payload: &Bytes) -> std::result::Result<Object, Refusal> {
    take_checked(payload, true)
}

/// The same; unless `verify`, the checksum may be any.
pub fn take_checked(payload: &Bytes, verify: bool) -> std::result::Result<Object, Refusal> {
    let body = payload.len().checked_sub(FOOTER).ok_or(Refusal::Footer)?;
    let version = u16::from_le_bytes([payload[body], payload[body + 1]]);
    let is_wrong = || payload[body + 2..] != crc64::update(0, &payload[..body + 2]).to_le_bytes();
    if !is_read(u32::from(version)) || verify && is_wrong() {
        return Err(Refusal::Footer);
    }
    let mut input = Input::new(payload.slice(..body), 0);
    take_value(&mut input, u32::from(version)).map_err(Refusal::Value)
}

fn take_value(input: &mut Input, version: u32) -> Result<Object> {
    let ty = input.byte()?;
    let object = match object::take(input, ty, object::product_of(version))? {
        Taken::Object(object) => object,
        Taken::Empty => return Err(input.fault(Fault::Empty)),
        Taken::Module { name } => return Err(input.fault(Fault::Module(name))),
    };
    match input.is_empty() {
        true => Ok(object),
        false => Err(input.fault(Fault::Trailing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_come_back() {
        let texts: [&[u8]; 2] = [b"#!lua name=a\nreturn", &[b'x'; 1000]];
        let payload = Bytes::from(put_functions(texts.into_iter()));
        assert_eq!(
            take_functions(&payload),
            Ok(texts.map(Bytes::from_static).to_vec())
        );
        let mut broken = payload.to_vec();
        broken[3] ^= 1;
        assert!(take_functions(&broken.into()).is_err());
        assert!(take_functions(&Bytes::from_static(b"short")).is_err());
    }

    #[test]
    fn payloads_are_those_of_redis() {
        // Captured from 7.0.15: DUMP of 100 times "a".
        let captured = [
            0x00, 0xc3, 0x09, 0x40, 0x64, 0x01, 0x61, 0x61, 0xe0, 0x57, 0x00, 0x01, 0x61, 0x61,
            0x0a, 0x00, 0xe8, 0xa3, 0xb5, 0x07, 0xb0, 0x6d, 0xf2, 0x71,
        ];
        let object = Object::String(Bytes::from(vec![b'a'; 100]));
        let payload = put(&object, &mut StringWriter::new(true));
        assert_eq!(payload, captured);
        assert_eq!(take(&payload.into()), Ok(object));
    }

    fn sealed(body: &[u8], version: u16) -> Bytes {
        let mut payload = [body, &version.to_le_bytes()].concat();
        let crc = crc64::update(0, &payload);
        payload.extend_from_slice(&crc.to_le_bytes());
        payload.into()
    }

    #[test]
    fn only_whole_payloads_of_known_versions_are_read() {
        assert!(take(&sealed(&[0, 1, b'x'], 10)).is_ok());
        assert!(take(&sealed(&[0, 1, b'x'], 1)).is_ok());
        assert!(take(&sealed(&[0, 1, b'x'], 80)).is_ok());
        for version in [0, VERSION_READ_MAX as u16 + 1, 79, 82, u16::MAX] {
            assert_eq!(take(&sealed(&[0, 1, b'x'], version)), Err(Refusal::Footer));
        }
        let whole = sealed(&[0, 1, b'x'], 10);
        for len in 0..whole.len() {
            assert_eq!(take(&whole.slice(..len)), Err(Refusal::Footer));
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(take(&flipped.into()), Err(Refusal::Footer));
        }
    }

    #[test]
    fn a_wrong_checksum_is_taken_where_nobody_asks() {
        let mut payload = put(
            &Object::String(Bytes::from_static(b"v")),
            &mut StringWriter::new(false),
        );
        let last = payload.len() - 1;
        payload[last] ^= 1;
        let payload = Bytes::from(payload);
        assert_eq!(take(&payload), Err(Refusal::Footer));
        assert!(take_checked(&payload, false).is_ok());
        assert_eq!(
            take_checked(&payload.slice(..5), false),
            Err(Refusal::Footer)
        );
    }

    #[test]
    fn a_right_footer_does_not_save_a_wrong_value() {
        let refused = |body: &[u8], at, fault| {
            let refusal = Refusal::Value(Error::new(at, fault));
            assert_eq!(take(&sealed(body, 10)), Err(refusal), "{body:x?}");
        };
        refused(&[], 0, Fault::Short { missing: 1 });
        refused(&[0, 2, b'x'], 2, Fault::Short { missing: 1 });
        refused(&[0, 1, b'x', 0], 3, Fault::Trailing);
        refused(&[2, 0], 2, Fault::Empty);
        refused(
            &[2, 2, 1, b'x', 1, b'x'],
            1,
            Fault::Duplicate("set members"),
        );
        refused(&[8, 0], 1, Fault::Type(8));
        refused(&[26, 0], 1, Fault::Type(26));
        refused(
            &[5, 1, 1, b'x', 1, 0, 0, 0, 0, 0, 0xf8, 0x7f],
            4,
            Fault::Score,
        );
        // Two to the power of 64 members, and a list of as many.
        let claim = [0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        refused(
            &[&[2], &claim[..]].concat(),
            10,
            Fault::Short { missing: 1 },
        );
        refused(
            &[&[1], &claim[..]].concat(),
            10,
            Fault::Short { missing: 1 },
        );
    }
}
