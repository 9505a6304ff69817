//! A file that is written past the page cache, block by block.
//!
//! The disk takes blocks from aligned memory as they are; nothing is copied, and nobody has to carry
//! dirty pages to the disk later, on the core that serves clients. One block is on its way while the
//! next fills. What is left in the end is no block: it goes through the page cache.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use crate::runtime::FileOp;

/// Bytes of one write: large enough that the disk is busy with few of them.
pub const BLOCK_BYTES: usize = 1024 * 1024;
/// Both memory and places in the file are multiples of this; disks ask for 512 or 4,096.
const ALIGNMENT: usize = 4096;

/// The blocks of one file.
pub struct Direct {
    pub file: Arc<File>,
    /// Where in the file the block on its way begins, and where in its memory.
    flying: Option<(u64, usize)>,
    /// Memory for the next.
    spare: Vec<u8>,
}

/// Memory whose bytes behind the first few are aligned; returns how many these are.
fn align(mut memory: Vec<u8>) -> (Vec<u8>, usize) {
    memory.clear();
    // Not more than a block and what may be appended before it is cut off, or it moves.
    memory.reserve(BLOCK_BYTES + BLOCK_BYTES / 2 + ALIGNMENT);
    let skip = memory.as_ptr().align_offset(ALIGNMENT);
    memory.resize(skip, 0);
    (memory, skip)
}

impl Direct {
    /// Opens a file once more, unless its filesystem knows no way around the page cache.
    pub fn open(path: &Path) -> Option<Direct> {
        let mut options = OpenOptions::new();
        let file = options.write(true).custom_flags(libc::O_DIRECT).open(path);
        Some(Direct {
            file: Arc::new(file.ok()?),
            flying: None,
            spare: Vec::new(),
        })
    }

    pub fn is_busy(&self) -> bool {
        self.flying.is_some()
    }

    /// Takes what can be written off the front of `bytes`, which belongs at `at`. Returns how much.
    pub fn cut(&mut self, at: u64, bytes: &mut Vec<u8>) -> (FileOp, usize) {
        let len = bytes.len() / ALIGNMENT * ALIGNMENT;
        let (mut memory, skip) = align(std::mem::take(&mut self.spare));
        memory.extend_from_slice(&bytes[..len]);
        bytes.drain(..len);
        self.flying = Some((at, skip));
        let bytes = memory;
        (FileOp::WriteFrom { at, bytes, skip }, len)
    }

    /// The block on its way has arrived, or has not: returns where it belongs, and what of its
    /// memory it is.
    pub fn landed(&mut self) -> Option<(u64, usize)> {
        self.flying.take()
    }

    /// Memory for the next block.
    pub fn recycle(&mut self, memory: Vec<u8>) {
        self.spare = memory;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_and_nothing_is_left_out() {
        let path = std::env::temp_dir().join(format!("pinion-direct-{}", std::process::id()));
        let file = Arc::new(File::create(&path).unwrap());
        let (flying, spare) = (None, Vec::new());
        let mut direct = Direct {
            file,
            flying,
            spare,
        };
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut all, mut rest, mut cut) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..50 {
            let more: Vec<u8> = (0..rng.usize(..200_000)).map(|_| rng.u8(..)).collect();
            all.extend_from_slice(&more);
            rest.extend_from_slice(&more);
            if rest.len() < ALIGNMENT {
                continue;
            }
            let (op, len) = direct.cut(cut.len() as u64, &mut rest);
            let FileOp::WriteFrom { at, bytes, skip } = op else {
                panic!("a write");
            };
            assert_eq!(bytes.len() - skip, len);
            assert_eq!((at, direct.landed()), (cut.len() as u64, Some((at, skip))));
            assert_eq!(bytes[skip..].as_ptr().align_offset(ALIGNMENT), 0);
            assert_eq!(bytes[skip..].len() % ALIGNMENT, 0);
            cut.extend_from_slice(&bytes[skip..]);
            direct.recycle(bytes);
        }
        std::fs::remove_file(&path).unwrap();
        assert!(cut.len() > 1_000_000 && rest.len() < ALIGNMENT);
        cut.extend_from_slice(&rest);
        assert_eq!(cut, all);
    }
}
