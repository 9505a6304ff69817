//! Asking memory for what will be read soon.

use std::collections::VecDeque;

/// How many items before its turn one is asked for, where all of many are read.
pub const AHEAD: usize = 16;

/// Asks for the cache line where `place` begins, and goes on without waiting for it.
///
/// Reading a byte brings the line as well, but a processor runs only so far ahead of a read that has
/// not arrived: two or three of them were under way at a time. Of a pipelined HSET into 100,000 fields
/// the fifth that was spent on such reads is gone.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[inline]
pub fn fetch<T>(place: &T) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: it changes nothing but caches, faults at no address, and every x86-64 has it.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) }
}

/// Where Rust has no stable way to ask.
#[cfg(not(target_arch = "x86_64"))]
#[inline]
pub fn fetch<T>(_: &T) {}

/// Asks for the first two cache lines of some bytes.
#[inline]
pub fn fetch_front(bytes: &[u8]) {
    const LINE_BYTES: usize = 64;
    if let [first, .., last] = bytes {
        fetch(first);
        fetch(bytes.get(LINE_BYTES).unwrap_or(last));
    }
}

/// Yields what an iterator yields, having asked for each [`AHEAD`] items before.
pub fn ahead<I: Iterator>(items: I, ask: impl Fn(&I::Item)) -> impl Iterator<Item = I::Item> {
    let mut items = items.fuse();
    let mut asked = VecDeque::with_capacity(AHEAD);
    std::iter::from_fn(move || {
        while asked.len() < AHEAD
            && let Some(item) = items.next()
        {
            ask(&item);
            asked.push_back(item);
        }
        asked.pop_front()
    })
}
