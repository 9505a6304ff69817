//! Pub/Sub between nodes: how a message finds the nodes that listen, and PUBSUB, which tells who does.

mod delivery;
mod key_events;
mod subscribers;
mod subscribing;

use std::sync::Arc;

pub use key_events::classes;
pub use subscribers::Pubsub;
pub use subscribing::Change;

use super::ask::{NodeMessage, Requester};
use super::host::ServerHost;
use super::jobs::done;
use crate::command::glob;
use crate::command::help::help;
use crate::command::pubsub::Kind;
use crate::coordinator::listeners::{self, Audience};
use crate::resp::{Args, CmdError, CmdResult, Output, Writer};
use crate::session::{Core, Link, Performed};

/// What nodes say to each other about messages.
pub enum Message {
    /// To the channel's home, which puts it in order; perhaps by way of that of key events.
    Publish {
        post: Arc<Post>,
        /// Who waits for the number of subscribers.
        requester: Option<Requester>,
    },
    /// To a node that has subscribers.
    Deliver(Arc<Post>),
    /// A client of the sending node is gone, with these subscriptions.
    Gone(Vec<(Kind, Box<[u8]>)>),
}

impl Message {
    /// Whether it carries what clients are to hear.
    pub fn is_telling(&self) -> bool {
        !matches!(self, Message::Gone(_))
    }
}

/// One message to one channel.
#[derive(Debug)]
pub struct Post {
    pub kind: Kind,
    pub channel: Box<[u8]>,
    pub text: Box<[u8]>,
}

impl ServerHost {
    /// PUBLISH and SPUBLISH.
    pub(super) fn publish(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        requester: Requester,
        kind: Kind,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        // What the client's earlier commands changed is announced first.
        if !core.shard.keyspace.effects.events.is_empty() {
            self.notify(core, link);
        }
        let name: &[u8] = match kind {
            Kind::ShardChannel => b"SPUBLISH",
            _ => b"PUBLISH",
        };
        let words = [name, args.get(1), args.get(2)];
        self.tell_replicas(core, &words, requester.db);
        let mut count = 0;
        if !self.pubsub.listeners.is_silent(kind) {
            let audience = self.pubsub.listeners.audience(kind, args.get(1));
            count = audience.count;
            if count > 0 {
                let post = Arc::new(Post {
                    kind,
                    channel: args.get(1).into(),
                    text: args.get(2).into(),
                });
                let behind_events = self.pubsub.wanted_classes() != 0;
                let (here, nodes) = (self.shard, self.shards);
                let to = listeners::first_stop(&post.channel, here, nodes, behind_events);
                if to != here {
                    let requester = Some(requester);
                    let message = Message::Publish { post, requester };
                    self.mail.push((to, NodeMessage::Pubsub(message)));
                    return Performed::Later;
                }
                self.relay(core, link, &post, &audience);
            }
        }
        done(Writer::new(out, requester.proto).int(count as i64))
    }

    /// As the channel's home: sends a message to every node that listens.
    fn relay(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        post: &Arc<Post>,
        audience: &Audience,
    ) {
        for &node in &audience.nodes {
            if node == self.shard {
                self.pubsub.deliver(post, core, link);
            } else {
                let message = Message::Deliver(post.clone());
                self.mail.push((node, NodeMessage::Pubsub(message)));
            }
        }
    }

    /// A message from a node.
    pub(super) fn pubsub_message(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        from: usize,
        message: Message,
    ) {
        match message {
            Message::Publish { post, requester } => {
                let home = listeners::home(&post.channel, self.shards);
                if home != self.shard {
                    let message = Message::Publish { post, requester };
                    self.mail.push((home, NodeMessage::Pubsub(message)));
                    return;
                }
                let audience = self.pubsub.listeners.audience(post.kind, &post.channel);
                self.relay(core, link, &post, &audience);
                // The home's knowledge counts: it is what the message goes by.
                if let Some(requester) = requester {
                    let mut out = Output::default();
                    let count = audience.count as i64;
                    let written = Writer::new(&mut out, requester.proto).int(count);
                    debug_assert!(written.is_ok());
                    self.reply(requester, out);
                }
            }
            Message::Deliver(post) => self.pubsub.deliver(&post, core, link),
            Message::Gone(all) => {
                for (kind, name) in all {
                    self.pubsub.listeners.change(kind, &name, from, false);
                }
                core.shard.keyspace.effects.classes = self.pubsub.wanted_classes();
            }
        }
    }

    /// PUBSUB CHANNELS, NUMSUB, NUMPAT and their shard forms: every node knows.
    pub(super) fn pubsub_command(&self, args: &Args, out: &mut Writer) -> CmdResult {
        let listeners = &self.pubsub.listeners;
        let kind = if args.get(1).to_ascii_lowercase().starts_with(b"shard") {
            Kind::ShardChannel
        } else {
            Kind::Channel
        };
        if args.is(1, "numpat") {
            return out.int(listeners.pattern_count() as i64);
        }
        if args.is(1, "numsub") || args.is(1, "shardnumsub") {
            out.array(2 * (args.len() - 2))?;
            for i in 2..args.len() {
                out.bulk(args.get(i))?;
                out.int(listeners.count(kind, args.get(i)) as i64)?;
            }
            return Ok(());
        }
        if args.is(1, "help") {
            return help(out, args, HELP);
        }
        if args.len() > 3 {
            return Err(CmdError::subcommand(args));
        }
        let is_shown = |name: &&[u8]| args.len() == 2 || glob::matches(args.get(2), name);
        let names: Vec<&[u8]> = listeners.names(kind).filter(is_shown).collect();
        out.array(names.len())?;
        names.into_iter().try_for_each(|name| out.bulk(name))
    }
}

const HELP: &[(&str, &str)] = &[
    (
        "CHANNELS [<pattern>]",
        "List channels that somebody listens to.",
    ),
    ("NUMPAT", "Count the patterns that somebody listens to."),
    (
        "NUMSUB [<channel> ...]",
        "Count the subscribers of channels.",
    ),
    (
        "SHARDCHANNELS [<pattern>]",
        "List shard channels that somebody listens to.",
    ),
    (
        "SHARDNUMSUB [<shardchannel> ...]",
        "Count the subscribers of shard channels.",
    ),
];
