//! A Lua value as MessagePack.

use mlua::{Table, Value};

use crate::script::native::{self, Failure};

/// Tables inside each other; one further down is packed as nil, so a circle ends.
const NESTING_MAX: usize = 16;

/// Appends a value that is inside `level` tables.
pub(super) fn value(out: &mut Vec<u8>, value: &Value, level: usize) -> Result<(), Failure> {
    native::room(out, 9)?;
    match value {
        Value::String(text) => string(out, &text.as_bytes())?,
        Value::Boolean(value) => out.push(0xc2 + u8::from(*value)),
        Value::Integer(value) => integer(out, *value),
        Value::Number(value) => number(out, *value),
        Value::Table(inner) if level < NESTING_MAX => table(out, inner, level + 1)?,
        _ => out.push(0xc0),
    }
    Ok(())
}

fn string(out: &mut Vec<u8>, text: &[u8]) -> Result<(), Failure> {
    native::room(out, text.len() + 5)?;
    let len = text.len() as u64;
    match len {
        0..=31 => out.push(0xa0 | len as u8),
        32..=0xff => head(out, 0xd9, len, 1),
        0x100..=0xffff => head(out, 0xda, len, 2),
        _ => head(out, 0xdb, len, 4),
    }
    out.extend_from_slice(text);
    Ok(())
}

/// A first byte and `size` bytes of a number, the highest first.
fn head(out: &mut Vec<u8>, first: u8, value: u64, size: usize) {
    out.push(first);
    out.extend_from_slice(&value.to_be_bytes()[8 - size..]);
}

fn integer(out: &mut Vec<u8>, value: i64) {
    let bits = value as u64;
    match value {
        -32..=127 => out.push(bits as u8),
        128..=0xff => head(out, 0xcc, bits, 1),
        0x100..=0xffff => head(out, 0xcd, bits, 2),
        0x1_0000..=0xffff_ffff => head(out, 0xce, bits, 4),
        0x1_0000_0000.. => head(out, 0xcf, bits, 8),
        -128..=-33 => head(out, 0xd0, bits, 1),
        -0x8000..=-129 => head(out, 0xd1, bits, 2),
        -0x8000_0000..=-0x8001 => head(out, 0xd2, bits, 4),
        _ => head(out, 0xd3, bits, 8),
    }
}

fn number(out: &mut Vec<u8>, value: f64) {
    let whole = native::to_i64(value);
    if whole as f64 == value {
        return integer(out, whole);
    }
    let single = value as f32;
    if f64::from(single) == value {
        head(out, 0xca, single.to_bits().into(), 4);
    } else {
        head(out, 0xcb, value.to_bits(), 8);
    }
}

fn table(out: &mut Vec<u8>, table: &Table, level: usize) -> Result<(), Failure> {
    let (mut max, mut count) = (0, 0);
    let mut is_array = true;
    table.for_each(|key: Value, _: bool| {
        count += 1;
        match native::numeric(&key).map(|key| (key, native::to_i32(key))) {
            Some((key, index)) if index > 0 && f64::from(index) == key => max = max.max(index),
            _ => is_array = false,
        }
        Ok(())
    })?;
    if is_array && max == count {
        head_of_many(out, count, 0x90, 0xdc);
        for index in 1..=count {
            let element: Value = table.raw_get(index)?;
            value(out, &element, level)?;
        }
        return Ok(());
    }
    head_of_many(out, count, 0x80, 0xde);
    let mut failure = None;
    let walked = table.for_each(|key: Value, element: Value| {
        let packed = value(out, &key, level).and_then(|()| value(out, &element, level));
        packed.map_err(|found| {
            failure = Some(found);
            mlua::Error::StackError
        })
    });
    match failure {
        Some(failure) => Err(failure),
        None => Ok(walked?),
    }
}

/// The head of an array or map: a short form, one with a length of 16 bits and, after it, of 32.
fn head_of_many(out: &mut Vec<u8>, count: i32, short: u8, long: u8) {
    match count {
        0..=15 => out.push(short | count as u8),
        16..=0xffff => head(out, long, count as u64, 2),
        _ => head(out, long + 1, count as u64, 4),
    }
}
