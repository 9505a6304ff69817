//! Values that are no UTF-8: passwords, paths and names are bytes, whatever they say.
//!
//! Nearly all that a configuration holds is text, and is kept as such. A byte that is part of no UTF-8
//! is kept as a character of its own, of a range that nothing else uses:
//!
//! ```text
//! 70 ff e9     <->  'p' U+10F8FF U+10F8E9
//! f4 8f a3 bf  <->  U+10F8F4 U+10F88F U+10F8A3 U+10F8BF     one of these characters itself
//! ```
//! So each text stands for one sequence of bytes, and each sequence of bytes has one text.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The first of the characters that stand for bytes. Private use, in the last plane.
const FIRST: u32 = 0x10_f800;

fn stand_in(byte: u8) -> char {
    char::from_u32(FIRST + u32::from(byte)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn byte_of(character: char) -> Option<u8> {
    let offset = u32::from(character).checked_sub(FIRST)?;
    u8::try_from(offset).ok()
}

/// Bytes as text.
pub fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match byte_of(character) {
                None => text.push(character),
                Some(_) => {
                    let mut own = [0; 4];
                    let own = character.encode_utf8(&mut own);
                    text.extend(own.bytes().map(stand_in));
                }
            }
        }
        text.extend(chunk.invalid().iter().copied().map(stand_in));
    }
    text
}

/// The bytes that a text stands for.
pub fn bytes_of(text: &str) -> Cow<'_, [u8]> {
    if text.chars().all(|character| byte_of(character).is_none()) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

/// A name of the system's, as text.
pub fn text_of_name(name: &OsStr) -> String {
    text_of(name.as_bytes())
}

/// The path that a text stands for.
pub fn path_of(text: &str) -> PathBuf {
    OsString::from_vec(bytes_of(text).into_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_of_bytes_has_a_text_of_its_own() {
        let own = stand_in(0xe9).to_string();
        let mut texts = std::collections::BTreeSet::new();
        let all: [&[u8]; 9] = [
            b"",
            b"plain",
            "caf\u{e9}".as_bytes(),
            b"caf\xe9",
            b"\xff",
            b"\xf4\x8f",
            own.as_bytes(),
            b"\xe9",
            b"\0 \x80 \xc3\xa9 \xc3",
        ];
        for bytes in all {
            let text = text_of(bytes);
            assert_eq!(&*bytes_of(&text), bytes);
            assert!(texts.insert(text));
        }
        assert_eq!(text_of(b"plain"), "plain");
        assert_eq!(
            path_of(&text_of(b"/a\xff")).into_os_string().into_vec(),
            b"/a\xff"
        );
    }
}
