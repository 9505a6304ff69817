//! The vocabulary of cores: what one asks another, and what it answers.
//!
//! ```text
//! one shard's work        Hop ->                      <- Done (the same box, replies filled in)
//! multi-shard work        Hold ->                     <- Held {granted with parts | conflict}
//!                         Finish {what to apply} ->   <- Finished {parts}
//! ```
//! `Finish` releases the hold unless it says otherwise. A `Finish` that applies nothing is not
//! answered.

use std::sync::Arc;

use smallvec::SmallVec;

use super::holds::{Holder, TxId};
use super::seen::{Seen, Sight};
use super::snapshot::Style;
use super::waiting::Ticket;
use super::watching::Watcher;
use crate::command::{Change, Client, Command, CommandId, Part, Run, Wanted};
use crate::journal::Mark;
use crate::keyspace::told::Told;
use crate::keyspace::tracking::Reader;
use crate::keyspace::{Audience, Event, Foreseen, Taken};
use crate::resp::{ArgBuf, Args, Output, Proto};

/// Names a session on its own core: a connection's index and generation, opaque to others.
pub type SessionKey = u64;

/// The session that carries out what the master of this server has done; no connection has this
/// place. What it asks for is never refused, and finds keys that are due: see
/// [`Due`](crate::keyspace::Due).
pub const MASTER: SessionKey = 1;

/// Consecutive commands of one session for one home. It travels there, is filled with replies, and
/// travels back: its allocations serve the session's next hop.
#[derive(Debug, Default)]
pub struct Hop {
    pub session: SessionKey,
    /// Shard to which the replies go.
    pub origin: usize,
    pub db: u32,
    pub proto: Proto,
    /// CLIENT NO-TOUCH: reads leave the access clock alone.
    pub no_touch: bool,
    pub args: ArgBuf,
    pub calls: SmallVec<[HopCall; 4]>,
    /// The first call that has not run yet.
    pub next: usize,
    pub out: Output,
    /// Each call that has run.
    pub ran: SmallVec<[Ran; 4]>,
    /// How far its home was when it had run.
    pub sight: Sight,
    /// Its place among the hops of a pipeline that visits all its homes at once.
    pub part: usize,
}

/// What a hop tells of a call.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// Where its reply ends.
    pub end: (usize, usize),
    /// Nanoseconds, for the origin's slow log.
    pub spent_ns: u64,
}

impl Hop {
    /// Adds a command.
    pub fn push(&mut self, call: HopCall, args: &Args) {
        let from = self.args.len() as u32;
        (0..args.len()).for_each(|at| self.args.push_arg(args, at));
        let to = self.args.len() as u32;
        self.calls.push(HopCall { from, to, ..call });
    }

    /// Forgets what it carried; its allocations serve the next.
    pub fn clear(&mut self) {
        self.next = self.calls.len();
        self.forget_ran();
    }

    /// Whether it came back before all its calls had run.
    pub fn is_unfinished(&self) -> bool {
        self.next < self.calls.len()
    }

    /// The commands that are left then.
    pub fn left(&self) -> impl Iterator<Item = (CommandId, ArgBuf)> {
        let args = self.args.as_args();
        let words = move |call: &HopCall| args.range(call.from as usize, call.to as usize).to_buf();
        let left = &self.calls[self.next..];
        left.iter().map(move |call| (call.id, words(call)))
    }

    /// Forgets the calls that have run and their replies: those that are left go on from here.
    pub fn forget_ran(&mut self) {
        self.out.clear();
        self.ran.clear();
        if self.is_unfinished() {
            self.calls.drain(..self.next);
        } else {
            self.calls.clear();
            self.args.clear();
        }
        self.next = 0;
    }

    /// Bytes allocated.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Hop>() + self.args.memory_bytes() + self.out.bytes.capacity()
    }

    /// What is known of its calls before they run, from one on.
    pub fn foreseen(&self, from: usize) -> impl Iterator<Item = Foreseen<'_>> {
        let args = self.args.as_args();
        let calls = self.calls[from..].iter();
        calls
            .filter(|call| call.to - call.from > 1)
            .map(move |call| {
                let arg = |at: u32| match call.from + at < call.to {
                    true => args.get((call.from + at) as usize),
                    false => b"",
                };
                Foreseen::new(self.db, [arg(1), arg(2), arg(3)])
            })
    }
}

