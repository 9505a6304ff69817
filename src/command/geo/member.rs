//! Single places.

use super::{coordinate, distance, member_place, place, unit_m};
use crate::command::zset;
use crate::keyspace::Tx;
use crate::resp::{ArgBuf, Args, CmdError, CmdResult, Writer};
use crate::value::geohash;
use crate::value::zset::Zset;

/// `GEOADD key [NX|XX] [CH] longitude latitude member ...`: ZADD with geohashes for scores.
pub(super) fn geoadd(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let mut at = 2;
    let (mut new_only, mut existing_only) = (false, false);
    while at < args.len() {
        if args.is(at, "nx") {
            new_only = true;
        } else if args.is(at, "xx") {
            existing_only = true;
        } else if !args.is(at, "ch") {
            break;
        }
        at += 1;
    }
    if !(args.len() - at).is_multiple_of(3) || (new_only && existing_only) {
        return Err(CmdError::Syntax);
    }
    let mut request = ArgBuf::default();
    request.push(b"ZADD");
    (1..at).for_each(|i| request.push(args.get(i)));
    while at < args.len() {
        let hash = geohash::encode(place(args, at)?);
        request.push(itoa::Buffer::new().format(hash).as_bytes());
        request.push(args.get(at + 2));
        at += 3;
    }
    zset::zadd(tx, &request.as_args(), out)
}

/// `GEODIST key member member [unit]`
pub(super) fn geodist(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let unit = match args.len() {
        4 => 1.0,
        5 => unit_m(args, 4)?,
        _ => return Err(CmdError::Syntax),
    };
    let set = tx.read::<Zset>(args.get(1))?;
    let of = |at: usize| set.and_then(|set| member_place(set, args.get(at)));
    match (of(2), of(3)) {
        (Some(from), Some(to)) => distance(geohash::distance_m(from, to) / unit, out),
        _ => out.null(),
    }
}

pub(super) fn geohash(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let set = tx.read::<Zset>(args.get(1))?;
    out.array(args.len() - 2)?;
    args.iter()
        .skip(2)
        .try_for_each(|name| match set.and_then(|set| set.score(name)) {
            Some(score) => out.bulk(&geohash::text(geohash::of_score(score))),
            None => out.null(),
        })
}

pub(super) fn geopos(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    let set = tx.read::<Zset>(args.get(1))?;
    out.array(args.len() - 2)?;
    args.iter()
        .skip(2)
        .try_for_each(|name| match set.and_then(|set| member_place(set, name)) {
            Some(place) => {
                out.array(2)?;
                coordinate(place.lon, out)?;
                coordinate(place.lat, out)
            }
            None => out.null_array(),
        })
}
