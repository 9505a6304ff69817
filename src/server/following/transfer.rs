//! The snapshot of a master, on its way into a file: in pieces that are given to the kernel one behind
//! the other, so that no more than a few of them are in memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::payload::{Found, Payload, Refused};
use crate::runtime::{FileDone, FileOp};
use crate::server::log;
use crate::server::persist::freeing;

/// Bytes of one write.
const PIECE_BYTES: usize = 256 * 1024;
/// Bytes that the disk has not taken, beyond which nothing is read from the master.
const UNWRITTEN_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// What the master said of it: its history and offset.
pub type Origin = Option<(String, i64)>;

#[derive(Debug)]
pub struct Transfer {
    payload: Payload,
    pub origin: Origin,
    /// `None`: it is loaded as it comes, and nothing of it is written.
    file: Option<Arc<File>>,
    path: PathBuf,
    /// What it is known by among operations on files.
    pub id: u32,
    /// The master has said what comes.
    begun: bool,
    /// As the master announced it.
    pub size_bytes: Option<u64>,
    /// Bytes that came so far, the mark at the end included.
    pub read_bytes: u64,
    /// Where the next write goes, and what it will be.
    at: u64,
    piece: Vec<u8>,
    /// Writes in the hands of the kernel, and their bytes.
    writes: usize,
    unwritten_bytes: u64,
    ended: bool,
    syncing: bool,
    /// What came behind it.
    pub rest: Vec<u8>,
    failed: bool,
}

/// What is to be asked of the kernel.
pub type Wish = (Arc<File>, FileOp);

impl Transfer {
    /// One that is loaded as it comes.
    pub fn begin_direct(origin: Origin, id: u32) -> Transfer {
        Transfer::new(origin, id, None, PathBuf::new())
    }

    pub fn begin(origin: Origin, id: u32, now_ms: i64) -> io::Result<Transfer> {
        let path = PathBuf::from(format!("temp-{}.{}.rdb", now_ms / 1000, std::process::id()));
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        Ok(Transfer::new(origin, id, Some(Arc::new(file)), path))
    }

    fn new(origin: Origin, id: u32, file: Option<Arc<File>>, path: PathBuf) -> Transfer {
        Transfer {
            payload: Payload::new(),
            origin,
            file,
            path,
            id,
            begun: false,
            size_bytes: None,
            read_bytes: 0,
            at: 0,
            piece: Vec::new(),
            writes: 0,
            unwritten_bytes: 0,
            ended: false,
            syncing: false,
            rest: Vec::new(),
            failed: false,
        }
    }

    /// Whether it is loaded as it comes.
    pub fn is_direct(&self) -> bool {
        self.file.is_none()
    }

    /// Whether one that is loaded as it comes has begun to come.
    pub fn may_load(&self) -> bool {
        self.is_direct() && self.begun
    }

    /// What has come of such a one, and whether that is its end.
    pub fn take_piece(&mut self) -> (Vec<u8>, bool) {
        (std::mem::take(&mut self.piece), self.ended)
    }

    /// Whether the master waits for a word before it goes on.
    pub fn is_marked(&self) -> bool {
        self.payload.is_marked()
    }

    /// Takes what has come from the master. Returns false, having said why, if it is no snapshot.
    pub fn receive(&mut self, mut bytes: &[u8], wishes: &mut Vec<Wish>) -> bool {
        while !bytes.is_empty() {
            if self.ended {
                self.rest.extend_from_slice(bytes);
                return true;
            }
            match self.payload.look(bytes) {
                Ok(Found::More) => return true,
                Ok(Found::Begun { used, size }) => {
                    self.begun(size);
                    bytes = &bytes[used..];
                    self.ended = size == Some(0);
                }
                Ok(Found::Piece(range, ended)) => {
                    self.piece.extend_from_slice(&bytes[range.clone()]);
                    self.read_bytes += range.len() as u64;
                    bytes = &bytes[range.end..];
                    self.ended = ended;
                }
                Err(refused) => {
                    tell(&refused);
                    return false;
                }
            }
            if !self.is_direct() && (self.piece.len() >= PIECE_BYTES || self.ended) {
                self.write(wishes);
            }
        }
        true
    }

    fn begun(&mut self, size: Option<u64>) {
        self.size_bytes = size;
        self.begun = true;
        let what = match size {
            Some(size) => format!("{size} bytes from master"),
            None => "streamed RDB from master with EOF".to_owned(),
        };
        let to = if self.is_direct() { "parser" } else { "disk" };
        log::notice(&format!(
            "MASTER <-> REPLICA sync: receiving {what} to {to}"
        ));
    }

