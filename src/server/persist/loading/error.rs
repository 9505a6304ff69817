//! Why a snapshot could not be loaded, in the words that the log tells.

use std::io;

use crate::rdb::Fault;
use crate::resp::CmdError;

/// Why a load ended before its end.
#[derive(Debug)]
pub enum LoadError {
    Io(io::Error),
    Format(crate::rdb::Error),
    /// The file knows more databases than the server.
    Databases(u32),
    Module(String),
    /// A library of functions, and why it is none.
    Library(CmdError),
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LoadError::Io(error) => write!(f, "{error}"),
            LoadError::Format(error) => {
                // In Redis' words first: supervisors look for them.
                match error.fault {
                    Fault::Checksum { .. } => f.write_str("RDB CRC error: ")?,
                    Fault::Short { .. } => f.write_str(
                        "Short read or OOM loading DB. Unrecoverable error, aborting now: ",
                    )?,
                    Fault::Signature => {
                        f.write_str("Wrong signature trying to load DB from file: ")?;
                    }
                    _ => {}
                }
                write!(f, "{error}")
            }
            LoadError::Library(error) => {
                let text = error.to_string();
                let why = text.strip_prefix("ERR ").unwrap_or(&text);
                write!(f, "Failed creating the library: {why}")
            }
            LoadError::Databases(databases) => write!(
                f,
                "Data file was created with a Redis server configured to handle more than \
                 {databases} databases"
            ),
            LoadError::Module(name) => write!(
                f,
                "The RDB file contains module data I can't load: no matching module type '{name}'"
            ),
        }
    }
}
