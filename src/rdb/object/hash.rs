//! Hashes.
//!
//! ```text
//! written (4):     fields  (string  value string) ...
//! written (16):    listpack of field, value, ... in a string
//! written (24):    soonest expiry i64 ms  fields  (expiry length  string  value string) ...
//!                  its expiry: 0 for none, else the distance from the soonest, plus 1
//! written (25):    soonest expiry i64 ms  listpack of field, value, expiry ms or 0, ... in a string
//! 7.4 RC (22, 23): like 24 and 25 without the soonest expiry, with absolute expiries
//! Valkey 9 (22):   fields  (string  value string  expiry i64 ms or -1) ...
//! before 7 (13):   ziplist in a string;  before 2.6 (9): zipmap in a string
//! ```

use bytes::Bytes;

use super::{Body, pairs, refuse_duplicates, take_packed};
use crate::number::parse_i64;
use crate::rdb::Sink;
use crate::rdb::error::{Error, Fault, Result};
use crate::rdb::input::Input;
use crate::rdb::{length, packed, string};

/// What stands for the soonest expiry where no field has one.
const NO_EXPIRY: i64 = 0;

/// Redis: EB_EXPIRE_TIME_MAX, the last moment a field can expire at.
const EXPIRE_AT_MAX_MS: u64 = (1 << 48) - 2;

/// A field with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashField {
    pub name: Bytes,
    pub value: Bytes,
    /// Unix time.
    pub expire_at_ms: Option<i64>,
}

impl HashField {
    fn lasting((name, value): (Bytes, Bytes)) -> HashField {
        HashField {
            name,
            value,
            expire_at_ms: None,
        }
    }
}

impl<S: Sink> Body<'_, S> {
    /// Begins a hash; that many fields follow.
    pub fn hash(&mut self, fields: u64) {
        self.len(fields);
    }

    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        self.text(name);
        self.text(value);
    }

    /// A whole hash in a listpack.
    pub fn hash_listpack(&mut self, listpack: &[u8]) {
        self.text(listpack);
    }

    /// Begins a hash of which fields expire, the first of them at `soonest_ms`.
    pub fn hash_expiring(&mut self, fields: u64, soonest_ms: i64) {
        self.out.put(&soonest_ms.to_le_bytes());
        self.len(fields);
    }

    /// A whole such hash in a listpack: field, value and expiry or 0, the soonest first.
    pub fn hash_listpack_expiring(&mut self, soonest_ms: Option<i64>, listpack: &[u8]) {
        let soonest_ms = soonest_ms.unwrap_or(NO_EXPIRY);
        self.out.put(&soonest_ms.to_le_bytes());
        self.text(listpack);
    }

    /// A field of such a hash; `soonest_ms` as at its beginning.
    pub fn field_expiring(
        &mut self,
        name: &[u8],
        value: &[u8],
        expire_at_ms: Option<i64>,
        soonest_ms: i64,
    ) {
        let distance = expire_at_ms.map_or(0, |at_ms| {
            debug_assert!(at_ms >= soonest_ms, "the soonest is not after any other");
            1 + at_ms.saturating_sub(soonest_ms).max(0).unsigned_abs()
        });
        self.len(distance);
        self.field(name, value);
    }
}

pub fn take_expiring(input: &mut Input) -> Result<Vec<HashField>> {
    let start = input.position();
    let soonest = input.u64_le()?;
    take_with(input, |input| {
        let distance = length::take(input)?;
        let expiry = match distance {
            0 => None,
            // Wrong sums of huge numbers are refused as what they are: huge numbers.
            _ => Some(expiry(start, soonest.saturating_add(distance - 1))?),
        };
        let (name, value) = (string::take(input)?, string::take(input)?);
        Ok((name, value, expiry))
    })
}

/// Redis: an expiry beyond 48 bits is damage.
fn expiry(start: u64, at_ms: u64) -> Result<i64> {
    match i64::try_from(at_ms) {
        Ok(at) if at_ms <= EXPIRE_AT_MAX_MS => Ok(at),
        _ => Err(Error::new(start, Fault::Packed("Hash field expiry"))),
    }
}

