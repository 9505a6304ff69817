//! What subscribers are sent: messages as they come, and behind the reply to SUBSCRIBE those that came
//! before it.

use std::sync::Arc;

use super::{Post, Pubsub};
use crate::command::glob;
use crate::command::pubsub::Kind;
use crate::resp::{CmdResult, Output, Writer};
use crate::server::ask::Requester;
use crate::server::frames::{Frames, Told};
use crate::server::host::ServerHost;
use crate::session::{Core, Link, State};
use crate::shard::message::SessionKey;

/// Subscriptions that were asked for, and the messages to them that came before the reply could: who
/// published them was told of this subscriber.
#[derive(Debug)]
pub(super) struct Awaiting {
    kind: Kind,
    names: Vec<Box<[u8]>>,
    early: Vec<Arc<Post>>,
    /// What they will take of the output, about: bytes.
    early_bytes: usize,
}

impl Awaiting {
    pub(super) fn new(kind: Kind, names: Vec<Box<[u8]>>) -> Awaiting {
        Awaiting {
            kind,
            names,
            early: Vec::new(),
            early_bytes: 0,
        }
    }

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

impl Pubsub {
    /// Puts a message into the outputs of this node's subscribers. A subscriber that is too far
    /// behind is closed.
    pub(super) fn deliver(&mut self, post: &Arc<Post>, core: &mut Core, link: &mut dyn Link) {
        if !self.awaiting.is_empty() {
            for session in self.keep_early(post) {
                core.cut_off(session, link);
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
        if session.state == State::Closing {
            return;
        }
        let frame = frames.of(session.client.proto);
        link.out(key).bytes.extend_from_slice(frame);
        if self.hard_bytes > 0 && link.pending_bytes(key) > self.hard_bytes {
            core.cut_off(key, link);
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

/// A message, as its words.
struct Words<'a>(&'a [&'a [u8]]);

impl Told for Words<'_> {
    fn write(&self, out: &mut Writer) -> CmdResult {
        out.push(self.0.len())?;
        self.0.iter().try_for_each(|word| out.bulk(word))
    }
}

impl ServerHost {
    /// Behind the replies to subscriptions comes what came to them before.
    pub(super) fn catch_up(
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_before_the_reply_are_kept_as_far_as_the_limit() {
        let asked = |kind, name: &str| Awaiting::new(kind, vec![name.as_bytes().into()]);
        let mut pubsub = Pubsub::default();
        pubsub.hard_bytes = 100;
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
