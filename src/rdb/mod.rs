//! RDB files and DUMP payloads: every encoding that Redis and Valkey ever wrote is read, one is
//! written.
//!
//! Nothing here opens a file: bytes come in as they arrive and leave through a [`Sink`]. Nothing
//! here trusts what it reads: input that contradicts itself is an [`Error`] with the offset, and a
//! length that is merely claimed reserves no memory.

pub mod crc64;
mod error;
mod input;
pub mod length;
pub mod lzf;
pub mod string;

pub use error::{Error, Fault, Result};
pub use input::Input;

/// Takes the bytes that are written.
pub trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