pub fn take_absolute(input: &mut Input) -> Result<Vec<HashField>> {
    let start = input.position();
    take_with(input, |input| {
        let at_ms = length::take(input)?;
        let expiry = (at_ms != 0).then(|| expiry(start, at_ms)).transpose()?;
        let (name, value) = (string::take(input)?, string::take(input)?);
        Ok((name, value, expiry))
    })
}

pub fn take_valkey(input: &mut Input) -> Result<Vec<HashField>> {
    take_with(input, |input| {
        let (name, value) = (string::take(input)?, string::take(input)?);
        let start = input.position();
        let expiry = match input.i64_le()? {
            -1 => None,
            at_ms if at_ms >= 0 => Some(at_ms),
            _ => return Err(Error::new(start, Fault::Packed("Hash field expiry"))),
        };
        Ok((name, value, expiry))
    })
}

pub fn take(input: &mut Input) -> Result<Vec<HashField>> {
    take_with(input, |input| {
        Ok((string::take(input)?, string::take(input)?, None))
    })
}

fn take_with(
    input: &mut Input,
    field: impl Fn(&mut Input) -> Result<(Bytes, Bytes, Option<i64>)>,
) -> Result<Vec<HashField>> {
    let start = input.position();
    let len = length::take(input)?;
    let mut fields = Vec::with_capacity(input.capacity(len));
    for _ in 0..len {
        let (name, value, expire_at_ms) = field(input)?;
        fields.push(HashField {
            name,
            value,
            expire_at_ms,
        });
    }
    refuse_duplicate_fields(fields, start)
}

pub fn take_ziplist(input: &mut Input) -> Result<Vec<HashField>> {
    take_pairs(input, "Hash ziplist", packed::ziplist)
}

pub fn take_listpack(input: &mut Input) -> Result<Vec<HashField>> {
    take_pairs(input, "Hash listpack", packed::listpack)
}

pub fn take_zipmap(input: &mut Input) -> Result<Vec<HashField>> {
    take_pairs(input, "Zipmap", packed::zipmap)
}

fn take_pairs(
    input: &mut Input,
    what: &'static str,
    read: fn(&Bytes) -> Option<Vec<Bytes>>,
) -> Result<Vec<HashField>> {
    let start = input.position();
    let elements = take_packed(input, what, read)?;
    let pairs = pairs(elements).ok_or(Error::new(start, Fault::Packed(what)))?;
    let fields = refuse_duplicate_fields(pairs.map(HashField::lasting).collect(), start);
    fields.map_err(|error| Error::new(error.at, Fault::PackedDuplicate(what)))
}

/// Fields, values and expiries in a listpack.
pub fn take_listpack_expiring(input: &mut Input) -> Result<Vec<HashField>> {
    const WHAT: &str = "Hash listpack";
    let start = input.position();
    let elements = take_packed(input, WHAT, packed::listpack)?;
    let bad = || Error::new(start, Fault::Packed(WHAT));
    if elements.len() % 3 != 0 {
        return Err(bad());
    }
    let mut elements = elements.into_iter();
    let mut fields = Vec::new();
    while let (Some(name), Some(value), Some(at_ms)) =
        (elements.next(), elements.next(), elements.next())
    {
        let at_ms = parse_i64(&at_ms).and_then(|at_ms| u64::try_from(at_ms).ok());
        let expire_at_ms = match at_ms.ok_or_else(bad)? {
            0 => None,
            at_ms => Some(expiry(start, at_ms)?),
        };
        fields.push(HashField {
            name,
            value,
            expire_at_ms,
        });
    }
    refuse_duplicate_fields(fields, start)
}

fn refuse_duplicate_fields(fields: Vec<HashField>, start: u64) -> Result<Vec<HashField>> {
    refuse_duplicates(fields.iter().map(|field| &field.name), start, "hash fields")?;
    Ok(fields)
}
