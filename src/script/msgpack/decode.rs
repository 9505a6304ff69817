//! MessagePack as Lua values.
//!
//! Arrays and maps that are not complete are kept in a list, not on the thread's stack. A length is
//! only believed as far as there are bytes: nothing is reserved for it.

use mlua::{Lua, Table, Value};

use super::TOO_MANY;
use crate::script::native::{Failure, SLOTS_MAX, message, overflow};

/// Arrays and maps inside each other: Lua holds each one, and its key, for us.
const NESTING_MAX: usize = 3900;

/// What a C stack says that cannot take another array.
const IN_ARRAY: &str = "in function mp_decode_to_lua_array";

pub(super) struct Decoder<'a> {
    lua: &'a Lua,
    input: &'a [u8],
    at: usize,
    /// Slots of Lua's stack a C function would have in use, which decides what is too deep.
    slots: usize,
    open: Vec<Open>,
}

/// An array or map that lacks `left` elements.
enum Open {
    Array {
        table: Table,
        len: usize,
        left: usize,
    },
    Map {
        table: Table,
        key: Option<Key>,
        left: usize,
    },
}

/// A key whose value comes next. Strings stay where they are in the input.
enum Key {
    Text(usize, usize),
    Other(Value),
}

/// What begins at a byte.
enum Item {
    Value(Value),
    Text(usize, usize),
    Array(usize),
    Map(usize),
}

