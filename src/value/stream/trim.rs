//! Removing entries from the front, and what becomes of the references that groups hold to them.

use std::collections::BTreeMap;

use super::{EntryId, Node, Stream, changed};

/// Down to what a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threshold {
    /// So many entries stay.
    MaxLen(u64),
    /// Entries from this id on stay.
    MinId(EntryId),
}

/// What becomes of an entry that groups refer to when it is to be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refs {
    /// It goes; in the groups it stays pending.
    #[default]
    Keep,
    /// It goes, and is pending no more.
    Drop,
    /// It stays until each group has read and acknowledged it.
    Acked,
}

/// How a stream is trimmed.
#[derive(Clone, Copy, Debug)]
pub struct Trim {
    pub threshold: Threshold,
    /// No more entries than that go, and with [`Refs::Keep`] only whole nodes; `None`: exactly.
    pub approximate: Option<u64>,
    pub refs: Refs,
}

/// Entries that were pending and are no more, by group.
pub type Unreferenced = BTreeMap<Box<[u8]>, Vec<EntryId>>;

/// What a trim removed.
#[derive(Debug, Default)]
pub struct Trimmed {
    pub removed: u64,
    /// Those of the removed before which some stayed.
    pub gaps: Vec<EntryId>,
    pub unreferenced: Unreferenced,
}

impl Threshold {
    /// Whether a node's entries all go, of a stream of so many.
    fn covers(self, len: u64, master: EntryId, node: &Node) -> bool {
        match self {
            Threshold::MaxLen(max) => len - node.live() >= max,
            // Redis: a node goes as a whole by its last entry, be that deleted. One that is kept
            // for such an entry may have no other left.
            Threshold::MinId(min) => {
                let mut all = node.entries(master);
                all.next().is_none_or(|first| first.id < min)
                    && node.last_ever(master).is_some_and(|last| last < min)
            }
        }
    }

    /// Whether an entry stays, in a stream of so many.
    fn spares(self, len: u64, id: EntryId) -> bool {
        match self {
            Threshold::MaxLen(max) => len <= max,
            Threshold::MinId(min) => id >= min,
        }
    }
}

impl Stream {
    /// Removes entries from the front.
    pub fn trim(&mut self, trim: Trim) -> Trimmed {
        let trimmed = match trim.refs {
            Refs::Keep => Trimmed {
                removed: self.trim_nodes(trim),
                ..Trimmed::default()
            },
            Refs::Drop | Refs::Acked => self.trim_entries(trim),
        };
        if let Some(&last) = trimmed.gaps.last() {
            // Differs: What XADD or XTRIM removes from behind an entry that ACKED spares counts as
            // deleted in XINFO. Redis forgets it, and then tells a wrong lag.
            self.max_deleted_id = self.max_deleted_id.max(last);
        }
        if trimmed.removed > 0 {
            self.find_first();
        }
        trimmed
    }

    /// Node by node, as long as they go as wholes.
    fn trim_nodes(&mut self, trim: Trim) -> u64 {
        let mut removed = 0;
        while let Some((master, node)) = self.nodes.first_mut() {
            if matches!(trim.threshold, Threshold::MinId(_)) {
                // It is going to be looked into by every trim until it goes.
                changed(node, &mut self.node_bytes, |node| {
                    node.open();
                });
            }
            let entries = node.live();
            if matches!(trim.threshold, Threshold::MaxLen(max) if self.len <= max) {
                break;
            }
            let is_whole = trim.threshold.covers(self.len, master, node);
            if trim.approximate.is_some_and(|max| removed + entries > max) {
                break;
            }
            if is_whole {
                self.node_bytes -= node.bytes();
                self.nodes.remove(master);
                self.len -= entries;
                removed += entries;
                continue;
            }
            if trim.approximate.is_none() {
                let len = self.len;
                let goes = |nth, id| !trim.threshold.spares(len - nth, id);
                let gone = changed(node, &mut self.node_bytes, |node| {
                    node.remove_while(master, goes)
                });
                self.len -= gone;
                removed += gone;
            }
            break;
        }
        removed
    }

    /// Entry by entry, since groups have a say in each. Redis: streamTrim, which does not stop at
    /// nodes that stay, whether asked to be exact or not.
    fn trim_entries(&mut self, trim: Trim) -> Trimmed {
        let mut trimmed = Trimmed::default();
        let read_to = self.groups.values().map(|group| group.last_id).min();
        let (mut from, mut is_gap) = (EntryId::MIN, false);
        while let Some((master, node)) = self.nodes.at_or_after(from) {
            let unread = read_to.is_some_and(|last| last < master);
            if matches!(trim.threshold, Threshold::MaxLen(max) if self.len <= max)
                || (trim.refs == Refs::Acked && unread)
            {
                break;
            }
            let entries = node.live();
            let too_many = |max| trimmed.removed + entries > max;
            if trim.approximate.is_some_and(too_many) {
                break;
            }
            let is_whole = trim.threshold.covers(self.len, master, node);
            let chosen = self.choose(master, node, trim, &mut is_gap);
            trimmed.removed += chosen.len() as u64;
            let behind = chosen.iter().filter(|(_, is_gap)| *is_gap);
            trimmed.gaps.extend(behind.map(|(id, _)| *id));
            let gone: Vec<EntryId> = chosen.into_iter().map(|(id, _)| id).collect();
            if trim.refs == Refs::Drop {
                for &id in &gone {
                    self.unreference(id, &mut trimmed.unreferenced);
                }
            }
            self.len -= gone.len() as u64;
            if is_whole && gone.len() as u64 == entries {
                self.drop_node(master);
            } else if let Some((_, node)) = self.nodes.node_mut(master) {
                changed(node, &mut self.node_bytes, |node| {
                    node.remove_all(master, &gone);
                });
            }
            let Some(next) = master.next().filter(|_| is_whole) else {
                break;
            };
            from = next;
        }
        trimmed
    }

    /// Entries of one node that are to go, each with whether one before it stays.
    fn choose(
        &self,
        master: EntryId,
        node: &Node,
        trim: Trim,
        is_gap: &mut bool,
    ) -> Vec<(EntryId, bool)> {
        let mut chosen = Vec::new();
        for entry in node.entries(master) {
            if trim
                .threshold
                .spares(self.len - chosen.len() as u64, entry.id)
            {
                break;
            }
            if trim.refs == Refs::Acked && self.is_referenced(entry.id) {
                *is_gap = true;
            } else {
                chosen.push((entry.id, *is_gap));
            }
        }
        chosen
    }

    /// Whether a group has yet to read or to acknowledge an entry.
    pub fn is_referenced(&self, id: EntryId) -> bool {
        let mut groups = self.groups.values();
        groups.any(|group| group.last_id < id || group.pending().contains_key(&id))
    }

    /// Makes an entry pending in no group, and notes in which it was; returns whether in any.
    pub fn unreference(&mut self, id: EntryId, noted: &mut Unreferenced) -> bool {
        let mut found = false;
        for (name, group) in &mut self.groups {
            if group.acknowledge(id) {
                found = true;
                match noted.get_mut(name) {
                    Some(ids) => ids.push(id),
                    None => {
                        noted.insert(name.clone(), vec![id]);
                    }
                }
            }
        }
        found
    }
}
