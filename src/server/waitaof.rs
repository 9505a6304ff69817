//! WAITAOF: who waits until what they wrote is on the disk.
//!
//! ```text
//! waiter's node:  SyncWanted {waiter} -> every node
//! every node:     SyncReached {waiter} -> waiter's node, when all that its segment had got is synced
//! ```
//! A connection's commands take effect in their order, on whatever shard: what it wrote before stands
//! in the segments when the question comes. Who asks does not wait for the next second's sync.

use super::ask::{NodeMessage, Requester};
use super::host::ServerHost;
use super::jobs::done;
use super::persist::Message;
use crate::command::block::timeout_ms;
use crate::resp::{Args, CmdError, Writer};
use crate::session::{Core, Performed, UNBLOCKED_BY_CLIENT};
use crate::shard::message::SessionKey;

const NO_AOF: CmdError =
    CmdError::Text("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.");

/// One who waits: the node, and its number for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    pub node: usize,
    pub id: u64,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    requester: Requester,
    /// Nodes that have not synced yet.
    awaited: usize,
    wants_local: bool,
    wants_replicas: bool,
    /// Unix milliseconds.
    deadline_ms: Option<i64>,
}

impl Waiting {
    fn is_local(&self) -> bool {
        self.awaited == 0
    }

    /// No replica ever has it.
    fn is_content(&self) -> bool {
        !self.wants_replicas && (!self.wants_local || self.is_local())
    }
}

/// Those of one node.
#[derive(Debug, Default)]
pub struct AofWaits {
    next_id: u64,
    waiting: Vec<Waiting>,
}

impl AofWaits {
    /// When the first of them has waited long enough.
    pub fn due_ms(&self) -> Option<i64> {
        self.waiting.iter().filter_map(|one| one.deadline_ms).min()
    }

    pub fn forget(&mut self, session: SessionKey) {
        self.waiting.retain(|one| one.requester.session != session);
    }
}

/// WAITAOF numlocal numreplicas timeout. Redis 7.2: replication.c.
fn parse(args: &Args) -> Result<(bool, bool, i64), CmdError> {
    let number = |at: usize, most: i64, error: &'static str| {
        let n = args.int(at).ok().filter(|n| (0..=most).contains(n));
        n.ok_or(CmdError::Text(error))
    };
    let local = args.int(1)?;
    if !(0..=1).contains(&local) {
        return Err(CmdError::Text(
            "ERR value is out of range, value must between 0 and 1",
        ));
    }
    let replicas = number(2, i64::MAX, "ERR value is out of range, must be positive")?;
    Ok((local > 0, replicas > 0, timeout_ms(args, 3)?))
}

impl ServerHost {
    pub(super) fn wait_aof(
        &mut self,
        core: &Core,
        requester: Requester,
        args: &Args,
        out: &mut Writer,
    ) -> Performed {
        let (wants_local, wants_replicas, timeout_ms) = match parse(args) {
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
        if core.is_executing(requester.session) || !wants_local && !wants_replicas {
            return done(write(false, out));
        }
        let waits = &mut self.aof_waits;
        waits.next_id += 1;
        let id = waits.next_id;
        let now_ms = self.now_ms;
        waits.waiting.push(Waiting {
            id,
            requester,
            awaited: self.shards,
            wants_local,
            wants_replicas,
            deadline_ms: (timeout_ms > 0).then(|| now_ms.saturating_add(timeout_ms)),
        });
        let waiter = Waiter {
            node: self.shard,
            id,
        };
        self.tell_nodes(|_| Message::SyncWanted(waiter));
        Performed::Later
    }

    /// A node has synced what one of ours waits for.
    pub(super) fn sync_reached(&mut self, id: u64) {
        let waiting = &mut self.aof_waits.waiting;
        let Some(at) = waiting.iter().position(|one| one.id == id) else {
            return;
        };
        waiting[at].awaited -= 1;
        if waiting[at].is_content() {
            let over = waiting.swap_remove(at);
            self.end_aof_wait(&over);
        }
    }

    fn end_aof_wait(&mut self, over: &Waiting) {
        self.reply_with(over.requester, |out| write(over.is_local(), out));
    }

    /// CLIENT UNBLOCK: whether the client waited.
    pub(super) fn cut_aof_wait(&mut self, session: SessionKey, with_error: bool) -> bool {
        let waiting = &mut self.aof_waits.waiting;
        let Some(at) = waiting
            .iter()
            .position(|one| one.requester.session == session)
        else {
            return false;
        };
        let over = waiting.swap_remove(at);
        match with_error {
            true => self.reply_with(over.requester, |out| out.error(&UNBLOCKED_BY_CLIENT)),
            false => self.end_aof_wait(&over),
        }
        true
    }

    /// Those who have waited long enough; and those whose append-only file is no more, whatever was
    /// synced when it ended. Redis 7.2: replication.c processClientsWaitingReplicas.
    pub fn end_aof_waits(&mut self, now_ms: i64) {
        let waiting = &mut self.aof_waits.waiting;
        if !waiting.is_empty() && !self.config.flag("appendonly") {
            let vain: Vec<Waiting> = waiting.extract_if(.., |one| one.wants_local).collect();
            for one in vain {
                self.reply_with(one.requester, |out| out.error(&NO_AOF));
            }
        }
        let is_over = |one: &mut Waiting| one.deadline_ms.is_some_and(|at_ms| at_ms <= now_ms);
        let over: Vec<Waiting> = self.aof_waits.waiting.extract_if(.., is_over).collect();
        over.iter().for_each(|one| self.end_aof_wait(one));
    }

    /// Somebody waits for this node's segment. Without one nothing is on the disk, and they wait on.
    pub(super) fn sync_wanted(&mut self, waiter: Waiter) {
        if let Some(segment) = &mut self.segment {
            segment.when_synced(waiter);
        }
    }

    /// Tells those whose wait for this node is over.
    pub(super) fn tell_synced(&mut self) {
        if let Some(segment) = &mut self.segment {
            let over = segment.take_synced();
            self.tell_reached(over);
        }
    }

    pub(super) fn tell_reached(&mut self, waiters: Vec<Waiter>) {
        for Waiter { node, id } in waiters {
            self.mail
                .push((node, NodeMessage::Persist(Message::SyncReached(id))));
        }
    }
}

/// How many have it on the disk: this server, and replicas.
fn write(local: bool, out: &mut Writer) -> crate::resp::CmdResult {
    out.array(2)?;
    out.int(i64::from(local))?;
    out.int(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::ArgBuf;

    #[test]
    fn arguments_are_checked_as_redis_does() {
        for (line, wanted) in [
            ("WAITAOF 1 0 0", Ok((true, false, 0))),
            ("WAITAOF 0 2 50", Ok((false, true, 50))),
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
