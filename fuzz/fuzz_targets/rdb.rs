//! Whatever bytes arrive, in whatever pieces: files and DUMP payloads are refused or read, and what
//! is read can be written and read again.
//!
//! `cargo +nightly fuzz run rdb fuzz/corpus/rdb tests/fixtures/rdb/* -- -max_len=40000
//! -rss_limit_mb=512`. The bounded twin of this, which needs no nightly, is `tests/rdb`.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pinion::rdb::file::{Event, Reader};
use pinion::rdb::string::StringWriter;
use pinion::rdb::{Error, crc64, dump};

/// What came out until the end or an error, and the error.
fn events(bytes: &Bytes, piece: usize) -> (Vec<Event>, Option<Error>) {
    // Checksums would hide everything behind them.
    let mut reader = Reader::new(false, Some(bytes.len() as u64));
    let mut events = Vec::new();
    let mut left = bytes.clone();
    loop {
        match reader.next_event() {
            Ok(Some(event)) => events.push(event),
            Ok(None) if reader.has_ended() => return (events, None),
            Ok(None) if left.is_empty() => reader.end_input(),
            Ok(None) => reader.feed(left.split_to(piece.min(left.len()))),
            Err(error) => return (events, Some(error)),
        }
    }
}

fn payload(bytes: &[u8]) {
    let mut payload = [bytes, &12u16.to_le_bytes()].concat();
    let crc = crc64::update(0, &payload);
    payload.extend_from_slice(&crc.to_le_bytes());
    if let Ok(object) = dump::take(&payload.into()) {
        let again = dump::put(&object, &mut StringWriter::new(true));
        assert!(dump::take(&again.into()).is_ok());
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&piece, input)) = input.split_first() else {
        return;
    };
    // A file of the corpus begins with its signature.
    let (piece, input) = match piece {
        b'R' | b'V' => (100, [&[piece], input].concat()),
        _ => (1 + usize::from(piece), input.to_vec()),
    };
    payload(&input);
    let bytes = Bytes::from(input);
    assert_eq!(events(&bytes, piece), events(&bytes, usize::MAX));
});
