//! The request parser: multibulk and inline, fed in whatever pieces the network delivers.
//!
//! ```text
//! multibulk:  *<argc>\r\n  then argc times  $<length>\r\n<length bytes>\r\n
//! inline:     word "quoted \x41 word" 'single'\n          (\r before \n is dropped)
//! ```
//!
//! State between two calls is a position relative to the first byte of the current request, so a
//! request of a million arguments arriving byte by byte is still parsed once. An argument of
//! [`LARGE_ARG_BYTES`] or more that has not arrived whole leaves the buffer and is collected in an
//! allocation of its own, which later becomes the stored value without another copy.

use bytes::{Bytes, BytesMut};

use super::args::{Args, Span};
use crate::number;

/// Redis: server.h PROTO_MBULK_BIG_ARG. Larger arguments are worth their own allocation.
pub const LARGE_ARG_BYTES: usize = 32 * 1024;
/// Redis: server.h PROTO_INLINE_MAX_SIZE, the longest inline request and length line.
const LINE_MAX_BYTES: usize = 64 * 1024;
/// How much is reserved for an argument that was merely announced: a client that has sent only
/// headers must cost little, whatever they say.
const RESERVE_FIRST_BYTES: usize = 4096;
/// How much is reserved once that many bytes have come: the rest of the argument, which is then
/// copied no more, within bounds.
const RESERVE_MAX_BYTES: usize = 64 * 1024 * 1024;
/// What a client that has not authenticated may announce (CVE-2021-32675).
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_MAX: i64 = 16384;

/// What bounds a request.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `proto-max-bulk-len`, bytes.
    pub bulk_max_bytes: usize,
    /// False while the connection still has to authenticate.
    pub authenticated: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            bulk_max_bytes: 512 * 1024 * 1024,
            authenticated: true,
        }
    }
}

/// A request that cannot be parsed; the connection is closed after telling the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    InlineTooLong,
    MultibulkLineTooLong,
    BulkLineTooLong,
    MultibulkLength,
    UnauthenticatedMultibulk,
    BulkLength,
    UnauthenticatedBulk,
    ExpectedDollar(u8),
    UnbalancedQuotes,
}

impl std::fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ERR Protocol error: ")?;
        f.write_str(match self {
            ProtocolError::InlineTooLong => "too big inline request",
            ProtocolError::MultibulkLineTooLong => "too big mbulk count string",
            ProtocolError::BulkLineTooLong => "too big bulk count string",
            ProtocolError::MultibulkLength => "invalid multibulk length",
            ProtocolError::UnauthenticatedMultibulk => "unauthenticated multibulk length",
            ProtocolError::BulkLength => "invalid bulk length",
            ProtocolError::UnauthenticatedBulk => "unauthenticated bulk length",
            ProtocolError::ExpectedDollar(got) => {
                return write!(f, "expected '$', got '{}'", *got as char);
            }
            ProtocolError::UnbalancedQuotes => "unbalanced quotes in request",
        })
    }
}

/// What a call to [`Parser::parse`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed; the caller keeps its input and appends to it.
    Incomplete,
    /// A request of `consumed` bytes: read it with [`Parser::args`], then call [`Parser::next`].
    Request { consumed: usize },
    /// An empty request (`\r\n`, `*0\r\n`) of `consumed` bytes, to be skipped. State is reset.
    Empty { consumed: usize },
    /// A large argument began: all input from `keep` on was taken; the caller keeps the bytes
    /// before it, and offers further bytes to [`Parser::feed_large`] first.
    Large { keep: usize },
}

#[derive(Debug)]
struct LargeArg {
    bytes: BytesMut,
    /// Length of the argument plus its CRLF.
    wanted: usize,
}

/// Parses one connection's requests. See the module's head for what persists between calls.
#[derive(Debug, Default)]
pub struct Parser {
    /// Whether the count of a multibulk was read: `remaining` arguments are still to come.
    started: bool,
    remaining: usize,
    /// Length of the bulk whose header was read, if its body is awaited.
    bulk_len: Option<usize>,
    /// First unread byte, relative to the first byte of the request.
    pos: usize,
    spans: Vec<Span>,
    large: Vec<Bytes>,
    collecting: Option<LargeArg>,
    /// Unquoted words of an inline request; its spans refer to these bytes.
    inline: Vec<u8>,
    is_inline: bool,
}

/// Spans kept between requests; a connection that once sent a million keys gives the rest back.
const SPANS_KEPT: usize = 64;

