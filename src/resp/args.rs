//! A command's arguments, borrowed from the receive buffer or owned for a hop.

use bytes::Bytes;
use smallvec::SmallVec;

use super::CmdError;
use super::parse::LARGE_ARG_BYTES;
use crate::number;

/// Where one argument stands: a range of the request's bytes, or an entry of its large arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    len: u32,
}

/// Marks a span that refers to `large[len]`. No buffered request reaches 4 GiB: arguments of
/// [`LARGE_ARG_BYTES`] or more never enter it, and all others together are bounded by
/// [`BUFFERED_MAX_BYTES`].
const LARGE: u32 = u32::MAX;

/// Bytes of requests in a buffer, or waiting in a queue, that spans can tell apart, whatever limit is
/// configured; with room for what one receive adds.
pub const BUFFERED_MAX_BYTES: usize = LARGE as usize - (64 << 20);

impl Span {
    pub(super) fn range(start: usize, len: usize) -> Span {
        debug_assert!(start + len < LARGE as usize);
        Span {
            start: start as u32,
            len: len as u32,
        }
    }

    pub(super) fn large(index: usize) -> Span {
        Span {
            start: LARGE,
            len: index as u32,
        }
    }
}

/// A borrowed view of a command's arguments; index 0 is the command's name.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    bytes: &'a [u8],
    spans: &'a [Span],
    large: &'a [Bytes],
}

impl<'a> Args<'a> {
    pub(super) fn new(bytes: &'a [u8], spans: &'a [Span], large: &'a [Bytes]) -> Args<'a> {
        Args {
            bytes,
            spans,
            large,
        }
    }

    /// Number of arguments, the name included.
    #[allow(clippy::len_without_is_empty)] // a request always has its name
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// The bytes of argument `i`.
    ///
    /// # Panics
    /// When `i` is out of range: arity was checked before a command runs.
    pub fn get(&self, i: usize) -> &'a [u8] {
        let span = self.spans[i];
        if span.start == LARGE {
            &self.large[span.len as usize]
        } else {
            &self.bytes[span.start as usize..span.start as usize + span.len as usize]
        }
    }

    /// The command's name as the client wrote it.
    pub fn name(&self) -> &'a [u8] {
        self.get(0)
    }

    /// Argument `i` as shared bytes: a large argument is handed on without a copy.
    pub fn bytes(&self, i: usize) -> Bytes {
        let span = self.spans[i];
        if span.start == LARGE {
            self.large[span.len as usize].clone()
        } else {
            Bytes::copy_from_slice(self.get(i))
        }
    }

    /// Argument `i` if it is kept as a large shared value already.
    pub fn large(&self, i: usize) -> Option<&'a Bytes> {
        let span = self.spans[i];
        (span.start == LARGE).then(|| &self.large[span.len as usize])
    }

    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let all = *self;
        (0..all.len()).map(move |i| all.get(i))
    }

    /// The arguments from `from` on; index 0 of the result is argument `from`.
    pub fn from(&self, from: usize) -> Args<'a> {
        Args {
            spans: &self.spans[from..],
            ..*self
        }
    }

    /// Argument `i` as a signed 64-bit integer in Redis' strict form (no sign `+`, no spaces).
    pub fn int(&self, i: usize) -> Result<i64, CmdError> {
        number::parse_i64(self.get(i)).ok_or(CmdError::NotInteger)
    }

    /// Argument `i` as a number of elements, negative if they may repeat.
    pub fn count_or_repeats(&self, i: usize) -> Result<i64, CmdError> {
        match self.int(i)? {
            i64::MIN => Err(CmdError::BeyondLong),
            count => Ok(count),
        }
    }

    /// Argument `i` as a double, `inf` and exponents included, NaN excluded.
    pub fn double(&self, i: usize) -> Result<f64, CmdError> {
        number::parse_f64(self.get(i)).ok_or(CmdError::NotFloat)
    }

    /// Argument `i` as the number of one of so many databases.
    pub fn db(&self, i: usize, databases: u32) -> Result<u32, CmdError> {
        let db = self.int(i)?;
        if i32::try_from(db).is_err() {
            return Err(CmdError::Text(
                "ERR value is out of range, value must between -2147483648 and 2147483647",
            ));
        }
        let db = u32::try_from(db).ok().filter(|&db| db < databases);
        db.ok_or(CmdError::DbIndexOutOfRange)
    }

    /// Whether argument `i` is `word`, whatever its case.
    pub fn is(&self, i: usize, word: &str) -> bool {
        self.get(i).eq_ignore_ascii_case(word.as_bytes())
    }

    /// Arguments `from..to` alone.
    pub fn range(&self, from: usize, to: usize) -> Args<'a> {
        Args {
            spans: &self.spans[from..to],
            ..*self
        }
    }

    /// The name followed by arguments `from..to`: what a per-key function of a multi-key command
    /// sees of the whole request.
    pub fn pick<'b>(&self, pick: &'b mut Pick, from: usize, to: usize) -> Args<'b>
    where
        'a: 'b,
    {
        pick.0.clear();
        pick.0.push(self.spans[0]);
        pick.0.extend_from_slice(&self.spans[from..to]);
        Args {
            bytes: self.bytes,
            spans: &pick.0,
            large: self.large,
        }
    }

    /// An owned copy, for a hop to another shard or a queue. Large arguments are shared.
    pub fn to_buf(&self) -> ArgBuf {
        let mut buf = ArgBuf::default();
        buf.copy(self);
        buf
    }
}

