//! Client-side caching on one node: who tracks, and how clients are told that a key has changed.
//!
//! A key's home lists its readers when it changes ([`crate::keyspace::tracking`]) and tells their
//! nodes; prefixes of clients that broadcast are known on every shard. A reply with a value left the
//! home before the message that the value is stale, and mail keeps that order.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;

use super::ask::{NodeMessage, Question, Requester};
use super::frames::{Frames, Told};
use super::host::ServerHost;
use super::jobs::done;
use crate::command::Job;
use crate::command::tracking::{Mode, Tracking, Wish};
use crate::keyspace::tracking::{Broadcast, ChangedKey, Reader, Stale};
use crate::resp::{Args, CmdError, CmdResult, Output, Proto, Writer};
use crate::session::{Core, Link, Performed};
use crate::shard::message::SessionKey;

/// What nodes say to each other about what clients cache.
pub enum Message {
    /// Keys that clients of the receiving node have read.
    Stale(Vec<Stale>),
    /// Keys under a prefix.
    Broadcast {
        prefix: Box<[u8]>,
        keys: Arc<[ChangedKey]>,
    },
    Flushed,
    /// For a client of the receiving node, instead of another.
    Redirected {
        to: SessionKey,
        from: Reader,
        news: Arc<News>,
    },
    /// The client to which a client of the receiving node redirects is gone.
    Broken(SessionKey),
    /// A client of the sending node broadcasts on these no longer.
    Gone(Vec<Box<[u8]>>),
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// These keys have changed.
    Keys(Vec<Box<[u8]>>),
    /// Every key has.
    Everything,
}

/// The channel on which clients that speak RESP2 are told. Redis: tracking.c TrackingChannelName.
const CHANNEL: &[u8] = b"__redis__:invalidate";

impl Told for Arc<News> {
    /// A push in RESP3, a message in RESP2.
    fn write(&self, out: &mut Writer) -> CmdResult {
        if out.resp3() {
            out.push(2)?;
            out.bulk(b"invalidate")?;
        } else {
            out.push(3)?;
            out.bulk(b"message")?;
            out.bulk(CHANNEL)?;
        }
        match &**self {
            News::Keys(keys) => {
                out.array(keys.len())?;
                keys.iter().try_for_each(|key| out.bulk(key))
            }
            // Differs: A client that speaks RESP2 is told of a flush by the null of RESP2, whatever the
            // client that redirects to it speaks. Redis takes the null of the latter.
            News::Everything => out.null(),
        }
    }
}

/// News for several clients.
type Letter = Frames<Arc<News>>;

/// Clients of one node that track.
#[derive(Debug, Default)]
pub struct Trackers {
    /// Their prefixes.
    all: AHashMap<SessionKey, Vec<Box<[u8]>>>,
    by_prefix: BTreeMap<Box<[u8]>, Vec<SessionKey>>,
    /// This shard's part of `tracking-table-max-keys`, if that limits anything.
    pub max_keys: Option<usize>,
}

impl Trackers {
    fn add(&mut self, session: SessionKey, prefixes: &[Box<[u8]>]) {
        self.all
            .entry(session)
            .or_default()
            .extend_from_slice(prefixes);
        for prefix in prefixes {
            let sessions = self.by_prefix.entry(prefix.clone()).or_default();
            sessions.push(session);
        }
    }

    /// Returns the prefixes that the client had.
    fn remove(&mut self, session: SessionKey) -> Vec<Box<[u8]>> {
        let prefixes = self.all.remove(&session).unwrap_or_default();
        for prefix in &prefixes {
            if let Some(sessions) = self.by_prefix.get_mut(prefix) {
                sessions.retain(|key| *key != session);
                if sessions.is_empty() {
                    self.by_prefix.remove(prefix);
                }
            }
        }
        prefixes
    }
}

impl ServerHost {
    /// CLIENT TRACKING
    pub(super) fn client_tracking(
        &mut self,
        core: &mut Core,
        requester: Requester,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        let Some(session) = core.session(requester.session) else {
            return Performed::Done;
        };
        let wish = match Wish::parse(args, session.client.tracking.as_deref()) {
            Ok(wish) => wish,
            Err(error) => return Performed::Failed(error),
        };
        let concerns_all = wish.redirect.is_some() || !wish.prefixes.is_empty();
        if concerns_all && self.shards > 1 {
            let wish = Some(Box::new(wish) as Box<_>);
            return self.ask_all(Job::ClientTracking, requester, args.to_buf(), wish);
        }
        let target = self.track(core, self.shard, &wish);
        match self.tracked(core, requester.session, &wish, target) {
            Ok(()) => done(Writer::new(out, requester.proto).ok()),
            Err(error) => Performed::Failed(error),
        }
    }

