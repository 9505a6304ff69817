//! The reader of files: events as soon as all of their bytes have arrived, and the checksum over them.

use bytes::{Bytes, BytesMut};

use super::{
    CHECKSUM_VERSION, Checksum, Event, SIGNATURE_BYTES, opcode, take_about, take_entry, take_key,
    take_signature,
};
use crate::rdb::crc64;
use crate::rdb::error::{Error, Fault, Result};
use crate::rdb::input::Input;
use crate::rdb::object::Product;

/// Reads a file from bytes as they arrive.
///
/// An event is read when all of it is there, and not before: a record of a gigabyte is held as a
/// gigabyte of input until it becomes a value. Attempts come at growing sizes, so that the work
/// stays proportional to the file.
#[derive(Debug)]
pub struct Reader {
    input: Input,
    /// Arrived behind `input`.
    pending: Vec<Bytes>,
    pending_bytes: usize,
    /// Below this nothing more can be read.
    needed_bytes: u64,
    /// All that there will ever be, from the start; known of a file, not of a stream.
    size_bytes: Option<u64>,
    input_ended: bool,
    verify: bool,
    /// The checksum of what was read before the mark `summed` of `input`: long runs are summed up
    /// faster than single entries.
    crc: u64,
    summed: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Signature,
    Body { product: Product, version: u32 },
    Ended,
}

impl Reader {
    /// `verify`: `rdbchecksum`. A claim that leads beyond `size_bytes` is refused at once.
    pub fn new(verify: bool, size_bytes: Option<u64>) -> Reader {
        Reader {
            input: Input::new(Bytes::new(), 0),
            pending: Vec::new(),
            pending_bytes: 0,
            needed_bytes: SIGNATURE_BYTES,
            size_bytes,
            input_ended: false,
            verify,
            crc: 0,
            summed: 0,
            stage: Stage::Signature,
        }
    }

    /// The next bytes of the file.
    pub fn feed(&mut self, bytes: Bytes) {
        self.pending_bytes += bytes.len();
        self.pending.push(bytes);
    }

    /// No more bytes will come: what is missing now is missing for good.
    pub fn end_input(&mut self) {
        self.input_ended = true;
    }

    /// Bytes of the file that have been read.
    pub fn position(&self) -> u64 {
        self.input.position()
    }

    pub fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Key and type of the entry that could not be read, where that much of it could.
    pub fn failed_entry(&self) -> Option<(Bytes, u8)> {
        let mut attempt = self.input.clone();
        let Stage::Body { .. } = self.stage else {
            return None;
        };
        let (_, ty, key) = take_key(&mut attempt).ok()?;
        Some((key, ty))
    }

    /// What came behind the end of the file: the commands of an AOF of which it was the preamble.
    pub fn into_rest(mut self) -> Bytes {
        self.join();
        self.input.take_rest()
    }

    /// The next event; `None` if it takes more bytes, or after the end.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        let there = (self.input.remaining() + self.pending_bytes) as u64;
        if self.has_ended() || there < self.needed_bytes && !self.input_ended {
            return Ok(None);
        }
        self.join();
        let mut input = std::mem::take(&mut self.input);
        let mark = input.mark();
        let taken = self.take_event(&mut input);
        let attempted_end = input.end();
        if taken.is_err() {
            input.rewind(mark);
        }
        self.input = input;
        match taken {
            Ok(event) => {
                self.needed_bytes = 1;
                self.pass(&event);
                Ok(Some(event))
            }
            Err(Error {
                at,
                fault: Fault::Short { missing },
            }) if !self.input_ended => {
                let end = attempted_end.saturating_add(missing);
                self.needed_bytes = there.saturating_add(missing.max(there / 2));
                if let Some(size) = self.size_bytes {
                    if end > size {
                        let missing = end - size;
                        return Err(Error::new(at, Fault::Short { missing }));
                    }
                    let left = size.saturating_sub(self.input.position());
                    self.needed_bytes = self.needed_bytes.min(left);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Lays what has arrived behind what is left.
    fn join(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let position = self.input.position();
        if self.verify {
            self.crc = crc64::update(self.crc, self.input.since(self.summed));
        }
        self.summed = 0;
        let left = self.input.take_rest();
        let joined = match (&left[..], &self.pending[..]) {
            ([], [one]) => one.clone(),
            _ => {
                let mut joined = BytesMut::with_capacity(left.len() + self.pending_bytes);
                joined.extend_from_slice(&left);
                self.pending
                    .iter()
                    .for_each(|bytes| joined.extend_from_slice(bytes));
                joined.freeze()
            }
        };
        self.input = Input::new(joined, position);
        self.pending.clear();
        self.pending_bytes = 0;
    }

    fn pass(&mut self, event: &Event) {
        match *event {
            Event::Start { product, version } => self.stage = Stage::Body { product, version },
            Event::End(_) => self.stage = Stage::Ended,
            _ => {}
        }
    }

    fn take_event(&self, input: &mut Input) -> Result<Event> {
        let Stage::Body { product, version } = self.stage else {
            return take_signature(input);
        };
        let start = input.position();
        Ok(match input.peek()? {
            opcode::END => {
                input.byte()?;
                if version < CHECKSUM_VERSION {
                    return Ok(Event::End(Checksum::Absent));
                }
                // The checksum covers all up to and with the opcode.
                let found = match self.verify {
                    true => crc64::update(self.crc, input.since(self.summed)),
                    false => 0,
                };
                let at = input.position();
                let expected = input.u64_le()?;
                Event::End(match expected {
                    _ if !self.verify => Checksum::Ignored,
                    0 => Checksum::Disabled,
                    _ if expected == found => Checksum::Verified,
                    _ => return Err(Error::new(at, Fault::Checksum { expected, found })),
                })
            }
            opcode::EXPIRE_MS | opcode::EXPIRE_S | opcode::IDLE | opcode::FREQUENCY => {
                take_entry(input, product)?
            }
            ty if ty < opcode::FIRST => take_entry(input, product)?,
            _ => take_about(input, start)?,
        })
    }
}
