//! Pub/Sub on one node: its own subscribers, what is sent to them, and what key events become.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::{AHashMap, AHashSet};

use super::ask::{NodeMessage, Requester};
use super::frames::{Frames, Told};
use super::host::ServerHost;
use super::jobs::done;
use crate::command::client::Subscriptions;
use crate::command::connection::help;
use crate::command::pubsub::Kind;
use crate::command::{Job, glob};
use crate::coordinator::listeners::{self, Audience, Listeners};
use crate::keyspace::effects::class;
use crate::resp::{Args, CmdError, CmdResult, Output, Writer};
use crate::session::{Core, Link, Performed};
use crate::shard::message::SessionKey;

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

/// What a client listens to.
#[derive(Debug, Default)]
struct Mine {
    channels: AHashSet<Box<[u8]>>,
    patterns: AHashSet<Box<[u8]>>,
    shard_channels: AHashSet<Box<[u8]>>,
}

impl Mine {
    fn of(&mut self, kind: Kind) -> &mut AHashSet<Box<[u8]>> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::ShardChannel => &mut self.shard_channels,
        }
    }

    /// What replies count: channels and patterns together, shard channels apart.
    fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::ShardChannel => self.shard_channels.len(),
            _ => self.channels.len() + self.patterns.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.count(Kind::Channel) + self.count(Kind::ShardChannel) == 0
    }
}

/// Subscribers of this node, and what is known of all nodes.
#[derive(Debug, Default)]
pub struct Pubsub {
    pub listeners: Listeners,
    channels: AHashMap<Box<[u8]>, Vec<SessionKey>>,
    shard_channels: AHashMap<Box<[u8]>, Vec<SessionKey>>,
    patterns: BTreeMap<Box<[u8]>, Vec<SessionKey>>,
    mine: AHashMap<SessionKey, Mine>,
    /// Clients whose subscriptions not every node knows of yet.
    awaiting: AHashMap<SessionKey, Awaiting>,
    /// `notify-keyspace-events` as class bits.
    pub classes: u32,
    /// `client-output-buffer-limit pubsub`, hard; 0: none.
    pub hard_bytes: usize,
}

/// Subscriptions that were asked for, and the messages to them that came before the reply could: who
/// published them was told of this subscriber.
#[derive(Debug)]
struct Awaiting {
    kind: Kind,
    names: Vec<Box<[u8]>>,
    early: Vec<Arc<Post>>,
    /// What they will take of the output, about: bytes.
    early_bytes: usize,
}

impl Awaiting {
    /// The names that a message meets.
    fn met_by<'a>(&'a self, post: &'a Post) -> impl Iterator<Item = &'a [u8]> {
        self.names
            .iter()
            .map(|name| &name[..])
            .filter(|name| match (self.kind, post.kind) {
                (Kind::Pattern, Kind::Channel) => glob::matches(name, &post.channel),
                (kind, of) => kind == of && **name == *post.channel,
            })
    }

    /// Keeps a message until the reply has come, if it meets one of the names.
    fn keep(&mut self, post: &Arc<Post>) {
        let times = self.met_by(post).count();
        if times > 0 {
            self.early_bytes += times * (post.channel.len() + post.text.len());
            self.early.push(post.clone());
        }
    }
}

/// Subscriptions on their way to every node.
pub struct Change {
    kind: Kind,
    names: Vec<Box<[u8]>>,
    subscribes: bool,
}

impl Pubsub {
    fn add(&mut self, session: SessionKey, kind: Kind, name: &[u8]) {
        if !self
            .mine
            .entry(session)
            .or_default()
            .of(kind)
            .insert(name.into())
        {
            return;
        }
        let subscribers = match kind {
            Kind::Channel => self.channels.entry(name.into()).or_default(),
            Kind::ShardChannel => self.shard_channels.entry(name.into()).or_default(),
            Kind::Pattern => self.patterns.entry(name.into()).or_default(),
        };
        subscribers.push(session);
    }

