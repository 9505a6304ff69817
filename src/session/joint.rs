//! Requests of a pipeline for keys of several homes that go there together: MGETs, or MSETs.
//!
//! ```text
//! MSET a 1 b 2   MSET c 3 d 4   GET a        as they came
//! '---------- joint ---------'  '- then -'
//! ```
//! One by one each would take a visit to all its homes. Together they are one piece of work: they take
//! effect at one instant, in their order. Nobody can tell that from one right behind the other.
//!
//! The more keys a piece of work holds, the more often another wants one of them, and waiting for each other
//! costs more than visits do. So a session begins one by one, and puts more together while nothing waits.

use smallvec::SmallVec;

use super::core::Core;
use super::link::Link;
use super::requests::Next;
use super::state::Session;
use crate::command::client::ReplyMode;
use crate::command::{CommandId, Run};
use crate::resp::{ArgBuf, Args};
use crate::shard::message::{HopCall, KeyIndices, SessionKey};

/// Requests of one piece of work: most of what can be saved is, and others are not kept waiting long.
const JOINT_CALLS_MAX: usize = 16;
/// Pieces of work that had to wait for nothing before there may be one request more in each.
const CLEAN_PER_CALL: usize = 4;
/// Arguments beyond which it begins.
const JOINT_BYTES_MAX: usize = 64 * 1024;

/// Requests of one command for the same homes.
#[derive(Debug)]
pub struct Joint {
    pub(super) call: HopCall,
    pub(super) args: ArgBuf,
    /// Where the arguments of each request end.
    pub(super) ends: SmallVec<[u32; 4]>,
    /// Homes in ascending order, with the arguments that are their keys.
    pub(super) groups: SmallVec<[(usize, KeyIndices); 4]>,
}

impl Joint {
    fn new(call: HopCall, args: &Args, groups: SmallVec<[(usize, KeyIndices); 4]>) -> Joint {
        Joint {
            call,
            args: args.to_buf(),
            ends: SmallVec::from_slice(&[args.len() as u32]),
            groups,
        }
    }

    /// Adds a request if it is for the same homes; the command is the same.
    fn add(&mut self, args: &Args, groups: &[(usize, KeyIndices)]) -> bool {
        let homes = groups.iter().map(|(home, _)| home);
        if !self.groups.iter().map(|(home, _)| home).eq(homes) {
            return false;
        }
        let begin = self.args.len() as u32;
        for ((_, keys), (_, more)) in self.groups.iter_mut().zip(groups) {
            keys.extend(more.iter().map(|at| begin + at));
        }
        (0..args.len()).for_each(|at| self.args.push_arg(args, at));
        self.ends.push(self.args.len() as u32);
        true
    }

    fn is_full(&self, calls_max: usize) -> bool {
        self.ends.len() >= calls_max || self.args.memory_bytes() >= JOINT_BYTES_MAX
    }

    /// Bytes allocated.
    pub(super) fn memory_bytes(&self) -> usize {
        size_of::<Joint>() + self.args.memory_bytes()
    }
}

/// What became of a session's work over several homes.
#[derive(Debug)]
pub struct Past {
    /// Pieces since one had to wait for others.
    clean: usize,
    /// Bytes of the last reply that holds values; as many as can be before there was one.
    reply_bytes: usize,
}

impl Default for Past {
    fn default() -> Past {
        Past {
            clean: 0,
            reply_bytes: usize::MAX,
        }
    }
}

impl Past {
    /// A piece of work is done.
    pub(super) fn note(&mut self, run: Run, reply_bytes: usize, has_waited: bool) {
        if matches!(run, Run::Each(_)) {
            // What MSET replies tells nothing of what MGET will.
            self.reply_bytes = reply_bytes;
        }
        self.clean = match has_waited {
            true => 0,
            false => (self.clean + 1).min(CLEAN_PER_CALL * JOINT_CALLS_MAX),
        };
    }

    /// How many requests may go together, if all their replies may take so many bytes.
    fn calls_max(&self, run: Run, bytes_max: usize) -> usize {
        let calls = (1 + self.clean / CLEAN_PER_CALL).min(JOINT_CALLS_MAX);
        match run {
            Run::Every(_) => calls,
            // Replies wait for each other in memory.
            Run::Each(_) => calls.min(bytes_max / self.reply_bytes.max(1)),
            _ => 1,
        }
    }
}

