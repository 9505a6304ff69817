//! A snapshot on its way from a master, in either of its two forms.
//!
//! ```text
//! $<length>\r\n            then so many bytes, and behind them the stream
//! $EOF:<40 bytes>\r\n      then bytes until those 40 come again; the master waits for a word then
//! ```
//! Lines before it that are empty say that the master is still there.

use std::ops::Range;

const MARK_BYTES: usize = 40;
/// A longer line is none of a master's.
const LINE_MAX_BYTES: usize = 1024;

#[derive(Debug)]
enum Form {
    /// The line that says so has not come.
    Unknown(Vec<u8>),
    Sized {
        left: u64,
    },
    Marked {
        mark: Box<[u8; MARK_BYTES]>,
        /// The last bytes that have come, which may be the beginning of the mark.
        last: Vec<u8>,
    },
}

/// What was found in some bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Where in them the snapshot goes on, and whether it ends there.
    Piece(Range<usize>, bool),
    /// So many of them said what comes: `None`, it ends with a mark.
    Begun { used: usize, size: Option<u64> },
    /// More are needed; all of them are used.
    More,
}

/// Why it is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    Error(String),
    Garbage(String),
}

#[derive(Debug)]
pub struct Payload {
    form: Form,
}

impl Payload {
    pub fn new() -> Payload {
        Payload {
            form: Form::Unknown(Vec::new()),
        }
    }

    /// Whether the master waits for a word when all of it has come.
    pub fn is_marked(&self) -> bool {
        matches!(self.form, Form::Marked { .. })
    }

    /// Looks at the next bytes. Of a marked snapshot the mark is a part of what is found.
    pub fn look(&mut self, bytes: &[u8]) -> Result<Found, Refused> {
        match &mut self.form {
            Form::Unknown(line) => {
                let (used, whole) = take_line(line, bytes)?;
                let Some(whole) = whole else {
                    return Ok(Found::More);
                };
                if whole.is_empty() {
                    return Ok(Found::Piece(used..used, false));
                }
                self.form = form_of(&whole)?;
                let size = match self.form {
                    Form::Sized { left } => Some(left),
                    _ => None,
                };
                Ok(Found::Begun { used, size })
            }
            Form::Sized { left } => {
                let len = (*left).min(bytes.len() as u64);
                *left -= len;
                Ok(Found::Piece(0..len as usize, *left == 0))
            }
            Form::Marked { mark, last } => {
                last.extend_from_slice(&bytes[bytes.len().saturating_sub(MARK_BYTES)..]);
                let excess = last.len().saturating_sub(MARK_BYTES);
                last.drain(..excess);
                // Redis: the master sends nothing behind the mark before it hears from its replica.
                let ends = last.as_slice() == mark.as_slice();
                Ok(Found::Piece(0..bytes.len(), ends))
            }
        }
    }

    /// Bytes at the end of what was found that are not the snapshot's.
    pub fn tail_bytes(&self) -> u64 {
        match self.is_marked() {
            true => MARK_BYTES as u64,
            false => 0,
        }
    }
}

/// Adds to a line; how many bytes belong to it, and the line without its end once it is whole.
fn take_line(line: &mut Vec<u8>, bytes: &[u8]) -> Result<(usize, Option<Vec<u8>>), Refused> {
    let end = bytes.iter().position(|&byte| byte == b'\n');
    let used = end.map_or(bytes.len(), |at| at + 1);
    line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
    if line.len() > LINE_MAX_BYTES {
        line.truncate(LINE_MAX_BYTES);
        return Err(Refused::Garbage(String::from_utf8_lossy(line).into_owned()));
    }
    if end.is_none() {
        return Ok((used, None));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok((used, Some(std::mem::take(line))))
}

fn form_of(line: &[u8]) -> Result<Form, Refused> {
    let text = String::from_utf8_lossy(line);
    if let Some(error) = text.strip_prefix('-') {
        return Err(Refused::Error(error.to_owned()));
    }
    let garbage = || Refused::Garbage(text.clone().into_owned());
    if let Some(mark) = line.strip_prefix(b"$EOF:") {
        let mark = mark.first_chunk::<MARK_BYTES>().ok_or_else(garbage)?;
        return Ok(Form::Marked {
            mark: Box::new(*mark),
            last: Vec::new(),
        });
    }
    let size = text.strip_prefix('$').ok_or_else(garbage)?;
    let left = size.parse::<u64>().map_err(|_| garbage())?;
    Ok(Form::Sized { left })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds pieces of `step` bytes; the snapshot, and what follows it.
    fn run(bytes: &[u8], step: usize) -> (Vec<u8>, Vec<u8>) {
        let mut payload = Payload::new();
        let mut snapshot = Vec::new();
        let mut pieces = bytes.chunks(step);
        while let Some(mut piece) = pieces.next() {
            while !piece.is_empty() {
                match payload.look(piece).unwrap() {
                    Found::More => piece = &[],
                    Found::Begun { used, .. } => piece = &piece[used..],
                    Found::Piece(range, ends) => {
                        let is_line = matches!(payload.form, Form::Unknown(_));
                        if !is_line {
                            snapshot.extend_from_slice(&piece[range.clone()]);
                        }
                        piece = &piece[range.end..];
                        if ends {
                            let keeps = snapshot.len() - payload.tail_bytes() as usize;
                            snapshot.truncate(keeps);
                            let rest = pieces.flatten().copied();
                            return (snapshot, piece.iter().copied().chain(rest).collect());
                        }
                    }
                }
            }
        }
        panic!("it has no end");
    }

    #[test]
    fn both_forms_in_pieces_of_any_size() {
        for step in 1..=70 {
            let sized = run(b"\n\n$10\r\nREDIS01234*1\r\n$4\r\nPING\r\n", step);
            let rest = b"*1\r\n$4\r\nPING\r\n".to_vec();
            assert_eq!(sized, (b"REDIS01234".to_vec(), rest));
            let mark = "x".repeat(20) + &"y".repeat(20);
            let marked = format!("\n$EOF:{mark}\r\nREDIS0123xxxx{mark}");
            let snapshot = b"REDIS0123xxxx".to_vec();
            assert_eq!(run(marked.as_bytes(), step), (snapshot, Vec::new()));
        }
    }

    #[test]
    fn what_is_no_snapshot_is_refused() {
        let look = |bytes: &[u8]| Payload::new().look(bytes);
        let error = Refused::Error("ERR no".into());
        assert_eq!(look(b"-ERR no\r\n"), Err(error));
        for garbage in [&b"+OK\r\n"[..], b"$12x\r\n", b"$EOF:short\r\n"] {
            assert!(matches!(look(garbage), Err(Refused::Garbage(_))));
        }
        assert!(look(&[b'a'; 2000]).is_err());
    }
}
