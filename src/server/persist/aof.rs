//! The directory of the append-only file: its manifest, its segments, its rewrites.
//!
//! ```text
//! rewrite   new segments -> manifest {base, segments, new segments} -> cut, shards go over
//!           new base -> manifest {new base, new segments, history: the rest} -> rest deleted
//!           -> manifest {new base, new segments}
//! start     the last segments, if they are whole and one for each shard; else new segments
//! ```
//! At every instant the manifest on the disk names files that together hold everything. These
//! few small files are written and synced where they stand: a rewrite is rare.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::replay::Tails;
use crate::coordinator::merge::Merger;
use crate::journal::manifest::{self, Kind};
use crate::journal::reader::FRONT_BYTES;
use crate::journal::{Manifest, Tail};
use crate::rdb::file::About;
use crate::runtime::clock;
use crate::server::config::Config;
use crate::server::host::REDIS_VERSION;
use crate::server::log;

/// Why the directory cannot be used.
#[derive(Debug)]
pub enum AofError {
    Io(PathBuf, io::Error),
    Manifest(manifest::Error),
    /// Another server uses the directory.
    Locked(PathBuf),
}

impl std::fmt::Display for AofError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AofError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            AofError::Manifest(error) => write!(f, "the AOF manifest: {error}"),
            AofError::Locked(path) => {
                write!(f, "{} is in use by another server", path.display())
            }
        }
    }
}

/// The front of a file, empty if it cannot be read: what tells its kind.
pub fn front(path: &Path) -> Vec<u8> {
    let mut front = Vec::new();
    let file = File::open(path).map(|file| file.take(FRONT_BYTES as u64));
    match file.and_then(|mut file| file.read_to_end(&mut front)) {
        Ok(_) => front,
        Err(_) => Vec::new(),
    }
}

/// A rewrite under way.
#[derive(Debug)]
struct Rewrite {
    base: manifest::File,
    incr: Vec<manifest::File>,
    started_ms: i64,
    /// It is to begin or to go on with the append-only file; otherwise a base is all that is wanted.
    goes_on: bool,
}

/// What the shards begin with.
#[derive(Debug)]
pub struct Begin {
    pub files: Vec<Arc<File>>,
    /// Where in each file its shard goes on.
    pub tails: Tails,
}

/// The directory as shard 0 knows it.
#[derive(Debug)]
pub struct Aof {
    /// `appendonly`
    pub wanted: bool,
    /// Writes go into segments that the manifest names.
    pub on: bool,
    pub manifest: Manifest,
    directory: PathBuf,
    prefix: String,
    /// `aof-use-rdb-preamble`: bases are snapshots.
    preamble: bool,
    /// `aof-disable-auto-gc`: files that a rewrite has replaced stay.
    keeps_history: bool,
    rewrite: Option<Rewrite>,
    /// A rewrite waits for the end of a snapshot.
    pub scheduled: bool,
    pub base_bytes: u64,
    pub last_ok: bool,
    /// Rewrites that failed since the last that did not.
    pub failures: u64,
    pub last_took_s: i64,
    pub rewrites: u64,
    /// A rewrite has to replace what is damaged, or incomplete: one that failed is tried again.
    is_needed: bool,
    /// Not before this time, unix milliseconds, after one that failed.
    pub retry_ms: i64,
    /// How long nobody tries by himself, since so many failed. 0: there is no such limit.
    limit_minutes: i64,
    /// Held as long as the server runs.
    lock: Option<File>,
}

impl Default for Aof {
    fn default() -> Aof {
        Aof {
            wanted: false,
            on: false,
            manifest: Manifest::default(),
            directory: PathBuf::new(),
            prefix: String::new(),
            preamble: true,
            keeps_history: false,
            rewrite: None,
            scheduled: false,
            base_bytes: 0,
            last_ok: true,
            failures: 0,
            last_took_s: -1,
            rewrites: 0,
            is_needed: false,
            retry_ms: 0,
            limit_minutes: 0,
            lock: None,
        }
    }
}

