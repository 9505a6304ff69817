//! The table: what each command *is* and what it *does*, one row and one function per command.
//!
//! A row says arity, flags, ACL category, key positions and how the command spreads over shards
//! ([`Run`]). Everything else derives from it: lookup, arity errors, COMMAND and its subcommands,
//! ACL categories, gates, routing, MULTI rules, per-command statistics.
//!
//! A command's function sees a transaction ([`Tx`]), its arguments and a writer. It never learns
//! on which core it runs, whether it was called directly or came in a hop, what time it is beside
//! `tx.now_ms()`, or who logs, replicates or listens.

pub mod acl;
pub mod bitmap;
pub mod block;
pub mod client;
pub mod connection;
pub mod cursor;
mod decimal;
mod deployment;
pub mod errand;
pub mod expiry;
pub mod flags;
mod function;
pub mod generic;
pub mod geo;
pub mod glob;
pub mod hash;
pub mod help;
pub mod hyperloglog;
pub mod introspection;
pub mod keys;
pub mod list;
mod mpop;
mod peeks;
mod plan;
pub mod pubsub;
mod sample;
pub mod script;
pub mod server;
pub mod set;
pub mod stream;
pub mod string;
mod table;
#[cfg(test)]
pub mod testing;
pub mod tracking;
pub mod transaction;
pub mod zset;

use crate::keyspace::{Tx, WrongType};
use crate::resp::{Args, CmdError, CmdResult, Writer};

pub use client::Client;
pub use flags::{Categories, Flags};
pub use keys::Keys;
pub use plan::{
    Ask, Change, Decision, First, Gather, More, Part, Peek, Place, Wanted, apply, arrive, take,
};
pub use table::{CommandId, Entry, Lookup, Table};

impl From<WrongType> for CmdError {
    fn from(_: WrongType) -> CmdError {
        CmdError::WrongType
    }
}

/// One row of the table.
pub struct Command {
    /// Lower-case; of a subcommand, its own name alone.
    pub name: &'static str,
    /// Number of arguments, the name (and of a subcommand its container's name) included; negative
    /// means at least so many.
    pub arity: i32,
    pub flags: Flags,
    /// ACL categories beyond those that follow from `flags`.
    pub acl: Categories,
    pub keys: Keys,
    pub run: Run,
    /// How the command waits for its keys, if it can.
    pub block: Option<&'static block::Block>,
    /// Subcommands, if this is a container such as CLIENT.
    pub sub: &'static [Command],
    pub since: &'static str,
    /// One line for COMMAND DOCS.
    pub summary: &'static str,
    /// For COMMAND DOCS; `O(1)` unless said otherwise, empty where there is nothing to say.
    pub complexity: &'static str,
    /// The arguments, for COMMAND DOCS: see [`introspection::syntax`].
    pub syntax: &'static str,
    /// What changed after the command's first version, for COMMAND DOCS: versions and changes.
    pub history: &'static [(&'static str, &'static str)],
    pub standing: Standing,
    /// Hints for clients and proxies, as COMMAND INFO gives them.
    pub tips: &'static [&'static str],
    pub group: Group,
}

impl Command {
    /// What a row leaves unsaid.
    pub const DEFAULT: Command = Command {
        name: "",
        arity: 1,
        flags: 0,
        acl: 0,
        keys: keys::NONE,
        run: Run::Container,
        block: None,
        sub: &[],
        since: "1.0.0",
        summary: "",
        complexity: "O(1)",
        syntax: "",
        history: &[],
        standing: Standing::Good,
        tips: &[],
        group: Group::Generic,
    };

    /// All ACL categories of this command.
    pub const fn categories(&self) -> Categories {
        // Redis: a container has none of its subcommands' categories.
        let own = if matches!(self.run, Run::Container) {
            0
        } else {
            self.acl
        };
        // Redis: setImplicitACLCategories; what a script reads is not known.
        let flags = match own & flags::SCRIPTING {
            0 => self.flags,
            _ => self.flags & !flags::READONLY,
        };
        own | flags::implied_categories(flags)
    }

    /// Whether a request concerns more than the keys that it names: everything is held for it.
    pub fn needs_everything(&self, args: &Args) -> bool {
        match self.run {
            Run::Shards { .. } | Run::At { .. } => true,
            Run::Gather(gather) => gather.more_for(args).is_some(),
            _ => false,
        }
    }

    /// Checks what a command that can wait is told of that: for how long has to be said also where
    /// nothing ever waits, as in a transaction.
    pub fn check_wait(&self, args: &Args) -> CmdResult {
        match self.block {
            Some(block) => (block.patience)(args).map(|_| ()),
            None => Ok(()),
        }
    }

