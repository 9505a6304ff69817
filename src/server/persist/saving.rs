//! Writing a snapshot: the shards' chunks, merged, into a temporary file that takes the name of the
//! real one once it is durable.

mod ending;
mod writing;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::direct::{BLOCK_BYTES, Direct};
use super::pipe::Pipe;
use super::{Mail, Message, Persistence};
use crate::coordinator::merge::Merger;
use crate::keyspace::cut::{Chunk, Clocks, Sizes};
use crate::rdb::file::{About, Replication};
use crate::script::library;
use crate::server::ask::Requester;
use crate::server::config::Config;
use crate::server::following::{Past, SETTLE_MS};
use crate::server::host::REDIS_VERSION;
use crate::server::log;
use crate::shard::message::Cut;
use crate::shard::snapshot::Style;

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
    Reload,
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

/// Where a snapshot goes.
enum Sink {
    File(Arc<File>),
    /// Straight to replicas: nothing of it is written to a disk.
    Pipe(Pipe),
}

impl Sink {
    /// Makes the file of a snapshot, if it has one. One for replicas has no name, so that nothing is
    /// left of it.
    fn open(path: &Path, after: After) -> io::Result<Sink> {
        let file = match after {
            After::Pipe => return Ok(Sink::Pipe(Pipe::new())),
            After::Sync => create_unnamed(path)?,
            _ => File::create(path)?,
        };
        Ok(Sink::File(Arc::new(file)))
    }

    fn file(&self) -> Option<&Arc<File>> {
        match self {
            Sink::File(file) => Some(file),
            Sink::Pipe(_) => None,
        }
    }
}

/// A snapshot in progress.
pub struct Saving {
    id: u32,
    stage: Stage,
    sink: Sink,
    /// The way past the page cache.
    direct: Option<Direct>,
    /// Under which name it is being written, and under which it will be found.
    temporary: PathBuf,
    name: PathBuf,
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
    /// Nodes that may still tell clients of something that began before the last snapshot was asked
    /// for: its cut waits for them.
    unsettled: usize,
    sizes: Vec<Option<Sizes>>,
    used_bytes: u64,
    /// Fields of hashes may expire in it.
    expiring_fields: bool,
    /// The stream that continues it, and whether that is still to be told.
    past: Option<Past>,
    awaits_past: Option<PastFrom>,
    merger: Option<Merger>,
    libraries: Arc<library::Set>,
    /// Shards that have sent their last chunk.
    ended: usize,
    chunks: VecDeque<(usize, Box<Chunk>)>,
    /// The shard whose last chunk goes on in its next.
    amid: Option<usize>,
    at: u64,
    /// How far the file has been synced, or is being.
    synced: u64,
    syncing: bool,
    front: Option<Vec<u8>>,
    /// Buffer for the next write.
    spare: Vec<u8>,
}

impl Saving {
    /// Keys written so far, and keys there are: `None` until all shards have told of their cuts.
    pub fn progress(&self, now_ms: i64) -> Option<(u64, usize)> {
        let merger = self.merger.as_ref()?;
        let mut keys = merger.keys;
        if let (Some(until_ms), Some((_, chunk))) = (self.delayed_until_ms, self.next_chunk()) {
            let left = (until_ms - now_ms).max(0) as u64 * 1000 / self.key_delay_us.max(1);
            keys += chunk.keys.saturating_sub(left + 1);
        }
        Some((keys, merger.keys_expected()))
    }

    /// When `rdb-key-save-delay` lets the next chunk be written: unix milliseconds.
    pub fn delayed_until_ms(&self) -> Option<i64> {
        self.delayed_until_ms
    }

    /// Where the chunk stands that is written next: an entry's pieces follow each other.
    fn next_at(&self) -> Option<usize> {
        match self.amid {
            None => (!self.chunks.is_empty()).then_some(0),
            Some(amid) => self.chunks.iter().position(|(from, _)| *from == amid),
        }
    }

    fn next_chunk(&self) -> Option<&(usize, Box<Chunk>)> {
        self.chunks.get(self.next_at()?)
    }

    fn take_chunk(&mut self) -> Option<(usize, Box<Chunk>)> {
        let (from, chunk) = self.chunks.remove(self.next_at()?)?;
        self.amid = chunk.goes_on.then_some(from);
        Some((from, chunk))
    }

