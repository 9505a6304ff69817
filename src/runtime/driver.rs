//! One core's turn: mail and completions in, app, everything it asked for out, one `io_uring_enter`.
//!
//! ```text
//! mail -> completions -> app.turn -> mail to myself -> requests -> sends -> mail out -> enter
//! ```
//! What has come is a round. It takes one turn, or more if it is much work. While the app has nothing
//! to do at once, the thread sleeps in the ring until a completion, a doorbell from another core, or
//! the app's next deadline.

mod arriving;
mod round;
mod sockets;

pub use round::Delivery;

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use round::Round;

use super::app::{App, Awaited, ConnId, Io, NOBODYS, NextTurn, Signal};
use super::clock;
use super::conn::Conn;
use super::dial::Lines;
use super::files::Files;
use super::gathering::{Gather, Gathering};
use super::leftovers::{self, Leftovers};
use super::listen::Doors;
use super::mailbox::{Collected, Mail, Mailboxes, Shared};
use super::ring::{Completion, Op, Ring, Token};
use super::scheduling::{Scheduling, Turns};

/// Turns whose mail found a mailbox full, beyond which this core reads from no socket: what it
/// reads makes more mail. With the receive buffers this bounds how far a core runs ahead.
const UNSENT_MAIL_MAX: usize = 16;

/// How long a core that waits for another stays awake, nanoseconds: less than it takes to wake one.
const AWAKE_NS: u64 = 20_000;
/// Rounds without two requests at once after which a core is taken to have few clients that ask.
const CALM_ROUNDS: u32 = 32;
/// Replies of a corked connection beyond which they leave all the same.
const CORKED_MAX_BYTES: usize = 16 * 1024;

/// A connection's place; its generation tells later connections in the same place apart.
struct Slot {
    generation: u32,
    conn: Option<Box<Conn>>,
}

/// The connection a completion belongs to, if it is still that one.
fn find(slots: &mut [Slot], token: Token) -> Option<(ConnId, &mut Conn)> {
    let slot = slots.get_mut(token.index as usize)?;
    if !token.is_generation(slot.generation) {
        return None;
    }
    let id = ConnId {
        index: token.index,
        generation: slot.generation,
    };
    slot.conn.as_deref_mut().map(|conn| (id, conn))
}

pub(super) struct Driver<A: App> {
    app: A,
    io: Io<A::Message>,
    ring: Ring,
    shared: Arc<Shared>,
    mailboxes: Mailboxes<A::Message>,
    /// Connections with replies that are held, and mail that is, in the order of their gates.
    held_replies: VecDeque<(u64, u32)>,
    held_mail: VecDeque<(u64, usize, Vec<A::Message>)>,
    round: Round<A::Message>,
    /// Emptied, for the mail of the next round.
    collected: Collected<A::Message>,
    /// What turns had to send and found a box full.
    unsent_mail: VecDeque<Vec<(usize, Mail<A::Message>)>>,
    /// Connections for other cores, accepted in this turn.
    adopted: Vec<(usize, Mail<A::Message>)>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Connections whose peer sends no more and that may still get replies.
    half_closed: Vec<ConnId>,
    /// Rounds since two requests came at once.
    calm_rounds: u32,
    /// Receives put off while mail is clogged, in order. Their buffers are not given back, so the
    /// kernel soon runs out of them and the senders' windows close.
    held_receives: VecDeque<Completion>,
    accepts_again_ns: Option<u64>,
    next_client_id: u64,
    signals: Option<Signals>,
    files: Files,
    lines: Lines,
    /// Cores share a processor: who waits awake keeps another from working.
    is_crowded: bool,
    turns: Turns,
    gathering: Gathering,
    leftovers: Leftovers,
}

/// What shard 0 has beside the others, and what is said to all of them.
#[derive(Default)]
pub(super) struct FrontDoor {
    pub doors: Doors,
    pub signals: Option<Signals>,
    /// There are more shards than processors.
    pub is_crowded: bool,
    pub scheduling: Scheduling,
    pub gather: Gather,
    /// How long requests may gather while a shard is busy.
    pub gather_longest: Duration,
}

