//! The rules of the house that a machine can check, so that review can be about design.
//!
//! Every rule is a function from source text to complaints, and every rule is shown a snippet
//! that breaks it: a rule that cannot fail protects nothing. The checks read text, not syntax
//! trees: comments, literals and `#[cfg(test)]` items are blanked first, and what is left is
//! regular enough (rustfmt has been over it).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms a room may name. A room missing here may not exist; an arrow missing here may
/// not be drawn. The order is the order of the design: arrows only ever point upwards in it.
const ARROWS: &[(&str, &[&str])] = &[
    ("number", &[]),
    ("resp", &[]),
    ("value", &[]),
    ("rdb", &["value"]),
    ("keyspace", &["value"]),
    ("command", &["resp", "value", "rdb", "keyspace"]),
    // Users: what each may do with the commands of the table.
    ("acl", &["resp", "command"]),
    ("journal", &["resp"]),
    // Lua: a script asks for commands and gets replies; it knows neither keys nor shards.
    ("script", &["resp"]),
    (
        "shard",
        &["resp", "value", "rdb", "keyspace", "command", "journal"],
    ),
    (
        "coordinator",
        &[
            "resp", "value", "rdb", "keyspace", "command", "journal", "shard",
        ],
    ),
    (
        "session",
        &[
            "resp",
            "value",
            "rdb",
            "keyspace",
            "command",
            "acl",
            "journal",
            "script",
            "shard",
            "coordinator",
        ],
    ),
    // The driver cuts requests out of the receive buffer where they lie; it knows no command.
    ("runtime", &["resp"]),
    (
        "server",
        &[
            "resp",
            "value",
            "rdb",
            "keyspace",
            "command",
            "acl",
            "journal",
            "script",
            "shard",
            "coordinator",
            "session",
            "runtime",
        ],
    ),
];

/// How numbers read as text: every room may use it, and it uses none.
const LEAF: &str = "number";

/// The crates that only `runtime` may name.
const RUNTIME_CRATES: &[&str] = &["glommio", "io_uring"];

/// Rooms that touch the world: the others are synchronous state machines which receive the time,
/// the bytes and the seeds they need.
const WORLDLY: &[&str] = &["runtime", "server"];

/// What a pure room may not say, and what to do instead.
const WORLDLY_WORDS: &[(&str, &str)] = &[
    ("SystemTime", "take `now_ms` as an argument"),
    ("Instant::now", "take the time as an argument"),
    (
        "async",
        "a state machine is driven, it does not suspend itself",
    ),
    (
        ".await",
        "a state machine is driven, it does not suspend itself",
    ),
    (
        "std::fs",
        "leave files to `runtime`, work on bytes and records",
    ),
    // `std::net::SocketAddr` and its like are plain values and may be carried around.
    ("TcpStream", "leave sockets to `runtime`, work on bytes"),
    ("TcpListener", "leave sockets to `runtime`, work on bytes"),
    ("UdpSocket", "leave sockets to `runtime`, work on bytes"),
    ("UnixStream", "leave sockets to `runtime`, work on bytes"),
    ("UnixListener", "leave sockets to `runtime`, work on bytes"),
    ("ToSocketAddrs", "it asks a name server"),
    ("std::thread", "a room has no threads"),
    ("std::env", "the environment is read once, by `server`"),
    ("std::process", "processes belong to `server`"),
    (
        "fastrand::Rng::new",
        "seed the generator from an argument (`Rng::with_seed`)",
    ),
];

/// Where `unsafe` may stand, as path prefixes below `src`. Each site carries a `SAFETY:` comment
/// (clippy's `undocumented_unsafe_blocks`); each entry carries its reason here.
const UNSAFE_ALLOWED: &[(&str, &str)] = &[
    (
        "runtime/",
        "the kernel writes into buffers we lend it: io_uring has no safe interface",
    ),
    (
        "script/engine/interpreter.rs",
        "Lua's debug library, the hook that suspends scripts, and values on a coroutine's stack: a sixth of \
         what EVALSHA of a GET cost was the binding's way of handing them out",
    ),
    (
        "value/fetch.rs",
        "one instruction that asks memory ahead: SADD into 100,000 members 0.62 us without, 0.56 with it",
    ),
];

/// Lines of a file without its tests.
const FILE_LINES_MAX: usize = 1_000;

