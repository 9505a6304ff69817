//! Long random command sequences over every data type: Pinion with 1, 2 and 4 shards must answer
//! with the bytes of redis-server, and hold the same data in the same encodings in the end.
//!
//! A run is a row of sequences. Each has a seed of its own, from which everything follows: commands,
//! thresholds of the encodings, which connection sends what. A difference ends its sequence, since
//! what comes after it may be its consequence, and is told with that seed:
//!
//! ```text
//! PINION_DIFF_SEED=17 PINION_DIFF_COMMANDS=1 cargo test --test wire differential
//! PINION_DIFF_COMMANDS=1000000 cargo test --test wire differential
//! ```
//!
//! `PINION_DIFF_TRACE` names a file for all commands of the last sequence that differs.

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::client::{Client, Got, encode, shown};
use crate::grammar::{Author, Request, Same, key_names};
use crate::process::{Server, Which};
use crate::sameness::{Exact, agree, agree_each, bulk, elements};

/// What is run always: a few seconds.
const COMMANDS: usize = 60_000;
const SEED: u64 = 1;
/// Long enough for keys to grow over every threshold that is not Redis' default.
const SEQUENCE: usize = 6_000;
const BATCH_MAX: usize = 400;
/// What a session does not end by itself (a WATCH, a transaction) lives across the others' batches.
const CONNECTIONS: usize = 3;
const DATABASES: u32 = 3;
const PAYLOADS_MAX: usize = 24;
/// Differences told, and commands told before each.
const SHOWN_MAX: usize = 40;
const CONTEXT_MAX: usize = 16;

/// Thresholds, of which every sequence draws its own, and draws again on its way.
const THRESHOLDS: &[(&str, &[&str])] = &[
    ("hash-max-listpack-entries", &["0", "6", "512"]),
    ("hash-max-listpack-value", &["0", "8", "64"]),
    ("list-max-listpack-size", &["0", "1", "3", "7", "-1", "-2"]),
    ("list-compress-depth", &["0", "1", "2"]),
    ("set-max-intset-entries", &["0", "5", "512"]),
    ("zset-max-listpack-entries", &["0", "6", "128"]),
    ("zset-max-listpack-value", &["0", "8", "64"]),
    ("stream-node-max-entries", &["0", "1", "4", "100"]),
    ("stream-node-max-bytes", &["0", "64", "4096"]),
    ("hll-sparse-max-bytes", &["0", "40", "3000"]),
    ("rdbcompression", &["yes", "no"]),
];

/// No hash becomes a table with these: the order of its fields is defined.
const COMPACT_HASHES: &[(&str, &str)] = &[
    ("hash-max-listpack-entries", "100000"),
    ("hash-max-listpack-value", "100000"),
];

/// A server and the connections to it.
struct Side {
    server: Server,
    clients: Vec<Client>,
}

impl Side {
    fn start(which: Which) -> Side {
        let server = Server::start(which, &["--hz", "500"]);
        Side {
            server,
            clients: Vec::new(),
        }
    }

    /// An empty server and fresh connections.
    /// A single client sees no difference between the orders of pipelines.
    fn begin(&mut self, order: &str) {
        if Client::tcp(self.server.port).is_err() {
            // The sequence before this one was the end of it, and is told as a difference.
            *self = Side::start(self.server.which);
        }
        let mut first = self.server.client();
        for line in ["FLUSHALL", "DEBUG SET-ACTIVE-EXPIRE 0"] {
            assert_eq!(first.text(line), "+OK\\r\\n", "{line}");
        }
        if self.server.which != Which::Reference {
            let line = format!("CONFIG SET pipeline-order {order}");
            assert_eq!(first.text(&line), "+OK\\r\\n", "{line}");
        }
        self.clients = (0..CONNECTIONS).map(|_| self.server.client()).collect();
    }
}

/// How a reply is compared.
enum Judged {
    Whole(Same),
    /// That of EXEC: each of its elements as the command it answers.
    Each(Vec<Same>),
}

/// A command that was sent, and what the reference answered.
#[derive(Clone)]
struct Sent {
    connection: usize,
    words: Vec<Vec<u8>>,
    reply: Vec<u8>,
}

