//! Snapshots: what one server saves, another loads, and nothing is lost on the way.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Got};
use crate::fixtures::fixtures;
use crate::process::{Server, Which};

const OK: &str = "+OK";

/// A reply of one line without its end.
pub fn line(client: &mut Client, command: &str) -> String {
    let text = client.text(command);
    text.strip_suffix("\\r\\n").unwrap_or(&text).to_string()
}

pub fn info(client: &mut Client, name: &str) -> String {
    let text = client.text("INFO persistence");
    let found = text
        .split("\\r\\n")
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.expect(name).to_string()
}

pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn hand_over(from: &Path, to: &Server) {
    fs::copy(from.join("dump.rdb"), to.dir.join("dump.rdb")).expect("copy the snapshot");
    let mut client = to.client();
    assert_eq!(line(&mut client, "DEBUG RELOAD NOSAVE"), OK, "{}", to.log());
}

/// Keys of every type and encoding, in three databases, some with a deadline far away.
pub fn fill(client: &mut Client) {
    let long = "long".repeat(400);
    let mut commands: Vec<String> = Vec::new();
    for db in [0, 3, 15] {
        commands.push(format!("SELECT {db}"));
        for n in 0..300 {
            commands.push(format!("SET string:{n} value:{n}"));
            commands.push(format!("SET int:{n} {}", n * 1_000_003));
        }
        commands.push(format!("SET long {long}"));
        commands.push("APPEND raw some".into());
        commands.push("APPEND raw more".into());
        commands.push("PFADD hll a b c d e".into());
        for n in 0..200 {
            commands.push(format!("RPUSH list {n} element:{n}"));
            commands.push(format!("SADD ints {n}"));
            commands.push(format!("SADD members member:{n} {n}"));
            commands.push(format!("ZADD scores {n}.5 member:{n}"));
            commands.push(format!("HSET fields field:{n} {long}"));
            commands.push(format!("XADD stream {n}-1 field {n}"));
        }
        for small in ["RPUSH l a 1", "SADD s a b", "ZADD z 1 a 2 b", "HSET h f v"] {
            commands.push(small.into());
        }
        for stream in [
            "XGROUP CREATE stream group 0",
            "XREADGROUP GROUP group alice COUNT 20 STREAMS stream >",
            "XACK stream group 3-1 4-1",
            "XDEL stream 100-1",
        ] {
            commands.push(stream.into());
        }
        for key in ["string:1", "list", "scores", "h"] {
            commands.push(format!("PEXPIREAT {key} 4000000000000"));
        }
        commands.push("SET gone soon PX 1".into());
    }
    commands.push("SELECT 0".into());
    for command in commands {
        let reply = client.text(&command);
        assert!(!reply.starts_with('-'), "{command}: {reply}");
    }
    thread::sleep(Duration::from_millis(5));
}

#[test]
fn a_snapshot_goes_to_redis_and_back() {
    let redis = Server::start(Which::Reference, &[]);
    for shards in [1, 2, 4] {
        let server = Server::start(Which::Pinion { shards }, &[]);
        let mut client = server.client();
        fill(&mut client);
        let digest = line(&mut client, "DEBUG DIGEST");
        assert_eq!(line(&mut client, "SAVE"), OK);
        hand_over(&server.dir, &redis);
        let mut theirs = redis.client();
        assert_eq!(line(&mut theirs, "DEBUG DIGEST"), digest, "{shards} shards");
        assert_eq!(line(&mut theirs, "SAVE"), OK);
        let back = Server::start(Which::Pinion { shards: 5 - shards }, &[]);
        hand_over(&redis.dir, &back);
        assert_eq!(line(&mut back.client(), "DEBUG DIGEST"), digest);
        assert_eq!(line(&mut client, "DEBUG RELOAD"), OK);
        assert_eq!(line(&mut client, "DEBUG DIGEST"), digest);
        assert_eq!(info(&mut client, "rdb_changes_since_last_save"), "0");
    }
}

#[test]
fn files_of_other_servers_load_as_redis_loads_them() {
    let server = Server::start(Which::Pinion { shards: 2 }, &[]);
    let mut client = server.client();
    let (mut equal, mut refused) = (0, 0);
    for fixture in fixtures() {
        if fixture.name.ends_with("zset_zl_v6.rdb") {
            // Its ziplist holds the score "-0" as text. Redis keeps that text until the member is
            // set again, and then stores 0, as is done here at once.
            continue;
        }
        fs::write(server.dir.join("dump.rdb"), &fixture.bytes).expect("write");
        let reply = line(&mut client, "DEBUG RELOAD NOSAVE");
        match fixture.verdict.as_str() {
            "loads" => {
                assert_eq!(reply, OK, "{}\n{}", fixture.name, server.log());
                let digest = line(&mut client, "DEBUG DIGEST");
                assert_eq!(digest, format!("+{}", fixture.digest), "{}", fixture.name);
                equal += 1;
            }
            _ if reply != OK => {
                let told = "-ERR Error trying to load the RDB dump, check server logs";
                assert_eq!(reply, told, "{}", fixture.name);
                refused += 1;
            }
            // Later formats than Redis 7.0 knows.
            _ => {}
        }
    }
    assert!(
        equal > 50 && refused > 5,
        "{equal} equal, {refused} refused"
    );
}