/// One command of a hop: arguments `from..to` of the hop's.
#[derive(Clone, Copy)]
pub struct HopCall {
    pub command: &'static Command,
    pub id: CommandId,
    pub from: u32,
    pub to: u32,
    /// The client keeps copies of the keys that it reads: CLIENT TRACKING.
    pub tracks: bool,
}

impl std::fmt::Debug for HopCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}..{}]", self.command.name, self.from, self.to)
    }
}

/// A command that several shards work on, shared by all its messages.
#[derive(Debug)]
pub struct Request {
    pub call: HopCall,
    pub args: ArgBuf,
    /// Where the arguments of each end, if it is several of one command.
    pub ends: SmallVec<[u32; 4]>,
    pub db: u32,
    pub databases: u32,
    pub proto: Proto,
    pub now_ms: i64,
    pub no_touch: bool,
    /// Whose command it is.
    pub by: Reader,
    /// The wait that begins if nothing can be served.
    pub ticket: Option<Ticket>,
    /// Events of keys that somebody wanted to know of when it began.
    pub classes: u32,
    /// Of an EXEC: whose watched keys have to be as they were.
    pub watcher: Option<Watcher>,
    /// A script asked for it.
    pub scripted: Option<Scripted>,
}

impl Request {
    /// A client's, which neither waits nor watches; `classes` as in [`Request::classes`].
    pub fn new(
        call: HopCall,
        args: ArgBuf,
        client: &Client,
        by: Reader,
        now_ms: i64,
        classes: u32,
    ) -> Request {
        Request {
            call,
            args,
            ends: SmallVec::new(),
            db: client.db,
            databases: client.databases,
            proto: client.proto,
            now_ms,
            no_touch: client.no_touch,
            by,
            ticket: None,
            classes,
            watcher: None,
            scripted: None,
        }
    }

    /// Where the arguments end of each command that it is: usually one.
    pub fn ends(&self) -> impl Iterator<Item = u32> {
        let whole = self.ends.is_empty().then_some(self.args.len() as u32);
        self.ends.iter().copied().chain(whole)
    }

    /// What it does while it holds keys.
    pub fn holder(&self) -> Holder {
        match self.call.command.run {
            Run::Script(_) | Run::Transaction(_) => Holder::Conversing,
            _ => Holder::Brief,
        }
    }

    /// The arguments of each of them.
    pub fn commands(&self) -> impl Iterator<Item = Args<'_>> {
        let all = self.args.as_args();
        let mut begin = 0;
        self.ends().map(move |end| {
            let from = std::mem::replace(&mut begin, end as usize);
            all.range(from, end as usize)
        })
    }
}

/// On what terms a command runs that a script asked for.
#[derive(Clone, Copy, Debug)]
pub struct Scripted {
    /// The script's time, which stands still: unix milliseconds.
    pub now_ms: i64,
    /// Who is to repeat what it changes.
    pub audience: Audience,
}

/// EVAL or FCALL of a client of another core, with what of its client the script knows.
#[derive(Debug)]
pub struct Visit {
    /// Shard to which the reply goes.
    pub origin: usize,
    pub session: SessionKey,
    pub call: HopCall,
    /// All arguments; on the way back, those of a script that was slow.
    pub words: ArgBuf,
    pub client_id: u64,
    pub db: u32,
    pub databases: u32,
    pub proto: Proto,
    pub no_touch: bool,
    pub out: Output,
    /// Time spent running it, nanoseconds.
    pub spent_ns: u64,
    /// What it has seen of the shards' work.
    pub seen: Seen,
}

/// The argument indices of the keys that live on one shard.
pub type KeyIndices = SmallVec<[u32; 8]>;

/// What a hold covers on the shard that gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldOn {
    Keys(KeyIndices),
    Everything,
    /// Everything is held, and the command's keys that live on the shard are these.
    EverythingWith(KeyIndices),
}

#[derive(Debug)]
pub struct Hold {
    pub tx: TxId,
    pub origin: usize,
    pub request: Arc<Request>,
    pub on: HoldOn,
    pub manner: Manner,
}

/// What a home does when it is asked for a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Grants it, or refuses it if another is in its way.
    Try,
    /// Grants it as soon as nothing is in its way.
    Wait,
    /// Runs its part at once without holding anything, or refuses if a hold is in its way.
    Run,
}

