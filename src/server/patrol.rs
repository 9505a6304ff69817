//! Clients that have to go: the idle, the readers that are too slow, and strangers who do not read.
//!
//! Each node looks at its own clients every [`PERIOD_MS`], and only while a setting asks for it: a
//! server with default settings has no such timer. Between two looks a session's output is bounded
//! by its own back-pressure, so a limit cannot be exceeded by much.

use super::clients;
use super::config::Config;
use super::log;
use crate::session::{Core, Limits, Link, Session, State};
use crate::shard::budget::Largest;
use crate::shard::message::SessionKey;

/// Redis looks at a client up to ten times a second (clientsCron at the default hz of 10).
const PERIOD_MS: i64 = 100;
/// Unsent replies a client may have before it has authenticated (CVE-2025-21605).
const STRANGER_OUTPUT_MAX_BYTES: usize = 1024;
/// So few clients are added up at the end of every turn, more of them less often: it takes some 20 ns
/// each.
const FEW: usize = 256;
const ADD_UP_MS: i64 = 10;
/// While another shard's client has to go first, this one looks again so soon.
const RETRY_MS: i64 = 1;
/// A smaller limit would leave nobody to raise it. Redis: server.c getClientEvictionLimit.
const CLIENTS_MIN_BYTES: usize = 128 * 1024;
/// Replies up to this size leave with the turn: they are nobody's burden. Redis: a client's fixed
/// reply buffer, PROTO_REPLY_CHUNK_BYTES.
const REPLY_BYTES: usize = 16 * 1024;

/// `maxmemory-clients`: bytes, or a share of `maxmemory`.
fn clients_max_bytes(config: &Config) -> usize {
    let text = config.text("maxmemory-clients");
    let bytes = match text.strip_suffix('%') {
        Some(share) => {
            let share: f64 = share.parse().unwrap_or(0.0);
            (config.bytes("maxmemory") as f64 * share / 100.0) as usize
        }
        None => usize::try_from(config.int("maxmemory-clients")).unwrap_or(0),
    };
    match bytes {
        0 => 0,
        bytes => bytes.max(CLIENTS_MIN_BYTES),
    }
}

/// What the settings say about clients that stay too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patrol {
    /// `timeout`, milliseconds; 0 is never.
    idle_max_ms: i64,
    /// `client-output-buffer-limit` for ordinary clients and for those that listen to channels.
    normal: Output,
    pubsub: Output,
    replica: Output,
    /// Some client of this node listens to channels.
    listening: bool,
    /// Clients have to authenticate.
    strangers: bool,
    /// Some client of this node does not take its replies.
    draining: bool,
    due_ms: i64,
    /// `maxmemory-clients` in bytes; 0 is no limit.
    clients_max_bytes: usize,
    /// There is a `maxmemory`, to which what clients use counts.
    counts: bool,
    /// When clients were last added up, unix milliseconds.
    added_up_ms: i64,
    /// The sum is of an earlier turn.
    is_stale: bool,
    /// When to see whether another shard has closed its clients, unix milliseconds.
    retry_ms: Option<i64>,
}

/// Why a client has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// It does not read what it is sent.
    Slow,
    Idle,
}

/// How much unsent output a client may have; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub hard_bytes: usize,
    pub soft_bytes: usize,
    pub soft_ms: i64,
}

impl Output {
    fn new(config: &Config, class: &str) -> Output {
        let mut words = config.text("client-output-buffer-limit").split(' ');
        let mut limits = words.by_ref().skip_while(|word| *word != class).skip(1);
        let mut number = || limits.next().and_then(|word| word.parse::<i64>().ok());
        let (hard, soft, seconds) = (number(), number(), number());
        // So a client can undo a limit of a few bytes. Redis: what fits the fixed reply buffer does not
        // count; replicas have none.
        let spared = if class == "slave" { 0 } else { REPLY_BYTES + 1 };
        let bytes = |limit: Option<i64>| match limit.and_then(|n| usize::try_from(n).ok()) {
            None | Some(0) => 0,
            Some(bytes) => bytes.max(spared),
        };
        Output {
            hard_bytes: bytes(hard),
            soft_bytes: bytes(soft),
            soft_ms: seconds.unwrap_or(0).saturating_mul(1000),
        }
    }

