//! Writing a snapshot: the shards' chunks, merged, into a temporary file that takes the name of the
//! real one once it is durable.
//!
//! In the background, blocks go past the page cache where the filesystem lets them: a fifth of the
//! kernel's time, and nothing to sync on this core. Otherwise a chunk goes into the page cache by a
//! plain `pwrite`, some tens of microseconds: the ring would hand it to a kernel thread that shares
//! this core: beside it, the p99 of other commands was 5 ms instead of 1, and 64 ms while it synced the
//! whole file at the end (`perf/durability.py`). So the ring has only syncs to do then, and often, so
//! that none is large.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::direct::{BLOCK_BYTES, Direct};
use super::pipe::Pipe;
use super::{Mail, Message, Operation, Outcome, Persistence, Purpose, discard, reply, tag};
use crate::coordinator::merge::Merger;
use crate::keyspace::cut::{Chunk, Clocks, Sizes};
use crate::rdb::file::{About, Replication};
use crate::resp::CmdError;
use crate::runtime::{FileDone, FileOp};
use crate::script::library;
use crate::server::ask::{NodeMessage, Requester};
use crate::server::config::Config;
use crate::server::following::Past;
use crate::server::host::REDIS_VERSION;
use crate::server::log;
use crate::shard::message::Cut;
use crate::shard::snapshot::Style;

/// Bytes after which what was written is synced.
const SYNC_BYTES: u64 = 2 * 1024 * 1024;
/// Chunks written in one go.
const CHUNKS_AT_ONCE: usize = 2;
/// Time between two lines of progress in the log.
const PROGRESS_MS: i64 = 5_000;

/// What follows a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    Nothing,
    /// SAVE: the client gets its reply.
    Reply(Requester),
    /// It is the new base of the append-only file.
    Rewrite,
    /// It is sent to replicas, once it is complete.
    Sync,
    /// It is sent to replicas while it is made: `repl-diskless-sync`.
    Pipe,
    /// DEBUG RELOAD.
    Reload {
        requester: Requester,
        flush: bool,
    },
    /// SHUTDOWN or a signal: a failure leaves the server running unless `force`.
    Stop {
        force: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not all shards have begun.
    Cutting,
    Streaming,
    Syncing,
    SyncingDirectory,
}

/// A snapshot in progress.
pub struct Saving {
    id: u32,
    stage: Stage,
    /// `None`: nothing of it is written to a disk.
    file: Option<Arc<File>>,
    pub(super) pipe: Pipe,
    /// The way past the page cache.
    direct: Option<Direct>,
    /// Under which name it is being written, and under which it will be found.
    temporary: String,
    name: String,
    checksum: bool,
    /// The file holds commands, not RDB.
    commands: bool,
    /// Which begin with the time.
    timestamps: bool,
    after: After,
    /// Nobody asked for it: who asks for a snapshot gets one of their own instead.
    pub yields: bool,
    /// `rdb-key-save-delay`, which makes saving slow for tests.
    key_delay_us: u64,
    delayed_until_ms: Option<i64>,
    pub started_ms: i64,
    told_ms: i64,
    sizes: Vec<Option<Sizes>>,
    used_bytes: u64,
    /// Fields of hashes may expire in it.
    expiring_fields: bool,
    /// The stream that continues it, and whether that is still to be told.
    past: Option<Past>,
    awaits_past: bool,
    merger: Option<Merger>,
    libraries: Arc<library::Set>,
    /// Shards that have sent their last chunk.
    ended: usize,
    chunks: VecDeque<(usize, Box<Chunk>)>,
    at: u64,
    /// How far the file has been synced, or is being.
    synced: u64,
    syncing: bool,
    front: Option<Vec<u8>>,
    /// Buffer for the next write.
    spare: Vec<u8>,
}

impl Saving {
    /// Keys written so far, and keys there are.
    pub fn progress(&self, now_ms: i64) -> (u64, usize) {
        let Some(merger) = &self.merger else {
            return (0, 0);
        };
        let mut keys = merger.keys;
        if let (Some(until_ms), Some((_, chunk))) = (self.delayed_until_ms, self.chunks.front()) {
            let left = (until_ms - now_ms).max(0) as u64 * 1000 / self.key_delay_us.max(1);
            keys += chunk.keys.saturating_sub(left + 1);
        }
        (keys, merger.keys_expected())
    }