/// Commands of a transaction.
#[derive(Debug)]
pub struct Calls {
    pub calls: Vec<HopCall>,
    pub db: u32,
    /// Of the replies: that of the request, unless a HELLO among the commands changed it.
    pub proto: Proto,
    /// Replies that take more are of no use.
    pub max_bytes: usize,
}

/// A step, with its place among all steps of its command.
pub type Placed<T> = (u32, T);

/// What to do on a shard under a hold that was granted.
#[derive(Debug)]
pub enum Apply {
    /// Nothing: just release.
    Nothing,
    /// Run the command's per-key or per-shard function, if it writes.
    Run,
    /// Carry out these decided changes.
    Changes(Vec<Placed<Change>>),
    /// First half of a move between homes: hand out the value of the key at an argument.
    Take { db: u32, key: usize, event: Event },
    /// Read what the command decides on; a transaction holds its keys.
    Peek(HoldOn),
    /// Read what the first reading led to.
    Read(Vec<Placed<Wanted>>),
    /// Run these commands of the request's arguments.
    Calls(Calls),
    /// Nothing can be served: the client waits for its keys here.
    Wait,
    /// Nothing can be served yet: the client goes on waiting, those behind it may be served.
    Tried,
    /// Begin a cut: everything is held on every shard.
    Cut(Cut),
    /// Every home has applied its part: write it to the journal.
    Settle(Settle),
    /// Second half: store it.
    Arrive {
        db: u32,
        key: usize,
        value: Box<Taken>,
        event: Event,
    },
}

/// A cut of all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Tells the chunks of this cut from those of one that was given up.
    pub id: u32,
    pub style: Style,
    /// The journal goes on in a new segment.
    pub begins_segment: bool,
    /// Replicas are told of everything from here on; a feed that begins has this name.
    pub feeds: Option<u32>,
}

/// How a transaction over several shards stands in their journals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    pub mark: Mark,
    /// It concerns whole databases: everything before it comes before everything behind it.
    pub is_barrier: bool,
}

#[derive(Debug)]
pub struct Finish {
    pub tx: TxId,
    pub origin: usize,
    pub request: Arc<Request>,
    pub keys: KeyIndices,
    pub apply: Apply,
    pub release: bool,
    /// The transaction under which what is applied is put aside until it is settled.
    pub settles_under: Option<TxId>,
}

/// Everything the shards of one process say to each other about keys.
#[derive(Debug)]
pub enum Message {
    Hop(Box<Hop>),
    Done(Box<Hop>),
    Hold(Box<Hold>),
    /// `None`: there was a conflict and nothing is held.
    Held {
        tx: TxId,
        from: usize,
        part: Option<Part>,
        /// What reading has to tell of.
        told: Option<Box<Told>>,
        /// How far the shard has come in its records.
        unit: u64,
    },
    Finish(Box<Finish>),
    /// A session watches keys.
    Watch {
        watcher: Watcher,
        db: u32,
        keys: Vec<Box<[u8]>>,
    },
    /// They are noted.
    Watched {
        session: SessionKey,
    },
    /// A session watches nothing any more.
    Unwatch {
        watcher: Watcher,
    },
    /// A script has read for its client, which may keep what keys hold that it was called with.
    Read {
        reader: Reader,
        keys: Vec<Box<[u8]>>,
    },
    /// A waiting client was served here: its reply.
    Served {
        session: SessionKey,
        wait: u64,
        out: Box<Output>,
        /// What serving it took, for the origin's slow log.
        spent_ns: u64,
        sight: Sight,
    },
    /// A waiting client can perhaps be served, together with other homes; its claim is taken.
    Ready {
        session: SessionKey,
        wait: u64,
    },
    /// A script takes long: what waits for it is answered.
    Busy,
    /// A script travels to where its keys are, and back with its reply.
    Visit(Box<Visit>),
    Visited(Box<Visit>),
    /// The request's client no longer waits.
    Forget(Arc<Request>),
    Finished {
        tx: TxId,
        from: usize,
        part: Part,
        /// What it has to tell of. If there is something, the hold stays until that is told.
        told: Option<Box<Told>>,
        /// How far the shard has come in its records.
        unit: u64,
    },
}

const _: () = assert!(
    size_of::<Message>() <= 128,
    "messages move by value through mailboxes"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_may_cross_threads() {
        fn is_send<T: Send>() {}
        is_send::<Message>();
    }
}