struct Sequence<'a> {
    seed: u64,
    rng: fastrand::Rng,
    author: Author,
    /// The reference first.
    sides: &'a mut [Side],
    /// Of each connection, what compares the replies of a transaction that has begun.
    queued: Vec<Option<Vec<Same>>>,
    sent: Vec<Sent>,
    exact: Exact,
}

/// What a difference is about, and all there is to say.
struct Difference {
    command: String,
    story: String,
}

type Outcome = Result<(), Difference>;

impl Sequence<'_> {
    fn run(&mut self, commands: usize) -> Outcome {
        let order = ["exact", "relaxed"][self.seed as usize % 2];
        self.sides.iter_mut().for_each(|side| side.begin(order));
        self.draw_thresholds();
        let mut left = commands;
        while left > 0 {
            let count = self.rng.usize(1..=BATCH_MAX).min(left);
            left -= count;
            let batch: Vec<Request> = (0..count).map(|_| self.author.request()).collect();
            let connection = self.rng.usize(..CONNECTIONS);
            self.play(connection, batch)?;
            if self.rng.u8(..10) == 0 {
                self.draw_thresholds();
            }
        }
        self.compare_data()
    }

    fn draw_thresholds(&mut self) {
        let mut words = vec!["CONFIG", "SET"];
        for (name, values) in THRESHOLDS {
            let value = values[self.rng.usize(..values.len())];
            let fixed = COMPACT_HASHES.iter().find(|(fixed, _)| fixed == name);
            let value = fixed
                .filter(|_| self.exact.hashes)
                .map_or(value, |(_, value)| value);
            words.extend([*name, value]);
        }
        for side in &mut *self.sides {
            let got = side.server.client().call(&words);
            assert_eq!(got, Got::Reply(b"+OK\r\n".to_vec()), "{words:?}");
        }
    }

    /// Sends a batch to all and compares what comes back.
    fn play(&mut self, connection: usize, batch: Vec<Request>) -> Outcome {
        let bytes: Vec<u8> = batch
            .iter()
            .flat_map(|request| encode(&request.words))
            .collect();
        for side in &mut *self.sides {
            side.clients[connection].send(&bytes);
        }
        let replies: Vec<Vec<Got>> = self
            .sides
            .iter_mut()
            .map(|side| side.clients[connection].replies(batch.len()))
            .collect();
        for (at, request) in batch.into_iter().enumerate() {
            let Some(Got::Reply(reply)) = replies[0].get(at).cloned() else {
                panic!("redis-server does not answer {}", line(&request.words));
            };
            let judged = self.judged(connection, &request, &reply);
            self.sent.push(Sent {
                connection,
                words: request.words,
                reply,
            });
            let last = self.sent.last().expect("pushed");
            for (side, replies) in self.sides.iter().zip(&replies).skip(1) {
                let got = replies.get(at).cloned().unwrap_or(Got::Silence(Vec::new()));
                if !self.agree(&judged, &last.reply, &got) {
                    let (command, got) = self.narrowed(&judged, &last.reply, got);
                    return Err(self.difference(side, command, &got));
                }
            }
        }
        Ok(())
    }

    /// How the reply compares; keeps up with what is queued.
    fn judged(&mut self, connection: usize, request: &Request, reply: &[u8]) -> Judged {
        let is = |name: &str| request.words[0].eq_ignore_ascii_case(name.as_bytes());
        let queued = &mut self.queued[connection];
        match queued {
            None if is("MULTI") && reply.starts_with(b"+OK") => *queued = Some(Vec::new()),
            Some(sames) if reply.starts_with(b"+QUEUED") => {
                sames.push(request.same);
                return Judged::Whole(Same::Bytes);
            }
            Some(_) if is("EXEC") && !reply.starts_with(b"-ERR") => {
                return Judged::Each(queued.take().expect("matched"));
            }
            Some(_) if is("DISCARD") && reply.starts_with(b"+OK") => *queued = None,
            _ => {}
        }
        if is("DUMP") && reply.starts_with(b"$") && !reply.starts_with(b"$-1") {
            let payload = bulk(reply);
            let closed = request.words[1].starts_with(b"hll");
            if !closed {
                self.author.payloads.push_back(payload.to_vec());
            }
            if self.author.payloads.len() > PAYLOADS_MAX {
                self.author.payloads.pop_front();
            }
        }
        Judged::Whole(request.same)
    }

    fn agree(&self, judged: &Judged, wanted: &[u8], got: &Got) -> bool {
        let Got::Reply(got) = got else { return false };
        match judged {
            Judged::Whole(same) => agree(*same, wanted, got, self.exact),
            Judged::Each(sames) => agree_each(sames, wanted, got, self.exact),
        }
    }

    /// In the end all hold the same keys with the same values in the same encodings.
    fn compare_data(&mut self) -> Outcome {
        self.sides.iter_mut().for_each(|side| {
            side.clients = (0..CONNECTIONS).map(|_| side.server.client()).collect();
        });
        self.queued = vec![None; CONNECTIONS];
        // What has expired goes when it is looked for, also what a spoilt command made.
        let first = |sent: &Sent| sent.words.get(1).cloned();
        let names: BTreeSet<Vec<u8>> = self.sent.iter().filter_map(first).collect();
        let names = names.into_iter().chain(key_names().map(String::into_bytes));
        let exists: Vec<Vec<u8>> = [b"EXISTS".to_vec()].into_iter().chain(names).collect();
        for db in 0..DATABASES {
            let exists = request(exists.clone(), Same::Bytes);
            let keys = request(plain("KEYS *").words, Same::Elements);
            self.play(0, vec![plain(&format!("SELECT {db}")), exists, keys])?;
            let found = self.sent.last().expect("sent").reply.clone();
            let found = elements(&found).expect("an array of keys");
            let aspects = [
                ("TYPE", Same::Bytes),
                ("OBJECT ENCODING", Same::Bytes),
                ("DEBUG DIGEST-VALUE", Same::Bytes),
                ("DUMP", Same::Dump),
                ("PEXPIRETIME", Same::ButTimes),
            ];
            let batch = found.iter().flat_map(|key| {
                aspects.map(|(ask, same)| {
                    let mut words = plain(ask).words;
                    words.push(bulk(key).to_vec());
                    request(words, same)
                })
            });
            self.play(0, batch.collect())?;
        }
        self.play(0, vec![plain("DBSIZE"), plain("DEBUG DIGEST")])
    }

    /// Which command differs and the reply to it: of a transaction, the first that does.
    fn narrowed(&self, judged: &Judged, wanted: &[u8], got: Got) -> (Sent, Got) {
        let last = self.sent.last().expect("sent");
        let whole = |got| (last.clone(), got);
        let (Judged::Each(sames), Got::Reply(bytes)) = (judged, &got) else {
            return whole(got);
        };
        let (Some(wanted), Some(parts)) = (elements(wanted), elements(bytes)) else {
            return whole(got);
        };
        let differs = |at: &usize| !agree(sames[*at], wanted[*at], parts[*at], self.exact);
        let comparable = sames.len().min(wanted.len()).min(parts.len());
        let Some(at) = (0..comparable).find(differs) else {
            return whole(got);
        };
        let queued = self.sent.iter().rev().filter(|sent| {
            sent.connection == last.connection && sent.reply.starts_with(b"+QUEUED")
        });
        let mut command = queued
            .take(sames.len() - at)
            .last()
            .expect("queued")
            .clone();
        command.reply = wanted[at].to_vec();
        (command, Got::Reply(parts[at].to_vec()))
    }

    /// A command differs: what it takes to see why.
    fn difference(&self, side: &Side, last: Sent, got: &Got) -> Difference {
        if let Ok(path) = std::env::var("PINION_DIFF_TRACE") {
            let all = self.sent.iter().map(|sent| {
                let (words, reply) = (line(&sent.words), shown(&sent.reply));
                format!("{}> {words}\n      {reply}\n", sent.connection)
            });
            let told = std::fs::write(&path, all.collect::<String>());
            told.unwrap_or_else(|error| panic!("write {path}: {error}"));
        }
        let (_, before) = self.sent.split_last().expect("sent");
        let keys: Vec<String> = key_names().collect();
        let is_shared = |word: &Vec<u8>| {
            last.words.contains(word) && keys.iter().any(|key| key.as_bytes() == word)
        };
        let related = |sent: &&Sent| sent.words.iter().any(is_shared);
        let mut context: Vec<String> = before
            .iter()
            .rev()
            .filter(related)
            .take(CONTEXT_MAX)
            .map(|sent| {
                let (words, reply) = (line(&sent.words), shown(&sent.reply));
                format!("  {}> {words}\n      {reply}", sent.connection)
            })
            .collect();
        context.reverse();
        let story = format!(
            "seed {} command {}, {}:\n{}\n  {}> {}\n want {}\n got  {}",
            self.seed,
            self.sent.len(),
            side.server.which,
            context.join("\n"),
            last.connection,
            line(&last.words),
            shown(&last.reply),
            got.shown(),
        ) + &first_difference(&last.reply, got)
            + &last_words(side, got);
        let command = String::from_utf8_lossy(&last.words[0]).to_ascii_uppercase();
        Difference { command, story }
    }
}

