//! LZF: the light compression of RDB strings (libLZF by Marc Lehmann; Redis: lzf_c.c, lzf_d.c).
//!
//! ```text
//! 000lllll  bytes                      l + 1 bytes as they are
//! lllooooo  oooooooo                   l + 2 bytes (l = 1..6) from o + 1 bytes back
//! 111ooooo  llllllll  oooooooo         l + 9 bytes from o + 1 bytes back
//! ```
//!
//! Strings are compressed to the very bytes that Redis makes of them, so that a DUMP of one server
//! equals a DUMP of the other: matches are looked for where libLZF looks.

use std::collections::VecDeque;

/// Longest run of plain bytes.
const PLAIN_MAX: usize = 1 << 5;
/// Furthest a copy reaches back.
const OFFSET_MAX: usize = 1 << 13;
/// Longest copy.
const COPY_MAX: usize = (1 << 8) + (1 << 3);
/// A copy of that length takes three bytes, so that nothing grows by more than this factor.
const EXPANSION_MAX: u64 = COPY_MAX as u64 / 3;

const SLOTS: usize = 1 << 16;
/// Worth its time only if it saves this much. Redis: rdbSaveLzfStringObject.
const SAVED_MIN_BYTES: usize = 4;

/// Compresses one string after another; keeps its tables in between.
#[derive(Debug, Default)]
pub struct Compressor {
    /// Where three bytes of this hash were seen last: a position counted from 1 on, above `before`.
    /// Empty before the first string: most DUMPs compress none.
    /// Whatever is not above `before` is of an earlier string, so that no table is ever wiped.
    seen: Box<[u32]>,
    before: u32,
    out: Vec<u8>,
}

/// What is being written: plain bytes behind a place left free for their number, or copies.
#[derive(Debug)]
struct Output {
    bytes: Vec<u8>,
    len: usize,
    /// Plain bytes since the place left free.
    plain: usize,
    len_max: usize,
}

impl Output {
    /// For up to `len_max` bytes.
    fn new(bytes: Vec<u8>, len_max: usize) -> Output {
        Output {
            bytes,
            len: 1,
            plain: 0,
            len_max,
        }
    }

    /// Makes room for what so many bytes become at most, copies not counted, which save something.
    fn make_room(&mut self, input_bytes: usize) {
        let runs = input_bytes / PLAIN_MAX + 16;
        let room = self.len.saturating_add(input_bytes).saturating_add(runs);
        // A copy of three bytes and the place for a run may reach beyond the limit before it is
        // noticed.
        let room = room.min(self.len_max) + 8;
        if self.bytes.len() < room {
            self.bytes.resize(room, 0);
        }
    }

    /// Takes out what is written; the run that is open stays, with its place, unless it is the end.
    fn take(&mut self, all: bool) -> Vec<u8> {
        let open = if all { 0 } else { self.plain + 1 };
        let closed = self.len - open;
        let taken = self.bytes[..closed].to_vec();
        self.bytes.copy_within(closed..self.len, 0);
        self.len = open;
        self.len_max -= closed;
        taken
    }

    /// Fills the place that tells how many plain bytes follow it; there may be none.
    fn close_run(&mut self) {
        if self.plain == 0 {
            self.len -= 1;
        } else {
            self.bytes[self.len - self.plain - 1] = self.plain as u8 - 1;
        }
        self.plain = 0;
    }

    fn open_run(&mut self) {
        self.plain = 0;
        self.len += 1;
    }

    fn plain(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
        self.plain += 1;
        if self.plain == PLAIN_MAX {
            self.close_run();
            self.open_run();
        }
    }

