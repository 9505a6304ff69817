//! Sets.
//!
//! ```text
//! written (2):    members  string ...
//! written (11):   intset in a string
//! since 7.2 (20): listpack in a string
//! ```

use bytes::Bytes;

use super::{Body, refuse_duplicates, take_packed};
use crate::rdb::Sink;
use crate::rdb::error::Result;
use crate::rdb::input::Input;
use crate::rdb::{length, packed, string};

impl<S: Sink> Body<'_, S> {
    /// Begins a set; that many members follow.
    pub fn set(&mut self, members: u64) {
        self.len(members);
    }

    pub fn member(&mut self, member: &[u8]) {
        self.text(member);
    }

    /// A whole set of integers.
    pub fn intset(&mut self, intset: &[u8]) {
        self.text(intset);
    }
}

pub fn take(input: &mut Input) -> Result<Vec<Bytes>> {
    let start = input.position();
    let len = length::take(input)?;
    let mut members = Vec::with_capacity(input.capacity(len));
    for _ in 0..len {
        members.push(string::take(input)?);
    }
    refuse_duplicates(members.iter(), start, "set members")?;
    Ok(members)
}

pub fn take_intset(input: &mut Input) -> Result<Vec<Bytes>> {
    take_packed(input, "Intset", packed::intset)
}

pub fn take_listpack(input: &mut Input) -> Result<Vec<Bytes>> {
    let start = input.position();
    let members = take_packed(input, "Set listpack", packed::listpack)?;
    refuse_duplicates(members.iter(), start, "set members")?;
    Ok(members)
}