/// How signals reach shard 0: each puts a byte into a pipe.
pub(super) struct Signals {
    pub pipe: OwnedFd,
    /// One of them was SIGINT.
    pub interrupted: Arc<AtomicBool>,
    /// One has come that this core has not seen yet: another SIGINT ends the process at once.
    pub unseen: Arc<AtomicBool>,
    /// What the ring reads from the pipe.
    pub byte: Box<[u8; 1]>,
}

impl<A: App> Driver<A> {
    pub fn new(
        app: A,
        shard: usize,
        shared: Arc<Shared>,
        mailboxes: Mailboxes<A::Message>,
        front: FrontDoor,
    ) -> std::io::Result<Driver<A>> {
        let ring = Ring::new()?;
        let shards = shared.doors.len();
        shared.doors[shard]
            .ring_fd
            .store(ring.fd(), Ordering::Release);
        Ok(Driver {
            app,
            io: Io::new(shard, shards, front.doors),
            ring,
            shared,
            mailboxes,
            held_replies: VecDeque::new(),
            held_mail: VecDeque::new(),
            round: Round::default(),
            collected: Vec::new(),
            unsent_mail: VecDeque::new(),
            adopted: Vec::new(),
            // The first places are nobody's: the app may use their names for work of its own.
            slots: (0..NOBODYS)
                .map(|_| Slot {
                    generation: 0,
                    conn: None,
                })
                .collect(),
            free: Vec::new(),
            half_closed: Vec::new(),
            calm_rounds: 0,
            held_receives: VecDeque::new(),
            accepts_again_ns: None,
            next_client_id: 0,
            signals: front.signals,
            files: Files::default(),
            lines: Lines::default(),
            is_crowded: front.is_crowded,
            turns: Turns::new(front.scheduling, clock::mono_ns()),
            gathering: Gathering::new(front.gather, front.gather_longest, clock::mono_ns()),
            leftovers: Leftovers::default(),
        })
    }

    /// Runs until somebody stops the process. Returns the exit code.
    pub fn run(mut self) -> std::io::Result<i32> {
        self.arm_accepts();
        self.arm_signals();
        let mut next = NextTurn::Again;
        loop {
            self.wait(next)?;
            self.io.now = clock::now();
            if next.is_due(self.io.now.mono_ns) {
                self.note_work();
            }
            self.turns.mind(self.io.now.mono_ns);
            self.io.connections = self.shared.connections();
            if self.round.is_over() {
                self.begin_round();
            }
            self.go_on();
            let more = self.app.turn(&mut self.io);
            // What follows from their end belongs to this turn: the next may be far away.
            self.finish_half_closed();
            self.deliver_to_self();
            self.app.commit(&mut self.io);
            next = if more {
                NextTurn::Again
            } else {
                self.app.next_turn(&self.io)
            };
            if std::mem::take(&mut self.io.relistened) {
                self.arm_accepts();
            }
            self.flush();
            if let Some(exit_code) = self.io.stop.take() {
                self.shared.exit_code.store(exit_code, Ordering::SeqCst);
                self.shared.stopping.store(true, Ordering::SeqCst);
                self.ring_everyone();
            }
            if self.shared.stopping.load(Ordering::SeqCst) {
                self.io.doors.close();
                // One more visit to the kernel: replies written in this turn leave.
                self.ring.enter(Some(Duration::ZERO))?;
                return Ok(self.shared.exit_code.load(Ordering::SeqCst));
            }
        }
    }

