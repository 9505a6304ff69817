//! Files of the whole data set: when they are written, how they are read, and what became of it.
//!
//! ```text
//! shard 0: Persistence        saving: cut -> chunks of all shards -> merged -> file -> durable
//!                             loading: file -> entries -> batches to their homes
//! every shard: Part           streams its cut, takes its batches
//! ```
//! Shard 0 decides and writes; the others stream to it and are told what became of it. All file
//! operations are the runtime's: nothing here waits for a disk, except for opening and renaming.

pub mod aof;
mod direct;
pub mod lanes;
mod loading;
mod part;
mod pipe;
mod points;
pub mod reload;
pub mod replay;
pub mod routes;
mod saving;
pub mod segment;

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::ask::{NodeMessage, Requester};
use super::following::Past;
use super::log;
use super::pauses::Quiet;
use super::supervise;
use super::waitaof::Waiter;
use crate::journal::Tail;
use crate::keyspace::Stored;
use crate::keyspace::cut::{Chunk, Sizes};
use crate::resp::{CmdError, Output, Writer};
use crate::runtime::FileOp;
use crate::script::library::Libraries;

pub use aof::Aof;
pub use loading::{LoadError, Loading, Then};
pub use part::{Part, shared};
pub use points::SavePoints;
use reload::Reload;
pub use replay::Replay;
pub use saving::{After, PastFrom, Saving};
use segment::Policy;

/// Messages to nodes, sent when the callback returns.
type Mail = Vec<(usize, NodeMessage)>;

/// What nodes say to each other about files.
pub enum Message {
    /// A shard's part of a cut has begun.
    CutBegun {
        id: u32,
        sizes: Sizes,
        used_bytes: u64,
        /// Fields of hashes may expire in it.
        expiring_fields: bool,
    },
    /// A piece of it.
    Chunk {
        id: u32,
        chunk: Box<Chunk>,
    },
    /// Its last piece was sent.
    CutDone {
        id: u32,
    },
    /// Shard 0 took a chunk: the next may come.
    ChunkTaken {
        id: u32,
    },
    /// What the shard streams is of no use any more.
    CutCancelled {
        id: u32,
    },
    /// How the snapshot ended. A shard that was part of it forgets the changes that it holds.
    SaveEnded {
        id: u32,
        ok: bool,
    },
    /// Keys have changed for the first time since the last save.
    Changed,
    /// To shard 0: a client's FLUSHALL is done everywhere; its reply waits for the snapshot.
    Emptied(Requester),
    /// To shard 0: a transaction that it waits for is over.
    TransactionOver,
    /// Entries come next; commands are refused meanwhile. What is there goes, with `flush`.
    LoadBegins {
        flush: bool,
    },
    /// What is loaded from here on replaces all there is when it is complete: this is what becomes of
    /// it then.
    IncomingBegins {
        serves: bool,
    },
    IncomingOver {
        accepted: bool,
    },
    /// Clients are to begin nothing, as everything is read again; and nothing that they had begun is left.
    Freeze,
    Frozen,
    /// They go on.
    Thaw,
    /// This node is empty, and ready to load.
    LoadReady,
    /// About so many keys of a database come to this shard.
    Reserve {
        db: u32,
        keys: usize,
    },
    Load(Vec<Loaded>),
    /// A batch was stored.
    LoadTaken,
    /// Commands to be run again here; that they were; and that there are no more.
    Replay(Vec<u8>),
    ReplayTaken,
    ReplayEnded,
    /// Everything is loaded; and that this node is done with it.
    LoadEnded,
    LoadLeft,
    /// This shard's segment, and that it has it: nothing is accepted before all have.
    JournalOpen {
        file: Arc<File>,
        policy: Policy,
        tail: Tail,
        /// See [`replay::Tails`].
        last_transaction: u64,
    },
    JournalOpened,
    /// The segment that the next cut goes over to.
    JournalNext {
        file: Arc<File>,
        policy: Policy,
    },
    /// The append-only file is turned off, or the server `stops`: all is to be written and synced.
    JournalClose {
        stops: bool,
    },
    JournalClosed {
        ok: bool,
    },
    /// A new base holds everything.
    JournalMended,
    /// Somebody waits until a segment is on the disk up to a unit of its shard's records; or asks whether
    /// it is.
    SyncWanted {
        waiter: Waiter,
        unit: u64,
        at_once: bool,
    },
    /// Whether it is, for one of the node's own.
    SyncReached {
        id: u64,
        is_there: bool,
    },
    /// A shard's segment has grown by a step.
    JournalGrew,
    /// Writes wait from now on; and for this they need not any more.
    Quiesce(Quiet),
    Resume(Quiet),
    /// The last snapshot waits until nothing of a node's clients is under way; and nothing is.
    Settle {
        id: u32,
    },
    Settled {
        id: u32,
    },
}

