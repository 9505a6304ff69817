//! A dictionary's buckets: one cache line each, in segments that never move.
//!
//! ```text
//! bucket (64 bytes):  10 fingerprints | 10 handles of 5 bytes | overflow bucket (4)
//! ```
//! A fingerprint is 0 where nothing is stored; ten of them are compared in one 128-bit operation.

use super::Handle;

pub(super) const SLOTS: usize = 10;
const HANDLE_BYTES: usize = 5;
/// Buckets per segment: 64 KiB at a time.
const SEGMENT: usize = 1024;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(super) struct Bucket([u8; 64]);

pub(super) const EMPTY: Bucket = Bucket([0; 64]);
const NEXT_AT: usize = SLOTS * (1 + HANDLE_BYTES);

const _: () = assert!(size_of::<Bucket>() == 64 && NEXT_AT + 4 == 64);

impl Bucket {
    pub(super) fn fingerprint(&self, slot: usize) -> u8 {
        self.0[slot]
    }

    pub(super) fn handle(&self, slot: usize) -> Handle {
        let at = SLOTS + slot * HANDLE_BYTES;
        let mut bits = [0; 8];
        bits[..HANDLE_BYTES].copy_from_slice(&self.0[at..at + HANDLE_BYTES]);
        Handle::from_bits(u64::from_le_bytes(bits)).expect("occupied slots have a handle")
    }

    pub(super) fn put(&mut self, slot: usize, fingerprint: u8, handle: Handle) {
        self.0[slot] = fingerprint;
        let at = SLOTS + slot * HANDLE_BYTES;
        let bits = handle.to_bits().to_le_bytes();
        self.0[at..at + HANDLE_BYTES].copy_from_slice(&bits[..HANDLE_BYTES]);
    }

    pub(super) fn clear(&mut self, slot: usize) {
        self.0[slot] = 0;
    }

    pub(super) fn is_used(&self, slot: usize) -> bool {
        self.0[slot] != 0
    }

    pub(super) fn free_slot(&self) -> Option<usize> {
        self.0[..SLOTS]
            .iter()
            .position(|&fingerprint| fingerprint == 0)
    }

    pub(super) fn used_slots(&self) -> impl Iterator<Item = usize> + '_ {
        (0..SLOTS).filter(|&slot| self.is_used(slot))
    }

    /// Fingerprints and handles.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u8, Handle)> + '_ {
        self.used_slots()
            .map(|slot| (self.fingerprint(slot), self.handle(slot)))
    }

    /// Index of the overflow bucket plus one, 0 for none.
    pub(super) fn next(&self) -> u32 {
        let mut next = [0; 4];
        next.copy_from_slice(&self.0[NEXT_AT..]);
        u32::from_le_bytes(next)
    }

    pub(super) fn set_next(&mut self, next: u32) {
        self.0[NEXT_AT..].copy_from_slice(&next.to_le_bytes());
    }

    /// The first handle whose fingerprint may match.
    pub(super) fn likely(&self, fingerprint: u8) -> Option<Handle> {
        let candidates = self.candidates(fingerprint);
        let slot = candidates.trailing_zeros() as usize / 8;
        (candidates != 0).then(|| self.handle(slot))
    }

    /// Bit 8n+7 is set where fingerprint n may match; false positives are possible, misses not.
    pub(super) fn candidates(&self, fingerprint: u8) -> u128 {
        const ONES: u128 = u128::MAX / 255;
        const HIGHS: u128 = ONES << 7;
        const USED: u128 = (1 << (8 * SLOTS)) - 1;
        let mut head = [0; 16];
        head.copy_from_slice(&self.0[..16]);
        let different = u128::from_le_bytes(head) ^ (ONES * u128::from(fingerprint));
        different.wrapping_sub(ONES) & !different & HIGHS & USED
    }
}

/// Buckets in segments of a fixed size, so that growing never moves what is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Buckets {
    segments: Vec<Vec<Bucket>>,
    pub(super) len: usize,
    /// Buckets that the segments have room for.
    capacity: usize,
}

impl Buckets {
    pub(super) fn push(&mut self, bucket: Bucket) {
        if self.len.is_multiple_of(SEGMENT) {
            // The first segment starts small: most databases stay empty.
            let capacity = if self.len == 0 { 4 } else { SEGMENT };
            self.segments.push(Vec::with_capacity(capacity));
            self.capacity += capacity;
        }
        let segment = self
            .segments
            .last_mut()
            .expect("a segment was pushed above if needed");
        if segment.len() == segment.capacity() {
            // Doubling the small first segment, up to its full size.
            let more = segment.len().min(SEGMENT - segment.len()).max(1);
            segment.reserve_exact(more);
            self.capacity += more;
        }
        segment.push(bucket);
        self.len += 1;
    }

    pub(super) fn pop(&mut self) -> Option<Bucket> {
        let segment = self.segments.last_mut()?;
        let bucket = segment.pop()?;
        if segment.is_empty() {
            self.capacity -= segment.capacity();
            self.segments.pop();
        }
        self.len -= 1;
        Some(bucket)
    }

    pub(super) fn drop_segment(&mut self) -> bool {
        self.segments.pop();
        !self.segments.is_empty()
    }

    pub(super) fn get(&self, at: usize) -> &Bucket {
        &self.segments[at / SEGMENT][at % SEGMENT]
    }

    pub(super) fn get_mut(&mut self, at: usize) -> &mut Bucket {
        &mut self.segments[at / SEGMENT][at % SEGMENT]
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.capacity * size_of::<Bucket>()
    }
}
