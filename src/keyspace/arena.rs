//! Where entries live: slots of a few size classes, cut from pages.
//!
//! ```text
//! page (64 KiB):   [slot][slot][slot]...      all of one class; freed slots form a list
//! handle (40 bit): page number (27) | offset / 8 (13)      0 is no handle
//! ```
//! A general allocator rounds an 87-byte entry up to 96 or 112 bytes; classes in steps of 8 waste
//! 4 bytes on average, and a handle takes 5 bytes instead of 8. A page whose last slot is freed goes
//! back to the allocator.
//!
//! Safe Rust throughout: a slot is a range of its page's bytes.

use crate::value::dict::Handle;
use crate::value::fetch::fetch_front;

/// Bytes per page.
const PAGE_BYTES: usize = 64 * 1024;
/// Up to here classes are 8 bytes apart, beyond an eighth of their size.
const FINE_MAX_BYTES: usize = 512;
/// The largest slot.
pub const SLOT_MAX_BYTES: usize = 2048;
const UNIT_BYTES: usize = 8;
/// End of a free list.
const NONE: u16 = u16::MAX;

/// The handle of a slot. Page numbers start at 1, so no handle is 0.
fn handle_of(page: usize, offset: usize) -> Handle {
    let bits = (page as u64) << 13 | (offset / UNIT_BYTES) as u64;
    Handle::from_bits(bits).expect("page numbers start at 1")
}

fn page_of(handle: Handle) -> usize {
    (handle.to_bits() >> 13) as usize
}

fn offset_of(handle: Handle) -> usize {
    (handle.to_bits() & 0x1fff) as usize * UNIT_BYTES
}

#[derive(Debug)]
struct Page {
    bytes: Box<[u8]>,
    slot_bytes: u16,
    class: u16,
    used: u16,
    /// Slots handed out so far from the unused end.
    fresh: u16,
    /// Offset in units of the first freed slot.
    free: u16,
    /// Index in its class's list of pages with room, or `u32::MAX`.
    listed: u32,
}

const UNLISTED: u32 = u32::MAX;

/// The arena of one shard.
#[derive(Debug)]
pub struct Arena {
    pages: Vec<Page>,
    /// Numbers of pages that were given back.
    vacant: Vec<u32>,
    /// Per class, pages with room.
    with_room: Vec<Vec<u32>>,
    used_bytes: usize,
    page_bytes: usize,
}

/// The class of a slot of at least `bytes`.
fn class_of(bytes: usize) -> usize {
    if bytes <= FINE_MAX_BYTES {
        return bytes.div_ceil(UNIT_BYTES).max(1) - 1;
    }
    // Eight classes per doubling above the fine ones.
    let doubling = (bytes - 1).ilog2() as usize - FINE_MAX_BYTES.ilog2() as usize;
    let step = FINE_MAX_BYTES << doubling >> 3;
    let within = (bytes - (FINE_MAX_BYTES << doubling)).div_ceil(step) - 1;
    FINE_MAX_BYTES / UNIT_BYTES + doubling * 8 + within
}

/// The slot size of a class.
fn class_bytes(class: usize) -> usize {
    let fine = FINE_MAX_BYTES / UNIT_BYTES;
    if class < fine {
        return (class + 1) * UNIT_BYTES;
    }
    let (doubling, within) = ((class - fine) / 8, (class - fine) % 8);
    (FINE_MAX_BYTES << doubling) + (within + 1) * (FINE_MAX_BYTES << doubling >> 3)
}

impl Default for Arena {
    fn default() -> Arena {
        let classes = class_of(SLOT_MAX_BYTES) + 1;
        // Page 0 never holds a slot, so that no handle is 0.
        let reserved = Page {
            bytes: Box::default(),
            slot_bytes: 0,
            class: 0,
            used: 1,
            fresh: 0,
            free: NONE,
            listed: UNLISTED,
        };
        Arena {
            pages: vec![reserved],
            vacant: Vec::new(),
            with_room: vec![Vec::new(); classes],
            used_bytes: 0,
            page_bytes: 0,
        }
    }
}

impl Arena {
    /// A slot of at least `bytes`, at most [`SLOT_MAX_BYTES`]; its contents are undefined.
    pub fn allocate(&mut self, bytes: usize) -> Handle {
        debug_assert!(bytes <= SLOT_MAX_BYTES);
        let class = class_of(bytes);
        let number = match self.with_room[class].last() {
            Some(&number) => number as usize,
            None => self.add_page(class),
        };
        let page = &mut self.pages[number];
        let slot_bytes = usize::from(page.slot_bytes);
        let offset = if page.free != NONE {
            let offset = usize::from(page.free) * UNIT_BYTES;
            page.free = u16::from_le_bytes([page.bytes[offset], page.bytes[offset + 1]]);
            offset
        } else {
            let offset = usize::from(page.fresh) * slot_bytes;
            page.fresh += 1;
            offset
        };
        page.used += 1;
        let full = page.free == NONE && (usize::from(page.fresh) + 1) * slot_bytes > PAGE_BYTES;
        if full {
            self.unlist(number);
        }
        self.used_bytes += slot_bytes;
        handle_of(number, offset)
    }