    fn remove(&mut self, session: SessionKey, kind: Kind, name: &[u8]) -> bool {
        let Some(mine) = self.mine.get_mut(&session) else {
            return false;
        };
        if !mine.of(kind).remove(name) {
            return false;
        }
        if mine.is_empty() {
            self.mine.remove(&session);
        }
        let leave = |subscribers: &mut Vec<SessionKey>| {
            subscribers.retain(|key| *key != session);
            subscribers.is_empty()
        };
        match kind {
            Kind::Channel => forget(&mut self.channels, name, leave),
            Kind::ShardChannel => forget(&mut self.shard_channels, name, leave),
            Kind::Pattern => {
                if self.patterns.get_mut(name).is_some_and(leave) {
                    self.patterns.remove(name);
                }
            }
        }
        true
    }

    fn count(&self, session: SessionKey, kind: Kind) -> usize {
        self.mine.get(&session).map_or(0, |mine| mine.count(kind))
    }

    fn has(&self, session: SessionKey, kind: Kind, name: &[u8]) -> bool {
        let of = |mine: &Mine| match kind {
            Kind::Channel => mine.channels.contains(name),
            Kind::Pattern => mine.patterns.contains(name),
            Kind::ShardChannel => mine.shard_channels.contains(name),
        };
        self.mine.get(&session).is_some_and(of)
    }

    /// Clients of this node that listen to something.
    pub fn listening(&self) -> impl Iterator<Item = SessionKey> + '_ {
        self.mine.keys().copied()
    }

    /// Whether all that a client listens to is allowed: told of each name, and whether it is a pattern.
    pub fn hears_only(&self, session: SessionKey, allows: impl Fn(&[u8], bool) -> bool) -> bool {
        let all = self.all(session);
        all.iter()
            .all(|(kind, name)| allows(name, *kind == Kind::Pattern))
    }

    pub fn has_subscribers(&self) -> bool {
        !self.mine.is_empty()
    }

    /// Different channels, patterns and shard channels of all nodes, for INFO.
    pub fn figures(&self) -> (usize, usize, usize) {
        let listeners = &self.listeners;
        (
            listeners.channel_count(Kind::Channel),
            listeners.pattern_count(),
            listeners.channel_count(Kind::ShardChannel),
        )
    }

    /// Everything a client listens to, as CLIENT LIST counts it.
    pub fn counts(&self, session: SessionKey) -> (usize, usize, usize) {
        self.mine.get(&session).map_or((0, 0, 0), |mine| {
            (
                mine.channels.len(),
                mine.patterns.len(),
                mine.shard_channels.len(),
            )
        })
    }

    /// All of a client's subscriptions.
    fn all(&self, session: SessionKey) -> Vec<(Kind, Box<[u8]>)> {
        let Some(mine) = self.mine.get(&session) else {
            return Vec::new();
        };
        let channels = mine.channels.iter().map(|name| (Kind::Channel, name));
        let patterns = mine.patterns.iter().map(|name| (Kind::Pattern, name));
        let shards = mine
            .shard_channels
            .iter()
            .map(|name| (Kind::ShardChannel, name));
        let all = channels.chain(patterns).chain(shards);
        all.map(|(kind, name)| (kind, name.clone())).collect()
    }

    /// The classes of events that anybody can hear of.
    pub fn wanted_classes(&self) -> u32 {
        let on = self.classes & (class::KEYSPACE | class::KEYEVENT) != 0;
        if on && self.listeners.wants_key_events() {
            self.classes
        } else {
            0
        }
    }

    /// Puts a message into the outputs of this node's subscribers. A subscriber that is too far
    /// behind is closed.
    fn deliver(&mut self, post: &Arc<Post>, core: &mut Core, link: &mut dyn Link) {
        if !self.awaiting.is_empty() {
            for session in self.keep_early(post) {
                core.counters.output_limit_closed += 1;
                core.abandon(session, link);
            }
        }
        let Post {
            kind,
            channel,
            text,
        } = &**post;
        let word = word_of(*kind);
        let subscribers = match kind {
            Kind::ShardChannel => self.shard_channels.get(channel),
            _ => self.channels.get(channel),
        };
        let parts = [word, channel, text];
        let mut frames = Frames::new(Words(&parts));
        for &session in subscribers.into_iter().flatten() {
            self.send(&mut frames, session, core, link);
        }
        if *kind == Kind::ShardChannel {
            return;
        }
        for (pattern, subscribers) in &self.patterns {
            if glob::matches(pattern, channel) {
                let parts = [word_of(Kind::Pattern), pattern, channel, text];
                let mut frames = Frames::new(Words(&parts));
                for &session in subscribers {
                    self.send(&mut frames, session, core, link);
                }
            }
        }
    }

    /// Keeps a message for those whose reply to SUBSCRIBE has not come yet; returns who has more of
    /// them waiting than a client's output may hold.
    fn keep_early(&mut self, post: &Arc<Post>) -> Vec<SessionKey> {
        let max = match self.hard_bytes {
            0 => usize::MAX,
            bytes => bytes,
        };
        self.awaiting
            .values_mut()
            .for_each(|awaiting| awaiting.keep(post));
        let behind = |_: &SessionKey, awaiting: &mut Awaiting| awaiting.early_bytes > max;
        let behind = self.awaiting.extract_if(behind);
        behind.map(|(session, _)| session).collect()
    }

    fn send(
        &self,
        frames: &mut Frames<Words>,
        key: SessionKey,
        core: &mut Core,
        link: &mut dyn Link,
    ) {
        let Some(session) = core.session(key) else {
            return;
        };
        let frame = frames.of(session.client.proto);
        link.out(key).bytes.extend_from_slice(frame);
        if self.hard_bytes > 0 && link.pending_bytes(key) > self.hard_bytes {
            core.counters.output_limit_closed += 1;
            core.abandon(key, link);
        }
    }
}

