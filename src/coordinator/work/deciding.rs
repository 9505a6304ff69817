//! The decision of a gather, of an errand, and of which key serves: from what the homes have answered.

use bytes::Bytes;

use super::Work;
use crate::command::errand::{Parcel, Receipt};
use crate::command::{Ask, Change, Decision, First, Part, Peek, Run, Wanted, keys};
use crate::keyspace::Event;
use crate::resp::{Args, CmdError, Output};
use crate::shard::message::{Placed, Request};

/// A value's way from one home to another.
pub(in crate::coordinator) struct Transfer {
    pub from: (u32, usize),
    pub to: (u32, usize),
    pub left: Event,
    pub arrived: Event,
}

/// A decision, sorted by participant.
pub(in crate::coordinator) struct Plan {
    pub reply: Output,
    pub changes: Vec<Vec<Placed<Change>>>,
    pub waits: bool,
    /// The only change, if it is a move between homes.
    pub transfer: Option<Transfer>,
}

impl Work {
    /// What the decision has to read beyond its keys: for each participant, with the places that the
    /// answers go to. `None` if nothing.
    pub fn wanted(&mut self) -> Result<Option<Vec<Vec<Placed<Wanted>>>>, CmdError> {
        let request = self.request.clone();
        let args = request.args.as_args();
        let Run::Gather(gather) = request.call.command.run else {
            return Ok(None);
        };
        let Some(more) = gather.more_for(&args) else {
            return Ok(None);
        };
        let (positions, peeks) = self.take_peeks(&args)?;
        let wanted = (more.wanted)(&ask(&request, &args, &positions), &peeks)?;
        self.peeks = Some(peeks);
        let shards = self.participants.len();
        let mut sorted: Vec<Vec<Placed<Wanted>>> = vec![Vec::new(); shards];
        for (at, wanted) in (0..).zip(wanted) {
            let home = keys::home(&wanted.key, shards);
            self.order.push(home);
            sorted[home].push((at, wanted));
        }
        Ok(Some(sorted))
    }

    /// What the second reading found, in the order in which it was wanted.
    fn found(&mut self) -> Vec<Option<Bytes>> {
        let mut parts: Vec<_> = self
            .participants
            .iter_mut()
            .map(|participant| match participant.part.take() {
                Some(Part::Found(found)) => found.into_iter(),
                _ => Vec::new().into_iter(),
            })
            .collect();
        let order = std::mem::take(&mut self.order);
        let next = |home: usize| parts[home].next().flatten();
        order.into_iter().map(next).collect()
    }

    fn take_peeks(&mut self, args: &Args) -> Result<(keys::KeyPositions, Vec<Peek>), CmdError> {
        let positions = keys::positions(self.request.call.command.keys, args);
        let positions = positions.ok_or(CmdError::Syntax)?;
        let peeks = match self.peeks.take() {
            Some(peeks) => peeks,
            None => self.peeks_in_key_order(&positions),
        };
        Ok((positions, peeks))
    }

    /// Decides a gather, or which key serves.
    pub fn decide(&mut self) -> Result<Plan, CmdError> {
        let request = self.request.clone();
        let args = request.args.as_args();
        let (positions, peeks) = self.take_peeks(&args)?;
        request.call.command.check_wait(&args)?;
        let ask = ask(&request, &args, &positions);
        let Decision {
            reply,
            changes,
            waits,
        } = match request.call.command.run {
            Run::Gather(gather) => match gather.more_for(&args) {
                Some(more) => {
                    let found = self.found();
                    (more.decide)(&ask, &peeks, &found)?
                }
                None => (gather.decide)(&ask, &peeks)?,
            },
            Run::First(first) => decide_first(first, &ask, &peeks)?,
            _ => unreachable!("only these decide"),
        };
        Ok(self.sort_changes(reply, changes, waits))
    }