    /// When `rdb-key-save-delay` lets the next chunk be written: unix milliseconds.
    pub fn delayed_until_ms(&self) -> Option<i64> {
        self.delayed_until_ms
    }

    /// Whether the chunk that is next has to wait for what its keys are to take.
    fn is_delayed(&mut self, now_ms: i64) -> bool {
        let Some((_, chunk)) = self.chunks.front() else {
            return false;
        };
        if self.key_delay_us == 0 {
            return false;
        }
        let takes_ms = (chunk.keys.saturating_mul(self.key_delay_us) / 1000) as i64;
        let until_ms = *self.delayed_until_ms.get_or_insert(now_ms + takes_ms);
        let waits = now_ms < until_ms;
        if !waits {
            self.delayed_until_ms = None;
        }
        waits
    }

    fn is_flying(&self) -> bool {
        self.direct.as_ref().is_some_and(Direct::is_busy)
    }

    /// Whether a block has to arrive before the next is filled.
    fn waits(&self) -> bool {
        self.is_flying() && self.spare.len() >= BLOCK_BYTES || self.pipe.is_full
    }

    pub fn after(&self) -> After {
        self.after
    }

    /// Adds what follows: a client that asked for the server's end while it was being saved.
    pub fn set_after(&mut self, after: After) {
        self.after = after;
    }
}

/// What `rdbcompression` and `maxmemory-policy` say about snapshots.
pub fn style(config: &Config, after: After) -> Style {
    let policy = config.text("maxmemory-policy");
    let clocks = if policy.contains("lru") {
        Clocks::Idle
    } else if policy.contains("lfu") {
        Clocks::Frequency
    } else {
        Clocks::None
    };
    Style {
        commands: after == After::Rewrite && !config.flag("aof-use-rdb-preamble"),
        compress: config.flag("rdbcompression"),
        clocks,
    }
}

/// Makes the file of a snapshot. One for replicas has no name, so that nothing is left of it, or is
/// none at all.
fn create(path: &str, after: After) -> io::Result<Option<Arc<File>>> {
    match after {
        After::Pipe => Ok(None),
        After::Sync => create_unnamed(path).map(|file| Some(Arc::new(file))),
        _ => File::create(path).map(|file| Some(Arc::new(file))),
    }
}

fn temporary_name(after: After) -> String {
    let pid = std::process::id();
    match after {
        After::Rewrite => format!("temp-rewriteaof-bg-{pid}.aof"),
        After::Sync => format!("temp-sync-{pid}.rdb"),
        _ => format!("temp-{pid}.rdb"),
    }
}

fn create_unnamed(path: &str) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    let file = options.open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

impl Persistence {
    /// Begins a snapshot into `dbfilename`.
    pub fn save(&mut self, config: &Config, after: After, now_ms: i64, mail: &mut Mail) {
        if !matches!(after, After::Rewrite | After::Sync | After::Pipe) {
            self.scheduled = false;
            self.status.last_try_ms = now_ms;
        }
        let is_rewrite = after == After::Rewrite;
        let temporary = temporary_name(after);
        let file = match create(&temporary, after) {
            Ok(file) => file,
            Err(error) => {
                log::warning(&format!(
                    "Failed opening the temp RDB file {temporary} (in server root dir {}) for \
                     saving: {error}",
                    config.text("dir")
                ));
                return self.save_failed(0, after, mail);
            }
        };
        let id = self.new_id();
        let style = style(config, after);
        self.saving = Some(Box::new(Saving {
            id,
            stage: Stage::Cutting,
            file,
            pipe: Pipe::new(),
            // What is read again soon stays in the page cache.
            direct: match after {
                After::Nothing | After::Rewrite => Direct::open(&temporary),
                After::Sync
                | After::Pipe
                | After::Reply(_)
                | After::Reload { .. }
                | After::Stop { .. } => None,
            },
            temporary,
            name: config.text("dbfilename").to_owned(),
            checksum: config.flag("rdbchecksum"),
            commands: style.commands,
            timestamps: style.commands && config.flag("aof-timestamp-enabled"),
            after,
            yields: false,
            key_delay_us: config.int("rdb-key-save-delay").max(0) as u64,
            delayed_until_ms: None,
            started_ms: now_ms,
            told_ms: now_ms,
            sizes: vec![None; self.shards],
            used_bytes: 0,
            expiring_fields: false,
            past: None,
            awaits_past: false,
            merger: None,
            libraries: Arc::default(),
            ended: 0,
            chunks: VecDeque::new(),
            at: 0,
            synced: 0,
            syncing: false,
            front: None,
            spare: Vec::new(),
        }));
        self.wanted_cut = Some(Cut {
            id,
            style,
            begins_segment: is_rewrite,
            feeds: None,
        });
    }

