//! What holds clients back: CLIENT PAUSE, and the server itself before its end or a failover.
//!
//! Each of these ends by itself and leaves the others as they are; the strictest counts. Redis:
//! networking.c pauseClients.

use crate::command::block::{ends_ms, timeout_ms};
use crate::resp::{Args, CmdError};

/// CLIENT PAUSE, as one node keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    pub until_ms: i64,
    pub writes_only: bool,
}

impl Pause {
    /// `CLIENT PAUSE timeout [WRITE|ALL]`
    pub fn parse(args: &Args, now_ms: i64) -> Result<Pause, CmdError> {
        let writes_only = match args.len() {
            3 => false,
            4 if args.is(3, "write") => true,
            4 if args.is(3, "all") => false,
            4 => return Err(CmdError::Text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
            _ => return Err(CmdError::subcommand(args)),
        };
        let ms = timeout_ms(args, 2)?;
        now_ms
            .checked_add(ms)
            .ok_or(CmdError::Text("ERR timeout is out of range"))?;
        let until_ms = match ms {
            0 => now_ms,
            ms => ends_ms(now_ms, ms),
        };
        Ok(Pause {
            until_ms,
            writes_only,
        })
    }

    pub fn is_active(&self, now_ms: i64) -> bool {
        now_ms < self.until_ms
    }

    /// A later pause never shortens or weakens one that is on.
    pub fn merge(&mut self, other: Pause, now_ms: i64) {
        if !self.is_active(now_ms) {
            *self = other;
            return;
        }
        self.until_ms = self.until_ms.max(other.until_ms);
        self.writes_only &= other.writes_only;
    }
}

/// What the server keeps writes back for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    Stop,
    Failover,
}

/// What is held back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldBack {
    #[default]
    Nothing,
    Writes,
    Everything,
}

/// All pauses, as one node keeps them.
#[derive(Debug, Default)]
pub struct Pauses {
    by_client: Pause,
    stops: bool,
    fails_over: bool,
    /// The most that was held back when one of those who wait was told to.
    told: HeldBack,
}

impl Pauses {
    /// Whether there may be any; cheap, for every command.
    pub fn is_any(&self) -> bool {
        self.by_client.until_ms != 0 || self.is_quiet()
    }

    fn is_quiet(&self) -> bool {
        self.stops || self.fails_over
    }

    pub fn held_back(&self, now_ms: i64) -> HeldBack {
        match self.by_client.is_active(now_ms) {
            true if !self.by_client.writes_only => HeldBack::Everything,
            is_paused if is_paused || self.is_quiet() => HeldBack::Writes,
            _ => HeldBack::Nothing,
        }
    }

    /// When the time of CLIENT PAUSE is up, unix milliseconds.
    pub fn due_ms(&self, now_ms: i64) -> Option<i64> {
        let pause = &self.by_client;
        pause.is_active(now_ms).then_some(pause.until_ms)
    }

    /// CLIENT PAUSE.
    pub fn pause(&mut self, pause: Pause, now_ms: i64) {
        self.by_client.merge(pause, now_ms);
    }

    /// CLIENT UNPAUSE, or its time is up.
    pub fn unpause(&mut self) {
        self.by_client = Pause::default();
    }

    /// The server keeps writes back for this, or does not any more.
    pub fn set_quiet(&mut self, why: Quiet, is_quiet: bool) {
        match why {
            Quiet::Stop => self.stops = is_quiet,
            Quiet::Failover => self.fails_over = is_quiet,
        }
    }

    /// Somebody is told to wait.
    pub fn note_told(&mut self, now_ms: i64) {
        self.told = self.told.max(self.held_back(now_ms));
    }

    /// Somebody is told to wait who would not have to for any of these alone.
    pub fn note_frozen(&mut self) {
        self.told = HeldBack::Everything;
    }

    /// Whether those who were told to wait are to be looked at again: less is held back since.
    pub fn take_weaker(&mut self, now_ms: i64) -> bool {
        let is_weaker = self.held_back(now_ms) < self.told;
        if is_weaker {
            self.told = HeldBack::Nothing;
        }
        is_weaker
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::ArgBuf;

    fn args(line: &str) -> ArgBuf {
        let mut args = ArgBuf::default();
        line.split(' ').for_each(|word| args.push(word.as_bytes()));
        args
    }

    #[test]
    fn pauses_only_grow() {
        let parse = |line: &str| Pause::parse(&args(line).as_args(), 1000);
        let mut pause = parse("CLIENT PAUSE 100 WRITE").unwrap();
        pause.merge(parse("CLIENT PAUSE 50 ALL").unwrap(), 1000);
        assert_eq!(
            pause,
            Pause {
                until_ms: 1101,
                writes_only: false
            }
        );
        assert!(parse("CLIENT PAUSE -1").is_err());
        assert!(parse("CLIENT PAUSE 1 X").is_err());
    }

    #[test]
    fn what_ends_one_pause_leaves_the_others() {
        let pause = |until_ms, writes_only| Pause {
            until_ms,
            writes_only,
        };
        let mut pauses = Pauses::default();
        assert!(!pauses.is_any());
        pauses.pause(pause(100, false), 0);
        pauses.set_quiet(Quiet::Failover, true);
        pauses.set_quiet(Quiet::Stop, true);
        assert_eq!(pauses.held_back(50), HeldBack::Everything);
        pauses.note_told(50);
        assert!(!pauses.take_weaker(50));
        // Its time is up: who only reads may go on.
        assert_eq!(pauses.held_back(100), HeldBack::Writes);
        assert!(pauses.take_weaker(100) && !pauses.take_weaker(100));
        pauses.unpause();
        pauses.note_told(100);
        pauses.set_quiet(Quiet::Stop, false);
        assert_eq!(pauses.held_back(100), HeldBack::Writes);
        pauses.set_quiet(Quiet::Failover, false);
        assert_eq!(pauses.held_back(100), HeldBack::Nothing);
        assert!(pauses.take_weaker(100));
        // A failover leaves a pause of a client's in effect.
        pauses.pause(pause(300, false), 200);
        pauses.set_quiet(Quiet::Failover, true);
        pauses.set_quiet(Quiet::Failover, false);
        assert_eq!(pauses.held_back(250), HeldBack::Everything);
        assert_eq!(pauses.due_ms(250), Some(300));
    }
}
