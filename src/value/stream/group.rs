//! Consumer groups: what was delivered to whom and is not acknowledged yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::EntryId;

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub consumer: Arc<[u8]>,
    /// Unix milliseconds.
    pub delivered_at_ms: i64,
    pub deliveries: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Consumer {
    /// When it last asked, unix milliseconds.
    pub seen_at_ms: i64,
    /// When an entry last became pending for it, unix milliseconds; `None`: never.
    pub active_at_ms: Option<i64>,
    pub pending: BTreeSet<EntryId>,
}

#[derive(Clone, Debug, Default)]
pub struct Group {
    pub last_id: EntryId,
    /// Entries read so far; `None`: not known.
    pub entries_read: Option<u64>,
    pending: BTreeMap<EntryId, Pending>,
    consumers: BTreeMap<Arc<[u8]>, Consumer>,
    /// What is pending by the time of its delivery, once somebody asks for what is overdue.
    by_time: Option<BTreeSet<(i64, EntryId)>>,
}

impl Group {
    pub fn new(last_id: EntryId, entries_read: Option<u64>) -> Group {
        Group {
            last_id,
            entries_read,
            ..Group::default()
        }
    }

    pub fn memory_bytes(&self) -> usize {
        const PENDING_BYTES: usize = 96;
        const CONSUMER_BYTES: usize = 128;
        const TIME_BYTES: usize = 40;
        let times = self.by_time.as_ref().map_or(0, BTreeSet::len);
        self.pending.len() * PENDING_BYTES
            + self.consumers.len() * CONSUMER_BYTES
            + times * TIME_BYTES
    }

    pub fn is_by_time(&self) -> bool {
        self.by_time.is_some()
    }

    /// From now on, knows what is pending by the time of its delivery.
    pub fn order_by_time(&mut self) {
        let pending = self.pending.iter();
        let times = pending.map(|(&id, pending)| (pending.delivered_at_ms, id));
        self.by_time = Some(times.collect());
    }

    /// What is pending with the time of its delivery, unix milliseconds, from the oldest on. Nothing
    /// before [`Group::order_by_time`].
    pub fn by_time(&self) -> impl Iterator<Item = (i64, EntryId)> {
        self.by_time.iter().flatten().copied()
    }

    pub fn consumers(&self) -> &BTreeMap<Arc<[u8]>, Consumer> {
        &self.consumers
    }

    pub fn pending(&self) -> &BTreeMap<EntryId, Pending> {
        &self.pending
    }

    pub fn consumer(&self, name: &[u8]) -> Option<&Consumer> {
        self.consumers.get(name)
    }

    /// Makes sure a consumer exists; returns whether it is new.
    pub fn create_consumer(&mut self, name: &[u8], now_ms: i64) -> bool {
        let is_new = !self.consumers.contains_key(name);
        if is_new {
            let consumer = Consumer {
                seen_at_ms: now_ms,
                ..Consumer::default()
            };
            self.consumers.insert(name.into(), consumer);
        }
        is_new
    }

    pub fn seen(&mut self, name: &[u8], now_ms: i64) {
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.seen_at_ms = now_ms;
        }
    }

    /// Notes that entries became pending for a consumer.
    pub fn active(&mut self, name: &[u8], now_ms: i64) {
        if let Some(consumer) = self.consumers.get_mut(name) {
            consumer.active_at_ms = Some(now_ms);
        }
    }

    /// Removes a consumer and what is pending for it; returns how much that was.
    pub fn delete_consumer(&mut self, name: &[u8]) -> Option<u64> {
        let consumer = self.consumers.remove(name)?;
        for id in &consumer.pending {
            if let Some(pending) = self.pending.remove(id) {
                self.forget_time(pending.delivered_at_ms, *id);
            }
        }
        Some(consumer.pending.len() as u64)
    }

    /// Makes an entry pending for a consumer that exists, whoever it was pending for.
    pub fn deliver(&mut self, id: EntryId, name: &[u8], delivered_at_ms: i64, deliveries: u64) {
        self.acknowledge(id);
        let Some((name, _)) = self.consumers.get_key_value(name) else {
            return;
        };
        let consumer = name.clone();
        if let Some(owner) = self.consumers.get_mut(&consumer) {
            owner.pending.insert(id);
        }
        let pending = Pending {
            consumer,
            delivered_at_ms,
            deliveries,
        };
        self.pending.insert(id, pending);
        if let Some(times) = &mut self.by_time {
            times.insert((delivered_at_ms, id));
        }
    }

    fn forget_time(&mut self, delivered_at_ms: i64, id: EntryId) {
        if let Some(times) = &mut self.by_time {
            times.remove(&(delivered_at_ms, id));
        }
    }

    /// An entry is pending no more; returns whether it was.
    pub fn acknowledge(&mut self, id: EntryId) -> bool {
        let Some(pending) = self.pending.remove(&id) else {
            return false;
        };
        if let Some(consumer) = self.consumers.get_mut(&pending.consumer) {
            consumer.pending.remove(&id);
        }
        self.forget_time(pending.delivered_at_ms, id);
        true
    }

    /// Notes another delivery of a pending entry.
    pub fn redeliver(&mut self, id: EntryId, now_ms: i64) {
        let Some(pending) = self.pending.get_mut(&id) else {
            return;
        };
        let before_ms = std::mem::replace(&mut pending.delivered_at_ms, now_ms);
        pending.deliveries = pending.deliveries.wrapping_add(1);
        if let Some(times) = &mut self.by_time {
            times.remove(&(before_ms, id));
            times.insert((now_ms, id));
        }
    }

    /// Frees some pending entries of a group that is thrown away; true while more are left.
    pub fn free_slice(&mut self, entries: usize) -> bool {
        let mut left = entries;
        while left > 0 && self.pending.pop_first().is_some() {
            self.by_time.as_mut().and_then(BTreeSet::pop_first);
            left -= 1;
        }
        while left > 0
            && let Some(mut consumer) = self.consumers.first_entry()
        {
            left -= 1;
            if consumer.get_mut().pending.pop_first().is_none() {
                consumer.remove();
            }
        }
        !self.pending.is_empty() || !self.consumers.is_empty()
    }
}
