//! Large strings: compressed a stretch at a time, and written a chunk at a time after that. How long a
//! compressed string is stands before it.

use std::collections::VecDeque;

use super::CHUNK_BYTES;
use crate::rdb::string;
use crate::value::lzf::{Packing, Step};

/// Bytes of a string that are compressed in one go: some tenths of a millisecond.
const STRETCH_BYTES: usize = 128 * 1024;

/// What becomes of a large string.
enum Form {
    /// That is not known yet.
    Packing(Packing),
    /// What is left to be written of it.
    Packed(VecDeque<Vec<u8>>),
    /// It is written as it is.
    Plain,
}

/// A large string on its way into chunks.
pub struct LargeText(Form);

impl LargeText {
    /// `compress`: `rdbcompression`.
    pub fn new(text: &[u8], compress: bool) -> LargeText {
        let packing = Packing::new(text).filter(|_| compress);
        LargeText(packing.map_or(Form::Plain, Form::Packing))
    }

    /// Goes on with a string, of which `from` was returned before, or 0. Adds what comes next to `out`:
    /// `head` first, which stands before the value, if nothing has been written of it. Returns from where
    /// to go on.
    pub fn go_on(
        &mut self,
        text: &[u8],
        from: usize,
        out: &mut Vec<u8>,
        head: impl FnOnce(&mut Vec<u8>),
    ) -> Option<usize> {
        if let Form::Packing(packing) = &mut self.0 {
            self.0 = match packing.go_on(text, from + STRETCH_BYTES) {
                Step::More(at) => return Some(at),
                Step::Packed(pieces) => Form::Packed(pieces),
                Step::Useless => Form::Plain,
            };
        }
        // Beyond the string it is pieces that are counted.
        let piece = from.saturating_sub(text.len());
        if piece == 0 {
            head(out);
        }
        let goes_on = match &mut self.0 {
            Form::Packed(pieces) => {
                if piece == 0 {
                    let packed_len = pieces.iter().map(Vec::len).sum();
                    string::put_lzf_head(out, packed_len, text.len());
                }
                out.extend(pieces.pop_front().unwrap_or_default());
                !pieces.is_empty()
            }
            Form::Packing(_) | Form::Plain => {
                if piece == 0 {
                    string::put_plain_head(out, text.len());
                }
                let mut chunks = text.chunks(CHUNK_BYTES).skip(piece);
                out.extend_from_slice(chunks.next().unwrap_or_default());
                chunks.next().is_some()
            }
        };
        goes_on.then_some(text.len() + piece + 1)
    }
}
