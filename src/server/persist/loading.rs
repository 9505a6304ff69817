//! Reading a snapshot: its entries go home in batches, while every command that could see a part of
//! it is refused.

mod entries;
mod error;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

pub use error::LoadError;

use super::{Loaded, Mail, Message, Operation, Persistence, Purpose, tag};
use crate::rdb::file::{Event, Reader};
use crate::resp::CmdError;
use crate::runtime::{FileDone, FileOp};
use crate::server::following::Past;
use crate::server::log;
use crate::value::limits::Limits;

/// Bytes of one read; one is under way while another is worked on.
const READ_BYTES: usize = 1024 * 1024;
/// Batches on their way to one shard.
const UNTAKEN_MAX: usize = 8;
/// Entries read in one slice: clients that ask how far it is get their answer between two.
const SLICE: usize = 2048;
const PROGRESS_MS: i64 = 2_000;

/// Who waits for the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The server starts with it; a file that cannot be read is its end.
    Serve,
    /// Commands of the append-only file follow.
    Replay,
    /// DEBUG RELOAD.
    Reload,
    /// It is a master's.
    Follow,
}

/// A load in progress.
pub struct Loading {
    id: u32,
    /// `None`: it comes from a master, piece by piece.
    file: Option<Arc<File>>,
    /// Its pieces that wait, and how long they are.
    pieces: VecDeque<Bytes>,
    pieces_bytes: usize,
    /// Until all of it has come, the databases that it makes are not seen; and whether clients go on
    /// with those that are there.
    incoming: Option<Incoming>,
    /// `key-load-delay`, which makes loading slow for tests.
    key_delay_us: i64,
    delayed_until_ms: Option<i64>,
    pub size_bytes: u64,
    pub started_ms: i64,
    told_ms: i64,
    reader: Reader,
    /// Where the next read begins.
    at: u64,
    reading: bool,
    /// A piece that was read ahead.
    ahead: Option<Bytes>,
    at_end: bool,
    finished: bool,
    db: u32,
    databases: u32,
    batches: Vec<Vec<Loaded>>,
    untaken: Vec<usize>,
    then: Then,
    keys_loaded: u64,
    /// Those of them for which `key-load-delay` was waited.
    keys_waited: u64,
    keys_expired: u64,
    keeps_due: bool,
    /// Keys of collections without elements.
    keys_empty: u64,
    limits: Limits,
    past: Past,
    /// What the stream says of keys whose time has come, and the database that it has selected.
    pub deleted: Vec<u8>,
    deleted_db: Option<u32>,
}

/// A load whose databases replace others when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Clients are served from the others until then.
    pub serves: bool,
    /// Databases that there are.
    pub databases: u32,
}

impl Loading {
    /// Whether clients go on with what is there.
    pub fn serves(&self) -> bool {
        self.incoming.is_some_and(|it| it.serves)
    }

    /// Bytes read and understood.
    pub fn loaded_bytes(&self) -> u64 {
        self.reader.position()
    }
}

impl Persistence {
    /// Begins to load a file. The nodes refuse commands from here on. `keeps_due`: keys whose time has
    /// come are loaded like the others, as what follows tells more of them.
    pub fn load(
        &mut self,
        file: File,
        (verify, keeps_due): (bool, bool),
        (databases, limits): (u32, Limits),
        then: Then,
        now_ms: i64,
    ) -> io::Result<()> {
        let size_bytes = file.metadata()?.len();
        let about = (databases, limits);
        self.begin((verify, keeps_due), about, Some(size_bytes), then, now_ms);
        if let Some(loading) = &mut self.loading {
            loading.file = Some(Arc::new(file));
        }
        self.read_on();
        Ok(())
    }

    /// Begins to load what a master sends, into databases that nobody sees.
    pub fn load_incoming(
        &mut self,
        verify: bool,
        about: (u32, Limits),
        size_bytes: Option<u64>,
        serves: bool,
        now_ms: i64,
    ) {
        let databases = about.0;
        self.begin((verify, true), about, size_bytes, Then::Follow, now_ms);
        if let Some(loading) = &mut self.loading {
            loading.incoming = Some(Incoming { serves, databases });
        }
    }

