//! STREAM: logs of entries, and groups of consumers that share the reading of them.

mod add;
mod claim;
mod deliver;
mod group;
mod ids;
mod info;
mod overdue;
mod read;
mod remove;
mod save;

use super::flags::*;
use super::help::heading;
use super::keys::{self, Begin, Find, KeySpec, Keys};
use super::{Command, Group, Run};
use crate::resp::{Args, CmdResult, Writer};

pub use read::asks_to_block;
pub use save::{Rest, restored, write, write_head, write_nodes};

const fn row(name: &'static str, arity: i32, flags: Flags, keys: Keys, run: Run) -> Command {
    Command {
        name,
        arity,
        flags,
        acl: STREAM,
        keys,
        run,
        since: "5.0.0",
        group: Group::Stream,
        ..Command::DEFAULT
    }
}

const fn streams(access: keys::Access, from: i32) -> KeySpec {
    KeySpec {
        access,
        begin: Begin::Keyword {
            word: "STREAMS",
            from,
        },
        find: Find::Range {
            last: -1,
            step: 1,
            limit: 2,
        },
        ..KeySpec::range(access, 0, 0, 1)
    }
}

const ADD_KEYS: Keys = &[KeySpec::range(keys::RW | keys::UPDATE, 1, 0, 1)
    .noted("UPDATE instead of INSERT because of the optional trimming feature")];
const ACKDEL_KEYS: Keys = &[KeySpec::range(
    keys::RW | keys::UPDATE | keys::DELETE,
    1,
    0,
    1,
)];
const READ_KEYS: Keys = &[streams(keys::RO | keys::ACCESS, 1)];
const GROUP_READ_KEYS: Keys = &[streams(keys::RO | keys::ACCESS, 4)];
const SECOND_RO: Keys = &[KeySpec::range(keys::RO | keys::ACCESS, 2, 0, 1)];
const SECOND_RW: Keys = &[KeySpec::range(keys::RW | keys::UPDATE, 2, 0, 1)];
const SECOND_INSERT: Keys = &[KeySpec::range(keys::RW | keys::INSERT, 2, 0, 1)];
const SECOND_DELETE: Keys = &[KeySpec::range(keys::RW | keys::DELETE, 2, 0, 1)];
const RANGE: &str = "O(N) where N is the number of entries returned";
const PENDING: &str = "O(N) where N is the number of pending entries looked at";