/// Lines of a function from `fn` to its closing brace: what fits a screen.
const FN_LINES_MAX: usize = 70;

/// Files no `mod` line reaches although they are meant to be there.
const ROOTS: &[&str] = &["lib.rs", "main.rs"];

// ---- reading ---------------------------------------------------------------------------------

/// One source file: its path below `src` with `/`, its text, and its text as the rules see it.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let bare = blank_literals(text);
        Source {
            path: path.to_string(),
            text: text.to_string(),
            code: blank_tests(&bare),
        }
    }

    /// The room the file belongs to: the first folder, or the file's stem at the top.
    fn room(&self) -> &str {
        match self.path.split_once('/') {
            Some((room, _)) => room,
            None => self.path.trim_end_matches(".rs"),
        }
    }

    /// A file that only exists under `cfg(test)`.
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or("");
        name == "tests.rs"
            || name == "testing.rs"
            || name.ends_with("_tests.rs")
            || self.path.contains("/tests/")
    }

    fn line_of(&self, at: usize) -> usize {
        1 + self.code[..at].matches('\n').count()
    }

    fn complain(&self, at: usize, what: impl std::fmt::Display) -> String {
        format!("src/{}:{}: {what}", self.path, self.line_of(at))
    }
}

/// The text with comments and the insides of literals turned into spaces; offsets and lines stay.
fn blank_literals(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match literal_end(bytes, at) {
            Some(end) => end,
            None => {
                at += 1;
                continue;
            }
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).expect("only whole literals were replaced by spaces")
}

/// Where the comment or literal that starts at `at` ends, if one starts there.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        return Some(find(bytes, at, b"\n").unwrap_or(bytes.len()));
    }
    if rest.starts_with(b"/*") {
        return Some(find(bytes, at, b"*/").map_or(bytes.len(), |end| end + 2));
    }
    if rest[0] == b'"' {
        return Some(quoted_end(bytes, at));
    }
    if !word_before && matches!(rest[0], b'r' | b'b') {
        let hashes_at = at + 1 + usize::from(rest.starts_with(b"br"));
        let hashes = bytes[hashes_at.min(bytes.len())..]
            .iter()
            .take_while(|&&byte| byte == b'#')
            .count();
        let raw = rest[0] == b'r' || rest.starts_with(b"br");
        if raw && bytes.get(hashes_at + hashes) == Some(&b'"') {
            let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
            let from = hashes_at + hashes + 1;
            return Some(find(bytes, from, &close).map_or(bytes.len(), |end| end + close.len()));
        }
    }
    if rest[0] == b'\'' {
        return char_end(bytes, at);
    }
    None
}

fn quoted_end(bytes: &[u8], open: usize) -> usize {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The end of a character literal; `None` for a lifetime.
fn char_end(bytes: &[u8], open: usize) -> Option<usize> {
    if bytes.get(open + 1) == Some(&b'\\') {
        return find(bytes, open + 3, b"'").map(|end| end + 1);
    }
    // At most four bytes of UTF-8 between the quotes; a lifetime has no closing quote so near,
    // and where it has ('a,'b) the byte between is no identifier's start.
    let text = std::str::from_utf8(&bytes[open + 1..]).ok()?;
    let char_len = text.chars().next()?.len_utf8();
    (bytes.get(open + 1 + char_len) == Some(&b'\'')).then_some(open + 2 + char_len)
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    if from >= bytes.len() {
        return None;
    }
    bytes[from..]
        .windows(what.len())
        .position(|window| window == what)
        .map(|at| from + at)
}

/// Code without the items that stand under `#[cfg(test)]`.
fn blank_tests(code: &str) -> String {
    let mut out = code.as_bytes().to_vec();
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let end = item_end(code.as_bytes(), at + attribute.len());
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    String::from_utf8(out).expect("only whole items were replaced by spaces")
}

/// The end of the item that starts at `at`: its `;`, or the brace that closes its body.
fn item_end(code: &[u8], mut at: usize) -> usize {
    let mut nested = 0usize;
    while at < code.len() {
        match code[at] {
            b'(' | b'[' => nested += 1,
            b')' | b']' => nested = nested.saturating_sub(1),
            b';' if nested == 0 => return at + 1,
            b'{' if nested == 0 => return brace_end(code, at),
            _ => {}
        }
        at += 1;
    }
    code.len()
}

/// Just behind the brace that closes the one at `open`.
fn brace_end(code: &[u8], open: usize) -> usize {
    let mut depth = 0usize;
    for (at, byte) in code.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    code.len()
}

/// Positions at which `word` stands as a whole word (or path) in `code`.
fn word_positions<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| {
            let before = at.checked_sub(1).map(|at| code.as_bytes()[at]);
            let after = code.as_bytes().get(at + word.len()).copied();
            let starts_open = !word.starts_with(|c: char| c.is_ascii_alphanumeric());
            (starts_open || !before.is_some_and(is_word)) && !after.is_some_and(is_word)
        })
}

