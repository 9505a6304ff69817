//! Loading: the snapshot that the server starts with, DEBUG RELOAD, and what a load leads to.

use std::fs::File;

use super::ask::NodeMessage;
use super::host::ServerHost;
use super::log;
use super::persist::{self, Message, Then};
use super::settings;
use crate::resp::CmdError;
use crate::session::Core;

impl ServerHost {
    /// Loads `dbfilename`.
    pub(super) fn begin_load(&mut self, then: Then, flush: bool) {
        let path = self.config.path("dbfilename");
        self.begin_load_of(&path, then, flush);
    }

    pub(super) fn begin_load_of(&mut self, path: &std::path::Path, then: Then, flush: bool) {
        let file = File::open(path);
        let databases = self.config.int("databases") as u32;
        let verify = self.config.flag("rdbchecksum");
        // Segments may say that a key lives on. Redis: rdb.c rdbLoadRioWithLoadingCtx.
        let repeats = then == Then::Replay || self.identity.role.is_replica();
        // Who has been told of such a key is to be told of its end.
        let is_told = self.replicas.feeds() || self.config.flag("appendonly");
        let keeps_due = repeats || then == Then::Reload && is_told;
        let about = (databases, self.limits.clone());
        let begun = file.and_then(|file| {
            self.persistence
                .load(file, (verify, keeps_due), about, then, self.now_ms)
        });
        match (begun, then) {
            (Ok(()), _) => self.tell_nodes(|_| Message::LoadBegins { flush }),
            (Err(error), Then::Follow) => {
                log::warning(&format!("Can't open the RDB file of the master: {error}"));
                self.persistence.follows = false;
                self.persistence.followed = Some(false);
            }
            (Err(error), Then::Serve | Then::Replay) => {
                log::warning(&format!("Fatal error: can't open the RDB file: {error}"));
                self.stop = Some(1);
            }
            (Err(_), Then::Reload) => {
                let error =
                    CmdError::Text("ERR Error trying to load the RDB dump, check server logs");
                self.persistence.end_reload(Err(error), &mut self.mail);
            }
        }
    }

    pub(super) fn load_failed(&mut self, error: &persist::LoadError) {
        if !self.persistence.load_failed(error, &mut self.mail) {
            self.stop = Some(1);
        }
    }

    pub(super) fn load_on(&mut self, core: &mut Core) -> bool {
        if self.persistence.loading.is_some() {
            let delay_us = self.config.int("key-load-delay");
            self.persistence.delay_keys(delay_us);
        }
        let (mail, now_ms) = (&mut self.mail, self.now_ms);
        let mut loaded = self.persistence.load_slice(mail, now_ms);
        if self.following.is_incoming() {
            let found = self.persistence.found_libraries.drain(..);
            self.persistence.incoming_libraries.extend(found);
        }
        self.tell_deleted();
        let (mail, now_ms) = (&mut self.mail, self.now_ms);
        let merges = self.persistence.merges;
        for text in self.persistence.found_libraries.drain(..) {
            if let Err(error) = core.add_library(&text, merges, u64::MAX) {
                loaded = Err(persist::LoadError::Library(error));
            }
        }
        match loaded {
            Err(error) => {
                self.load_failed(&error);
                false
            }
            Ok(more) => {
                match self.persistence.load_over(mail, now_ms) {
                    Some((Then::Replay, from)) => self.replay_from(from, &core.table),
                    Some((Then::Serve, _)) => self.take_up_past(),
                    _ => {}
                }
                more
            }
        }
    }

    /// The libraries of a master take the place of all others.
    pub(super) fn take_incoming_libraries(&mut self, core: &mut Core) {
        core.clear_libraries();
        for text in std::mem::take(&mut self.persistence.incoming_libraries) {
            if let Err(error) = core.add_library(&text, false, u64::MAX) {
                log::warning(&format!("Failed creating the library: {error}"));
            }
        }
    }

    /// Replicas that go on from what is loaded are told which of its keys are gone.
    fn tell_deleted(&mut self) {
        let is_master = self.following.master.is_none();
        let Some(loading) = self.persistence.loading.as_mut().filter(|_| is_master) else {
            return;
        };
        if loading.deleted.is_empty() {
            return;
        }
        let (offset, deleted) = (loading.past_offset(), std::mem::take(&mut loading.deleted));
        if !self.replicas.is_streaming() {
            self.replicas.go_on_from(offset, self.now_ms);
        }
        self.keep_stream(&deleted);
    }

    /// All entries are in place: commands are accepted.
    pub(super) fn load_ended(&mut self, core: &mut Core) {
        self.part.loading = false;
        let left = NodeMessage::Persist(Message::LoadLeft);
        self.mail.push((0, left));
        core.shard.keyspace.effects.recording = core.shard.journal.is_some();
        core.shard.keyspace.effects.dirty = 0;
        let config = self.config.clone();
        settings::install(&config, core, self);
    }
}
