//! SERVER and CLUSTER: modules, replicas, clusters. These are jobs: the server room performs
//! them, as far as there is something to perform.

use super::flags::*;
use super::{Command, Group, Job, Run, Standing};

const fn row(name: &'static str, arity: i32, flags: Flags, job: Job) -> Command {
    Command {
        name,
        arity,
        flags,
        group: Group::Server,
        run: Run::Job(job),
        ..Command::DEFAULT
    }
}

const fn cluster(
    name: &'static str,
    arity: i32,
    flags: Flags,
    since: &'static str,
    summary: &'static str,
) -> Command {
    Command {
        since,
        summary,
        group: Group::Cluster,
        ..row(name, arity, flags | STALE, Job::Cluster)
    }
}

const ADMINISTER: Flags = ADMIN | NOSCRIPT | LOADING | STALE;
const ANYWHERE: Flags = LOADING | STALE;
/// Changes what a node of a cluster knows.
const CHANGE: Flags = ADMIN | NO_ASYNC_LOADING;
const REPLICATE: Flags = ADMIN | NOSCRIPT | STALE | NO_ASYNC_LOADING;
const BE_REPLICA: Flags = ADMIN | NOSCRIPT | NO_MULTI | NO_ASYNC_LOADING;
const LOAD_MODULE: Flags = ADMIN | NOSCRIPT | NO_ASYNC_LOADING;
const CHANGING: &[&str] = &["nondeterministic_output"];

pub const COMMANDS: &[Command] = &[
    Command {
        acl: CONNECTION,
        ..cluster(
            "asking",
            1,
            FAST,
            "3.0.0",
            "Follows a redirection of a cluster.",
        )
        .not_stale()
    },
    Command {
        complexity: "Depends on subcommand.",
        sub: CLUSTER,
        run: Run::Container,
        ..cluster("cluster", -2, 0, "3.0.0", "Groups commands about clusters.").not_stale()
    },
    Command {
        since: "6.2.0",
        summary: "Makes a replica the master, in agreement with it.",
        syntax: "[TO target=(host port [FORCE])] [ABORT] [TIMEOUT milliseconds]",
        ..row("failover", -1, ADMIN | NOSCRIPT | STALE, Job::Failover)
    },
    Command {
        since: "4.0.0",
        summary: "Groups commands about modules.",
        complexity: "Depends on subcommand.",
        sub: MODULE,
        run: Run::Container,
        ..row("module", -2, 0, Job::Module)
    },
    Command {
        since: "2.8.0",
        summary: "Makes this connection a replica that goes on where it was.",
        complexity: "",
        syntax: "replicationid offset",
        ..row("psync", -3, BE_REPLICA, Job::Replicate)
    },
    Command {
        acl: CONNECTION,
        ..cluster(
            "readonly",
            1,
            LOADING | FAST,
            "3.0.0",
            "Allows reads from a replica of a cluster.",
        )
    },
    Command {
        acl: CONNECTION,
        ..cluster(
            "readwrite",
            1,
            LOADING | FAST,
            "3.0.0",
            "Forbids reads from a replica of a cluster.",
        )
    },
    Command {
        since: "3.0.0",
        summary: "Tells of a replica.",
        standing: Standing::Internal,
        ..row("replconf", -1, ADMINISTER | ALLOW_BUSY, Job::ReplConf)
    },
    Command {
        since: "5.0.0",
        summary: "Makes this server a replica of another, or a master.",
        syntax: "args=(host-port=(host port)|no-one=(NO ONE))",
        ..row("replicaof", 3, REPLICATE, Job::Replication)
    },
    Command {
        summary: "Makes this server a replica of another, or a master.",
        syntax: "args=(host-port=(host port)|no-one=(NO ONE))",
        standing: Standing::Deprecated {
            since: "5.0.0",
            by: "`REPLICAOF`",
        },
        ..row("slaveof", 3, REPLICATE, Job::Replication)
    },
    Command {
        summary: "Makes this connection a replica.",
        complexity: "",
        ..row("sync", 1, BE_REPLICA, Job::Replicate)
    },
    Command {
        since: "3.0.0",
        summary: "Waits until replicas have what this connection wrote.",
        acl: CONNECTION,
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        group: Group::Generic,
        syntax: "numreplicas:int timeout:int",
        ..row("wait", 3, NOSCRIPT, Job::Wait)
    },
    Command {
        since: "7.2.0",
        summary: "Waits until what this connection wrote is on the disk.",
        acl: CONNECTION,
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        group: Group::Generic,
        syntax: "numlocal:int numreplicas:int timeout:int",
        ..row("waitaof", 4, NOSCRIPT, Job::WaitAof)
    },
];

impl Command {
    const fn not_stale(self) -> Command {
        Command {
            flags: self.flags & !STALE,
            ..self
        }
    }
}

const MODULE: &[Command] = &[
    Command {
        since: "5.0.0",
        summary: "Lists the subcommands.",
        ..row("help", 2, ANYWHERE, Job::Module)
    },
    Command {
        since: "4.0.0",
        summary: "Lists modules.",
        complexity: "O(N) where N is the number of modules",
        tips: &["nondeterministic_output_order"],
        ..row("list", 2, ADMIN | NOSCRIPT, Job::Module)
    },
    Command {
        since: "4.0.0",
        summary: "Loads a module.",
        syntax: "path [arg ...]",
        ..row("load", -3, LOAD_MODULE, Job::Module)
    },
    Command {
        since: "7.0.0",
        summary: "Loads a module with its parameters.",
        syntax: "path [CONFIG... configs=(name value)] [ARGS args=(arg) ...]",
        ..row("loadex", -3, LOAD_MODULE, Job::Module)
    },
    Command {
        since: "4.0.0",
        summary: "Unloads a module.",
        syntax: "name",
        ..row("unload", 3, LOAD_MODULE, Job::Module)
    },
];

