//! Reading a segment, or an append-only file that Redis wrote.
//!
//! Segments are read unit by unit; a file without units is read command by command, transactions
//! as wholes. What ends too early is *torn*: the end of the file was not written completely when the
//! server ended. Everything else that cannot be read is *damaged*. A unit that is too short or has a
//! wrong checksum is torn if no good unit follows it: the kernel may write the last pages in any order. Nor is it damage if
//! those that follow were made before its place was on the disk, see [`super::segment`]. Commands
//! outside of units are those of a Redis that wrote the file before or went on with it; units may
//! follow them again, and none of their numbers may be missing.

use smallvec::SmallVec;

use super::segment::{CRC, HEAD, HEAD_MAX_BYTES, Mark, checksum};

/// Longest comment. Redis: AOF_ANNOTATION_LINE_MAX_LEN.
const COMMENT_MAX_BYTES: usize = 1024;
/// What is looked at to tell what kind of file it is.
pub const FRONT_BYTES: usize = 64 * 1024;
/// Arguments of one command; more is damage.
const ARGS_MAX: usize = 1 << 20;
/// Bytes of one argument; more is damage.
const ARG_MAX_BYTES: usize = 4 << 30;

/// Something that counts as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where in the file it begins.
    pub at: u64,
    /// Its commands, encoded as RESP.
    pub commands: Vec<u8>,
    /// The number of the unit, from 1; 0 outside of units.
    pub seq: u64,
    pub mark: Option<Mark>,
    pub barrier: Option<u64>,
    /// It opens a segment: how many of the same process it follows, and how many units are theirs.
    pub follows: Option<(u64, u64)>,
}

/// Why a file cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The file is good up to here, and what follows was not written completely.
    Torn {
        valid_to: u64,
    },
    Damaged {
        at: u64,
        reason: &'static str,
    },
}

/// Reads a file from bytes as they arrive.
#[derive(Debug)]
pub struct Reader {
    /// What comes next stands in units, unless a server that knows none has appended to the file.
    framed: bool,
    bytes: Vec<u8>,
    /// Read bytes at the front of `bytes`.
    from: usize,
    /// Where in the file `bytes` begins.
    base: u64,
    ended: bool,
    /// Number of the last unit.
    seq: u64,
    /// Where in the file the last item ended: comments behind it belong to the next.
    good: u64,
    /// Where room that was made ahead begins, if nothing stands behind it.
    room: Option<u64>,
}

/// Whether a file with this front is a segment of ours: a unit begins near it.
pub fn is_framed(front: &[u8]) -> bool {
    let front = &front[..front.len().min(FRONT_BYTES)];
    front
        .windows(HEAD.len())
        .any(|window| window == HEAD.as_bytes())
}

/// Whether a file with this front begins with a snapshot, as the base of Redis 7 does and single
/// files of the servers before may.
pub fn is_snapshot(front: &[u8]) -> bool {
    front.starts_with(b"REDIS")
}

/// How far a piece of input reaches.
enum Found {
    Whole(usize),
    /// More input is needed.
    More,
    Bad(&'static str),
}

impl Reader {
    /// `framed`: a segment of ours, in which nothing stands outside of units.
    pub fn new(framed: bool) -> Reader {
        Reader {
            framed,
            bytes: Vec::new(),
            from: 0,
            base: 0,
            ended: false,
            seq: 0,
            good: 0,
            room: None,
        }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.from);
        self.base += self.from as u64;
        self.from = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// There is no more input.
    pub fn end_input(&mut self) {
        self.ended = true;
    }

    /// Where in the file the next item begins.
    pub fn position(&self) -> u64 {
        self.base + self.from as u64
    }

    /// Where in the file the next unit is to be written: over room that was made ahead.
    pub fn end(&self) -> u64 {
        self.room.unwrap_or(self.position())
    }

    /// The number of the last unit, 0 before the first.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.from..]
    }