/// What a message is called that comes by this kind of subscription.
fn word_of(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::Channel => b"message",
        Kind::Pattern => b"pmessage",
        Kind::ShardChannel => b"smessage",
    }
}

fn forget(
    channels: &mut AHashMap<Box<[u8]>, Vec<SessionKey>>,
    name: &[u8],
    leave: impl FnOnce(&mut Vec<SessionKey>) -> bool,
) {
    if channels.get_mut(name).is_some_and(leave) {
        channels.remove(name);
    }
}

/// A message, as its words.
struct Words<'a>(&'a [&'a [u8]]);

impl Told for Words<'_> {
    fn write(&self, out: &mut Writer) -> CmdResult {
        out.push(self.0.len())?;
        self.0.iter().try_for_each(|word| out.bulk(word))
    }
}

impl ServerHost {
    /// SUBSCRIBE and its like: every node is told before the client has its reply.
    pub(super) fn subscribe(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        requester: Requester,
        (job, kind, subscribes): (Job, Kind, bool),
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        let session = requester.session;
        let mut names: Vec<Box<[u8]>> = (1..args.len()).map(|i| args.get(i).into()).collect();
        if names.is_empty() {
            let all = self.pubsub.all(session);
            let its = all.into_iter().filter(|(of, _)| *of == kind);
            names = its.map(|(_, name)| name).collect();
        }
        let mut changes = names.clone();
        changes.sort_unstable();
        changes.dedup();
        changes.retain(|name| self.pubsub.has(session, kind, name) != subscribes);
        let change = Change {
            kind,
            names: changes,
            subscribes,
        };
        if self.shards > 1 && !change.names.is_empty() {
            if subscribes {
                let awaiting = Awaiting {
                    kind,
                    names: change.names.clone(),
                    early: Vec::new(),
                    early_bytes: 0,
                };
                self.pubsub.awaiting.insert(session, awaiting);
            }
            return self.ask_all(job, requester, args.to_buf(), Some(Box::new(change)));
        }
        self.listen(core, self.shard, &change);
        self.confirm(core, requester, kind, subscribes, &names, out);
        self.bypass_reply_mode(core, session, link, out);
        Performed::Done
    }

    /// Notes subscriptions of a node's clients.
    pub(super) fn listen(&mut self, core: &mut Core, node: usize, change: &Change) {
        for name in &change.names {
            let listeners = &mut self.pubsub.listeners;
            listeners.change(change.kind, name, node, change.subscribes);
        }
        core.shard.keyspace.effects.classes = self.pubsub.wanted_classes();
    }