impl Parser {
    /// Parses on. `input` starts at the first byte of the current request.
    pub fn parse(&mut self, input: &[u8], limits: &Limits) -> Result<Parsed, ProtocolError> {
        debug_assert!(self.collecting.is_none());
        if !self.started {
            match input.first() {
                None => return Ok(Parsed::Incomplete),
                Some(b'*') => {}
                Some(_) => return self.parse_inline(input),
            }
            let Some(count) = self.parse_count(input, limits)? else {
                return Ok(Parsed::Incomplete);
            };
            if count <= 0 {
                let consumed = self.pos;
                self.next();
                return Ok(Parsed::Empty { consumed });
            }
            self.started = true;
            self.remaining = count as usize;
        }
        while self.remaining > 0 {
            let len = match self.bulk_len {
                Some(len) => len,
                None => match self.parse_bulk_header(input, limits)? {
                    Some(len) => len,
                    None => return Ok(Parsed::Incomplete),
                },
            };
            if input.len() - self.pos < len + 2 {
                if len < LARGE_ARG_BYTES {
                    self.bulk_len = Some(len);
                    return Ok(Parsed::Incomplete);
                }
                return Ok(self.begin_large(input, len));
            }
            if len >= LARGE_ARG_BYTES {
                self.push_large(Bytes::copy_from_slice(&input[self.pos..self.pos + len]));
            } else {
                self.spans.push(Span::range(self.pos, len));
            }
            self.pos += len + 2;
            self.bulk_len = None;
            self.remaining -= 1;
        }
        Ok(Parsed::Request { consumed: self.pos })
    }

    /// The arguments of the request just parsed; `input` is what [`Parser::parse`] was given.
    pub fn args<'a>(&'a self, input: &'a [u8]) -> Args<'a> {
        let bytes = if self.is_inline { &self.inline } else { input };
        Args::new(bytes, &self.spans, &self.large)
    }

    /// Forgets the current request; the next one starts at the byte after it.
    pub fn next(&mut self) {
        self.started = false;
        self.remaining = 0;
        self.bulk_len = None;
        self.pos = 0;
        self.spans.clear();
        self.spans.shrink_to(SPANS_KEPT);
        self.large.clear();
        self.is_inline = false;
        if self.inline.capacity() > 0 {
            self.inline = Vec::new();
        }
    }

    /// Leaves the current request to be yielded again by the next [`Parser::parse`] of the same
    /// input. (Its large arguments have left the input and stay here.)
    pub fn hold_back(&mut self) {
        if self.is_inline {
            self.next();
        }
    }

    /// Whether bytes must be offered to [`Parser::feed_large`] first.
    pub fn wants_large(&self) -> bool {
        self.collecting.is_some()
    }

    /// What came of a large argument that is not complete, if there is one.
    pub fn collected(&self) -> Option<&[u8]> {
        self.collecting.as_ref().map(|large| &large.bytes[..])
    }

    /// How many bytes that is.
    pub fn collected_bytes(&self) -> Option<usize> {
        self.collected().map(<[u8]>::len)
    }

    /// Takes what the large argument still needs from `input`; returns how much that was.
    pub fn feed_large(&mut self, input: &[u8]) -> usize {
        let Some(large) = &mut self.collecting else {
            return 0;
        };
        let missing = large.wanted - large.bytes.len();
        let take = missing.min(input.len());
        if large.bytes.len() + take > large.bytes.capacity() {
            large
                .bytes
                .reserve(missing.min(RESERVE_MAX_BYTES).max(take));
        }
        large.bytes.extend_from_slice(&input[..take]);
        if large.bytes.len() == large.wanted {
            self.finish_large();
        }
        take
    }

    /// Bytes that came of a request that is not complete, beside the caller's own input.
    pub fn pending_bytes(&self) -> usize {
        self.collected_bytes().unwrap_or(0) + self.large.iter().map(Bytes::len).sum::<usize>()
    }

    /// The same, an announced argument as a whole: its client means to fill it.
    pub fn claimed_bytes(&self) -> usize {
        let missing = match &self.collecting {
            Some(large) => large.wanted - large.bytes.len(),
            None => 0,
        };
        self.pending_bytes() + missing
    }