    fn begin(
        &mut self,
        (verify, keeps_due): (bool, bool),
        (databases, limits): (u32, Limits),
        size_bytes: Option<u64>,
        then: Then,
        now_ms: i64,
    ) {
        let id = self.new_id();
        let shards = self.shards;
        self.loading = Some(Box::new(Loading {
            id,
            file: None,
            pieces: VecDeque::new(),
            pieces_bytes: 0,
            incoming: None,
            key_delay_us: 0,
            delayed_until_ms: None,
            size_bytes: size_bytes.unwrap_or(0),
            started_ms: now_ms,
            told_ms: now_ms,
            reader: Reader::new(verify, size_bytes),
            at: 0,
            reading: false,
            ahead: None,
            at_end: false,
            finished: false,
            db: 0,
            databases,
            batches: (0..shards).map(|_| Vec::new()).collect(),
            untaken: vec![0; shards],
            then,
            keeps_due,
            keys_loaded: 0,
            keys_waited: 0,
            keys_expired: 0,
            keys_empty: 0,
            limits,
            past: Past::default(),
            deleted: Vec::new(),
            deleted_db: None,
        }));
    }

    /// More of what a master sends.
    pub fn feed(&mut self, piece: Vec<u8>) {
        if let Some(loading) = &mut self.loading
            && !piece.is_empty()
        {
            loading.pieces_bytes += piece.len();
            loading.pieces.push_back(piece.into());
            self.read_on();
        }
    }

    /// There is no more of it.
    pub fn end_feed(&mut self) {
        if let Some(loading) = &mut self.loading {
            loading.at_end = true;
            self.read_on();
        }
    }

    /// Whether the master should wait.
    pub fn is_fed(&self) -> bool {
        let loading = self.loading.as_ref();
        loading.is_some_and(|loading| loading.pieces_bytes > READ_BYTES)
    }

    /// `key-load-delay`
    pub fn delay_keys(&mut self, delay_us: i64) {
        if let Some(loading) = &mut self.loading {
            loading.key_delay_us = delay_us.max(0);
        }
    }

    /// When `key-load-delay` lets the load go on: unix milliseconds.
    pub fn load_delayed_until_ms(&self) -> Option<i64> {
        self.loading.as_ref()?.delayed_until_ms
    }

    fn read_on(&mut self) {
        let Some(loading) = &mut self.loading else {
            return;
        };
        if loading.ahead.is_none()
            && let Some(piece) = loading.pieces.pop_front()
        {
            loading.pieces_bytes -= piece.len();
            loading.ahead = Some(piece);
        }
        if loading.reading || loading.at_end || loading.ahead.is_some() {
            return;
        }
        let Some(file) = &loading.file else {
            return;
        };
        loading.reading = true;
        self.operations.push(Operation {
            file: file.clone(),
            tag: tag(Purpose::Read, loading.id),
            op: FileOp::Read {
                at: loading.at,
                len: READ_BYTES,
            },
        });
    }

    /// A read is over. Returns whether there is work to do at once.
    pub fn load_file_done(&mut self, done: FileDone) -> Result<(), LoadError> {
        let Some(loading) = &mut self.loading else {
            return Ok(());
        };
        if done.tag >> 8 != u64::from(loading.id) {
            return Ok(());
        }
        loading.reading = false;
        let n = done.result.map_err(LoadError::Io)?;
        loading.at += n as u64;
        loading.at_end = n == 0;
        loading.ahead = (n > 0).then(|| Bytes::from(done.bytes));
        Ok(())
    }

    pub fn batch_taken(&mut self, from: usize) {
        if let Some(loading) = &mut self.loading {
            loading.untaken[from] = loading.untaken[from].saturating_sub(1);
        }
    }

    /// Reads some entries. Returns whether there is more to do at once; nothing more is done once
    /// the load is over, which [`Persistence::load_over`] tells.
    pub fn load_slice(&mut self, mail: &mut Mail, now_ms: i64) -> Result<bool, LoadError> {
        let Some(loading) = &mut self.loading else {
            return Ok(false);
        };
        if loading.is_delayed(now_ms) {
            return Ok(false);
        }
        for _ in 0..SLICE {
            if loading.spend_delay(now_ms) {
                return Ok(false);
            }
            if loading.finished || loading.untaken.iter().any(|&n| n >= UNTAKEN_MAX) {
                return Ok(false);
            }
            match loading.reader.next_event().map_err(LoadError::Format)? {
                Some(Event::Function(text)) => self.found_libraries.push(text),
                Some(event) => loading.take(event, mail, now_ms)?,
                None => {
                    if let Some(bytes) = loading.ahead.take() {
                        loading.reader.feed(bytes);
                    } else if loading.at_end {
                        loading.reader.end_input();
                    } else {
                        self.read_on();
                        return Ok(false);
                    }
                    self.read_on();
                    return Ok(true);
                }
            }
        }
        if now_ms - loading.told_ms >= PROGRESS_MS {
            loading.told_ms = now_ms;
            let percent = loading.loaded_bytes() * 100 / loading.size_bytes.max(1);
            log::notice(&format!(
                "Loading: {percent}% of {} bytes",
                loading.size_bytes
            ));
        }
        Ok(true)
    }

