//! What a snapshot says, one event after another: entries go into batches for their homes.

use super::{LoadError, Loading, Then};
use crate::command::{generic, keys};
use crate::rdb::file::{Entry, Event};
use crate::rdb::object::Object;
use crate::server::ask::NodeMessage;
use crate::server::following::{Past, encode};
use crate::server::log;
use crate::server::persist::{Loaded, LoadedValue, Mail, Message, tell_nodes};

/// Keys without elements that the log names. Redis: rdb.c.
const EMPTY_TOLD_MAX: u64 = 10;

/// Entries of one batch.
const BATCH: usize = 256;

impl Loading {
    /// The number that a database has until the load is over.
    fn number_of(&self, db: u32) -> u32 {
        db + self.incoming.map_or(0, |it| it.databases)
    }

    pub(super) fn take(
        &mut self,
        event: Event,
        mail: &mut Mail,
        now_ms: i64,
    ) -> Result<(), LoadError> {
        match event {
            Event::SelectDb(db) if db >= self.databases => {
                return Err(LoadError::Databases(self.databases));
            }
            Event::SelectDb(db) => self.db = db,
            Event::Entry(entry) => self.entry(*entry, mail, now_ms),
            Event::ModuleKey { module, .. } | Event::ModuleAux { module, .. } => {
                return Err(LoadError::Module(module));
            }
            Event::Aux { name, value } => {
                note_past(&mut self.past, &name, &value);
                tell_aux(&name, &value, now_ms);
            }
            Event::EmptyKey { key, .. } => {
                self.keys_empty += 1;
                if self.keys_empty <= EMPTY_TOLD_MAX {
                    let key = String::from_utf8_lossy(&key);
                    log::warning(&format!("rdbLoadObject skipping empty key: {key}"));
                }
            }
            Event::End(_) => {
                self.finished = true;
                for shard in 0..self.batches.len() {
                    self.send(shard, mail);
                }
            }
            Event::ResizeDb { keys, .. } => {
                // A key takes four bytes at least, whatever the file claims.
                let keys = keys.min(self.size_bytes / 4) as usize / self.batches.len();
                let db = self.number_of(self.db);
                tell_nodes(self.batches.len(), mail, |_| Message::Reserve { db, keys });
            }
            Event::Start { .. } | Event::Hint | Event::Function(_) => {}
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry, mail: &mut Mail, now_ms: i64) {
        let past_ms = if self.keeps_due { i64::MIN } else { now_ms };
        let expire_at = entry.attributes.expire_at_ms;
        if expire_at.is_some_and(|at_ms| at_ms <= past_ms) {
            self.keys_expired += 1;
            self.tell_deleted(&entry.key);
            return;
        }
        let value = match entry.object {
            Object::String(text) => LoadedValue::Text(text),
            object => match generic::stored(object, entry.ty, &self.limits, past_ms) {
                Some(stored) => LoadedValue::Stored(stored),
                None => return,
            },
        };
        self.keys_loaded += 1;
        let shard = keys::home(&entry.key, self.batches.len());
        let db = self.number_of(self.db);
        self.batches[shard].push(Loaded {
            db,
            key: entry.key,
            value,
            expire_at_ms: expire_at,
            idle_s: entry.attributes.idle_s.map(|s| s.min(1 << 40) as i64),
            frequency: entry.attributes.frequency.map(i64::from),
        });
        if self.batches[shard].len() >= BATCH {
            self.send(shard, mail);
        }
    }

    /// Replicas that go on from this snapshot have a key that is not loaded. Redis: rdb.c
    /// rdbLoadRioWithLoadingCtx, RDBFLAGS_FEED_REPL.
    fn tell_deleted(&mut self, key: &[u8]) {
        if self.then != Then::Serve || self.past.replid.is_empty() {
            return;
        }
        if self.deleted_db.replace(self.db) != Some(self.db) {
            let db = self.db.to_string();
            self.deleted.extend(encode(&[b"SELECT", db.as_bytes()]));
        }
        self.deleted.extend(encode(&[b"DEL", key]));
    }

    fn send(&mut self, shard: usize, mail: &mut Mail) {
        let batch = std::mem::take(&mut self.batches[shard]);
        if !batch.is_empty() {
            self.untaken[shard] += 1;
            mail.push((shard, NodeMessage::Persist(Message::Load(batch))));
        }
    }
}

/// What the file says of the stream that continues it.
fn note_past(past: &mut Past, name: &[u8], value: &[u8]) {
    let text = String::from_utf8_lossy(value);
    match name {
        b"repl-id" => past.replid = text.into_owned(),
        b"repl-offset" => past.offset = text.parse().unwrap_or(0),
        b"repl-stream-db" => past.db = text.parse().unwrap_or(0),
        _ => {}
    }
}

/// What the file says about itself, in the log.
fn tell_aux(name: &[u8], value: &[u8], now_ms: i64) {
    let text = String::from_utf8_lossy(value);
    match name {
        b"redis-ver" | b"valkey-ver" => {
            log::notice(&format!("Loading RDB produced by version {text}"));
        }
        b"ctime" => {
            let age_s = text.parse::<i64>().map_or(0, |at_s| now_ms / 1000 - at_s);
            log::notice(&format!("RDB age {} seconds", age_s.max(0)));
        }
        b"used-mem" => {
            let megabytes = text.parse::<f64>().unwrap_or(0.0) / 1024.0 / 1024.0;
            log::notice(&format!("RDB memory usage when created {megabytes:.2} Mb"));
        }
        _ => {}
    }
}
