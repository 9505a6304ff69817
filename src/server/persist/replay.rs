//! Recovery from segments: what is whole in them is run again by a session of the server's own.
//!
//! All files are read before anything is run: where each ends, and which transactions over several
//! shards have all their parts. A generation of segments is run up to its next barrier, shard by
//! shard, then the barrier, and so on; commands find their homes anew, so the number of shards may
//! have changed. Time stands still at 0 meanwhile: nothing expires that a record does not delete.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::PathBuf;

use ahash::{AHashMap, AHashSet};

use crate::journal::{Fault, Item, Mark, Reader, reader};
use crate::server::log;
use crate::session::{Core, Host, Link, State};
use crate::shard::message::SessionKey;

/// The session that runs what is read: no connection has this place.
pub const SESSION: SessionKey = 0;
const READ_BYTES: usize = 1024 * 1024;
/// Units or commands of one slice.
const SLICE: usize = 1024;

/// Why a directory cannot be recovered.
#[derive(Debug)]
pub enum ReplayError {
    Io(PathBuf, io::Error),
    Damaged {
        path: PathBuf,
        at: u64,
        reason: &'static str,
    },
    /// `aof-load-truncated no`
    Torn(PathBuf),
    Unknown(PathBuf, String),
}

impl std::fmt::Display for ReplayError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReplayError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            ReplayError::Damaged { path, at, reason } => write!(
                f,
                "Bad file format reading the append only file {} at offset {at}: {reason}. Make a \
                 backup of your AOF file, then use pinion check-aof --fix <filename.manifest>",
                path.display()
            ),
            ReplayError::Unknown(path, name) => write!(
                f,
                "Unknown command '{name}' reading the append only file {}",
                path.display()
            ),
            ReplayError::Torn(path) => write!(
                f,
                "Unexpected end of file reading the append only file {}. You can: 1) Make a backup \
                 of your AOF file, then use pinion check-aof --fix <filename.manifest>. 2) \
                 Alternatively you can set the 'aof-load-truncated' configuration option to yes and \
                 restart the server.",
                path.display()
            ),
        }
    }
}

/// One file of commands.
pub struct Source {
    pub path: PathBuf,
    /// A segment of ours, and whose.
    pub framed: bool,
    pub shard: u32,
    /// Where the commands begin: behind the snapshot that an old file begins with.
    pub from: u64,
}

/// Reads one file.
struct Track {
    path: PathBuf,
    file: File,
    reader: Reader,
    at_end: bool,
    /// A barrier that waits for the others.
    barrier: Option<Item>,
}

impl Track {
    fn open(source: &Source) -> Result<Track, ReplayError> {
        let fail = |error| ReplayError::Io(source.path.clone(), error);
        let mut file = File::open(&source.path).map_err(fail)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(source.from)).map_err(fail)?;
        Ok(Track {
            path: source.path.clone(),
            file,
            reader: Reader::new(source.framed),
            at_end: false,
            barrier: None,
        })
    }

    /// The next item; `None` at the end.
    fn next(&mut self) -> Result<Result<Option<Item>, Fault>, ReplayError> {
        loop {
            match self.reader.next_item() {
                Ok(None) if !self.at_end => {
                    let mut bytes = vec![0; READ_BYTES];
                    let read = self.file.read(&mut bytes);
                    let n = read.map_err(|error| ReplayError::Io(self.path.clone(), error))?;
                    if n == 0 {
                        self.at_end = true;
                        self.reader.end_input();
                    } else {
                        self.reader.feed(&bytes[..n]);
                    }
                }
                found => return Ok(found),
            }
        }
    }
}

/// A recovery in progress.
pub struct Replay {
    /// Files that go together, those to come last first.
    generations: Vec<Vec<Source>>,
    tracks: Vec<Track>,
    at: usize,
    /// The generation that is read, from 1.
    generation: usize,
    /// Transactions that lack a part, by generation: each numbers its own.
    incomplete: AHashSet<(usize, u64)>,
    pub dropped: u64,
    begun: bool,
}

impl Replay {
    /// Reads all files once. Torn ends are cut off if `mends`.
    pub fn prepare(generations: Vec<Vec<Source>>, mends: bool) -> Result<Replay, ReplayError> {
        let mut marks: Vec<(usize, Mark, u32)> = Vec::new();
        let mut seen = 0;
        let last = last_with_content(&generations);
        for (number, sources) in generations.iter().enumerate() {
            for source in sources {
                seen += 1;
                let mut track = Track::open(source)?;
                let fault = loop {
                    match track.next()? {
                        Ok(Some(item)) => {
                            marks.extend(item.mark.map(|mark| (number + 1, mark, source.shard)));
                        }
                        Ok(None) => break None,
                        Err(fault) => break Some(fault),
                    }
                };
                let may_be_torn = source.framed || seen >= last;
                judge(source, fault, may_be_torn, mends)?;
            }
        }
        let mut generations = generations;
        generations.reverse();
        Ok(Replay {
            generations,
            tracks: Vec::new(),
            at: 0,
            generation: 0,
            incomplete: incomplete(&marks),
            dropped: 0,
            begun: false,
        })
    }

