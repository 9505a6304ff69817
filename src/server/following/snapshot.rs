//! The snapshot of a master takes the place of everything.

use super::transfer::{Transfer, Wish};
use super::{Origin, Phase};
use crate::runtime::FileDone;
use crate::server::ask::NodeMessage;
use crate::server::host::ServerHost;
use crate::server::log;
use crate::server::persist::{self, Operation, Saving, Then};
use crate::server::replicas::Message;
use crate::session::{Core, Link};

/// The stream that continues a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Past {
    pub replid: String,
    pub offset: i64,
    /// The database that it has selected.
    pub db: u32,
}

impl ServerHost {
    pub(super) fn write_transfer(&mut self, id: u32, wishes: Vec<Wish>) {
        let operations = wishes.into_iter().map(|(file, op)| Operation {
            file,
            tag: persist::transfer_tag(id),
            op,
        });
        self.persistence.operations.extend(operations);
    }

    /// A piece of a snapshot is on the disk, or all of it.
    pub fn transfer_file_done(&mut self, done: FileDone) {
        let id = (done.tag >> 8) as u32;
        let Phase::Receiving(transfer) = &mut self.following.phase else {
            return;
        };
        if transfer.id != id {
            return;
        }
        let mut wishes = Vec::new();
        match transfer.file_done(done, &mut wishes) {
            Ok(true) => {
                let until_ms = self.now_ms;
                let waits = Phase::Waiting { until_ms };
                if let Phase::Receiving(transfer) =
                    std::mem::replace(&mut self.following.phase, waits)
                {
                    self.following.phase = Phase::Preparing(transfer);
                }
            }
            Ok(false) => self.write_transfer(id, wishes),
            Err(()) => self.following.failed = true,
        }
    }

    /// Whether nothing is under way here that a snapshot would have to wait for.
    fn is_clear(&self, core: &Core) -> bool {
        let persistence = &self.persistence;
        let is_awaited = persistence
            .saving
            .as_deref()
            .is_some_and(Saving::is_awaited);
        self.following.dispatch.routes.is_idle()
            && !self.is_applying(core)
            && !is_awaited
            && persistence.closing.is_none()
            && persistence.loading.is_none()
            && persistence.replay.is_none()
            && persistence.reload.is_none()
            && self.opening == 0
            && !self.part.is_any_loading()
    }

    /// Whether a snapshot that has come can be loaded.
    pub(super) fn wants_snapshot(&self, core: &Core) -> bool {
        matches!(self.following.phase, Phase::Preparing(_)) && self.is_clear(core)
    }

    /// Whether nothing is in the way of a snapshot any more; what is, is brought to its end.
    fn is_cleared(&mut self, core: &Core) -> bool {
        let persistence = &mut self.persistence;
        if persistence
            .saving
            .as_deref()
            .is_some_and(|it| !it.is_awaited())
        {
            log::notice(
                "Replica is about to load the RDB file received from the master, but there is a \
                 pending snapshot. It is given up.",
            );
            let is_rewrite = persistence.aof.is_rewriting();
            persistence.cancel_save(&mut self.mail);
            if is_rewrite {
                persistence.aof.rewrite_failed(self.now_ms);
            }
        }
        if !self.is_clear(core) {
            return false;
        }
        let persistence = &mut self.persistence;
        // The append-only file is of another data set from here on: it is made anew behind the load.
        if persistence.aof.on || self.segment.is_some() {
            persistence.aof.close();
            self.close_journals(false);
            return false;
        }
        true
    }