#[test]
fn a_snapshot_is_one_instant_of_all_shards() {
    const ACCOUNTS: u64 = 64;
    let server = Server::start(Which::Pinion { shards: 4 }, &[]);
    let other = Server::start(Which::Pinion { shards: 1 }, &[]);
    let mut client = server.client();
    for n in 0..ACCOUNTS {
        assert_eq!(line(&mut client, &format!("SET account:{n} 1000")), OK);
    }
    for n in 0..20_000 {
        client.send(format!("SET filler:{n} {n}\r\n").as_bytes());
    }
    (0..20_000).for_each(|_| drop(client.reply()));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let mut compared = 0;
    thread::scope(|scope| {
        for seed in 0..3 {
            let (stop, server) = (&stop, &server);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                let mut client = server.client();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let (from, to) = (rng.u64(..ACCOUNTS), rng.u64(..ACCOUNTS));
                    client.send(
                        format!(
                            "MULTI\r\nDECRBY account:{from} 7\r\nINCRBY account:{to} 7\r\nEXEC\r\n"
                        )
                        .as_bytes(),
                    );
                    (0..4).for_each(|_| drop(client.reply()));
                }
            });
        }
        for _ in 0..12 {
            assert_eq!(line(&mut client, "BGSAVE"), "+Background saving started");
            wait_for("the end of a snapshot", || {
                info(&mut client, "rdb_bgsave_in_progress") == "0"
            });
            hand_over(&server.dir, &other);
            let mut reader = other.client();
            let balance = |n: u64| {
                let reply = reader.text(&format!("GET account:{n}"));
                let digits = reply.split("\\r\\n").nth(1).expect("a value");
                digits.parse::<i64>().expect("a number")
            };
            let sum: i64 = (0..ACCOUNTS).map(balance).sum();
            assert_eq!(sum, 1000 * ACCOUNTS as i64);
            assert_eq!(line(&mut other.client(), "DBSIZE"), ":20064");
            compared += 1;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(compared, 12);
    let saves = info(&mut client, "rdb_saves");
    assert_eq!(saves, "12");
}

#[test]
fn a_snapshot_that_fails_stops_writes_until_one_succeeds() {
    for which in [Which::Reference, Which::Pinion { shards: 2 }] {
        let server = Server::start(which, &["--save", "3600 1000000"]);
        let mut client = server.client();
        assert_eq!(line(&mut client, "SET key value"), OK);
        assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "ok");
        // A directory stands where the file is to be.
        fs::create_dir(server.dir.join("dump.rdb")).expect("create");
        assert_eq!(line(&mut client, "SAVE"), "-ERR", "{which}");
        assert_eq!(line(&mut client, "BGSAVE"), "+Background saving started");
        wait_for("the end of a snapshot", || {
            info(&mut client, "rdb_bgsave_in_progress") == "0"
        });
        assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "err");
        for refused in ["SET key other", "PING", "DEL key"] {
            let reply = line(&mut client, refused);
            assert!(
                reply.starts_with("-MISCONF Redis is configured to save RDB snapshots"),
                "{which}: {refused}: {reply}"
            );
        }
        assert_eq!(client.text("GET key"), "$5\\r\\nvalue\\r\\n");
        let left = fs::read_dir(&server.dir).expect("list");
        let temporary = left.filter_map(Result::ok).filter(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with("temp-")
        });
        assert_eq!(temporary.count(), 0, "{which} leaves a temporary file");
        fs::remove_dir(server.dir.join("dump.rdb")).expect("remove");
        assert_eq!(line(&mut client, "BGSAVE"), "+Background saving started");
        wait_for("the status", || {
            info(&mut client, "rdb_last_bgsave_status") == "ok"
        });
        assert_eq!(line(&mut client, "SET key other"), OK, "{which}");
        let unset = client.call(&["CONFIG", "SET", "save", ""]);
        assert_eq!(unset.shown(), "+OK\\r\\n", "{which}");
    }
}

