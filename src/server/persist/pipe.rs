//! A snapshot that goes straight to replicas: nothing of it is written to a disk.
//!
//! ```text
//! $EOF:<40 digits>\r\n  REDIS0010 ... EOF CRC-64  <the same 40 digits>
//! ```
//! Its length is not known before its end, so a mark that nobody can foresee says where that is. No
//! more of it is made than the slowest replica takes.

use super::{After, Persistence, Saving};

const MARK_BYTES: usize = 40;

#[derive(Debug)]
pub(super) struct Pipe {
    mark: [u8; MARK_BYTES],
    /// Some replica has not taken what was made for it.
    pub is_full: bool,
}

impl Pipe {
    pub fn new() -> Pipe {
        Pipe {
            mark: std::array::from_fn(|_| fastrand::digit(16) as u8),
            is_full: false,
        }
    }

    /// What comes before the first byte of the file.
    pub fn begin(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"$EOF:");
        out.extend_from_slice(&self.mark);
        out.extend_from_slice(b"\r\n");
    }

    /// What comes behind the last.
    pub fn end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.mark);
    }
}

impl Persistence {
    /// Whether the snapshot that goes straight to replicas has to wait for one of them.
    pub fn set_pipe_full(&mut self, is_full: bool) {
        if let Some(pipe) = self.saving.as_mut().and_then(|saving| saving.pipe_mut()) {
            pipe.is_full = is_full;
        }
    }

    /// Whether a snapshot goes straight to replicas.
    pub fn is_piping(&self) -> bool {
        let is_piped = |saving: &Saving| saving.after() == After::Pipe;
        self.saving.as_deref().is_some_and(is_piped)
    }
}
