//! The border between the runtime and what it drives.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use super::driver::Delivery;
use super::files::{FileDone, FileOp, FileRequest};
use super::listen::{Doors, ListenError, Listening};
use crate::resp::Output;

/// A connection on its shard: an index that is small and reused, and a generation that tells reuses
/// apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    pub index: u32,
    pub generation: u32,
}

/// The first connections of a shard have this index; the names before it are the app's.
pub(super) const NOBODYS: u32 = 2;

impl ConnId {
    /// Both halves in one word, index low.
    pub fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub fn unpack(word: u64) -> ConnId {
        ConnId {
            index: word as u32,
            generation: (word >> 32) as u32,
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp { peer: SocketAddr, local: SocketAddr },
    Unix(PathBuf),
}

/// What is known of a connection when it arrives.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// Unique and rising over all shards.
    pub client_id: u64,
    pub peer: Peer,
    pub fd: i32,
}

/// The clocks, read once a turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Wall clock, unix microseconds.
    pub unix_us: i64,
    /// Monotonic clock, nanoseconds.
    pub mono_ns: u64,
}

impl Now {
    pub fn unix_ms(&self) -> i64 {
        self.unix_us.div_euclid(1000)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The peer closed or reset the connection.
    Peer,
    /// The app asked for it.
    App,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Interrupt,
}

/// When the app wants its next turn, if nothing arrives before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextTurn {
    /// Not before something arrives.
    Idle,
    /// At this monotonic time, nanoseconds.
    At(u64),
    /// At once: there is more work.
    Again,
}

impl NextTurn {
    /// Whether the app has something to do of its own.
    pub(super) fn is_due(self, now_ns: u64) -> bool {
        match self {
            NextTurn::Idle => false,
            NextTurn::At(at_ns) => at_ns <= now_ns,
            NextTurn::Again => true,
        }
    }
}

/// What a core knows of the mail that it will get from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    Nothing,
    /// Some comes in a moment; clients can be served meanwhile.
    Soon,
    /// Nothing can go on before it comes.
    First,
}

/// What one core runs. All methods are called on that core's thread, one at a time.
pub trait App: Sized {
    type Message: Send + 'static;

    /// On the accepting shard: whether to take a connection. `connections` counts all shards.
    /// The error is written to the peer before its connection is closed.
    fn admit(&mut self, info: &ConnInfo, connections: usize) -> Result<(), Vec<u8>>;
    fn opened(&mut self, conn: ConnId, info: ConnInfo, io: &mut Io<Self::Message>);
    /// What [`App::received`] is about to bring, so that the app can fetch what it will look at.
    fn foresee<'b>(&self, _arrivals: impl Iterator<Item = (ConnId, &'b [u8])>) {}
    /// What [`Io::dial`] asked for came about, or did not. Bytes arrive as for any connection.
    fn dialed(
        &mut self,
        _tag: u64,
        _result: io::Result<(ConnId, ConnInfo)>,
        _io: &mut Io<Self::Message>,
    ) {
    }
    /// Bytes arrived; the app consumes all of them.
    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut Io<Self::Message>);
    fn closed(&mut self, conn: ConnId, reason: CloseReason, io: &mut Io<Self::Message>);
    /// Everything written so far was sent; only after [`Io::notify_drained`].
    fn drained(&mut self, conn: ConnId, io: &mut Io<Self::Message>);
    /// Whether a connection has no work in progress: its peer will send nothing more, and without
    /// work to answer it can be closed.
    fn is_idle(&self, conn: ConnId) -> bool;
    /// Whether a connection waits, perhaps for ever, for what others do: once its peer has hung up
    /// nobody wants what comes of it, nor of what the peer has sent behind.
    fn waits(&self, conn: ConnId) -> bool;
    /// Messages of another core, or of this one. What is left of them is for the next turn.
    fn delivered(
        &mut self,
        from: usize,
        messages: Delivery<'_, Self::Message>,
        io: &mut Io<Self::Message>,
    );
    /// An operation on a file is over.
    fn file_done(&mut self, done: FileDone, io: &mut Io<Self::Message>);
    /// Shard 0 only.
    fn signalled(&mut self, signal: Signal, io: &mut Io<Self::Message>);
    /// The end of a turn: background work, timers. Returns whether there is more of it.
    fn turn(&mut self, io: &mut Io<Self::Message>) -> bool;
    /// The last word of a turn, when all its work is done and nothing of it has been sent.
    fn commit(&mut self, io: &mut Io<Self::Message>);
    /// Whether a message of a turn that waits for nothing may pass those that are held: it must not
    /// matter to anybody in which order they arrive.
    fn passes(_message: &Self::Message) -> bool {
        false
    }
    /// What is known of other cores' mail.
    fn awaits_mail(&self) -> Awaited {
        Awaited::Nothing
    }
    /// When to come again, after everything of this turn was delivered.
    fn next_turn(&self, io: &Io<Self::Message>) -> NextTurn;
}

