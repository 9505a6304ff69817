//! What DEBUG HELP lists.

pub(super) const SUBCOMMANDS: &[(&str, &str)] = &[
    (
        "AOF-FLUSH-SLEEP <microseconds>",
        "Sleep before each write to the append-only file.",
    ),
    ("ASSERT", "Crash."),
    ("CHANGE-REPL-ID", "Take another replication id."),
    (
        "CONFIG-REWRITE-FORCE-ALL",
        "CONFIG REWRITE with every parameter, defaults too.",
    ),
    (
        "CLIENT-EVICTION",
        "Show what clients take, if maxmemory-clients limits it.",
    ),
    (
        "CLUSTERLINK KILL <to|from|all> <node-id>",
        "For nodes of a cluster only.",
    ),
    (
        "CRASH-AND-RECOVER [<milliseconds>]",
        "End at once, saving nothing, and start again after so long.",
    ),
    ("DIGEST", "Show a checksum of all keys."),
    ("DIGEST-VALUE <key> [<key> ...]", "Show checksums of keys."),
    (
        "DROP-CLUSTER-PACKET-FILTER <packet-type>",
        "Accepted: there are no such packets.",
    ),
    ("ERROR <text>", "Reply with an error."),
    ("HTSTATS <db>", "Show the shape of a database's index."),
    (
        "HTSTATS-KEY <key>",
        "Show the shape of the index of a key's elements.",
    ),
    ("LEAK <string>", "Keep the string's memory for good."),
    ("LISTPACK <key>", "Write to the log what a listpack is."),
    ("LOADAOF", "Load the append-only file again."),
    ("LOG <message>", "Write a line to the log."),
    ("OBJECT <key>", "Show how a value is stored."),
    ("OOM", "Crash as if there were no memory left."),
    ("PANIC", "Crash."),
    ("PAUSE-CRON <0|1>", "Let signals that end the server wait."),
    (
        "POPULATE <count> [<prefix>] [<size>]",
        "Make keys with values.",
    ),
    (
        "PROTOCOL <type>",
        "Reply with a value of a type of the protocol.",
    ),
    (
        "QUICKLIST <key> [<0|1>]",
        "Write to the log what a list is.",
    ),
    (
        "QUICKLIST-PACKED-THRESHOLD <size>",
        "Accepted: elements of any size are packed.",
    ),
    ("RELOAD", "Save the data set and load it again."),
    (
        "REPLICATE <string>",
        "Send a command to the replicas alone.",
    ),
    (
        "REPLYBUFFER PEAK-RESET-TIME <NEVER|RESET|time>",
        "Accepted: there is no such buffer.",
    ),
    (
        "REPLYBUFFER RESIZING <0|1>",
        "Accepted: there is no such buffer.",
    ),
    (
        "RESTART [<milliseconds>]",
        "CONFIG REWRITE, SHUTDOWN NOW, and start again after so long.",
    ),
    ("SDSLEN <key>", "Show how long a key and its string are."),
    ("SEGFAULT", "Crash by reading what is not there."),
    (
        "SET-ACTIVE-EXPIRE <0|1>",
        "Stop or start deleting keys on time.",
    ),
    (
        "SET-SKIP-CHECKSUM-VALIDATION <0|1>",
        "Let RESTORE take payloads with any checksum.",
    ),
    ("SLEEP <seconds>", "Block this shard."),
    (
        "STRINGMATCH-LEN <pattern> <string>",
        "Tell whether a glob pattern matches.",
    ),
    (
        "STRINGMATCH-TEST",
        "Match random patterns against random strings.",
    ),
    ("STRUCTSIZE", "Show the sizes of what values consist of."),
];