/// An entry on its way home.
pub struct Loaded {
    pub db: u32,
    pub key: bytes::Bytes,
    pub value: LoadedValue,
    pub expire_at_ms: Option<i64>,
    pub idle_s: Option<i64>,
    pub frequency: Option<i64>,
}

/// A value on its way home.
pub enum LoadedValue {
    /// A string, in the memory of what was read: it is copied once, to where it stays.
    Text(bytes::Bytes),
    Stored(Stored),
}

/// An operation that shard 0 asks of the runtime.
pub struct Operation<F = File> {
    pub file: Arc<F>,
    pub tag: u64,
    pub op: FileOp,
}

/// How the last snapshot went, for INFO and for `stop-writes-on-bgsave-error`.
#[derive(Clone, Debug)]
pub struct Status {
    /// Unix seconds.
    pub last_save_s: i64,
    pub last_try_ms: i64,
    pub last_ok: bool,
    /// Seconds that the last one took, -1 before the first.
    pub last_took_s: i64,
    pub saves: u64,
    pub keys_loaded: u64,
    pub keys_expired: u64,
}

/// A snapshot for replicas: its number, and what became of it.
pub type Streamed = (u32, Outcome);

/// How a snapshot for replicas ended.
#[derive(Debug)]
pub enum Outcome {
    /// In a file of this length.
    File(Arc<File>, u64),
    /// All of it is in the pieces that were sent already.
    Piped,
    Failed,
}

/// What shard 0 knows.
pub struct Persistence {
    shards: usize,
    pub saving: Option<Box<Saving>>,
    pub loading: Option<Box<Loading>>,
    pub status: Status,
    pub points: SavePoints,
    pub aof: Aof,
    pub replay: Option<Box<Replay>>,
    /// Nodes that are not done with a load that has ended.
    leaving: usize,
    /// What is loaded comes from a master; and whether it could be loaded, once it is over.
    pub follows: bool,
    pub followed: Option<bool>,
    /// The stream that continues what was loaded last.
    pub loaded_past: Option<Past>,
    /// What became of it, if it is one that clients asked for: see [`reload`].
    load_reply: Option<Result<(), CmdError>>,
    pub reload: Option<Reload>,
    pub reloads: VecDeque<Reload>,
    /// Nodes that have not closed their segments yet, and whether the server stops then.
    pub closing: Option<(usize, bool)>,
    /// BGSAVE SCHEDULE while something else is under way.
    pub scheduled: bool,
    /// Whose FLUSHALL waits for the snapshot of nothing.
    pub emptied: Vec<Requester>,
    /// Transactions that have asked for a snapshot or a rewrite: it begins when they are over.
    pub transactions: usize,
    /// Libraries of functions, which are in every snapshot.
    pub libraries: Arc<Libraries>,
    /// Those that a load has found, to be made known as soon as the core is at hand; and whether
    /// they replace those of the same name.
    pub found_libraries: Vec<Bytes>,
    pub merges: bool,
    /// Those that replace all others with the databases that come.
    pub incoming_libraries: Vec<Bytes>,
    next_id: u32,
    /// A new base of the append-only file is durable under this name.
    pub rewritten: Option<PathBuf>,
    /// A snapshot for replicas is complete, and how long it is; or it failed.
    pub streamed: Option<Streamed>,
    /// Pieces of one that goes straight to replicas, to be sent at once.
    pub pieces: Vec<Arc<[u8]>>,
    /// Who waits for the server's end.
    pub stoppers: Vec<Requester>,
    /// What a snapshot that ended leads to.
    pub follow_up: Option<After>,
    /// Asked of the runtime at the end of the callback.
    pub operations: Vec<Operation>,
    /// A cut to be begun as soon as the core is at hand.
    pub wanted_cut: Option<crate::shard::message::Cut>,
}

/// What operations are for: the low byte of their tags; the rest is the id of the save or load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Sync = 1,
    SyncDirectory = 2,
    Read = 3,
    /// Of a shard's own segment.
    JournalWrite = 4,
    JournalSync = 5,
    /// Of the segment before.
    OldSync = 6,
    /// Of a snapshot, past the page cache.
    Block = 7,
    /// Of a master's snapshot on its way here.
    Transfer = 8,
}

/// What an operation on a shard's own segment was: a write, or a sync.
pub fn of_journal(tag: u64) -> Option<bool> {
    match tag & 0xff {
        of if of == Purpose::JournalWrite as u64 => Some(true),
        of if of == Purpose::JournalSync as u64 => Some(false),
        _ => None,
    }
}