    /// The next item; `None` if more input is needed or, once there is none, at the end.
    pub fn next_item(&mut self) -> Result<Option<Item>, Fault> {
        loop {
            let rest = self.rest();
            if rest.is_empty() {
                return Ok(None);
            }
            if rest[0] != b'#' {
                // A torn end may look like anything.
                let is_command = !matches!(command(rest), Found::Bad(_));
                if self.framed && !is_command {
                    return self.bad_unit("something stands outside of units");
                }
                if self.framed && matches!(command(rest), Found::More) {
                    return self.incomplete();
                }
                self.framed = false;
                return self.commands();
            }
            match rest.iter().position(|&byte| byte != b'#') {
                None => return self.incomplete(),
                Some(len) if rest[len] == b'\n' => {
                    self.room.get_or_insert(self.base + self.from as u64);
                    self.from += len + 1;
                    continue;
                }
                Some(_) => {}
            }
            let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
                if rest.len() > COMMENT_MAX_BYTES && self.framed {
                    return self.bad_unit("a comment is too long");
                }
                if rest.len() > COMMENT_MAX_BYTES {
                    return Err(self.damaged("a comment is too long"));
                }
                return self.incomplete();
            };
            if end > COMMENT_MAX_BYTES {
                // Whether it came in one piece or in several: Redis takes the rest for a command.
                return match self.framed {
                    true => self.bad_unit("a comment is too long"),
                    false => Err(self.damaged("a comment is too long")),
                };
            }
            let line = String::from_utf8_lossy(&rest[..end]).into_owned();
            if line.starts_with(HEAD) {
                self.framed = true;
                return self.unit(line.trim_end(), end + 1);
            }
            if self.framed && !line.starts_with("#TS:") {
                return self.bad_unit("the line before a unit cannot be read");
            }
            self.from += end + 1;
        }
    }

    fn damaged(&self, reason: &'static str) -> Fault {
        Fault::Damaged {
            at: self.position(),
            reason,
        }
    }

    fn incomplete(&self) -> Result<Option<Item>, Fault> {
        if self.ended {
            let valid_to = self.good;
            return Err(Fault::Torn { valid_to });
        }
        Ok(None)
    }

    /// A unit whose line ends after `head_len` bytes.
    fn unit(&mut self, head: &str, head_len: usize) -> Result<Option<Item>, Fault> {
        let Some(head) = Head::parse(head).filter(|_| head_len <= HEAD_MAX_BYTES + 2) else {
            return self.bad_unit("the line before a unit cannot be read");
        };
        let behind = &self.rest()[head_len..];
        let Some(payload) = behind.get(..head.len) else {
            // A value may look like a unit: what stands within a command is none.
            return match self.ended && !ends_in_command(behind) {
                true => self.bad_unit("a unit is cut short"),
                false => self.incomplete(),
            };
        };
        if !head.is_sum_of(payload) {
            return self.bad_unit("a unit's checksum is wrong");
        }
        if head.seq != self.seq + 1 {
            return self.bad_unit("a unit is missing");
        }
        let item = Item {
            at: self.position(),
            commands: payload.to_vec(),
            seq: head.seq,
            mark: head.mark,
            barrier: head.barrier,
            follows: head.follows,
        };
        self.seq = head.seq;
        self.from += head_len + head.len;
        self.good = self.position();
        self.room = None;
        Ok(Some(item))
    }

    /// A unit that is not as it was written, or not there: torn, unless a good one follows that was
    /// made when this place was on the disk.
    fn bad_unit(&mut self, reason: &'static str) -> Result<Option<Item>, Fault> {
        if !self.ended {
            // All of the rest is needed to tell.
            return Ok(None);
        }
        let rest = self.rest();
        let heads = rest
            .windows(HEAD.len())
            .enumerate()
            .filter(|(_, window)| *window == HEAD.as_bytes());
        for (at, _) in heads {
            let after = &rest[at..];
            let Some(end) = after.iter().position(|&byte| byte == b'\n') else {
                continue;
            };
            let line = String::from_utf8_lossy(&after[..end]).into_owned();
            let is_good = |head: Head| {
                let payload = after[end + 1..].get(..head.len);
                payload.is_some_and(|payload| head.is_sum_of(payload))
            };
            let is_later = |head: &Head| head.synced.is_none_or(|synced| synced > self.good);
            if Head::parse(line.trim_end()).is_some_and(|head| is_later(&head) && is_good(head)) {
                return Err(self.damaged(reason));
            }
        }
        let valid_to = self.good;
        Err(Fault::Torn { valid_to })
    }

    /// A command outside of units, or a whole transaction.
    fn commands(&mut self) -> Result<Option<Item>, Fault> {
        let rest = self.rest();
        let mut end = 0;
        let mut open = false;
        loop {
            if open && rest.get(end) == Some(&b'#') {
                match rest[end..].iter().position(|&byte| byte == b'\n') {
                    Some(len) => end += len + 1,
                    None => return self.incomplete(),
                }
                continue;
            }
            match command(&rest[end..]) {
                Found::More => return self.incomplete(),
                Found::Bad(reason) => return Err(self.damaged(reason)),
                Found::Whole(len) => {
                    let this = &rest[end..end + len];
                    end += len;
                    if is_named(this, b"MULTI") {
                        open = true;
                    } else if is_named(this, b"EXEC") {
                        open = false;
                    }
                }
            }
            if !open {
                break;
            }
        }
        let item = Item {
            at: self.position(),
            commands: rest[..end].to_vec(),
            seq: 0,
            mark: None,
            barrier: None,
            follows: None,
        };
        self.from += end;
        self.good = self.position();
        self.room = None;
        Ok(Some(item))
    }
}