/// Where long replies begin to differ.
fn first_difference(wanted: &[u8], got: &Got) -> String {
    const AROUND: usize = 40;
    let Got::Reply(got) = got else {
        return String::new();
    };
    let at = wanted.iter().zip(got).position(|(a, b)| a != b);
    let Some(at) = at.filter(|&at| at > 300) else {
        return String::new();
    };
    let near = |bytes: &[u8]| shown(&bytes[at - AROUND..bytes.len().min(at + AROUND)]);
    format!(
        "\n from byte {at} on\n want {}\n got  {}",
        near(wanted),
        near(got)
    )
}

/// Why a server says no more.
fn last_words(side: &Side, got: &Got) -> String {
    let log = match got {
        Got::Reply(_) => return String::new(),
        Got::Closed(_) | Got::Silence(_) => side.server.log(),
    };
    let panic = log.lines().skip_while(|line| !line.contains("panicked"));
    panic
        .take(2)
        .fold(String::new(), |all, line| all + "\n  " + line)
}

fn request(words: Vec<Vec<u8>>, same: Same) -> Request {
    Request { words, same }
}

fn plain(line: &str) -> Request {
    let words = line.split(' ').map(|word| word.as_bytes().to_vec());
    request(words.collect(), Same::Bytes)
}

fn line(words: &[Vec<u8>]) -> String {
    let shown: Vec<String> = words
        .iter()
        .map(|word| match word.is_empty() {
            true => "\"\"".to_owned(),
            false => shown(word).replace(' ', "\\x20"),
        })
        .collect();
    shown.join(" ")
}