/// Whether an operation was the sync of a segment before the current one.
pub fn is_old_sync(tag: u64) -> bool {
    tag & 0xff == Purpose::OldSync as u64
}

/// Whether an operation was a read of a file that is loaded.
pub fn is_read(tag: u64) -> bool {
    tag & 0xff == Purpose::Read as u64
}

/// Whether an operation was on a snapshot that comes from a master.
pub fn is_transfer(tag: u64) -> bool {
    tag & 0xff == Purpose::Transfer as u64
}

/// The tag of such an operation.
pub fn transfer_tag(id: u32) -> u64 {
    tag(Purpose::Transfer, id)
}

fn tag(purpose: Purpose, id: u32) -> u64 {
    u64::from(id) << 8 | purpose as u64
}

impl Persistence {
    pub fn new(shards: usize, started_ms: i64) -> Persistence {
        Persistence {
            shards,
            saving: None,
            loading: None,
            status: Status {
                last_save_s: started_ms / 1000,
                last_try_ms: 0,
                last_ok: true,
                last_took_s: -1,
                saves: 0,
                keys_loaded: 0,
                keys_expired: 0,
            },
            points: SavePoints::default(),
            aof: Aof::default(),
            replay: None,
            leaving: 0,
            follows: false,
            followed: None,
            loaded_past: None,
            load_reply: None,
            reload: None,
            reloads: VecDeque::new(),
            closing: None,
            scheduled: false,
            emptied: Vec::new(),
            transactions: 0,
            libraries: Arc::default(),
            found_libraries: Vec::new(),
            merges: false,
            incoming_libraries: Vec::new(),
            next_id: 0,
            rewritten: None,
            streamed: None,
            pieces: Vec::new(),
            stoppers: Vec::new(),
            follow_up: None,
            operations: Vec::new(),
            wanted_cut: None,
        }
    }

    /// Whether a cut is being taken or written.
    pub fn is_busy(&self) -> bool {
        self.saving.is_some()
    }

    fn new_id(&mut self) -> u32 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// Everything is loaded: once every node is done with it, all serve clients at one instant.
    pub fn end_load(&mut self, mail: &mut Mail, reply: Option<Result<(), CmdError>>) {
        self.leaving = self.shards;
        self.load_reply = reply;
        self.tell_all(mail, || Message::LoadEnded);
    }

    /// A node is done with a load. If it is the last one, clients are served.
    pub fn load_left(&mut self, part: &Part, mail: &mut Mail) {
        self.leaving -= 1;
        if self.leaving > 0 {
            return;
        }
        part.set_any_loading(false);
        if std::mem::take(&mut self.follows) {
            self.followed.get_or_insert(true);
            return;
        }
        match self.load_reply.take() {
            Some(result) => self.end_reload(result, mail),
            None => supervise::ready(),
        }
    }

    /// A message to every node.
    fn tell_all(&self, mail: &mut Mail, message: impl Fn() -> Message) {
        tell_nodes(self.shards, mail, |_| message());
    }
}

/// A message to each of so many nodes.
pub fn tell_nodes(nodes: usize, mail: &mut Mail, message: impl Fn(usize) -> Message) {
    mail.extend((0..nodes).map(|node| (node, NodeMessage::Persist(message(node)))));
}

/// Sends a late reply.
pub fn reply(mail: &mut Mail, to: Requester, result: Result<(), CmdError>) {
    let mut out = Output::default();
    let mut writer = Writer::new(&mut out, to.proto);
    let written = match result {
        Ok(()) => writer.ok(),
        Err(error) => writer.error(&error),
    };
    debug_assert!(written.is_ok(), "a short reply fits");
    let (session, out) = (to.session, Box::new(out));
    let sight = None;
    mail.push((
        to.shard,
        NodeMessage::Reply {
            session,
            out,
            sight,
        },
    ));
}

/// Lets `change` remove a name. A file that has no other is freed behind the caller's back: for one of
/// some hundred megabytes the kernel takes some 50 ms. Redis: replication.c bg_unlink.
pub fn freeing<T>(path: &Path, change: impl FnOnce() -> T) -> T {
    // The path alone: what stands there need not be a file that can be read.
    let held = File::options()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path);
    let changed = change();
    if let Ok(held) = held {
        let freer = std::thread::Builder::new().name("pinion-free".into());
        // Without a thread it is freed here.
        let _freed = freer.spawn(move || drop(held));
    }
    changed
}

/// Removes a file that is of no use; that it stays is worth a line and nothing else.
fn discard(path: &Path) {
    if let Err(error) = freeing(path, || std::fs::remove_file(path))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        log::warning(&format!("Cannot remove {}: {error}", path.display()));
    }
}