#[test]
fn a_snapshot_under_way_stays_where_it_was_asked_for() {
    let options = ["--rdb-key-save-delay", "5000", "--save", "3600 1000000"];
    let more = ["--enable-protected-configs", "yes"];
    for which in [Which::Reference, Which::Pinion { shards: 2 }] {
        let server = Server::start(which, &[&options[..], &more].concat());
        let mut client = server.client();
        let other = server.dir.join("other");
        fs::create_dir(&other).expect("create");
        assert_eq!(line(&mut client, "DEBUG POPULATE 200"), OK);
        assert_eq!(line(&mut client, "BGSAVE"), "+Background saving started");
        let wanted = info(&mut client, "current_save_keys_total");
        assert_eq!(wanted, "200", "{which}");
        let moved = format!("CONFIG SET dir {}", other.display());
        assert_eq!(line(&mut client, &moved), OK, "{which}");
        wait_for("the end of the snapshot", || {
            info(&mut client, "rdb_bgsave_in_progress") == "0"
        });
        assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "ok", "{which}");
        assert!(server.dir.join("dump.rdb").exists(), "{which}");
        assert!(!other.join("dump.rdb").exists(), "{which}");
    }
}

#[test]
fn a_server_that_stops_keeps_what_it_held() {
    for (shards, later) in [(1, 2), (4, 1)] {
        let which = Which::Pinion { shards };
        let mut server = Server::start(which, &["--save", "3600 1"]);
        let mut client = server.client();
        assert_eq!(line(&mut client, "SET stays value"), OK);
        assert_eq!(line(&mut client, "SET goes value PX 700"), OK);
        assert_eq!(line(&mut client, "SET expires value EX 1000"), OK);
        server.signal("TERM");
        assert!(server.exit().success());
        thread::sleep(Duration::from_millis(750));
        let mut again = Server::start_in(Which::Pinion { shards: later }, &server.dir, &[]);
        again.wait_until_up();
        let mut client = again.client();
        wait_for("the load", || info(&mut client, "loading") == "0");
        assert_eq!(client.text("GET stays"), "$5\\r\\nvalue\\r\\n");
        assert_eq!(client.text("EXISTS goes expires"), ":1\\r\\n");
        let ttl = line(&mut client, "TTL expires");
        assert!([":1000", ":999"].contains(&ttl.as_str()), "{ttl}");
        assert_eq!(info(&mut client, "rdb_last_load_keys_loaded"), "2");
        assert_eq!(info(&mut client, "rdb_last_load_keys_expired"), "1");
        assert!(again.log().contains("DB loaded from disk"));
        // A client that asks for the end without a save gets it.
        assert_eq!(line(&mut client, "SET stays other"), OK);
        client.send(b"SHUTDOWN NOSAVE\r\n");
        assert!(matches!(client.reply(), Got::Closed(_)));
        assert!(again.exit().success());
    }
}

/// Scripts are under way on several shards when the server is ended: what clients were told was done is
/// in the last snapshot.
#[test]
fn a_server_that_ends_beside_writers_has_saved_what_it_told_them() {
    for shards in [2, 4] {
        end_beside_writers(shards, 12);
    }
}

fn end_beside_writers(shards: u32, cycles: usize) {
    const SCRIPT: &str = "for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1]) end";
    const WRITERS: usize = 8;
    let (which, options) = (Which::Pinion { shards }, ["--save", "3600 1"]);
    // The folder is gone with its first server.
    let folder = Server::start(which, &[]);
    let mut server = Server::start_in(which, &folder.dir, &options);
    server.wait_until_up();
    let mut told = [0u64; WRITERS];
    for cycle in 0..cycles {
        let mut ender = server.client();
        thread::scope(|scope| {
            for (writer, told) in told.iter_mut().enumerate() {
                let mut client = server.client();
                scope.spawn(move || {
                    loop {
                        let next = (*told + 1).to_string();
                        let keys = ["a", "b", "c"].map(|name| format!("{name}:{writer}"));
                        let words = ["EVAL", SCRIPT, "3", &keys[0], &keys[1], &keys[2], &next];
                        match client.call(&words) {
                            Got::Reply(bytes) if bytes == b"$-1\r\n" => *told += 1,
                            _ => return,
                        }
                    }
                });
            }
            thread::sleep(Duration::from_millis(20));
            match cycle % 2 {
                0 => server.signal("TERM"),
                _ => ender.send(b"SHUTDOWN SAVE\r\n"),
            }
        });
        server.exit();
        server = Server::start_in(which, &folder.dir, &options);
        server.wait_until_up();
        let mut client = server.client();
        for (writer, told) in told.iter_mut().enumerate() {
            let found = ["a", "b", "c"].map(|name| {
                let reply = client.text(&format!("GET {name}:{writer}"));
                let number = reply.split("\\r\\n").nth(1).map(str::parse::<u64>);
                number.and_then(Result::ok).unwrap_or(0)
            });
            assert_eq!(found, [found[0]; 3], "cycle {cycle}: half a script");
            assert!(found[0] >= *told, "cycle {cycle}: {} of {told}", found[0]);
            *told = found[0];
        }
    }
}