/// Room for the view that [`Args::pick`] makes; reused from key to key.
#[derive(Debug, Default)]
pub struct Pick(SmallVec<[Span; 4]>);

/// Owned arguments: what travels in a hop, waits in a queue, or is built by the coordinator.
#[derive(Clone, Debug, Default)]
pub struct ArgBuf {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    large: Vec<Bytes>,
}

impl ArgBuf {
    pub fn as_args(&self) -> Args<'_> {
        Args::new(&self.bytes, &self.spans, &self.large)
    }

    /// Becomes a copy of `args`; what is large is shared.
    pub fn copy(&mut self, args: &Args) {
        self.clear();
        self.spans.reserve(args.len());
        (0..args.len()).for_each(|i| self.push_arg(args, i));
    }

    /// Appends an argument; a large one in an allocation of its own, which may become a value.
    pub fn push(&mut self, arg: &[u8]) {
        if arg.len() >= LARGE_ARG_BYTES {
            return self.push_bytes(Bytes::copy_from_slice(arg));
        }
        self.spans.push(Span::range(self.bytes.len(), arg.len()));
        self.bytes.extend_from_slice(arg);
    }

    pub fn push_bytes(&mut self, arg: Bytes) {
        self.spans.push(Span::large(self.large.len()));
        self.large.push(arg);
    }

    /// Appends argument `i` of `args`, sharing it if it is large.
    pub fn push_arg(&mut self, args: &Args, i: usize) {
        match args.large(i) {
            Some(bytes) => self.push_bytes(bytes.clone()),
            None => self.push(args.get(i)),
        }
    }

    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes held, for the bound on queued work.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.spans.capacity() * size_of::<Span>()
            + self.large.iter().map(Bytes::len).sum::<usize>()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.spans.clear();
        self.large.clear();
    }
}

impl<'a> FromIterator<&'a [u8]> for ArgBuf {
    fn from_iter<T: IntoIterator<Item = &'a [u8]>>(iter: T) -> ArgBuf {
        let mut buf = ArgBuf::default();
        iter.into_iter().for_each(|arg| buf.push(arg));
        buf
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_every_argument_and_shares_the_large_ones() {
        let mut buf = ArgBuf::default();
        buf.push(b"SET");
        buf.push(b"key");
        let large = Bytes::from(vec![7u8; 100_000]);
        buf.push_bytes(large.clone());
        let copy = buf.as_args().to_buf();
        let args = copy.as_args();
        assert_eq!(args.len(), 3);
        assert!(args.is(0, "set"));
        assert_eq!(args.get(1), b"key");
        assert_eq!(args.bytes(2).as_ptr(), large.as_ptr());
        assert_eq!(args.from(1).get(0), b"key");
        // What is pushed as bytes becomes large on its own.
        let mut pushed = ArgBuf::default();
        pushed.push(&large);
        pushed.push(b"small");
        assert!(pushed.as_args().large(0).is_some() && pushed.as_args().large(1).is_none());
        assert_eq!(pushed.as_args().get(0), &large[..]);
    }
}
