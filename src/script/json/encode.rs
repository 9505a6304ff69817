//! A Lua value as JSON.

use mlua::{Table, Value};

use super::{Invalid, Settings};
use crate::number;
use crate::script::native::{self, Failure, message};

/// Tables inside each other, whatever the script allows: each one costs some of the thread's stack.
pub(super) const DEPTH_MAX: i32 = 1500;

/// Down to this depth a table is walked in one call into Lua. Each such walk stays open while the
/// tables inside are walked, so deeper ones are asked for one entry after the other.
const WALK_DEPTH_MAX: i32 = 32;

/// A Lua value's JSON.
pub(super) fn encode(settings: Settings, value: &Value) -> Result<Vec<u8>, Failure> {
    let mut encoder = Encoder {
        settings,
        out: Vec::new(),
    };
    encoder.value(value, 0)?;
    Ok(encoder.out)
}

struct Encoder {
    settings: Settings,
    out: Vec<u8>,
}

impl Encoder {
    fn value(&mut self, value: &Value, depth: i32) -> Result<(), Failure> {
        match value {
            Value::Nil => self.text(b"null"),
            Value::Boolean(true) => self.text(b"true"),
            Value::Boolean(false) => self.text(b"false"),
            Value::Integer(value) => self.number(*value as f64),
            Value::Number(value) => self.number(*value),
            Value::String(text) => self.string(&text.as_bytes()),
            Value::Table(table) => self.table(table, depth + 1),
            Value::LightUserData(pointer) if pointer.0.is_null() => self.text(b"null"),
            other => Err(refuse(other, "type not supported")),
        }
    }

    fn text(&mut self, text: &[u8]) -> Result<(), Failure> {
        native::room(&self.out, text.len())?;
        self.out.extend_from_slice(text);
        Ok(())
    }

    fn string(&mut self, text: &[u8]) -> Result<(), Failure> {
        native::room(&self.out, text.len() + 2)?;
        self.out.push(b'"');
        let mut rest = text;
        while let Some(at) = rest.iter().position(|&byte| is_escaped(byte)) {
            self.out.extend_from_slice(&rest[..at]);
            escape(&mut self.out, rest[at]);
            rest = &rest[at + 1..];
            native::room(&self.out, rest.len() + 1)?;
        }
        self.out.extend_from_slice(rest);
        self.out.push(b'"');
        Ok(())
    }

    fn number(&mut self, value: f64) -> Result<(), Failure> {
        if !value.is_finite() {
            match self.settings.encode_invalid {
                Invalid::Refused => {
                    return Err(refuse(&Value::Number(value), "must not be NaN or Inf"));
                }
                Invalid::Null => return self.text(b"null"),
                Invalid::Written => {}
            }
        }
        let precision = self.settings.precision;
        // Below the precision an integer's digits are all there is; -0 keeps its sign.
        if value.fract() == 0.0
            && value.abs() < 10f64.powi(precision)
            && value.to_bits() != MINUS_ZERO
        {
            return self.text(itoa::Buffer::new().format(value as i64).as_bytes());
        }
        self.text(number::format_g(value, precision as u8).as_bytes())
    }

    fn table(&mut self, table: &Table, depth: i32) -> Result<(), Failure> {
        if depth > self.settings.encode_depth_max || depth > DEPTH_MAX {
            return Err(too_deep(depth));
        }
        match self.array_len(table)? {
            Some(len) if len > 0 => self.array(table, len, depth),
            _ => self.object(table, depth),
        }
    }

    /// The largest index of a table that has only indices, `None` for one that is an object.
    fn array_len(&self, table: &Table) -> Result<Option<i32>, Failure> {
        let (mut max, mut items) = (0i32, 0i32);
        let mut pure = true;
        let walked = table.for_each(|key: Value, _: bool| {
            match native::numeric(&key) {
                Some(key) if key >= 1.0 && key.floor() == key => {
                    if key > f64::from(max) {
                        // Redis: an index beyond a C int is its smallest value, so no array.
                        max = native::to_i32(key);
                    }
                    items = items.wrapping_add(1);
                    Ok(())
                }
                _ => {
                    pure = false;
                    Err(mlua::Error::StackError)
                }
            }
        });
        if !pure {
            return Ok(None);
        }
        walked?;
        let settings = self.settings;
        if settings.sparse_ratio > 0
            && max > items.wrapping_mul(settings.sparse_ratio)
            && max > settings.sparse_safe
        {
            if !settings.sparse_convert {
                return Err(message("Cannot serialise table: excessively sparse array"));
            }
            return Ok(None);
        }
        Ok(Some(max))
    }

    fn array(&mut self, table: &Table, len: i32, depth: i32) -> Result<(), Failure> {
        for index in 1..=len {
            self.text(if index == 1 { b"[" } else { b"," })?;
            let element: Value = table.raw_get(index)?;
            self.value(&element, depth)?;
        }
        self.text(b"]")
    }

    fn object(&mut self, table: &Table, depth: i32) -> Result<(), Failure> {
        self.text(b"{")?;
        let mut first = true;
        let mut entry = |key: Value, value: Value| {
            if !std::mem::take(&mut first) {
                self.text(b",")?;
            }
            self.entry(key, &value, depth)
        };
        if depth > WALK_DEPTH_MAX {
            for pair in table.pairs() {
                let (key, value) = pair.map_err(|error| stack_full(error, depth))?;
                entry(key, value)?;
            }
        } else {
            let mut failure = None;
            let walked = table.for_each(|key, value| {
                entry(key, value).map_err(|found| {
                    failure = Some(found);
                    mlua::Error::StackError
                })
            });
            if let Some(failure) = failure {
                return Err(failure);
            }
            walked.map_err(|error| stack_full(error, depth))?;
        }
        self.text(b"}")
    }

    fn entry(&mut self, key: Value, value: &Value, depth: i32) -> Result<(), Failure> {
        match &key {
            Value::String(text) => {
                self.string(&text.as_bytes())?;
                self.text(b":")?;
            }
            key => {
                let Some(number) = native::numeric(key) else {
                    return Err(refuse(key, "table key must be a number or string"));
                };
                self.text(b"\"")?;
                self.number(number)?;
                self.text(b"\":")?;
            }
        }
        // Values on the way down are few enough to hold; keys need not be held, too.
        drop(key);
        self.value(value, depth)
    }
}

const MINUS_ZERO: u64 = 1 << 63;

#[cold]
fn refuse(value: &Value, reason: &str) -> Failure {
    let name = native::type_name(value);
    message(format!("Cannot serialise {name}: {reason}"))
}

#[cold]
fn too_deep(depth: i32) -> Failure {
    message(format!("Cannot serialise, excessive nesting ({depth})"))
}

/// No more values can be held: for a script that is nesting, too.
#[cold]
fn stack_full(error: mlua::Error, depth: i32) -> Failure {
    match error {
        mlua::Error::StackError => too_deep(depth + 1),
        other => other.into(),
    }
}

/// Whether a byte may not stand for itself in a string.
fn is_escaped(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'"' | b'/' | b'\\' | 0x7f)
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let letter = match byte {
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        b'"' | b'/' | b'\\' => byte,
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', letter]);
}
