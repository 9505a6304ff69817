//! What COMMAND tells of every command, beside what Redis 7.0 tells.

use std::collections::BTreeMap;

use crate::client::{Client, Got};
use crate::process::{Server, Which};
use crate::tree::Tree;

fn reference() -> Server {
    Server::start(Which::Reference, &[])
}

fn pinion() -> Server {
    Server::start(Which::Pinion { shards: 2 }, &[])
}

#[track_caller]
fn ask(client: &mut Client, words: &[&str]) -> Tree {
    match client.call(words) {
        Got::Reply(bytes) => Tree::parse(&bytes, &mut 0),
        other => panic!("{words:?}: no reply: {}", other.shown()),
    }
}

fn text(tree: &Tree) -> &str {
    match tree {
        Tree::Leaf(text) => text,
        Tree::Branch(_) => panic!("no text: {tree:?}"),
    }
}

/// Every command and subcommand by name, as COMMAND INFO describes it in RESP2.
fn commands(server: &Server) -> BTreeMap<String, Vec<Tree>> {
    fn collect(rows: &[Tree], all: &mut BTreeMap<String, Vec<Tree>>) {
        for row in rows {
            let parts = row.branch();
            collect(parts[9].branch(), all);
            let mut told = parts[1..9].to_vec();
            // Flags, categories and tips; the flags of each key specification.
            for at in [1, 5, 6] {
                told[at] = told[at].sorted();
            }
            all.insert(text(&parts[0]).to_owned(), told);
        }
    }
    let mut all = BTreeMap::new();
    collect(ask(&mut server.client(), &["COMMAND"]).branch(), &mut all);
    all
}

