//! Whatever bytes arrive, in whatever two pieces: the parser neither panics nor depends on the cut.
//!
//! `cargo install cargo-fuzz && cargo +nightly fuzz run requests -- -max_len=70000`. The bounded
//! twin of this, which needs no nightly, is a test of `resp::parse`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pinion::resp::{Limits, Parsed, Parser, ProtocolError};

type Requests = Vec<Vec<Vec<u8>>>;

fn requests(pieces: &[&[u8]], limits: &Limits) -> Result<Requests, ProtocolError> {
    let mut parser = Parser::default();
    let mut buffer: Vec<u8> = Vec::new();
    let mut found = Vec::new();
    for piece in pieces {
        let taken = parser.feed_large(piece);
        buffer.extend_from_slice(&piece[taken..]);
        while !parser.wants_large() {
            match parser.parse(&buffer, limits)? {
                Parsed::Incomplete => break,
                Parsed::Empty { consumed } => drop(buffer.drain(..consumed)),
                Parsed::Large { keep } => buffer.truncate(keep),
                Parsed::Request { consumed } => {
                    found.push(parser.args(&buffer).iter().map(<[u8]>::to_vec).collect());
                    parser.next();
                    buffer.drain(..consumed);
                }
            }
        }
    }
    Ok(found)
}

fuzz_target!(|input: (bool, u16, &[u8])| {
    let (authenticated, cut, bytes) = input;
    let limits = Limits {
        authenticated,
        ..Limits::default()
    };
    let (left, right) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let whole = requests(&[bytes], &limits);
    let cut = requests(&[left, right], &limits);
    // A line that is too long is noticed while it is incomplete, so only its end may differ.
    if bytes.len() < 65_536 {
        assert_eq!(whole, cut);
    }
});