    /// Copies `len + 2` bytes from `offset + 1` bytes back.
    fn copy(&mut self, offset: usize, len: usize) {
        self.close_run();
        let high = (offset >> 8) as u8;
        if len < 7 {
            self.push(high | (len as u8) << 5);
        } else {
            self.push(high | 7 << 5);
            self.push((len - 7) as u8);
        }
        self.push(offset as u8);
        self.open_run();
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn has_room_for_copy(&self) -> bool {
        self.len - usize::from(self.plain == 0) + 4 < self.len_max
    }
}

impl Compressor {
    /// Keeps no more room for output than most strings take.
    pub fn shrink(&mut self) {
        const BYTES: usize = 64 * 1024;
        if self.out.capacity() > BYTES {
            self.out = Vec::new();
        }
    }

    /// The string compressed; `None` if that saves no more than four bytes.
    pub fn compress(&mut self, input: &[u8]) -> Option<&[u8]> {
        let len_max = len_max(input)?;
        let positions = u32::try_from(input.len() + 1).ok()?;
        if self.seen.is_empty() {
            self.seen = vec![0; SLOTS].into_boxed_slice();
        }
        if self.before.checked_add(positions).is_none() {
            self.seen.fill(0);
            self.before = 0;
        }
        let mut out = Output::new(std::mem::take(&mut self.out), len_max);
        out.make_room(input.len());
        let done = self.run(input, &mut out, &mut 0, usize::MAX);
        self.before += positions;
        self.out = out.bytes;
        done.map(|_| &self.out[..out.len])
    }

    /// Notes that the three bytes at `at` were seen, and tells where they were before.
    #[inline]
    fn exchange(&mut self, input: &[u8], at: usize) -> Option<usize> {
        let three =
            u32::from(input[at]) << 16 | u32::from(input[at + 1]) << 8 | u32::from(input[at + 2]);
        let slot = (three >> 8).wrapping_sub(three.wrapping_mul(5)) as usize & (SLOTS - 1);
        let known = std::mem::replace(&mut self.seen[slot], self.before + at as u32 + 1);
        known.checked_sub(self.before + 1).map(|at| at as usize)
    }

    /// Goes on at `from`, until some place if the string does not end before. Tells whether it has; `None`
    /// if there is no use.
    fn run(
        &mut self,
        input: &[u8],
        out: &mut Output,
        from: &mut usize,
        until: usize,
    ) -> Option<bool> {
        let end = input.len();
        let mut at = *from;
        while at + 2 < end {
            if at >= until {
                *from = at;
                return Some(false);
            }
            let known = self.exchange(input, at).filter(|&known| {
                // Redis: the first byte of all is never copied from.
                known > 0
                    && at - known <= OFFSET_MAX
                    && input[known..known + 3] == input[at..at + 3]
            });
            if let Some(known) = known {
                if !out.has_room_for_copy() {
                    return None;
                }
                let len = match_len(input, known, at);
                out.copy(at - known - 1, len - 2);
                at += len;
                if at + 2 >= end {
                    break;
                }
                self.exchange(input, at - 2);
                self.exchange(input, at - 1);
            } else {
                if out.len >= out.len_max {
                    return None;
                }
                out.plain(input[at]);
                at += 1;
            }
        }
        if out.len + 3 > out.len_max {
            return None;
        }
        for &byte in &input[at..] {
            out.plain(byte);
        }
        out.close_run();
        Some(true)
    }
}

/// Bytes that a string may take compressed, to be of use.
fn len_max(input: &[u8]) -> Option<usize> {
    let len_max = input.len().checked_sub(SAVED_MIN_BYTES)?;
    (len_max > 0).then_some(len_max)
}

/// How far a string has been compressed that is compressed a stretch at a time.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// To the byte of that index.
    More(usize),
    /// All of it: these pieces, one behind the other.
    Packed(VecDeque<Vec<u8>>),
    /// It saves no more than four bytes.
    Useless,
}

/// A string that is compressed a stretch at a time, to the same bytes.
///
/// What comes of a stretch is a piece of memory of its own: room for all of it would take the kernel
/// milliseconds to give, and to take back.
#[derive(Debug)]
pub struct Packing {
    compressor: Compressor,
    out: Output,
    at: usize,
    pieces: VecDeque<Vec<u8>>,
}

