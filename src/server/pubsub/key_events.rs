//! What key events become: messages to the channels of `notify-keyspace-events`.

use std::sync::Arc;

use super::{Message, Post};
use crate::command::pubsub::Kind;
use crate::coordinator::listeners;
use crate::keyspace::effects::class;
use crate::server::ask::NodeMessage;
use crate::server::host::ServerHost;
use crate::session::{Core, Link};

impl ServerHost {
    /// Sends what happened to keys to whoever listens. Redis: notify.c notifyKeyspaceEvent.
    pub(in crate::server) fn notify(&mut self, core: &mut Core, link: &mut dyn Link) {
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
}

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
