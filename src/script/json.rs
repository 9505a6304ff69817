//! Lua's `cjson` library: JSON in both directions, and what a script may change about it.
//!
//! Invalid UTF-8 passes through in both directions. JSON's null is a null light userdata, which a
//! table can hold. Redis: lua_cjson.c, lua-cjson 2.1.0.

use std::cell::Cell;
use std::rc::Rc;

use mlua::{Lua, Table, Value};

use super::native::{self, Arguments, Failure, Many, Results, argument};

mod decode;
mod encode;

/// What a script may change; each `new` library has its own.
#[derive(Clone, Copy)]
struct Settings {
    /// Whether arrays with too many holes become objects; else they are an error.
    sparse_convert: bool,
    /// Elements an array must have for each index up to its largest, as `1 / ratio`; 0 for no limit.
    sparse_ratio: i32,
    /// The largest index up to which holes are never too many.
    sparse_safe: i32,
    encode_depth_max: i32,
    decode_depth_max: i32,
    /// Significant digits of numbers.
    precision: i32,
    encode_invalid: Invalid,
    decode_invalid: bool,
    /// Redis: whether the buffer is kept between calls. It never is here, and a script cannot tell.
    keep_buffer: bool,
}

/// What becomes of numbers that JSON cannot express.
#[derive(Clone, Copy, PartialEq)]
enum Invalid {
    Refused,
    Written,
    Null,
}

const DEFAULTS: Settings = Settings {
    sparse_convert: false,
    sparse_ratio: 2,
    sparse_safe: 10,
    encode_depth_max: 1000,
    decode_depth_max: 1000,
    precision: 14,
    encode_invalid: Invalid::Refused,
    decode_invalid: true,
    keep_buffer: true,
};

type Shared = Rc<Cell<Settings>>;

/// A table of the library's functions.
pub fn library(lua: &Lua) -> mlua::Result<Table> {
    let library = lua.create_table()?;
    let settings: Shared = Rc::new(Cell::new(DEFAULTS));

    let shared = settings.clone();
    native::register(lua, &library, "encode", move |lua, arguments| {
        expect_one(arguments)?;
        let text = encode::encode(shared.get(), &arguments.get(1)?)?;
        Results::bytes(lua, &text)
    })?;
    let shared = settings.clone();
    native::register(lua, &library, "decode", move |lua, arguments| {
        expect_one(arguments)?;
        let text = arguments.string(1)?;
        decode::decode(lua, shared.get(), &text.as_bytes()).map(Results::One)
    })?;
    native::register(lua, &library, "new", |lua, _| {
        Ok(Results::One(Value::Table(self::library(lua)?)))
    })?;
    for (name, option) in OPTIONS {
        let shared = settings.clone();
        native::register(lua, &library, name, move |lua, arguments| {
            option(lua, arguments, &shared)
        })?;
    }
    library.raw_set("null", Value::NULL)?;
    library.raw_set("_NAME", "cjson")?;
    library.raw_set("_VERSION", "2.1.0")?;
    Ok(library)
}

fn expect_one(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.count == 1 {
        Ok(())
    } else {
        Err(argument(1, "expected 1 argument"))
    }
}

type Setter = fn(&Lua, &Arguments, &Shared) -> Result<Results, Failure>;

/// The functions that read and change settings.
const OPTIONS: [(&str, Setter); 7] = [
    ("encode_sparse_array", sparse_array),
    ("encode_max_depth", |_, arguments, shared| {
        number_option(arguments, shared, 1..=i32::MAX, |settings| {
            &mut settings.encode_depth_max
        })
    }),
    ("decode_max_depth", |_, arguments, shared| {
        number_option(arguments, shared, 1..=i32::MAX, |settings| {
            &mut settings.decode_depth_max
        })
    }),
    ("encode_number_precision", |_, arguments, shared| {
        number_option(arguments, shared, 1..=14, |settings| {
            &mut settings.precision
        })
    }),
    ("encode_keep_buffer", |_, arguments, shared| {
        switch_option(arguments, shared, |settings| &mut settings.keep_buffer)
    }),
    ("encode_invalid_numbers", invalid_numbers),
    ("decode_invalid_numbers", |_, arguments, shared| {
        switch_option(arguments, shared, |settings| &mut settings.decode_invalid)
    }),
];

