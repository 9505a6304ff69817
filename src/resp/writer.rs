//! Replies: the only place that encodes them.

use std::borrow::Cow;

use bytes::Bytes;

use super::{CmdError, CmdResult};
use crate::number;

/// Values from this size on are spliced into the output by reference instead of copied: below it
/// a copy is cheaper than one more element of the send's vector.
const SHARE_MIN_BYTES: usize = 16 * 1024;

/// The protocol version a connection negotiated with HELLO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proto {
    #[default]
    Resp2,
    Resp3,
}

/// Encoded reply bytes on their way to a socket.
///
/// `shared` chunks stand at an offset into `bytes`: a chunk at offset `n` is sent after the first
/// `n` bytes. Offsets never decrease.
#[derive(Debug, Clone)]
pub struct Output {
    pub bytes: Vec<u8>,
    shared: Option<Box<Shared>>,
    /// From this length on it is of no use: its session is going to be closed. 0: a reply has stopped
    /// short of its end for that.
    max_bytes: usize,
}

/// Chunks with their offsets, and how long they are together.
#[derive(Debug, Default, Clone)]
struct Shared {
    chunks: Vec<(usize, Bytes)>,
    bytes: usize,
}

impl Default for Output {
    fn default() -> Output {
        Output {
            bytes: Vec::new(),
            shared: None,
            max_bytes: usize::MAX,
        }
    }
}

impl Output {
    /// Total length in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.shared.as_ref().map_or(0, |shared| shared.bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.shared().is_empty()
    }

    pub fn shared(&self) -> &[(usize, Bytes)] {
        self.shared.as_ref().map_or(&[], |shared| &shared.chunks)
    }

    /// Sets the length at which a reply that goes on and on may stop.
    pub fn limit(&mut self, max_bytes: usize) {
        if !self.is_cut() {
            self.max_bytes = max_bytes.max(1);
        }
    }

    /// Whether a reply in it is not whole, and may not be sent.
    pub fn is_cut(&self) -> bool {
        self.max_bytes == 0
    }

    /// Forgets everything; the limit stays.
    pub fn clear(&mut self) {
        self.rewind((0, 0));
    }

    /// An empty one in the same memory.
    pub fn emptied(mut self) -> Output {
        self.bytes.clear();
        Output {
            bytes: self.bytes,
            ..Output::default()
        }
    }

    /// A mark to which [`Output::rewind`] can return.
    pub fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.shared().len())
    }

    /// Forgets everything written since `mark`.
    pub fn rewind(&mut self, mark: (usize, usize)) {
        self.bytes.truncate(mark.0);
        if let Some(shared) = &mut self.shared {
            for (_, chunk) in shared.chunks.drain(mark.1..) {
                shared.bytes -= chunk.len();
            }
        }
        if self.is_cut() {
            // That goes, too.
            self.max_bytes = usize::MAX;
        }
    }

    /// Takes out what stands before `mark`.
    pub fn take_front(&mut self, mark: (usize, usize)) -> Output {
        let mut front = Output::default();
        let at = mark.0.min(self.bytes.len());
        let rest = self.bytes.split_off(at);
        front.bytes = std::mem::replace(&mut self.bytes, rest);
        if let Some(shared) = &mut self.shared {
            let count = mark.1.min(shared.chunks.len());
            for (offset, chunk) in shared.chunks.drain(..count) {
                shared.bytes -= chunk.len();
                front.share(offset, &chunk);
            }
            let offsets = shared.chunks.iter_mut().map(|(offset, _)| offset);
            offsets.for_each(|offset| *offset -= at);
        }
        front
    }

    /// Splices in a chunk behind the first `at` of the other bytes.
    pub fn share(&mut self, at: usize, chunk: &Bytes) {
        let shared = self.shared.get_or_insert_default();
        shared.chunks.push((at, chunk.clone()));
        shared.bytes += chunk.len();
    }

    /// Appends `other`.
    pub fn append(&mut self, other: &Output) {
        self.append_range(other, (0, 0), other.mark());
    }

    /// Puts bytes before everything else.
    pub fn prepend(&mut self, head: &[u8]) {
        self.bytes.splice(0..0, head.iter().copied());
        if let Some(shared) = &mut self.shared {
            let offsets = shared.chunks.iter_mut().map(|(at, _)| at);
            offsets.for_each(|at| *at += head.len());
        }
    }

    /// Appends what `other` holds, which may be taken from it: a large reply is not copied if it is
    /// the first.
    pub fn take_over(&mut self, other: &mut Output) {
        /// Copying this much costs less than a buffer that has to be allocated anew.
        const COPIED_MAX_BYTES: usize = 64 * 1024;
        if self.is_empty() && other.bytes.len() > COPIED_MAX_BYTES {
            std::mem::swap(self, other);
        } else {
            self.append(other);
        }
    }

    /// Appends what `other` holds between two of its marks.
    pub fn append_range(&mut self, other: &Output, from: (usize, usize), to: (usize, usize)) {
        if other.is_cut() {
            self.max_bytes = 0;
        }
        let base = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes[from.0..to.0]);
        for (at, chunk) in &other.shared()[from.1..to.1] {
            self.share(base + at - from.0, chunk);
        }
    }

    /// The bytes in sending order.
    pub fn to_cow(&self) -> Cow<'_, [u8]> {
        match self.shared().is_empty() {
            true => Cow::Borrowed(&self.bytes),
            false => Cow::Owned(self.to_vec()),
        }
    }

    /// The bytes in sending order, copied into one vector (tests, small replies).
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        let mut from = 0;
        for (at, chunk) in self.shared() {
            all.extend_from_slice(&self.bytes[from..*at]);
            all.extend_from_slice(chunk);
            from = *at;
        }
        all.extend_from_slice(&self.bytes[from..]);
        all
    }
}

