//! PUBSUB: messages between clients. These are jobs: the server room performs them.

use super::flags::*;
use super::keys::{self, KeySpec, Keys};
use super::{Command, Group, Job, Run};

/// What a subscription names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Channel,
    /// A glob pattern of channels.
    Pattern,
    /// A channel of SSUBSCRIBE, apart from the others.
    ShardChannel,
}

impl Kind {
    /// The word of the reply to a subscription.
    pub const fn subscribe(self) -> &'static str {
        match self {
            Kind::Channel => "subscribe",
            Kind::Pattern => "psubscribe",
            Kind::ShardChannel => "ssubscribe",
        }
    }

    /// The word of the reply to its end.
    pub const fn unsubscribe(self) -> &'static str {
        match self {
            Kind::Channel => "unsubscribe",
            Kind::Pattern => "punsubscribe",
            Kind::ShardChannel => "sunsubscribe",
        }
    }
}

const ALWAYS: Flags = PUBSUB | LOADING | STALE;

const fn row(name: &'static str, arity: i32, flags: Flags, job: Job) -> Command {
    Command {
        name,
        arity,
        flags,
        group: Group::Pubsub,
        acl: PUBSUBS,
        run: Run::Job(job),
        ..Command::DEFAULT
    }
}

const SHARD_CHANNEL: Keys = &[KeySpec::range(keys::NOT_KEY, 1, 0, 1)];
const SHARD_CHANNELS: Keys = &[KeySpec::range(keys::NOT_KEY, 1, -1, 1)];

pub const COMMANDS: &[Command] = &[
    Command {
        since: "2.0.0",
        summary: "Listens to channels whose names match patterns.",
        complexity: "O(N) where N is the number of patterns",
        syntax: "pattern=(pattern) ...",
        ..row(
            "psubscribe",
            -2,
            ALWAYS | NOSCRIPT,
            Job::Subscribe(Kind::Pattern),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Sends a message to a channel.",
        complexity: "O(N+M) where N is the number of subscribers and M that of patterns",
        syntax: "channel message",
        ..row(
            "publish",
            3,
            ALWAYS | FAST | MAY_REPLICATE,
            Job::Publish(Kind::Channel),
        )
    },
    Command {
        since: "2.8.0",
        summary: "Groups commands about subscriptions.",
        complexity: "Depends on subcommand.",
        sub: SUB,
        run: Run::Container,
        ..row("pubsub", -2, 0, Job::Pubsub)
    },
    Command {
        since: "2.0.0",
        summary: "Listens no longer to channels whose names match patterns.",
        complexity: "O(N) where N is the number of patterns",
        syntax: "[pattern ...]",
        ..row(
            "punsubscribe",
            -1,
            ALWAYS | NOSCRIPT,
            Job::Unsubscribe(Kind::Pattern),
        )
    },
    Command {
        since: "7.0.0",
        summary: "Sends a message to a shard channel.",
        complexity: "O(N) where N is the number of subscribers",
        keys: SHARD_CHANNEL,
        syntax: "shardchannel message",
        ..row(
            "spublish",
            3,
            ALWAYS | FAST | MAY_REPLICATE,
            Job::Publish(Kind::ShardChannel),
        )
    },
    Command {
        since: "7.0.0",
        summary: "Listens to shard channels.",
        complexity: "O(N) where N is the number of channels",
        keys: SHARD_CHANNELS,
        syntax: "shardchannel ...",
        ..row(
            "ssubscribe",
            -2,
            ALWAYS | NOSCRIPT,
            Job::Subscribe(Kind::ShardChannel),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Listens to channels.",
        complexity: "O(N) where N is the number of channels",
        syntax: "channel ...",
        ..row(
            "subscribe",
            -2,
            ALWAYS | NOSCRIPT,
            Job::Subscribe(Kind::Channel),
        )
    },
    Command {
        since: "7.0.0",
        summary: "Listens no longer to shard channels.",
        complexity: "O(N) where N is the number of channels",
        keys: SHARD_CHANNELS,
        syntax: "[shardchannel ...]",
        ..row(
            "sunsubscribe",
            -1,
            ALWAYS | NOSCRIPT,
            Job::Unsubscribe(Kind::ShardChannel),
        )
    },
    Command {
        since: "2.0.0",
        summary: "Listens no longer to channels.",
        complexity: "O(N) where N is the number of channels",
        syntax: "[channel ...]",
        ..row(
            "unsubscribe",
            -1,
            ALWAYS | NOSCRIPT,
            Job::Unsubscribe(Kind::Channel),
        )
    },
];

const SUB: &[Command] = &[
    Command {
        since: "2.8.0",
        summary: "Lists channels that somebody listens to.",
        complexity: "O(N) where N is the number of channels",
        syntax: "[pattern]",
        ..row("channels", -2, ALWAYS, Job::Pubsub)
    },
    Command {
        since: "6.2.0",
        summary: "Lists the subcommands.",
        acl: 0,
        ..row("help", 2, LOADING | STALE, Job::Pubsub)
    },
    Command {
        since: "2.8.0",
        summary: "Counts the patterns that somebody listens to.",
        ..row("numpat", 2, ALWAYS, Job::Pubsub)
    },
    Command {
        since: "2.8.0",
        summary: "Counts the subscribers of channels.",
        complexity: "O(N) where N is the number of channels",
        syntax: "[channel ...]",
        ..row("numsub", -2, ALWAYS, Job::Pubsub)
    },
    Command {
        since: "7.0.0",
        summary: "Lists shard channels that somebody listens to.",
        complexity: "O(N) where N is the number of channels",
        syntax: "[pattern]",
        ..row("shardchannels", -2, ALWAYS, Job::Pubsub)
    },
    Command {
        since: "7.0.0",
        summary: "Counts the subscribers of shard channels.",
        complexity: "O(N) where N is the number of channels",
        syntax: "[shardchannel ...]",
        ..row("shardnumsub", -2, ALWAYS, Job::Pubsub)
    },
];
