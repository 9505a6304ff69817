//! The bytes of a segment on their way to the kernel or the disk, and those that did not arrive.

use super::{Medium, RETRY_MS, Segment};
use crate::runtime::{FileDone, FileOp, clock};
use crate::server::persist::{Operation, Purpose};

impl<F: Medium> Segment<F> {
    pub(super) fn write(&mut self, now_ms: i64, operations: &mut Vec<Operation<F>>) {
        if self.writing.is_some() || now_ms < self.retry_ms {
            return;
        }
        if !self.endings.is_empty() && !self.end_files(now_ms, operations) {
            return;
        }
        if self.buffer.is_empty() {
            return;
        }
        if self.is_strict() {
            // What an easier policy has left is synced first.
            if self.syncing.is_none() && self.written == self.synced {
                self.write_through(now_ms, operations);
            }
            return;
        }
        if let Err(error) = self.room.give_back(&*self.file, self.at) {
            return self.fail("Error writing to the AOF file", &error, now_ms);
        }
        if self.syncing.is_none() {
            return self.write_at_once(now_ms);
        }
        self.writing = Some(self.appended);
        let bytes = std::mem::take(&mut self.buffer);
        self.in_flight = bytes.len();
        let op = FileOp::Write { at: self.at, bytes };
        self.operate(Purpose::JournalWrite, op, operations);
    }

    /// The units of one write, and those of the next: never more under way.
    fn write_through(&mut self, now_ms: i64, operations: &mut Vec<Operation<F>>) {
        self.writing = Some(self.appended);
        self.is_through = true;
        let mut bytes = std::mem::take(&mut self.buffer);
        self.in_flight = bytes.len();
        if self.failed.is_none() && now_ms >= self.no_room_until_ms {
            self.room_in_flight = self.room.make_ahead(self.at, &mut bytes, self.ahead_bytes);
        }
        self.last_sync_ms = now_ms;
        self.sync_begun_ns = clock::mono_ns();
        let op = FileOp::WriteThrough { at: self.at, bytes };
        self.operate(Purpose::JournalWrite, op, operations);
    }

    /// How much of the file is on the disk, if turns wait for it.
    pub(super) fn synced_bytes(&self) -> Option<u64> {
        let is_all = self.written == self.synced && self.endings.is_empty();
        self.is_strict().then_some(if is_all { self.at } else { 0 })
    }

    fn write_at_once(&mut self, now_ms: i64) {
        let (done, result) = self.file.write_on_at(&self.buffer, self.at);
        self.at += done as u64;
        // After an error the rest is tried again.
        self.buffer.drain(..done);
        match result {
            Ok(()) => {
                self.written = self.appended;
                self.recovered();
            }
            Err(error) => self.fail("Error writing to the AOF file", &error, now_ms),
        }
    }

    pub(super) fn write_done(&mut self, mut done: FileDone, now_ms: i64) {
        let Some(to) = self.writing.take() else {
            return;
        };
        let len = std::mem::take(&mut self.in_flight);
        let room = std::mem::take(&mut self.room_in_flight);
        let is_through = std::mem::take(&mut self.is_through);
        if is_through {
            self.sync_is_over(now_ms);
        }
        // The room behind it is of no more use.
        done.bytes.truncate(len);
        // A cut may have come meanwhile.
        let (at, bytes, behind) = match self.endings.front_mut() {
            Some(ending) => (&mut ending.at, &mut ending.bytes, &mut ending.room),
            None => (&mut self.at, &mut self.buffer, &mut self.room),
        };
        match done.result {
            Ok(_) => {
                let begin = *at;
                *at += len as u64;
                self.written = to;
                if room > 0 {
                    behind.is_made(*at, room);
                }
                if is_through {
                    self.synced = self.synced.max(to);
                    self.reuse(done.bytes);
                    return self.recovered();
                }
                if self.is_strict() {
                    if self.kept.is_empty() {
                        (self.kept, self.kept_at) = (done.bytes, begin);
                    } else {
                        self.kept.extend_from_slice(&done.bytes);
                    }
                    if !self.is_all_kept() {
                        self.kept.clear();
                    }
                    return;
                }
                self.kept.clear();
                self.reuse(done.bytes);
                self.recovered();
            }
            Err(error) => {
                if is_through {
                    behind.forget();
                }
                // How far it came is not known: all of it is written again in its place.
                bytes.splice(..0, done.bytes);
                if room > 0 {
                    // There may be enough for the units themselves, and they are all that anybody waits for.
                    self.no_room_until_ms = now_ms + RETRY_MS;
                    return;
                }
                self.fail("Error writing to the AOF file", &error, now_ms);
            }
        }
    }

    /// Memory of a write that is over, for the next.
    fn reuse(&mut self, mut bytes: Vec<u8>) {
        if self.buffer.is_empty() && bytes.capacity() < self.ahead_bytes {
            bytes.clear();
            self.buffer = bytes;
        }
    }
}