/// Blocks of the file go past the page cache; a value may be longer than a block.
#[test]
fn a_snapshot_of_many_blocks_is_whole() {
    for (shards, later) in [(1, 3), (3, 1)] {
        let server = Server::start(Which::Pinion { shards }, &["--rdbcompression", "no"]);
        let mut client = server.client();
        for command in [
            "DEBUG POPULATE 40000 key 100",
            "SETRANGE long 5000000 x",
            "SETRANGE {a}long 1100000 x",
            "SELECT 7",
            "DEBUG POPULATE 20000 other 200",
            "BGSAVE",
        ] {
            let reply = line(&mut client, command);
            assert!(!reply.starts_with('-'), "{command}: {reply}");
        }
        wait_for("the snapshot", || {
            info(&mut client, "rdb_bgsave_in_progress") == "0"
        });
        assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "ok");
        let file = server.dir.join("dump.rdb");
        assert!(fs::metadata(&file).expect("a file").len() > 14_000_000);
        let before = line(&mut client, "DEBUG DIGEST");
        let mut again = Server::start_in(Which::Pinion { shards: later }, &server.dir, &[]);
        again.wait_until_up();
        assert_eq!(line(&mut again.client(), "DEBUG DIGEST"), before);
        let redis = Server::start(Which::Reference, &[]);
        hand_over(&server.dir, &redis);
        assert_eq!(line(&mut redis.client(), "DEBUG DIGEST"), before);
    }
}

/// A value that takes many chunks, and stays under way for as long as the file is made to wait.
#[test]
fn what_changes_beside_a_snapshot_is_in_it_as_it_was() {
    let redis = Server::start(Which::Reference, &[]);
    for shards in [1, 3] {
        let server = Server::start(Which::Pinion { shards }, &[]);
        let (mut client, mut writer) = (server.client(), server.client());
        let pad = "x".repeat(80);
        for batch in 0..300 {
            let mut words = vec!["ZADD".to_string(), "big".to_string()];
            for n in batch * 100..batch * 100 + 100 {
                words.extend([n.to_string(), format!("member:{n}:{pad}")]);
            }
            assert_eq!(client.call(&words).shown(), ":100\\r\\n");
        }
        assert_eq!(line(&mut client, "ZADD small 1 a"), ":1");
        let changes: [&[&str]; 8] = [
            &["ZADD big 0.5 another"],
            &["MULTI", "ZREM big another", "ZADD small 1 b", "EXEC"],
            &["EVAL return(redis.call('zpopmin',KEYS[1])) 1 big"],
            &["BZPOPMIN small big 0", "BZPOPMAX big small 0"],
            &[
                "ZUNIONSTORE big 2 small big",
                "ZDIFFSTORE small 2 big small",
            ],
            &["EXPIRE big 1000", "COPY big other"],
            &["RENAME big other"],
            &["DEL other"],
        ];
        for commands in changes {
            let before = line(&mut client, "DEBUG DIGEST");
            assert_eq!(
                line(&mut client, "CONFIG SET rdb-key-save-delay 600000000"),
                OK
            );
            assert_eq!(line(&mut client, "BGSAVE"), "+Background saving started");
            for command in commands {
                let reply = line(&mut writer, command);
                assert!(!reply.starts_with('-'), "{command}: {reply}");
            }
            assert_ne!(line(&mut client, "DEBUG DIGEST"), before);
            assert_eq!(info(&mut client, "rdb_bgsave_in_progress"), "1");
            assert_eq!(line(&mut client, "CONFIG SET rdb-key-save-delay 0"), OK);
            wait_for("the snapshot", || {
                info(&mut client, "rdb_bgsave_in_progress") == "0"
            });
            assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "ok");
            hand_over(&server.dir, &redis);
            let saved = line(&mut redis.client(), "DEBUG DIGEST");
            assert_eq!(saved, before, "{shards} shards, {commands:?}");
        }
    }
}

#[test]
fn a_damaged_snapshot_is_the_end_of_a_start() {
    let server = Server::start(Which::Pinion { shards: 1 }, &[]);
    let mut client = server.client();
    fill(&mut client);
    assert_eq!(line(&mut client, "SAVE"), OK);
    let mut bytes = fs::read(server.dir.join("dump.rdb")).expect("read");
    let middle = bytes.len() / 2;
    for damage in [0, middle] {
        bytes[damage] ^= 0x55;
        fs::write(server.dir.join("dump.rdb"), &bytes).expect("write");
        let mut broken = Server::start_in(Which::Pinion { shards: 2 }, &server.dir, &[]);
        assert_eq!(broken.exit().code(), Some(1));
        let log = broken.log();
        assert!(log.contains("Fatal error loading the DB"), "{log}");
        bytes[damage] ^= 0x55;
    }
}