    /// Submits what was asked for, and waits for something to come if all that has come is done.
    fn wait(&mut self, next: NextTurn) -> std::io::Result<()> {
        if !self.round.is_over() {
            return self.ring.enter(Some(Duration::ZERO));
        }
        if self.gets_work_awake(next)? {
            return Ok(());
        }
        let timeout = self.sleep_for(next);
        match self.gathering.wait(timeout) {
            Some((arrivals, longest)) => self.ring.gather(arrivals, longest)?,
            None => self.ring.enter(timeout)?,
        }
        self.mailboxes.awake();
        Ok(())
    }

    /// Stays awake for other cores' mail that is known to come: two cores that talk to each other
    /// need some 2 us a message if neither sleeps, and 25 us if both do. Returns whether there is
    /// something to do.
    fn gets_work_awake(&mut self, next: NextTurn) -> std::io::Result<bool> {
        let is_free = next != NextTurn::Again && self.io.requests.is_empty();
        let awaited = self.app.awaits_mail();
        let is_worth = match awaited {
            Awaited::Nothing => false,
            // Where many clients ask there is something to do meanwhile, and they want the CPU, too.
            Awaited::Soon => self.calm_rounds >= CALM_ROUNDS,
            Awaited::First => true,
        };
        if self.is_crowded || !is_free || !is_worth {
            return Ok(false);
        }
        self.ring.enter(Some(Duration::ZERO))?;
        if awaited == Awaited::Soon && self.ring.has_completions() {
            return Ok(true);
        }
        let until_ns = clock::mono_ns() + AWAKE_NS;
        while !self.mailboxes.has_mail() {
            if clock::mono_ns() >= until_ns {
                return Ok(false);
            }
            std::hint::spin_loop();
        }
        Ok(true)
    }

    /// How long to wait for completions; `None`: until one comes.
    fn sleep_for(&mut self, next: NextTurn) -> Option<Duration> {
        if !self.io.requests.is_empty() {
            // Asked for while this turn's requests were carried out.
            return Some(Duration::ZERO);
        }
        let deadline = match next {
            NextTurn::Again => return Some(Duration::ZERO),
            NextTurn::Idle => self.accepts_again_ns,
            NextTurn::At(at_ns) => Some(
                self.accepts_again_ns
                    .map_or(at_ns, |other| other.min(at_ns)),
            ),
        };
        if !self.unsent_mail.is_empty() {
            // The other core is behind; look again soon, without spinning.
            return Some(Duration::from_micros(50));
        }
        if self.mailboxes.prepare_sleep() {
            return Some(Duration::ZERO);
        }
        // The turn may have been long: its own reading of the clock would make the deadline late.
        deadline.map(|at_ns| Duration::from_nanos(at_ns.saturating_sub(clock::mono_ns())))
    }

    fn ring_everyone(&mut self) {
        for shard in 0..self.shared.doors.len() {
            let fd = self.shared.doors[shard].ring_fd.load(Ordering::Acquire);
            if shard != self.io.shard && fd >= 0 {
                self.ring.ring_doorbell(fd);
            }
        }
    }

    fn note_work(&mut self) {
        if self.leftovers.worked() {
            self.ring.wake_after(&leftovers::PERIOD);
        }
    }

    fn file_completed(&mut self, completion: Completion) {
        let Completion { token, result, .. } = completion;
        if let Some(done) = self.files.completed(token, result, &mut self.ring) {
            self.app.file_done(done, &mut self.io);
        }
    }

    /// What the app posted to its own core arrives within the turn.
    fn deliver_to_self(&mut self) {
        let shard = self.io.shard;
        while !self.io.mail[shard].is_empty() {
            let mut messages = std::mem::take(&mut self.io.mail[shard]).into_iter();
            let delivery = Delivery::whole(&mut messages);
            self.app.delivered(shard, delivery, &mut self.io);
        }
    }

