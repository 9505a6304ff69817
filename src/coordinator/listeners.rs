//! Who listens to what, on all nodes: every node knows it, so that a message nobody waits for goes
//! nowhere, and one that somebody waits for crosses to each node once.
//!
//! ```text
//! SUBSCRIBE   every node is told and answers; then the client gets its reply
//! PUBLISH     the channel's home puts messages in order and sends each to the nodes that listen
//! ```
//! The order at the home is the order for every subscriber. Events of keys all have one home, since
//! a client may listen to them under two names.
//!
//! A subscriber of both hears of a change before what its author, or whoever saw the reply, then
//! publishes: while somebody waits for events, a message passes by their home on its way to its own.
//! The event is there before it, as mail is causally ordered, and has gone on to the subscriber. The
//! other way round it takes nothing: PUBLISH is answered when its message has left for subscribers.
//!
//! Nothing here knows a client: a node's own subscribers are its affair.

use std::collections::BTreeMap;

use ahash::AHashMap;
use smallvec::SmallVec;

use crate::command::pubsub::Kind;
use crate::command::{glob, keys};

/// What channels of key events begin with.
pub const KEY_EVENTS: &[u8] = b"__key";

/// Subscribers per node.
#[derive(Clone, Debug, Default)]
struct Counts(SmallVec<[u32; 4]>);

impl Counts {
    fn change(&mut self, node: usize, subscribes: bool) {
        if self.0.len() <= node {
            self.0.resize(node + 1, 0);
        }
        let count = &mut self.0[node];
        *count = if subscribes {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
    }

    fn total(&self) -> u64 {
        self.0.iter().map(|&count| u64::from(count)).sum()
    }
}

/// Where a message goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Subscriptions that it meets: what PUBLISH replies.
    pub count: u64,
    /// Nodes that have them, ascending.
    pub nodes: SmallVec<[usize; 4]>,
}

impl Audience {
    fn add(&mut self, counts: &Counts) {
        self.count += counts.total();
        for (node, &count) in counts.0.iter().enumerate() {
            if count > 0
                && let Err(at) = self.nodes.binary_search(&node)
            {
                self.nodes.insert(at, node);
            }
        }
    }
}

/// One node's knowledge of all subscriptions.
#[derive(Debug, Default)]
pub struct Listeners {
    channels: AHashMap<Box<[u8]>, Counts>,
    shard_channels: AHashMap<Box<[u8]>, Counts>,
    patterns: BTreeMap<Box<[u8]>, Counts>,
    /// Subscriptions that an event of a key could meet.
    of_keys: u64,
}

/// The node that puts events of keys in order.
const EVENTS_HOME: usize = 0;

/// The node that puts a channel's messages in order.
pub fn home(channel: &[u8], nodes: usize) -> usize {
    if channel.starts_with(KEY_EVENTS) {
        EVENTS_HOME
    } else {
        keys::home(channel, nodes)
    }
}

/// Where a node sends a message that a client published; itself if it puts the channel in order.
/// `behind_events`: somebody waits for events of keys, and may wait for the message, too.
pub fn first_stop(channel: &[u8], node: usize, nodes: usize, behind_events: bool) -> usize {
    if behind_events && node != EVENTS_HOME {
        EVENTS_HOME
    } else {
        home(channel, nodes)
    }
}

impl Listeners {
    /// A client of `node` begins to listen, or ends.
    pub fn change(&mut self, kind: Kind, name: &[u8], node: usize, subscribes: bool) {
        if kind == Kind::Pattern || kind == Kind::Channel && name.starts_with(KEY_EVENTS) {
            self.of_keys = if subscribes {
                self.of_keys + 1
            } else {
                self.of_keys.saturating_sub(1)
            };
        }
        match kind {
            Kind::Channel => change(&mut self.channels, name, node, subscribes),
            Kind::ShardChannel => change(&mut self.shard_channels, name, node, subscribes),
            Kind::Pattern => {
                let counts = self.patterns.entry(name.into()).or_default();
                counts.change(node, subscribes);
                if counts.total() == 0 {
                    self.patterns.remove(name);
                }
            }
        }
    }

    /// Whether nobody listens to anything of this kind of channel.
    pub fn is_silent(&self, kind: Kind) -> bool {
        match kind {
            Kind::ShardChannel => self.shard_channels.is_empty(),
            _ => self.channels.is_empty() && self.patterns.is_empty(),
        }
    }

    /// Whether somebody may want to know of events of keys.
    pub fn wants_key_events(&self) -> bool {
        self.of_keys > 0
    }