pub const COMMANDS: &[Command] = &[
    Command {
        summary: "Acknowledges entries.",
        syntax: "key group id ...",
        ..row(
            "xack",
            -4,
            WRITE | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(group::xack),
        )
    },
    Command {
        since: "8.2.0",
        summary: "Acknowledges entries, and removes them.",
        syntax: "key group [condition=(KEEPREF|DELREF|ACKED)] IDS ids=(numids:int id ...)",
        ..row(
            "xackdel",
            -6,
            WRITE | FAST,
            ACKDEL_KEYS,
            Run::Key(remove::xackdel),
        )
    },
    Command {
        summary: "Appends an entry.",
        tips: &["nondeterministic_output"],
        syntax: "key [NOMKSTREAM @6.2.0] [condition=(KEEPREF|DELREF|ACKED) @8.2.0] [trim=strategy=(MAXLEN|MINID @6.2.0) \
                 [operator=equal='='|approximately='~'] threshold [LIMIT count @6.2.0]] \
                 id_or_auto=(auto_id='*'|id) (field value) ...",
        history: &[
            ("6.2.0", "Takes `NOMKSTREAM`, `MINID` and `LIMIT`."),
            (
                "7.0.0",
                "Takes an ID whose last part is to be found: `<ms>-*`.",
            ),
            ("8.2.0", "Takes `KEEPREF`, `DELREF` and `ACKED`."),
        ],
        ..row(
            "xadd",
            -5,
            WRITE | DENYOOM | FAST,
            ADD_KEYS,
            Run::Key(add::xadd),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Gives a consumer what others were given and did not acknowledge in time.",
        complexity: PENDING,
        tips: &["nondeterministic_output"],
        syntax: "key group consumer min-idle-time start:string [COUNT count] [JUSTID]",
        history: &[(
            "7.0.0",
            "Replies with the deleted entries that it dropped, too.",
        )],
        ..row(
            "xautoclaim",
            -6,
            WRITE | FAST,
            keys::ONE_RW_DELETE,
            Run::Key(claim::xautoclaim),
        )
    },
    Command {
        summary: "Gives a consumer entries that others were given.",
        complexity: PENDING,
        tips: &["nondeterministic_output"],
        syntax: "key group consumer min-idle-time id ... [IDLE ms:int] [TIME \
                 unix-time-milliseconds] [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID id]",
        ..row(
            "xclaim",
            -6,
            WRITE | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(claim::xclaim),
        )
    },
    Command {
        summary: "Removes entries.",
        syntax: "key id ...",
        ..row(
            "xdel",
            -3,
            WRITE | FAST,
            keys::ONE_RW_DELETE,
            Run::Key(remove::xdel),
        )
    },
    Command {
        since: "8.2.0",
        summary: "Removes entries, or those that no group needs any more.",
        syntax: "key [condition=(KEEPREF|DELREF|ACKED)] IDS ids=(numids:int id ...)",
        ..row(
            "xdelex",
            -5,
            WRITE | FAST,
            keys::ONE_RW_DELETE,
            Run::Key(remove::xdelex),
        )
    },
    Command {
        summary: "Names the commands about groups.",
        sub: XGROUP,
        ..row("xgroup", -2, 0, keys::NONE, Run::Container)
    },
    Command {
        summary: "Names the commands that show streams.",
        sub: XINFO,
        ..row("xinfo", -2, 0, keys::NONE, Run::Container)
    },
    Command {
        summary: "Replies with the number of entries.",
        syntax: "key",
        ..row(
            "xlen",
            2,
            READONLY | FAST,
            keys::ONE_RO_META,
            Run::Key(read::xlen),
        )
    },
    Command {
        summary: "Replies with what is pending in a group.",
        complexity: PENDING,
        tips: &["nondeterministic_output"],
        syntax: "key group [filters=[IDLE min-idle-time:int @6.2.0] start:string end:string \
                 count [consumer]]",
        history: &[("6.2.0", "Takes `IDLE`, and IDs that the range excludes.")],
        ..row(
            "xpending",
            -3,
            READONLY,
            keys::ONE_RO,
            Run::Key(claim::xpending),
        )
    },
    Command {
        summary: "Replies with the entries of a range of ids.",
        complexity: RANGE,
        syntax: "key start:string end:string [COUNT count]",
        history: &[("6.2.0", "Takes IDs that the range excludes.")],
        ..row("xrange", -4, READONLY, keys::ONE_RO, Run::Key(read::xrange))
    },
    Command {
        summary: "Replies with the entries behind given ids, waiting for some if asked to.",
        complexity: RANGE,
        block: Some(&read::XREAD_WAITS),
        syntax: "[COUNT count] [BLOCK milliseconds] STREAMS streams=(key ... id ...)",
        ..row(
            "xread",
            -4,
            READONLY | BLOCKING | MOVABLEKEYS,
            READ_KEYS,
            Run::Gather(&read::XREAD),
        )
    },
    Command {
        summary: "Replies with entries for a consumer of a group, waiting for some if asked to.",
        complexity: RANGE,
        block: Some(&deliver::XREADGROUP_WAITS),
        syntax: "GROUP (group consumer) [COUNT count] [BLOCK milliseconds] [CLAIM \
                 min-idle-time:int @8.4.0] [NOACK] STREAMS streams=(key ... id ...)",
        history: &[("8.4.0", "Takes `CLAIM`.")],
        ..row(
            "xreadgroup",
            -7,
            WRITE | BLOCKING | MOVABLEKEYS,
            GROUP_READ_KEYS,
            Run::Gather(&deliver::XREADGROUP),
        )
    },
    Command {
        summary: "Replies with the entries of a range of ids, from the end.",
        complexity: RANGE,
        syntax: "key end:string start:string [COUNT count]",
        history: &[("6.2.0", "Takes IDs that the range excludes.")],
        ..row(
            "xrevrange",
            -4,
            READONLY,
            keys::ONE_RO,
            Run::Key(read::xrevrange),
        )
    },
    Command {
        summary: "Sets the last id of a stream.",
        syntax: "key last-id [ENTRIESADDED entries_added:int @7.0.0] [MAXDELETEDID \
                 max_deleted_entry_id @7.0.0]",
        history: &[("7.0.0", "Takes `ENTRIESADDED` and `MAXDELETEDID`.")],
        ..row(
            "xsetid",
            -3,
            WRITE | DENYOOM | FAST,
            keys::ONE_RW_UPDATE,
            Run::Key(add::xsetid),
        )
    },
    Command {
        summary: "Removes the oldest entries.",
        complexity: "O(N) where N is the number of entries removed",
        tips: &["nondeterministic_output"],
        syntax: "key trim=(strategy=(MAXLEN|MINID @6.2.0) [operator=equal='='|approximately='~'] \
                 threshold [LIMIT count @6.2.0] [condition=(KEEPREF|DELREF|ACKED) @8.2.0])",
        history: &[
            ("6.2.0", "Takes `MINID` and `LIMIT`."),
            ("8.2.0", "Takes `KEEPREF`, `DELREF` and `ACKED`."),
        ],
        ..row(
            "xtrim",
            -4,
            WRITE,
            keys::ONE_RW_DELETE,
            Run::Key(remove::xtrim),
        )
    },
];

const XGROUP: &[Command] = &[
    Command {
        summary: "Creates a group.",
        syntax: "key groupname id=(id|new_id='$') [MKSTREAM] [ENTRIESREAD entries_read]",
        history: &[("7.0.0", "Takes `ENTRIESREAD`.")],
        ..row(
            "create",
            -5,
            WRITE | DENYOOM,
            SECOND_INSERT,
            Run::Key(group::create),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Creates a consumer.",
        syntax: "key groupname consumername",
        ..row(
            "createconsumer",
            5,
            WRITE | DENYOOM,
            SECOND_INSERT,
            Run::Key(group::createconsumer),
        )
    },
    Command {
        summary: "Deletes a consumer.",
        syntax: "key groupname consumername",
        ..row(
            "delconsumer",
            5,
            WRITE,
            SECOND_DELETE,
            Run::Key(group::delconsumer),
        )
    },
    Command {
        summary: "Deletes a group.",
        complexity: "O(N) where N is the number of its pending entries",
        syntax: "key groupname",
        ..row("destroy", 4, WRITE, SECOND_DELETE, Run::Key(group::destroy))
    },
    Command {
        summary: "Shows what there is.",
        ..row(
            "help",
            2,
            LOADING | STALE,
            keys::NONE,
            Run::Client(|_, args, out| help(args, GROUP_HELP, out)),
        )
    },
    Command {
        summary: "Sets the last id of a group.",
        syntax: "key groupname id=(id|new_id='$') [ENTRIESREAD entries_read]",
        history: &[("7.0.0", "Takes `ENTRIESREAD`.")],
        ..row("setid", -5, WRITE, SECOND_RW, Run::Key(group::setid))
    },
];

const XINFO: &[Command] = &[
    Command {
        summary: "Lists the consumers of a group.",
        tips: &["nondeterministic_output"],
        syntax: "key groupname",
        ..row(
            "consumers",
            4,
            READONLY,
            SECOND_RO,
            Run::Key(info::consumers),
        )
    },
    Command {
        summary: "Lists the groups of a stream.",
        syntax: "key",
        history: &[("7.0.0", "Tells `entries-read` and `lag`.")],
        ..row("groups", 3, READONLY, SECOND_RO, Run::Key(info::groups))
    },
    Command {
        summary: "Shows what there is.",
        ..row(
            "help",
            2,
            LOADING | STALE,
            keys::NONE,
            Run::Client(|_, args, out| help(args, INFO_HELP, out)),
        )
    },
    Command {
        summary: "Describes a stream.",
        syntax: "key [FULL full=([COUNT count])]",
        history: &[
            ("6.0.0", "Takes `FULL`."),
            (
                "7.0.0",
                "Tells `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, `entries-read` and `lag`.",
            ),
        ],
        ..row("stream", -3, READONLY, SECOND_RO, Run::Key(info::stream))
    },
];

const GROUP_HELP: &[&str] = &[
    "CREATE <key> <groupname> <id|$> [option]",
    "    Create a new consumer group. Options are:",
    "    * MKSTREAM",
    "      Create the empty stream if it does not exist.",
    "    * ENTRIESREAD entries_read",
    "      Set the group's entries_read counter (internal use).",
    "CREATECONSUMER <key> <groupname> <consumer>",
    "    Create a new consumer in the specified group.",
    "DELCONSUMER <key> <groupname> <consumer>",
    "    Remove the specified consumer.",
    "DESTROY <key> <groupname>",
    "    Remove the specified group.",
    "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
    "    Set the current group ID and entries_read counter.",
    "HELP",
    "    Print this help.",
];

const INFO_HELP: &[&str] = &[
    "CONSUMERS <key> <groupname>",
    "    Show consumers of <groupname>.",
    "GROUPS <key>",
    "    Show the stream consumer groups.",
    "STREAM <key> [FULL [COUNT <count>]",
    "    Show information about the stream.",
    "HELP",
    "    Print this help.",
];

fn help(args: &Args, lines: &[&str], out: &mut Writer) -> CmdResult {
    out.array(1 + lines.len())?;
    out.simple(&heading(args))?;
    lines.iter().try_for_each(|line| out.simple(line))
}

#[cfg(test)]
mod tests;