/// A connection to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dial {
    /// What [`App::dialed`] will name it by.
    pub tag: u64,
    pub to: SocketAddr,
    /// The address of this machine to come from.
    pub from: Option<IpAddr>,
    /// Small pieces leave at once.
    pub no_delay: bool,
}

/// What an app asked of a connection, carried out at the end of the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    PauseRecv,
    ResumeRecv,
    Close,
    CloseAfterFlush,
    NotifyDrained,
}

/// One connection's output as the app sees it.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pub generation: u32,
    /// Written by the app, not handed to the kernel yet.
    pub output: Output,
    /// Bytes of it that the kernel is still sending.
    pub in_flight_bytes: usize,
    /// Already in `Io::dirty`.
    pub dirty: bool,
    /// The release that some of it waits for.
    pub gate: u64,
    /// How far it goes that waits for one release, by what it waits for, in order; behind the last is what
    /// this turn adds. Empty if nothing has waited at the end of a turn.
    pub held: Vec<(u64, (usize, usize))>,
    /// What was written in this turn waits for nothing.
    pub urgent: bool,
    /// More is to come soon that may leave with it.
    pub corked: bool,
}

impl Outgoing {
    /// Whether something was written since the end of the last turn in which some was held.
    pub fn has_new(&self) -> bool {
        let last = self.held.last();
        last.is_none_or(|(_, end)| *end != self.output.mark())
    }

    /// Notes that what is new waits for its release.
    pub fn hold(&mut self) {
        self.held.push((self.gate, self.output.mark()));
    }

    /// Takes out what waits for nothing that is later than `released`.
    pub fn take_released(&mut self, released: u64) -> Option<Output> {
        let is_released = |(gate, _): &(u64, _)| *gate <= released;
        let count = self
            .held
            .iter()
            .take_while(|held| is_released(held))
            .count();
        let (_, end) = self.held.drain(..count).next_back()?;
        for (_, (bytes, chunks)) in &mut self.held {
            *bytes -= end.0;
            *chunks -= end.1;
        }
        Some(self.output.take_front(end))
    }
}

/// An app's way out: replies, messages, requests. Plain data until the end of the turn.
pub struct Io<M> {
    pub(super) now: Now,
    pub(super) shard: usize,
    pub(super) outgoing: Vec<Outgoing>,
    /// Indices of connections that were written to in this turn.
    pub(super) dirty: Vec<u32>,
    pub(super) requests: Vec<(ConnId, Request)>,
    /// Messages per destination.
    pub(super) mail: Vec<Vec<M>>,
    /// Messages that go before them.
    ahead: Vec<Vec<M>>,
    has_ahead: bool,
    pub(super) stop: Option<i32>,
    /// What this turn's replies and mail wait for, and what has been released: numbers that only
    /// grow and mean something to the app alone.
    pub(super) gate: u64,
    pub(super) released: u64,
    pub(super) files: Vec<FileRequest>,
    pub(super) dials: Vec<Dial>,
    /// Those that are of no use any more.
    pub(super) hang_ups: Vec<u64>,
    pub(super) connections: usize,
    pub(super) doors: Doors,
    /// There are listeners whose first accept is to be armed.
    pub(super) relistened: bool,
    /// Sends that the kernel completed, and their bytes, since they were last taken.
    traffic: (u64, u64),
    /// Empty reply buffers; a connection holds one only while it has something to send.
    spare: Vec<Vec<u8>>,
    /// Where writes to connections that are gone end up.
    void: Output,
}

