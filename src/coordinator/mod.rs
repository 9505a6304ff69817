//! What spans shards: takes holds, gathers parts, decides, applies, answers.
//!
//! One piece of multi-shard work goes through these steps, each a message to every participant:
//!
//! ```text
//! hold (all at once)  --conflict-->  release, then hold one by one in ascending shard order
//!   | granted everywhere; reads have happened under the hold
//! decide (pure)       --error----->  release, reply with the error
//!   |
//! finish: apply and release          reply when every home has applied
//! ```
//! What the parts have to tell of (events of keys, what clients cache) comes with their answers and is
//! told when all is done, in the order of the command's steps; a home that had something to tell gives
//! its hold back after that.
//!
//! All holds are held at the instant the last one is granted, so the work takes effect there, whole,
//! for every observer (strict serializability). A move between homes takes one step more: the value
//! leaves one home and arrives at the other while both are held. Simple commands on two homes take one
//! step less (`pair.rs`).
//!
//! Nothing here touches a keyspace: this shard's own part goes through the same messages, but for what a
//! script asks for of its own shard. That has run when it is told of here.

mod errand;
mod exec;
mod finishing;
mod holding;
mod homes;
pub mod listeners;
pub mod merge;
mod pair;
pub mod stream;
mod work;

use std::sync::Arc;

use ahash::AHashMap;
use smallvec::SmallVec;

use crate::command::errand::Parcel;
use crate::command::{Command, flags};
use crate::journal::segment::TX_COUNT_BITS;
use crate::keyspace::told::Told;
use crate::resp::{CmdError, Output};
use crate::shard::TxId;
use crate::shard::message::{Cut, KeyIndices, MASTER, Message, Request, SessionKey};

pub use crate::shard::message::HopCall;
pub use homes::{Homes, everything, everything_of, holds_on, homes};

use homes::participants;
use work::{Kind, Participant, Step, Work};

/// What a cut does is not a client's request: nothing in the command table leads here.
static CUT: Command = Command {
    name: "cut",
    flags: flags::WRITE,
    ..Command::DEFAULT
};
/// No connection has this key: indices are small.
const NO_SESSION: SessionKey = SessionKey::MAX;

/// Multi-shard work that this shard's sessions started.
pub struct Coordinator {
    shard: usize,
    shards: usize,
    next: u64,
    /// Each is taken out and put back with every message.
    pending: AHashMap<TxId, Box<Work>>,
    /// The shards write journals: work that spans them is settled before it is answered.
    pub journaled: bool,
    /// What is to be told now. Take it after each call, before anything else is told.
    told: Told,
}

/// An answer for a session.
#[derive(Debug)]
pub struct Answer {
    pub session: SessionKey,
    pub call: HopCall,
    pub request: Arc<Request>,
    pub done: Done,
    /// Other work was in its way.
    pub has_waited: bool,
}

impl Answer {
    fn new(session: SessionKey, request: Arc<Request>, done: Done) -> Answer {
        Answer {
            session,
            call: request.call,
            request,
            done,
            has_waited: false,
        }
    }
}

/// What became of a piece of work.
#[derive(Debug)]
pub enum Done {
    Reply(Result<Output, CmdError>),
    /// Nothing could be served: the client is in the queues of its keys.
    Waits,
    /// An attempt to serve a client that waits; `None`: it waits on.
    Tried(Option<Result<Output, CmdError>>),
    /// A transaction holds all its keys; `clean`: nothing it watched has changed.
    Held {
        work: TxId,
        clean: bool,
    },
    /// This is to be sent to another server; [`Coordinator::returned`] tells what became of it.
    Errand {
        work: TxId,
        parcel: Box<Parcel>,
    },
    /// A transaction is in all journals and its holds are given back.
    Settled,
    /// It was given up before it began.
    Refused,
    /// The replies of some commands of a transaction.
    Part {
        reply: Result<Output, CmdError>,
        /// How long each of them took where it ran.
        spent_ns: Vec<u64>,
    },
}

