//! Case files: commands for both servers, one a line, and how their replies are compared.
//!
//! ```text
//! # a comment
//! == SET and its options            a section: fresh connections, empty databases
//! !only 3                           the section is run in RESP3 only (default: in 2 and in 3)
//! !sleep 5                          milliseconds
//! SET k "a b\x00" EX 100            quoting as in redis-cli; {x*1000} stands for 1000 times x
//! [@2] GET k                        on a second connection (any number; opened when first named)
//! [near 2] TTL k                    integers may differ by so much
//! [unordered] KEYS *                elements of the reply are a multiset
//! [mask id age] CLIENT INFO         the values of `id=..` and `age:..` are not compared
//! [type] RANDOMKEY                  only the kind of the reply
//! [shape] TIME                      kinds and lengths of arrays
//! [any] CLIENT ID                   read, not compared
//! [eof] QUIT                        behind the reply comes the end of the connection
//! [silent] CLIENT REPLY OFF         no reply is read
//! [raw 2] PING\r\nPING\r\n          bytes as they are, with so many replies (`raw eof`: all there is)
//! [inline] SET k "a b"              the line as an inline command
//! [ref] DEL k                       for the reference only, reply ignored
//! [new] DELIFEQ k v                 newer than the reference, so only for Pinion; its reply follows:
//! <:1                               escaped bytes, CRLF added; `<2` and `<3` for one protocol
//! <:0..5000                         an integer in this range, its ends included
//! [differs a reason] LOLWUT         deliberately not the same: Pinion's reply follows likewise
//! ```

use std::time::Duration;

/// One section of a case file.
pub struct Section {
    pub title: String,
    /// RESP versions the section runs in.
    pub protocols: Vec<u8>,
    pub steps: Vec<Step>,
}

pub enum Step {
    Sleep(Duration),
    Send(Request),
}

