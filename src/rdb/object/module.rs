//! Data of modules: typed pieces that can be stepped over without the module.
//!
//! ```text
//! module id  (1 | 2  length  |  3  f32  |  4  f64  |  5  string) ...  0
//! module id: nine characters of six bits, then ten bits of the encoding's version
//! ```

use crate::rdb::error::{Error, Fault, Result};
use crate::rdb::input::Input;
use crate::rdb::{length, string};

const END: u64 = 0;
const SIGNED: u64 = 1;
const UNSIGNED: u64 = 2;
const FLOAT: u64 = 3;
const DOUBLE: u64 = 4;
const STRING: u64 = 5;

/// Redis: ModuleTypeNameCharSet.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The name of the module's type.
pub fn name(id: u64) -> String {
    (0..9)
        .map(|i| {
            let character = id >> (10 + 6 * (8 - i)) & 0x3f;
            char::from(ALPHABET[character as usize])
        })
        .collect()
}

/// Steps over a module's value; whose it is.
pub fn skip_value(input: &mut Input) -> Result<String> {
    let name = name(length::take(input)?);
    skip(input)?;
    Ok(name)
}

/// Steps over typed pieces up to their end.
pub fn skip(input: &mut Input) -> Result<()> {
    loop {
        let start = input.position();
        match length::take(input)? {
            END => return Ok(()),
            SIGNED | UNSIGNED => {
                length::take(input)?;
            }
            FLOAT => {
                input.take(4)?;
            }
            DOUBLE => {
                input.take(8)?;
            }
            STRING => {
                string::skip(input)?;
            }
            _ => return Err(Error::new(start, Fault::Packed("Module value"))),
        }
    }
}
