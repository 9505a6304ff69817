//! Whatever bytes arrive, in whatever pieces: segments and manifests are refused, read, or end where
//! they were torn, and a file that was cut off there is a good one.
//!
//! `cargo +nightly fuzz run journal -- -max_len=20000 -rss_limit_mb=512`. The bounded twins of this,
//! which need no nightly, are the tests of `journal::reader` and `journal::manifest`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinion::journal::segment::{CRC, HEAD, checksum};
use pinion::journal::{Fault, Item, Manifest, Reader};

fn read(bytes: &[u8], framed: bool, piece: usize) -> (Vec<Item>, Option<Fault>) {
    let mut reader = Reader::new(framed);
    let mut pieces = bytes.chunks(piece);
    let (mut items, mut ended) = (Vec::new(), false);
    loop {
        match reader.next_item() {
            Ok(Some(item)) => items.push(item),
            Ok(None) if ended => return (items, None),
            Ok(None) => match pieces.next() {
                Some(piece) => reader.feed(piece),
                None => {
                    reader.end_input();
                    ended = true;
                }
            },
            Err(fault) => return (items, Some(fault)),
        }
    }
}

/// The same with checksums that are right, as far as there are units: nothing behind a checksum
/// would be reached otherwise.
fn resealed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, behind) = rest.split_at(end + 1);
        rest = behind;
        let text = std::str::from_utf8(line).ok();
        let head = text.filter(|text| text.starts_with(HEAD));
        let Some((summed, _)) = head.and_then(|text| text.rsplit_once(CRC)) else {
            out.extend_from_slice(line);
            continue;
        };
        let len = summed.split("len=").nth(1);
        let len = len.and_then(|text| text.split(' ').next()?.parse::<usize>().ok());
        let payload = &rest[..len.unwrap_or(0).min(rest.len())];
        let sum = checksum(summed.as_bytes(), payload);
        out.extend_from_slice(format!("{summed}{CRC}{sum:016x}\r\n").as_bytes());
        out.extend_from_slice(payload);
        rest = &rest[payload.len()..];
    }
    out.extend_from_slice(rest);
    out
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else {
        return;
    };
    check(bytes, first);
    check(&resealed(bytes), first);
});

fn check(bytes: &[u8], first: u8) {
    for framed in [false, true] {
        let (items, fault) = read(bytes, framed, usize::MAX);
        let pieces = read(bytes, framed, 1 + usize::from(first));
        assert_eq!(pieces.0, items);
        if let Some(Fault::Torn { valid_to }) = fault {
            let again = read(&bytes[..valid_to as usize], framed, usize::MAX);
            assert_eq!(again, (items, None));
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(manifest) = Manifest::parse(text)
        && let Ok(again) = Manifest::parse(&manifest.to_string())
    {
        assert_eq!(again, manifest);
    }
}
