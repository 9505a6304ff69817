//! A round: what had come when the one before was over, looked at in as many turns as it takes.
//!
//! Fifty pipelines of heavy commands are milliseconds of work. Cut into turns, their first replies leave
//! meanwhile, and other cores get the work that is for them instead of waiting for all of it.

use std::collections::VecDeque;
use std::vec;

use super::{Driver, UNSENT_MAIL_MAX};
use crate::runtime::app::{App, ConnId};
use crate::runtime::clock;
use crate::runtime::leftovers;
use crate::runtime::mailbox::Mail;
use crate::runtime::ring::{Completion, Op};

/// How long a turn goes on with its round. Light commands end theirs sooner: 50 pipelines of 16 GETs are
/// some 100 us. The end of a turn costs a visit to the kernel, which is little of this.
const TURN_NS: u64 = 500_000;

/// Messages that one core sent another in one turn, as far as there is time for them.
pub struct Delivery<'a, M> {
    messages: &'a mut vec::IntoIter<M>,
    /// When to put off what is left; by the stopwatch.
    until_ns: u64,
    is_first: bool,
}

impl<'a, M> Delivery<'a, M> {
    /// One that is not put off.
    pub(super) fn whole(messages: &'a mut vec::IntoIter<M>) -> Delivery<'a, M> {
        Delivery::until(messages, u64::MAX)
    }

    fn until(messages: &'a mut vec::IntoIter<M>, until_ns: u64) -> Delivery<'a, M> {
        Delivery {
            messages,
            until_ns,
            is_first: true,
        }
    }

    /// What is to come, now or later.
    pub fn as_slice(&self) -> &[M] {
        self.messages.as_slice()
    }
}

impl<M> Iterator for Delivery<'_, M> {
    type Item = M;

    /// The first comes in any case: every turn gets something done.
    fn next(&mut self) -> Option<M> {
        if !std::mem::take(&mut self.is_first) && clock::stopwatch_ns() >= self.until_ns {
            return None;
        }
        self.messages.next()
    }
}

pub(super) struct Round<M> {
    /// Batches with their senders, before everything else.
    mail: VecDeque<(usize, vec::IntoIter<M>)>,
    completions: VecDeque<Completion>,
    /// The app has been shown the completions.
    is_foreseen: bool,
}

impl<M> Default for Round<M> {
    fn default() -> Round<M> {
        Round {
            mail: VecDeque::new(),
            completions: VecDeque::new(),
            is_foreseen: false,
        }
    }
}

impl<M> Round<M> {
    pub fn is_over(&self) -> bool {
        self.mail.is_empty() && self.completions.is_empty()
    }
}

impl<A: App> Driver<A> {
    /// Takes what has come.
    ///
    /// What a client sends may follow from what another core has done: mail is collected when what
    /// clients sent has been taken, and delivered before it.
    pub(super) fn begin_round(&mut self) {
        self.ring.completions(&mut self.round.completions);
        self.round.is_foreseen = false;
        let completions = &self.round.completions;
        let has_work = completions.iter().any(|it| it.token.op != Op::Wake);
        let mut received = completions.iter().filter(|it| it.token.op == Op::Recv);
        self.calm_rounds = match received.nth(1).is_some() {
            true => 0,
            false => self.calm_rounds.saturating_add(1),
        };
        if has_work {
            self.note_work();
        }
        if self.gathering.may_be() {
            self.count_arrivals();
        }
        let mut collected = std::mem::take(&mut self.collected);
        self.mailboxes.collect(&mut collected);
        for (_, from, mail) in collected.drain(..) {
            match mail {
                Mail::Messages(messages) => {
                    self.round.mail.push_back((from, messages.into_iter()));
                }
                Mail::Adopt(fd, info) => self.open(fd, *info),
            }
        }
        self.collected = collected;
    }

    fn count_arrivals(&mut self) {
        let completions = &self.round.completions;
        let sends = completions.iter().filter(|c| c.token.op == Op::Send);
        let connections = self.slots.len() - self.free.len();
        let arrived = completions.len() - sends.count();
        self.gathering
            .mind(arrived, connections, self.io.now.mono_ns);
    }

    /// Goes on with the round until it is over, or for so long.
    pub(super) fn go_on(&mut self) {
        let until_ns = clock::stopwatch_ns() + TURN_NS;
        if self.deliver(until_ns) {
            self.take_completions(until_ns);
        }
        if self
            .accepts_again_ns
            .is_some_and(|at_ns| at_ns <= self.io.now.mono_ns)
        {
            self.accepts_again_ns = None;
            self.arm_accepts();
        }
    }

    /// Returns whether all mail is delivered.
    fn deliver(&mut self, until_ns: u64) -> bool {
        while let Some((from, messages)) = self.round.mail.front_mut() {
            let delivery = Delivery::until(messages, until_ns);
            self.app.delivered(*from, delivery, &mut self.io);
            if !messages.as_slice().is_empty() {
                return false;
            }
            self.round.mail.pop_front();
        }
        true
    }

    fn take_completions(&mut self, until_ns: u64) {
        let clogged = self.unsent_mail.len() > UNSENT_MAIL_MAX;
        if !clogged {
            while let Some(held) = self.held_receives.pop_back() {
                self.round.completions.push_front(held);
            }
            if self.round.completions.len() > 1 && !self.round.is_foreseen {
                self.foresee();
                self.round.is_foreseen = true;
            }
        }
        while let Some(completion) = self.round.completions.pop_front() {
            match completion.token.op {
                Op::Recv if clogged => self.held_receives.push_back(completion),
                Op::Recv => {
                    self.received(completion);
                    if clock::stopwatch_ns() >= until_ns {
                        break;
                    }
                }
                Op::Send => self.sent(completion),
                Op::Hangup => self.hung_up(completion),
                Op::Accept => self.accepted(completion),
                Op::Signal => self.signalled(completion.result),
                Op::File => self.file_completed(completion),
                Op::Connect => self.dialed(completion),
                Op::Wake if self.leftovers.woken() => self.ring.wake_after(&leftovers::PERIOD),
                Op::Wake | Op::Cancel | Op::Doorbell | Op::Ring => {}
            }
        }
        self.ring.buffers.publish();
    }

    /// Shows the app what has arrived.
    fn foresee(&self) {
        let arrivals = self.round.completions.iter().filter_map(|arrival| {
            let token = arrival.token;
            let buffer = arrival.buffer.filter(|_| token.op == Op::Recv)?;
            let slot = self.slots.get(token.index as usize)?;
            let is_open = slot.conn.is_some() && token.is_generation(slot.generation);
            let len = usize::try_from(arrival.result).ok().filter(|_| is_open)?;
            let id = ConnId {
                index: token.index,
                generation: slot.generation,
            };
            Some((id, self.ring.buffers.filled(buffer, len)))
        });
        self.app.foresee(arrivals);
    }
}
