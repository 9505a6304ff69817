//! Client-side caching: clients are told what of their copies is no longer true.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::{Client, Got};
use crate::process::{Server, Which};

const EVERYWHERE: [Which; 4] = [
    Which::Reference,
    Which::Pinion { shards: 1 },
    Which::Pinion { shards: 2 },
    Which::Pinion { shards: 4 },
];

/// One step: who says what, and how many frames the reader and the listener get of it.
type Step = (char, &'static str, usize, usize);

/// The reader `r` speaks RESP3 and tracks; `w` writes; `l` listens in RESP2 for others. `ID` stands
/// for the listener's id.
const STEPS: &[Step] = &[
    ('r', "CLIENT TRACKINGINFO", 0, 0),
    ('r', "CLIENT GETREDIR", 0, 0),
    ('r', "CLIENT CACHING YES", 0, 0),
    ('r', "CLIENT TRACKING", 0, 0),
    ('r', "CLIENT TRACKING on what", 0, 0),
    ('r', "CLIENT TRACKING on REDIRECT x", 0, 0),
    ('r', "CLIENT TRACKING on REDIRECT 123456789", 0, 0),
    ('r', "CLIENT TRACKING on PREFIX a", 0, 0),
    ('r', "CLIENT TRACKING on BCAST OPTIN", 0, 0),
    ('r', "CLIENT TRACKING on OPTOUT OPTIN", 0, 0),
    ('r', "CLIENT TRACKING on", 0, 0),
    ('r', "CLIENT TRACKINGINFO", 0, 0),
    ('r', "CLIENT GETREDIR", 0, 0),
    ('r', "CLIENT TRACKING on BCAST", 0, 0),
    ('r', "CLIENT CACHING YES", 0, 0),
    ('r', "CLIENT CACHING maybe", 0, 0),
    ('w', "SET a 1", 0, 0),
    ('r', "GET a", 0, 0),
    ('w', "SET a 2", 1, 0),
    ('w', "SET a 3", 0, 0),
    ('r', "MGET a b c d", 0, 0),
    ('w', "MSET a 1 b 2 x 3", 2, 0),
    ('w', "RENAME a c", 1, 0),
    ('w', "EXPIRE d 100", 0, 0),
    ('r', "EXISTS b c", 0, 0),
    ('w', "COPY b c REPLACE", 1, 0),
    ('w', "DEL b c d x", 1, 0),
    ('r', "SMEMBERS s", 0, 0),
    ('r', "SUNION s t u", 0, 0),
    ('w', "SADD t 1", 1, 0),
    ('w', "SUNIONSTORE s t u", 1, 0),
    ('w', "SADD u 1", 1, 0),
    ('r', "MULTI", 0, 0),
    ('r', "GET m1", 0, 0),
    ('r', "GET m2", 0, 0),
    ('r', "EXEC", 0, 0),
    ('w', "MULTI", 0, 0),
    ('w', "SET m1 1", 0, 0),
    ('w', "INCR m2", 0, 0),
    ('w', "EXEC", 2, 0),
    ('r', "GET own", 0, 0),
    ('r', "SET own 1", 1, 0),
    ('r', "GET own", 0, 0),
    ('w', "FLUSHDB", 1, 0),
    ('w', "SET own 1", 0, 0),
    ('w', "FLUSHALL", 1, 0),
    ('w', "SET soon 1 PX 60", 0, 0),
    ('r', "GET soon", 1, 0),
    ('r', "GET moved", 0, 0),
    ('w', "SELECT 3", 0, 0),
    ('w', "SET moved 1", 1, 0),
    ('w', "SELECT 0", 0, 0),
    ('r', "CLIENT TRACKING on NOLOOP", 0, 0),
    ('r', "CLIENT TRACKINGINFO", 0, 0),
    ('r', "GET k", 0, 0),
    ('r', "SET k 1", 0, 0),
    ('w', "SET k 2", 0, 0),
    ('r', "GET k", 0, 0),
    ('w', "APPEND k 2", 1, 0),
    ('r', "CLIENT TRACKING off", 0, 0),
    ('r', "GET k", 0, 0),
    ('w', "SET k 3", 0, 0),
    ('r', "CLIENT TRACKING on OPTIN", 0, 0),
    ('r', "CLIENT TRACKING on OPTOUT", 0, 0),
    ('r', "CLIENT CACHING NO", 0, 0),
    ('r', "GET k", 0, 0),
    ('w', "SET k 4", 0, 0),
    ('r', "CLIENT CACHING YES", 0, 0),
    ('r', "CLIENT TRACKINGINFO", 0, 0),
    ('r', "GET k", 0, 0),
    ('r', "GET j", 0, 0),
    ('w', "MSET k 5 j 5", 1, 0),
    ('r', "CLIENT CACHING YES", 0, 0),
    ('r', "MULTI", 0, 0),
    ('r', "GET k", 0, 0),
    ('r', "GET j", 0, 0),
    ('r', "EXEC", 0, 0),
    ('w', "MSET k 6 j 6", 2, 0),
    ('r', "GET k", 0, 0),
    ('w', "SET k 7", 0, 0),
    ('r', "CLIENT CACHING YES", 0, 0),
    ('r', "MGET k j", 0, 0),
    ('r', "MGET k l", 0, 0),
    ('w', "MSET k 8 j 8 l 8", 2, 0),
    ('r', "CLIENT TRACKING off", 0, 0),
    ('r', "CLIENT TRACKING on OPTOUT", 0, 0),
    ('r', "CLIENT CACHING NO", 0, 0),
    ('r', "CLIENT TRACKINGINFO", 0, 0),
    ('r', "GET k", 0, 0),
    ('r', "GET j", 0, 0),
    ('w', "MSET k 9 j 9", 1, 0),
    ('r', "CLIENT TRACKING off", 0, 0),
    // Scripts: keys that are declared, once something is read.
    ('r', "CLIENT TRACKING on", 0, 0),
    ('w', "MSET a 1 b 1 c 1", 0, 0),
    ('r', "EVAL redis.call('set',KEYS[1],2) 3 a b c", 0, 0),
    ('w', "MSET a 1 b 1 c 1", 0, 0),
    ('r', "EVAL redis.call('get',KEYS[3]) 3 a b c", 0, 0),
    ('w', "MSET a 2 b 2 c 2", 3, 0),
    ('r', "EVAL redis.pcall('get') 3 a b c", 0, 0),
    ('r', "EVAL_RO redis.call('ping') 2 a b", 0, 0),
    ('w', "MSET a 3 b 3 c 3", 0, 0),
    ('r', "EVAL_RO redis.call('get',KEYS[1]) 2 a b", 0, 0),
    ('w', "MSET a 4 b 4 c 4", 2, 0),
    (
        'r',
        "EVAL redis.call('get',KEYS[1]);redis.call('set',KEYS[2],1) 2 a b",
        1,
        0,
    ),
    ('w', "MSET a 5 b 5 c 5", 1, 0),
    ('r', "MULTI", 0, 0),
    ('r', "EVAL redis.call('get',KEYS[1]) 2 a b", 0, 0),
    ('r', "GET c", 0, 0),
    ('r', "EXEC", 0, 0),
    ('w', "MSET a 6 b 6 c 6", 3, 0),
    ('r', "CLIENT TRACKING off", 0, 0),
    (
        'r',
        "CLIENT TRACKING on BCAST PREFIX user: PREFIX user",
        0,
        0,
    ),
    (
        'r',
        "CLIENT TRACKING on BCAST PREFIX user: PREFIX item:",
        0,
        0,
    ),
    ('r', "CLIENT TRACKING on BCAST PREFIX us", 0, 0),
    ('r', "CLIENT TRACKING on BCAST PREFIX more:", 0, 0),
    ('r', "CLIENT TRACKINGINFO", 0, 0),
    ('w', "SET user:1 1", 1, 0),
    ('w', "SET other 1", 0, 0),
    ('w', "MSET item:1 1 user:1 2", 2, 0),
    ('r', "SET more:1 1", 1, 0),
    ('r', "GET other", 0, 0),
    ('w', "SET other 2", 0, 0),
    ('w', "FLUSHALL", 1, 0),
    ('r', "CLIENT TRACKING off", 0, 0),
    ('w', "SET user:1 1", 0, 0),
    ('r', "CLIENT TRACKING on BCAST NOLOOP", 0, 0),
    ('r', "SET any 1", 0, 0),
    ('w', "SET any 2", 1, 0),
    ('r', "CLIENT TRACKING off", 0, 0),
    // A client that speaks RESP3 would have Redis send its null to one that speaks RESP2.
    ('r', "HELLO 2", 0, 0),
    ('r', "CLIENT TRACKING on REDIRECT ID", 0, 0),
    ('r', "CLIENT GETREDIR", 0, 0),
    ('r', "CLIENT TRACKINGINFO", 0, 0),
    ('r', "GET k", 0, 0),
    ('w', "SET k 1", 0, 1),
    ('w', "FLUSHALL", 0, 1),
    ('r', "RESET", 0, 0),
    ('r', "HELLO 3", 0, 0),
    ('r', "CLIENT TRACKINGINFO", 0, 0),
    ('r', "CLIENT TRACKING on BCAST REDIRECT ID", 0, 0),
    ('w', "SET k 1", 0, 1),
];

/// What differs between servers and runs for good reasons.
fn settle(reply: &str, id: &str) -> String {
    match reply.find("$6\\r\\nserver") {
        Some(_) => "HELLO".to_owned(),
        None => reply.replace(&format!(":{id}\\r"), ":ID\\r"),
    }
}

fn frames(client: &mut Client, count: usize) -> Vec<String> {
    let mut all: Vec<String> = (0..count).map(|_| client.reply().shown()).collect();
    assert!(
        all.iter().all(|frame| !frame.contains("<silence>")),
        "{all:?}"
    );
    // Keys of different shards are changed by one command at once.
    all.sort_unstable();
    all
}

#[test]
fn readers_are_told_what_redis_tells_them() {
    let mut transcripts: Vec<Vec<String>> = Vec::new();
    for which in EVERYWHERE {
        let server = Server::start(which, &[]);
        let mut reader = server.client();
        // Others in between: the three are not on one shard.
        let _others = [server.client(), server.client()];
        let (mut writer, mut listener) = (server.client(), server.client());
        reader.words("HELLO 3");
        listener.words("SUBSCRIBE __redis__:invalidate");
        let list = writer.text("CLIENT LIST TYPE pubsub");
        let id = list
            .split("id=")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let id = id.expect("the listener's id").to_owned();
        let mut said = Vec::new();
        for &(who, line, to_reader, to_listener) in STEPS {
            let client = if who == 'r' { &mut reader } else { &mut writer };
            let reply = client.words(&line.replace("ID", &id)).shown();
            let heard = (
                frames(&mut reader, to_reader),
                frames(&mut listener, to_listener),
            );
            said.push(format!("{line}: {} {heard:?}", settle(&reply, &id)));
        }
        // The listener goes away.
        drop(listener);
        std::thread::sleep(Duration::from_millis(100));
        writer.words("SET k 2");
        said.push(settle(&reader.reply().shown(), &id));
        said.push(settle(&reader.words("CLIENT TRACKINGINFO").shown(), &id));
        for line in ["CLIENT TRACKING off", "PING", "CLIENT GETREDIR"] {
            said.push(reader.words(line).shown());
        }
        let stats = writer.text("INFO");
        for field in ["tracking_clients:0", "tracking_total_prefixes:0"] {
            assert!(stats.contains(field), "{which:?}: {field}");
        }
        transcripts.push(said);
    }
    for other in &transcripts[1..] {
        for (reference, ours) in transcripts[0].iter().zip(other) {
            assert_eq!(reference, ours);
        }
    }
}

/// What a client keeps of what it reads.
#[derive(Default)]
struct Cache {
    values: BTreeMap<String, Vec<u8>>,
    told: usize,
}

impl Cache {
    /// Takes a push that came instead of a reply.
    fn hear(&mut self, push: &[u8]) {
        let text = String::from_utf8_lossy(push);
        assert!(text.starts_with(">2\r\n$10\r\ninvalidate\r\n"), "{text}");
        self.told += 1;
        if text.ends_with("_\r\n") {
            self.values.clear();
        }
        for key in text.split("\r\n").filter(|part| part.starts_with("key:")) {
            self.values.remove(key);
        }
    }

    /// Sends a request; returns its reply, having heard what came before.
    fn ask(&mut self, client: &mut Client, line: &str) -> Vec<u8> {
        client.send(&crate::client::encode(
            &line.split(' ').collect::<Vec<&str>>(),
        ));
        loop {
            match client.reply() {
                Got::Reply(push) if push.starts_with(b">") => self.hear(&push),
                Got::Reply(reply) => return reply,
                other => panic!("{line}: {}", other.shown()),
            }
        }
    }
}

const KEYS: u32 = 60;

fn key(rng: &mut fastrand::Rng) -> String {
    format!("key:{}", rng.u32(..KEYS))
}

/// Reads into a cache until the writers are done; returns what the cache holds in the end.
fn read(server: &Server, options: &str, seed: u64, done: &AtomicBool) -> Cache {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut client = server.client();
    let mut cache = Cache::default();
    client.words("HELLO 3");
    let line = format!("CLIENT TRACKING ON {options}");
    assert_eq!(cache.ask(&mut client, line.trim()), b"+OK\r\n");
    while !done.load(Ordering::Relaxed) {
        let names = [key(&mut rng), key(&mut rng)];
        if rng.u32(..4) == 0 {
            let reply = cache.ask(&mut client, &format!("MGET {} {}", names[0], names[1]));
            let text = String::from_utf8_lossy(&reply).into_owned();
            let mut lines = text.split("\r\n").skip(1);
            for name in names {
                // `$len` and the value, or `_`.
                let head = lines.next();
                let value = head.filter(|line| *line != "_").and_then(|_| lines.next());
                let value = value.map_or(b"_\r\n".to_vec(), |v| {
                    format!("${}\r\n{v}\r\n", v.len()).into_bytes()
                });
                cache.values.insert(name, value);
            }
        } else {
            let [name, _] = names;
            let reply = cache.ask(&mut client, &format!("GET {name}"));
            cache.values.insert(name, reply);
        }
    }
    // What the last writes and deadlines are still to tell.
    std::thread::sleep(Duration::from_millis(300));
    cache.ask(&mut client, "PING");
    cache
}

fn write(server: &Server, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut client = server.client();
    for n in 0..1500 {
        let (a, b) = (key(&mut rng), key(&mut rng));
        let line = match rng.u32(..40) {
            0..20 => format!("SET {a} {seed}:{n}"),
            20..25 => format!("MSET {a} {seed}:{n} {b} {seed}:{n}"),
            25..30 => format!("SET {a} {n} PX {}", rng.u32(1..40)),
            30..34 => format!("DEL {a} {b}"),
            34..38 => format!("PEXPIRE {a} {}", rng.u32(1..40)),
            38 if n % 10 == 0 => "FLUSHALL".to_owned(),
            _ => format!("COPY {a} {b} REPLACE"),
        };
        client.words(&line);
    }
}

#[test]
fn a_cache_that_listens_never_stays_wrong() {
    for shards in [1, 2, 4] {
        // The table holds fewer keys than are read, so that it is cut down all the time.
        let options = ["--tracking-table-max-keys", "40"];
        let server = Server::start(Which::Pinion { shards }, &options);
        let done = AtomicBool::new(false);
        let caches = std::thread::scope(|scope| {
            let readers: Vec<_> = ["", "NOLOOP", "BCAST", "BCAST PREFIX key:1 PREFIX key:2"]
                .into_iter()
                .zip(0..)
                .map(|(options, seed)| {
                    let (server, done) = (&server, &done);
                    scope.spawn(move || (options, read(server, options, seed, done)))
                })
                .collect();
            let writers: Vec<_> = (10..13)
                .map(|seed| {
                    let server = &server;
                    scope.spawn(move || write(server, seed))
                })
                .collect();
            for writer in writers {
                writer.join().expect("a writer");
            }
            done.store(true, Ordering::Relaxed);
            let join = readers
                .into_iter()
                .map(|reader| reader.join().expect("a reader"));
            join.collect::<Vec<_>>()
        });
        let mut client = server.client();
        client.words("HELLO 3");
        for (options, cache) in caches {
            assert!(cache.told > 100, "{shards} {options}: told {}", cache.told);
            for (key, value) in &cache.values {
                let tracked = !options.contains("PREFIX")
                    || key.starts_with("key:1")
                    || key.starts_with("key:2");
                if tracked {
                    let now = client.words(&format!("GET {key}"));
                    assert_eq!(Got::Reply(value.clone()), now, "{shards} {options} {key}");
                }
            }
        }
    }
}

#[test]
fn what_is_evicted_for_a_command_is_told_before_its_reply() {
    let mut transcripts = Vec::new();
    for which in EVERYWHERE {
        let options = ["--notify-keyspace-events", "Ee", "--save", ""];
        let server = Server::start(which, &options);
        let (mut ear, mut client) = (server.client(), server.client());
        ear.text("PSUBSCRIBE __key*");
        client.text("HELLO 3");
        client.text("CLIENT TRACKING ON");
        client.text("CONFIG SET maxmemory-policy volatile-random");
        let mut said = Vec::new();
        for n in 0..12 {
            let figure = |client: &mut Client, name: &str| -> u64 {
                let info = client.text("INFO memory");
                let mut lines = info.split("\\r\\n");
                let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                value.expect("a figure").parse().expect("a number")
            };
            let used = figure(&mut client, "used_memory")
                - figure(&mut client, "mem_not_counted_for_evict");
            client.text(&format!("CONFIG SET maxmemory {}", used + 100 * 1024));
            client.text(&format!("SETEX volatile:{n} 10000 x"));
            client.text(&format!("GET volatile:{n}"));
            // A large key out of a small request.
            client.text("SETBIT big 1600000 0");
            said.push(client.text("GETBIT big 0"));
            said.push(client.reply().shown());
            client.text("CONFIG SET maxmemory 0");
            client.text("DEL big");
            said.push(client.reply().shown());
            client.text("PUBLISH __key-fence here");
            said.push(ear.reply().shown());
            said.push(ear.reply().shown());
        }
        transcripts.push((which, said));
    }
    let (_, wanted) = &transcripts[0];
    assert!(wanted[0].contains("volatile:0"), "{wanted:?}");
    for (which, said) in &transcripts[1..] {
        assert_eq!(said, wanted, "{which}");
    }
}

#[test]
fn a_client_hears_of_its_own_changes_between_its_replies() {
    let line = "GET a\r\nSET a 1\r\nGET a\r\nGET b\r\nDEL a b\r\nGET a\r\nMULTI\r\nSET a 2\r\n\
                GET a\r\nEXEC\r\nPING\r\n";
    let mut transcripts = Vec::new();
    for which in [Which::Reference, Which::Pinion { shards: 1 }] {
        let server = Server::start(which, &[]);
        let mut client = server.client();
        client.text("HELLO 3");
        client.text("CLIENT TRACKING ON");
        client.send(line.as_bytes());
        let mut said = Vec::new();
        while said.last().is_none_or(|last| last != "+PONG\\r\\n") {
            said.push(client.reply().shown());
        }
        transcripts.push(said);
    }
    assert_eq!(transcripts[1], transcripts[0]);
}

/// The limit of the table is that of the whole server.
#[test]
fn readers_of_all_keys_but_one_are_told_when_one_is_the_limit() {
    for which in EVERYWHERE {
        let server = Server::start(which, &[]);
        let (mut reader, mut other) = (server.client(), server.client());
        reader.text("HELLO 3");
        reader.text("CLIENT TRACKING ON");
        for n in 0..250 {
            reader.text(&format!("GET key:{n}"));
        }
        other.text("CONFIG SET tracking-table-max-keys 1");
        frames(&mut reader, 249);
        assert_eq!(reader.text("PING"), "+PONG\\r\\n", "{which}");
        let stats = other.text("INFO stats");
        assert!(stats.contains("tracking_total_keys:1\\r\\n"), "{which}");
    }
}
