//! What is kept compressed: the nodes inside of a list whose ends are in use, and a stream's past.

use std::cell::RefCell;

use super::lzf::{self, Compressor};

thread_local! {
    /// The compressor's tables: 256 KiB, too much for each value, and needed only within a call.
    /// What they hold has no effect on what comes out.
    static COMPRESSOR: RefCell<Compressor> = RefCell::default();
}

/// Bytes that are compressed: their number, a count that its owner wants to know without unpacking,
/// 32 bits each, and LZF.
#[derive(Clone, Debug)]
pub struct Closed(Box<[u8]>);

impl Closed {
    const HEAD: usize = 8;

    /// `None` unless that takes less than `bytes_max`.
    pub fn of(plain: &[u8], count: usize, bytes_max: usize) -> Option<Closed> {
        COMPRESSOR.with_borrow_mut(|compressor| {
            let packed = compressor.compress(plain)?;
            if packed.len() >= bytes_max {
                return None;
            }
            let bytes = u32::try_from(plain.len()).ok()?.to_le_bytes();
            let count = u32::try_from(count).ok()?.to_le_bytes();
            Some(Closed([&bytes, &count, packed].concat().into_boxed_slice()))
        })
    }

    fn head(&self, at: usize) -> usize {
        let half = self.0[at..].first_chunk().copied();
        half.map_or(0, u32::from_le_bytes) as usize
    }

    /// Bytes of what is compressed.
    pub fn bytes(&self) -> usize {
        self.head(0)
    }

    pub fn count(&self) -> usize {
        self.head(4)
    }

    pub fn lzf(&self) -> &[u8] {
        &self.0[Self::HEAD..]
    }

    pub fn memory_bytes(&self) -> usize {
        self.0.len()
    }

    pub fn unpack(&self) -> Vec<u8> {
        lzf::decompress(self.lzf(), self.bytes()).expect("compressed by `of`")
    }
}
