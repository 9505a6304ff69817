//! The end of the server: replicas get what was written before it.

use super::master::Lagging;
use crate::server::ask::Requester;
use crate::server::host::ServerHost;
use crate::server::log;
use crate::server::pauses::Quiet;
use crate::server::persist::Message as FileMessage;
use crate::server::stopping::Wish;
use crate::server::supervise;

/// A server that ends once its replicas have everything.
#[derive(Debug)]
pub struct Farewell {
    wish: Wish,
    force: bool,
    deadline_ms: i64,
    /// The mark behind all that was written, and where it is in the stream.
    mark: u64,
    offset: Option<i64>,
}

impl ServerHost {
    /// Ends the server, once replicas have what was written if `waits`. On shard 0.
    pub(in crate::server) fn end_server(
        &mut self,
        requester: Option<Requester>,
        (wish, force, waits): (Wish, bool, bool),
    ) {
        supervise::stopping();
        self.persistence.stoppers.extend(requester);
        if waits && self.is_in_farewell() {
            return;
        }
        let timeout_ms = self.config.int("shutdown-timeout").saturating_mul(1000);
        let offset = self.replicas.offset();
        if !waits || timeout_ms == 0 || self.replicas.behind(offset, self.now_ms).is_empty() {
            return self.request_stop(wish, force);
        }
        log::notice("Waiting for replicas before shutting down.");
        self.tell_nodes(|_| FileMessage::Quiesce(Quiet::Stop));
        // A master's stream is known to its end already.
        let known = self.replicas.relays().then_some(offset);
        let mark = match known {
            Some(_) => 0,
            None => self.ask_for_mark(),
        };
        self.replicas.farewell = Some(Farewell {
            wish,
            force,
            deadline_ms: self.now_ms.saturating_add(timeout_ms),
            mark,
            offset: known,
        });
    }

    /// All feeds have passed a mark. Returns whether it is the one at the end.
    pub(super) fn farewell_reached(&mut self, id: u64) -> bool {
        let offset = self.replicas.offset();
        match &mut self.replicas.farewell {
            Some(farewell) if farewell.mark == id => {
                farewell.offset = Some(offset);
                true
            }
            _ => false,
        }
    }

    /// Replicas that do not have all that was written before the end.
    fn behind_the_end(&self, farewell: &Farewell) -> Vec<Lagging> {
        let offset = farewell.offset.unwrap_or(i64::MAX);
        self.replicas.behind(offset, self.now_ms)
    }

    /// Whether replicas have everything, or have had time enough.
    pub(super) fn is_farewell_over(&self) -> bool {
        self.replicas.farewell.as_ref().is_some_and(|farewell| {
            self.now_ms >= farewell.deadline_ms || self.behind_the_end(farewell).is_empty()
        })
    }

    /// Ends the server then.
    pub(super) fn mind_farewell(&mut self) {
        let Some(farewell) = self
            .replicas
            .farewell
            .as_ref()
            .filter(|_| self.is_farewell_over())
        else {
            return;
        };
        let behind = self.behind_the_end(farewell);
        let all = self.replicas.count_followers();
        for Lagging { name, bytes, lag_s } in &behind {
            log::notice(&format!(
                "Lagging replica {name} reported offset {bytes} behind master, lag={lag_s}, \
                 state=online."
            ));
        }
        let there = all - behind.len();
        log::notice(&format!(
            "{there} of {all} replicas are in sync when shutting down."
        ));
        if let Some(farewell) = self.replicas.farewell.take() {
            self.request_stop(farewell.wish, farewell.force);
        }
    }

    /// SHUTDOWN ABORT: the server does not end after all. Returns whether it was about to.
    pub(in crate::server) fn abort_farewell(&mut self) -> bool {
        if self.replicas.farewell.take().is_none() {
            return false;
        }
        self.persistence.stays(&mut self.mail);
        true
    }

    /// Whether the server waits for replicas before it ends.
    pub(in crate::server) fn is_in_farewell(&self) -> bool {
        self.replicas.farewell.is_some()
    }

    /// When it waits no longer, unix milliseconds.
    pub(in crate::server) fn farewell_due_ms(&self) -> Option<i64> {
        let farewell = self.replicas.farewell.as_ref();
        farewell.map(|farewell| farewell.deadline_ms)
    }
}
