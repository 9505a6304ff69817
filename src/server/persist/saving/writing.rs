//! The file of a snapshot as it grows: chunks, blocks, syncs, and its name at the end.
//!
//! In the background, blocks go past the page cache where the filesystem lets them: a fifth of the
//! kernel's time, and nothing to sync on this core. Otherwise a chunk goes into the page cache by a
//! plain `pwrite`, some tens of microseconds: the ring would hand it to a kernel thread that shares
//! this core: beside it, the p99 of other commands was 5 ms instead of 1, and 64 ms while it synced the
//! whole file at the end (`perf/durability.py`). So the ring has only syncs to do then, and often, so
//! that none is large.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::{After, Saving, Sink, Stage};
use crate::runtime::{FileDone, FileOp};
use crate::server::ask::NodeMessage;
use crate::server::log;
use crate::server::persist::direct::{BLOCK_BYTES, Direct};
use crate::server::persist::{
    Mail, Message, Operation, Outcome, Persistence, Purpose, freeing, tag,
};

/// Bytes after which what was written is synced.
const SYNC_BYTES: u64 = 2 * 1024 * 1024;

/// Chunks written in one go.
const CHUNKS_AT_ONCE: usize = 2;

/// Time between two lines of progress in the log.
const PROGRESS_MS: i64 = 5_000;

impl Persistence {
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
            let Some((from, chunk)) = saving.take_chunk() else {
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
        match &saving.sink {
            Sink::File(file) => {
                if let Err(error) = file.write_all_at(&bytes, saving.at) {
                    self.save_error(&error, mail);
                    return false;
                }
            }
            Sink::Pipe(pipe) => {
                if ends {
                    pipe.end(&mut bytes);
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
        let more = saving.next_at().is_some() && saving.delayed_until_ms.is_none();
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
            && let Some((keys, all)) = saving.progress(now_ms)
        {
            saving.told_ms = now_ms;
            log::notice(&format!("Saving: {keys} of {all} keys written"));
        }
    }

    /// All chunks are written: the version at the front is put right, and all of it synced.
    fn end_file(&mut self, mail: &mut Mail) -> bool {
        let Some(saving) = self.saving.as_deref_mut() else {
            return false;
        };
        if let (Some(front), Some(file)) = (saving.front.take(), saving.sink.file())
            && let Err(error) = file.write_all_at(&front, 0)
        {
            self.save_error(&error, mail);
            return false;
        }
        if matches!(saving.after, After::Sync | After::Pipe) {
            // It is gone with its last reader: nothing of it has to be durable.
            self.streamed = self.saving.take().map(|saving| match saving.sink {
                Sink::File(file) => (saving.id, Outcome::File(file, saving.at)),
                Sink::Pipe(_) => (saving.id, Outcome::Piped),
            });
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
                && (saving.next_at().is_some() || ends(saving))
                && saving.delayed_until_ms.is_none_or(is_due)
        })
    }

    fn operate(&mut self, purpose: Purpose, op: FileOp) {
        if let Some(saving) = &self.saving
            && let Some(file) = saving.sink.file()
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
                let rename = || std::fs::rename(&saving.temporary, &saving.name);
                let renamed = freeing(&saving.name, rename);
                let directory = saving.name.parent();
                match renamed.and_then(|()| File::open(directory.unwrap_or(Path::new(".")))) {
                    Err(error) => self.save_error(&error, mail),
                    Ok(directory) => {
                        saving.stage = Stage::SyncingDirectory;
                        saving.sink = Sink::File(Arc::new(directory));
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
                if let Some(file) = saving.sink.file()
                    && let Err(error) = file.write_all_at(&done.bytes[skip..], at)
                {
                    self.save_error(&error, mail);
                }
            }
            Err(error) => self.save_error(&error, mail),
        }
    }
}