    /// Reads `*<count>\r\n` at the start of `input`.
    fn parse_count(&mut self, input: &[u8], limits: &Limits) -> Result<Option<i64>, ProtocolError> {
        // Most requests have fewer than ten arguments, which needs no search for the line's end.
        if let [b'*', digit @ b'0'..=b'9', b'\r', _, ..] = *input {
            self.pos = 4;
            return Ok(Some(i64::from(digit - b'0')));
        }
        let Some(line) = self.line(input, ProtocolError::MultibulkLineTooLong)? else {
            return Ok(None);
        };
        let count = number::parse_i64(&line[1..])
            .filter(|&count| count <= i64::from(i32::MAX))
            .ok_or(ProtocolError::MultibulkLength)?;
        if count > UNAUTHENTICATED_ARGS_MAX && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedMultibulk);
        }
        self.pos += line.len() + 2;
        Ok(Some(count))
    }

    /// Reads `$<length>\r\n` at the current position.
    fn parse_bulk_header(
        &mut self,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, ProtocolError> {
        // One digit or two cover most arguments and need no search for the line's end.
        match input[self.pos..] {
            [b'$', digit @ b'0'..=b'9', b'\r', _, ..] => {
                self.pos += 4;
                return Ok(Some(usize::from(digit - b'0')));
            }
            [b'$', ten @ b'1'..=b'9', one @ b'0'..=b'9', b'\r', _, ..] => {
                self.pos += 5;
                return Ok(Some(usize::from(ten - b'0') * 10 + usize::from(one - b'0')));
            }
            _ => {}
        }
        let Some(line) = self.line(input, ProtocolError::BulkLineTooLong)? else {
            return Ok(None);
        };
        if line.first() != Some(&b'$') {
            let got = line.first().copied().unwrap_or(b'\r');
            return Err(ProtocolError::ExpectedDollar(got));
        }
        let len = number::parse_i64(&line[1..])
            .filter(|&len| len >= 0 && len as u64 <= limits.bulk_max_bytes as u64)
            .ok_or(ProtocolError::BulkLength)?;
        if len > UNAUTHENTICATED_BULK_MAX && !limits.authenticated {
            return Err(ProtocolError::UnauthenticatedBulk);
        }
        self.pos += line.len() + 2;
        Ok(Some(len as usize))
    }

    /// The line at the current position without its CRLF, or `None` if it has not arrived whole.
    fn line<'a>(
        &self,
        input: &'a [u8],
        too_long: ProtocolError,
    ) -> Result<Option<&'a [u8]>, ProtocolError> {
        let rest = &input[self.pos..];
        match memchr::memchr(b'\r', rest) {
            Some(end) if end + 2 <= rest.len() => Ok(Some(&rest[..end])),
            None if rest.len() > LINE_MAX_BYTES => Err(too_long),
            _ => Ok(None),
        }
    }

    fn begin_large(&mut self, input: &[u8], len: usize) -> Parsed {
        let keep = self.pos;
        let come = &input[keep..];
        let reserve = (len + 2).min(RESERVE_FIRST_BYTES.max(come.len()));
        let mut bytes = BytesMut::with_capacity(reserve);
        bytes.extend_from_slice(come);
        self.collecting = Some(LargeArg {
            bytes,
            wanted: len + 2,
        });
        self.bulk_len = None;
        Parsed::Large { keep }
    }

    fn finish_large(&mut self) {
        if let Some(mut large) = self.collecting.take() {
            large.bytes.truncate(large.wanted - 2);
            self.push_large(large.bytes.freeze());
            self.remaining -= 1;
        }
    }

    fn push_large(&mut self, bytes: Bytes) {
        self.spans.push(Span::large(self.large.len()));
        self.large.push(bytes);
    }

    fn parse_inline(&mut self, input: &[u8]) -> Result<Parsed, ProtocolError> {
        let Some(newline) = memchr::memchr(b'\n', input) else {
            if input.len() > LINE_MAX_BYTES {
                return Err(ProtocolError::InlineTooLong);
            }
            return Ok(Parsed::Incomplete);
        };
        let consumed = newline + 1;
        let line = input[..newline]
            .strip_suffix(b"\r")
            .unwrap_or(&input[..newline]);
        let words = split_quoted(line).ok_or(ProtocolError::UnbalancedQuotes)?;
        if words.is_empty() {
            return Ok(Parsed::Empty { consumed });
        }
        for word in words {
            self.spans.push(Span::range(self.inline.len(), word.len()));
            self.inline.extend_from_slice(&word);
        }
        self.is_inline = true;
        Ok(Parsed::Request { consumed })
    }
}

/// Splits a line into words with Redis' quoting: `"..."` with `\n \r \t \b \a \xHH` escapes, `'...'`
/// with `\'` alone. `None` when quotes do not close or are followed by more of the same word.
/// Redis: sds.c sdssplitargs.
pub fn split_quoted(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let start = rest.iter().position(|b| !is_space(*b));
        let Some(start) = start else {
            return Some(words);
        };
        rest = &rest[start..];
        let mut word = Vec::new();
        rest = split_word(rest, &mut word)?;
        words.push(word);
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Appends the first word of `rest` to `word` and returns what follows it.
fn split_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] | [0, ..] => return Some(&[]),
            [byte, ..] if is_space(*byte) => return Some(rest),
            [quote @ (b'"' | b'\''), tail @ ..] => {
                rest = split_quote(tail, *quote, word)?;
                // A closing quote ends the word: something glued to it is an error.
                return match rest.first() {
                    None => Some(rest),
                    Some(byte) if is_space(*byte) => Some(rest),
                    Some(_) => None,
                };
            }
            [byte, tail @ ..] => {
                word.push(*byte);
                rest = tail;
            }
        }
    }
}

/// Appends the quoted text up to its closing quote and returns what follows that quote.
fn split_quote<'a>(mut rest: &'a [u8], quote: u8, word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match rest {
            [b'\\', b'x', high, low, tail @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex_digit(*high) << 4 | hex_digit(*low));
                tail
            }
            [b'\\', escaped, tail @ ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                tail
            }
            [b'\\', b'\'', tail @ ..] if quote == b'\'' => {
                word.push(b'\'');
                tail
            }
            [byte, tail @ ..] if *byte == quote => return Some(tail),
            [byte, tail @ ..] => {
                word.push(*byte);
                tail
            }
            [] => return None,
        };
    }
}

fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests;
