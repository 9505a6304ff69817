//! Files: reads, writes and syncs on this core's ring.
//!
//! Whoever asks for an operation gives its buffer away and gets it back with the completion, so no
//! memory that the kernel uses can be freed or changed. Short writes are continued here.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use super::ring::{Op, Ring, Token};

/// What is to be done with a file.
#[derive(Debug)]
pub enum FileOp {
    /// Reads up to `len` bytes; fewer only at the end of the file or if the kernel has no more now.
    Read { at: u64, len: usize },
    /// Writes all of the bytes.
    Write { at: u64, bytes: Vec<u8> },
    /// Writes all of the bytes; it is over when they are on the disk.
    WriteThrough { at: u64, bytes: Vec<u8> },
    /// Writes all of the bytes but the first `skip`.
    WriteFrom {
        at: u64,
        bytes: Vec<u8>,
        skip: usize,
    },
    /// Waits until everything written before is on the disk; with `metadata` also times and such.
    Sync { metadata: bool },
}

/// An operation that is over.
#[derive(Debug)]
pub struct FileDone {
    /// What the operation was asked for with.
    pub tag: u64,
    /// Bytes read or written.
    pub result: io::Result<usize>,
    /// What was read, or what was written, for use again.
    pub bytes: Vec<u8>,
}

/// An operation that the app asked for and that is not in the kernel yet.
pub(super) struct FileRequest {
    pub file: Arc<File>,
    pub tag: u64,
    pub op: FileOp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write { through: bool },
    Sync { metadata: bool },
}

/// An operation in the kernel.
struct Pending {
    file: Arc<File>,
    tag: u64,
    kind: Kind,
    at: u64,
    bytes: Vec<u8>,
    /// Bytes at the front that are not written.
    skip: usize,
    done: usize,
}

/// The file operations of one core.
#[derive(Default)]
pub(super) struct Files {
    pending: Vec<Option<Box<Pending>>>,
    free: Vec<u32>,
}

impl Files {
    pub fn start(&mut self, request: FileRequest, ring: &mut Ring) {
        let FileRequest { file, tag, op } = request;
        let (kind, at, bytes, skip) = match op {
            FileOp::Read { at, len } => (Kind::Read, at, vec![0; len], 0),
            FileOp::Write { at, bytes } => (Kind::Write { through: false }, at, bytes, 0),
            FileOp::WriteThrough { at, bytes } => (Kind::Write { through: true }, at, bytes, 0),
            FileOp::WriteFrom { at, bytes, skip } => {
                (Kind::Write { through: false }, at, bytes, skip)
            }
            FileOp::Sync { metadata } => (Kind::Sync { metadata }, 0, Vec::new(), 0),
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.pending.push(None);
            self.pending.len() as u32 - 1
        });
        let pending = Box::new(Pending {
            file,
            tag,
            kind,
            at,
            bytes,
            skip,
            done: 0,
        });
        self.submit(index, pending, ring);
    }

    fn submit(&mut self, index: u32, mut pending: Box<Pending>, ring: &mut Ring) {
        let token = Token::new(Op::File, index, 0);
        let fd = pending.file.as_raw_fd();
        let at = pending.at + pending.done as u64;
        match pending.kind {
            Kind::Read => ring.read_at(fd, &mut pending.bytes, at, token),
            Kind::Write { through } => {
                let from = pending.skip + pending.done;
                ring.write_at(fd, &pending.bytes[from..], at, through, token);
            }
            Kind::Sync { metadata } => ring.sync(fd, !metadata, token),
        }
        self.pending[index as usize] = Some(pending);
    }

    /// A completion arrived. Returns the operation if it is over.
    pub fn completed(&mut self, token: Token, result: i32, ring: &mut Ring) -> Option<FileDone> {
        let mut pending = self.pending.get_mut(token.index as usize)?.take()?;
        let is_write = matches!(pending.kind, Kind::Write { .. });
        let result = match result {
            error if matches!(-error, libc::EINTR | libc::EAGAIN) => {
                self.submit(token.index, pending, ring);
                return None;
            }
            error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            0 if is_write && pending.skip + pending.done < pending.bytes.len() => {
                Err(io::ErrorKind::WriteZero.into())
            }
            n => {
                pending.done += n as usize;
                if is_write && pending.skip + pending.done < pending.bytes.len() {
                    self.submit(token.index, pending, ring);
                    return None;
                }
                Ok(pending.done)
            }
        };
        self.free.push(token.index);
        let Pending {
            tag,
            kind,
            mut bytes,
            done,
            ..
        } = *pending;
        if kind == Kind::Read {
            bytes.truncate(done);
        }
        Some(FileDone { tag, result, bytes })
    }
}
