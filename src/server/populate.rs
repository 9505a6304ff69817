//! DEBUG POPULATE: many keys at once, for tests.

use crate::command::keys;
use crate::keyspace::{Event, NewStr, Ttl};
use crate::resp::{Args, CmdError};
use crate::session::Core;

/// Checks the numbers of `DEBUG POPULATE count [prefix [size]]`.
pub fn check(args: &Args) -> Result<(), CmdError> {
    let is_positive = |at: usize| args.len() <= at || args.int(at).is_ok_and(|n| n >= 0);
    if is_positive(2) && is_positive(4) {
        Ok(())
    } else {
        Err(CmdError::OutOfRange)
    }
}

/// Makes the keys that live on this shard: `<prefix>:<n>` with `value:<n>`, padded with zeros to a
/// size. Keys that exist are left alone. The others are told to nobody: neither replicas nor the
/// append-only file have them, nor do they count as changes. Redis: debug.c.
pub fn fill(core: &mut Core, args: &Args, db: u32, now_ms: i64) {
    let number = |at: usize| (args.len() > at).then(|| args.int(at).unwrap_or(0) as usize);
    let prefix = if args.len() > 3 { args.get(3) } else { b"key" };
    let (count, size) = (number(2).unwrap_or(0), number(4));
    let place = core.shard.place;
    let effects = &mut core.shard.keyspace.effects;
    let before = (effects.recording, effects.classes, effects.dirty);
    (effects.recording, effects.classes) = (false, 0);
    let mut tx = core.shard.keyspace.tx(db, now_ms, false);
    for n in 0..count {
        let key = [prefix, b":", n.to_string().as_bytes()].concat();
        if keys::home(&key, place.shards) != place.shard || tx.peek_exists(&key) {
            continue;
        }
        let mut value = format!("value:{n}").into_bytes();
        value.resize(size.unwrap_or(value.len()), 0);
        tx.set_string(&key, NewStr::Bytes(&value), Ttl::Clear);
        tx.wrote(&key, Event::SET, |rec| rec.cmd(&[b"SET", &key, &value]));
    }
    tx.finish();
    let effects = &mut core.shard.keyspace.effects;
    (effects.recording, effects.classes, effects.dirty) = before;
}