fn ident_at(code: &str, at: usize) -> &str {
    let rest = &code[at..];
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    &rest[..end]
}

// ---- rules -----------------------------------------------------------------------------------

/// Every `crate::room` and `use crate::{a::.., b::..}` follows an arrow; `super` stays inside.
fn check_arrows(source: &Source) -> Vec<String> {
    let room = source.room();
    if source.is_test() || ROOTS.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == room) else {
        return vec![source.complain(0, format!("room `{room}` has no row in ARROWS"))];
    };
    let mut complaints = Vec::new();
    for at in word_positions(&source.code, "crate") {
        for named in named_rooms(&source.code, at + "crate".len()) {
            let is_open = named == room || named == LEAF || allowed.contains(&named);
            if is_room(named) && !is_open {
                complaints.push(source.complain(at, format!("`{room}` may not name `{named}`")));
            }
        }
    }
    // src/room/mod.rs is one level deep, src/room/file.rs two, and so on.
    let depth = source.path.matches('/').count() + usize::from(!source.path.ends_with("/mod.rs"));
    let escape = "super::".repeat(depth);
    for at in word_positions(&source.code, escape.trim_end_matches(':')) {
        if source.code[at..].starts_with(&escape) {
            let named = ident_at(&source.code, at + escape.len());
            if is_room(named) && named != room {
                complaints.push(source.complain(at, format!("`super` leaves room `{room}`")));
            }
        }
    }
    complaints
}

fn is_room(name: &str) -> bool {
    ARROWS.iter().any(|(room, _)| *room == name)
}

/// The first path segments behind `crate`: one for `::name`, several for `::{a::x, b::{..}}`.
fn named_rooms(code: &str, at: usize) -> Vec<&str> {
    let rest = &code[at..];
    if let Some(body) = rest.strip_prefix("::{") {
        let body_at = at + rest.len() - body.len();
        let end = brace_end(code.as_bytes(), body_at - 1);
        let mut depth = 0usize;
        let mut fresh = true;
        let mut names = Vec::new();
        for (offset, c) in code[body_at..end].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                ',' if depth == 0 => fresh = true,
                c if depth == 0 && fresh && !c.is_whitespace() => {
                    names.push(ident_at(code, body_at + offset));
                    fresh = false;
                }
                _ => {}
            }
        }
        return names;
    }
    match rest.strip_prefix("::") {
        Some(_) => vec![ident_at(code, at + 2)],
        None => Vec::new(),
    }
}