    /// Whether [`Persistence::load_slice`] would find input, or the load is over.
    pub fn wants_to_load(&self) -> bool {
        self.loading.as_ref().is_some_and(|loading| {
            let most = loading.untaken.iter().max().copied().unwrap_or(0);
            if loading.delayed_until_ms.is_some() {
                false
            } else if loading.finished {
                most == 0 && loading.has_come()
            } else {
                most < UNTAKEN_MAX && (loading.ahead.is_some() || loading.at_end)
            }
        })
    }

    /// Ends the load if all of it has arrived. Returns who waits for it.
    /// With it comes where in the file it ended.
    pub fn load_over(&mut self, mail: &mut Mail, now_ms: i64) -> Option<(Then, u64)> {
        let loading = self.loading.take_if(|loading| {
            let is_taken = loading.untaken.iter().all(|&untaken| untaken == 0);
            loading.finished && is_taken && loading.has_come()
        })?;
        self.status.keys_loaded = loading.keys_loaded;
        self.status.keys_expired = loading.keys_expired;
        let done = format!(
            "Done loading RDB, keys loaded: {}, keys expired: {}",
            loading.keys_loaded, loading.keys_expired
        );
        match loading.keys_empty {
            0 => log::notice(&format!("{done}.")),
            empty => log::warning(&format!("{done}, empty keys skipped: {empty}.")),
        }
        let took_ms = now_ms - loading.started_ms;
        log::notice(&format!(
            "DB loaded from disk: {}.{:03} seconds",
            took_ms / 1000,
            took_ms % 1000
        ));
        let past = (!loading.past.replid.is_empty()).then(|| loading.past.clone());
        self.loaded_past = past;
        if loading.incoming.is_some() {
            self.tell_all(mail, || Message::IncomingOver { accepted: true });
        }
        match loading.then {
            Then::Replay => {}
            Then::Serve | Then::Follow => self.end_load(mail, None),
            Then::Reload => self.end_load(mail, Some(Ok(()))),
        }
        Some((loading.then, loading.loaded_bytes()))
    }

    /// The file cannot be read on. Returns whether the server may live on.
    pub fn load_failed(&mut self, error: &LoadError, mail: &mut Mail) -> bool {
        let Some(loading) = self.loading.take() else {
            return true;
        };
        match loading.incoming {
            None => log::warning(&format!("Error loading the RDB file: {error}")),
            Some(_) => {
                let at = loading.loaded_bytes();
                // Redis: rdb.c rdbReportError.
                log::warning(&format!(
                    "Internal error in RDB reading offset {at}: {error}"
                ));
                self.tell_all(mail, || Message::IncomingOver { accepted: false });
                self.incoming_libraries.clear();
            }
        }
        match loading.then {
            Then::Serve | Then::Replay => {
                log::warning("Terminating server after rdb file reading failure.");
                log::warning("Fatal error loading the DB, check server logs. Exiting.");
                false
            }
            Then::Reload => {
                // The server goes on with what it has.
                let error =
                    CmdError::Text("ERR Error trying to load the RDB dump, check server logs");
                self.end_load(mail, Some(Err(error)));
                true
            }
            Then::Follow => {
                self.followed = Some(false);
                self.end_load(mail, None);
                true
            }
        }
    }
}

impl Loading {
    /// Whether all of it is here, and nothing can go wrong any more.
    fn has_come(&self) -> bool {
        self.incoming.is_none() || self.at_end
    }

    fn is_delayed(&mut self, now_ms: i64) -> bool {
        self.delayed_until_ms = self.delayed_until_ms.filter(|at_ms| *at_ms > now_ms);
        self.delayed_until_ms.is_some()
    }

    /// Whether keys that were loaded have to be waited for: some milliseconds at a time.
    fn spend_delay(&mut self, now_ms: i64) -> bool {
        const STEP_US: i64 = 5_000;
        if self.key_delay_us == 0 {
            return false;
        }
        let keys = self.keys_loaded as i64 - self.keys_waited as i64;
        let takes_us = keys.saturating_mul(self.key_delay_us);
        if takes_us < STEP_US {
            return false;
        }
        self.keys_waited = self.keys_loaded;
        self.delayed_until_ms = Some(now_ms + takes_us / 1000);
        true
    }

    /// Where the stream that continues this snapshot begins.
    pub fn past_offset(&self) -> i64 {
        self.past.offset
    }
}