    /// Writes an RDB file without keys, for one who wants no others; and how long it is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_libraries(
        &self,
        config: &Config,
        has_functions: bool,
        now_ms: i64,
    ) -> io::Result<(Arc<File>, u64)> {
        let mut merger = Merger::new(&[], config.flag("rdbchecksum"));
        let mut bytes = Vec::new();
        let about = About {
            redis_version: REDIS_VERSION,
            created_s: (now_ms / 1000) as u64,
            used_memory_bytes: 0,
            replication: None,
            is_aof_base: false,
        };
        merger.begin(&about, &mut bytes);
        if has_functions {
            for library in self.libraries.now().libraries() {
                merger.library(&library.text, &mut bytes);
            }
        }
        let front = merger.end(&mut bytes);
        let temporary = format!("temp-functions-{}.rdb", std::process::id());
        let file = create_unnamed(&temporary)?;
        file.write_all_at(&bytes, 0)?;
        if let Some(front) = front {
            file.write_all_at(&front, 0)?;
        }
        Ok((Arc::new(file), bytes.len() as u64))
    }

    fn saving_of(&mut self, id: u32) -> Option<&mut Saving> {
        self.saving.as_deref_mut().filter(|saving| saving.id == id)
    }

    /// The snapshot that is under way.
    pub fn saving_id(&self) -> Option<u32> {
        self.saving.as_ref().map(|saving| saving.id)
    }

    /// Whether this snapshot is under way.
    pub fn is_saving(&self, id: u32) -> bool {
        self.saving.as_ref().is_some_and(|saving| saving.id == id)
    }

    /// A shard's part of the cut has begun.
    pub fn cut_begun(
        &mut self,
        from: usize,
        id: u32,
        (sizes, bytes, expiring_fields): (Sizes, u64, bool),
        now_ms: i64,
    ) {
        let libraries = self.libraries.now();
        let Some(saving) = self.saving_of(id) else {
            return;
        };
        saving.sizes[from] = Some(sizes);
        if from == 0 {
            // As they were at the cut: only shard 0 changes them. What it changes in between stands
            // in its new segment as well, and means the same when it is read.
            saving.libraries = libraries;
        }
        saving.used_bytes += bytes;
        saving.expiring_fields |= expiring_fields;
        self.begin_file(id, now_ms);
    }

    /// Whether all shards' parts of this cut have begun.
    pub fn has_all_parts(&self, id: u32) -> bool {
        let saving = self.saving.as_deref().filter(|saving| saving.id == id);
        saving.is_some_and(|saving| saving.sizes.iter().all(Option::is_some))
    }

    /// Whether some shard's part of the cut has not begun.
    pub fn is_cutting(&self) -> bool {
        let is_cutting = |saving: &Saving| saving.stage == Stage::Cutting;
        self.saving.as_deref().is_some_and(is_cutting)
    }

    /// The snapshot is not written before it is known where in the stream it is.
    pub fn await_past(&mut self, id: u32) {
        if let Some(saving) = self.saving_of(id) {
            saving.awaits_past = true;
        }
    }

    /// Where in the stream it is.
    pub fn cut_passed(&mut self, id: u32, past: Past, now_ms: i64) {
        if let Some(saving) = self.saving_of(id) {
            saving.past = Some(past);
            saving.awaits_past = false;
            self.begin_file(id, now_ms);
        }
    }

    /// Begins to write once all is known that stands at the front.
    fn begin_file(&mut self, id: u32, now_ms: i64) {
        let Some(saving) = self.saving_of(id) else {
            return;
        };
        let misses = saving.awaits_past || saving.sizes.iter().any(Option::is_none);
        if misses || saving.stage != Stage::Cutting {
            return;
        }
        let sizes: Vec<Sizes> = saving.sizes.iter_mut().filter_map(Option::take).collect();
        let mut merger = match &saving.file {
            None => Merger::of_stream(&sizes, saving.checksum, saving.expiring_fields),
            Some(_) if saving.commands => Merger::of_commands(&sizes),
            Some(_) => Merger::new(&sizes, saving.checksum),
        };
        if saving.file.is_none() {
            saving.pipe.begin(&mut saving.spare);
        }
        if saving.timestamps {
            let line = format!("#TS:{}\r\n", now_ms / 1000);
            saving.spare.extend_from_slice(line.as_bytes());
        }
        let about = About {
            redis_version: REDIS_VERSION,
            created_s: (now_ms / 1000) as u64,
            used_memory_bytes: saving.used_bytes,
            replication: saving.past.as_ref().map(|past| Replication {
                db: past.db,
                id: &past.replid,
                offset: past.offset as u64,
            }),
            is_aof_base: saving.after == After::Rewrite,
        };
        merger.begin(&about, &mut saving.spare);
        for library in saving.libraries.libraries() {
            merger.library(&library.text, &mut saving.spare);
        }
        saving.merger = Some(merger);
        saving.stage = Stage::Streaming;
    }

    pub fn chunk(&mut self, from: usize, id: u32, chunk: Box<Chunk>) {
        if let Some(saving) = self.saving_of(id) {
            saving.chunks.push_back((from, chunk));
        }
    }

    pub fn cut_done(&mut self, id: u32) {
        if let Some(saving) = self.saving_of(id) {
            saving.ended += 1;
        }
    }

    /// Writes some of what has come. Returns whether there is more.
    pub fn write_on(&mut self, mail: &mut Mail, now_ms: i64) -> bool {
        let shards = self.shards;
        let Some(saving) = self.saving.as_deref_mut() else {
            return false;
        };
        if saving.stage != Stage::Streaming || saving.waits() {
            return false;
        }
        let mut bytes = std::mem::take(&mut saving.spare);
        for _ in 0..CHUNKS_AT_ONCE {
            if saving.is_delayed(now_ms) {
                break;
            }
            let Some((from, chunk)) = saving.chunks.pop_front() else {
                break;
            };
            if let Some(merger) = &mut saving.merger {
                merger.chunk(&chunk, &mut bytes);
            }
            let id = saving.id;
            mail.push((from, NodeMessage::Persist(Message::ChunkTaken { id })));
        }
        let ends = saving.ended == shards && saving.chunks.is_empty() && !saving.is_flying();
        if ends {
            saving.front = saving
                .merger
                .as_mut()
                .and_then(|merger| merger.end(&mut bytes));
        }
        if !ends && saving.direct.is_some() {
            return self.write_block(bytes, now_ms);
        }
        match &saving.file {
            Some(file) => {
                if let Err(error) = file.write_all_at(&bytes, saving.at) {
                    self.save_error(&error, mail);
                    return false;
                }
            }
            None => {
                if ends {
                    saving.pipe.end(&mut bytes);
                }
                if !bytes.is_empty() {
                    self.pieces.push(bytes.as_slice().into());
                }
            }
        }
        saving.at += bytes.len() as u64;
        bytes.clear();
        saving.spare = bytes;
        if ends {
            return self.end_file(mail);
        }
        let more = !saving.chunks.is_empty() && saving.delayed_until_ms.is_none();
        let is_kept = !matches!(saving.after, After::Sync | After::Pipe);
        if is_kept && !saving.syncing && saving.at - saving.synced >= SYNC_BYTES {
            saving.syncing = true;
            saving.synced = saving.at;
            self.operate(Purpose::Sync, FileOp::Sync { metadata: false });
        }
        self.tell_progress(now_ms);
        more
    }

    /// Sends a block past the page cache if there is one. Returns whether more can be written.
    fn write_block(&mut self, mut bytes: Vec<u8>, now_ms: i64) -> bool {
        if let Some(saving) = self.saving.as_deref_mut()
            && let Some(direct) = &mut saving.direct
        {
            if bytes.len() >= BLOCK_BYTES && !direct.is_busy() {
                let (op, len) = direct.cut(saving.at, &mut bytes);
                saving.at += len as u64;
                self.operations.push(Operation {
                    file: direct.file.clone(),
                    tag: tag(Purpose::Block, saving.id),
                    op,
                });
            }
            saving.spare = bytes;
        }
        self.tell_progress(now_ms);
        self.wants_to_write(now_ms)
    }

    fn tell_progress(&mut self, now_ms: i64) {
        if let Some(saving) = self.saving.as_deref_mut()
            && now_ms - saving.told_ms >= PROGRESS_MS
        {
            saving.told_ms = now_ms;
            let (keys, all) = saving.progress(now_ms);
            log::notice(&format!("Saving: {keys} of {all} keys written"));
        }
    }

    /// All chunks are written: the version at the front is put right, and all of it synced.
    fn end_file(&mut self, mail: &mut Mail) -> bool {
        let Some(saving) = self.saving.as_deref_mut() else {
            return false;
        };
        if let (Some(front), Some(file)) = (saving.front.take(), &saving.file)
            && let Err(error) = file.write_all_at(&front, 0)
        {
            self.save_error(&error, mail);
            return false;
        }
        if matches!(saving.after, After::Sync | After::Pipe) {
            // It is gone with its last reader: nothing of it has to be durable.
            let outcome = match saving.file.take() {
                Some(file) => Outcome::File(file, saving.at),
                None => Outcome::Piped,
            };
            self.streamed = self.saving.take().map(|saving| (saving.id, outcome));
            return false;
        }
        saving.stage = Stage::Syncing;
        if !saving.syncing {
            self.operate(Purpose::Sync, FileOp::Sync { metadata: true });
        }
        false
    }

    /// Whether [`Persistence::write_on`] would find something to do.
    pub fn wants_to_write(&self, now_ms: i64) -> bool {
        let ends = |saving: &Saving| saving.ended == self.shards && !saving.is_flying();
        let is_due = |at_ms| at_ms <= now_ms;
        self.saving.as_deref().is_some_and(|saving| {
            saving.stage == Stage::Streaming
                && !saving.waits()
                && (!saving.chunks.is_empty() || ends(saving))
                && saving.delayed_until_ms.is_none_or(is_due)
        })
    }

    /// Whether the last snapshot of a server that stops is being written.
    pub fn saves_last(&self) -> bool {
        let is_last = |saving: &Saving| matches!(saving.after, After::Stop { .. });
        self.saving.as_deref().is_some_and(is_last)
    }

    fn operate(&mut self, purpose: Purpose, op: FileOp) {
        if let Some(saving) = &self.saving
            && let Some(file) = &saving.file
        {
            self.operations.push(Operation {
                file: file.clone(),
                tag: tag(purpose, saving.id),
                op,
            });
        }
    }

    /// An operation on the snapshot's file is over.
    pub fn save_file_done(&mut self, done: FileDone, mail: &mut Mail, now_ms: i64) {
        let Some(saving) = self.saving_of((done.tag >> 8) as u32) else {
            return;
        };
        let block = saving.direct.as_mut().and_then(Direct::landed);
        if let Some((at, skip)) = block {
            return self.block_done(done, (at, skip), mail);
        }
        if let Err(error) = done.result {
            return self.save_error(&error, mail);
        }
        match saving.stage {
            Stage::Cutting | Stage::Streaming => saving.syncing = false,
            // One of the syncs on the way; the last one follows.
            Stage::Syncing if std::mem::take(&mut saving.syncing) => {
                self.operate(Purpose::Sync, FileOp::Sync { metadata: true });
            }
            Stage::Syncing if saving.after == After::Rewrite => {
                self.rewritten = self.saving.take().map(|saving| saving.temporary);
            }
            Stage::Syncing => {
                let renamed = std::fs::rename(&saving.temporary, &saving.name);
                match renamed.and_then(|()| File::open(".")) {
                    Err(error) => self.save_error(&error, mail),
                    Ok(directory) => {
                        saving.stage = Stage::SyncingDirectory;
                        saving.file = Some(Arc::new(directory));
                        self.operate(Purpose::SyncDirectory, FileOp::Sync { metadata: true });
                    }
                }
            }
            Stage::SyncingDirectory => self.saved(mail, now_ms),
        }
    }

    /// A block has arrived on the disk.
    fn block_done(&mut self, done: FileDone, (at, skip): (u64, usize), mail: &mut Mail) {
        let Some(saving) = self.saving.as_deref_mut() else {
            return;
        };
        let is_refused = |error: &io::Error| error.kind() == io::ErrorKind::InvalidInput;
        match done.result {
            Ok(_) => {
                if let Some(direct) = &mut saving.direct {
                    direct.recycle(done.bytes);
                }
            }
            Err(error) if is_refused(&error) => {
                // The filesystem opens such files and does not write them.
                saving.direct = None;
                if let Some(file) = &saving.file
                    && let Err(error) = file.write_all_at(&done.bytes[skip..], at)
                {
                    self.save_error(&error, mail);
                }
            }
            Err(error) => self.save_error(&error, mail),
        }
    }

    fn saved(&mut self, mail: &mut Mail, now_ms: i64) {
        let Some(saving) = self.saving.take() else {
            return;
        };
        log::notice("DB saved on disk");
        let status = &mut self.status;
        status.last_save_s = now_ms / 1000;
        status.last_took_s = (now_ms - saving.started_ms) / 1000;
        status.last_ok = true;
        status.saves += 1;
        self.points.disarm();
        let id = saving.id;
        self.tell_all(mail, || Message::SaveEnded { id, ok: true });
        if let After::Nothing = saving.after {
            log::notice("Background saving terminated with success");
        }
        if let After::Reply(requester) = saving.after {
            reply(mail, requester, Ok(()));
        }
        self.follow_up = Some(saving.after);
    }

    fn save_error(&mut self, error: &io::Error, mail: &mut Mail) {
        let Some(saving) = self.saving.take() else {
            return;
        };
        log::warning(&format!("Write error saving DB on disk: {error}"));
        discard(&saving.temporary);
        let id = saving.id;
        self.tell_all(mail, || Message::CutCancelled { id });
        self.save_failed(id, saving.after, mail);
    }

    fn save_failed(&mut self, id: u32, after: After, mail: &mut Mail) {
        if after == After::Rewrite {
            self.follow_up = Some(after);
            return;
        }
        if matches!(after, After::Sync | After::Pipe) {
            self.streamed = (id > 0).then_some((id, Outcome::Failed));
            return;
        }
        // Redis: rdb.c, a save that somebody waits for says nothing about those in the background.
        if after == After::Nothing {
            self.status.last_ok = false;
            self.tell_all(mail, || Message::SaveEnded { id, ok: false });
        }
        match after {
            After::Nothing | After::Rewrite | After::Sync | After::Pipe => {
                log::warning("Background saving error");
            }
            After::Reply(requester) => reply(mail, requester, Err(CmdError::Text("ERR"))),
            After::Reload { requester, .. } => {
                let error = CmdError::Text("ERR Error trying to save the DB, check server logs.");
                reply(mail, requester, Err(error));
            }
            After::Stop { force: true } => self.follow_up = Some(after),
            After::Stop { .. } => {
                log::warning("Error trying to save the DB, can't exit.");
                log::warning(
                    "Errors trying to shut down the server. Check the logs for more information.",
                );
                self.stays(mail);
            }
        }
    }

    /// The server does not stop after all.
    pub fn stays(&mut self, mail: &mut Mail) {
        self.tell_all(mail, || Message::Resume);
        for requester in std::mem::take(&mut self.stoppers) {
            let error = CmdError::Text("ERR Errors trying to SHUTDOWN. Check logs.");
            reply(mail, requester, Err(error));
        }
    }

    /// Gives up the snapshot in progress.
    pub fn cancel_save(&mut self, mail: &mut Mail) -> bool {
        let Some(saving) = self.saving.take() else {
            return false;
        };
        self.wanted_cut = None;
        discard(&saving.temporary);
        let id = saving.id;
        self.tell_all(mail, || Message::CutCancelled { id });
        match saving.after {
            After::Reply(requester) => reply(mail, requester, Err(CmdError::Text("ERR"))),
            After::Stop { .. } => self.stays(mail),
            After::Sync | After::Pipe => self.streamed = Some((id, Outcome::Failed)),
            After::Nothing | After::Rewrite | After::Reload { .. } => {}
        }
        true
    }
}
