//! Lua's `struct` library: values as the bytes of a C structure.
//!
//! A format is read from left to right; each letter is one field, some take a size after them.
//!
//! ```text
//!   <  >   little-endian (the beginning), big-endian       f d  float, double
//!   !n     align fields to at most n bytes, 8 without n    cn   n bytes of a string, 1 without n
//!   b h l  signed, of 1, 2 and 8 bytes; B H L unsigned     c0   a whole string; its length is read before
//!   T      as L                                            s    a string and a NUL byte
//!   in In  signed, unsigned of n bytes, 4 without n        x    a NUL byte; a blank is nothing
//! ```
//!
//! Every size is checked before it is added: a format is the script's. Redis: lua_struct.c.

use mlua::{Lua, Table, Value};

use super::native::{
    self, Arguments, Failure, Many, Results, SLOTS_MAX, argument, message, overflow,
};

/// Bytes of the largest integer. Only eight of them carry a value.
const INTEGER_MAX: usize = 32;

/// Alignment of `!` without a number.
const ALIGN_DEFAULT: usize = 8;

/// A table of the library's functions.
pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    native::register(lua, &library, "pack", pack)?;
    native::register(lua, &library, "unpack", unpack)?;
    native::register(lua, &library, "size", size)?;
    Ok(library)
}

/// A format, read from left to right, and what was said about the fields that follow.
struct Format {
    /// Up to the first NUL byte, if there is one.
    text: Vec<u8>,
    at: usize,
    big_endian: bool,
    align: usize,
}

impl Format {
    fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let text = arguments.string(1)?;
        let text = text.as_bytes();
        let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
        Ok(Self {
            text: text.to_vec(),
            at: 0,
            big_endian: false,
            align: 1,
        })
    }

    /// The next letter and the size of its field, 0 when it has none of its own.
    fn next(&mut self) -> Result<Option<(u8, usize)>, Failure> {
        let Some(&letter) = self.text.get(self.at) else {
            return Ok(None);
        };
        self.at += 1;
        let size = match letter {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'f' => 4,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'c' => self.number(1)?,
            b'i' | b'I' => {
                let size = self.number(4)?;
                if size > INTEGER_MAX {
                    return Err(message(format!(
                        "integral size {size} is larger than limit of {INTEGER_MAX}"
                    )));
                }
                size
            }
            _ => 0,
        };
        Ok(Some((letter, size)))
    }

    /// The number that is next, a C int.
    fn number(&mut self, default: usize) -> Result<usize, Failure> {
        let mut value: Option<i32> = None;
        while let Some(digit) = self.text.get(self.at).filter(|byte| byte.is_ascii_digit()) {
            let larger = value.unwrap_or(0).checked_mul(10);
            let larger = larger.and_then(|value| value.checked_add((digit - b'0').into()));
            value = Some(larger.ok_or_else(|| message("integral size overflow"))?);
            self.at += 1;
        }
        // No number here is negative.
        Ok(value.map_or(default, |value| value as usize))
    }

    /// Bytes to skip so that a field of `size` bytes is aligned at `position`.
    fn padding(&self, position: usize, letter: u8, size: usize) -> usize {
        if size == 0 || letter == b'c' {
            return 0;
        }
        // Redis: sizes that are no power of two give odd paddings, but defined ones.
        let size = size.min(self.align);
        (size - (position & (size - 1))) & (size - 1)
    }

    /// A letter that is no field.
    fn control(&mut self, letter: u8) -> Result<(), Failure> {
        match letter {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let align = self.number(ALIGN_DEFAULT)?;
                if !align.is_power_of_two() {
                    return Err(message(format!("alignment {align} is not a power of 2")));
                }
                self.align = align;
            }
            _ => {
                let text = [b"invalid format option '", &[letter] as &[u8], b"'"];
                return Err(argument(1, text.concat()));
            }
        }
        Ok(())
    }

    /// Puts the bytes of a number, the lowest first, into the order asked for.
    fn put(&self, out: &mut Vec<u8>, bytes: &[u8]) {
        let from = out.len();
        out.extend_from_slice(bytes);
        if self.big_endian {
            out[from..].reverse();
        }
    }

    /// The bytes of a number of up to eight bytes as its bits.
    fn bits(&self, bytes: &[u8]) -> u64 {
        let add = |value: u64, &byte: &u8| value << 8 | u64::from(byte);
        if self.big_endian {
            bytes.iter().fold(0, add)
        } else {
            bytes.iter().rev().fold(0, add)
        }
    }
}

fn pack(lua: &Lua, arguments: &Arguments) -> Result<Results, Failure> {
    let mut format = Format::new(arguments)?;
    let mut out = Vec::new();
    let mut number = 2;
    while let Some((letter, size)) = format.next()? {
        let padding = format.padding(out.len(), letter, size);
        native::room(&out, padding + INTEGER_MAX)?;
        out.resize(out.len() + padding, 0);
        match letter {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let bits = to_bits(number_of(arguments, number)?);
                let mut bytes = [0; INTEGER_MAX];
                bytes[..8].copy_from_slice(&bits.to_le_bytes());
                format.put(&mut out, &bytes[..size]);
            }
            b'f' => {
                let value = number_of(arguments, number)? as f32;
                format.put(&mut out, &value.to_bits().to_le_bytes());
            }
            b'd' => {
                let value = number_of(arguments, number)?;
                format.put(&mut out, &value.to_bits().to_le_bytes());
            }
            b'c' | b's' => {
                let text = string_of(arguments, number)?;
                let text = text.as_bytes();
                let size = if size == 0 { text.len() } else { size };
                // Redis: the argument it names is the one after.
                let text = text
                    .get(..size)
                    .ok_or_else(|| argument(number + 1, "string too short"))?;
                native::room(&out, size + 1)?;
                out.extend_from_slice(text);
                if letter == b's' {
                    out.push(0);
                }
            }
            b'x' => {
                out.push(0);
                continue;
            }
            _ => {
                format.control(letter)?;
                continue;
            }
        }
        number += 1;
    }
    Results::bytes(lua, &out)
}

