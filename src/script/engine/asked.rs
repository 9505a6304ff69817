//! A command that a script asks for, as arguments.

use super::{Kind, Routine};
use crate::number;
use crate::resp::{ArgBuf, CmdError};

/// From here on C's `%.17g`, in which commands get numbers, writes an exponent.
const PLAIN_INTEGER_MAX: f64 = 1e17;

const NOT_A_STRING: CmdError =
    CmdError::Text("ERR Lua redis lib command arguments must be strings or integers");

/// A command's name and arguments: what was yielded behind what is wanted.
pub(super) fn arguments(routine: &Routine, args: &mut ArgBuf) -> Result<(), CmdError> {
    let count = routine.len();
    if count < 2 {
        return Err(CmdError::Text(
            "ERR Please specify at least one argument for this redis lib call",
        ));
    }
    (2..=count).try_for_each(|at| push(routine, at, args))
}

fn push(routine: &Routine, at: i32, args: &mut ArgBuf) -> Result<(), CmdError> {
    match routine.kind(at) {
        Kind::Text => args.push(routine.text(at).unwrap_or_default()),
        Kind::Number => push_number(routine.number(at).unwrap_or_default(), args),
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