    /// Every node knows: the client is told.
    pub(super) fn subscribed(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        question: &super::ask::Question,
        out: &mut Output,
    ) {
        let Some(change) = question.prepared::<Change>() else {
            return;
        };
        let (requester, args) = (question.requester, question.args.as_args());
        let awaiting = self.pubsub.awaiting.remove(&requester.session);
        if core.session(requester.session).is_none() {
            if change.subscribes {
                let its = change.names.iter();
                self.tell_gone(its.map(|name| (change.kind, name.clone())).collect());
            }
            return;
        }
        let names: Vec<Box<[u8]>> = match args.len() {
            1 => change.names.clone(),
            len => (1..len).map(|i| args.get(i).into()).collect(),
        };
        let (kind, subscribes) = (change.kind, change.subscribes);
        self.confirm(core, requester, kind, subscribes, &names, out);
        if let Some(awaiting) = awaiting {
            self.catch_up(core, link, requester, &awaiting, out);
        }
        self.bypass_reply_mode(core, requester.session, link, out);
    }

    /// Behind the replies to subscriptions comes what came to them before.
    fn catch_up(
        &self,
        core: &Core,
        link: &mut dyn Link,
        requester: Requester,
        awaiting: &Awaiting,
        out: &mut Output,
    ) {
        let session = requester.session;
        for post in &awaiting.early {
            for name in awaiting.met_by(post) {
                let mut parts = vec![word_of(awaiting.kind), name];
                if awaiting.kind == Kind::Pattern {
                    parts.push(&post.channel);
                }
                parts.push(&post.text);
                let mut frames = Frames::new(Words(&parts));
                let frame = frames.of(requester.proto);
                // The replies of a transaction are one array, which no message stands in.
                match core.is_executing(session) {
                    true => link.out(session).bytes.extend_from_slice(frame),
                    false => out.bytes.extend_from_slice(frame),
                }
            }
        }
    }

    /// Replies to subscriptions are pushes: CLIENT REPLY does not hold them back.
    fn bypass_reply_mode(
        &self,
        core: &Core,
        session: SessionKey,
        link: &mut dyn Link,
        out: &mut Output,
    ) {
        let suppressed = core
            .session(session)
            .is_some_and(|session| session.client.reply.suppresses());
        if suppressed {
            link.out(session).append(out);
            out.clear();
        }
    }

    /// Notes the client's subscriptions and writes one reply for each.
    fn confirm(
        &mut self,
        core: &mut Core,
        requester: Requester,
        kind: Kind,
        subscribes: bool,
        names: &[Box<[u8]>],
        out: &mut Output,
    ) {
        let session = requester.session;
        let mut writer = Writer::new(out, requester.proto);
        let word = if subscribes {
            kind.subscribe()
        } else {
            kind.unsubscribe()
        };
        let mut tell = |name: Option<&[u8]>, count: usize| -> CmdResult {
            writer.push(3)?;
            writer.bulk(word.as_bytes())?;
            match name {
                Some(name) => writer.bulk(name)?,
                None => writer.null()?,
            }
            writer.int(count as i64)
        };
        let mut written = Ok(());
        if names.is_empty() {
            written = tell(None, self.pubsub.count(session, kind));
        }
        for name in names {
            if subscribes {
                self.pubsub.add(session, kind, name);
            } else {
                self.pubsub.remove(session, kind, name);
            }
            let count = self.pubsub.count(session, kind);
            written = written.and_then(|()| tell(Some(name), count));
        }
        debug_assert!(written.is_ok(), "a growing buffer takes everything");
        self.count_subscriptions(core, session);
    }

    fn count_subscriptions(&mut self, core: &mut Core, session: SessionKey) {
        self.patrol.set_listening(!self.pubsub.mine.is_empty());
        let (channels, patterns, shards) = self.pubsub.counts(session);
        if let Some(session) = core.session_mut(session) {
            session.client.subscriptions = Subscriptions {
                channels,
                patterns,
                shard_channels: shards,
            };
        }
    }

    /// A client is gone, or begins anew.
    pub(super) fn forget_subscriptions(&mut self, core: &mut Core, session: SessionKey) {
        let all = self.pubsub.all(session);
        if all.is_empty() {
            return;
        }
        for (kind, name) in &all {
            self.pubsub.remove(session, *kind, name);
        }
        self.count_subscriptions(core, session);
        self.tell_gone(all);
    }