fn unpack(lua: &Lua, arguments: &Arguments) -> Result<Results, Failure> {
    let mut format = Format::new(arguments)?;
    let data = arguments.string(2)?;
    let data = data.as_bytes();
    // Redis: a negative position is a very large one.
    let position = arguments.integer_or(3, 1)? as usize;
    let mut at = position
        .checked_sub(1)
        .ok_or_else(|| argument(3, "offset must be 1 or greater"))?;
    let field = |at: usize, size: usize| {
        let end = at.checked_add(size).filter(|&end| end <= data.len());
        let end = end.ok_or_else(|| argument(2, "data string too short"))?;
        Ok::<_, Failure>(&data[at..end])
    };
    let mut values = Many::new(lua)?;
    while let Some((letter, mut size)) = format.next()? {
        at = at.wrapping_add(format.padding(at, letter, size));
        let mut bytes = field(at, size)?;
        if arguments.count + values.len() + 2 > SLOTS_MAX {
            return Err(overflow(TOO_MANY));
        }
        let value = match letter {
            b'b' | b'h' | b'l' | b'i' => Value::Number(signed(format.bits(bytes), size) as f64),
            b'B' | b'H' | b'L' | b'T' | b'I' => Value::Number(format.bits(bytes) as f64),
            b'f' => Value::Number(f32::from_bits(format.bits(bytes) as u32).into()),
            b'd' => Value::Number(f64::from_bits(format.bits(bytes))),
            b'c' => {
                if size == 0 {
                    size = last_as_size(&mut values)?;
                    bytes = field(at, size)?;
                }
                Value::String(lua.create_string(bytes)?)
            }
            b's' => {
                let rest = field(at, data.len() - at)?;
                let end = rest.iter().position(|&byte| byte == 0);
                let end = end.ok_or_else(|| message("unfinished string in data"))?;
                size = end + 1;
                Value::String(lua.create_string(&rest[..end])?)
            }
            other => {
                if other != b'x' {
                    format.control(other)?;
                }
                at += size;
                continue;
            }
        };
        values.push(value, TOO_MANY)?;
        at += size;
    }
    values.push(Value::Integer(at as i64 + 1), TOO_MANY)?;
    Ok(Results::Many(values))
}

/// More values than a stack holds.
const TOO_MANY: &str = "too many results";

/// The size of `c0`: the value before, which is taken away.
fn last_as_size(values: &mut Many) -> Result<usize, Failure> {
    let size = match values.len() {
        0 => None,
        _ => native::coerced(&values.last()?),
    };
    let size = size.ok_or_else(|| message("format 'c0' needs a previous size"))?;
    values.pop()?;
    Ok(to_bits(size) as usize)
}

fn size(_: &Lua, arguments: &Arguments) -> Result<Results, Failure> {
    let mut format = Format::new(arguments)?;
    let mut at: usize = 0;
    while let Some((letter, size)) = format.next()? {
        at = at.wrapping_add(format.padding(at, letter, size));
        match (letter, size) {
            (b's', _) => return Err(argument(1, "option 's' has no fixed size")),
            (b'c', 0) => return Err(argument(1, "option 'c0' has no fixed size")),
            // Redis: letters and digits that mean nothing are passed over here.
            _ if letter.is_ascii_alphanumeric() => {}
            _ => format.control(letter)?,
        }
        at = at.wrapping_add(size);
    }
    Ok(Results::One(Value::Integer(at as i64)))
}

/// A number to pack. Redis: there is a nil behind the last argument.
fn number_of(arguments: &Arguments, number: usize) -> Result<f64, Failure> {
    if number > arguments.count {
        return Err(argument(number, "number expected, got nil"));
    }
    arguments.number(number)
}

/// A string to pack.
fn string_of(arguments: &Arguments, number: usize) -> Result<mlua::LuaString, Failure> {
    if number > arguments.count {
        return Err(argument(number, "string expected, got nil"));
    }
    arguments.string(number)
}

/// A double cast to an unsigned integer as x86-64 does: negative ones wrap, what is too large or no
/// number has no meaning but the same one every time.
fn to_bits(value: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    if value >= HALF {
        native::to_i64(value - HALF) as u64 ^ 1 << 63
    } else {
        native::to_i64(value) as u64
    }
}

/// A number of `size` bytes with its sign. Redis: getinteger, whose shift by more than 63 bits counts
/// from the beginning again, so a size above 8 takes a wrong bit for the sign.
fn signed(bits: u64, size: usize) -> i64 {
    let mask = u64::MAX.wrapping_shl((size as u32 * 8).wrapping_sub(1));
    let bits = if bits & mask == 0 { bits } else { bits | mask };
    bits as i64
}

#[cfg(test)]
mod tests;