#[test]
fn what_was_flushed_does_not_come_back() {
    for shards in [1, 2] {
        let options = ["--save", "3600 1"];
        let server = Server::start(Which::Pinion { shards }, &options);
        let mut client = server.client();
        client.text("SET k v");
        assert_eq!(line(&mut client, "SAVE"), "+OK");
        assert_eq!(line(&mut client, "FLUSHALL"), "+OK");
        // The snapshot that follows stands in nobody's way.
        assert_eq!(line(&mut client, "SAVE"), "+OK");
        client.text("SET k v");
        assert_eq!(line(&mut client, "SAVE"), "+OK");
        assert_eq!(line(&mut client, "FLUSHALL"), "+OK");
        nothing_comes_back(server, &options);
    }
}

/// What was flushed is saved without being asked for, and gone after a SIGKILL.
fn nothing_comes_back(mut server: Server, options: &[&str]) {
    let mut client = server.client();
    wait_for("the snapshot", || {
        info(&mut client, "rdb_changes_since_last_save") == "0"
    });
    server.signal("KILL");
    server.exit();
    let mut again = Server::start_in(server.which, &server.dir, options);
    again.wait_until_up();
    let mut client = again.client();
    wait_for("the load", || info(&mut client, "loading") == "0");
    assert_eq!(line(&mut client, "DBSIZE"), ":0");
}

#[test]
fn a_refused_bgsave_leaves_the_snapshot_of_nothing_alone() {
    for shards in [1, 2] {
        let options = ["--save", "3600 1"];
        let server = Server::start(Which::Pinion { shards }, &options);
        let mut client = server.client();
        client.text("DEBUG POPULATE 1000");
        assert_eq!(line(&mut client, "SAVE"), OK);
        client.send(b"MULTI\r\nFLUSHALL\r\nEXEC\r\nBGSAVE nonsense\r\n");
        for expected in [
            "+OK\\r\\n",
            "+QUEUED\\r\\n",
            "*1\\r\\n+OK\\r\\n",
            "-ERR syntax error\\r\\n",
        ] {
            assert_eq!(client.reply().shown(), expected);
        }
        nothing_comes_back(server, &options);
    }
}

/// Ways to empty everything, and what is replied. A script that was called with keys runs where most of
/// them live: of these, some anywhere.
const FLUSHES: &[(&str, &str)] = &[
    ("FLUSHALL", "+OK\\r\\n"),
    ("FLUSHALL ASYNC", "+OK\\r\\n"),
    ("FLUSHALL SYNC", "+OK\\r\\n"),
    (
        "MULTI\r\nFLUSHALL\r\nEXEC",
        "+OK\\r\\n+QUEUED\\r\\n*1\\r\\n+OK\\r\\n",
    ),
    (
        "MULTI\r\nEVAL \"return redis.call('flushall')\" 0\r\nPING\r\nEXEC",
        "+OK\\r\\n+QUEUED\\r\\n+QUEUED\\r\\n*2\\r\\n+OK\\r\\n+PONG\\r\\n",
    ),
    ("EVAL \"return redis.call('flushall')\" 0", "+OK\\r\\n"),
    ("EVAL \"return redis.call('flushall')\" 1 a", "+OK\\r\\n"),
    ("EVAL \"return redis.call('flushall')\" 1 b", "+OK\\r\\n"),
    ("FCALL flush 1 a", "+OK\\r\\n"),
];
const FLUSHER: &str = "#!lua name=lib\nredis.register_function('flush', function() return redis.call('flushall') end)";

fn load_flusher(client: &mut Client) {
    let loaded = client.call(&["FUNCTION", "LOAD", FLUSHER]);
    assert_eq!(loaded.shown(), "$3\\r\\nlib\\r\\n");
}

/// FLUSHALL is answered when dump.rdb holds nothing any more: not even a SIGKILL right behind the reply
/// brings anything back.
#[test]
fn what_a_client_knows_to_be_flushed_does_not_come_back() {
    for shards in [1, 2] {
        for (flush, expected) in FLUSHES {
            let options = ["--save", "3600 1"];
            let mut server = Server::start(Which::Pinion { shards }, &options);
            let mut client = server.client();
            load_flusher(&mut client);
            client.text("DEBUG POPULATE 1000");
            assert_eq!(line(&mut client, "SAVE"), OK);
            // What comes behind it in a pipeline is answered behind it.
            client.send(format!("{flush}\r\nDBSIZE\r\n").as_bytes());
            replies(&mut client, expected);
            server.kill();
            is_empty_again(&server, &options);
        }
    }
}

/// Replies that are there, one after the other.
fn replies(client: &mut Client, expected: &str) {
    let mut shown = String::new();
    while shown.len() < expected.len() {
        shown += &client.reply().shown();
    }
    assert_eq!(shown, expected);
}