fn sparse_array(lua: &Lua, arguments: &Arguments, shared: &Shared) -> Result<Results, Failure> {
    at_most(arguments, 3)?;
    // What was changed before a bad argument stays changed, as there.
    let mut settings = shared.get();
    switch(arguments, &mut settings.sparse_convert)?;
    shared.set(settings);
    integer(arguments, 2, &mut settings.sparse_ratio, 0..=i32::MAX)?;
    shared.set(settings);
    integer(arguments, 3, &mut settings.sparse_safe, 0..=i32::MAX)?;
    shared.set(settings);
    let mut all = Many::new(lua)?;
    for value in [
        Value::Boolean(settings.sparse_convert),
        Value::Integer(settings.sparse_ratio.into()),
        Value::Integer(settings.sparse_safe.into()),
    ] {
        all.push(value, "too many results")?;
    }
    Ok(Results::Many(all))
}

fn invalid_numbers(lua: &Lua, arguments: &Arguments, shared: &Shared) -> Result<Results, Failure> {
    const NAMES: [(&str, Invalid); 3] = [
        ("off", Invalid::Refused),
        ("on", Invalid::Written),
        ("null", Invalid::Null),
    ];
    at_most(arguments, 1)?;
    let mut settings = shared.get();
    match arguments.get(1)? {
        Value::Nil => {}
        Value::Boolean(false) => settings.encode_invalid = Invalid::Refused,
        Value::Boolean(true) => settings.encode_invalid = Invalid::Written,
        _ => settings.encode_invalid = choice(arguments, &NAMES)?,
    }
    shared.set(settings);
    match settings.encode_invalid {
        Invalid::Null => Results::bytes(lua, b"null"),
        other => Ok(Results::One(Value::Boolean(other == Invalid::Written))),
    }
}

fn number_option(
    arguments: &Arguments,
    shared: &Shared,
    range: std::ops::RangeInclusive<i32>,
    field: fn(&mut Settings) -> &mut i32,
) -> Result<Results, Failure> {
    at_most(arguments, 1)?;
    let mut settings = shared.get();
    let value = field(&mut settings);
    integer(arguments, 1, value, range)?;
    let value = *value;
    shared.set(settings);
    Ok(Results::One(Value::Integer(value.into())))
}

fn switch_option(
    arguments: &Arguments,
    shared: &Shared,
    field: fn(&mut Settings) -> &mut bool,
) -> Result<Results, Failure> {
    at_most(arguments, 1)?;
    let mut settings = shared.get();
    let value = field(&mut settings);
    switch(arguments, value)?;
    let value = *value;
    shared.set(settings);
    Ok(Results::One(Value::Boolean(value)))
}

fn at_most(arguments: &Arguments, count: usize) -> Result<(), Failure> {
    if arguments.count <= count {
        Ok(())
    } else {
        Err(argument(count + 1, "found too many arguments"))
    }
}

/// Changes a number, if one is given. Redis: json_integer_option, whose complaint about the range
/// always names the first argument.
fn integer(
    arguments: &Arguments,
    number: usize,
    value: &mut i32,
    range: std::ops::RangeInclusive<i32>,
) -> Result<(), Failure> {
    if arguments.get(number)?.is_nil() {
        return Ok(());
    }
    // A C int takes the low half of a larger one.
    let given = arguments.integer(number)? as i32;
    if !range.contains(&given) {
        let (min, max) = (range.start(), range.end());
        return Err(argument(
            1,
            format!("expected integer between {min} and {max}"),
        ));
    }
    *value = given;
    Ok(())
}

/// Changes a switch by the first argument, if it is given: a boolean, `on` or `off`.
fn switch(arguments: &Arguments, value: &mut bool) -> Result<(), Failure> {
    match arguments.get(1)? {
        Value::Nil => {}
        Value::Boolean(given) => *value = given,
        _ => *value = choice(arguments, &[("off", false), ("on", true)])?,
    }
    Ok(())
}

/// What the first argument names.
fn choice<T: Copy>(arguments: &Arguments, names: &[(&str, T)]) -> Result<T, Failure> {
    let given = arguments.string(1)?;
    let given = given.as_bytes();
    let given = given.split(|&byte| byte == 0).next().unwrap_or_default();
    for (name, value) in names {
        if name.as_bytes() == given {
            return Ok(*value);
        }
    }
    Err(argument(1, [b"invalid option '", given, b"'"].concat()))
}

#[cfg(test)]
mod tests;