    /// Begins to load the snapshot that has come, if nothing is in its way.
    pub(super) fn begin_snapshot(&mut self, core: &Core, link: &mut dyn Link) {
        if !matches!(self.following.phase, Phase::Preparing(_)) || !self.is_cleared(core) {
            return;
        }
        let until_ms = self.now_ms;
        let waits = Phase::Waiting { until_ms };
        let Phase::Preparing(mut transfer) = std::mem::replace(&mut self.following.phase, waits)
        else {
            return;
        };
        if self.following.can_continue {
            log::notice("Discarding previously cached master state.");
        }
        self.following.can_continue = false;
        self.drop_replicas();
        self.end_relay();
        self.following.forget_stream();
        self.following.input = std::mem::take(&mut transfer.rest);
        if transfer.is_direct() {
            return self.load_directly(transfer);
        }
        let origin = Origin {
            known: transfer.origin.take(),
            is_marked: transfer.is_marked(),
            direct: None,
            is_incoming: false,
        };
        let name = self.config.path("dbfilename");
        if let Err(error) = Transfer::keep(*transfer, &name) {
            log::warning(&format!(
                "Failed trying to rename the temp DB into {} in MASTER <-> REPLICA \
                 synchronization: {error}",
                name.display()
            ));
            self.drop_master(link);
            return self.call_again(false);
        }
        log::notice("MASTER <-> REPLICA sync: Flushing old data");
        log::notice("MASTER <-> REPLICA sync: Loading DB in memory");
        self.following.phase = Phase::Loading(origin);
        self.persistence.follows = true;
        self.begin_load_of(std::path::Path::new(&name), Then::Follow, true);
    }

    /// The load is over: the stream begins, if the connection is still there.
    pub(super) fn end_snapshot(&mut self, core: &mut Core, link: &mut dyn Link) {
        let Some(ok) = self.persistence.followed.take() else {
            return;
        };
        let until_ms = self.now_ms;
        let waits = Phase::Waiting { until_ms };
        let Phase::Loading(origin) = std::mem::replace(&mut self.following.phase, waits) else {
            return;
        };
        let past = self.persistence.loaded_past.take();
        if !ok {
            let source = if origin.is_incoming { "socket" } else { "disk" };
            log::warning(&format!(
                "Failed trying to load the MASTER synchronization DB from {source}, check server \
                 logs."
            ));
            self.drop_master(link);
            return self.call_again(false);
        }
        let db = past.map_or(0, |past| past.db);
        self.following.can_continue = origin.known.is_some();
        let offset = match origin.known {
            Some((replid, offset)) => {
                self.identity.take_over(replid);
                offset
            }
            None => {
                self.identity.change_replid();
                0
            }
        };
        self.begin_relay(offset);
        let input = std::mem::take(&mut self.following.input);
        self.following.begin_stream(offset, db);
        self.following.input = input;
        log::notice("MASTER <-> REPLICA sync: Finished with success");
        if self.following.conn.is_none() || self.following.master.is_none() {
            // It was lost meanwhile: what was loaded can be gone on with.
            self.following.down_since_ms.get_or_insert(self.now_ms);
            self.following.forget_stream();
            return self.call_again(true);
        }
        self.following.phase = Phase::Online;
        self.following.heard_ms = self.now_ms;
        self.open_stream(core);
        self.link_changed(true);
        if origin.is_marked {
            self.acknowledge(link);
        }
    }

    /// The server begins with a snapshot that knows which stream continues it: as a replica it asks its
    /// master for the rest, as a master it goes on with replicas that have as much. Redis: server.c
    /// loadDataFromDisk.
    pub(in crate::server) fn take_up_past(&mut self) {
        let Some(Past { replid, offset, db }) = self.persistence.loaded_past.take() else {
            return;
        };
        if self.following.master.is_some() {
            self.identity.take_over(replid);
            self.replicas.go_on_from(offset, self.now_ms);
            self.following.begin_stream(offset, db);
            self.following.can_continue = true;
            return;
        }
        self.identity.come_after(replid, offset + 1);
        if !self.replicas.is_streaming() {
            self.replicas.go_on_from(offset, self.now_ms);
        }
        let epoch = self.replicas.begin_feeds(self.shards);
        for node in 0..self.shards {
            let message = Message::Feed { epoch };
            self.mail.push((node, NodeMessage::Replicas(message)));
        }
    }

    /// Replicas of this server have to ask anew.
    pub(super) fn drop_replicas(&mut self) {
        for (node, session) in self.replicas.places() {
            let message = Message::Drop { session };
            self.mail.push((node, NodeMessage::Replicas(message)));
        }
    }
}
