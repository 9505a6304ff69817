//! Recovery from segments: what is whole in them is run again by a session of the server's own.
//!
//! With several shards, commands go home in batches ([`Lanes`]).
//!
//! All files are read before anything is run: where each ends, and what does not count since a part of
//! it is missing. Commands find their homes anew, so the number of shards may have changed. Time stands still at 0 meanwhile: nothing expires that a record does not delete.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::PathBuf;

use super::lanes::{Lanes, Step};
use crate::command::{Lookup, Table, keys};
use crate::journal::recovery::{Census, Key, LeftOut, Order, Units};
use crate::journal::{Fault, Item, Reader, Tail, reader};
use crate::resp::{Limits, Parsed, Parser};
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
            ReplayError::Io(path, error) => write!(
                f,
                "Fatal error: can't open the append log file {} for reading: {error}",
                path.display()
            ),
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

impl Units for Track {
    type Error = ReplayError;

    fn next_unit(&mut self) -> Result<Option<Item>, ReplayError> {
        // A torn end was cut off, or found to be harmless, before.
        Ok(self.next()?.unwrap_or(None))
    }
}

/// A recovery in progress.
pub struct Replay {
    generations: Vec<Vec<Source>>,
    /// The generation that is read, and the number of the next.
    order: Option<Order<Track>>,
    next: usize,
    left_out: LeftOut,
    pub dropped: u64,
    begun: bool,
    tails: Option<Tails>,
    pub lanes: Lanes,
}

/// How the segments of the last generation end.
#[derive(Clone, Debug, Default)]
pub struct Tails {
    pub segments: Vec<Tail>,
    /// See [`Census::last_transaction`].
    pub last_transaction: u64,
}

impl Replay {
    /// Reads all files once, and those that need it again. Torn ends are cut off if `mends`.
    pub fn prepare(
        generations: Vec<Vec<Source>>,
        has_base: bool,
        mends: bool,
        (table, shards): (&Table, usize),
    ) -> Result<Replay, ReplayError> {
        let lanes = Lanes::new(shards);
        let mut census = Census::new(has_base);
        let mut seen = 0;
        let mut tails = Tails::default();
        let last = last_with_content(&generations);
        for (number, sources) in generations.iter().enumerate() {
            tails.segments.clear();
            for source in sources {
                seen += 1;
                let mut track = Track::open(source)?;
                let fault = loop {
                    match track.next()? {
                        Ok(Some(item)) => census.note(number, source.shard, &item),
                        Ok(None) => break None,
                        Err(fault) => break Some(fault),
                    }
                };
                let may_be_torn = source.framed || seen >= last;
                let at = match fault {
                    Some(Fault::Torn { valid_to }) => valid_to,
                    _ => track.reader.end(),
                };
                judge(source, fault, may_be_torn, mends)?;
                let (shard, seq) = (source.shard, track.reader.seq());
                let tail = census.tail(number, shard, seq, source.from + at);
                tails.segments.push(tail);
            }
            tails.last_transaction = census.last_transaction(number);
        }
        let shards = |sources: &Vec<Source>| sources.iter().map(|source| source.shard).collect();
        let left_out = census.left_out(
            &generations.iter().map(shards).collect::<Vec<_>>(),
            |generation, index| Track::open(&generations[generation][index]),
            |commands, keys| keys_of(table, commands, keys),
        )?;
        Ok(Replay {
            generations,
            order: None,
            next: 0,
            left_out,
            dropped: 0,
            begun: false,
            tails: census.is_whole().then_some(tails),
            lanes,
        })
    }

    /// How the segments of the last generation end, if a server can go on with them.
    pub fn tails(&self) -> Option<&Tails> {
        self.tails.as_ref()
    }