#[test]
fn commands_are_described_as_redis_describes_them() {
    /// They take an option that 7.0 does not know.
    const NEWER: [&str; 2] = ["zrank", "zrevrank"];
    const PARTS: [&str; 8] = [
        "arity",
        "flags",
        "first key",
        "last key",
        "step",
        "categories",
        "tips",
        "key specifications",
    ];
    let wanted = commands(&reference());
    let got = commands(&pinion());
    let mut complaints = Vec::new();
    let mut compared = 0;
    for (name, theirs) in &wanted {
        let Some(ours) = got.get(name) else { continue };
        compared += 1;
        for (at, part) in PARTS.iter().enumerate() {
            if theirs[at] != ours[at] && !(NEWER.contains(&name.as_str()) && at == 0) {
                complaints.push(format!(
                    "{name}: {part}\n  theirs {:?}\n  ours   {:?}",
                    theirs[at], ours[at]
                ));
            }
        }
    }
    assert!(compared > 300, "{compared} compared");
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// What COMMAND DOCS tells of each command and subcommand: field and value.
type Docs = BTreeMap<String, BTreeMap<String, Tree>>;

fn docs(server: &Server) -> Docs {
    fn collect(pairs: &[Tree], all: &mut Docs) {
        for pair in pairs.chunks(2) {
            let fields = fields(&pair[1]);
            if let Some(sub) = fields.get("subcommands") {
                collect(sub.branch(), all);
            }
            all.insert(text(&pair[0]).to_owned(), fields);
        }
    }
    let mut all = Docs::new();
    let told = ask(&mut server.client(), &["COMMAND", "DOCS"]);
    collect(told.branch(), &mut all);
    all
}

/// A map of RESP2.
fn fields(map: &Tree) -> BTreeMap<String, Tree> {
    let pairs = map.branch().chunks(2);
    pairs
        .map(|pair| (text(&pair[0]).to_owned(), pair[1].clone()))
        .collect()
}

/// Whether a version is later than the reference.
fn is_newer(version: &Tree) -> bool {
    let numbers = text(version).split('.').map(|part| part.parse::<u32>());
    numbers
        .map(|number| number.expect("a version"))
        .gt([7, 0, 15])
}

/// Arguments that the reference may know.
fn known(arguments: &Tree) -> Tree {
    let known_part = |argument: &Tree| {
        let fields = fields(argument);
        if fields.get("since").is_some_and(is_newer) {
            return None;
        }
        let mut parts = argument.branch().to_vec();
        if let Some(arguments) = fields.get("arguments") {
            // It stands last.
            parts.pop();
            parts.push(known(arguments));
        }
        Some(Tree::Branch(parts))
    };
    Tree::Branch(arguments.branch().iter().filter_map(known_part).collect())
}

/// The versions that changed a command, as far as the reference may know.
fn changes(fields: &BTreeMap<String, Tree>) -> Vec<String> {
    let history = fields.get("history").map_or(&[][..], Tree::branch);
    let versions = history.iter().map(|change| &change.branch()[0]);
    versions
        .filter(|version| !is_newer(version))
        .map(|version| text(version).to_owned())
        .collect()
}

#[test]
fn commands_are_documented_as_redis_documents_them() {
    const SAME: [&str; 5] = [
        "since",
        "group",
        "doc_flags",
        "deprecated_since",
        "replaced_by",
    ];
    let wanted = docs(&reference());
    let got = docs(&pinion());
    let mut complaints = Vec::new();
    for (name, theirs) in &wanted {
        let Some(ours) = got.get(name) else {
            complaints.push(format!("{name}: missing"));
            continue;
        };
        let mut differs = |what: &str, theirs: &dyn std::fmt::Debug, ours: &dyn std::fmt::Debug| {
            let (theirs, ours) = (format!("{theirs:?}"), format!("{ours:?}"));
            if theirs != ours {
                complaints.push(format!(
                    "{name}: {what}\n  theirs {theirs}\n  ours   {ours}"
                ));
            }
        };
        for field in SAME {
            differs(field, &theirs.get(field), &ours.get(field));
        }
        // The words are our own.
        for field in ["summary", "complexity"] {
            let has = |fields: &BTreeMap<String, Tree>| fields.contains_key(field);
            differs(field, &has(theirs), &has(ours));
        }
        let arguments = |fields: &BTreeMap<String, Tree>| fields.get("arguments").map(known);
        differs("arguments", &arguments(theirs), &arguments(ours));
        differs("history", &changes(theirs), &changes(ours));
    }
    assert!(wanted.len() > 350, "{} compared", wanted.len());
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    for (name, fields) in &got {
        let summary = fields.get("summary").map_or("", text);
        assert!(summary.ends_with('.'), "{name}: {summary}");
    }
}

#[test]
fn categories_have_the_commands_that_redis_puts_there() {
    let (reference, ours) = (reference(), pinion());
    let (mut theirs, mut ours) = (reference.client(), ours.client());
    let list = |client: &mut Client, words: &[&str]| -> Vec<String> {
        let told = ask(client, words).sorted();
        told.branch()
            .iter()
            .map(|name| text(name).to_owned())
            .collect()
    };
    let all = list(&mut theirs, &["COMMAND", "LIST"]);
    let categories = list(&mut theirs, &["ACL", "CAT"]);
    assert_eq!(categories, list(&mut ours, &["ACL", "CAT"]));
    for category in &categories {
        let filter = ["COMMAND", "LIST", "FILTERBY", "ACLCAT", category];
        let wanted = list(&mut theirs, &filter);
        let mut got = list(&mut ours, &filter);
        got.retain(|name| all.contains(name));
        assert_eq!(got, wanted, "{category}");
    }
}

/// Requests of every command, of words that mean something to some of them.
#[test]
fn keys_are_found_where_redis_finds_them() {
    const WORDS: [&str; 24] = [
        "k1",
        "k2",
        "3",
        "1",
        "0",
        "2",
        "STREAMS",
        "STORE",
        "KEYS",
        "LIMIT",
        "GET",
        "SET",
        "BY",
        "COUNT",
        "*",
        "a",
        "NX",
        "AGGREGATE",
        "WEIGHTS",
        "-1",
        "GROUP",
        "",
        "STOREDIST",
        "BYBOX",
    ];
    const SEED: u64 = 7;
    const EACH: usize = 60;
    let (reference, pinion) = (reference(), pinion());
    let (mut theirs, mut ours) = (reference.client(), pinion.client());
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut compared = 0;
    let names = docs(&reference).into_keys();
    // They take an option that 7.0 does not know.
    const NEWER: [&str; 2] = ["zrank", "zrevrank"];
    for name in names.filter(|name| !NEWER.contains(&&**name)) {
        for _ in 0..EACH {
            let mut request: Vec<&str> = name.split('|').collect();
            let more = random.usize(..8);
            request.extend((0..more).map(|_| WORDS[random.usize(..WORDS.len())]));
            for asked in ["GETKEYS", "GETKEYSANDFLAGS"] {
                let words = [&["COMMAND", asked], &*request].concat();
                let wanted = ask(&mut theirs, &words);
                let got = ask(&mut ours, &words);
                assert_eq!(got, wanted, "{words:?}, seed {SEED}");
                compared += 1;
            }
        }
    }
    assert!(compared > 30_000, "{compared} compared");
}

/// What HELP says of each subcommand is our own words; how it is written is not. Newer subcommands
/// stand between.
#[test]
fn help_shows_the_subcommands_that_redis_shows() {
    let (reference, pinion) = (reference(), pinion());
    let usage = |server: &Server, container: &str| -> Vec<String> {
        let told = ask(&mut server.client(), &[container, "HELP"]);
        if let Tree::Leaf(refusal) = told {
            return vec![refusal];
        }
        let lines = told.branch().iter().map(|line| text(line).to_owned());
        let mut lines: Vec<String> = lines.filter(|line| !line.starts_with("+    ")).collect();
        lines[1..].sort();
        lines
    };
    let described = commands(&reference);
    let containers = described
        .keys()
        .filter_map(|name| name.strip_suffix("|help"));
    let mut compared = 0;
    for container in containers {
        let wanted = usage(&reference, container);
        let mut got = usage(&pinion, container);
        got.retain(|line| wanted.contains(line));
        assert_eq!(got, wanted, "{container}");
        compared += 1;
    }
    assert!(compared > 14, "{compared} compared");
}
