//! Questions between nodes: a job that every core takes part in, or that only shard 0 may perform.
//!
//! ```text
//! requester's node:  Forward {requester, job, args} -> shard 0      (configuration, slow log)
//! any node:          Ask {id, job, args} -> all nodes               (lists, sums, broadcasts)
//!                    Answer {id, part}   <- each
//! performing node:   Reply {session, out} -> requester's node
//! ```
//! Each node's part is computed synchronously when the question arrives, so the answers of one
//! question need no further state on the nodes that are asked. Only the answer to who has put users
//! into effect may have to wait, for what is under way.

use std::any::Any;
use std::sync::Arc;

use ahash::AHashMap;

use crate::command::Job;
use crate::resp::{ArgBuf, Output, Proto};
use crate::shard::message::{Message, SessionKey};
use crate::shard::seen::Sight;

/// Who waits for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester {
    pub shard: usize,
    pub session: SessionKey,
    pub client_id: u64,
    pub proto: Proto,
    pub db: u32,
    /// The client is on this machine.
    pub is_local: bool,
    /// Its transaction is being carried out.
    pub in_exec: bool,
}

/// One node's contribution; what it is depends on the job.
pub type Contribution = Box<dyn Any + Send>;

/// A question to every node.
#[derive(Debug)]
pub struct Question {
    pub job: Job,
    pub requester: Requester,
    pub args: ArgBuf,
    /// What the arguments do not say, prepared once by the asking node.
    pub extra: Option<Box<dyn Any + Send + Sync>>,
}

impl Question {
    /// What the asking node prepared, if it is a `T`.
    pub fn prepared<T: 'static>(&self) -> Option<&T> {
        self.extra.as_ref()?.downcast_ref()
    }
}

/// Everything nodes say to each other.
pub enum NodeMessage {
    Core(Message),
    Ask {
        id: u64,
        origin: usize,
        question: Arc<Question>,
    },
    Answer {
        id: u64,
        part: Contribution,
    },
    Forward(Box<Forwarded>),
    Reply {
        session: SessionKey,
        out: Box<Output>,
        /// What it took was done on a shard that has come so far.
        sight: Option<Sight>,
    },
    /// A command slower than `slowlog-log-slower-than`, for shard 0's log.
    Slow(Box<super::slowlog::Entry>),
    /// Somebody was refused, for shard 0's log.
    Denied(Box<crate::acl::Denial>),
    /// One formatted line for this node's monitors.
    Monitor(Arc<[u8]>),
    /// Messages between clients.
    Pubsub(super::pubsub::Message),
    /// About what clients cache.
    Tracking(super::tracking::Message),
    /// About files of the whole data set.
    Persist(super::persist::Message),
    /// About replicas.
    Replicas(super::replicas::Message),
    /// Whether this server is a master.
    Role(super::role::Message),
    /// Memory is short, and the sender has no key to evict; and that the receiver has none or did.
    WantRoom {
        session: SessionKey,
    },
    MadeRoom {
        session: SessionKey,
    },
    /// A node's monitors came or went.
    MonitorsChanged {
        node: usize,
        delta: i64,
    },
}

impl NodeMessage {
    /// Whether a connection of a replica is to take it behind all that shard 0 has told it before, some
    /// of which may wait for the disk. What a node posts to itself arrives within the turn, and would be
    /// ahead of that: it goes with the last of the turn, as the stream does.
    pub fn is_sent_on(&self) -> bool {
        matches!(self, NodeMessage::Replicas(message) if message.is_sent_on())
    }
}

/// A job on its way to shard 0.
#[derive(Debug)]
pub struct Forwarded {
    pub requester: Requester,
    pub job: Job,
    pub args: ArgBuf,
}

/// A question whose answers are being collected.
pub struct Collecting {
    pub question: Arc<Question>,
    pub parts: Vec<Contribution>,
    pub awaited: usize,
}

/// The questions of one node.
#[derive(Default)]
pub struct Asking {
    next: u64,
    pending: AHashMap<u64, Collecting>,
}

impl Asking {
    /// Registers a question to `nodes` nodes; returns its id.
    pub fn begin(&mut self, question: Arc<Question>, nodes: usize) -> u64 {
        self.next += 1;
        let collecting = Collecting {
            question,
            parts: Vec::with_capacity(nodes),
            awaited: nodes,
        };
        self.pending.insert(self.next, collecting);
        self.next
    }

    /// Takes an answer; returns the whole collection once it is complete.
    pub fn answered(&mut self, id: u64, part: Contribution) -> Option<Collecting> {
        let collecting = self.pending.get_mut(&id)?;
        collecting.parts.push(part);
        collecting.awaited -= 1;
        if collecting.awaited > 0 {
            None
        } else {
            self.pending.remove(&id)
        }
    }
}

/// The parts of a collection as the type that its job's nodes contribute.
pub fn parts_of<T: 'static>(parts: Vec<Contribution>) -> impl Iterator<Item = T> {
    parts
        .into_iter()
        .filter_map(|part| part.downcast::<T>().ok())
        .map(|part| *part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_completes_with_its_last_answer() {
        let requester = Requester {
            shard: 0,
            session: 1,
            client_id: 1,
            proto: Proto::Resp2,
            db: 0,
            is_local: true,
            in_exec: false,
        };
        let question = Question {
            job: Job::ClientList,
            requester,
            args: ArgBuf::default(),
            extra: None,
        };
        let mut asking = Asking::default();
        let id = asking.begin(Arc::new(question), 2);
        assert!(asking.answered(id, Box::new(1i64)).is_none());
        assert!(asking.answered(id + 1, Box::new(1i64)).is_none());
        let whole = asking.answered(id, Box::new(2i64)).unwrap();
        assert_eq!(parts_of::<i64>(whole.parts).sum::<i64>(), 3);
    }

    #[test]
    fn messages_may_cross_threads() {
        fn is_send<T: Send>() {}
        is_send::<NodeMessage>();
    }
}
