//! RDB files and DUMP payloads: every encoding that Redis and Valkey ever wrote is read, one is
//! written.
//!
//! Nothing here opens a file: bytes come in as they arrive and leave through a [`Sink`]. Nothing
//! here trusts what it reads: input that contradicts itself is an [`Error`] with the offset, and a
//! length that is merely claimed reserves no memory.

pub mod crc64;
pub mod digest;
pub mod dump;
mod error;
pub mod file;
mod input;
pub mod length;
pub mod object;
mod packed;
pub mod string;

pub use error::{Error, Fault, Result};
pub use input::Input;

/// The format version that is written: what Redis 7.0 writes.
pub const VERSION: u32 = 10;
/// The one that knows fields which expire: Redis 7.4.
pub const VERSION_FIELD_EXPIRY: u32 = 12;

/// The last version of Redis whose types are known; 26 and above came with 13.
pub const VERSION_READ_MAX: u32 = 15;
/// The last of Valkey.
pub const VALKEY_VERSION_READ_MAX: u32 = 81;

/// Whether a format version is read. Between the two products none exists.
pub const fn is_read(version: u32) -> bool {
    version >= 1 && version <= VERSION_READ_MAX
        || version >= object::VALKEY_VERSION_MIN && version <= VALKEY_VERSION_READ_MAX
}

/// Takes the bytes that are written.
pub trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}
