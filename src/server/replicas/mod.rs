//! Replicas of this server: how they begin, what they are sent, and how far they are.
//!
//! ```text
//! a replica's node                    shard 0                        every node
//! SYNC, PSYNC      -> Wants           -> Prepare                     settles what spans shards
//!                                     cut of all shards              Fed ->
//! +FULLRESYNC      <- Begin           the feeds have passed the cut
//! the snapshot     <- File            it is complete
//! the stream       <- Stream          merged and kept in the backlog
//! REPLCONF ACK     -> Ack
//! ```
//! Shard 0 merges the shards' feeds, keeps the backlog and knows all replicas; the node that has a
//! replica's connection keeps what it has not taken. The stream begins with the cut of the snapshot and
//! leaves nothing out, so each replica sees the same bytes at the same offsets.
//!
//! While no replica has been there for `repl-backlog-ttl`, shards tell nothing and nothing is merged.

mod applying;
mod backlog;
mod farewell;
mod figures;
mod greeting;
mod master;
mod outlet;
mod stream;
mod sync;
mod wait;

use std::fs::File;
use std::sync::Arc;

use super::ask::NodeMessage;
use super::host::ServerHost;
use crate::resp::Output;
use crate::session::{Core, Link};
use crate::shard::feed::Fed;
use crate::shard::journal::Journal;
use crate::shard::message::SessionKey;

pub use figures::Figures;
pub use greeting::Applicant;
pub use master::Replicas;
pub use outlet::Outlets;
pub use wait::{OwnWait, Wanted};

/// Names a replica: the node that has its connection, and the connection there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub node: usize,
    pub session: SessionKey,
}

/// What nodes say to each other about replicas.
pub enum Message {
    /// A client wants to be a replica.
    Wants(Box<Applicant>),
    /// One tells how far it is.
    Ack {
        session: SessionKey,
        offset: i64,
        /// What of it its disk has, if it says that.
        synced: Option<i64>,
    },
    /// One says that it is there.
    Alive {
        session: SessionKey,
    },
    /// One is gone.
    Gone {
        session: SessionKey,
    },
    /// One has been sent its snapshot.
    Sent {
        session: SessionKey,
    },
    /// Feeds are about to begin: from now on, what spans shards is told when all of it is done.
    Prepare,
    /// What a shard does is told from here on; and that it is.
    Feed {
        epoch: u32,
    },
    IsFed,
    /// Whether anything of a node's clients is under way: the answer comes when nothing is.
    Settle,
    Settled,
    /// Nobody is told of anything any more.
    EndFeed,
    /// A part of a master's stream that belongs to this shard; and that it was carried out.
    Follow(Vec<u8>),
    Followed,
    /// What a shard did.
    Fed {
        epoch: u32,
        items: Vec<Fed>,
    },
    /// All that a shard did before is to be told, and this after it.
    Reach {
        id: u64,
        epoch: u32,
    },
    /// A client waits until replicas have what it wrote; it waits no more.
    Wait(Box<Wanted>),
    EndWait {
        session: SessionKey,
    },
    /// CLIENT UNBLOCK: it waits no more, and is answered.
    CutWait {
        session: SessionKey,
    },
    /// The answer.
    WaitOver {
        wait: OwnWait,
        out: Box<Output>,
    },
    /// The reply to PSYNC, and what the stream goes on behind: a partial resynchronization.
    Continue {
        session: SessionKey,
        reply: String,
        rest: Vec<Arc<[u8]>>,
    },
    /// The snapshot holds everything up to here. The reply to PSYNC, and whether the stream follows.
    Begin {
        session: SessionKey,
        reply: String,
        follows: bool,
    },
    /// The snapshot.
    File {
        session: SessionKey,
        file: Arc<File>,
        len: u64,
    },
    /// A piece of a snapshot that is being made; that it was taken; and that there are no more.
    Piece {
        session: SessionKey,
        bytes: Arc<[u8]>,
    },
    PieceTaken {
        session: SessionKey,
    },
    LastPiece {
        session: SessionKey,
    },
    /// One has all of it.
    Has {
        session: SessionKey,
    },
    /// More of the stream, for all replicas of a node that are in it.
    Stream(Arc<[u8]>),
    /// A second has passed.
    Tick,
    /// One has to go.
    Drop {
        session: SessionKey,
    },
}

impl Message {
    /// Whether it is part of what replicas are sent, or says how that goes on.
    pub fn is_sent_on(&self) -> bool {
        matches!(
            self,
            Message::Continue { .. }
                | Message::Begin { .. }
                | Message::File { .. }
                | Message::Piece { .. }
                | Message::LastPiece { .. }
                | Message::Has { .. }
                | Message::Stream(_)
                | Message::Tick
                | Message::Drop { .. }
        )
    }
}