/// The snapshot of nothing comes behind what is being written, and the reply behind that. Nobody else
/// waits.
#[test]
fn a_flush_behind_a_rewrite_is_answered_when_nothing_comes_back() {
    for shards in [1, 2] {
        for (flush, expected) in FLUSHES {
            flush_behind_a_rewrite(shards, flush, expected, false);
        }
        // Nor if it first waits for somebody else to be done with a key.
        flush_behind_a_rewrite(shards, "FLUSHALL", "+OK\\r\\n", true);
    }
}

fn flush_behind_a_rewrite(shards: u32, flush: &str, expected: &str, is_held: bool) {
    let options = ["--save", "3600 1"];
    let mut server = Server::start(Which::Pinion { shards }, &options);
    let (mut client, mut other) = (server.client(), server.client());
    load_flusher(&mut client);
    client.text("DEBUG POPULATE 1000");
    assert_eq!(line(&mut client, "SAVE"), OK);
    // Until it is told otherwise, the rewrite does not end.
    client.text("CONFIG SET rdb-key-save-delay 100000000");
    client.text("BGREWRITEAOF");
    let (queued, last) = match expected.find('*') {
        Some(at) => expected.split_at(at),
        None => ("", expected),
    };
    // It accepts nothing: a key is on its way there for a while.
    let nobody = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = nobody.local_addr().expect("an address").port();
    let mut mover = server.client();
    if is_held {
        mover.send(format!("MIGRATE 127.0.0.1 {port} key:1 0 500\r\n").as_bytes());
        wait_for("the key to be held", || {
            other.text("CLIENT LIST").contains("cmd=migrate")
        });
    }
    client.send(format!("{flush}\r\nECHO behind\r\n").as_bytes());
    replies(&mut client, queued);
    wait_for("the flush", || line(&mut other, "DBSIZE") == ":0");
    assert_eq!(line(&mut other, "SET k v"), OK);
    assert_eq!(line(&mut other, "DEL k"), ":1");
    // What fails has emptied nothing.
    let wrong = other.call(&["EVAL", "return redis.pcall('flushall', 'x')", "0"]);
    assert_eq!(wrong.shown(), "-ERR syntax error\\r\\n");
    assert_eq!(info(&mut other, "aof_rewrite_in_progress"), "1");
    client.set_wait(Duration::from_millis(100));
    assert_eq!(client.reply().shown(), " <silence>", "{flush}");
    client.set_wait(Duration::from_secs(60));
    assert_eq!(line(&mut other, "CONFIG SET rdb-key-save-delay 0"), OK);
    replies(&mut client, last);
    assert_eq!(client.reply().shown(), "$6\\r\\nbehind\\r\\n");
    server.kill();
    is_empty_again(&server, &options);
}

/// A server that starts with what another one left has no keys.
fn is_empty_again(left: &Server, options: &[&str]) {
    let mut again = Server::start_in(left.which, &left.dir, options);
    again.wait_until_up();
    assert_eq!(line(&mut again.client(), "DBSIZE"), ":0");
}

#[test]
fn snapshots_that_nobody_asked_for_do_not_count() {
    let reference = [Which::Reference].into_iter();
    for which in reference.chain([1, 2].map(|shards| Which::Pinion { shards })) {
        let server = Server::start(which, &["--save", "3600 1"]);
        let mut client = server.client();
        let counted = |client: &mut Client, asked: &str, saves: &str, took: bool| {
            client.text(asked);
            wait_for("the snapshot", || {
                info(client, "rdb_changes_since_last_save") == "0"
                    && info(client, "rdb_bgsave_in_progress") == "0"
            });
            assert_eq!(info(client, "rdb_saves"), saves, "{which} {asked}");
            let last = info(client, "rdb_last_bgsave_time_sec");
            assert_eq!(last != "-1", took, "{which} {asked}");
        };
        client.text("SET k v");
        counted(&mut client, "FLUSHALL", "0", false);
        client.text("SET k v");
        counted(&mut client, "SAVE", "1", false);
        counted(&mut client, "DEBUG RELOAD", "1", false);
        client.text("SET k v");
        counted(&mut client, "BGSAVE", "2", true);
    }
}

/// With an append-only file that holds the flush its reply does not wait for the rewrite.
#[test]
fn a_flush_beside_a_rewrite_is_saved_behind_it() {
    for shards in [1, 2] {
        let options = ["--save", "3600 1", "--appendonly", "yes"];
        let server = Server::start(Which::Pinion { shards }, &options);
        let mut client = server.client();
        client.text("DEBUG POPULATE 1000");
        assert_eq!(line(&mut client, "SAVE"), OK);
        assert_eq!(line(&mut client, "CONFIG SET rdb-key-save-delay 500"), OK);
        client.text("BGREWRITEAOF");
        assert_eq!(info(&mut client, "aof_rewrite_in_progress"), "1");
        assert_eq!(line(&mut client, "FLUSHALL"), OK);
        assert_eq!(info(&mut client, "aof_rewrite_in_progress"), "1");
        nothing_comes_back(server, &options);
    }
}

