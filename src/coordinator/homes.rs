//! Which shards a piece of work concerns, and what it is to hold there.

use smallvec::SmallVec;

use super::work::Participant;
use crate::command::{Run, keys};
use crate::shard::message::{HoldOn, KeyIndices, Request};

/// Where a request's keys live.
#[derive(Debug, PartialEq, Eq)]
pub enum Homes {
    /// All on one shard.
    One(usize),
    /// Shards in ascending order with the argument indices of their keys.
    Many(SmallVec<[(usize, KeyIndices); 4]>),
}

/// Groups keys (argument positions) by home shard.
pub fn homes(positions: &[usize], args: &crate::resp::Args, shards: usize) -> Homes {
    let mut groups: SmallVec<[(usize, KeyIndices); 4]> = SmallVec::new();
    for &at in positions {
        let home = keys::home(args.get(at), shards);
        match groups.iter_mut().find(|(shard, _)| *shard == home) {
            Some((_, indices)) => indices.push(at as u32),
            None => groups.push((home, SmallVec::from_slice(&[at as u32]))),
        }
    }
    if groups.len() <= 1 {
        return Homes::One(groups.first().map_or(0, |(shard, _)| *shard));
    }
    groups.sort_unstable_by_key(|(shard, _)| *shard);
    Homes::Many(groups)
}

/// Holds on keys (argument positions), home by home.
pub fn holds_on(
    positions: &[usize],
    args: &crate::resp::Args,
    shards: usize,
) -> Vec<(usize, HoldOn)> {
    match homes(positions, args, shards) {
        _ if positions.is_empty() => Vec::new(),
        Homes::One(home) => {
            let keys = positions.iter().map(|&at| at as u32).collect();
            vec![(home, HoldOn::Keys(keys))]
        }
        Homes::Many(groups) => {
            let on = |(home, keys)| (home, HoldOn::Keys(keys));
            groups.into_iter().map(on).collect()
        }
    }
}

/// A hold on everything.
pub fn everything_of(shards: usize) -> Vec<(usize, HoldOn)> {
    (0..shards)
        .map(|shard| (shard, HoldOn::Everything))
        .collect()
}

/// A hold on everything, with the keys of a request that decides over keys.
pub fn everything(request: &Request, shards: usize) -> Vec<(usize, HoldOn)> {
    let args = request.args.as_args();
    let command = request.call.command;
    let positions = match command.run {
        Run::Gather(_) => keys::positions(command.keys, &args).unwrap_or_default(),
        _ => Default::default(),
    };
    let on = |shard: usize| {
        let here = |&&at: &&usize| keys::home(args.get(at), shards) == shard;
        let keys: KeyIndices = positions.iter().filter(here).map(|&at| at as u32).collect();
        (shard, HoldOn::EverythingWith(keys))
    };
    (0..shards).map(on).collect()
}

pub(super) fn participants(homes: SmallVec<[(usize, KeyIndices); 4]>) -> Vec<Participant> {
    let on = |(shard, keys)| (shard, HoldOn::Keys(keys));
    Participant::all(homes.into_iter().map(on))
}
