//! A command that a script asks for, as arguments.

use mlua::{MultiValue, Value};

use crate::number;
use crate::resp::{ArgBuf, CmdError};

/// From here on C's `%.17g`, in which commands get numbers, writes an exponent.
const PLAIN_INTEGER_MAX: f64 = 1e17;

const NOT_A_STRING: CmdError =
    CmdError::Text("ERR Lua redis lib command arguments must be strings or integers");

/// A command's name and arguments.
pub(super) fn arguments(given: &MultiValue, args: &mut ArgBuf) -> Result<(), CmdError> {
    if given.is_empty() {
        return Err(CmdError::Text(
            "ERR Please specify at least one argument for this redis lib call",
        ));
    }
    given.iter().try_for_each(|value| push(value, args))
}

/// The same of a table that came with their number. One value at a time: Lua has room for some
/// thousands.
pub(super) fn many(given: &MultiValue, args: &mut ArgBuf) -> Result<(), CmdError> {
    let (Some(Value::Integer(count)), Some(Value::Table(list))) = (given.front(), given.get(1))
    else {
        return Err(NOT_A_STRING);
    };
    (1..=*count).try_for_each(|at| match list.raw_get(at) {
        Ok(value) => push(&value, args),
        Err(_) => Err(NOT_A_STRING),
    })
}

fn push(value: &Value, args: &mut ArgBuf) -> Result<(), CmdError> {
    match value {
        Value::String(text) => args.push(&text.as_bytes()),
        Value::Integer(number) => push_number(*number as f64, args),
        Value::Number(number) => push_number(*number, args),
        _ => return Err(NOT_A_STRING),
    }
    Ok(())
}

/// As C's `%.17g`.
fn push_number(number: f64, args: &mut ArgBuf) {
    if number.fract() == 0.0 && number.abs() < PLAIN_INTEGER_MAX && number != 0.0 {
        args.push(itoa::Buffer::new().format(number as i64).as_bytes());
    } else {
        args.push(number::format_f64(number).as_bytes());
    }
}