fn from_environment<T: FromStr>(name: &str, otherwise: T) -> T {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => otherwise,
    }
}

#[test]
fn differential() {
    let commands = from_environment("PINION_DIFF_COMMANDS", COMMANDS);
    let first = from_environment("PINION_DIFF_SEED", SEED);
    let mut sides = vec![Side::start(Which::Reference)];
    sides.extend([1, 2, 4].map(|shards| Side::start(Which::Pinion { shards })));
    let mut found: Vec<Difference> = Vec::new();
    let (mut done, mut failed) = (0, 0);
    for seed in first.. {
        if done >= commands {
            break;
        }
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut sequence = Sequence {
            seed,
            author: Author::new(rng.u64(..)),
            exact: Exact {
                hashes: rng.u8(..4) == 0,
            },
            rng,
            sides: &mut sides,
            queued: vec![None; CONNECTIONS],
            sent: Vec::new(),
        };
        let outcome = sequence.run(SEQUENCE);
        done += sequence.sent.len().max(SEQUENCE);
        if let Err(difference) = outcome {
            failed += 1;
            if found
                .iter()
                .all(|known| known.command != difference.command)
            {
                found.push(difference);
            }
        }
    }
    let stories: Vec<String> = found.into_iter().take(SHOWN_MAX).map(|d| d.story).collect();
    assert!(
        stories.is_empty(),
        "{failed} sequences differ, first at each command:\n\n{}\n",
        stories.join("\n\n")
    );
}
