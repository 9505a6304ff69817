//! `repl-diskless-load`: the snapshot of a master is loaded as it comes, and nothing of it is written.
//!
//! What is there stays until all of it is loaded, so that a link that breaks costs nothing. Clients are
//! served from it meanwhile, if it is of the same history: then it is merely older.

use super::transfer::Transfer;
use super::{Origin, Phase};
use crate::server::ask::NodeMessage;
use crate::server::host::ServerHost;
use crate::server::log;
use crate::server::persist::Message;

impl ServerHost {
    /// Whether the next snapshot is loaded as it comes. Redis: replication.c useDisklessLoad.
    pub(super) fn loads_directly(&self) -> bool {
        match self.config.text("repl-diskless-load") {
            "swapdb" => true,
            "on-empty-db" => !self.part.has_keys(),
            _ => false,
        }
    }

    /// One that has begun to come is loaded as soon as nothing is in its way.
    pub(super) fn prepare_direct(&mut self) {
        if !matches!(&self.following.phase, Phase::Receiving(transfer) if transfer.may_load()) {
            return;
        }
        let until_ms = self.now_ms;
        let waits = Phase::Waiting { until_ms };
        if let Phase::Receiving(transfer) = std::mem::replace(&mut self.following.phase, waits) {
            self.following.phase = Phase::Preparing(transfer);
        }
    }

    /// Begins to load one, into databases that nobody sees.
    pub(super) fn load_directly(&mut self, mut transfer: Box<Transfer>) {
        let known = transfer.origin.take();
        let replid = self.identity.replid();
        let is_same = known.as_ref().is_some_and(|(id, _)| *id == replid);
        let serves = is_same && self.config.text("repl-diskless-load") == "swapdb";
        log::notice("MASTER <-> REPLICA sync: Loading DB in memory");
        let about = (self.config.int("databases") as u32, self.limits.clone());
        let verify = self.config.flag("rdbchecksum");
        let size = transfer.size_bytes;
        self.persistence
            .load_incoming(verify, about, size, serves, self.now_ms);
        self.persistence.follows = true;
        for node in 0..self.shards {
            let message = Message::IncomingBegins { serves };
            self.mail.push((node, NodeMessage::Persist(message)));
        }
        self.following.phase = Phase::Loading(Origin {
            known,
            is_marked: transfer.is_marked(),
            direct: Some(transfer),
            is_incoming: true,
        });
        self.feed_direct();
    }

    /// What has come of it is loaded.
    pub(super) fn feed_direct(&mut self) {
        let Phase::Loading(origin) = &mut self.following.phase else {
            return;
        };
        let Some(transfer) = &mut origin.direct else {
            return;
        };
        let (piece, ended) = transfer.take_piece();
        self.persistence.feed(piece);
        if ended {
            self.persistence.end_feed();
            // The stream follows.
            let rest = std::mem::take(&mut transfer.rest);
            origin.direct = None;
            self.following.input.extend(rest);
        }
    }
}