/// Encodes one reply into an [`Output`]. Every method returns `Ok`, so that it can end a command.
pub struct Writer<'a> {
    out: &'a mut Output,
    proto: Proto,
}

impl<'a> Writer<'a> {
    pub fn new(out: &'a mut Output, proto: Proto) -> Writer<'a> {
        Writer { out, proto }
    }

    pub fn proto(&self) -> Proto {
        self.proto
    }

    pub fn resp3(&self) -> bool {
        self.proto == Proto::Resp3
    }

    /// Whether a reply of any length has to stop here, and has by this. Redis: a command looks whether its
    /// client is to be closed as soon as possible.
    pub fn is_full(&mut self) -> bool {
        let is_full = self.out.len() >= self.out.max_bytes;
        if is_full {
            self.out.max_bytes = 0;
        }
        is_full
    }

    /// The output behind this writer, to splice replies that are encoded already.
    pub fn output(&mut self) -> &mut Output {
        self.out
    }

    /// A line of a type and a number.
    #[inline]
    fn header(&mut self, kind: u8, n: i64) -> CmdResult {
        // Nearly all have one to three digits, which are written without being formatted.
        let digit = |n: i64| b'0' + (n % 10) as u8;
        let out = &mut self.out.bytes;
        match n {
            0..=9 => out.extend_from_slice(&[kind, digit(n), b'\r', b'\n']),
            10..=99 => out.extend_from_slice(&[kind, digit(n / 10), digit(n), b'\r', b'\n']),
            100..=999 => {
                let line = [kind, digit(n / 100), digit(n / 10), digit(n), b'\r', b'\n'];
                out.extend_from_slice(&line);
            }
            _ => self.long_header(kind, n),
        }
        Ok(())
    }

    fn long_header(&mut self, kind: u8, n: i64) {
        let mut digits = itoa::Buffer::new();
        let out = &mut self.out.bytes;
        out.push(kind);
        out.extend_from_slice(digits.format(n).as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    pub fn ok(&mut self) -> CmdResult {
        self.out.bytes.extend_from_slice(b"+OK\r\n");
        Ok(())
    }

    /// A status reply. Line breaks cannot be expressed in it and become spaces.
    pub fn simple(&mut self, text: &str) -> CmdResult {
        self.line(b'+', text.as_bytes())
    }

    /// The same of bytes that need not be UTF-8.
    pub fn status(&mut self, text: &[u8]) -> CmdResult {
        self.line(b'+', text)
    }

    fn line(&mut self, kind: u8, text: &[u8]) -> CmdResult {
        let out = &mut self.out.bytes;
        out.push(kind);
        // The single place where a client's text could forge a second reply (CVE-2025-67733).
        out.extend(
            text.iter()
                .map(|&b| if b == b'\r' || b == b'\n' { b' ' } else { b }),
        );
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    pub fn error(&mut self, error: &CmdError) -> CmdResult {
        self.line(b'-', &error.text())
    }

    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) -> CmdResult {
        self.header(b'$', bytes.len() as i64)?;
        self.out.bytes.extend_from_slice(bytes);
        self.out.bytes.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// A bulk reply of shared bytes: large ones are sent from where they are.
    pub fn bulk_bytes(&mut self, bytes: &Bytes) -> CmdResult {
        if bytes.len() < SHARE_MIN_BYTES {
            return self.bulk(bytes);
        }
        self.header(b'$', bytes.len() as i64)?;
        self.out.share(self.out.bytes.len(), bytes);
        self.out.bytes.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// An integer encoded as a bulk string.
    pub fn bulk_int(&mut self, n: i64) -> CmdResult {
        self.bulk(itoa::Buffer::new().format(n).as_bytes())
    }

    pub fn int(&mut self, n: i64) -> CmdResult {
        self.header(b':', n)
    }

    pub fn null(&mut self) -> CmdResult {
        let null: &[u8] = if self.resp3() { b"_\r\n" } else { b"$-1\r\n" };
        self.out.bytes.extend_from_slice(null);
        Ok(())
    }

    pub fn null_array(&mut self) -> CmdResult {
        let null: &[u8] = if self.resp3() { b"_\r\n" } else { b"*-1\r\n" };
        self.out.bytes.extend_from_slice(null);
        Ok(())
    }

    pub fn array(&mut self, n: usize) -> CmdResult {
        self.header(b'*', n as i64)
    }

    /// A map of `n` pairs; RESP2 sees an array of `2n`.
    pub fn map(&mut self, n: usize) -> CmdResult {
        if self.resp3() {
            self.header(b'%', n as i64)
        } else {
            self.header(b'*', 2 * n as i64)
        }
    }

    pub fn set(&mut self, n: usize) -> CmdResult {
        self.header(if self.resp3() { b'~' } else { b'*' }, n as i64)
    }

    /// An out-of-band message; RESP2 sees an array.
    pub fn push(&mut self, n: usize) -> CmdResult {
        self.header(if self.resp3() { b'>' } else { b'*' }, n as i64)
    }

    pub fn bool(&mut self, value: bool) -> CmdResult {
        if self.resp3() {
            self.out
                .bytes
                .extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" });
            Ok(())
        } else {
            self.int(i64::from(value))
        }
    }

    pub fn double(&mut self, value: f64) -> CmdResult {
        let text = number::format_f64(value);
        if self.resp3() {
            self.line(b',', text.as_bytes())
        } else {
            self.bulk(text.as_bytes())
        }
    }

    pub fn bignum(&mut self, digits: &str) -> CmdResult {
        if self.resp3() {
            self.line(b'(', digits.as_bytes())
        } else {
            self.bulk(digits.as_bytes())
        }
    }

    /// A verbatim string of a three-letter format (`txt`, `mkd`); RESP2 sees a bulk string.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) -> CmdResult {
        debug_assert_eq!(format.len(), 3);
        if !self.resp3() {
            return self.bulk(text);
        }
        self.header(b'=', text.len() as i64 + 4)?;
        let out = &mut self.out.bytes;
        out.extend_from_slice(format.as_bytes());
        out.push(b':');
        out.extend_from_slice(text);
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// An attribute of `n` pairs standing before the reply it describes (RESP3 only).
    pub fn attribute(&mut self, n: usize) -> CmdResult {
        self.header(b'|', n as i64)
    }

    /// Bytes that are a well-formed reply already.
    pub fn raw(&mut self, encoded: &[u8]) -> CmdResult {
        self.out.bytes.extend_from_slice(encoded);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(proto: Proto, write: impl Fn(&mut Writer) -> CmdResult) -> String {
        let mut out = Output::default();
        write(&mut Writer::new(&mut out, proto)).unwrap();
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn every_kind_in_both_protocols() {
        type Case = (fn(&mut Writer) -> CmdResult, &'static str, &'static str);
        let cases: [Case; 12] = [
            (|w| w.ok(), "+OK\r\n", "+OK\r\n"),
            (|w| w.int(-5), ":-5\r\n", ":-5\r\n"),
            (|w| w.bulk(b"ab"), "$2\r\nab\r\n", "$2\r\nab\r\n"),
            (|w| w.null(), "$-1\r\n", "_\r\n"),
            (|w| w.null_array(), "*-1\r\n", "_\r\n"),
            (|w| w.map(2), "*4\r\n", "%2\r\n"),
            (|w| w.set(2), "*2\r\n", "~2\r\n"),
            (|w| w.bool(true), ":1\r\n", "#t\r\n"),
            (
                |w| w.double(0.1),
                "$19\r\n0.10000000000000001\r\n",
                ",0.10000000000000001\r\n",
            ),
            (
                |w| w.verbatim("txt", b"hi"),
                "$2\r\nhi\r\n",
                "=6\r\ntxt:hi\r\n",
            ),
            (|w| w.push(1), "*1\r\n", ">1\r\n"),
            (|w| w.simple("a\r\n-b"), "+a  -b\r\n", "+a  -b\r\n"),
        ];
        for (write, resp2, resp3) in cases {
            assert_eq!(written(Proto::Resp2, write), resp2);
            assert_eq!(written(Proto::Resp3, write), resp3);
        }
    }

    #[test]
    fn large_values_are_spliced_not_copied() {
        let value = Bytes::from(vec![b'x'; SHARE_MIN_BYTES]);
        let mut out = Output::default();
        let mut writer = Writer::new(&mut out, Proto::Resp2);
        writer.array(2).unwrap();
        writer.bulk_bytes(&value).unwrap();
        writer.int(1).unwrap();
        assert_eq!(out.shared().len(), 1);
        let mut expected = format!("*2\r\n${SHARE_MIN_BYTES}\r\n").into_bytes();
        expected.extend_from_slice(&value);
        expected.extend_from_slice(b"\r\n:1\r\n");
        assert_eq!(out.to_vec(), expected);
        assert_eq!(out.len(), expected.len());
        let mut twice = out.clone();
        twice.append(&out);
        assert_eq!(
            twice.to_vec(),
            [expected.clone(), expected.clone()].concat()
        );
        let mut front = twice.take_front(out.mark());
        assert_eq!(
            (front.to_vec(), twice.to_vec()),
            (expected.clone(), expected.clone())
        );
        assert_eq!((front.len(), twice.len()), (expected.len(), expected.len()));
        front.append(&twice);
        assert_eq!(front.take_front(front.mark()).len(), 2 * expected.len());
        assert!(front.is_empty());
    }
}
