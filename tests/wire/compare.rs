//! Runs case files on both servers and says where replies differ.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;

use crate::client::{Client, Got, line_end};
use crate::process::{Server, Which};
use crate::transcript::{Compare, Replies, Request, Section, Step, parse};

/// Enough to see a pattern; the rest of a broken run repeats it.
const SHOWN_MAX: usize = 40;

/// Case files that change keys of every type.
pub const WRITING_CASES: [&str; 10] = [
    "bitmaps",
    "collections",
    "hashes",
    "keyspace",
    "lists",
    "sets",
    "sorted_sets",
    "streams",
    "strings",
    "transactions",
];

pub fn cases_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wire/cases")
}

/// Runs one case file against the reference and against Pinion with 1, 2 and 4 shards.
///
/// # Panics
/// When a reply differs, and when nothing was compared.
pub fn run(file: &str) {
    let text = std::fs::read_to_string(cases_dir().join(file)).expect("the case file");
    let sections = parse(file, &text);
    let reference = Server::start(Which::Reference, &[]);
    let wanted: Vec<Played> = play_all(&reference, &sections);
    let mut compared = 0;
    let mut complaints = Vec::new();
    for shards in [1, 2, 4] {
        let pinion = Server::start(Which::Pinion { shards }, &[]);
        let got = play_all(&pinion, &sections);
        for (wanted, got) in wanted.iter().zip(&got) {
            compared += 1;
            if let Some(complaint) = judge(wanted, got) {
                complaints.push(format!(
                    "{file}:{} RESP{} shards {shards}: {}\n{complaint}",
                    got.request.line_number, got.protocol, got.request.line,
                ));
            }
        }
    }
    assert!(compared > 0, "{file}: nothing was compared");
    let more = complaints.len().saturating_sub(SHOWN_MAX);
    complaints.truncate(SHOWN_MAX);
    assert!(
        complaints.is_empty(),
        "\n{}\n(and {more} more; {compared} replies compared)\n",
        complaints.join("\n")
    );
}

/// One request and what one server answered.
struct Played<'a> {
    request: &'a Request,
    protocol: u8,
    got: Vec<Got>,
}

/// Plays every section in each of its protocols. `ref` requests leave no entry, nor do those whose
/// replies nobody compares, so that entries of two servers pair up.
fn play_all<'a>(server: &Server, sections: &'a [Section]) -> Vec<Played<'a>> {
    let mut played = Vec::new();
    for section in sections {
        for &protocol in &section.protocols {
            let cleared = server.client().words("FLUSHALL");
            assert_eq!(
                cleared,
                Got::Reply(b"+OK\r\n".to_vec()),
                "{}: FLUSHALL before `{}`",
                server.which,
                section.title
            );
            play(server, section, protocol, &mut played);
        }
    }
    played
}

fn play<'a>(server: &Server, section: &'a Section, protocol: u8, played: &mut Vec<Played<'a>>) {
    let mut connections: BTreeMap<u32, Client> = BTreeMap::new();
    for step in &section.steps {
        let request = match step {
            Step::Sleep(wait) => {
                thread::sleep(*wait);
                continue;
            }
            Step::Send(request) => request,
        };
        let is_reference = server.which == Which::Reference;
        let sent = match request.compare {
            Compare::New => !is_reference,
            Compare::ReferenceOnly => is_reference,
            _ => true,
        };
        let mut got = Vec::new();
        if sent {
            let client = connections
                .entry(request.connection)
                .or_insert_with(|| connect(server, protocol));
            client.send(&request.bytes);
            got = replies(client, request.replies);
        }
        if got.iter().any(|got| !matches!(got, Got::Reply(_))) {
            connections.remove(&request.connection);
        }
        if !matches!(request.compare, Compare::ReferenceOnly | Compare::Nothing) {
            played.push(Played {
                request,
                protocol,
                got,
            });
        }
    }
}

fn connect(server: &Server, protocol: u8) -> Client {
    let mut client = server.client();
    if protocol == 3 {
        let hello = client.words("HELLO 3");
        assert!(
            matches!(&hello, Got::Reply(bytes) if bytes.starts_with(b"%")),
            "{}: HELLO 3: {}",
            server.which,
            hello.shown()
        );
    }
    client
}