const CLUSTER: &[Command] = &[
    Command {
        syntax: "slot ...",
        ..cluster("addslots", -3, CHANGE, "3.0.0", "Gives slots to this node.")
    },
    Command {
        syntax: "(start-slot end-slot) ...",
        ..cluster(
            "addslotsrange",
            -4,
            CHANGE,
            "7.0.0",
            "Gives ranges of slots to this node.",
        )
    },
    Command {
        tips: CHANGING,
        ..cluster(
            "bumpepoch",
            2,
            CHANGE,
            "3.0.0",
            "Raises the epoch of this node.",
        )
    },
    Command {
        tips: CHANGING,
        syntax: "node-id",
        ..cluster(
            "count-failure-reports",
            3,
            ADMIN,
            "3.0.0",
            "Counts reports that a node fails.",
        )
    },
    Command {
        syntax: "slot",
        ..cluster(
            "countkeysinslot",
            3,
            0,
            "3.0.0",
            "Counts the keys of a slot.",
        )
    },
    Command {
        syntax: "slot ...",
        ..cluster(
            "delslots",
            -3,
            CHANGE,
            "3.0.0",
            "Takes slots from this node.",
        )
    },
    Command {
        syntax: "(start-slot end-slot) ...",
        ..cluster(
            "delslotsrange",
            -4,
            CHANGE,
            "7.0.0",
            "Takes ranges of slots from this node.",
        )
    },
    Command {
        syntax: "[options=FORCE|TAKEOVER]",
        ..cluster(
            "failover",
            -2,
            CHANGE,
            "3.0.0",
            "Makes this replica the master.",
        )
    },
    cluster(
        "flushslots",
        2,
        CHANGE,
        "3.0.0",
        "Takes all slots from this node.",
    ),
    Command {
        syntax: "node-id",
        ..cluster("forget", 3, CHANGE, "3.0.0", "Removes a node.")
    },
    Command {
        tips: CHANGING,
        syntax: "slot count",
        ..cluster("getkeysinslot", 4, 0, "3.0.0", "Lists keys of a slot.")
    },
    cluster("help", 2, LOADING, "5.0.0", "Lists the subcommands."),
    Command {
        tips: CHANGING,
        ..cluster("info", 2, 0, "3.0.0", "Tells how the cluster does.")
    },
    Command {
        syntax: "key:string",
        ..cluster("keyslot", 3, 0, "3.0.0", "Replies with the slot of a key.")
    },
    Command {
        tips: CHANGING,
        ..cluster("links", 2, 0, "7.0.0", "Lists connections to other nodes.")
    },
    Command {
        syntax: "ip port [cluster_bus_port:int @4.0.0]",
        history: &[("4.0.0", "Takes the port of the cluster bus.")],
        ..cluster("meet", -4, CHANGE, "3.0.0", "Introduces a node.")
    },
    cluster("myid", 2, 0, "3.0.0", "Replies with the name of this node."),
    Command {
        tips: CHANGING,
        ..cluster("nodes", 2, 0, "3.0.0", "Lists nodes and their slots.")
    },
    Command {
        tips: CHANGING,
        syntax: "node-id",
        ..cluster("replicas", 3, ADMIN, "5.0.0", "Lists replicas of a node.")
    },
    Command {
        syntax: "node-id",
        ..cluster(
            "replicate",
            3,
            CHANGE,
            "3.0.0",
            "Makes this node a replica of another.",
        )
    },
    Command {
        syntax: "[HARD|SOFT]",
        ..cluster(
            "reset",
            -2,
            ADMIN | NOSCRIPT,
            "3.0.0",
            "Forgets the cluster.",
        )
    },
    cluster(
        "saveconfig",
        2,
        CHANGE,
        "3.0.0",
        "Writes what is known of the cluster.",
    ),
    Command {
        syntax: "config-epoch:int",
        ..cluster(
            "set-config-epoch",
            3,
            CHANGE,
            "3.0.0",
            "Sets the epoch of a new node.",
        )
    },
    Command {
        syntax: "slot subcommand=(IMPORTING node-id|MIGRATING node-id|NODE node-id|STABLE)",
        ..cluster(
            "setslot",
            -4,
            CHANGE,
            "3.0.0",
            "Says which node has a slot.",
        )
    },
    Command {
        tips: CHANGING,
        ..cluster("shards", 2, 0, "7.0.0", "Lists the parts of the cluster.")
    },
    Command {
        tips: CHANGING,
        syntax: "node-id",
        standing: Standing::Deprecated {
            since: "5.0.0",
            by: "`CLUSTER REPLICAS`",
        },
        ..cluster("slaves", 3, ADMIN, "3.0.0", "Lists replicas of a node.")
    },
    Command {
        tips: CHANGING,
        history: &[
            ("4.0.0", "Tells the names of nodes."),
            ("7.0.0", "Tells more of the nodes' addresses."),
        ],
        standing: Standing::Deprecated {
            since: "7.0.0",
            by: "`CLUSTER SHARDS`",
        },
        ..cluster("slots", 2, 0, "3.0.0", "Lists slots and their nodes.")
    },
];
