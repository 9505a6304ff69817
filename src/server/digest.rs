//! DEBUG DIGEST and DIGEST-VALUE: each node sums up its keys, one adds the sums.

use crate::command::generic;
use crate::keyspace::{Due, Keyspace, Taken, Tx};
use crate::rdb::digest::{self, Digest};
use crate::resp::{Args, CmdResult, Writer};
use crate::session::Core;

/// The sums of one node: per database, or per key that is asked for and lives there.
pub type Sums = Vec<(u32, Digest)>;

fn value_digest(taken: &Taken, into: &mut Digest) {
    if let Some(object) = generic::object(taken.value.kept()) {
        into.object(&object);
    }
    if taken.expire_at.is_some() {
        into.expires();
    }
}

pub fn part(core: &mut Core, args: &Args, db: u32, now_ms: i64) -> Sums {
    let place = core.shard.place;
    let keyspace = &mut core.shard.keyspace;
    if args.is(1, "digest") {
        let used = (0..keyspace.databases()).filter(|&db| keyspace.stats(db).keys > 0);
        let used: Vec<u32> = used.collect();
        let sum = |db| (db, database(keyspace, db, now_ms));
        return used.into_iter().map(sum).collect();
    }
    let here = (2..args.len()).filter(|&i| place.is_home(args.get(i)));
    let mut sums = Sums::new();
    let mut tx = whole(keyspace, db, now_ms);
    for i in here {
        if let Some(taken) = tx.clone_value(args.get(i)) {
            let mut sum = Digest::default();
            value_digest(&taken, &mut sum);
            sums.push((i as u32, sum));
        }
    }
    tx.finish();
    sums
}

/// A transaction for which all keys that a replica keeps are there: they are its master's.
fn whole(keyspace: &mut Keyspace, db: u32, now_ms: i64) -> Tx<'_> {
    let is_replica = keyspace.is_replica();
    let tx = keyspace.tx(db, now_ms, false);
    match is_replica {
        true => tx.with_due(Due::Keep),
        false => tx,
    }
}

fn database(keyspace: &mut Keyspace, db: u32, now_ms: i64) -> Digest {
    let mut names = Vec::new();
    let mut tx = whole(keyspace, db, now_ms);
    tx.for_each_key(|key, _| names.push(key.to_vec()));
    let mut sum = Digest::default();
    for key in names {
        if let Some(taken) = tx.clone_value(&key) {
            sum.merge(&digest::key(&key, |into| value_digest(&taken, into)));
        }
    }
    tx.finish();
    sum
}

/// Whether this is what DEBUG is asked for.
pub fn is_asked(args: &Args) -> bool {
    args.is(1, "digest") || args.is(1, "digest-value")
}

/// The reply, from the sums of all nodes.
pub fn reply(args: &Args, parts: impl Iterator<Item = Sums>, out: &mut Writer) -> CmdResult {
    let mut all = std::collections::BTreeMap::<u32, Digest>::new();
    for (at, sum) in parts.flatten() {
        all.entry(at).or_default().merge(&sum);
    }
    if args.is(1, "digest") {
        return out.simple(&digest::dataset(all).to_string());
    }
    out.array(args.len() - 2)?;
    for i in 2..args.len() {
        let sum = all.get(&(i as u32)).copied().unwrap_or_default();
        out.simple(&sum.to_string())?;
    }
    Ok(())
}