impl<'a> Decoder<'a> {
    pub(super) fn new(lua: &'a Lua, input: &'a [u8], slots: usize) -> Self {
        Self {
            lua,
            input,
            at: 0,
            slots,
            open: Vec::new(),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.at == self.input.len()
    }

    /// Bytes consumed.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The last value is kept on the stack.
    pub(super) fn taken(&mut self) {
        self.slots += 1;
    }

    /// The next value.
    pub(super) fn value(&mut self) -> Result<Value, Failure> {
        loop {
            let mut item = match self.item()? {
                Item::Array(left) => self.open_array(left)?,
                Item::Map(left) => self.open_map(left)?,
                other => Some(other),
            };
            // An item may be the last of an array, which may be the last of another.
            while let Some(complete) = item {
                match self.open.pop() {
                    None => return self.held(complete),
                    Some(open) => item = self.place(open, complete)?,
                }
            }
        }
    }

    /// A complete item as a value that Lua holds.
    fn held(&self, item: Item) -> Result<Value, Failure> {
        match item {
            Item::Value(value) => Ok(value),
            Item::Text(from, to) => Ok(Value::String(
                self.lua.create_string(&self.input[from..to])?,
            )),
            Item::Array(_) | Item::Map(_) => Err(bad_format()),
        }
    }

    fn check_slots(&self, complaint: &str) -> Result<(), Failure> {
        if self.slots + 1 > SLOTS_MAX {
            return Err(overflow(complaint));
        }
        Ok(())
    }

    fn open_array(&mut self, left: usize) -> Result<Option<Item>, Failure> {
        let table = self.lua.create_table()?;
        self.slots += 1;
        self.check_slots(IN_ARRAY)?;
        if left == 0 {
            self.slots -= 1;
            return Ok(Some(Item::Value(Value::Table(table))));
        }
        // The table and the index.
        self.slots += 1;
        self.nest(
            Open::Array {
                table,
                len: 0,
                left,
            },
            IN_ARRAY,
        )
    }

    fn open_map(&mut self, left: usize) -> Result<Option<Item>, Failure> {
        let table = self.lua.create_table()?;
        if left == 0 {
            return Ok(Some(Item::Value(Value::Table(table))));
        }
        self.slots += 1;
        self.nest(
            Open::Map {
                table,
                key: None,
                left,
            },
            TOO_MANY,
        )
    }

    fn nest(&mut self, open: Open, complaint: &str) -> Result<Option<Item>, Failure> {
        if self.open.len() >= NESTING_MAX {
            return Err(overflow(complaint));
        }
        self.open.push(open);
        Ok(None)
    }

    /// Puts an item into the innermost table; that table, once it is complete.
    fn place(&mut self, open: Open, item: Item) -> Result<Option<Item>, Failure> {
        match open {
            Open::Array {
                table,
                mut len,
                mut left,
            } => {
                len += 1;
                left -= 1;
                table.raw_set(len, self.held(item)?)?;
                if left == 0 {
                    self.slots -= 2;
                    return Ok(Some(Item::Value(Value::Table(table))));
                }
                self.open.push(Open::Array { table, len, left });
            }
            Open::Map {
                table,
                key: None,
                left,
            } => {
                self.slots += 1;
                let key = Some(match item {
                    Item::Text(from, to) => Key::Text(from, to),
                    other => Key::Other(self.held(other)?),
                });
                self.open.push(Open::Map { table, key, left });
            }
            Open::Map {
                table,
                key: Some(key),
                mut left,
            } => {
                self.slots -= 1;
                left -= 1;
                let key = match key {
                    Key::Text(from, to) => self.held(Item::Text(from, to))?,
                    Key::Other(Value::Nil) => return Err(Failure::Bare("table index is nil")),
                    Key::Other(Value::Number(key)) if key.is_nan() => {
                        return Err(Failure::Bare("table index is NaN"));
                    }
                    Key::Other(key) => key,
                };
                table.raw_set(key, self.held(item)?)?;
                if left == 0 {
                    self.slots -= 1;
                    return Ok(Some(Item::Value(Value::Table(table))));
                }
                self.open.push(Open::Map {
                    table,
                    key: None,
                    left,
                });
            }
        }
        Ok(None)
    }

    fn item(&mut self) -> Result<Item, Failure> {
        let Some(&first) = self.input.get(self.at) else {
            return Err(missing());
        };
        self.check_slots(TOO_MANY)?;
        self.at += 1;
        let value = match first {
            0x00..=0x7f => Value::Integer(first.into()),
            0x80..=0x8f => return Ok(Item::Map((first & 0xf).into())),
            0x90..=0x9f => return Ok(Item::Array((first & 0xf).into())),
            0xa0..=0xbf => return self.text((first & 0x1f).into()),
            0xc0 => Value::Nil,
            0xc2 | 0xc3 => Value::Boolean(first == 0xc3),
            0xca => Value::Number(f32::from_bits(self.bits(4)? as u32).into()),
            0xcb => Value::Number(f64::from_bits(self.bits(8)?)),
            0xcc..=0xce => Value::Integer(self.bits(1 << (first - 0xcc))? as i64),
            // Redis: an unsigned number of 64 bits passes through a signed one.
            0xcf => Value::Integer(self.bits(8)? as i64),
            0xd0..=0xd3 => Value::Integer(self.signed(1 << (first - 0xd0))?),
            0xd9..=0xdb => {
                let len = self.len(1 << (first - 0xd9))?;
                return self.text(len);
            }
            0xdc | 0xdd => return Ok(Item::Array(self.len(2 << (first - 0xdc))?)),
            0xde | 0xdf => return Ok(Item::Map(self.len(2 << (first - 0xde))?)),
            0xe0..=0xff => Value::Integer((first as i8).into()),
            _ => return Err(bad_format()),
        };
        Ok(Item::Value(value))
    }

    fn text(&mut self, len: usize) -> Result<Item, Failure> {
        let from = self.at;
        let to = from.saturating_add(len);
        if to > self.input.len() {
            return Err(missing());
        }
        self.at = to;
        Ok(Item::Text(from, to))
    }

    /// An unsigned number of `size` bytes, the highest first.
    fn bits(&mut self, size: usize) -> Result<u64, Failure> {
        let bytes = self.input.get(self.at..self.at + size);
        let bytes = bytes.ok_or_else(missing)?;
        self.at += size;
        Ok(bytes
            .iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn signed(&mut self, size: usize) -> Result<i64, Failure> {
        let unused = 64 - 8 * size;
        Ok((self.bits(size)? << unused) as i64 >> unused)
    }

    fn len(&mut self, size: usize) -> Result<usize, Failure> {
        Ok(self.bits(size)? as usize)
    }
}

fn missing() -> Failure {
    message("Missing bytes in input.")
}

fn bad_format() -> Failure {
    message("Bad data format in input.")
}