    /// One node's part: it notes the prefixes, and looks for the client to redirect to.
    pub(super) fn track(&mut self, core: &mut Core, node: usize, wish: &Wish) -> Option<Reader> {
        let tracking = &mut core.shard.keyspace.effects.tracking;
        for prefix in &wish.prefixes {
            tracking.change_prefix(prefix, node, true);
        }
        let id = wish.redirect?;
        let target = core.sessions().find(|session| session.client.id == id)?;
        Some((self.shard, target.key))
    }

    /// Every node has done its part.
    pub(super) fn tracking_agreed(
        &mut self,
        core: &mut Core,
        question: &Question,
        target: Option<Reader>,
        out: &mut Writer,
    ) -> CmdResult {
        if let Some(wish) = question.prepared::<Wish>() {
            self.tracked(core, question.requester.session, wish, target)?;
        }
        out.ok()
    }

    /// The client tracks as it wished, or has its error.
    fn tracked(
        &mut self,
        core: &mut Core,
        key: SessionKey,
        wish: &Wish,
        target: Option<Reader>,
    ) -> CmdResult {
        const NOBODY: CmdError =
            CmdError::Text("ERR The client ID you want redirect to does not exist");
        let redirect = wish.redirect.zip(target);
        let is_nobody = wish.redirect.is_some() && redirect.is_none();
        let Some(session) = core.session_mut(key).filter(|_| !is_nobody) else {
            self.tell_prefixes_gone(wish.prefixes.clone());
            return Err(NOBODY);
        };
        if !wish.on {
            self.forget_tracking(core, key);
            return Ok(());
        }
        let tracking = session.client.tracking.get_or_insert_default();
        let mut prefixes = std::mem::take(&mut tracking.prefixes);
        prefixes.extend_from_slice(&wish.prefixes);
        prefixes.sort_unstable();
        **tracking = Tracking {
            mode: wish.mode,
            no_loop: wish.no_loop,
            is_caching: tracking.is_caching,
            redirect,
            is_broken: false,
            prefixes,
        };
        self.trackers.add(key, &wish.prefixes);
        Ok(())
    }

    /// A client is gone, or tracks no longer.
    pub(super) fn forget_tracking(&mut self, core: &mut Core, key: SessionKey) {
        if let Some(session) = core.session_mut(key) {
            session.client.tracking = None;
        }
        let prefixes = self.trackers.remove(key);
        self.tell_prefixes_gone(prefixes);
    }

    fn tell_prefixes_gone(&mut self, prefixes: Vec<Box<[u8]>>) {
        if !prefixes.is_empty() {
            for node in 0..self.shards {
                self.tell(node, Message::Gone(prefixes.clone()));
            }
        }
    }

    /// Tells clients what has changed on this shard.
    pub(super) fn invalidate(&mut self, core: &mut Core) {
        let tracking = &mut core.shard.keyspace.effects.tracking;
        // A flush without a coordinator is under way on every shard.
        let is_flushed = tracking.take_flushed() && self.shard == 0;
        let is_flushed = tracking.take_flush_told() || is_flushed;
        let broadcasts = tracking.take_broadcasts();
        let mut stale: Vec<Vec<Stale>> = vec![Vec::new(); self.shards];
        for its in tracking.take_stale() {
            stale[its.reader.0].push(its);
        }
        for (node, its) in stale.into_iter().enumerate() {
            if !its.is_empty() {
                self.tell(node, Message::Stale(its));
            }
        }
        for Broadcast {
            prefix,
            keys,
            shards,
        } in broadcasts
        {
            let keys: Arc<[ChangedKey]> = keys.into();
            for node in shards {
                let (prefix, keys) = (prefix.clone(), keys.clone());
                self.tell(node, Message::Broadcast { prefix, keys });
            }
        }
        if is_flushed {
            for node in 0..self.shards {
                self.tell(node, Message::Flushed);
            }
        }
    }

    /// Tells one client of this node what has changed. It has nothing else under way here: its command
    /// has just been answered, or is about to begin.
    pub(super) fn invalidate_own(&mut self, core: &mut Core, link: &mut dyn Link, key: SessionKey) {
        let tracking = &mut core.shard.keyspace.effects.tracking;
        for stale in tracking.take_stale_of((self.shard, key)) {
            self.stale(core, link, stale);
        }
    }

    /// By mail also to this node: a reply to a client that was waiting is under way there.
    fn tell(&mut self, node: usize, message: Message) {
        self.mail.push((node, NodeMessage::Tracking(message)));
    }

