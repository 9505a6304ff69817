//! How far the disk is in the stream of a master: what a replica tells with FACK, since Redis 7.2.
//!
//! ```text
//! shard 0:    all before an offset is applied:  SyncWanted {to the end} -> every node
//! every node: SyncReached -> shard 0, when its segment is on the disk as far as it went then
//! shard 0:    all have answered: the disk has the stream up to that offset
//! ```
//! That is asked each second and when the master asks, one question at a time. Nothing is synced for it:
//! `appendfsync` says when that is.

use super::Following;
use crate::server::ask::NodeMessage;
use crate::server::host::ServerHost;
use crate::server::persist::Message as FileMessage;
use crate::server::waitaof::Waiter;
use crate::session::{Core, Link};

/// A question to all nodes.
#[derive(Debug)]
struct Round {
    id: u64,
    offset: i64,
    awaited: usize,
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    /// What of the stream it has; `None`: that is not known.
    pub offset: Option<i64>,
    round: Option<Round>,
    /// It is to be asked how far it is.
    pub is_wanted: bool,
    /// The master wants to hear when the disk has this.
    awaited: Option<i64>,
    /// There is something new to tell the master.
    has_news: bool,
}

impl Following {
    /// A node's answer. Returns whether the question was of this kind.
    pub fn sync_reached(&mut self, id: u64) -> bool {
        let Some(round) = self.disk.round.as_mut().filter(|round| round.id == id) else {
            return false;
        };
        round.awaited -= 1;
        if round.awaited == 0 {
            self.disk.has_news = self.disk.offset != Some(round.offset);
            self.disk.offset = Some(round.offset);
            self.disk.round = None;
        }
        true
    }

    /// The master asks how far this server is, which has come to this offset.
    pub(super) fn asked_by_master(&mut self, offset: i64) {
        self.disk.is_wanted = true;
        self.disk.awaited = Some(offset);
    }
}

impl ServerHost {
    /// What the master is told of the disk.
    pub(super) fn synced_offset(&self) -> Option<i64> {
        self.following
            .disk
            .offset
            .filter(|_| self.persistence.aof.on)
    }

    /// Asks the disk, and tells the master what it has if that was asked for.
    pub(super) fn mind_synced(&mut self, core: &Core, link: &mut dyn Link) {
        let disk = &mut self.following.disk;
        if std::mem::take(&mut disk.has_news)
            && let Some(awaited) = disk.awaited
        {
            disk.awaited = Some(awaited).filter(|_| disk.offset < Some(awaited));
            if self.following.is_online() {
                self.acknowledge(link);
            }
        }
        if !self.persistence.aof.on {
            // The file that comes next has to have it anew.
            self.following.disk = Disk::default();
            return;
        }
        let offset = self.following.dispatch.applied();
        let disk = &mut self.following.disk;
        if !disk.is_wanted || disk.round.is_some() {
            return;
        }
        if disk.offset == Some(offset) {
            disk.is_wanted = false;
            return;
        }
        if self.is_applying(core) {
            return;
        }
        let id = self.new_waiter();
        let disk = &mut self.following.disk;
        disk.is_wanted = false;
        disk.round = Some(Round {
            id,
            offset,
            awaited: self.shards,
        });
        for node in 0..self.shards {
            let waiter = Waiter {
                node: 0,
                id,
                hurries: false,
            };
            let message = FileMessage::SyncWanted {
                waiter,
                unit: u64::MAX,
                at_once: false,
            };
            self.mail.push((node, NodeMessage::Persist(message)));
        }
    }
}
