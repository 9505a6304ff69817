use super::*;

/// Feeds `input` in the given pieces as a session does and returns the requests, or the error.
fn requests(pieces: &[&[u8]], limits: &Limits) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
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

fn whole(input: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
    requests(&[input], &Limits::default())
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

#[test]
fn a_stream_parses_alike_however_it_is_cut() {
    let mut stream =
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\n0123456789\r\nPING hello\r\n\r\n*0\r\n*-1\r\n"
            .to_vec();
    let value = vec![b'v'; LARGE_ARG_BYTES + 7];
    stream.extend_from_slice(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n");
    stream.extend_from_slice(format!("${}\r\n", value.len()).as_bytes());
    stream.extend_from_slice(&value);
    stream.extend_from_slice(b"\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n");
    let expected = vec![
        words("SET k 0123456789"),
        words("PING hello"),
        vec![b"SET".to_vec(), b"big".to_vec(), value],
        vec![b"GET".to_vec(), vec![]],
    ];
    assert_eq!(whole(&stream).unwrap(), expected);
    let interesting = (0..200).chain(stream.len() - 60..stream.len());
    for cut in interesting {
        let (left, right) = stream.split_at(cut);
        assert_eq!(
            requests(&[left, right], &Limits::default()).unwrap(),
            expected,
            "cut at {cut}"
        );
    }
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(requests(&bytes, &Limits::default()).unwrap(), expected);
}

#[test]
fn bad_requests_are_refused_in_redis_words() {
    use ProtocolError::*;
    let long = vec![b'1'; LINE_MAX_BYTES + 1];
    let cases: Vec<(Vec<u8>, ProtocolError)> = vec![
        (b"*a\r\n".to_vec(), MultibulkLength),
        (b"*2147483648\r\n".to_vec(), MultibulkLength),
        (b"*1\r\n:1\r\n".to_vec(), ExpectedDollar(b':')),
        (b"*1\r\n$a\r\n".to_vec(), BulkLength),
        (b"*1\r\n$-1\r\n".to_vec(), BulkLength),
        (b"*1\r\n$536870913\r\n".to_vec(), BulkLength),
        (b"set \"k\r\n".to_vec(), UnbalancedQuotes),
        (b"set \"k\"x\r\n".to_vec(), UnbalancedQuotes),
        (long.clone(), InlineTooLong),
        ([b"*", long.as_slice()].concat(), MultibulkLineTooLong),
        ([b"*1\r\n$", long.as_slice()].concat(), BulkLineTooLong),
    ];
    for (input, error) in cases {
        assert_eq!(whole(&input), Err(error));
    }
    let guest = Limits {
        authenticated: false,
        ..Limits::default()
    };
    assert_eq!(
        requests(&[b"*11\r\n"], &guest),
        Err(UnauthenticatedMultibulk)
    );
    assert_eq!(
        requests(&[b"*1\r\n$16385\r\n"], &guest),
        Err(UnauthenticatedBulk)
    );
    assert_eq!(
        ExpectedDollar(b'x').to_string(),
        "ERR Protocol error: expected '$', got 'x'"
    );
}

#[test]
fn quotes_and_escapes_split_as_in_redis() {
    let split = |line: &str| {
        split_quoted(line.as_bytes()).map(|words| {
            words
                .iter()
                .map(|w| String::from_utf8_lossy(w).into_owned())
                .collect()
        })
    };
    let case = |line: &str, expected: Option<Vec<&str>>| {
        let found: Option<Vec<String>> = split(line);
        let expected: Option<Vec<String>> =
            expected.map(|words| words.into_iter().map(str::to_owned).collect());
        assert_eq!(found, expected, "{line}");
    };
    case("  a b  ", Some(vec!["a", "b"]));
    case(r#""a b" 'c d'"#, Some(vec!["a b", "c d"]));
    case(r#""\x41\n\q""#, Some(vec!["A\nq"]));
    case(r"'it\'s \n'", Some(vec![r"it's \n"]));
    case(r#"a"b c""#, Some(vec!["ab c"]));
    case(r#""""#, Some(vec![""]));
    case(r#""open"#, None);
    case(r#""a"b"#, None);
}

#[test]
fn announced_lengths_allocate_nothing() {
    let mut parser = Parser::default();
    let found = parser
        .parse(b"*2147483647\r\n", &Limits::default())
        .unwrap();
    assert_eq!(found, Parsed::Incomplete);
    assert!(parser.spans.capacity() <= SPANS_KEPT);
}

/// Random bytes drawn from the protocol's own alphabet: no panic, and cutting changes nothing.
#[test]
fn random_streams_never_panic_and_cut_alike() {
    let seed = 0x5eed;
    let mut rng = fastrand::Rng::with_seed(seed);
    let alphabet = b"*$123-0\r\n\r\n\"'\\x ab";
    let tokens: [&[u8]; 6] = [
        b"*1\r\n",
        b"*2\r\n",
        b"$1\r\n",
        b"a\r\n",
        b"\r\n",
        b"$2\r\nhi\r\n",
    ];
    for round in 0..20_000 {
        let mut stream = Vec::new();
        for _ in 0..rng.usize(1..24) {
            if rng.bool() {
                stream.extend_from_slice(tokens[rng.usize(..tokens.len())]);
            } else {
                stream.push(alphabet[rng.usize(..alphabet.len())]);
            }
        }
        let at = rng.usize(..=stream.len());
        let (left, right) = stream.split_at(at);
        let limits = Limits::default();
        let cut = requests(&[left, right], &limits);
        assert_eq!(
            cut,
            whole(&stream),
            "seed {seed:#x} round {round}: {stream:?} cut at {at}"
        );
    }
}

/// Bytes that are nearly requests: whole ones, some of them damaged, glued together.
fn near_requests(random: &mut fastrand::Rng) -> Vec<u8> {
    const PARTS: [&[u8]; 12] = [
        b"*1\r\n$4\r\nPING\r\n",
        b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"\r\n",
        b"\n",
        b"PING \"a b\\x41\" 'c'\r\n",
        b"*3\r\n$3\r\nSET\r\n$2\r\n\r\n\r\n$1\r\n*\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n:1\r\n",
        b"$3\r\nGET\r\n",
        b"\0\xff",
    ];
    let mut stream = Vec::new();
    for _ in 0..random.usize(1..12) {
        if random.u8(..) < 10 {
            let len = LARGE_ARG_BYTES - 2 + random.usize(0..4);
            stream.extend_from_slice(format!("*2\r\n$4\r\nECHO\r\n${len}\r\n").as_bytes());
            stream.resize(stream.len() + len, b'\r');
            stream.extend_from_slice(b"\r\n");
        } else {
            stream.extend_from_slice(PARTS[random.usize(..PARTS.len())]);
        }
    }
    if random.bool() {
        let at = random.usize(..stream.len());
        stream[at] = random.u8(..);
    }
    stream
}

#[test]
fn any_bytes_parse_alike_however_they_are_cut() {
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    let limits = Limits::default();
    let mut parsed = 0;
    for round in 0..3_000 {
        let stream = near_requests(&mut random);
        let expected = requests(&[&stream], &limits);
        parsed += expected.as_ref().map_or(0, Vec::len);
        let mut cuts: Vec<usize> = (0..3).map(|_| random.usize(..=stream.len())).collect();
        cuts.sort_unstable();
        let pieces = [
            &stream[..cuts[0]],
            &stream[cuts[0]..cuts[1]],
            &stream[cuts[1]..cuts[2]],
            &stream[cuts[2]..],
        ];
        let got = requests(&pieces, &limits);
        assert_eq!(got, expected, "seed {seed}, round {round}, cuts {cuts:?}");
    }
    assert!(
        parsed > 1_000,
        "seed {seed}: only {parsed} requests were whole"
    );
}