#[test]
fn changes_of_whole_databases_count_as_in_redis() {
    let commands = [
        "SET a 1",
        "MSET b 2 c 3 d 4",
        "FLUSHALL",
        "FLUSHALL",
        "FLUSHDB",
        "MSET a 1 b 2",
        "SWAPDB 0 1",
        "SWAPDB 1 1",
        "FLUSHDB",
        "SELECT 1",
        "FLUSHDB",
    ];
    let counts = |which| {
        let server = Server::start(which, &["--save", ""]);
        let mut client = server.client();
        let count = |command: &&str| {
            client.text(command);
            info(&mut client, "rdb_changes_since_last_save")
        };
        commands.iter().map(count).collect::<Vec<_>>()
    };
    let wanted = counts(Which::Reference);
    for shards in [1, 2, 4] {
        assert_eq!(counts(Which::Pinion { shards }), wanted, "{shards} shards");
    }
}

/// Redis reads everything again in one go: no client can write in between.
#[test]
fn what_is_written_beside_a_load_is_not_forgotten() {
    for shards in [1, 2] {
        let mut server = Server::start(Which::Pinion { shards }, &["--appendonly", "yes"]);
        let mut client = server.client();
        write_keys(&mut client, 5000);
        wait_for("the first base", || {
            info(&mut client, "aof_rewrite_in_progress") == "0"
        });
        let told = write_beside(&server, || {
            for n in 0..6 {
                let how = ["DEBUG RELOAD", "DEBUG LOADAOF"][n % 2];
                assert_eq!(line(&mut client, how), OK, "{}", server.log());
            }
        });
        let look = |server: &Server, when: &str| {
            let mut client = server.client();
            for (writer, told) in told.iter().enumerate() {
                let sums = ["a", "b", "c"].map(|name| {
                    let reply = client.text(&format!("GET {name}:{writer}"));
                    let number = reply.split("\\r\\n").nth(1).map(str::parse::<u64>);
                    number.and_then(Result::ok).unwrap_or(0)
                });
                assert_eq!(sums, [*told; 3], "{when}, {shards} shards, {writer}");
            }
        };
        look(&server, "at once");
        server.kill();
        server.exit();
        let options = ["--appendonly", "yes"];
        let mut again = Server::start_in(Which::Pinion { shards }, &server.dir, &options);
        again.wait_until_up();
        look(&again, "after a restart");
    }
}

fn write_keys(client: &mut Client, keys: usize) {
    let lines: Vec<String> = (0..keys).map(|n| format!("SET key:{n} {n}\r\n")).collect();
    client.send(lines.concat().as_bytes());
    client.replies(keys);
}

/// What each of some clients has been told to be written to three keys of its own, while something goes
/// on. A server that loads may refuse it.
fn write_beside(server: &Server, go_on: impl FnOnce()) -> [u64; 4] {
    let mut told = [0; 4];
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for (writer, told) in told.iter_mut().enumerate() {
            let (mut client, over) = (server.client(), &over);
            scope.spawn(move || {
                let keys = ["a", "b", "c"].map(|name| format!("{name}:{writer}"));
                let mut one_more = |command: &str| loop {
                    let reply = client.text(command);
                    if !reply.starts_with("-LOADING") {
                        assert!(!reply.starts_with('-'), "{reply}");
                        return;
                    }
                };
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    *told += 1;
                    if *told % 2 == 0 {
                        let [a, b, c] = &keys;
                        one_more(&format!("MSET {a} {told} {b} {told} {c} {told}"));
                    } else {
                        keys.iter().for_each(|key| one_more(&format!("INCR {key}")));
                    }
                }
            });
        }
        go_on();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    told
}

/// It comes behind the transaction.
#[test]
fn a_transaction_may_ask_for_a_load() {
    for shards in [1, 2] {
        let server = Server::start(Which::Pinion { shards }, &["--appendonly", "yes"]);
        let mut client = server.client();
        for how in ["RELOAD", "LOADAOF"] {
            let lines = format!("MULTI\r\nSET a 1\r\nINCR b\r\nDEBUG {how}\r\nGET a\r\nEXEC\r\n");
            client.send(lines.as_bytes());
            let replies = client.replies(6);
            let last = replies.last().map(Got::shown).unwrap_or_default();
            assert!(last.ends_with("+OK\\r\\n$1\\r\\n1\\r\\n"), "{how}: {last}");
            // It has not begun, perhaps; one that comes behind it is over when both are.
            assert_eq!(line(&mut client, &format!("DEBUG {how}")), OK);
            assert_eq!(client.text("GET a"), "$1\\r\\n1\\r\\n");
        }
        assert_eq!(line(&mut client, "INCR b"), ":3");
    }
}

