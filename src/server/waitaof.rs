//! WAITAOF: who waits until what they wrote is on the disk, here and at replicas.
//!
//! ```text
//! waiter's node:  Wait {what it has seen} -> shard 0     as for WAIT, see replicas/wait.rs
//! shard 0:        SyncWanted {waiter, unit} -> every node whose work it has seen
//! those nodes:    SyncReached {waiter} -> shard 0, when the segment is on the disk up to there
//! replicas:       REPLCONF ACK offset FACK offset -> shard 0
//! ```
//! Who asks does not wait for the next second's sync; a replica that is to tell how far its disk is does.

use super::ask::{NodeMessage, Requester};
use super::host::ServerHost;
use super::persist::Message;
use crate::command::block::timeout_ms;
use crate::resp::{Args, CmdError};
use crate::session::{Core, Performed};

pub const NO_AOF: CmdError =
    CmdError::Text("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");

/// One who waits: the node, and its number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    pub node: usize,
    pub id: u64,
    /// What it waits for is to be synced now.
    pub hurries: bool,
}

/// WAITAOF numlocal numreplicas timeout. Redis 7.2: replication.c.
fn parse(args: &Args) -> Result<(bool, i64, i64), CmdError> {
    let local = args.int(1)?;
    if !(0..=1).contains(&local) {
        return Err(CmdError::Text(
            "ERR value is out of range, value must between 0 and 1",
        ));
    }
    let replicas = args.int(2).ok().filter(|n| *n >= 0);
    let replicas = replicas.ok_or(CmdError::Text(
        "ERR value is out of range, must be positive",
    ))?;
    Ok((local > 0, replicas, timeout_ms(args, 3)?))
}

impl ServerHost {
    pub(super) fn wait_aof(&mut self, core: &Core, requester: Requester, args: &Args) -> Performed {
        let (wants_local, replicas, timeout_ms) = match parse(args) {
            Ok(asked) => asked,
            Err(error) => return Performed::Failed(error),
        };
        if self.identity.role.is_replica() {
            return Performed::Failed(CmdError::Text(
                "ERR WAITAOF cannot be used with replica instances. Please also note that writes \
                 to replicas are just local and are not propagated.",
            ));
        }
        if wants_local && !self.config.flag("appendonly") {
            return Performed::Failed(NO_AOF);
        }
        self.ask_to_wait(core, requester, (replicas, timeout_ms), Some(wants_local))
    }

    /// Somebody waits for this node's segment. Without one nothing is on the disk.
    pub(super) fn sync_wanted(&mut self, waiter: Waiter, unit: u64, at_once: bool) {
        match &mut self.segment {
            Some(segment) if !at_once => segment.when_synced(waiter, unit),
            segment => {
                let is_there = segment.as_ref().is_some_and(|it| it.has_synced(unit));
                self.tell_reached(vec![waiter], is_there);
            }
        }
    }

    /// Tells those whose wait for this node is over.
    pub(super) fn tell_synced(&mut self) {
        if let Some(segment) = &mut self.segment {
            let over = segment.take_synced();
            self.tell_reached(over, true);
        }
    }

    pub(super) fn tell_reached(&mut self, waiters: Vec<Waiter>, is_there: bool) {
        for Waiter { node, id, .. } in waiters {
            let message = Message::SyncReached { id, is_there };
            self.mail.push((node, NodeMessage::Persist(message)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::ArgBuf;

    #[test]
    fn arguments_are_checked_as_redis_does() {
        for (line, wanted) in [
            ("WAITAOF 1 0 0", Ok((true, 0, 0))),
            ("WAITAOF 0 2 50", Ok((false, 2, 50))),
            (
                "WAITAOF 2 0 0",
                Err("ERR value is out of range, value must between 0 and 1"),
            ),
            (
                "WAITAOF 1 -1 0",
                Err("ERR value is out of range, must be positive"),
            ),
            ("WAITAOF 1 0 -1", Err("ERR timeout is negative")),
            (
                "WAITAOF 1 0 x",
                Err("ERR timeout is not an integer or out of range"),
            ),
        ] {
            let mut args = ArgBuf::default();
            line.split(' ').for_each(|word| args.push(word.as_bytes()));
            let got = parse(&args.as_args()).map_err(|error| error.to_string());
            assert_eq!(got, wanted.map_err(str::to_owned), "{line}");
        }
    }
}
