//! Scripts within transactions, or alone under holds: how they are suspended and go on.

use std::sync::Arc;

use super::Exec;
use crate::resp::Args;
use crate::session::core::Core;
use crate::session::link::{Host, Link};
use crate::session::requests::Next;
use crate::session::script::{Progress, Scripted};
use crate::session::state::State;
use crate::shard::TxId;
use crate::shard::message::{HopCall, Request, SessionKey};

impl Core {
    /// A script goes on until it ends or waits. Returns whether it is done.
    pub(super) fn exec_script(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> bool {
        let Some(exec) = self.execs.get_mut(&key) else {
            return false;
        };
        let held = exec.held;
        let begun = match exec.script.take() {
            Some(scripted) => Ok(scripted),
            None => {
                self.counters.commands += 1;
                self.show_script(key, args, None, link, host);
                let begun = self.begin_script(key, call, args, link.now_ms());
                begun.and_then(|scripted| scripted.admitted(key, host))
            }
        };
        let reply = match begun {
            Ok(mut scripted) => match self.run_script(key, &mut scripted, held, link, host) {
                Progress::Done => {
                    self.end_script(key, &scripted, link, host);
                    Ok(scripted)
                }
                progress @ (Progress::Waits | Progress::Paused) => {
                    self.exec_waits(key, scripted, progress);
                    return false;
                }
                Progress::Strayed => return self.exec_strayed(key, &scripted, held, link),
            },
            Err(error) => {
                self.note_ran(key, (call, args), true, link, host);
                self.shard.stats.note_error_text(&error.text());
                Err(error)
            }
        };
        let Some(exec) = self.execs.get_mut(&key) else {
            return false;
        };
        match reply {
            Ok(scripted) => exec.out.append(scripted.output()),
            Err(error) => exec.write_error(&error),
        }
        exec.next += 1;
        let is_shown = exec.words.is_some() && host.is_watching();
        if is_shown && let Some(exec) = self.execs.remove(&key) {
            self.show_whole(key, &exec, true, link, host);
            self.execs.insert(key, exec);
        }
        true
    }

    /// A script is suspended. It goes on under holds: others get their turn.
    fn exec_waits(&mut self, key: SessionKey, scripted: Box<Scripted>, progress: Progress) {
        let Some(mut exec) = self.execs.remove(&key) else {
            return;
        };
        self.hold_now(key, &mut exec, &scripted);
        exec.script = Some(scripted);
        match progress {
            Progress::Paused => self.paused.push(key),
            _ => exec.running = 1,
        }
        self.execs.insert(key, exec);
    }

    /// What has run on this shard without holds gets them.
    fn hold_now(&mut self, key: SessionKey, exec: &mut Exec, scripted: &Scripted) {
        if exec.held.is_some() {
            return;
        }
        let on = scripted.held_here();
        let request = exec.request.clone();
        let tx = self.coordinator.adopt(key, request.clone(), on.clone());
        let recorded = self.shard.keyspace.effects.records.len();
        let records = exec.records.unwrap_or_default().min(recorded);
        if self.shard.hold_now(tx, &request, &on, records) {
            self.coordinator.owes_settlement(tx);
        }
        exec.held = Some(tx);
    }

    /// A script that ran alone and without holds is suspended: [`Core::run_paused`] or
    /// [`Core::exec_part`] follows.
    pub(in crate::session) fn suspend(
        &mut self,
        key: SessionKey,
        (request, records): (Arc<Request>, usize),
        scripted: Box<Scripted>,
        progress: Progress,
    ) -> Next {
        let exec = Exec {
            records: Some(records),
            ..Exec::of_script(request)
        };
        if let Some(session) = self.session_mut(key) {
            session.state = State::Awaiting;
        }
        self.execs.insert(key, Box::new(exec));
        self.exec_waits(key, scripted, progress);
        Next::Wait
    }

    /// Scripts that were suspended go on for a slice. Returns whether there are more.
    pub fn run_paused(&mut self, link: &mut dyn Link, host: &mut dyn Host) -> bool {
        for key in std::mem::take(&mut self.paused) {
            if self.exec_on(key, link, host) {
                self.resume(key, link, host);
            }
        }
        !self.paused.is_empty()
    }

    /// Whether scripts are to go on at once.
    pub fn has_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    /// A script alone begins again with everything held. Returns whether it could not.
    pub(super) fn exec_strayed(
        &mut self,
        key: SessionKey,
        scripted: &Scripted,
        held: Option<TxId>,
        link: &mut dyn Link,
    ) -> bool {
        self.execs.remove(&key);
        if let Some(work) = held {
            // The journals may have to be told that something it read had expired.
            self.coordinator.leave(work);
            self.release_exec(work, link);
        }
        match self.eval_again(key, scripted, link) {
            Ok(_) => false,
            Err(error) => {
                self.reply_error(key, &error, link);
                true
            }
        }
    }
}
