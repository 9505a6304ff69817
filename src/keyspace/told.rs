//! What one shard's part of a command over several shards tells of: events of keys, and what clients
//! cache.
//!
//! The part does not tell it itself. It goes to the command's coordinator, each piece with the place
//! of its step in the command, and the coordinator tells everything at once, in the order in which a
//! single shard would have. Until then the part's keys stay held, so that nobody can tell of a later
//! change of theirs first.

use super::effects::{Effects, Occurrence};
use super::tracking::{ChangedKey, Stale};

/// What is to be told of a command, or of a part of it.
#[derive(Debug, Default)]
pub struct Told {
    pub events: Vec<Occurrence>,
    pub stale: Vec<Stale>,
    /// Keys under prefixes that somebody broadcasts on.
    pub changed: Vec<ChangedKey>,
    pub flushed: bool,
}

impl Told {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.stale.is_empty() && self.changed.is_empty() && !self.flushed
    }

    /// Adds what comes behind it.
    pub fn append(&mut self, mut behind: Told) {
        self.events.append(&mut behind.events);
        self.stale.append(&mut behind.stale);
        self.changed.append(&mut behind.changed);
        self.flushed |= behind.flushed;
    }

    /// Puts the parts of one step in the order of their places.
    pub fn in_order(parts: impl IntoIterator<Item = Told>) -> Told {
        let mut whole = Told::default();
        parts.into_iter().for_each(|part| whole.append(part));
        whole.events.sort_by_key(|event| event.at);
        whole.stale.sort_by_key(|stale| stale.at);
        whole
    }
}

/// Where the effects stood when a part began.
#[derive(Debug)]
pub struct Before {
    events: usize,
    stale: usize,
    flushed: bool,
    classes: u32,
}

impl Effects {
    /// A part of a command over several shards begins. `classes`: the events that somebody wanted to
    /// know of when the command began, the same for all its parts.
    pub fn begin_part(&mut self, classes: u32) -> Before {
        Before {
            events: self.events.len(),
            stale: self.tracking.begin_part(),
            flushed: self.tracking.take_flushed(),
            classes: std::mem::replace(&mut self.classes, classes),
        }
    }

    /// It is over: what it has to tell of. What was to be told before stays.
    pub fn end_part(&mut self, before: &Before) -> Option<Box<Told>> {
        self.classes = before.classes;
        self.set_place(0);
        let flushed = self.tracking.take_flushed();
        let (stale, changed) = self.tracking.end_part(before.stale);
        self.tracking.set_flushed(before.flushed);
        if self.events.len() == before.events && stale.is_empty() && changed.is_empty() && !flushed
        {
            return None;
        }
        Some(Box::new(Told {
            events: self.events.split_off(before.events),
            stale,
            changed,
            flushed,
        }))
    }

    /// What follows is the work of this step of the command.
    #[inline]
    pub fn set_place(&mut self, at: u32) {
        self.place = at;
        self.tracking.set_place(at);
    }

    /// The current step's place, and how many events there are to tell.
    pub(super) fn place(&self) -> (u32, usize) {
        (self.place, self.events.len())
    }

    /// Steps behind the first `begun` events are over: they become one step, at `place`.
    pub(super) fn gather_places(&mut self, place: u32, begun: usize) {
        self.set_place(place);
        if let Some(events @ [_, ..]) = self.events.get_mut(begun..) {
            events.sort_by_key(|event| event.at);
            events.iter_mut().for_each(|event| event.at = place);
        }
    }

    /// Takes what a coordinator collected, to be told with this shard's own.
    pub fn tell(&mut self, told: Told) {
        self.events.extend(told.events);
        self.tracking.tell(told.stale, told.changed, told.flushed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Keyspace;
    use crate::keyspace::effects::{Event, class};

    fn names(events: &[Occurrence]) -> Vec<(u32, String)> {
        let name = |event: &Occurrence| String::from_utf8_lossy(&event.key).into_owned();
        events.iter().map(|event| (event.at, name(event))).collect()
    }

    #[test]
    fn a_part_hands_over_what_it_tells_and_leaves_what_was_to_be_told() {
        let mut effects = Keyspace::new(1, 1).effects;
        effects.classes = class::ALL;
        effects.tracking.remember((0, 1), b"early");
        effects.tracking.remember((0, 1), b"late");
        effects.tracking.change_prefix(b"", 1, true);
        effects.wrote(0, b"early", Event::SET, |_| {});
        let before = effects.begin_part(class::STRING);
        effects.set_place(3);
        effects.wrote(0, b"late", Event::SET, |_| {});
        effects.wrote(0, b"other", Event::DEL, |_| {});
        let told = effects.end_part(&before).expect("something to tell");
        assert_eq!(effects.classes, class::ALL);
        assert_eq!(names(&told.events), [(3, "late".into())]);
        assert_eq!((told.stale[0].at, &*told.stale[0].key), (3, &b"late"[..]));
        let changed: Vec<&[u8]> = told.changed.iter().map(|(key, _)| &**key).collect();
        assert_eq!(changed, [&b"late"[..], b"other"]);
        assert_eq!(names(&effects.events), [(0, "early".into())]);

        effects.tell(*told);
        assert_eq!(
            names(&effects.events),
            [(0, "early".into()), (3, "late".into())]
        );
        assert_eq!(effects.tracking.take_stale().len(), 2);
        let broadcasts = effects.tracking.take_broadcasts();
        assert_eq!(broadcasts[0].keys.len(), 3);
        let before = effects.begin_part(class::ALL);
        assert!(effects.end_part(&before).is_none());
    }

    #[test]
    fn parts_are_put_in_the_order_of_their_steps() {
        let event = |at, key: &str| Occurrence {
            db: 0,
            at,
            event: Event::DEL,
            key: key.into(),
        };
        let part = |events: Vec<Occurrence>| Told {
            events,
            ..Told::default()
        };
        let parts = [
            part(vec![event(2, "b"), event(4, "d"), event(4, "e")]),
            part(vec![event(1, "a"), event(3, "c")]),
        ];
        let whole = Told::in_order(parts);
        let keys: Vec<String> = names(&whole.events)
            .into_iter()
            .map(|(_, key)| key)
            .collect();
        assert_eq!(keys.concat(), "abcde");
    }
}