    fn is_set(&self) -> bool {
        self.hard_bytes > 0 || self.soft_bytes > 0
    }
}

impl Patrol {
    /// Unsent output at which a client that listens to channels is cut off at once; 0 is never.
    pub fn pubsub_hard_bytes(&self) -> usize {
        self.pubsub.hard_bytes
    }

    /// Unsent output that a replica may have.
    pub fn replica_limit(&self) -> Output {
        self.replica
    }

    /// Unsent output at which any other client is cut off at once. Who has a limit reaches it, as in
    /// Redis; beyond what can be reached a session is made to wait for its reader.
    pub fn session_limits(&self, limits: Limits) -> Limits {
        let unlimited = Limits::default();
        let reached = match self.clients_max_bytes {
            0 => self.normal.soft_bytes,
            bytes => self
                .normal
                .soft_bytes
                .max(bytes.saturating_add(REPLY_BYTES)),
        };
        let (output_max_bytes, drain_bytes) = match self.normal.hard_bytes {
            0 => (
                unlimited.output_max_bytes,
                unlimited.drain_bytes.max(reached.saturating_add(1)),
            ),
            bytes => (bytes, usize::MAX),
        };
        Limits {
            output_max_bytes,
            drain_bytes,
            ..limits
        }
    }

    /// What clients may use together; 0 is no limit.
    pub fn clients_max_bytes(&self) -> usize {
        self.clients_max_bytes
    }

    /// Whether some client of this node listens to channels.
    pub fn set_listening(&mut self, listening: bool) {
        self.listening = listening;
    }

    /// Whether clients have to authenticate.
    pub fn set_strangers(&mut self, strangers: bool) {
        self.strangers = strangers;
    }

    /// Whether some client of this node does not take its replies.
    pub fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    pub fn new(config: &Config) -> Patrol {
        Patrol {
            idle_max_ms: config.int("timeout").saturating_mul(1000),
            normal: Output::new(config, "normal"),
            pubsub: Output::new(config, "pubsub"),
            replica: Output::new(config, "slave"),
            listening: false,
            strangers: false,
            draining: false,
            due_ms: 0,
            clients_max_bytes: clients_max_bytes(config),
            counts: config.bytes("maxmemory") > 0,
            added_up_ms: 0,
            is_stale: false,
            retry_ms: None,
        }
    }

    /// Adds up what clients use, and closes the largest while all of them use more than
    /// `maxmemory-clients`. Returns how many went. Each shard closes its own, if no other shard has a
    /// larger one: that one looks at its clients soon.
    pub fn relieve(&mut self, core: &mut Core, link: &mut dyn Link) -> u64 {
        self.retry_ms = None;
        if self.clients_max_bytes == 0 && !self.counts {
            return 0;
        }
        let now_ms = link.now_ms();
        let often = self.clients_max_bytes > 0 && core.session_count() <= FEW;
        self.is_stale = !often && now_ms - self.added_up_ms < ADD_UP_MS;
        if self.is_stale {
            return 0;
        }
        self.added_up_ms = now_ms;
        let mut all_bytes = 0;
        let mut sizes: Vec<(usize, SessionKey)> = Vec::new();
        // What replicas have not read is no reason to evict: that would be replicated, too. Redis:
        // networking.c clientEvictionAllowed: nor does a master count.
        let counted = |s: &&Session| s.state != State::Closing && !s.client.replica && !s.repeats();
        for session in core.sessions().filter(counted) {
            let unsent = link.pending_bytes(session.key);
            let bytes = session.memory_bytes() + unsent.saturating_sub(REPLY_BYTES);
            all_bytes += bytes;
            if !session.client.no_evict {
                sizes.push((bytes, session.key));
            }
        }
        sizes.sort_unstable();
        let mut closable_bytes = sizes.iter().map(|(bytes, _)| bytes).sum();
        let mut gone = 0;
        loop {
            let largest = sizes.last().copied();
            let largest_bytes = largest.map_or(0, |(bytes, _)| bytes);
            let budget = &core.shard.budget;
            let (total, place) = budget.publish_clients(all_bytes, closable_bytes, largest_bytes);
            let too_much = self.clients_max_bytes > 0 && total > self.clients_max_bytes;
            let Some((bytes, key)) = largest.filter(|_| too_much && place == Largest::Here) else {
                let waits = too_much && place == Largest::Elsewhere;
                self.retry_ms = waits.then_some(now_ms + RETRY_MS);
                return gone;
            };
            if let Some(session) = core.session(key) {
                let line = clients::describe(session, core, link, &[]);
                log::notice(&format!("Evicting client: {line}"));
            }
            core.abandon(key, link);
            sizes.pop();
            all_bytes -= bytes;
            closable_bytes -= bytes;
            gone += 1;
        }
    }