    fn write(&mut self, wishes: &mut Vec<Wish>) {
        let mut bytes = std::mem::take(&mut self.piece);
        if self.ended {
            // The mark may have begun in a piece before: the file is cut to its length at the end.
            let over = self.payload.tail_bytes().min(bytes.len() as u64);
            bytes.truncate(bytes.len() - over as usize);
        }
        if bytes.is_empty() {
            return;
        }
        let at = self.at;
        self.at += bytes.len() as u64;
        self.writes += 1;
        self.unwritten_bytes += bytes.len() as u64;
        if let Some(file) = &self.file {
            wishes.push((file.clone(), FileOp::Write { at, bytes }));
        }
    }

    /// Whether the master should wait.
    pub fn is_behind(&self) -> bool {
        self.unwritten_bytes + self.piece.len() as u64 > UNWRITTEN_MAX_BYTES
    }

    /// A write or the sync is over. Returns whether the file is complete; an error was said.
    pub fn file_done(&mut self, done: FileDone, wishes: &mut Vec<Wish>) -> Result<bool, ()> {
        if let Err(error) = &done.result {
            let what = match self.syncing {
                true => {
                    "Failed trying to sync the temp DB to disk in MASTER <-> REPLICA \
                         synchronization"
                }
                false => {
                    "Write error or short write writing to the DB dump file needed for \
                          MASTER <-> REPLICA synchronization"
                }
            };
            log::warning(&format!("{what}: {error}"));
            self.failed = true;
        }
        if self.failed {
            return Err(());
        }
        if self.syncing {
            return Ok(true);
        }
        self.writes -= 1;
        self.unwritten_bytes -= done.bytes.len() as u64;
        Ok(self.end(wishes))
    }

    /// Brings the file to its end if all of it is written. Returns false: it has to be synced first.
    pub fn end(&mut self, wishes: &mut Vec<Wish>) -> bool {
        if self.ended
            && self.writes == 0
            && !self.syncing
            && let Some(file) = &self.file
        {
            self.syncing = true;
            let length = self.read_bytes - self.payload.tail_bytes();
            if let Err(error) = file.set_len(length) {
                log::warning(&format!(
                    "Error truncating the RDB file received from the master for SYNC: {error}"
                ));
            }
            wishes.push((file.clone(), FileOp::Sync { metadata: true }));
        }
        false
    }

    /// Gives the complete file its name.
    pub fn keep(self, name: &Path) -> io::Result<()> {
        let rename = || std::fs::rename(&self.path, name);
        freeing(name, rename).inspect_err(|_| self.remove())
    }

    /// Nothing of it is of use.
    pub fn discard(self) {
        self.remove();
    }

    fn remove(&self) {
        if self.is_direct() {
            return;
        }
        // It may be gone already.
        drop(freeing(&self.path, || std::fs::remove_file(&self.path)));
    }
}

fn tell(refused: &Refused) {
    log::warning(&match refused {
        Refused::Error(error) => format!("MASTER aborted replication with an error: {error}"),
        Refused::Garbage(line) => format!(
            "Bad protocol from MASTER, the first byte is not '$' (we received '{line}'), are you \
             sure the host and port are right?"
        ),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carries out what is asked, as the kernel would.
    fn work(transfer: &mut Transfer, wishes: Vec<Wish>) -> bool {
        use std::os::unix::fs::FileExt;
        let mut complete = false;
        for (file, op) in wishes {
            let mut more = Vec::new();
            let bytes = match op {
                FileOp::Write { at, bytes } => {
                    file.write_all_at(&bytes, at).unwrap();
                    bytes
                }
                _ => Vec::new(),
            };
            let done = FileDone {
                tag: 0,
                result: Ok(bytes.len()),
                bytes,
            };
            complete = transfer.file_done(done, &mut more).unwrap();
            if !more.is_empty() {
                complete = work(transfer, more);
            }
        }
        complete
    }

    #[test]
    fn a_snapshot_with_a_mark_becomes_a_file_without_it() {
        let mark = "m".repeat(40);
        let body = "x".repeat(3 * PIECE_BYTES / 2);
        let sent = format!("\n$EOF:{mark}\r\n{body}{mark}");
        // The mark is split between two pieces.
        for cut in [PIECE_BYTES, sent.len() - 60, sent.len() - 20] {
            let name = std::env::temp_dir().join(format!("pinion-transfer-{cut}.rdb"));
            let name = name.to_str().unwrap();
            let mut transfer = Transfer::begin(None, 1, 1000 * cut as i64).unwrap();
            let mut complete = false;
            for piece in [&sent.as_bytes()[..cut], &sent.as_bytes()[cut..]] {
                let mut wishes = Vec::new();
                assert!(transfer.receive(piece, &mut wishes));
                if wishes.is_empty() {
                    transfer.end(&mut wishes);
                }
                complete = work(&mut transfer, wishes);
            }
            assert!(complete && transfer.is_marked());
            transfer.keep(Path::new(name)).unwrap();
            assert!(std::fs::read_to_string(name).unwrap() == body);
            std::fs::remove_file(name).unwrap();
        }
    }
}
