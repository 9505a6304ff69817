//! SUBSCRIBE, UNSUBSCRIBE and their like: every node knows of it before the client has its reply.

use super::Message;
use super::delivery::Awaiting;
use crate::command::Job;
use crate::command::client::Subscriptions;
use crate::command::pubsub::Kind;
use crate::resp::{Args, CmdResult, Output, Writer};
use crate::server::ask::{NodeMessage, Question, Requester};
use crate::server::host::ServerHost;
use crate::session::{Core, Link, Performed};
use crate::shard::message::SessionKey;

/// Subscriptions on their way to every node.
pub struct Change {
    kind: Kind,
    names: Vec<Box<[u8]>>,
    subscribes: bool,
}

impl ServerHost {
    /// SUBSCRIBE and its like: every node is told before the client has its reply.
    pub(in crate::server) fn subscribe(
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
                let awaiting = Awaiting::new(kind, change.names.clone());
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
    pub(in crate::server) fn listen(&mut self, core: &mut Core, node: usize, change: &Change) {
        for name in &change.names {
            let listeners = &mut self.pubsub.listeners;
            listeners.change(change.kind, name, node, change.subscribes);
        }
        core.shard.keyspace.effects.classes = self.pubsub.wanted_classes();
    }

    /// Every node knows: the client is told.
    pub(in crate::server) fn subscribed(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        question: &Question,
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
        self.patrol.set_listening(self.pubsub.has_subscribers());
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
    pub(in crate::server) fn forget_subscriptions(&mut self, core: &mut Core, session: SessionKey) {
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
}
