//! The stream of a master, cut into what has to be applied as a whole: single commands, and
//! transactions.

use crate::keyspace::{EXEC, MULTI};
use crate::resp::{Args, Limits, Parsed, Parser};

/// How far a command was read.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    /// First byte that was not looked at.
    at: usize,
    /// Arguments to come; `None` before their number is known.
    left: Option<usize>,
}

/// Cuts a stream.
#[derive(Debug, Default)]
pub struct Cutter {
    reading: Reading,
    /// Where the command that is being read begins.
    begin: usize,
    /// MULTI stands before it, and EXEC does not.
    multi: bool,
}

/// What stands next in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    pub len: usize,
    pub is_transaction: bool,
}

/// No master sends this.
#[derive(Debug, PartialEq, Eq)]
pub struct Garbage;

/// A longer line is no number.
const LINE_MAX_BYTES: usize = 32;

/// The number of a line that begins with `sign`, and where the next line begins; `None`: it is not
/// whole.
fn number(bytes: &[u8], at: usize, sign: u8) -> Result<Option<(usize, usize)>, Garbage> {
    let Some(&first) = bytes.get(at) else {
        return Ok(None);
    };
    if first != sign {
        return Err(Garbage);
    }
    let line = &bytes[at + 1..bytes.len().min(at + LINE_MAX_BYTES)];
    let Some(end) = line.iter().position(|&byte| byte == b'\n') else {
        return match line.len() < LINE_MAX_BYTES - 1 {
            true => Ok(None),
            false => Err(Garbage),
        };
    };
    let digits = line[..end].strip_suffix(b"\r").ok_or(Garbage)?;
    let text = std::str::from_utf8(digits).map_err(|_| Garbage)?;
    let number = text.parse().map_err(|_| Garbage)?;
    Ok(Some((number, at + 1 + end + 1)))
}

impl Reading {
    /// Reads on to the end of a command. Returns whether it was reached: `at` is behind it.
    fn read(&mut self, bytes: &[u8]) -> Result<bool, Garbage> {
        // Redis: a newline between commands says that the master is there.
        while self.left.is_none() && matches!(bytes.get(self.at), Some(b'\n' | b'\r')) {
            self.at += 1;
        }
        if self.left.is_none() {
            let Some((count, next)) = number(bytes, self.at, b'*')? else {
                return Ok(false);
            };
            (self.left, self.at) = (Some(count), next);
        }
        while let Some(left) = self.left.filter(|left| *left > 0) {
            let Some((len, next)) = number(bytes, self.at, b'$')? else {
                return Ok(false);
            };
            let end = len.checked_add(next + 2).ok_or(Garbage)?;
            if end > bytes.len() {
                return Ok(false);
            }
            (self.left, self.at) = (Some(left - 1), end);
        }
        self.left = None;
        Ok(true)
    }
}

impl Cutter {
    /// The unit that `bytes` begins with; `None`: it is not whole yet. To be called with the same bytes
    /// and more until it is.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Option<Unit>, Garbage> {
        loop {
            if !self.reading.read(bytes)? {
                return Ok(None);
            }
            let command = trimmed(&bytes[self.begin..self.reading.at]);
            self.begin = self.reading.at;
            let is_transaction = self.multi;
            match self.multi {
                false if command.eq_ignore_ascii_case(MULTI) => self.multi = true,
                true if !command.eq_ignore_ascii_case(EXEC) => {}
                _ => {
                    let len = self.reading.at;
                    *self = Cutter::default();
                    return Ok(Some(Unit {
                        len,
                        is_transaction,
                    }));
                }
            }
        }
    }
}

/// Newlines before a command are nobody's.
fn trimmed(command: &[u8]) -> &[u8] {
    let begin = command.iter().position(|&byte| byte == b'*');
    &command[begin.unwrap_or(0)..]
}

/// Calls `each` with every command of a unit, and its bytes.
pub fn each_command(unit: &[u8], mut each: impl FnMut(&Args, &[u8])) {
    let mut parser = Parser::default();
    let limits = Limits {
        bulk_max_bytes: usize::MAX,
        authenticated: true,
    };
    let mut rest = unit;
    while !rest.is_empty() {
        match parser.parse(rest, &limits) {
            Ok(Parsed::Request { consumed }) => {
                each(&parser.args(rest), &rest[..consumed]);
                parser.next();
                rest = &rest[consumed..];
            }
            Ok(Parsed::Empty { consumed }) if consumed > 0 => rest = &rest[consumed..],
            // It was read before: it is whole.
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::handshake::encode;
    use super::*;

    fn line(text: &str) -> Vec<u8> {
        let words: Vec<&[u8]> = text.split(' ').map(str::as_bytes).collect();
        encode(&words)
    }

    #[test]
    fn no_length_is_too_large_to_be_refused() {
        let garbage = |bytes: &[u8]| Cutter::default().next(bytes) == Err(Garbage);
        assert!(garbage(b"*1\r\n$18446744073709551615\r\n"));
        assert!(garbage(b"*1\r\n$18446744073709551616\r\n"));
        assert!(garbage(b"*1\r\n$-1\r\n"));
    }

    #[test]
    fn units_are_the_same_however_they_arrive() {
        let commands = [
            "SET a 1",
            "multi",
            "SET b 2",
            "INCR c",
            "EXEC",
            "PING",
            "SET d EXEC",
        ];
        let mut stream: Vec<u8> = commands.iter().flat_map(|text| line(text)).collect();
        stream.insert(0, b'\n');
        let len = |from: usize, to: usize| commands[from..to].iter().map(|c| line(c).len()).sum();
        let unit = |len, is_transaction| Unit {
            len,
            is_transaction,
        };
        let wanted = [
            unit(line("SET a 1").len() + 1, false),
            unit(len(1, 5), true),
            unit(len(5, 6), false),
            unit(len(6, 7), false),
        ];
        for step in 1..stream.len() {
            let (mut cutter, mut input, mut found) = (Cutter::default(), Vec::new(), Vec::new());
            for piece in stream.chunks(step) {
                input.extend_from_slice(piece);
                while let Some(unit) = cutter.next(&input).unwrap() {
                    input.drain(..unit.len);
                    found.push(unit);
                }
            }
            assert_eq!(found, wanted, "in pieces of {step}");
            assert!(input.is_empty());
        }
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for garbage in [&b"+OK\r\n"[..], b"*x\r\n", b"*1\r\n+2\r\n", &[b'*'; 40]] {
            assert_eq!(Cutter::default().next(garbage), Err(Garbage));
        }
        assert_eq!(Cutter::default().next(b"*2\r\n$3\r\nGET"), Ok(None));
    }

    #[test]
    fn the_commands_of_a_unit() {
        let unit = [line("MULTI"), line("SET a 1"), line("EXEC")].concat();
        let mut seen = Vec::new();
        each_command(&unit, |args, bytes| seen.push((args.len(), bytes.len())));
        assert_eq!(seen, [(1, 15), (3, 27), (1, 14)]);
    }
}