impl Core {
    /// A request for keys of several homes: begins what others may join, joins that, or has to wait.
    pub(super) fn join(
        &mut self,
        key: SessionKey,
        call: HopCall,
        args: &Args,
        groups: SmallVec<[(usize, KeyIndices); 4]>,
        hopping: bool,
        link: &mut dyn Link,
    ) -> Next {
        let calls_max = self.calls_max(key, &call);
        let Some(session) = self.session_mut(key) else {
            return Next::Wait;
        };
        let joint = match &mut session.joint {
            Some(joint) => match joint.add(args, &groups) {
                true => joint,
                false => return Next::Again,
            },
            None if !hopping && calls_max > 1 => {
                let joint = Box::new(Joint::new(call, args, groups));
                session.last_command = Some(call.id);
                session.joint.insert(joint)
            }
            None if !hopping => return self.start_work(key, call, args, Some(groups), link),
            None => return Next::Again,
        };
        let is_full = joint.is_full(calls_max);
        self.counters.commands += 1;
        if is_full { Next::Wait } else { Next::Continue }
    }

    /// Whether a command may follow what a session has put together, if it has.
    pub(super) fn goes_on(&self, key: SessionKey, id: CommandId) -> bool {
        let joint = self.session(key).and_then(|its| its.joint.as_deref());
        joint.is_none_or(|joint| joint.call.id == id)
    }

    /// How many requests such as this one may go together.
    fn calls_max(&self, key: SessionKey, call: &HopCall) -> usize {
        // As with visits to all homes at once: see `may_fan`.
        let may = |its: &&Session| {
            its.user.is_some() && its.client.reply == ReplyMode::On && its.client.tracking.is_none()
        };
        let bytes_max = self.limits.drain_bytes;
        self.session(key).filter(may).map_or(1, |its| {
            its.joint_past.calls_max(call.command.run, bytes_max)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MGET: Run = Run::Each(|_, _, out| out.ok());
    const MSET: Run = Run::Every(|_, _| ());

    #[test]
    fn more_go_together_while_nothing_waits_and_replies_are_small() {
        let mut past = Past::default();
        let calls_max = |past: &Past, run| past.calls_max(run, 1000);
        assert_eq!(calls_max(&past, MSET), 1);
        (0..CLEAN_PER_CALL).for_each(|_| past.note(MSET, 5, false));
        assert_eq!(calls_max(&past, MSET), 2);
        assert!(calls_max(&past, MGET) <= 1);
        (0..1000).for_each(|_| past.note(MGET, 200, false));
        assert_eq!(calls_max(&past, MSET), JOINT_CALLS_MAX);
        assert_eq!(calls_max(&past, MGET), 5);
        past.note(MGET, 1001, false);
        assert!(calls_max(&past, MGET) <= 1);
        past.note(MSET, 5, false);
        assert!(calls_max(&past, MGET) <= 1);
        past.note(MSET, 0, true);
        assert_eq!(calls_max(&past, MSET), 1);
    }

    #[test]
    fn what_goes_together_has_the_same_homes() {
        let args = |text: &str| text.split(' ').map(str::as_bytes).collect::<ArgBuf>();
        let call = HopCall {
            command: &crate::command::Command::DEFAULT,
            id: 0,
            from: 0,
            to: 0,
            tracks: false,
        };
        let groups = |of: &[(usize, &[u32])]| -> SmallVec<[(usize, KeyIndices); 4]> {
            of.iter()
                .map(|(home, keys)| (*home, KeyIndices::from_slice(keys)))
                .collect()
        };
        let first = args("MGET a b");
        let mut joint = Joint::new(call, &first.as_args(), groups(&[(0, &[2]), (1, &[1])]));
        assert!(!joint.add(&first.as_args(), &groups(&[(0, &[2]), (2, &[1])])));
        let second = args("MGET c d e");
        assert!(joint.add(&second.as_args(), &groups(&[(0, &[1, 3]), (1, &[2])])));
        assert_eq!(joint.groups, groups(&[(0, &[2, 4, 6]), (1, &[1, 5])]));
        assert_eq!(joint.ends[..], [3, 7]);
        assert_eq!(joint.args.as_args().get(6), b"e");
        assert!(joint.is_full(2) && !joint.is_full(3));
    }
}