impl Coordinator {
    pub fn new(shard: usize, shards: usize) -> Coordinator {
        Coordinator {
            shard,
            shards,
            next: 0,
            pending: AHashMap::new(),
            journaled: false,
            told: Told::default(),
        }
    }

    /// The session that a piece of work is for.
    pub fn whose(&self, tx: TxId) -> Option<SessionKey> {
        self.pending.get(&tx).map(|work| work.session)
    }

    /// Whether a piece of work is an attempt to serve a client that waits.
    pub fn is_retry(&self, tx: TxId) -> bool {
        let work = self.pending.get(&tx);
        work.is_some_and(|work| work.kind == Kind::Retry)
    }

    /// Number of pieces of work in progress.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Starts work on keys of several homes.
    pub fn start_keys(
        &mut self,
        session: SessionKey,
        request: Arc<Request>,
        homes: SmallVec<[(usize, KeyIndices); 4]>,
        post: &mut dyn FnMut(usize, Message),
    ) {
        self.start(session, request, participants(homes), Kind::Command, post);
    }

    /// Tries again to serve a client that waits.
    pub fn retry(
        &mut self,
        session: SessionKey,
        request: Arc<Request>,
        homes: SmallVec<[(usize, KeyIndices); 4]>,
        post: &mut dyn FnMut(usize, Message),
    ) {
        self.start(session, request, participants(homes), Kind::Retry, post);
    }

    /// Starts work on everything, on every shard.
    pub fn start_everything(
        &mut self,
        session: SessionKey,
        request: Arc<Request>,
        post: &mut dyn FnMut(usize, Message),
    ) {
        let participants = Participant::all(everything(&request, self.shards));
        self.start(session, request, participants, Kind::Command, post);
    }

    /// Begins a cut on every shard, at one instant. The shards report what they stream.
    pub fn start_cut(&mut self, cut: Cut, post: &mut dyn FnMut(usize, Message)) {
        let call = HopCall {
            command: &CUT,
            id: 0,
            from: 0,
            to: 0,
            tracks: false,
        };
        let request = Arc::new(Request {
            call,
            args: Default::default(),
            ends: SmallVec::new(),
            db: 0,
            databases: 0,
            proto: Default::default(),
            now_ms: 0,
            no_touch: false,
            by: (self.shard, NO_SESSION),
            ticket: None,
            classes: 0,
            watcher: None,
            scripted: None,
        });
        let participants = Participant::all(everything_of(self.shards));
        self.start(NO_SESSION, request, participants, Kind::Cut(cut), post);
    }

    /// Gives up what clients have asked for and what is not held yet: those who asked, and what.
    pub fn refuse_waiting(&mut self) -> Vec<Answer> {
        let mut refused = Vec::new();
        for work in self.pending.values_mut() {
            if work.session == MASTER || !matches!(work.kind, Kind::Command | Kind::Exec) {
                continue;
            }
            // What may be done already is given up once it turns out that it is not.
            work.gives_up |= matches!(work.step, Step::RunThere { .. });
            let waits = matches!(
                work.step,
                Step::HoldAll | Step::HoldHere { .. } | Step::HoldNext(_)
            );
            if !waits || work.is_refused {
                continue;
            }
            work.is_refused = true;
            refused.push(Answer::new(
                work.session,
                work.request.clone(),
                Done::Refused,
            ));
        }
        refused
    }

    fn new_tx(&mut self) -> TxId {
        self.next += 1;
        (self.shard as u64) << TX_COUNT_BITS | self.next
    }

    /// Names up to this count stand in segments that are gone on with: none is given again.
    pub fn pass_transactions(&mut self, count: u64) {
        self.next = self.next.max(count);
    }

    /// What is to be told now.
    pub fn take_told(&mut self) -> Option<Told> {
        let is_something = !self.told.is_empty();
        is_something.then(|| std::mem::take(&mut self.told))
    }
}
