//! A cursor over bytes from outside: nothing is read or reserved that is not there.

use bytes::Bytes;

use super::error::{Error, Fault, Result};

/// Bytes and how far they are read.
#[derive(Clone, Debug, Default)]
pub struct Input {
    bytes: Bytes,
    at: usize,
    /// Bytes of the file before these.
    base: u64,
}

impl Input {
    /// `base` is where in its file or payload the first of these bytes stands.
    pub fn new(bytes: Bytes, base: u64) -> Input {
        Input { bytes, at: 0, base }
    }

    /// Where in its file or payload the next byte stands.
    pub fn position(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Where in its file or payload these bytes end.
    pub fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// How far these bytes are read.
    pub fn mark(&self) -> usize {
        self.at
    }

    /// What was read since a mark.
    pub fn since(&self, mark: usize) -> &[u8] {
        &self.bytes[mark..self.at]
    }

    /// Goes back to a mark.
    pub fn rewind(&mut self, mark: usize) {
        self.at = mark;
    }

    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// A complaint about what begins at the next byte.
    pub fn fault(&self, fault: Fault) -> Error {
        Error::new(self.position(), fault)
    }

    /// A capacity for a claimed number of elements: no more than the input can hold at one byte
    /// each, and no more than a page's worth before the first of them has been seen.
    pub fn capacity(&self, claimed: u64) -> usize {
        const BEFORE_SEEN_MAX: usize = 128;
        let claimed = usize::try_from(claimed).unwrap_or(usize::MAX);
        claimed.min(self.remaining()).min(BEFORE_SEEN_MAX)
    }

    fn advance(&mut self, len: u64) -> Result<std::ops::Range<usize>> {
        match usize::try_from(len)
            .ok()
            .filter(|&len| len <= self.remaining())
        {
            Some(len) => {
                let from = self.at;
                self.at += len;
                Ok(from..self.at)
            }
            None => Err(self.fault(Fault::Short {
                missing: len - self.remaining() as u64,
            })),
        }
    }

    /// The next bytes, borrowed.
    #[inline]
    pub fn take(&mut self, len: u64) -> Result<&[u8]> {
        let range = self.advance(len)?;
        Ok(&self.bytes[range])
    }

    /// The next bytes; they share the input's memory.
    #[inline]
    pub fn take_shared(&mut self, len: u64) -> Result<Bytes> {
        let range = self.advance(len)?;
        Ok(self.bytes.slice(range))
    }

    /// The next bytes in an array.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// The next byte, which stays.
    pub fn peek(&self) -> Result<u8> {
        let missing = Fault::Short { missing: 1 };
        self.bytes.get(self.at).copied().ok_or(self.fault(missing))
    }

    /// All bytes that are left.
    pub fn take_rest(&mut self) -> Bytes {
        let rest = self.bytes.slice(self.at..);
        self.at = self.bytes.len();
        rest
    }

    pub fn u64_le(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64_le(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_beyond_the_end() {
        let mut input = Input::new(Bytes::from_static(b"abcdef"), 100);
        assert_eq!(input.byte(), Ok(b'a'));
        assert_eq!(input.take_shared(2).as_deref(), Ok(&b"bc"[..]));
        assert_eq!(input.position(), 103);
        assert_eq!(
            input.take(5),
            Err(Error {
                at: 103,
                fault: Fault::Short { missing: 2 }
            })
        );
        assert!(input.take(u64::MAX).is_err());
        assert_eq!(input.take(3), Ok(&b"def"[..]));
        assert!(input.is_empty() && input.byte().is_err());
        assert_eq!(input.capacity(u64::MAX), 0);
    }
}