fn check_runtime_crates(source: &Source) -> Vec<String> {
    if source.room() == "runtime" {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for name in RUNTIME_CRATES {
        for at in word_positions(&source.code, name) {
            complaints.push(source.complain(at, format!("only `runtime` names `{name}`")));
        }
    }
    complaints
}

fn check_pure(source: &Source) -> Vec<String> {
    if source.is_test() || WORLDLY.contains(&source.room()) || ROOTS.contains(&source.path.as_str())
    {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (word, instead) in WORLDLY_WORDS {
        for at in word_positions(&source.code, word) {
            complaints.push(source.complain(at, format!("`{word}` in a pure room: {instead}")));
        }
    }
    complaints
}

fn check_unsafe(source: &Source) -> Vec<String> {
    let allowed = UNSAFE_ALLOWED
        .iter()
        .any(|(prefix, _)| source.path.starts_with(prefix));
    if allowed {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for word in ["unsafe", "unsafe_code"] {
        for at in word_positions(&source.code, word) {
            complaints.push(source.complain(at, "`unsafe` outside of UNSAFE_ALLOWED"));
        }
    }
    complaints
}

fn check_sizes(source: &Source) -> Vec<String> {
    if source.is_test() {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    // Comments count, blanked tests do not: what is left of a test is an empty line.
    let lines = source
        .text
        .lines()
        .zip(blank_tests(&source.text).lines())
        .filter(|(text, kept)| text.trim().is_empty() || !kept.trim().is_empty())
        .count();
    if lines > FILE_LINES_MAX {
        complaints.push(source.complain(0, format!("{lines} lines, at most {FILE_LINES_MAX}")));
    }
    for at in word_positions(&source.code, "fn") {
        let name = ident_at(&source.code, (at + 3).min(source.code.len()));
        if name.is_empty() {
            continue; // a function pointer's type
        }
        let end = item_end(source.code.as_bytes(), at);
        let lines = 1 + source.code[at..end].matches('\n').count();
        if lines > FN_LINES_MAX {
            complaints.push(source.complain(
                at,
                format!("fn {name} has {lines} lines, at most {FN_LINES_MAX}"),
            ));
        }
    }
    complaints
}

/// Files below `src` that no `mod` line reaches from the roots.
fn check_reachable(sources: &[Source]) -> Vec<String> {
    let by_path: BTreeMap<&str, &Source> = sources.iter().map(|s| (s.path.as_str(), s)).collect();
    let mut seen = BTreeSet::new();
    let mut pending: Vec<String> = ROOTS.iter().map(|root| root.to_string()).collect();
    while let Some(path) = pending.pop() {
        let Some(source) = by_path.get(path.as_str()) else {
            continue;
        };
        if !seen.insert(path.clone()) {
            continue;
        }
        let folder = match path.rsplit_once('/') {
            Some((folder, "mod.rs")) => format!("{folder}/"),
            Some(_) => format!("{}/", path.trim_end_matches(".rs")),
            None if ROOTS.contains(&path.as_str()) => String::new(),
            None => format!("{}/", path.trim_end_matches(".rs")),
        };
        // The tests' own modules count: `code` would hide them.
        let code = blank_literals(&source.text);
        for at in word_positions(&code, "mod") {
            let name = ident_at(&code, (at + 4).min(code.len()));
            if code[(at + 4 + name.len()).min(code.len())..].starts_with(';') {
                pending.push(format!("{folder}{name}.rs"));
                pending.push(format!("{folder}{name}/mod.rs"));
            }
        }
    }
    sources
        .iter()
        .filter(|source| !seen.contains(source.path.as_str()))
        .map(|source| source.complain(0, "no `mod` line reaches this file"))
        .collect()
}

/// The first sentence of every `// Differs:` comment, whose lines may continue.
fn differences(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = source.text.lines().peekable();
    while let Some(line) = lines.next() {
        let comment = line.trim_start();
        let tagged = comment
            .strip_prefix("//")
            .map(|rest| rest.trim_start_matches(['/', '!']).trim_start())
            .and_then(|rest| rest.strip_prefix("Differs:"));
        let Some(first) = tagged else { continue };
        let mut sentence = first.trim().to_string();
        while !sentence.contains(". ") && !sentence.ends_with('.') {
            let Some(next) = lines.peek().and_then(|l| l.trim_start().strip_prefix("//")) else {
                break;
            };
            sentence.push(' ');
            sentence.push_str(next.trim_start_matches(['/', '!']).trim());
            lines.next();
        }
        let end = sentence.find(". ").map_or(sentence.len(), |dot| dot + 1);
        found.push(sentence[..end].to_string());
    }
    found
}

/// The README's list of differences and the `Differs:` comments are the same set: nothing
/// differs silently, and nothing is announced that the code does not do.
fn check_differences(sources: &[Source], readme: &str) -> Vec<String> {
    let section = readme
        .split("\n## ")
        .find(|section| section.starts_with("What differs from Redis"))
        .unwrap_or("");
    let listed: BTreeSet<String> = section
        .split("\n- ")
        .skip(1)
        .map(|item| {
            let item = item.split("\n\n").next().unwrap_or("");
            item.split_whitespace().collect::<Vec<_>>().join(" ")
        })
        .collect();
    let mut complaints = Vec::new();
    let mut stated = BTreeSet::new();
    for source in sources {
        for sentence in differences(source) {
            if !listed.contains(&sentence) {
                complaints.push(format!(
                    "src/{}: README's list of differences lacks: {sentence}",
                    source.path
                ));
            }
            stated.insert(sentence);
        }
    }
    for item in listed.difference(&stated) {
        complaints.push(format!(
            "README lists a difference no `Differs:` states: {item}"
        ));
    }
    complaints
}

/// What systemd's group `@resources` holds, as far as a server may want it. (setrlimit is prlimit64 for
/// the kernel, which is none of them.)
const RESOURCE_CALLS: [&str; 5] = [
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "setpriority",
];

/// What the unit for systemd filters ends the process that calls it.
fn check_unit(sources: &[Source], unit: &str) -> Vec<String> {
    let lines = unit.lines();
    let allowed = lines.filter_map(|line| line.strip_prefix("SystemCallFilter="));
    let allowed: BTreeSet<&str> = allowed
        .filter(|calls| !calls.starts_with('~'))
        .flat_map(str::split_whitespace)
        .collect();
    let calls = |name: &&&str| {
        let call = format!("libc::{name}(");
        sources.iter().any(|source| source.code.contains(&call))
    };
    let called = RESOURCE_CALLS.iter().filter(calls);
    let filtered = called.filter(|name| !allowed.contains(**name));
    filtered
        .map(|name| format!("packaging/pinion.service does not allow {name}"))
        .collect()
}

// ---- the rules on this repository ------------------------------------------------------------

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, root: &Path, found: &mut Vec<Source>) {
        let entries = fs::read_dir(folder).expect("src is readable");
        for entry in entries {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = fs::read_to_string(&path).expect("a source file is UTF-8");
                let below = path.strip_prefix(root).expect("walked from the root");
                found.push(Source::new(&below.to_string_lossy(), &text));
            }
        }
    }
    let root = repository().join("src");
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 10, "tidy walked the wrong folder: {root:?}");
    found
}