    /// Carries out what the app asked for in this turn.
    fn flush(&mut self) {
        self.carry_out_requests();
        let gate = std::mem::take(&mut self.io.gate);
        let dirty = std::mem::take(&mut self.io.dirty);
        for &index in &dirty {
            let outgoing = &mut self.io.outgoing[index as usize];
            let is_new = outgoing.has_new();
            if !std::mem::take(&mut outgoing.urgent) && is_new {
                outgoing.gate = outgoing.gate.max(gate);
            }
            if outgoing.corked && outgoing.output.len() < CORKED_MAX_BYTES {
                outgoing.dirty = false;
            } else if outgoing.gate > self.io.released {
                outgoing.dirty = false;
                if is_new && !outgoing.output.is_empty() {
                    outgoing.hold();
                    self.held_replies.push_back((outgoing.gate, index));
                }
                // A send that was under way may have kept back what has been let go meanwhile.
                self.flush_released(index);
            } else {
                self.flush_conn(index);
            }
        }
        self.io.dirty = dirty;
        self.io.dirty.clear();
        // Not before what was added in this turn has its gate.
        self.let_go();
        for request in self.io.files.drain(..) {
            self.files.start(request, &mut self.ring);
        }
        for tag in self.io.hang_ups.drain(..) {
            self.lines.hang_up(tag, &mut self.ring);
        }
        for dial in self.io.dials.drain(..) {
            self.lines.dial(dial, &mut self.ring);
        }
        self.send_mail(gate);
        let ring = &mut self.ring;
        self.mailboxes.doorbells(|fd: RawFd| ring.ring_doorbell(fd));
    }

    /// Sends replies that were held and need not be any more.
    fn let_go(&mut self) {
        while let Some(&(gate, index)) = self.held_replies.front()
            && gate <= self.io.released
        {
            self.held_replies.pop_front();
            // What was added since may have to wait longer; then it stands further back, too.
            match self.io.outgoing[index as usize].gate <= self.io.released {
                true => self.flush_conn(index),
                false => self.flush_released(index),
            }
        }
    }

    fn send_mail(&mut self, gate: u64) {
        self.io.sort_mail();
        if gate > self.io.released || !self.held_mail.is_empty() {
            let waits = gate > self.io.released;
            let mail = self.io.mail.iter_mut().enumerate();
            for (to, batch) in mail.filter(|(_, batch)| !batch.is_empty()) {
                let may_pass = |message: &mut A::Message| !waits && A::passes(message);
                let passing: Vec<_> = batch.extract_if(.., may_pass).collect();
                let held = std::mem::replace(batch, passing);
                if !held.is_empty() {
                    self.held_mail.push_back((gate, to, held));
                }
            }
            while let Some((gate, _, _)) = self.held_mail.front()
                && *gate <= self.io.released
                && let Some((_, to, batch)) = self.held_mail.pop_front()
            {
                self.io.mail[to].extend(batch);
            }
        }
        let mut turn = std::mem::take(&mut self.adopted);
        for (to, batch) in self.io.mail.iter_mut().enumerate() {
            if !batch.is_empty() {
                turn.push((to, Mail::Messages(std::mem::take(batch))));
            }
        }
        if !turn.is_empty() {
            self.unsent_mail.push_back(turn);
        }
        while let Some(turn) = self.unsent_mail.pop_front() {
            if let Err(refused) = self.mailboxes.send(turn) {
                self.unsent_mail.push_front(refused);
                break;
            }
        }
    }

    fn arm_signals(&mut self) {
        if let Some(Signals { pipe, byte, .. }) = &mut self.signals {
            let token = Token::new(Op::Signal, 0, 0);
            self.ring.read(pipe.as_raw_fd(), &mut byte[..], token);
        }
    }

    fn signalled(&mut self, result: i32) {
        let Some(signals) = &self.signals else {
            return;
        };
        if result <= 0 {
            // The pipe is broken; reading on would spin.
            return;
        }
        let signal = if signals.interrupted.swap(false, Ordering::SeqCst) {
            Signal::Interrupt
        } else {
            Signal::Terminate
        };
        signals.unseen.store(false, Ordering::SeqCst);
        self.app.signalled(signal, &mut self.io);
        self.arm_signals();
    }
}