/// Reply buffers kept for the next turn: what a busy turn of some hundred connections needs.
const SPARE_BUFFERS_MAX: usize = 256;
/// A buffer that a burst made larger is given back to the allocator.
const SPARE_BYTES_MAX: usize = 16 * 1024;

impl<M> Io<M> {
    pub(super) fn new(shard: usize, shards: usize, doors: Doors) -> Io<M> {
        Io {
            now: Now::default(),
            shard,
            outgoing: (0..NOBODYS)
                .map(|_| Outgoing {
                    generation: u32::MAX,
                    ..Outgoing::default()
                })
                .collect(),
            dirty: Vec::new(),
            requests: Vec::new(),
            mail: (0..shards).map(|_| Vec::new()).collect(),
            ahead: (0..shards).map(|_| Vec::new()).collect(),
            has_ahead: false,
            stop: None,
            gate: 0,
            released: 0,
            files: Vec::new(),
            dials: Vec::new(),
            hang_ups: Vec::new(),
            connections: 0,
            doors,
            relistened: false,
            traffic: (0, 0),
            spare: Vec::new(),
            void: Output::default(),
        }
    }

    /// Reads the clocks again, where much time has passed within the turn.
    pub fn look_at_clock(&mut self) {
        self.now = super::clock::now();
    }

    /// The clocks at the beginning of this turn.
    pub fn now(&self) -> Now {
        self.now
    }

    pub fn shard(&self) -> usize {
        self.shard
    }

    pub fn shards(&self) -> usize {
        self.mail.len()
    }

    /// Open connections of all shards, as of this turn.
    pub fn connections(&self) -> usize {
        self.connections
    }

    fn live(&self, conn: ConnId) -> Option<&Outgoing> {
        let outgoing = self.outgoing.get(conn.index as usize)?;
        (outgoing.generation == conn.generation).then_some(outgoing)
    }

    /// Where to append replies; they leave at the end of the turn, in one send.
    pub fn out(&mut self, conn: ConnId) -> &mut Output {
        match self.outgoing.get_mut(conn.index as usize) {
            Some(outgoing) if outgoing.generation == conn.generation => {
                outgoing.urgent = false;
                if !outgoing.dirty {
                    outgoing.dirty = true;
                    self.dirty.push(conn.index);
                }
                if outgoing.output.bytes.capacity() == 0
                    && let Some(buffer) = self.spare.pop()
                {
                    outgoing.output.bytes = buffer;
                }
                &mut outgoing.output
            }
            _ => {
                self.void.clear();
                &mut self.void
            }
        }
    }

    /// What was just written for a connection tells of no change: it need not be held with the rest
    /// of the turn, if it is all there is.
    pub fn hasten(&mut self, conn: ConnId) {
        if let Some(outgoing) = self.outgoing.get_mut(conn.index as usize)
            && outgoing.generation == conn.generation
        {
            outgoing.urgent = true;
        }
    }

    /// Whether what is written for a connection waits for what follows, as far as there is little of
    /// it: a send costs more than what it carries.
    pub fn cork(&mut self, conn: ConnId, corked: bool) {
        let Some(outgoing) = self.outgoing.get_mut(conn.index as usize) else {
            return;
        };
        if outgoing.generation != conn.generation || outgoing.corked == corked {
            return;
        }
        outgoing.corked = corked;
        if !corked && !outgoing.output.is_empty() && !outgoing.dirty {
            outgoing.dirty = true;
            self.dirty.push(conn.index);
        }
    }

    /// Keeps a sent buffer for whoever writes next.
    pub(super) fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        let fits = (1..=SPARE_BYTES_MAX).contains(&buffer.capacity());
        if fits && self.spare.len() < SPARE_BUFFERS_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Changes where connections are taken. On the accepting shard, which is shard 0.
    pub fn relisten(&mut self, listening: &Listening) -> Result<(), ListenError> {
        self.doors.relisten(listening)?;
        self.relistened = true;
        Ok(())
    }

