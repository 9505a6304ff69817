//! Files before a cut: what they lack, and their last sync.

use std::io;
use std::sync::Arc;

use super::super::{Operation, Purpose, tag};
use super::{Medium, Room, Segment};
use crate::runtime::FileOp;

/// A file before a cut, and what it lacks; nothing goes into the next before it has it.
pub(super) struct Ending<F> {
    pub file: Arc<F>,
    pub at: u64,
    pub bytes: Vec<u8>,
    /// What stands in the file behind `at`.
    pub room: Room,
    /// The journal position at its end.
    pub end: u64,
}

impl<F: Medium> Segment<F> {
    /// A cut: `rest` ends the old file, everything after it belongs into the next.
    pub(super) fn change_file(&mut self, rest: Vec<u8>) {
        self.appended += rest.len() as u64;
        self.buffer.extend_from_slice(&rest);
        let Some(next) = self.next.take() else {
            return;
        };
        self.endings.push_back(Ending {
            file: std::mem::replace(&mut self.file, next),
            at: self.at,
            bytes: std::mem::take(&mut self.buffer),
            room: std::mem::take(&mut self.room),
            end: self.appended,
        });
        self.at = 0;
        self.current_failed = false;
    }

    /// Gives the files before the current one what they lack. Returns whether they have it.
    pub(super) fn end_files(&mut self, now_ms: i64, operations: &mut Vec<Operation<F>>) -> bool {
        let is_strict = self.is_strict();
        while self.syncing.is_none()
            && let Some(ending) = self.endings.front_mut()
        {
            if !self.kept.is_empty() {
                // One sync for all of it: it must not matter which sync is told of an error.
                ending.bytes.splice(..0, self.kept.drain(..));
                ending.at = self.kept_at;
            }
            let cut = ending.room.give_back(&*ending.file, ending.at);
            let written = cut.and_then(|()| ending.file.write_all_at(&ending.bytes, ending.at));
            let ended = written.and_then(|()| match is_strict {
                true => ending.file.sync_data(),
                false => Ok(()),
            });
            if let Err(error) = ended {
                self.fail("Error ending an AOF segment", &error, now_ms);
                return false;
            }
            let Some(Ending { file, end, .. }) = self.endings.pop_front() else {
                break;
            };
            (self.written, self.synced) = (end, end);
            if !is_strict {
                // Under `no` as well: the policy may change before a base makes up for the file.
                if self.old_syncs == 0 {
                    self.old_sync_ms = now_ms;
                }
                self.old_syncs += 1;
                operations.push(Operation {
                    file,
                    tag: tag(Purpose::OldSync, 0),
                    op: FileOp::Sync { metadata: false },
                });
            }
            self.recovered();
        }
        self.endings.is_empty()
    }

    /// The sync of a file before the current one is over.
    pub fn old_synced(&mut self, result: &io::Result<usize>, now_ms: i64) {
        self.old_syncs = self.old_syncs.saturating_sub(1);
        if let Err(error) = result {
            self.fail("Fail to fsync the AOF file", error, now_ms);
            self.sync_failed = true;
        }
    }
}
