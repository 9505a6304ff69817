//! Sorted sets.
//!
//! ```text
//! written (5):      members  (string  score f64 little-endian) ...   from the highest score down
//! written (17):     listpack of member, score, ... in a string       from the lowest up
//! before 7 (12):    ziplist in a string, likewise
//! before 4 (3):     members  (string  score) ...
//! its score:        fd NaN | fe inf | ff -inf | length  decimal digits
//! ```

use bytes::Bytes;

use super::{Body, pairs, refuse_duplicates, take_packed};
use crate::number::parse_f64;
use crate::rdb::Sink;
use crate::rdb::error::{Error, Fault, Result};
use crate::rdb::input::Input;
use crate::rdb::{length, packed, string};

type Members = Vec<(Bytes, f64)>;

impl<S: Sink> Body<'_, S> {
    /// Begins a sorted set; that many members follow, best from the highest score down: Redis
    /// loads them fastest in this order.
    pub fn zset(&mut self, members: u64) {
        self.len(members);
    }

    pub fn scored(&mut self, member: &[u8], score: f64) {
        self.text(member);
        self.out.put(&score.to_le_bytes());
    }

    /// A whole sorted set in a listpack.
    pub fn zset_listpack(&mut self, listpack: &[u8]) {
        self.text(listpack);
    }
}

pub fn take(input: &mut Input) -> Result<Members> {
    take_with(input, |input| Ok(f64::from_le_bytes(input.array()?)))
}

/// With scores as digits.
pub fn take_ascii(input: &mut Input) -> Result<Members> {
    take_with(input, |input| {
        let start = input.position();
        match input.byte()? {
            0xff => Ok(f64::NEG_INFINITY),
            0xfe => Ok(f64::INFINITY),
            0xfd => Ok(f64::NAN),
            len => parse_f64(input.take(u64::from(len))?).ok_or(Error::new(start, Fault::Score)),
        }
    })
}

fn take_with(input: &mut Input, score: fn(&mut Input) -> Result<f64>) -> Result<Members> {
    let start = input.position();
    let len = length::take(input)?;
    let mut members = Vec::with_capacity(input.capacity(len));
    for _ in 0..len {
        let member = string::take(input)?;
        let at = input.position();
        let score = score(input)?;
        if score.is_nan() {
            return Err(Error::new(at, Fault::Score));
        }
        members.push((member, score));
    }
    refuse_duplicate_members(members, start)
}

pub fn take_ziplist(input: &mut Input) -> Result<Members> {
    take_pairs(input, "Zset ziplist", packed::ziplist)
}

pub fn take_listpack(input: &mut Input) -> Result<Members> {
    take_pairs(input, "Zset listpack", packed::listpack)
}

fn take_pairs(
    input: &mut Input,
    what: &'static str,
    read: fn(&Bytes) -> Option<Vec<Bytes>>,
) -> Result<Members> {
    let start = input.position();
    let elements = take_packed(input, what, read)?;
    let pairs = pairs(elements).ok_or(Error::new(start, Fault::Packed(what)))?;
    let members = pairs
        .map(|(member, score)| match parse_f64(&score) {
            Some(score) => Ok((member, score)),
            None => Err(Error::new(start, Fault::Score)),
        })
        .collect::<Result<Members>>()?;
    refuse_duplicate_members(members, start)
}

fn refuse_duplicate_members(members: Members, start: u64) -> Result<Members> {
    refuse_duplicates(
        members.iter().map(|(member, _)| member),
        start,
        "zset fields",
    )?;
    Ok(members)
}