    /// What another server is to have before an errand is decided.
    pub fn parcel(&mut self) -> Result<Option<Parcel>, CmdError> {
        let request = self.request.clone();
        let args = request.args.as_args();
        let Run::Errand(errand) = request.call.command.run else {
            return Ok(None);
        };
        let (positions, peeks) = self.take_peeks(&args)?;
        (errand.send)(&ask(&request, &args, &positions), &peeks)
    }

    /// Decides an errand, now that it is known what became of what was sent.
    pub fn decide_errand(&mut self, receipt: Option<&Receipt>) -> Result<Plan, CmdError> {
        let request = self.request.clone();
        let args = request.args.as_args();
        let Run::Errand(errand) = request.call.command.run else {
            unreachable!("only errands are sent")
        };
        let positions = keys::positions(request.call.command.keys, &args).unwrap_or_default();
        let decision = (errand.decide)(&ask(&request, &args, &positions), receipt)?;
        Ok(self.sort_changes(decision.reply, decision.changes, decision.waits))
    }

    fn peeks_in_key_order(&mut self, positions: &[usize]) -> Vec<Peek> {
        let mut found: Vec<Option<Peek>> = positions.iter().map(|_| None).collect();
        for participant in &mut self.participants {
            let Some(Part::Peeks(peeks)) = participant.part.take() else {
                unreachable!("a gather's hold answers with peeks")
            };
            // Its keys are in their order, also those that are named twice.
            let mut places = positions.iter().enumerate();
            for (&at, peek) in participant.keys().iter().zip(peeks) {
                let place = places.find(|(_, position)| **position == at as usize);
                let (place, _) = place.expect("peeks are of asked keys");
                found[place] = Some(peek);
            }
        }
        found
            .into_iter()
            .map(|peek| peek.expect("every key was peeked"))
            .collect()
    }

    fn sort_changes(&mut self, reply: Output, changes: Vec<Change>, waits: bool) -> Plan {
        let mut sorted: Vec<Vec<Placed<Change>>> =
            self.participants.iter().map(|_| Vec::new()).collect();
        let mut transfer = None;
        for change in changes {
            let home = match &change {
                Change::Remove { key, .. }
                | Change::SetString { key, .. }
                | Change::Call { key, .. }
                | Change::Serve { key, .. }
                | Change::Store { key, .. }
                | Change::Put { key, .. } => self.index_of_key(*key),
                Change::Move {
                    from,
                    to,
                    left,
                    arrived,
                } => {
                    let home = self.index_of_key(from.1);
                    if home != self.index_of_key(to.1) {
                        let (from, to, left, arrived) = (*from, *to, *left, *arrived);
                        transfer = Some(Transfer {
                            from,
                            to,
                            left,
                            arrived,
                        });
                        continue;
                    }
                    home
                }
            };
            sorted[home].push((self.change_order.len() as u32, change));
            self.change_order.push(home);
        }
        debug_assert!(
            transfer.is_none() || sorted.iter().all(Vec::is_empty),
            "a move between homes is the only change of its decision"
        );
        Plan {
            reply,
            waits,
            changes: sorted,
            transfer,
        }
    }
}

fn ask<'a>(request: &Request, args: &'a Args<'a>, keys: &'a [usize]) -> Ask<'a> {
    Ask {
        args,
        keys,
        db: request.db,
        databases: request.databases,
        now_ms: request.now_ms,
        proto: request.proto,
    }
}

/// The key that serves, and a null reply if there is none.
fn decide_first(first: &'static First, ask: &Ask, peeks: &[Peek]) -> Result<Decision, CmdError> {
    (first.check)(ask.args)?;
    let Some(found) = First::choose(peeks)? else {
        let decision = Decision::reply(ask, |out| out.null_array())?;
        return Ok(Decision {
            waits: true,
            ..decision
        });
    };
    let serve = Change::Serve {
        db: ask.db,
        key: ask.keys[found],
        first,
    };
    Ok(Decision::default().with(vec![serve]))
}