impl Aof {
    /// Takes the names from the configuration.
    pub fn configure(&mut self, config: &Config) {
        self.directory = config.path("appenddirname");
        self.prefix = config.text("appendfilename").to_owned();
        self.preamble = config.flag("aof-use-rdb-preamble");
        self.keeps_history = config.flag("aof-disable-auto-gc");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn is_rewriting(&self) -> bool {
        self.rewrite.is_some()
    }

    /// Seconds that the rewrite under way has taken.
    pub fn rewriting_s(&self, now_ms: i64) -> i64 {
        let rewrite = self.rewrite.as_ref();
        rewrite.map_or(-1, |rewrite| (now_ms - rewrite.started_ms) / 1000)
    }

    /// Makes the directory ours alone, and reads its manifest if there is one. An append-only file
    /// of a server before Redis 7 is moved into the directory as its base.
    pub fn open(&mut self) -> Result<(), AofError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| AofError::Io(path, error)
        };
        fs::create_dir_all(&self.directory).map_err(at(&self.directory))?;
        // Servers may share a directory as long as their files have different names.
        let name = self.path(&format!(".{}.lock", self.prefix));
        let lock = File::create(&name).map_err(at(&name))?;
        if lock.try_lock().is_err() {
            return Err(AofError::Locked(self.directory.clone()));
        }
        self.lock = Some(lock);
        let path = self.path(&manifest::manifest_name(&self.prefix));
        match fs::read_to_string(&path) {
            Ok(text) => {
                self.manifest = Manifest::parse(&text).map_err(AofError::Manifest)?;
                // A migration ended between its two steps. Redis: aof.c aofUpgradePrepare.
                let is_named = self.manifest.base.as_ref().map(|base| &base.name);
                if is_named == Some(&self.prefix)
                    && self.manifest.incr.is_empty()
                    && !self.path(&self.prefix).exists()
                {
                    self.migrate()?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.migrate()?,
            Err(error) => return Err(AofError::Io(path, error)),
        }
        Ok(())
    }

    /// Moves an append-only file of one piece, if there is one, into the directory. The manifest
    /// that names it is written first: with one and without the other it is found again.
    fn migrate(&mut self) -> Result<(), AofError> {
        let old = PathBuf::from(&self.prefix);
        if !old.is_file() {
            return Ok(());
        }
        self.manifest.base = Some(manifest::File {
            name: self.prefix.clone(),
            seq: 1,
            kind: Kind::Base,
            shard: None,
        });
        let new = self.path(&self.prefix);
        self.write_manifest()
            .and_then(|()| fs::rename(&old, &new))
            .map_err(|error| AofError::Io(new, error))?;
        log::notice("Successfully migrated an old-style AOF into the AOF directory.");
        Ok(())
    }

    /// Creates one segment for each shard; the manifest does not name them yet.
    fn create_segments(&self, shards: usize) -> io::Result<(Vec<manifest::File>, Vec<Arc<File>>)> {
        let (mut named, mut files) = (Vec::new(), Vec::new());
        for shard in 0..shards {
            let seq = self.manifest.next_incr_seq() + shard as u64;
            let name = manifest::incr_name(&self.prefix, seq);
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(true);
            files.push(Arc::new(options.open(self.path(&name))?));
            named.push(manifest::File {
                name,
                seq,
                kind: Kind::Incr,
                // A single shard's segment is one like Redis', beside its comments.
                shard: (shards > 1).then_some(shard as u32),
            });
        }
        Ok((named, files))
    }

    /// At the start: segments to go on with, beside what was loaded: the last ones, if they are
    /// those of so many shards and end as `tails` says. Otherwise new ones, and segments of a run in
    /// which nothing was written are dropped.
    pub fn begin(&mut self, shards: usize, tails: Option<&Tails>) -> io::Result<Begin> {
        self.sync_segments()?;
        let tails = tails.filter(|tails| self.is_of_last(shards, &tails.segments));
        if let Some(tails) = tails {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            let names = self.manifest.incr.iter().rev().take(shards).rev();
            let files = names.map(|file| options.open(self.path(&file.name)).map(Arc::new));
            let files = files.collect::<io::Result<Vec<_>>>()?;
            self.discard_history()?;
            self.note_base();
            self.on = true;
            let tails = tails.clone();
            return Ok(Begin { files, tails });
        }
        let files = self.begin_anew(shards)?;
        let tails = Tails {
            segments: vec![Tail::default(); shards],
            last_transaction: 0,
        };
        Ok(Begin { files, tails })
    }

    /// What the server before handed to the kernel may not be on the disk: nothing that is served
    /// from now on may be newer than what a machine that stops has.
    fn sync_segments(&self) -> io::Result<()> {
        for file in &self.manifest.incr {
            File::open(self.path(&file.name))?.sync_data()?;
        }
        Ok(())
    }

    /// Whether these are the ends of the last segments, and each shard has one of them.
    fn is_of_last(&self, shards: usize, tails: &[Tail]) -> bool {
        let incr = &self.manifest.incr;
        let Some(first) = incr.len().checked_sub(shards).filter(|_| shards > 0) else {
            return false;
        };
        let is_ours = |(shard, (file, tail)): (usize, (&manifest::File, &Tail))| {
            let of = (shards > 1).then_some(shard as u32);
            file.shard == of && self.size_of(file) == Some(tail.at)
        };
        let last = incr[first..].iter().zip(tails);
        tails.len() == shards && last.enumerate().all(is_ours)
    }

    fn begin_anew(&mut self, shards: usize) -> io::Result<Vec<Arc<File>>> {
        if self.manifest.base.is_none() && self.manifest.incr.is_empty() {
            self.create_empty_base()?;
        }
        let dropped = self.empty_generations();
        let (named, files) = self.create_segments(shards)?;
        self.manifest.incr.retain(|file| !dropped.contains(file));
        self.manifest.incr.extend(named);
        self.write_manifest()?;
        for file in dropped {
            super::discard(&self.path(&file.name));
        }
        self.discard_history()?;
        self.note_base();
        self.on = true;
        Ok(files)
    }

    /// `aof-disable-auto-gc` has changed, perhaps.
    pub fn keep_history(&mut self, keeps: bool) {
        self.keeps_history = keeps;
        if let Err(error) = self.discard_history() {
            log::warning(&format!("Can't write the AOF manifest: {error}"));
        }
    }

    /// Deletes the files that are not needed any more, unless they are to be kept.
    fn discard_history(&mut self) -> io::Result<()> {
        if self.keeps_history || self.manifest.history.is_empty() {
            return Ok(());
        }
        for file in std::mem::take(&mut self.manifest.history) {
            super::discard(&self.path(&file.name));
        }
        self.write_manifest()
    }

    /// Segments of generations in which no shard wrote anything.
    fn empty_generations(&self) -> Vec<manifest::File> {
        let is_empty = |file: &manifest::File| self.size_of(file) == Some(0);
        let begins = |a: &manifest::File, b: &manifest::File| a.shard < b.shard;
        let generations = self.manifest.incr.chunk_by(begins);
        let empty = generations.filter(|generation| generation.iter().all(is_empty));
        empty.flatten().cloned().collect()
    }

    /// The next base, which the manifest does not name yet.
    fn next_base(&self) -> manifest::File {
        let seq = self.manifest.next_base_seq();
        manifest::File {
            name: manifest::base_name(&self.prefix, seq, self.preamble),
            seq,
            kind: Kind::Base,
            shard: None,
        }
    }

    /// Bytes of a file; `None` if it is not there.
    fn size_of(&self, file: &manifest::File) -> Option<u64> {
        let about = fs::metadata(self.path(&file.name));
        about.ok().map(|about| about.len())
    }

    fn create_empty_base(&mut self) -> io::Result<()> {
        let base = self.next_base();
        let mut merger = match self.preamble {
            true => Merger::new(&[], true),
            false => Merger::of_commands(&[]),
        };
        let mut bytes = Vec::new();
        let about = About {
            redis_version: REDIS_VERSION,
            created_s: clock::now().unix_ms() as u64 / 1000,
            used_memory_bytes: 0,
            replication: None,
            is_aof_base: true,
        };
        merger.begin(&about, &mut bytes);
        merger.end(&mut bytes);
        let mut file = File::create(self.path(&base.name))?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        log::notice(&format!(
            "Creating AOF base file {} on server start",
            base.name
        ));
        self.manifest.base = Some(base);
        Ok(())
    }

    fn note_base(&mut self) {
        let base = self.manifest.base.as_ref();
        self.base_bytes = base.and_then(|base| self.size_of(base)).unwrap_or(0);
    }

    /// What there is does not do without a new base.
    pub fn need_base(&mut self) {
        self.is_needed = true;
        self.scheduled = true;
    }

    /// Begins a rewrite: the segments that the shards go over to at the cut.
    pub fn begin_rewrite(&mut self, shards: usize, now_ms: i64) -> io::Result<Vec<Arc<File>>> {
        self.scheduled = false;
        match self.create_rewrite(shards) {
            Ok((incr, files)) => {
                self.rewrite = Some(Rewrite {
                    base: self.next_base(),
                    incr,
                    started_ms: now_ms,
                    goes_on: self.wanted,
                });
                Ok(files)
            }
            Err(error) => {
                self.note_failure(now_ms);
                Err(error)
            }
        }
    }

    fn create_rewrite(
        &mut self,
        shards: usize,
    ) -> io::Result<(Vec<manifest::File>, Vec<Arc<File>>)> {
        fs::create_dir_all(&self.directory)?;
        let (incr, files) = self.create_segments(shards)?;
        if self.on {
            let before = self.manifest.incr.len();
            self.manifest.incr.extend(incr.iter().cloned());
            if let Err(error) = self.write_manifest() {
                // The manifest on the disk may name them: the files stay, empty, and are the next ones.
                self.manifest.incr.truncate(before);
                return Err(error);
            }
        }
        Ok((incr, files))
    }

    /// The new base is on the disk under a temporary name.
    pub fn end_rewrite(&mut self, temporary: &Path, now_ms: i64) -> io::Result<()> {
        let Some(rewrite) = self.rewrite.take() else {
            return Ok(());
        };
        if let Err(error) = fs::rename(temporary, self.path(&rewrite.base.name)) {
            super::discard(temporary);
            self.rewrite = Some(rewrite);
            return Err(error);
        }
        let old = std::mem::take(&mut self.manifest);
        let is_new = |file: &manifest::File| rewrite.incr.contains(file);
        // In Redis' order: what is old stands last.
        let history = old
            .incr
            .into_iter()
            .rev()
            .chain(old.base)
            .chain(old.history);
        let history = history
            .filter(|file| !is_new(file))
            .map(|file| manifest::File {
                kind: Kind::History,
                ..file
            });
        let history = history.collect();
        // Redis: aof.c backgroundRewriteDoneHandler, without an append-only file only a base is made.
        let (incr, unused) = match self.wanted {
            true => (rewrite.incr, Vec::new()),
            false => (Vec::new(), rewrite.incr),
        };
        self.manifest = Manifest {
            base: Some(rewrite.base),
            history,
            incr,
        };
        if let Err(error) = self.write_manifest() {
            // Whichever manifest is on the disk, the files that it names are there.
            self.note_failure(now_ms);
            return Err(error);
        }
        for file in unused {
            super::discard(&self.path(&file.name));
        }
        self.discard_history()?;
        self.note_base();
        self.on = true;
        self.last_ok = true;
        self.is_needed = false;
        self.failures = 0;
        self.limit_minutes = 0;
        self.last_took_s = (now_ms - rewrite.started_ms) / 1000;
        self.rewrites += 1;
        log::notice("Background AOF rewrite finished successfully");
        Ok(())
    }

    /// A rewrite came to nothing: the segments it began stay in use. Those of a file that has no base yet
    /// are worth nothing without it: they go, and true says that the shards are to leave them.
    pub fn rewrite_failed(&mut self, now_ms: i64) -> bool {
        let Some(rewrite) = self.rewrite.take() else {
            return false;
        };
        log::warning("Background AOF rewrite terminated with error");
        let leaves = self.discard_unnamed(&rewrite);
        self.note_failure(now_ms);
        leaves
    }

    /// Deletes the segments of a rewrite that the manifest does not name. Returns whether there are any.
    fn discard_unnamed(&self, rewrite: &Rewrite) -> bool {
        let named = &self.manifest.incr;
        let unnamed = rewrite.incr.iter().filter(|file| !named.contains(file));
        let mut any = false;
        for manifest::File { name, .. } in unnamed {
            log::notice(&format!(
                "Removing the temp incr aof file {name} in the background"
            ));
            super::discard(&self.path(name));
            any = true;
        }
        any
    }

    fn note_failure(&mut self, now_ms: i64) {
        const RETRY_MS: i64 = 2_000;
        self.last_ok = false;
        self.failures += 1;
        self.limit_minutes = 0;
        self.retry_ms = now_ms + RETRY_MS;
        // Redis: aof.c backgroundRewriteDoneHandler, others are begun again by who wants them.
        self.scheduled = self.is_needed || self.wanted && !self.on;
    }

    /// Whether a rewrite that nobody asks for may begin. After some failures there are but few of them:
    /// each takes its time, and adds segments. Redis: aof.c aofRewriteLimited.
    pub fn may_try(&mut self, now_ms: i64) -> bool {
        const FAILURES_MAX: u64 = 3;
        const LIMIT_MAX_MINUTES: i64 = 60;
        if now_ms < self.retry_ms {
            return false;
        }
        if self.failures < FAILURES_MAX || self.limit_minutes > 0 {
            return true;
        }
        let doubled = 1_i64 << (self.failures - FAILURES_MAX).min(6);
        self.limit_minutes = doubled.min(LIMIT_MAX_MINUTES);
        self.retry_ms = now_ms + self.limit_minutes * 60_000;
        let minutes = self.limit_minutes;
        log::warning(&format!(
            "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in \
             {minutes} minutes"
        ));
        false
    }

    /// Replaces the manifest on the disk, durably.
    fn write_manifest(&self) -> io::Result<()> {
        let name = manifest::manifest_name(&self.prefix);
        let temporary = self.path(&format!("temp-{name}"));
        let mut file = File::create(&temporary)?;
        file.write_all(self.manifest.to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, self.path(&name))?;
        File::open(&self.directory)?.sync_all()
    }

    /// Whether the append-only file is there, or a rewrite is to begin it, and nobody wants it any more.
    pub fn is_turned_off(&self) -> bool {
        let begins = self.rewrite.as_ref().is_some_and(|rewrite| rewrite.goes_on);
        (self.on || begins) && !self.wanted
    }

    /// The append-only file is turned off: its files stay as they are. Those of one that did not come to
    /// be go.
    pub fn close(&mut self) {
        self.on = false;
        if let Some(rewrite) = self.rewrite.take() {
            self.discard_unnamed(&rewrite);
        }
    }
}