    fn add_page(&mut self, class: usize) -> usize {
        let page = Page {
            bytes: vec![0; PAGE_BYTES].into_boxed_slice(),
            slot_bytes: class_bytes(class) as u16,
            class: class as u16,
            used: 0,
            fresh: 0,
            free: NONE,
            listed: UNLISTED,
        };
        let number = match self.vacant.pop() {
            Some(number) => {
                self.pages[number as usize] = page;
                number as usize
            }
            None => {
                self.pages.push(page);
                self.pages.len() - 1
            }
        };
        self.page_bytes += PAGE_BYTES;
        self.list(number);
        number
    }

    fn list(&mut self, number: usize) {
        let class = usize::from(self.pages[number].class);
        self.pages[number].listed = self.with_room[class].len() as u32;
        self.with_room[class].push(number as u32);
    }

    fn unlist(&mut self, number: usize) {
        let page = &mut self.pages[number];
        let at = std::mem::replace(&mut page.listed, UNLISTED) as usize;
        let list = &mut self.with_room[usize::from(page.class)];
        list.swap_remove(at);
        if let Some(&moved) = list.get(at) {
            self.pages[moved as usize].listed = at as u32;
        }
    }

    /// Frees a slot.
    pub fn free(&mut self, handle: Handle) {
        let number = page_of(handle);
        let page = &mut self.pages[number];
        let offset = offset_of(handle);
        self.used_bytes -= usize::from(page.slot_bytes);
        page.bytes[offset..offset + 2].copy_from_slice(&page.free.to_le_bytes());
        page.free = (offset / UNIT_BYTES) as u16;
        page.used -= 1;
        let (empty, unlisted) = (page.used == 0, page.listed == UNLISTED);
        let class = usize::from(page.class);
        if empty && self.with_room[class].len() > usize::from(!unlisted) {
            // Another page of the class has room: this one can go.
            if !unlisted {
                self.unlist(number);
            }
            self.pages[number].bytes = Box::default();
            self.vacant.push(number as u32);
            self.page_bytes -= PAGE_BYTES;
        } else if unlisted {
            self.list(number);
        }
    }

    /// A slot's bytes, all of its class's size.
    #[inline]
    pub fn get(&self, handle: Handle) -> &[u8] {
        let page = &self.pages[page_of(handle)];
        let offset = offset_of(handle);
        &page.bytes[offset..offset + usize::from(page.slot_bytes)]
    }

    /// Asks memory for the beginning of a slot and what is behind it.
    #[inline]
    pub fn fetch(&self, handle: Handle) {
        fetch_front(&self.pages[page_of(handle)].bytes[offset_of(handle)..]);
    }

    #[inline]
    pub fn get_mut(&mut self, handle: Handle) -> &mut [u8] {
        let page = &mut self.pages[page_of(handle)];
        let offset = offset_of(handle);
        &mut page.bytes[offset..offset + usize::from(page.slot_bytes)]
    }

    /// Whether an entry of `bytes` belongs in the same kind of slot.
    pub fn fits(&self, handle: Handle, bytes: usize) -> bool {
        usize::from(self.pages[page_of(handle)].slot_bytes) == class_bytes(class_of(bytes))
    }

    /// Bytes of all slots in use.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Bytes of all pages.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// Frees up to `pages` pages of an arena that nobody refers to any more; returns how many are
    /// left.
    pub fn dismantle(&mut self, pages: usize) -> usize {
        let left = self.pages.len().saturating_sub(pages);
        self.pages.truncate(left);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_cover_every_size_tightly() {
        for bytes in 1..=SLOT_MAX_BYTES {
            let size = class_bytes(class_of(bytes));
            assert!(size >= bytes, "{bytes} in {size}");
            let waste = if bytes <= FINE_MAX_BYTES {
                7
            } else {
                bytes / 8
            };
            assert!(size - bytes <= waste, "{bytes} in {size}");
        }
    }

    #[test]
    fn slots_do_not_overlap_and_empty_pages_are_given_back() {
        let seed = 7;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut arena = Arena::default();
        let mut live: Vec<(Handle, u8, usize)> = Vec::new();
        for round in 0..60_000 {
            if live.is_empty() || rng.u8(..) < 150 {
                let bytes = rng.usize(4..400);
                let handle = arena.allocate(bytes);
                let fill = rng.u8(..);
                arena.get_mut(handle)[..bytes].fill(fill);
                live.push((handle, fill, bytes));
            } else {
                let (handle, fill, bytes) = live.swap_remove(rng.usize(..live.len()));
                let intact = arena.get(handle)[..bytes].iter().all(|&byte| byte == fill);
                assert!(intact, "seed {seed} round {round}");
                arena.free(handle);
            }
        }
        let peak = arena.page_bytes();
        for (handle, fill, bytes) in live.drain(..) {
            assert!(arena.get(handle)[..bytes].iter().all(|&byte| byte == fill));
            arena.free(handle);
        }
        assert_eq!(arena.used_bytes(), 0);
        assert!(arena.page_bytes() <= 64 * PAGE_BYTES && arena.page_bytes() < peak);
    }
}
