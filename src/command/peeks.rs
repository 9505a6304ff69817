//! Peeks that several families share.

use super::Peek;
use crate::keyspace::Tx;
use crate::resp::Args;

/// Whether a key exists.
pub fn exists(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    match tx.expire_at(args.get(at)) {
        Some(expire_at) => Peek::Exists { expire_at },
        None => Peek::Missing,
    }
}

/// The string at a key.
pub fn string(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    match tx.string(args.get(at)) {
        Ok(Some(value)) => Peek::String(value.to_bytes()),
        Ok(None) => Peek::Missing,
        Err(error) => Peek::Failed(error.into()),
    }
}
