//! Peeks that several families share.

use super::Peek;
use crate::keyspace::Tx;
use crate::resp::{Args, CmdError};
use crate::value::Collection;

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

/// The collection at a key, shared with it.
pub fn collection<C: Collection>(tx: &mut Tx, args: &Args, at: usize) -> Peek {
    match tx.shared_value(args.get(at)) {
        Err(error) => Peek::Failed(error.into()),
        Ok(None) => Peek::Missing,
        Ok(Some(value)) if value.kind() == C::KIND => Peek::Collection(value),
        Ok(Some(_)) => Peek::Failed(CmdError::WrongType),
    }
}