pub struct Request {
    pub line_number: usize,
    pub line: String,
    pub connection: u32,
    pub bytes: Vec<u8>,
    pub replies: Replies,
    pub compare: Compare,
    /// Pinion's reply where the reference cannot tell: (protocol or 0 for any, bytes).
    pub expected: Vec<(u8, Vec<u8>)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Replies {
    Count(usize),
    /// All bytes until the server closes.
    UntilClosed,
    /// One reply, then the server closes.
    OneThenClosed,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Compare {
    Bytes,
    Near(i64),
    Unordered,
    Masked(Vec<String>),
    Type,
    Shape,
    Nothing,
    ReferenceOnly,
    New,
    Differs,
}

/// Reads a case file.
///
/// # Panics
/// On anything it does not understand, with the line.
pub fn parse(file: &str, text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let place = || format!("{file}:{}: {line}", index + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("== ") {
            sections.push(Section {
                title: title.trim().to_string(),
                protocols: vec![2, 3],
                steps: Vec::new(),
            });
            continue;
        }
        let section = sections
            .last_mut()
            .unwrap_or_else(|| panic!("{}: no section yet", place()));
        if let Some(directive) = line.strip_prefix('!') {
            apply(section, directive).unwrap_or_else(|| panic!("{}: unknown directive", place()));
        } else if let Some(expected) = line.strip_prefix('<') {
            let Some(Step::Send(request)) = section.steps.last_mut() else {
                panic!("{}: no request to expect this of", place());
            };
            expect(request, expected).unwrap_or_else(|| panic!("{}: bad escape", place()));
        } else {
            let request =
                request(index + 1, line).unwrap_or_else(|| panic!("{}: cannot be read", place()));
            section.steps.push(Step::Send(request));
        }
    }
    sections
}

fn apply(section: &mut Section, directive: &str) -> Option<()> {
    let (name, value) = directive.split_once(' ')?;
    match name {
        "only" => section.protocols = vec![value.trim().parse().ok()?],
        "sleep" => {
            let wait = Duration::from_millis(value.trim().parse().ok()?);
            section.steps.push(Step::Sleep(wait));
        }
        _ => return None,
    }
    Some(())
}

fn expect(request: &mut Request, line: &str) -> Option<()> {
    let (protocol, rest) = match line.as_bytes().first() {
        Some(b'2') => (2, &line[1..]),
        Some(b'3') => (3, &line[1..]),
        _ => (0, line),
    };
    let mut bytes = unescape(rest.trim())?;
    bytes.extend_from_slice(b"\r\n");
    match request.expected.iter_mut().find(|(of, _)| *of == protocol) {
        Some((_, so_far)) => so_far.extend_from_slice(&bytes),
        None => request.expected.push((protocol, bytes)),
    }
    Some(())
}

fn request(line_number: usize, line: &str) -> Option<Request> {
    let mut request = Request {
        line_number,
        line: line.to_string(),
        connection: 1,
        bytes: Vec::new(),
        replies: Replies::Count(1),
        compare: Compare::Bytes,
        expected: Vec::new(),
    };
    let mut rest = line;
    let mut raw = false;
    let mut inline = false;
    while let Some(option) = rest.strip_prefix('[') {
        let (option, behind) = option.split_once(']')?;
        rest = behind.trim_start();
        let mut words = option.split_whitespace();
        match words.next()? {
            "near" => request.compare = Compare::Near(words.next()?.parse().ok()?),
            "unordered" => request.compare = Compare::Unordered,
            "mask" => request.compare = Compare::Masked(words.map(str::to_string).collect()),
            "type" => request.compare = Compare::Type,
            "shape" => request.compare = Compare::Shape,
            "any" => request.compare = Compare::Nothing,
            "ref" => request.compare = Compare::ReferenceOnly,
            "new" => request.compare = Compare::New,
            "differs" => {
                words.next()?; // a reason
                request.compare = Compare::Differs;
            }
            "eof" => request.replies = Replies::OneThenClosed,
            "silent" => request.replies = Replies::Count(0),
            "inline" => inline = true,
            "raw" => {
                raw = true;
                request.replies = match words.next()? {
                    "eof" => Replies::UntilClosed,
                    count => Replies::Count(count.parse().ok()?),
                };
            }
            name => request.connection = name.strip_prefix('@')?.parse().ok()?,
        }
    }
    request.bytes = if raw {
        unescape(&String::from_utf8(repeat(rest.as_bytes())).ok()?)?
    } else if inline {
        [rest.as_bytes(), b"\r\n"].concat()
    } else {
        let args: Vec<Vec<u8>> = split(rest)?.iter().map(|arg| repeat(arg)).collect();
        crate::client::encode(&args)
    };
    Some(request)
}

/// `{x*1000}` becomes a thousand x.
fn repeat(arg: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < arg.len() {
        if let Some((byte, count, len)) = repetition(&arg[at..]) {
            out.resize(out.len() + count, byte);
            at += len;
        } else {
            out.push(arg[at]);
            at += 1;
        }
    }
    out
}

fn repetition(arg: &[u8]) -> Option<(u8, usize, usize)> {
    if arg.len() < 5 || arg[0] != b'{' || arg[2] != b'*' {
        return None;
    }
    let close = arg.iter().position(|&byte| byte == b'}')?;
    let count = std::str::from_utf8(&arg[3..close]).ok()?.parse().ok()?;
    Some((arg[1], count, close + 1))
}

/// Words as redis-cli splits them: "escapes", 'no escapes', or bare.
pub fn split(line: &str) -> Option<Vec<Vec<u8>>> {
    let bytes = line.as_bytes();
    let mut args = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at].is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let mut arg = Vec::new();
        while at < bytes.len() && !bytes[at].is_ascii_whitespace() {
            let quote = bytes[at];
            if quote == b'"' || quote == b'\'' {
                let close = closing(bytes, at)?;
                let inner = &line[at + 1..close];
                match quote {
                    b'"' => arg.extend(unescape(inner)?),
                    _ => arg.extend_from_slice(inner.as_bytes()),
                }
                at = close + 1;
            } else {
                arg.push(quote);
                at += 1;
            }
        }
        args.push(arg);
    }
    Some(args)
}

fn closing(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if bytes[open] == b'"' => at += 2,
            byte if byte == bytes[open] => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// `\n`, `\r`, `\t`, `\\`, `\"`, `\0` and `\xHH`.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'\\' {
            out.push(bytes[at]);
            at += 1;
            continue;
        }
        at += 2;
        out.push(match bytes.get(at - 1)? {
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'0' => 0,
            b'x' => {
                at += 2;
                u8::from_str_radix(text.get(at - 2..at)?, 16).ok()?
            }
            other @ (b'\\' | b'"' | b'\'') => *other,
            _ => return None,
        });
    }
    Some(out)
}

#[test]
fn lines_become_requests() {
    let text = "== t\n!only 3\nSET k \"a b\\x00\" '{}' {x*3}\n[@2] [near 2] TTL k\n[new] X\n<:1\n";
    let sections = parse("t.txt", text);
    assert_eq!(sections.len(), 1);
    assert_eq!(sections[0].protocols, [3]);
    let Step::Send(set) = &sections[0].steps[0] else {
        panic!("a request");
    };
    let args: [&[u8]; 5] = [b"SET", b"k", b"a b\0", b"{}", b"xxx"];
    assert_eq!(set.bytes, crate::client::encode(&args));
    let Step::Send(ttl) = &sections[0].steps[1] else {
        panic!("a request");
    };
    assert_eq!((ttl.connection, &ttl.compare), (2, &Compare::Near(2)));
    let Step::Send(new) = &sections[0].steps[2] else {
        panic!("a request");
    };
    assert_eq!(new.expected, [(0, b":1\r\n".to_vec())]);
}