    /// A message from a node.
    pub(super) fn tracking_message(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        from: usize,
        message: Message,
    ) {
        match message {
            Message::Stale(all) => {
                for stale in all {
                    self.stale(core, link, stale);
                }
            }
            Message::Broadcast { prefix, keys } => self.broadcast(core, link, &prefix, &keys),
            Message::Flushed => {
                let mut letter = Frames::new(Arc::new(News::Everything));
                let sessions: Vec<SessionKey> = self.trackers.all.keys().copied().collect();
                for session in sessions {
                    self.send_news(core, link, session, &mut letter);
                }
            }
            Message::Redirected { to, from, news } => {
                self.redirect(core, link, to, from, &mut Frames::new(news));
            }
            Message::Broken(session) => self.redirection_broken(core, link, session),
            Message::Gone(prefixes) => {
                let tracking = &mut core.shard.keyspace.effects.tracking;
                for prefix in prefixes {
                    tracking.change_prefix(&prefix, from, false);
                }
            }
        }
    }

    fn stale(&mut self, core: &mut Core, link: &mut dyn Link, stale: Stale) {
        let (_, session) = stale.reader;
        let tracking = core
            .session(session)
            .and_then(|session| session.client.tracking.as_ref());
        let wants = |its: &Tracking| its.mode != Mode::Broadcast && !(its.no_loop && stale.is_own);
        if tracking.is_some_and(|its| wants(its)) {
            let news = Arc::new(News::Keys(vec![stale.key]));
            self.send_news(core, link, session, &mut Frames::new(news));
        }
    }

    fn broadcast(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        prefix: &[u8],
        keys: &[ChangedKey],
    ) {
        let news_without = |author: Option<Reader>| {
            let others = keys
                .iter()
                .filter(|(_, by)| author.is_none() || *by != author);
            News::Keys(others.map(|(key, _)| key.clone()).collect())
        };
        let mut to_all = Frames::new(Arc::new(news_without(None)));
        let sessions = self.trackers.by_prefix.get(prefix).cloned();
        for session in sessions.unwrap_or_default() {
            let me = Some((self.shard, session));
            let no_loop = core
                .session(session)
                .and_then(|session| session.client.tracking.as_ref())
                .is_some_and(|tracking| tracking.no_loop);
            if !no_loop || keys.iter().all(|(_, by)| *by != me) {
                self.send_news(core, link, session, &mut to_all);
            } else if keys.iter().any(|(_, by)| *by != me) {
                let news = Arc::new(news_without(me));
                self.send_news(core, link, session, &mut Frames::new(news));
            }
        }
    }

    /// Tells a client of this node, or the one it redirects to.
    fn send_news(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        key: SessionKey,
        letter: &mut Letter,
    ) {
        let Some(session) = core.session(key) else {
            return;
        };
        let proto = session.client.proto;
        let redirect = session
            .client
            .tracking
            .as_ref()
            .and_then(|its| its.redirect);
        match redirect {
            None if proto == Proto::Resp3 => {
                link.out(key).bytes.extend_from_slice(letter.of(proto));
            }
            // RESP2 has no way to tell a message from a reply.
            None => {}
            Some((_, (node, to))) => {
                let from = (self.shard, key);
                if node == self.shard {
                    self.redirect(core, link, to, from, letter);
                } else {
                    let news = letter.message.clone();
                    self.tell(node, Message::Redirected { to, from, news });
                }
            }
        }
    }

    /// Tells a client of this node what another asked it to be told.
    fn redirect(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        to: SessionKey,
        from: Reader,
        letter: &mut Letter,
    ) {
        match core.session(to) {
            None => {
                let (node, session) = from;
                self.tell(node, Message::Broken(session));
            }
            Some(session) => {
                let client = &session.client;
                if client.proto == Proto::Resp3 || client.subscriptions.any() {
                    let news = letter.of(client.proto);
                    link.out(to).bytes.extend_from_slice(news);
                }
            }
        }
    }

    fn redirection_broken(&mut self, core: &mut Core, link: &mut dyn Link, key: SessionKey) {
        let Some(session) = core.session_mut(key) else {
            return;
        };
        let proto = session.client.proto;
        let Some(tracking) = &mut session.client.tracking else {
            return;
        };
        tracking.is_broken = true;
        let (Some((id, _)), Proto::Resp3) = (tracking.redirect, proto) else {
            return;
        };
        let mut writer = Writer::new(link.out(key), proto);
        let written = writer
            .push(2)
            .and_then(|()| writer.bulk(b"tracking-redir-broken"))
            .and_then(|()| writer.int(id as i64));
        debug_assert!(written.is_ok(), "a growing buffer takes everything");
    }
}