/// What the line before a unit says.
struct Head {
    seq: u64,
    len: usize,
    crc: u64,
    /// The line as far as the checksum.
    summed: String,
    mark: Option<Mark>,
    barrier: Option<u64>,
    follows: Option<(u64, u64)>,
    synced: Option<u64>,
}

impl Head {
    fn parse(line: &str) -> Option<Head> {
        let (summed, crc) = line.rsplit_once(CRC)?;
        let (mut seq, mut len) = (None, None);
        let (mut mark, mut barrier, mut follows, mut synced) = (None, None, None, None);
        for pair in summed.strip_prefix(HEAD)?.split(' ') {
            let (name, value) = pair.split_once('=')?;
            match name {
                "seq" => seq = Some(value.parse().ok()?),
                "len" => len = Some(value.parse().ok()?),
                "tx" => mark = Some(parse_mark(value)?),
                "barrier" => barrier = Some(value.parse().ok()?),
                "synced" => synced = Some(value.parse().ok()?),
                "after" => {
                    let (segments, units) = value.split_once(':')?;
                    follows = Some((segments.parse().ok()?, units.parse().ok()?));
                }
                _ => {}
            }
        }
        Some(Head {
            seq: seq?,
            len: len?,
            crc: u64::from_str_radix(crc, 16).ok()?,
            summed: summed.to_string(),
            mark,
            barrier,
            follows,
            synced,
        })
    }
}

impl Head {
    fn is_sum_of(&self, payload: &[u8]) -> bool {
        checksum(self.summed.as_bytes(), payload) == self.crc
    }
}

fn parse_mark(text: &str) -> Option<Mark> {
    let (id, shards) = text.split_once(':')?;
    let shards: Option<SmallVec<[u32; 4]>> =
        shards.split(',').map(|shard| shard.parse().ok()).collect();
    Some(Mark {
        id: u64::from_str_radix(id, 16).ok()?,
        shards: shards?,
    })
}

/// A line `<mark><number>\r\n`: the number and the line's length.
fn number(bytes: &[u8], mark: u8) -> Result<Option<(usize, usize)>, &'static str> {
    const LINE_MAX: usize = 32;
    match bytes.first() {
        None => return Ok(None),
        Some(&first) if first != mark => return Err("a command has a bad format"),
        Some(_) => {}
    }
    let Some(end) = bytes.iter().take(LINE_MAX).position(|&byte| byte == b'\n') else {
        return if bytes.len() < LINE_MAX {
            Ok(None)
        } else {
            Err("a command has a bad format")
        };
    };
    let text = std::str::from_utf8(&bytes[1..end]).ok();
    let n = text.and_then(|text| text.strip_suffix('\r')?.parse().ok());
    Ok(Some((n.ok_or("a command has a bad format")?, end + 1)))
}

/// How long the command at the front is.
fn command(bytes: &[u8]) -> Found {
    let (count, mut at) = match number(bytes, b'*') {
        Err(reason) => return Found::Bad(reason),
        Ok(None) => return Found::More,
        Ok(Some(found)) => found,
    };
    if count == 0 || count > ARGS_MAX {
        return Found::Bad("a command has a bad number of arguments");
    }
    for _ in 0..count {
        let (len, line) = match number(&bytes[at..], b'$') {
            Err(reason) => return Found::Bad(reason),
            Ok(None) => return Found::More,
            Ok(Some(found)) => found,
        };
        if len > ARG_MAX_BYTES {
            return Found::Bad("an argument is too long");
        }
        at += line + len + 2;
        match bytes.get(at - 2..at) {
            None => return Found::More,
            Some(b"\r\n") => {}
            Some(_) => return Found::Bad("an argument has a bad end"),
        }
    }
    Found::Whole(at)
}

/// Whether commands follow one another up to the end, which the last of them may lack.
fn ends_in_command(mut bytes: &[u8]) -> bool {
    loop {
        match command(bytes) {
            Found::Whole(len) => bytes = &bytes[len..],
            Found::More => return true,
            Found::Bad(_) => return false,
        }
    }
}

/// The names of whole commands, one behind another; comments between them are passed over.
pub fn names(mut commands: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while commands.first() == Some(&b'#') {
            let end = commands.iter().position(|&byte| byte == b'\n')?;
            commands = &commands[end + 1..];
        }
        let Found::Whole(len) = command(commands) else {
            return None;
        };
        let (_, line) = number(commands, b'*').ok()??;
        let (name_len, name_line) = number(&commands[line..], b'$').ok()??;
        let begin = line + name_line;
        let name = &commands[begin..begin + name_len];
        commands = &commands[len..];
        Some(name)
    })
}

/// Whether a command without arguments has this name.
fn is_named(command: &[u8], name: &[u8]) -> bool {
    let head = command.len().checked_sub(name.len() + 2);
    command.starts_with(b"*1\r\n")
        && head.is_some_and(|at| command[at..at + name.len()].eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests;