impl ServerHost {
    /// A message about replicas.
    pub fn replica_message(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        from: usize,
        message: Message,
    ) {
        let place = |session| Place {
            node: from,
            session,
        };
        match message {
            Message::Wants(applicant) => self.replica_wants(*applicant),
            Message::Ack {
                session,
                offset,
                synced,
            } => self.replica_ack(place(session), offset, synced),
            Message::Alive { session } => self.replica_alive(place(session)),
            Message::Gone { session } => self.replica_gone(place(session)),
            Message::Sent { session } => self.replica_sent(place(session)),
            Message::Prepare => core.coordinator.journaled = true,
            Message::Feed { epoch } => self.begin_feed(core, epoch),
            Message::IsFed => self.node_is_fed(),
            Message::Settle => self.settles = true,
            Message::Settled => self.node_is_settled(),
            Message::Follow(commands) => self.follow_here(core, link, &commands),
            Message::Followed => self.following.taken(from),
            Message::EndFeed => self.end_feed(core),
            Message::Fed { epoch, items } => self.fed(from, epoch, items),
            Message::Reach { id, epoch } => self.mark_feed(core, id, epoch),
            Message::Wait(wanted) => self.wait_wanted(*wanted),
            Message::EndWait { session } => self.forget_wait(place(session)),
            Message::CutWait { session } => self.cut_wait(place(session)),
            Message::WaitOver { wait, out } => self.wait_over(core, link, wait, &out),
            Message::Continue {
                session,
                reply,
                rest,
            } => self.go_on(core, link, session, &reply, rest),
            Message::Begin {
                session,
                reply,
                follows,
            } => self.begin_stream(core, link, session, &reply, follows),
            Message::File { session, file, len } => self.send_file(link, session, file, len),
            Message::Piece { session, bytes } => self.queue_piece(link, session, bytes),
            Message::PieceTaken { session } => self.piece_taken(place(session)),
            Message::LastPiece { session } => self.end_pieces(link, session),
            Message::Has { session } => self.begin_online(link, session),
            Message::Stream(bytes) => self.send_stream(core, link, &bytes),
            Message::Tick => self.tick_outlets(core, link),
            Message::Drop { session } => core.abandon(session, link),
        }
    }

    /// A message to a node.
    fn inform(&mut self, node: usize, message: Message) {
        self.mail.push((node, NodeMessage::Replicas(message)));
    }

    /// What this shard told since the last turn goes to shard 0.
    pub(super) fn send_feed(&mut self, core: &mut Core) {
        let shard = &mut core.shard;
        let Some(journal) = &mut shard.journal else {
            return;
        };
        journal.collect(&mut shard.keyspace.effects);
        let Some((epoch, items)) = journal.take_feed() else {
            return;
        };
        if self.shard == 0 {
            self.fed(0, epoch, items);
        } else {
            self.inform(0, Message::Fed { epoch, items });
        }
    }

    /// Everything up to here was done before. A feed that is about to begin has nothing to tell of that.
    fn mark_feed(&mut self, core: &mut Core, id: u64, epoch: u32) {
        let shard = &mut core.shard;
        match shard.journal.as_mut().filter(|journal| journal.is_fed()) {
            Some(journal) => journal.mark(id, &mut shard.keyspace.effects),
            None => {
                let items = vec![Fed::Reached(id)];
                self.inform(0, Message::Fed { epoch, items });
            }
        }
    }

    /// Replicas are told of everything from here on, though no snapshot begins here: nobody may write
    /// yet.
    fn begin_feed(&mut self, core: &mut Core, epoch: u32) {
        let shard = &mut core.shard;
        let unkept = || Box::new(Journal::unkept());
        let journal = shard.journal.get_or_insert_with(unkept);
        journal.begin_feed(epoch, &mut shard.keyspace.effects);
        shard.keyspace.effects.recording = true;
        core.coordinator.journaled = true;
        self.inform(0, Message::IsFed);
    }

    /// Replicas are told of nothing any more.
    fn end_feed(&mut self, core: &mut Core) {
        let shard = &mut core.shard;
        let Some(journal) = &mut shard.journal else {
            return;
        };
        if !journal.end_feed() {
            shard.journal = None;
            shard.keyspace.effects.recording = false;
            shard.keyspace.effects.forget_records();
            core.coordinator.journaled = self.segment.is_some();
        }
    }

    /// Tells replicas of a message to a channel.
    pub(super) fn tell_replicas(&self, core: &mut Core, words: &[&[u8]], db: u32) {
        let shard = &mut core.shard;
        if shard.journal.as_ref().is_some_and(|it| it.is_fed()) {
            shard.keyspace.effects.record_said(db, words);
        }
    }
}