    /// Seconds after which a silent peer of a new connection is probed; 0 is never.
    pub fn set_keepalive(&mut self, keepalive_s: u64) {
        self.doors.keepalive_s = keepalive_s;
    }

    pub(super) fn count_sent(&mut self, bytes: u64) {
        self.traffic.0 += 1;
        self.traffic.1 += bytes;
    }

    /// Sends that the kernel completed since the last call, and their bytes.
    pub fn take_traffic(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.traffic)
    }

    /// Bytes written for a connection that the kernel has not taken yet.
    pub fn pending_bytes(&self, conn: ConnId) -> usize {
        self.live(conn).map_or(0, |outgoing| {
            outgoing.output.len() + outgoing.in_flight_bytes
        })
    }

    /// Asks for [`App::drained`] once everything written so far is sent.
    pub fn notify_drained(&mut self, conn: ConnId) {
        self.requests.push((conn, Request::NotifyDrained));
    }

    /// Stops reading from the connection's socket, so that its sender has to wait.
    pub fn pause_recv(&mut self, conn: ConnId) {
        self.requests.push((conn, Request::PauseRecv));
    }

    pub fn resume_recv(&mut self, conn: ConnId) {
        self.requests.push((conn, Request::ResumeRecv));
    }

    /// Closes at the end of this turn; what was not sent is lost.
    pub fn close(&mut self, conn: ConnId) {
        self.requests.push((conn, Request::Close));
    }

    /// Closes once everything written is sent.
    pub fn close_after_flush(&mut self, conn: ConnId) {
        self.cork(conn, false);
        self.requests.push((conn, Request::CloseAfterFlush));
    }

    /// Sends a message to a shard. One to this shard arrives in its next turn, which follows at
    /// once.
    pub fn post(&mut self, to: usize, message: M) {
        self.mail[to].push(message);
    }

    /// Sends another shard a message that arrives before those that were posted in this turn: it
    /// tells of what happened before they can have any effect. Such messages keep their own order.
    pub fn post_ahead(&mut self, to: usize, message: M) {
        if to == self.shard {
            self.post(to, message);
        } else {
            self.ahead[to].push(message);
            self.has_ahead = true;
        }
    }

    /// Puts this turn's mail in order. Once, when all of it is there.
    pub(super) fn sort_mail(&mut self) {
        if !std::mem::take(&mut self.has_ahead) {
            return;
        }
        for (ahead, mail) in self.ahead.iter_mut().zip(&mut self.mail) {
            if !ahead.is_empty() {
                ahead.append(mail);
                std::mem::swap(ahead, mail);
            }
        }
    }

    /// Connects to another server; [`App::dialed`] follows, unless [`Io::hang_up`] comes before. On
    /// the accepting shard, which is shard 0.
    pub fn dial(&mut self, dial: Dial) {
        self.dials.push(dial);
    }

    /// Gives up what was dialed under this tag.
    pub fn hang_up(&mut self, tag: u64) {
        self.hang_ups.push(tag);
    }

    /// Asks for an operation on a file; [`App::file_done`] follows with this tag. Operations on one
    /// file may overtake each other.
    pub fn file(&mut self, file: &Arc<File>, tag: u64, op: FileOp) {
        self.files.push(FileRequest {
            file: file.clone(),
            tag,
            op,
        });
    }

    /// Keeps everything that this turn sends until [`Io::release`] reaches `gate`. Only from
    /// [`App::commit`].
    pub fn hold(&mut self, gate: u64) {
        self.gate = gate;
    }

    /// Lets go what is held for gates up to this one.
    pub fn release(&mut self, gate: u64) {
        self.released = self.released.max(gate);
    }

    /// Ends the process with this exit code once this turn's output is on its way.
    pub fn stop(&mut self, exit_code: i32) {
        self.stop = Some(exit_code);
    }
}