    /// Runs a part of it. Returns whether all of it has run.
    pub fn slice(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        host: &mut dyn Host,
    ) -> Result<bool, ReplayError> {
        if !std::mem::replace(&mut self.begun, true) {
            open_session(core);
        }
        let table = core.table.clone();
        for _ in 0..SLICE {
            if !is_free(core) {
                return Ok(false);
            }
            match self.lanes.step(&table) {
                Step::Waits => return Ok(false),
                Step::Alone(commands) => {
                    core.receive(SESSION, &commands, link, host);
                    continue;
                }
                Step::Empty => {}
            }
            match self.next()? {
                None if !self.lanes.is_idle() => return Ok(false),
                None => {
                    core.closed(SESSION, link);
                    return Ok(true);
                }
                Some(item) => {
                    self.check_names(&item, core)?;
                    match core.shard.place.shards {
                        1 => core.receive(SESSION, &item.commands, link, host),
                        _ => self.lanes.begin(item.commands),
                    }
                }
            }
        }
        Ok(false)
    }

    /// A command that nobody knows is damage, or of a later version: nothing is recovered by half.
    fn check_names(&self, item: &Item, core: &Core) -> Result<(), ReplayError> {
        for name in reader::names(&item.commands) {
            if core.table.find_recorded(name).is_none() {
                let track = self.order.as_ref().and_then(Order::current);
                let path = track.map(|track| track.path.clone()).unwrap_or_default();
                let name = String::from_utf8_lossy(name).into_owned();
                return Err(ReplayError::Unknown(path, name));
            }
        }
        Ok(())
    }

    /// Whether the session waits for something that a message will end.
    pub fn waits(&self, core: &Core) -> bool {
        self.begun && (self.lanes.waits() || core.session(SESSION).is_some() && !is_free(core))
    }

    /// What is to be run next.
    fn next(&mut self) -> Result<Option<Item>, ReplayError> {
        loop {
            if let Some(order) = &mut self.order {
                if let Some(item) = order.next(&self.left_out)? {
                    return Ok(Some(item));
                }
                self.dropped += order.dropped;
            }
            let Some(sources) = self.generations.get(self.next) else {
                self.order = None;
                return Ok(None);
            };
            let open = |source: &Source| Ok((source.shard, Track::open(source)?));
            let tracks: Result<Vec<_>, ReplayError> = sources.iter().map(open).collect();
            self.order = Some(Order::new(self.next, tracks?));
            self.next += 1;
        }
    }
}

/// Opens the session that runs what is recovered on this core, if there is none.
pub fn open_session(core: &mut Core) {
    if core.session(SESSION).is_none() {
        let client = crate::command::Client {
            databases: core.shard.keyspace.databases(),
            authenticated: true,
            ..Default::default()
        };
        let peer = crate::session::Peer::Unix("append-only file".to_owned());
        core.open(SESSION, client, peer, -1, 0);
        if let Some(session) = core.session_mut(SESSION) {
            session.set_user(None);
        }
    }
}

/// Whether that session has run all that it was given.
pub fn is_free(core: &Core) -> bool {
    let session = core.session(SESSION);
    session.is_some_and(|it| it.state == State::Running && it.input.is_empty())
}

/// The keys of encoded commands. Of one whose keys cannot be told, none: no record is of such kind.
pub fn keys_of(table: &Table, mut commands: &[u8], keys: &mut Vec<Key>) {
    let mut parser = Parser::default();
    let limits = Limits {
        bulk_max_bytes: usize::MAX,
        authenticated: true,
    };
    let mut db = 0;
    while let Ok(Parsed::Request { consumed }) = parser.parse(commands, &limits) {
        let args = parser.args(commands);
        if args.name().eq_ignore_ascii_case(b"SELECT") && args.len() == 2 {
            let text = std::str::from_utf8(args.get(1)).ok();
            db = text.and_then(|text| text.parse().ok()).unwrap_or(db);
        } else if let Lookup::Found(entry) = table.lookup_recorded(&args) {
            let at = keys::positions(entry.command.keys, &args).unwrap_or_default();
            keys.extend(at.iter().map(|&at| (db, Box::from(args.get(at)))));
        }
        parser.next();
        commands = &commands[consumed..];
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
            // On the disk before anything is written behind it.
            let cut = file.and_then(|file| file.set_len(valid_to).and_then(|()| file.sync_all()));
            cut.map_err(|error| ReplayError::Io(path, error))
        }
        Some(Fault::Torn { .. }) => Err(ReplayError::Torn(path)),
    }
}