impl Packing {
    /// `None` for a string too short, or too long.
    pub fn new(input: &[u8]) -> Option<Packing> {
        u32::try_from(input.len() + 1).ok()?;
        let compressor = Compressor {
            seen: vec![0; SLOTS].into_boxed_slice(),
            ..Compressor::default()
        };
        Some(Packing {
            compressor,
            out: Output::new(Vec::new(), len_max(input)?),
            at: 0,
            pieces: VecDeque::new(),
        })
    }

    /// Goes on with that string, about as far as to `until`.
    pub fn go_on(&mut self, input: &[u8], until: usize) -> Step {
        self.out.make_room(until.saturating_sub(self.at));
        let done = self
            .compressor
            .run(input, &mut self.out, &mut self.at, until);
        let Some(has_ended) = done else {
            return Step::Useless;
        };
        let piece = self.out.take(has_ended);
        self.pieces.push_back(piece);
        match has_ended {
            true => Step::Packed(std::mem::take(&mut self.pieces)),
            false => Step::More(self.at),
        }
    }
}

/// How many bytes at `at` are those at `known`, three of them for certain. Redis: a match near the
/// end of the string may stop two bytes short, which shows in the bytes written.
fn match_len(input: &[u8], known: usize, at: usize) -> usize {
    let len_max = (input.len() - at - 2).min(COPY_MAX);
    let mut len = 2;
    if len_max > 16 {
        for _ in 0..16 {
            len += 1;
            if input[known + len] != input[at + len] {
                return len;
            }
        }
    }
    loop {
        len += 1;
        if len >= len_max || input[known + len] != input[at + len] {
            return len;
        }
    }
}

/// Whether a string can have become `compressed_bytes`: who claims more wants memory, not data.
pub fn plausible(compressed_bytes: u64, plain_bytes: u64) -> bool {
    plain_bytes <= compressed_bytes.saturating_mul(EXPANSION_MAX)
}