    pub const fn is_read(&self) -> bool {
        self.flags & flags::READONLY != 0
    }

    pub const fn is_write(&self) -> bool {
        self.flags & flags::WRITE != 0
    }

    /// Whether `args` arguments, the name included, satisfy the arity.
    pub const fn accepts(&self, args: usize) -> bool {
        if self.arity >= 0 {
            args == self.arity as usize
        } else {
            args >= self.arity.unsigned_abs() as usize
        }
    }
}

/// Whether new programs should use a command.
#[derive(Clone, Copy, Debug)]
pub enum Standing {
    Good,
    /// Since a version of Redis there is something better.
    Deprecated {
        since: &'static str,
        by: &'static str,
    },
    /// Not for programs.
    Internal,
}

/// Documentation group, as COMMAND DOCS names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Bitmap,
    Cluster,
    Connection,
    Generic,
    Geo,
    Hash,
    Hyperloglog,
    List,
    Pubsub,
    Scripting,
    Server,
    Set,
    SortedSet,
    Stream,
    String,
    Transactions,
}

impl Group {
    pub const fn name(self) -> &'static str {
        match self {
            Group::Bitmap => "bitmap",
            Group::Cluster => "cluster",
            Group::Connection => "connection",
            Group::Generic => "generic",
            Group::Geo => "geo",
            Group::Hash => "hash",
            Group::Hyperloglog => "hyperloglog",
            Group::List => "list",
            Group::Pubsub => "pubsub",
            Group::Scripting => "scripting",
            Group::Server => "server",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Stream => "stream",
            Group::String => "string",
            Group::Transactions => "transactions",
        }
    }
}

/// How a command runs and spreads over shards. The planner derives the cross-shard work from it.
#[derive(Clone, Copy)]
pub enum Run {
    /// Only names subcommands.
    Container,
    /// Reads or edits the connection's own state.
    Client(fn(&mut Client, &Args, &mut Writer) -> CmdResult),
    /// All keys live on one shard: one hop.
    Key(fn(&mut Tx, &Args, &mut Writer) -> CmdResult),
    /// Per key on its home; the replies form one array in key order. Arguments: name, key, ...step.
    Each(fn(&mut Tx, &Args, &mut Writer) -> CmdResult),
    /// Per key on its home; the results are added up.
    Sum(fn(&mut Tx, &Args) -> Result<i64, CmdError>),
    /// Per key on its home; replies OK once all are done. Cannot fail.
    Every(fn(&mut Tx, &Args)),
    /// Reads on the homes, decides, changes the homes.
    Gather(&'static Gather),
    /// Reads on the homes, sends what it read to another server, decides, changes the homes.
    Errand(&'static errand::Errand),
    /// The first of its keys that holds something serves it; null if there is none.
    First(&'static First),
    /// Once per shard, merged. Runs under a hold on everything.
    Shards {
        part: fn(&mut Tx, &Args, Place) -> Result<Part, CmdError>,
        merge: fn(&Args, Vec<Part>, &mut Writer) -> CmdResult,
    },
    /// Once on the shard that the arguments name, or, where they name none, as `Shards`. SCAN: its
    /// cursor names one.
    At {
        shard: fn(&Args, usize) -> Result<Option<usize>, CmdError>,
        part: fn(&mut Tx, &Args, Place) -> Result<Part, CmdError>,
        merge: fn(&Args, Place, Vec<Part>, &mut Writer) -> CmdResult,
    },
    /// Begins, carries out or ends the session's transaction.
    Transaction(transaction::Transaction),
    /// Runs a script, or is about scripts.
    Script(script::Script),
    /// Something beyond the keyspace, performed by the server.
    Job(Job),
}

/// What `Run::Job` asks of the server. One word per command; arguments come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    Acl,
    Auth,
    BgSave,
    BgRewriteAof,
    ClientInfo,
    ClientKill,
    ClientList,
    ClientPause,
    ClientTracking,
    ClientUnblock,
    ClientUnpause,
    Cluster,
    Command,
    ConfigGet,
    ConfigResetStat,
    ConfigRewrite,
    ConfigSet,
    Debug,
    Failover,
    Function,
    Hello,
    Info,
    LastSave,
    Latency,
    Lolwut,
    Memory,
    Module,
    Monitor,
    Publish(pubsub::Kind),
    Pubsub,
    ReplConf,
    Replicate,
    Replication,
    Reset,
    Role,
    Save,
    ScriptKill,
    Shutdown,
    Slowlog,
    Subscribe(pubsub::Kind),
    Time,
    Unsubscribe(pubsub::Kind),
    Wait,
    WaitAof,
}
