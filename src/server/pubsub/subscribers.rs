//! Who of this node's clients listens to what.

use std::collections::BTreeMap;

use ahash::{AHashMap, AHashSet};

use super::delivery::Awaiting;
use crate::command::pubsub::Kind;
use crate::coordinator::listeners::Listeners;
use crate::keyspace::effects::class;
use crate::shard::message::SessionKey;

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
    pub(super) channels: AHashMap<Box<[u8]>, Vec<SessionKey>>,
    pub(super) shard_channels: AHashMap<Box<[u8]>, Vec<SessionKey>>,
    pub(super) patterns: BTreeMap<Box<[u8]>, Vec<SessionKey>>,
    mine: AHashMap<SessionKey, Mine>,
    /// Clients whose subscriptions not every node knows of yet.
    pub(super) awaiting: AHashMap<SessionKey, Awaiting>,
    /// `notify-keyspace-events` as class bits.
    pub classes: u32,
    /// `client-output-buffer-limit pubsub`, hard; 0: none.
    pub hard_bytes: usize,
}

impl Pubsub {
    pub(super) fn add(&mut self, session: SessionKey, kind: Kind, name: &[u8]) {
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

    pub(super) fn remove(&mut self, session: SessionKey, kind: Kind, name: &[u8]) -> bool {
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

    pub(super) fn count(&self, session: SessionKey, kind: Kind) -> usize {
        self.mine.get(&session).map_or(0, |mine| mine.count(kind))
    }

    pub(super) fn has(&self, session: SessionKey, kind: Kind, name: &[u8]) -> bool {
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
    pub(super) fn all(&self, session: SessionKey) -> Vec<(Kind, Box<[u8]>)> {
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