/// The plain string of exactly `len` bytes; `None` if the input is damaged.
pub fn decompress(input: &[u8], len: usize) -> Option<Vec<u8>> {
    if !plausible(input.len() as u64, len as u64) {
        return None;
    }
    let mut out = Vec::with_capacity(len);
    let mut at = 0;
    while let Some(&control) = input.get(at) {
        at += 1;
        let control = usize::from(control);
        if control < PLAIN_MAX {
            let plain = input.get(at..at + control + 1)?;
            at += plain.len();
            if out.len() + plain.len() > len {
                return None;
            }
            out.extend_from_slice(plain);
            continue;
        }
        let mut count = control >> 5;
        if count == 7 {
            count += usize::from(*input.get(at)?);
            at += 1;
        }
        count += 2;
        let back = ((control & 0x1f) << 8 | usize::from(*input.get(at)?)) + 1;
        at += 1;
        if out.len() + count > len {
            return None;
        }
        let from = out.len().checked_sub(back)?;
        if back >= count {
            out.extend_from_within(from..from + count);
        } else {
            for i in from..from + count {
                out.push(out[i]);
            }
        }
    }
    (out.len() == len).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(compressor: &mut Compressor, plain: &[u8]) -> Option<usize> {
        let packed = compressor.compress(plain)?;
        assert!(packed.len() <= plain.len() - SAVED_MIN_BYTES);
        assert_eq!(decompress(packed, plain.len()).as_deref(), Some(plain));
        Some(packed.len())
    }

    #[test]
    fn bytes_are_those_of_redis() {
        // Captured: DUMP of a string of 100 times "a".
        let mut compressor = Compressor::default();
        let packed = compressor.compress(&[b'a'; 100]).map(<[u8]>::to_vec);
        assert_eq!(
            packed,
            Some(vec![1, b'a', b'a', 0xe0, 0x57, 0, 1, b'a', b'a'])
        );
    }

    #[test]
    fn a_stretch_at_a_time_the_bytes_are_the_same() {
        let mut random = fastrand::Rng::with_seed(11);
        for round in 0..200 {
            let letters = [2, 20, 256][round % 3];
            let len = random.usize(..3000);
            let plain: Vec<u8> = (0..len).map(|_| random.u32(..letters) as u8).collect();
            let mut compressor = Compressor::default();
            let whole = compressor.compress(&plain).map(<[u8]>::to_vec);
            let Some(mut packing) = Packing::new(&plain) else {
                assert_eq!(whole, None);
                continue;
            };
            let (mut until, mut steps) = (0, 0);
            let end = loop {
                until += random.usize(1..500);
                match packing.go_on(&plain, until) {
                    Step::More(at) => assert!(at >= until && at < len),
                    end => break end,
                }
                steps += 1;
            };
            let end = match end {
                Step::Packed(pieces) => Some(pieces.into_iter().flatten().collect()),
                _ => None,
            };
            assert_eq!(end, whole);
            assert!(steps > 0 || len < 600, "{len}");
        }
    }

    #[test]
    fn strings_survive_in_any_order() {
        let mut compressor = Compressor::default();
        let mut random = fastrand::Rng::with_seed(7);
        let mut packed = 0;
        for round in 0..3000 {
            // Few letters, so that there are matches; sometimes runs, sometimes noise.
            let letters = [2, 3, 20, 256][round % 4];
            let mut plain = Vec::new();
            while plain.len() < random.usize(..600) {
                let letter = random.u32(..letters) as u8;
                plain.extend(std::iter::repeat_n(letter, random.usize(1..40)));
                let noise = random.usize(..10);
                plain.extend((0..noise).map(|_| random.u32(..letters) as u8));
            }
            packed += usize::from(round_trip(&mut compressor, &plain).is_some());
        }
        assert!(packed > 1000);
        for len in 0..400 {
            round_trip(&mut compressor, &vec![b'x'; len]);
        }
        let noise: Vec<u8> = (0..5000).map(|_| random.u8(..)).collect();
        assert_eq!(compressor.compress(&noise), None);
        // Matches far away, and the longest.
        let far = [&noise[..], &noise, &[0; 3000], &noise].concat();
        assert!(round_trip(&mut compressor, &far).is_some());
    }

    #[test]
    fn tables_outlive_their_numbers() {
        let mut compressor = Compressor {
            before: u32::MAX - 150,
            ..Compressor::default()
        };
        for _ in 0..4 {
            assert_eq!(round_trip(&mut compressor, &[b'a'; 100]), Some(9));
        }
        assert!(compressor.before < 1000);
    }

    #[test]
    fn damage_is_refused() {
        assert_eq!(decompress(&[0, b'a'], 1).as_deref(), Some(&b"a"[..]));
        for (packed, len) in [
            (&[5u8, b'a'][..], 6),       // plain bytes are missing
            (&[0x20], 3),                // the offset is missing
            (&[0xe0, 1], 10),            // so it is
            (&[0xe0], 10),               // and the length
            (&[0x20, 0], 3),             // reaches back before the start
            (&[0, b'a', 0x20, 1], 4),    // by one
            (&[0, b'a'], 2),             // too short
            (&[1, b'a', b'b'], 1),       // too long
            (&[0, b'a', 0xe0, 9, 0], 5), // so is a copy
            (&[0, b'a'], 1 << 40),       // no memory for a mere claim
        ] {
            assert_eq!(decompress(packed, len), None, "{packed:?} {len}");
        }
        assert_eq!(decompress(&[], 0).as_deref(), Some(&[][..]));
        let mut random = fastrand::Rng::with_seed(8);
        for _ in 0..20_000 {
            let packed: Vec<u8> = (0..random.usize(..30)).map(|_| random.u8(..)).collect();
            let len = random.usize(..300);
            let plain = decompress(&packed, len);
            assert!(plain.is_none_or(|plain| plain.len() == len));
        }
    }
}
