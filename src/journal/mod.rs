//! The append-only file: units of records, the files they stand in, and the list of those files.
//!
//! ```text
//! appendonlydir/
//!   appendonly.aof.manifest            which files, in which order
//!   appendonly.aof.3.base.rdb          everything up to a cut of all shards
//!   appendonly.aof.7.incr.aof          what shard 0 changed since
//!   appendonly.aof.8.incr.aof          what shard 1 changed since
//! ```
//! The layout is that of Redis 7, records are commands, and everything else stands in comments:
//! a server of Redis 7 boots from such a directory.
//!
//! Nothing here opens a file, reads a clock or knows a key: bytes come in and go out.

pub mod manifest;
pub mod reader;
pub mod recovery;
pub mod segment;

pub use manifest::Manifest;
pub use reader::{Fault, Item, Reader};
pub use recovery::Tail;
pub use segment::{Mark, Writer};