    fn tell_gone(&mut self, all: Vec<(Kind, Box<[u8]>)>) {
        for node in 0..self.shards {
            let message = Message::Gone(all.clone());
            self.mail.push((node, NodeMessage::Pubsub(message)));
        }
    }

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

    /// Sends what happened to keys to whoever listens. Redis: notify.c notifyKeyspaceEvent.
    pub(super) fn notify(&mut self, core: &mut Core, link: &mut dyn Link) {
        let events = std::mem::take(&mut core.shard.keyspace.effects.events);
        let classes = self.pubsub.classes;
        for occurrence in &events {
            let (db, name) = (occurrence.db, occurrence.event.name.as_bytes());
            if classes & class::KEYSPACE != 0 {
                let head = format!("__keyspace@{db}__:");
                self.announce(core, link, &[head.as_bytes(), &occurrence.key], name);
            }
            if classes & class::KEYEVENT != 0 {
                let head = format!("__keyevent@{db}__:");
                self.announce(core, link, &[head.as_bytes(), name], &occurrence.key);
            }
        }
        let mut events = events;
        events.clear();
        core.shard.keyspace.effects.events = events;
    }

    fn announce(&mut self, core: &mut Core, link: &mut dyn Link, channel: &[&[u8]], text: &[u8]) {
        let channel = channel.concat();
        let audience = self.pubsub.listeners.audience(Kind::Channel, &channel);
        if audience.count == 0 {
            return;
        }
        let post = Arc::new(Post {
            kind: Kind::Channel,
            channel: channel.into(),
            text: text.into(),
        });
        if self.shard == listeners::home(&post.channel, self.shards) {
            self.relay(core, link, &post, &audience);
        } else {
            let requester = None;
            let message = Message::Publish { post, requester };
            self.mail.push((0, NodeMessage::Pubsub(message)));
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
            return help(out, "PUBSUB", HELP);
        }
        if args.len() > 3 {
            return Err(CmdError::subcommand("PUBSUB", args.get(1)));
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

/// The class bits of `notify-keyspace-events`.
pub fn classes(letters: &str) -> u32 {
    let of = |letter| match letter {
        'K' => class::KEYSPACE,
        'E' => class::KEYEVENT,
        'A' => class::ALL,
        'g' => class::GENERIC,
        '$' => class::STRING,
        'l' => class::LIST,
        's' => class::SET,
        'h' => class::HASH,
        'z' => class::ZSET,
        'x' => class::EXPIRED,
        'e' => class::EVICTED,
        't' => class::STREAM,
        'm' => class::KEY_MISS,
        'n' => class::NEW,
        _ => 0,
    };
    letters.chars().map(of).fold(0, |all, class| all | class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_before_the_reply_are_kept_as_far_as_the_limit() {
        let asked = |kind, name: &str| Awaiting {
            kind,
            names: vec![name.as_bytes().into()],
            early: Vec::new(),
            early_bytes: 0,
        };
        let mut pubsub = Pubsub {
            hard_bytes: 100,
            ..Pubsub::default()
        };
        pubsub.awaiting.insert(1, asked(Kind::Channel, "news"));
        pubsub.awaiting.insert(2, asked(Kind::Pattern, "n*"));
        pubsub.awaiting.insert(3, asked(Kind::ShardChannel, "news"));
        let post = |channel: &str| {
            Arc::new(Post {
                kind: Kind::Channel,
                channel: channel.as_bytes().into(),
                text: [b'x'; 46][..].into(),
            })
        };
        assert_eq!(pubsub.keep_early(&post("news")), []);
        assert_eq!(pubsub.keep_early(&post("news")), []);
        assert_eq!(pubsub.keep_early(&post("none")), [2]);
        assert_eq!(pubsub.awaiting[&1].early.len(), 2);
        assert_eq!(pubsub.keep_early(&post("news")), [1]);
        assert_eq!(pubsub.awaiting.len(), 1, "who was met by nothing waits on");
        pubsub.hard_bytes = 0;
        pubsub.awaiting.insert(1, asked(Kind::Channel, "news"));
        (0..100).for_each(|_| assert!(pubsub.keep_early(&post("news")).is_empty()));
    }
}
