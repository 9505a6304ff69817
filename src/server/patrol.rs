//! Clients that have to go: the idle, the readers that are too slow, and strangers who do not read.
//!
//! Each node looks at its own clients every [`PERIOD_MS`], and only while a setting asks for it: a
//! server with default settings has no such timer. Between two looks a session's output is bounded
//! by its own back-pressure, so a limit cannot be exceeded by much.

use super::config::Config;
use crate::session::{Core, Link, Session, State};
use crate::shard::message::SessionKey;

/// Redis looks at a client up to ten times a second (clientsCron at the default hz of 10).
const PERIOD_MS: i64 = 100;
/// Unsent replies a client may have before it has authenticated (CVE-2025-21605).
const STRANGER_OUTPUT_MAX_BYTES: usize = 1024;

/// What the settings say about clients that stay too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patrol {
    /// `timeout`, milliseconds; 0 is never.
    idle_max_ms: i64,
    /// `client-output-buffer-limit` for ordinary clients and for those that listen to channels.
    normal: Output,
    pubsub: Output,
    /// Some client of this node listens to channels.
    listening: bool,
    strangers: bool,
    due_ms: i64,
}

/// How much unsent output a client may have; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Output {
    hard_bytes: usize,
    soft_bytes: usize,
    soft_ms: i64,
}

impl Output {
    fn new(config: &Config, class: &str) -> Output {
        let mut words = config.text("client-output-buffer-limit").split(' ');
        let mut limits = words.by_ref().skip_while(|word| *word != class).skip(1);
        let mut number = || limits.next().and_then(|word| word.parse::<i64>().ok());
        let (hard, soft, seconds) = (number(), number(), number());
        Output {
            hard_bytes: usize::try_from(hard.unwrap_or(0)).unwrap_or(0),
            soft_bytes: usize::try_from(soft.unwrap_or(0)).unwrap_or(0),
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

    /// Whether some client of this node listens to channels.
    pub fn set_listening(&mut self, listening: bool) {
        self.listening = listening;
    }

    pub fn new(config: &Config) -> Patrol {
        Patrol {
            idle_max_ms: config.int("timeout").saturating_mul(1000),
            normal: Output::new(config, "normal"),
            pubsub: Output::new(config, "pubsub"),
            listening: false,
            strangers: !config.text("requirepass").is_empty(),
            due_ms: 0,
        }
    }

    /// When to look again, unix milliseconds; `None` while no setting asks for it.
    pub fn due_ms(&self) -> Option<i64> {
        let asked = self.idle_max_ms > 0
            || self.normal.is_set()
            || self.listening && self.pubsub.is_set()
            || self.strangers;
        asked.then_some(self.due_ms)
    }

    /// Closes who has to go, if it is time to look.
    pub fn walk(&mut self, core: &mut Core, link: &mut dyn Link) {
        let now_ms = link.now_ms();
        if self.due_ms().is_none_or(|due_ms| due_ms > now_ms) {
            return;
        }
        self.due_ms = now_ms + PERIOD_MS;
        let keys: Vec<SessionKey> = core.sessions().map(|session| session.key).collect();
        for key in keys {
            let unsent = link.pending_bytes(key);
            if let Some(session) = core.session_mut(key)
                && self.must_go(session, unsent, now_ms)
            {
                core.abandon(key, link);
            }
        }
    }

    fn must_go(&self, session: &mut Session, unsent: usize, now_ms: i64) -> bool {
        if session.state == State::Closing {
            return false;
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
        idle || slow || stranger
    }
}
