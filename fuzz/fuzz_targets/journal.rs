//! Whatever bytes arrive, in whatever pieces: segments and manifests are refused, read, or end where
//! they were torn, and a file that was cut off there is a good one.
//!
//! `cargo +nightly fuzz run journal -- -max_len=20000 -rss_limit_mb=512`. The bounded twins of this,
//! which need no nightly, are the tests of `journal::reader` and `journal::manifest`.

#![no_main]

use libfuzzer_sys::fuzz_target;
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

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else {
        return;
    };
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
});