fn each(rule: fn(&Source) -> Vec<String>) {
    report(sources().iter().flat_map(rule).collect());
}

fn report(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn rooms_import_only_along_the_arrows() {
    each(check_arrows);
}

#[test]
fn only_runtime_names_its_crates() {
    each(check_runtime_crates);
}

#[test]
fn pure_rooms_touch_neither_clock_nor_world() {
    each(check_pure);
}

#[test]
fn unsafe_stands_only_where_listed() {
    each(check_unsafe);
}

#[test]
fn files_and_functions_stay_small() {
    each(check_sizes);
}

#[test]
fn every_file_is_reached() {
    report(check_reachable(&sources()));
}

#[test]
fn readme_lists_every_difference() {
    let readme = fs::read_to_string(repository().join("README.md")).expect("README.md");
    report(check_differences(&sources(), &readme));
}

#[test]
fn the_unit_allows_what_threads_ask_of_the_kernel() {
    let path = repository().join("packaging/pinion.service");
    let unit = fs::read_to_string(path).expect("the unit");
    report(check_unit(&sources(), &unit));
}

// ---- the rules on what breaks them -----------------------------------------------------------

fn broken(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&Source::new(path, text)).len()
}

#[test]
fn arrows_fail_when_broken() {
    let rule = check_arrows;
    assert_eq!(broken(rule, "resp/a.rs", "use crate::keyspace::Tx;"), 1);
    assert_eq!(
        broken(rule, "rdb/a.rs", "use crate::{resp::X, value::Y};"),
        1
    );
    assert_eq!(
        broken(
            rule,
            "value/mod.rs",
            "fn f() { crate::command::table::find() }"
        ),
        1
    );
    assert_eq!(broken(rule, "value/mod.rs", "use super::resp::Args;"), 1);
    assert_eq!(
        broken(rule, "value/set.rs", "use super::super::resp::Args;"),
        1
    );
    assert_eq!(broken(rule, "attic/mod.rs", ""), 1);
    assert_eq!(broken(rule, "command/a.rs", "use crate::resp::Args;"), 0);
    assert_eq!(broken(rule, "value/a.rs", "use crate::value::set::X;"), 0);
    assert_eq!(broken(rule, "resp/a.rs", "// crate::keyspace"), 0);
    assert_eq!(
        broken(
            rule,
            "resp/a.rs",
            "#[cfg(test)]\nmod tests { use crate::keyspace::Tx; }"
        ),
        0
    );
}