    /// Runs a part of it. Returns whether all of it has run.
    pub fn slice(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Result<bool, ReplayError> {
        if !std::mem::replace(&mut self.begun, true) {
            let client = crate::command::Client {
                databases: core.shard.keyspace.databases(),
                authenticated: true,
                ..Default::default()
            };
            let peer = crate::session::Peer::Unix("append-only file".to_owned());
            core.open(SESSION, client, peer, -1, 0);
        }
        for _ in 0..SLICE {
            let is_free = core
                .session(SESSION)
                .is_some_and(|it| it.state == State::Running && it.input.is_empty());
            if !is_free {
                return Ok(false);
            }
            match self.next()? {
                None => {
                    core.closed(SESSION, link);
                    return Ok(true);
                }
                Some(item) => {
                    self.check_names(&item, core)?;
                    core.receive(SESSION, &item.commands, link, host);
                }
            }
        }
        Ok(false)
    }

    /// A command that nobody knows is damage, or of a later version: nothing is recovered by half.
    fn check_names(&self, item: &Item, core: &Core) -> Result<(), ReplayError> {
        for name in reader::names(&item.commands) {
            if !core.table.has(name) {
                let track = self
                    .tracks
                    .get(self.at.min(self.tracks.len().saturating_sub(1)));
                let path = track.map(|track| track.path.clone()).unwrap_or_default();
                let name = String::from_utf8_lossy(name).into_owned();
                return Err(ReplayError::Unknown(path, name));
            }
        }
        Ok(())
    }

    /// Whether the session waits for something that a message will end.
    pub fn waits(&self, core: &Core) -> bool {
        self.begun
            && core
                .session(SESSION)
                .is_some_and(|it| it.state != State::Running || !it.input.is_empty())
    }

    /// What is to be run next.
    fn next(&mut self) -> Result<Option<Item>, ReplayError> {
        loop {
            while self.at < self.tracks.len() {
                let track = &mut self.tracks[self.at];
                let found = match &track.barrier {
                    Some(_) => Ok(None),
                    None => track.next()?,
                };
                match found {
                    Ok(Some(item)) if self.is_dropped(&item) => self.dropped += 1,
                    Ok(Some(item)) if item.barrier.is_some() => {
                        self.tracks[self.at].barrier = Some(item);
                        self.at += 1;
                    }
                    Ok(Some(item)) => return Ok(Some(item)),
                    // A torn end was cut off, or found to be harmless, before.
                    Ok(None) | Err(_) => self.at += 1,
                }
            }
            self.at = 0;
            let mut barriers = self
                .tracks
                .iter_mut()
                .filter_map(|track| track.barrier.take());
            if let Some(first) = barriers.next() {
                // The others of its kind are empty: shard 0's stands first.
                barriers.for_each(drop);
                return Ok(Some(first));
            }
            let Some(generation) = self.generations.pop() else {
                return Ok(None);
            };
            self.generation += 1;
            self.tracks = generation
                .iter()
                .map(Track::open)
                .collect::<Result<_, _>>()?;
        }
    }

    fn is_dropped(&self, item: &Item) -> bool {
        let generation = self.generation;
        let is_incomplete = |mark: &Mark| self.incomplete.contains(&(generation, mark.id));
        item.mark.as_ref().is_some_and(is_incomplete)
    }
}

/// The number, from 1, of the last file with anything in it: the one that the server was writing.
fn last_with_content(generations: &[Vec<Source>]) -> usize {
    let sources: Vec<&Source> = generations.iter().flatten().collect();
    let has_content = |source: &&Source| {
        let about = std::fs::metadata(&source.path);
        about.is_ok_and(|about| about.len() > source.from)
    };
    sources.iter().rposition(has_content).map_or(0, |at| at + 1)
}

/// Transactions of which a shard that is to have a part has none.
fn incomplete(marks: &[(usize, Mark, u32)]) -> AHashSet<(usize, u64)> {
    let mut has: AHashMap<(usize, u64), AHashSet<u32>> = AHashMap::new();
    for (generation, mark, shard) in marks {
        let parts = has.entry((*generation, mark.id)).or_default();
        parts.insert(*shard);
    }
    let ids = marks.iter().filter_map(|(generation, mark, _)| {
        let id = (*generation, mark.id);
        let is_whole = mark.shards.iter().all(|shard| has[&id].contains(shard));
        (!is_whole).then_some(id)
    });
    ids.collect()
}

/// What to do about the end of a file.
fn judge(
    source: &Source,
    fault: Option<Fault>,
    may_be_torn: bool,
    mends: bool,
) -> Result<(), ReplayError> {
    let path = source.path.clone();
    match fault {
        None => Ok(()),
        Some(Fault::Damaged { at, reason }) => Err(ReplayError::Damaged {
            path,
            at: source.from + at,
            reason,
        }),
        Some(Fault::Torn { valid_to }) if may_be_torn && mends => {
            let valid_to = source.from + valid_to;
            let name = path.display();
            log::warning(&format!(
                "!!! Warning: short read while loading the AOF file {name}!!!"
            ));
            log::warning(&format!(
                "AOF {name} loaded anyway because aof-load-truncated is enabled: it ends at {valid_to}"
            ));
            let file = OpenOptions::new().write(true).open(&path);
            let cut = file.and_then(|file| file.set_len(valid_to));
            cut.map_err(|error| ReplayError::Io(path, error))
        }
        Some(Fault::Torn { .. }) => Err(ReplayError::Torn(path)),
    }
}