    /// Whether the chunk that is next has to wait for what its keys are to take.
    fn is_delayed(&mut self, now_ms: i64) -> bool {
        if self.key_delay_us == 0 {
            return false;
        }
        let Some((_, chunk)) = self.next_chunk() else {
            return false;
        };
        let takes_ms = (chunk.keys.saturating_mul(self.key_delay_us) / 1000) as i64;
        let until_ms = *self.delayed_until_ms.get_or_insert(now_ms + takes_ms);
        let waits = now_ms < until_ms;
        if !waits {
            self.delayed_until_ms = None;
        }
        waits
    }

    /// `rdb-key-save-delay` has changed, perhaps.
    fn set_key_delay(&mut self, delay_us: u64) {
        if self.key_delay_us != delay_us {
            self.key_delay_us = delay_us;
            self.delayed_until_ms = None;
        }
    }

    fn is_flying(&self) -> bool {
        self.direct.as_ref().is_some_and(Direct::is_busy)
    }

    /// Whether a block has to arrive before the next is filled.
    fn waits(&self) -> bool {
        match &self.sink {
            Sink::File(_) => self.is_flying() && self.spare.len() >= BLOCK_BYTES,
            Sink::Pipe(pipe) => pipe.is_full,
        }
    }

    pub fn after(&self) -> After {
        self.after
    }

    /// Whether its cut is still to come, on some shard at least.
    pub fn is_cutting(&self) -> bool {
        self.stage == Stage::Cutting
    }

    /// Whether it may be given up for no more than that somebody asks: a BGSAVE, or what a replica waits
    /// for and asks for again.
    pub fn is_plain(&self) -> bool {
        matches!(self.after, After::Nothing | After::Sync | After::Pipe)
    }

    /// Whether somebody waits for its end, or the server's waits for it.
    pub fn is_awaited(&self) -> bool {
        matches!(
            self.after,
            After::Reply(_) | After::Reload | After::Stop { .. }
        )
    }

    pub(super) fn pipe_mut(&mut self) -> Option<&mut Pipe> {
        match &mut self.sink {
            Sink::File(_) => None,
            Sink::Pipe(pipe) => Some(pipe),
        }
    }
}

/// `rdb-key-save-delay`
fn key_delay_us(config: &Config) -> u64 {
    u64::try_from(config.int("rdb-key-save-delay")).unwrap_or(0)
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

/// What tells where in the stream a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastFrom {
    /// The shards' feeds of this name, once all have passed the cut.
    Feeds(u32),
    /// The master's stream, once all parts of the cut have begun.
    Master,
}

fn temporary_name(after: After) -> String {
    let pid = std::process::id();
    match after {
        After::Rewrite => format!("temp-rewriteaof-bg-{pid}.aof"),
        After::Sync => format!("temp-sync-{pid}.rdb"),
        _ => format!("temp-{pid}.rdb"),
    }
}

/// The path of a file that is to have its name in the present directory, also if `dir` changes before
/// it has. What a new base of the append-only file is written to goes with the manifest.
fn here(name: &Path, after: After) -> PathBuf {
    let directory = std::env::current_dir().ok();
    let directory = directory.filter(|_| after != After::Rewrite);
    directory.map_or_else(|| name.to_owned(), |it| it.join(name))
}