#[test]
fn worldly_words_fail_in_pure_rooms() {
    for text in [
        "let t = SystemTime::now();",
        "let t = Instant::now();",
        "async fn f() {}",
        "x.read().await;",
        "use std::fs::File;",
        "std::net::TcpStream::connect(a)",
        "std::thread::sleep(d)",
        "fastrand::Rng::new()",
    ] {
        assert!(broken(check_pure, "shard/a.rs", text) >= 1, "{text}");
        assert_eq!(broken(check_pure, "runtime/a.rs", text), 0, "{text}");
    }
    assert_eq!(
        broken(check_pure, "shard/a.rs", "let s = \"std::fs\"; // .await"),
        0
    );
    assert_eq!(
        broken(check_runtime_crates, "server/a.rs", "use glommio::Task;"),
        1
    );
    assert_eq!(
        broken(check_runtime_crates, "shard/a.rs", "io_uring::IoUring"),
        1
    );
    assert_eq!(
        broken(check_runtime_crates, "runtime/a.rs", "use glommio::Task;"),
        0
    );
}

#[test]
fn unsafe_fails_outside_of_its_list() {
    assert_eq!(
        broken(check_unsafe, "keyspace/a.rs", "unsafe { x.get() }"),
        1
    );
    assert_eq!(
        broken(check_unsafe, "keyspace/a.rs", "#![allow(unsafe_code)]"),
        1
    );
    assert_eq!(
        broken(check_unsafe, "runtime/ring.rs", "unsafe { x.get() }"),
        0
    );
    assert_eq!(broken(check_unsafe, "keyspace/a.rs", "// not unsafe"), 0);
}

#[test]
fn long_functions_and_files_fail() {
    let long = format!("fn f() {{\n{}}}\n", "    let x = '{';\n".repeat(69));
    assert_eq!(broken(check_sizes, "value/a.rs", &long), 1);
    let fits = format!("fn f() {{\n{}}}\n", "    let x = '{';\n".repeat(68));
    assert_eq!(broken(check_sizes, "value/a.rs", &fits), 0);
    let file = "const X: u8 = 1;\n".repeat(1_001);
    assert_eq!(broken(check_sizes, "value/a.rs", &file), 1);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{file}}}\n");
    assert_eq!(broken(check_sizes, "value/a.rs", &tests), 0);
    assert_eq!(broken(check_sizes, "value/tests.rs", &file), 0);
}

#[test]
fn orphans_fail() {
    let sources = [
        Source::new("lib.rs", "pub mod value;"),
        Source::new("value/mod.rs", "mod set;\n#[cfg(test)]\nmod tests;"),
        Source::new("value/set.rs", "mod inner;"),
        Source::new("value/set/inner.rs", ""),
        Source::new("value/tests.rs", ""),
        Source::new("value/orphan.rs", ""),
    ];
    let complaints = check_reachable(&sources);
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("orphan.rs"));
}

#[test]
fn differences_must_match_both_ways() {
    let source = |text| [Source::new("command/a.rs", text)];
    let readme = "# P\n\n## What differs from Redis\n\nThese:\n\n- PING is\n  louder.\n\n## Next\n";
    let stated = source("// Differs: PING is\n// louder. Because.\nfn f() {}");
    assert_eq!(check_differences(&stated, readme), Vec::<String>::new());
    assert_eq!(check_differences(&source("fn f() {}"), readme).len(), 1);
    let more = source("/// Differs: PING is louder.\n// Differs: ECHO is quieter.\n");
    let complaints = check_differences(&more, readme);
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("ECHO"));
}

#[test]
fn calls_that_the_unit_filters_fail() {
    let source = [Source::new(
        "runtime/a.rs",
        "fn f() { libc::sched_setscheduler(0, 3, p) }",
    )];
    let unit = |calls: &str| format!("[Service]\nSystemCallFilter={calls}\n");
    assert_eq!(check_unit(&source, &unit("sched_setaffinity")).len(), 1);
    assert_eq!(check_unit(&source, &unit("~sched_setscheduler")).len(), 1);
    let allowed = unit("sched_setaffinity sched_setscheduler");
    assert_eq!(check_unit(&source, &allowed), Vec::<String>::new());
}

#[test]
fn literals_and_lifetimes_are_told_apart() {
    let text = r##"fn f<'a>(x: &'a str) -> char { let s = r#"un"safe"#; let q = '"'; b'\'' }"##;
    let blank = blank_literals(text);
    assert!(blank.contains("fn f<'a>(x: &'a str) -> char { let s ="));
    assert!(!blank.contains("safe") && !blank.contains('"'));
    assert!(blank.ends_with('}'));
}