fn replies(client: &mut Client, replies: Replies) -> Vec<Got> {
    match replies {
        Replies::Count(count) => (0..count).map(|_| client.reply()).collect(),
        Replies::UntilClosed => vec![client.until_closed()],
        Replies::OneThenClosed => vec![client.reply(), client.until_closed()],
    }
}

/// What is wrong with Pinion's replies, if anything.
fn judge(wanted: &Played, got: &Played) -> Option<String> {
    let request = got.request;
    let complain = |wanted: String| {
        let got: Vec<String> = got.got.iter().map(Got::shown).collect();
        Some(format!("  want {wanted}\n  got  {}", got.join(" ")))
    };
    if matches!(request.compare, Compare::New | Compare::Differs) {
        let expected = request
            .expected
            .iter()
            .find(|(protocol, _)| [0, got.protocol].contains(protocol));
        let Some((_, expected)) = expected else {
            return complain(format!("a `<` line for RESP{}", got.protocol));
        };
        if !is_expected(expected, &got.got) {
            return complain(Got::Reply(expected.clone()).shown());
        }
        if request.compare == Compare::Differs && is_expected(expected, &wanted.got) {
            return complain("something the reference does not answer: they agree".to_string());
        }
        return None;
    }
    let same = wanted.got.len() == got.got.len()
        && wanted
            .got
            .iter()
            .zip(&got.got)
            .all(|(wanted, got)| equal(wanted, got, &request.compare));
    if same {
        return None;
    }
    let wanted: Vec<String> = wanted.got.iter().map(Got::shown).collect();
    complain(wanted.join(" "))
}

/// Whether there is one reply, with the lines of a case file's `<` lines.
fn is_expected(expected: &[u8], got: &[Got]) -> bool {
    let [Got::Reply(got)] = got else {
        return false;
    };
    let lines = |bytes| std::str::from_utf8(bytes).map(|text: &str| text.split("\r\n"));
    let (Ok(expected_lines), Ok(got_lines)) = (lines(expected), lines(got)) else {
        return expected == got;
    };
    expected_lines.clone().count() == got_lines.clone().count()
        && expected_lines
            .zip(got_lines)
            .all(|(expected, got)| expected == got || in_range(expected, got).unwrap_or(false))
}

/// Whether `:5` lies in `:0..9`; none if the one is no integer or the other no range.
fn in_range(expected: &str, got: &str) -> Option<bool> {
    let (least, most) = expected.strip_prefix(':')?.split_once("..")?;
    let got: i64 = got.strip_prefix(':')?.parse().ok()?;
    Some((least.parse().ok()?..=most.parse().ok()?).contains(&got))
}

fn equal(wanted: &Got, got: &Got, compare: &Compare) -> bool {
    let (Got::Reply(wanted), Got::Reply(got)) = (wanted, got) else {
        // A server that says nothing agrees with no one, not even with another silent one.
        return wanted == got && !matches!(got, Got::Silence(_));
    };
    match compare {
        Compare::Type => wanted[0] == got[0],
        Compare::Near(distance) => match (integer(wanted), integer(got)) {
            (Some(wanted), Some(got)) => wanted.abs_diff(got) <= distance.unsigned_abs(),
            _ => false,
        },
        Compare::Unordered | Compare::Masked(_) | Compare::Shape => {
            let normal = |bytes: &[u8]| normalised(&mut &*bytes, compare);
            normal(wanted) == normal(got)
        }
        _ => wanted == got,
    }
}