fn create_unnamed(path: &Path) -> io::Result<File> {
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
        let name = here(&config.path("dbfilename"), after);
        let temporary = here(Path::new(&temporary_name(after)), after);
        let sink = match Sink::open(&temporary, after) {
            Ok(sink) => sink,
            Err(error) => {
                log::warning(&format!(
                    "Failed opening the temp RDB file {} (in server root dir {}) for saving: {error}",
                    temporary.display(),
                    config.path("dir").display()
                ));
                return self.save_failed(0, after, mail);
            }
        };
        let id = self.new_id();
        let style = style(config, after);
        self.saving = Some(Box::new(Saving {
            id,
            stage: Stage::Cutting,
            sink,
            // What is read again soon stays in the page cache.
            direct: match after {
                After::Nothing | After::Rewrite => Direct::open(&temporary),
                After::Sync
                | After::Pipe
                | After::Reply(_)
                | After::Reload
                | After::Stop { .. } => None,
            },
            temporary,
            name,
            checksum: config.flag("rdbchecksum"),
            commands: style.commands,
            timestamps: style.commands && config.flag("aof-timestamp-enabled"),
            after,
            yields: false,
            key_delay_us: key_delay_us(config),
            delayed_until_ms: None,
            started_ms: now_ms,
            told_ms: now_ms,
            unsettled: 0,
            sizes: vec![None; self.shards],
            used_bytes: 0,
            expiring_fields: false,
            past: None,
            awaits_past: None,
            merger: None,
            libraries: Arc::default(),
            ended: 0,
            chunks: VecDeque::new(),
            amid: None,
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

    /// The cut of the snapshot in progress comes behind all that clients have under way.
    pub fn settle_first(&mut self, mail: &mut Mail) {
        let Some(saving) = &mut self.saving else {
            return;
        };
        saving.unsettled = self.shards;
        let id = saving.id;
        self.tell_all(mail, || Message::Settle { id });
    }

    /// Nothing of a node's clients is under way.
    pub fn node_is_settled(&mut self, id: u32) {
        if let Some(saving) = self.saving_of(id) {
            saving.unsettled = saving.unsettled.saturating_sub(1);
        }
    }

    /// Until when the cut waits for nodes, unix milliseconds. A script may run for ever.
    pub fn unsettled_until_ms(&self) -> Option<i64> {
        let saving = self.saving.as_ref().filter(|it| it.unsettled > 0)?;
        Some(saving.started_ms.saturating_add(SETTLE_MS))
    }

    /// Whether a cut is to be begun now.
    pub fn wants_cut(&self, now_ms: i64) -> bool {
        let waits = self.unsettled_until_ms().is_some_and(|it| now_ms < it);
        self.wanted_cut.is_some() && !waits
    }

    /// `rdb-key-save-delay` holds for a snapshot under way as well.
    pub fn configure_saving(&mut self, config: &Config) {
        if let Some(saving) = &mut self.saving {
            saving.set_key_delay(key_delay_us(config));
        }
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
        let file = create_unnamed(Path::new(&temporary))?;
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
            // As they were at the cut, about: only shard 0 changes them. What it changes in between
            // stands in its new segment as well, and means the same when it is read.
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
        self.saving.as_deref().is_some_and(Saving::is_cutting)
    }

    /// The snapshot is not written before it is known where in the stream it is.
    pub fn await_past(&mut self, id: u32, from: PastFrom) {
        if let Some(saving) = self.saving_of(id) {
            saving.awaits_past = Some(from);
        }
    }

    /// What is to tell where in the stream the snapshot is, and the snapshot's number.
    pub fn awaited_past(&self) -> Option<(u32, PastFrom)> {
        let saving = self.saving.as_deref()?;
        Some((saving.id, saving.awaits_past?))
    }

    /// Nobody will tell where in the stream the snapshot is: it does without, or is given up if it is
    /// for replicas.
    pub fn give_up_past(&mut self, id: u32, now_ms: i64, mail: &mut Mail) {
        let is_for_replicas = |saving: &Saving| matches!(saving.after, After::Sync | After::Pipe);
        if self.cancel_save_if(is_for_replicas, mail) {
            return;
        }
        if let Some(saving) = self.saving_of(id) {
            saving.awaits_past = None;
            self.begin_file(id, now_ms);
        }
    }

    /// Where in the stream it is.
    pub fn cut_passed(&mut self, id: u32, past: Past, now_ms: i64) {
        if let Some(saving) = self.saving_of(id) {
            saving.past = Some(past);
            saving.awaits_past = None;
            self.begin_file(id, now_ms);
        }
    }

    /// Begins to write once all is known that stands at the front.
    fn begin_file(&mut self, id: u32, now_ms: i64) {
        let Some(saving) = self.saving_of(id) else {
            return;
        };
        let misses = saving.awaits_past.is_some() || saving.sizes.iter().any(Option::is_none);
        if misses || saving.stage != Stage::Cutting {
            return;
        }
        let sizes: Vec<Sizes> = saving.sizes.iter_mut().filter_map(Option::take).collect();
        let mut merger = match &saving.sink {
            Sink::Pipe(pipe) => {
                pipe.begin(&mut saving.spare);
                Merger::of_stream(&sizes, saving.checksum, saving.expiring_fields)
            }
            Sink::File(_) if saving.commands => Merger::of_commands(&sizes),
            Sink::File(_) => Merger::new(&sizes, saving.checksum),
        };
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

    /// Whether the last snapshot of a server that stops is being written.
    pub fn saves_last(&self) -> bool {
        let is_last = |saving: &Saving| matches!(saving.after, After::Stop { .. });
        self.saving.as_deref().is_some_and(is_last)
    }
}