#[test]
fn loads_that_several_ask_for_come_one_behind_the_other() {
    let server = Server::start(Which::Pinion { shards: 2 }, &["--appendonly", "yes"]);
    let mut clients: Vec<Client> = (0..6).map(|_| server.client()).collect();
    write_keys(&mut clients[0], 2000);
    let digest = line(&mut clients[0], "DEBUG DIGEST");
    for _ in 0..3 {
        for (n, client) in clients.iter_mut().enumerate() {
            client.send(["DEBUG RELOAD\r\n", "DEBUG LOADAOF\r\n"][n % 2].as_bytes());
        }
        for client in &mut clients {
            assert_eq!(client.reply().shown(), "+OK\\r\\n", "{}", server.log());
        }
        assert_eq!(line(&mut clients[0], "DEBUG DIGEST"), digest);
    }
}

/// What is one piece is left one, however long its elements are.
#[test]
fn encodings_survive_a_load() {
    let pinion = [1, 2].map(|shards| Which::Pinion { shards });
    for which in [Which::Reference].into_iter().chain(pinion) {
        let server = Server::start(which, &[]);
        let mut client = server.client();
        let (middle, long) = ("m".repeat(60), "l".repeat(100));
        client.text(&format!("HSET plain field {middle}"));
        client.text(&format!("ZADD scores 1 {middle}"));
        client.text(&format!("HSET table field {long}"));
        let mut names = vec!["plain", "scores", "table"];
        if which != Which::Reference {
            for name in ["dies", "died", "large"] {
                client.text(&format!("HSET {name} a {middle} b 2 c 3"));
                client.text(&format!("HEXPIRE {name} 1000 FIELDS 2 c a"));
                names.push(name);
            }
            client.text("HPERSIST died FIELDS 2 a c");
            client.text(&format!("HSET large a {long}"));
        }
        let shown = |client: &mut Client| -> Vec<String> {
            let one = |name: &&str| client.text(&format!("OBJECT ENCODING {name}"));
            names.iter().map(one).collect()
        };
        let before = shown(&mut client);
        let words = [
            "listpack",
            "listpack",
            "hashtable",
            "listpackex",
            "listpackex",
        ];
        for (wanted, shown) in words.iter().zip(&before) {
            assert!(
                shown.ends_with(&format!("{wanted}\\r\\n")),
                "{which}: {before:?}"
            );
        }
        client.text("CONFIG SET hash-max-listpack-value 10 zset-max-listpack-value 10");
        assert_eq!(line(&mut client, "DEBUG RELOAD"), OK);
        assert_eq!(shown(&mut client), before, "{which}");
        for name in &names {
            let Got::Reply(reply) = client.words(&format!("DUMP {name}")) else {
                panic!("a payload");
            };
            let begin = reply
                .windows(2)
                .position(|it| it == b"\r\n")
                .expect("a length")
                + 2;
            let payload = &reply[begin..reply.len() - 2];
            let words: [&[u8]; 5] = [b"RESTORE", name.as_bytes(), b"0", payload, b"REPLACE"];
            assert_eq!(client.call(&words).shown(), "+OK\\r\\n", "{which}: {name}");
        }
        assert_eq!(shown(&mut client), before, "{which}");
        if which != Which::Reference {
            let left = line(&mut client, "HTTL dies FIELDS 3 a b c");
            assert!(
                left.starts_with("*3\\r\\n:") && left.contains(":-1\\r\\n"),
                "{left}"
            );
            assert_eq!(
                client.text("HMGET dies b c"),
                "*2\\r\\n$1\\r\\n2\\r\\n$1\\r\\n3\\r\\n"
            );
        }
    }
}

/// What was queued before a load would change what is only there in part.
#[test]
fn a_transaction_is_not_carried_out_while_a_load_goes_on() {
    let pinion = [1, 2].map(|shards| Which::Pinion { shards });
    for which in [Which::Reference].into_iter().chain(pinion) {
        let options = ["--loading-process-events-interval-bytes", "1024"];
        let server = Server::start(which, &options);
        let (mut client, mut other) = (server.client(), server.client());
        write_keys(&mut client, 1000);
        client.send(b"MULTI\r\nINCR counter\r\nSET key:1 changed\r\n");
        client.replies(3);
        line(&mut other, "CONFIG SET key-load-delay 5000");
        let mut watcher = server.client();
        other.send(b"DEBUG RELOAD\r\n");
        wait_for("the load", || info(&mut watcher, "loading") == "1");
        let refused = "-EXECABORT Transaction discarded because of: LOADING Redis is loading the \
                       dataset in memory";
        assert_eq!(line(&mut client, "EXEC"), refused, "{which}");
        line(&mut watcher, "CONFIG SET key-load-delay 0");
        assert_eq!(other.reply().shown(), "+OK\\r\\n", "{which}");
        assert_eq!(line(&mut client, "GET counter"), "$-1", "{which}");
        assert_eq!(line(&mut client, "GET key:1"), "$1\\r\\n1", "{which}");
    }
}
