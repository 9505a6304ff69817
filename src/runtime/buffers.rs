//! The provided buffer ring: memory the kernel fills with what sockets receive.
//!
//! ```text
//! ring:     [entry 0][entry 1]...[entry n-1]     16 bytes each: address, length, buffer id, tail
//! buffers:  n x BUFFER_BYTES, contiguous
//! ```
//! The kernel takes buffers from the head, we give them back at the tail. A buffer is ours from the
//! completion that names it until [`Buffers::give_back`].
#![allow(unsafe_code)] // The ring is memory shared with the kernel; nothing safe describes it.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, types::BufRingEntry};

/// One page-multiple read: a burst of a pipeline, or a slice of a large value.
pub(super) const BUFFER_BYTES: usize = 16 * 1024;
/// Enough for every connection of a busy turn; when they run out, receives end with ENOBUFS and are
/// armed again.
pub(super) const BUFFERS: u16 = 128;
pub(super) const GROUP: u16 = 0;

const PAGE_BYTES: usize = 4096;

pub(super) struct Buffers {
    ring: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    tail: u16,
}

fn allocate(bytes: usize) -> NonNull<u8> {
    let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("sizes are constants");
    // SAFETY: the layout has a non-zero size.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}

impl Buffers {
    /// Allocates and registers the buffers with `ring`, which must outlive them. They live as long
    /// as the executor, that is: the process.
    pub fn register(ring: &IoUring) -> io::Result<Buffers> {
        let entries = allocate(usize::from(BUFFERS) * size_of::<BufRingEntry>()).cast();
        let memory = allocate(usize::from(BUFFERS) * BUFFER_BYTES);
        // SAFETY: the memory is page-aligned, large enough for the entries, and never freed.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.as_ptr() as u64,
                BUFFERS,
                GROUP,
                0,
            )?;
        }
        let mut buffers = Buffers {
            ring: entries,
            memory,
            tail: 0,
        };
        for id in 0..BUFFERS {
            buffers.give_back(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The bytes of buffer `id` that a receive filled.
    pub fn filled(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < BUFFERS && len <= BUFFER_BYTES);
        // SAFETY: in bounds by the assertion; the kernel does not write to a buffer between the
        // completion that handed it out and its return.
        unsafe {
            let start = self.memory.as_ptr().add(usize::from(id) * BUFFER_BYTES);
            std::slice::from_raw_parts(start, len)
        }
    }

    /// Returns buffer `id`; the kernel sees it after [`Buffers::publish`].
    pub fn give_back(&mut self, id: u16) {
        let at = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: `at` is within the ring; the kernel does not read entries beyond the tail.
        unsafe {
            let entry = &mut *self.ring.as_ptr().add(at);
            entry.set_addr(self.memory.as_ptr().add(usize::from(id) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see what was given back.
    pub fn publish(&mut self) {
        // SAFETY: the tail is a field of the first entry, in memory that lives for ever.
        let tail = unsafe { &*BufRingEntry::tail(self.ring.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}