fn integer(reply: &[u8]) -> Option<i64> {
    let digits = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A reply with what does not count taken out; two replies that become equal are equal.
pub fn normalised(reply: &mut &[u8], compare: &Compare) -> Vec<u8> {
    let end = line_end(reply, 0).expect("a whole reply");
    let (line, rest) = reply.split_at(end);
    *reply = rest;
    let kind = line[0];
    let count: i64 = std::str::from_utf8(&line[1..end - 2])
        .ok()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(-1);
    match kind {
        b'$' | b'=' | b'!' if count >= 0 => {
            let len = usize::try_from(count).expect("not negative");
            let (body, rest) = reply.split_at(len + 2);
            *reply = rest;
            match compare {
                Compare::Shape => vec![kind],
                // The length tells how wide the masked values were: leave it out.
                Compare::Masked(words) => [&[kind], masked(body, words).as_slice()].concat(),
                _ => [line, body].concat(),
            }
        }
        b'*' | b'~' | b'>' | b'%' if count >= 0 => {
            let mut items: Vec<Vec<u8>> = (0..count)
                .map(|_| {
                    let mut item = normalised(reply, compare);
                    if kind == b'%' {
                        item.extend(normalised(reply, compare));
                    }
                    item
                })
                .collect();
            if *compare == Compare::Unordered {
                items.sort();
            }
            [line, items.concat().as_slice()].concat()
        }
        _ => match compare {
            Compare::Shape => vec![kind],
            Compare::Masked(words) => masked(line, words),
            _ => line.to_vec(),
        },
    }
}

/// `word=value` and `word:value` lose the value if the word is named.
fn masked(body: &[u8], words: &[String]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.split_inclusive(|byte| b" \r\n,".contains(byte)) {
        let named = words.iter().find(|word| {
            piece.starts_with(word.as_bytes()) && matches!(piece.get(word.len()), Some(b'=' | b':'))
        });
        match named {
            Some(word) => {
                out.extend_from_slice(word.as_bytes());
                out.extend(piece.last().filter(|byte| b" \r\n,".contains(byte)));
            }
            None => out.extend_from_slice(piece),
        }
    }
    out
}

#[test]
fn comparisons_tell_same_from_different() {
    let reply = |text: &str| Got::Reply(text.as_bytes().to_vec());
    let same = |a: &str, b: &str, compare: &Compare| equal(&reply(a), &reply(b), compare);
    assert!(!same("+OK\r\n", "+ok\r\n", &Compare::Bytes));
    assert!(same(":5\r\n", ":6\r\n", &Compare::Near(1)));
    assert!(!same(":5\r\n", ":7\r\n", &Compare::Near(1)));
    assert!(!same(":5\r\n", "+5\r\n", &Compare::Near(1)));
    let (ab, ba) = (
        "*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        "*2\r\n$1\r\nb\r\n$1\r\na\r\n",
    );
    assert!(same(ab, ba, &Compare::Unordered));
    assert!(!same(ab, ba, &Compare::Bytes));
    assert!(!same(
        ab,
        "*2\r\n$1\r\na\r\n$1\r\na\r\n",
        &Compare::Unordered
    ));
    let mask = Compare::Masked(vec!["id".to_string()]);
    assert!(same("$8\r\nid=1 a=1\r\n", "$9\r\nid=22 a=1\r\n", &mask));
    assert!(!same("$8\r\nid=1 a=1\r\n", "$8\r\nid=1 a=2\r\n", &mask));
    assert!(same("+told id:1 a\r\n", "+told id:22 a\r\n", &mask));
    assert!(!same("+told id:1 a\r\n", "+told id:1 b\r\n", &mask));
    assert!(same(
        "*1\r\n$1\r\na\r\n",
        "*1\r\n$2\r\nab\r\n",
        &Compare::Shape
    ));
    assert!(!same("*1\r\n$1\r\na\r\n", "*1\r\n:1\r\n", &Compare::Shape));
    let expected = |expected: &str, got| is_expected(expected.as_bytes(), &[reply(got)]);
    let idle = "*2\r\n$1\r\na\r\n:0..9\r\n";
    assert!(expected(idle, "*2\r\n$1\r\na\r\n:9\r\n"));
    assert!(!expected(idle, "*2\r\n$1\r\na\r\n:10\r\n"));
    assert!(!expected(idle, "*2\r\n$1\r\nb\r\n:0\r\n"));
    assert!(!expected(idle, "*2\r\n$1\r\na\r\n"));
    assert!(!equal(
        &Got::Silence(Vec::new()),
        &Got::Silence(Vec::new()),
        &Compare::Bytes
    ));
}