    /// When to look again, unix milliseconds; `None` while no setting asks for it.
    pub fn due_ms(&self) -> Option<i64> {
        let sum_ms = self.is_stale.then_some(self.added_up_ms + ADD_UP_MS);
        let waits_ms = sum_ms.or(self.retry_ms);
        self.walk_ms().into_iter().chain(waits_ms).min()
    }

    /// When to walk through the clients.
    fn walk_ms(&self) -> Option<i64> {
        let asked = self.idle_max_ms > 0
            || self.normal.is_set()
            || self.listening && self.pubsub.is_set()
            || self.strangers
            || self.draining
            || self.clients_max_bytes > 0;
        asked.then_some(self.due_ms)
    }

    /// Closes who has to go, if it is time to look. Returns whether it was.
    pub fn walk(&mut self, core: &mut Core, link: &mut dyn Link) -> bool {
        let now_ms = link.now_ms();
        if self.walk_ms().is_none_or(|due_ms| due_ms > now_ms) {
            return false;
        }
        self.due_ms = now_ms + PERIOD_MS;
        let keys: Vec<SessionKey> = core.sessions().map(|session| session.key).collect();
        for key in keys {
            let unsent = link.pending_bytes(key);
            let Some(session) = core.session_mut(key) else {
                continue;
            };
            match self.must_go(session, unsent, now_ms) {
                Some(Reason::Slow) => core.cut_off(key, link),
                Some(Reason::Idle) => core.abandon(key, link),
                None => {}
            }
        }
        true
    }

    fn must_go(&self, session: &mut Session, unsent: usize, now_ms: i64) -> Option<Reason> {
        // Replicas have limits of their own, and a master may be silent for as long as its link lives.
        if session.state == State::Closing || session.client.replica || session.repeats() {
            return None;
        }
        let limit = if session.client.subscriptions.any() {
            self.pubsub
        } else {
            self.normal
        };
        if unsent <= limit.soft_bytes || limit.soft_bytes == 0 {
            session.soft_limit_since_ms = None;
        } else {
            session.soft_limit_since_ms.get_or_insert(now_ms);
        }
        // Redis: timeout.c clientsCronHandleTimeout: who listens to channels is not idle.
        let idle = self.idle_max_ms > 0
            && session.is_idle()
            && !session.client.subscriptions.any()
            && now_ms.saturating_sub(session.last_ms) > self.idle_max_ms;
        let slow = (limit.hard_bytes > 0 && unsent >= limit.hard_bytes)
            || session
                .soft_limit_since_ms
                .is_some_and(|since_ms| now_ms.saturating_sub(since_ms) > limit.soft_ms);
        let stranger =
            self.strangers && !session.client.authenticated && unsent > STRANGER_OUTPUT_MAX_BYTES;
        match idle {
            _ if slow || stranger => Some(Reason::Slow),
            true => Some(Reason::Idle),
            false => None,
        }
    }
}