    /// Where a message to this channel goes.
    pub fn audience(&self, kind: Kind, channel: &[u8]) -> Audience {
        let mut audience = Audience::default();
        if kind == Kind::ShardChannel {
            if let Some(counts) = self.shard_channels.get(channel) {
                audience.add(counts);
            }
            return audience;
        }
        if let Some(counts) = self.channels.get(channel) {
            audience.add(counts);
        }
        for (pattern, counts) in &self.patterns {
            if glob::matches(pattern, channel) {
                audience.add(counts);
            }
        }
        audience
    }

    /// Subscribers of one channel, patterns not counted.
    pub fn count(&self, kind: Kind, name: &[u8]) -> u64 {
        let counts = match kind {
            Kind::Channel => self.channels.get(name),
            Kind::ShardChannel => self.shard_channels.get(name),
            Kind::Pattern => self.patterns.get(name),
        };
        counts.map_or(0, Counts::total)
    }

    /// Number of different patterns.
    pub fn pattern_count(&self) -> usize {
        self.patterns.len()
    }

    /// Number of different channels.
    pub fn channel_count(&self, kind: Kind) -> usize {
        match kind {
            Kind::ShardChannel => self.shard_channels.len(),
            _ => self.channels.len(),
        }
    }

    /// Channels that somebody listens to, in no order.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &[u8]> {
        let channels = match kind {
            Kind::ShardChannel => &self.shard_channels,
            _ => &self.channels,
        };
        channels.keys().map(|name| &**name)
    }
}

fn change(channels: &mut AHashMap<Box<[u8]>, Counts>, name: &[u8], node: usize, subscribes: bool) {
    if let Some(counts) = channels.get_mut(name) {
        counts.change(node, subscribes);
        if counts.total() == 0 {
            channels.remove(name);
        }
    } else if subscribes {
        channels.entry(name.into()).or_default().change(node, true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_to_every_node_that_listens_and_to_no_other() {
        let mut listeners = Listeners::default();
        let nobody = Audience::default();
        assert_eq!(listeners.audience(Kind::Channel, b"news"), nobody);
        for (kind, name, node) in [
            (Kind::Channel, "news", 2),
            (Kind::Channel, "news", 2),
            (Kind::Pattern, "n*", 0),
            (Kind::Pattern, "?ews", 2),
            (Kind::Pattern, "x*", 1),
            (Kind::ShardChannel, "news", 3),
        ] {
            listeners.change(kind, name.as_bytes(), node, true);
        }
        let audience = listeners.audience(Kind::Channel, b"news");
        assert_eq!((audience.count, &audience.nodes[..]), (4, &[0, 2][..]));
        let shard = listeners.audience(Kind::ShardChannel, b"news");
        assert_eq!((shard.count, &shard.nodes[..]), (1, &[3][..]));
        assert_eq!(listeners.count(Kind::Channel, b"news"), 2);
        assert_eq!(listeners.pattern_count(), 3);
        listeners.change(Kind::Channel, b"news", 2, false);
        listeners.change(Kind::Pattern, b"?ews", 2, false);
        listeners.change(Kind::Channel, b"news", 2, false);
        let audience = listeners.audience(Kind::Channel, b"news");
        assert_eq!((audience.count, &audience.nodes[..]), (1, &[0][..]));
        assert_eq!(listeners.names(Kind::Channel).count(), 0);
    }

    #[test]
    fn a_message_passes_by_the_home_of_events_while_somebody_waits_for_them() {
        for node in 0..4 {
            let home = keys::home(b"news", 4);
            assert_eq!(first_stop(b"news", node, 4, false), home);
            let behind = if node == EVENTS_HOME {
                home
            } else {
                EVENTS_HOME
            };
            assert_eq!(first_stop(b"news", node, 4, true), behind);
        }
        assert_eq!(first_stop(b"news", 0, 1, true), 0);
    }

    #[test]
    fn events_of_keys_are_wanted_while_somebody_could_hear_them() {
        let mut listeners = Listeners::default();
        listeners.change(Kind::Channel, b"other", 0, true);
        assert!(!listeners.wants_key_events() && !listeners.is_silent(Kind::Channel));
        for (kind, name) in [
            (Kind::Channel, &b"__keyevent@0__:del"[..]),
            (Kind::Pattern, b"*"),
        ] {
            listeners.change(kind, name, 1, true);
            assert!(listeners.wants_key_events());
            listeners.change(kind, name, 1, false);
            assert!(!listeners.wants_key_events());
        }
        assert_eq!(home(b"__keyspace@0__:any", 4), 0);
        assert_eq!(home(b"news", 4), keys::home(b"news", 4));
    }
}
