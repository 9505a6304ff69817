//! The append-only file: what was acknowledged is there again, whatever ended the server.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Got};
use crate::compare::{WRITING_CASES, cases_dir};
use crate::persistence::{fill, info, line, wait_for};
use crate::process::{Server, SharedDir, Which};
use crate::transcript::{Compare, Replies, Step, parse};

const ON: [&str; 2] = ["--appendonly", "yes"];

fn restart(shards: u32, dir: &Path, options: &[&str]) -> Server {
    let mut all = ON.to_vec();
    all.extend(options);
    let mut server = Server::start_in(Which::Pinion { shards }, dir, &all);
    server.wait_until_up();
    let mut client = server.client();
    wait_for("the recovery", || info(&mut client, "loading") == "0");
    server
}

fn digest(server: &Server) -> String {
    line(&mut server.client(), "DEBUG DIGEST")
}

#[test]
fn every_command_is_recovered() {
    for (shards, later) in [(1, 2), (4, 3)] {
        let mut server = Server::start(Which::Pinion { shards }, &ON);
        for file in WRITING_CASES {
            let text = fs::read_to_string(cases_dir().join(format!("{file}.txt"))).expect("a file");
            let mut sent = 0;
            let mut clients = std::collections::BTreeMap::new();
            for section in parse(file, &text) {
                for step in &section.steps {
                    let Step::Send(request) = step else { continue };
                    let Replies::Count(count) = request.replies else {
                        continue;
                    };
                    let upper = request.line.to_ascii_uppercase();
                    let disturbs = ["CONFIG", "DEBUG", "SHUTDOWN", "CLIENT REPLY"];
                    if request.compare == Compare::ReferenceOnly
                        || disturbs.iter().any(|word| upper.contains(word))
                    {
                        continue;
                    }
                    let client = clients.entry(request.connection).or_insert_with(|| {
                        let mut client = server.client();
                        // Some wait for what nobody sends here.
                        client.set_wait(Duration::from_secs(2));
                        client
                    });
                    client.send(&request.bytes);
                    (0..count).for_each(|_| drop(client.reply()));
                    sent += 1;
                }
            }
            assert!(sent > 10, "{file}: {sent}");
            let mut client = server.client();
            // Nothing may expire between the two sums.
            for key in keys_with_deadlines(&mut client) {
                client.call(&[&b"PERSIST"[..], &key]);
            }
            thread::sleep(Duration::from_millis(50));
            let before = digest(&server);
            server.signal("KILL");
            server.exit();
            let again = restart(later, &server.dir, &[]);
            assert_eq!(
                digest(&again),
                before,
                "{file} on {shards} shards\n{}",
                again.log()
            );
            drop(again);
            server = restarted_in_place(server, shards);
        }
    }
}

/// What DEBUG DIGEST does not tell of, or may not.
const PROBES: [&str; 6] = [
    "HPEXPIRETIME expiring FIELDS 3 late never soon",
    "HLEN expiring",
    "XINFO GROUPS events",
    "XPENDING events workers",
    "XINFO STREAM events",
    "MGET left right middle:1 middle:2 middle:3",
];

#[test]
fn everything_keeps_its_place_when_the_number_of_shards_changes() {
    let owner = Server::start(Which::Pinion { shards: 1 }, &[]);
    let dir = owner.dir.clone();
    let mut before: Option<(String, Vec<String>)> = None;
    for (round, shards) in [1, 4, 2, 1, 3, 4].into_iter().enumerate() {
        let mut server = restart(shards, &dir, &[]);
        let mut client = server.client();
        let found = |client: &mut Client| -> Vec<String> {
            PROBES.iter().map(|probe| client.text(probe)).collect()
        };
        if let Some((sum, answers)) = &before {
            assert_eq!(found(&mut client), *answers, "round {round}");
            assert_eq!(line(&mut client, "DEBUG DIGEST"), *sum, "round {round}");
        } else {
            fill(&mut client);
        }
        let commands = [
            "HSET expiring late 1 never 2 soon 3".into(),
            format!("HPEXPIREAT expiring 40000000{round}0000 FIELDS 1 late"),
            "HPEXPIRE expiring 1 FIELDS 1 soon".into(),
            format!("XADD events {round}-1 n {round}"),
            format!("XADD events {round}-2 n {round}"),
            "XGROUP CREATE events workers 0 ENTRIESREAD 0".into(),
            format!("XREADGROUP GROUP workers worker:{round} COUNT 1 STREAMS events >"),
            "MULTI".into(),
            format!("SET left {round}"),
            format!("MSET middle:1 {round} middle:2 {round} middle:3 {round}"),
            "LMOVE list other LEFT RIGHT".into(),
            format!("SET right {round}"),
            "SELECT 3".into(),
            "RENAME ints numbers".into(),
            "SELECT 0".into(),
            "EXEC".into(),
        ];
        for command in commands {
            let reply = client.text(&command);
            let is_known = command.starts_with("XGROUP") && round > 0;
            assert!(is_known || !reply.starts_with('-'), "{command}: {reply}");
        }
        wait_for("the field", || client.text("HLEN expiring").contains(":2"));
        if round == 2 {
            client.text("BGREWRITEAOF");
            wait_for("the rewrite", || {
                info(&mut client, "aof_rewrite_in_progress") == "0"
            });
        }
        let answers = found(&mut client);
        before = Some((line(&mut client, "DEBUG DIGEST"), answers));
        server.signal("KILL");
        server.exit();
    }
}

fn restarted_in_place(server: Server, shards: u32) -> Server {
    let fresh = Server::start(Which::Pinion { shards }, &ON);
    drop(server);
    fresh
}

fn keys_with_deadlines(client: &mut Client) -> Vec<Vec<u8>> {
    let Got::Reply(reply) = client.words("KEYS *") else {
        panic!("no keys")
    };
    let text = reply.split(|&byte| byte == b'\n');
    let plain = text.filter(|line| !line.starts_with(b"$") && !line.starts_with(b"*"));
    let keys: Vec<Vec<u8>> = plain
        .filter_map(|line| line.strip_suffix(b"\r"))
        .map(<[u8]>::to_vec)
        .collect();
    let has_deadline =
        |key: &Vec<u8>| client.call(&[&b"PTTL"[..], key]) != Got::Reply(b":-1\r\n".to_vec());
    keys.into_iter().filter(has_deadline).collect()
}

/// Whether a segment goes on with a comment behind what was written to it.
fn has_room_ahead(dir: &Path) -> bool {
    let parts = fs::read_dir(dir.join("appendonlydir")).expect("the directory");
    let mut paths = parts.map(|part| part.expect("a file").path());
    paths.any(|path| {
        path.to_string_lossy().ends_with(".incr.aof")
            && fs::read(&path).expect("a segment").ends_with(b"##\n")
    })
}

#[test]
fn the_directory_is_one_that_redis_boots_from() {
    for (shards, preamble, policy, end) in [
        (1, "yes", "everysec", "TERM"),
        (2, "no", "always", "TERM"),
        (4, "yes", "everysec", "KILL"),
        // Its file goes on with room made ahead.
        (1, "no", "always", "KILL"),
    ] {
        let [on, yes] = ON;
        let preamble = ["--aof-use-rdb-preamble", preamble];
        let options = [&[on, yes], &preamble[..], &["--appendfsync", policy]].concat();
        let mut server = Server::start(Which::Pinion { shards }, &options);
        let mut client = server.client();
        fill(&mut client);
        assert_eq!(
            line(&mut client, "BGREWRITEAOF"),
            "+Background append only file rewriting started"
        );
        for n in 0..100 {
            client.text(&format!("MSET more:{n} {n} other:{n} {n}"));
            client.text(&format!("RENAME more:{n} renamed:{n}"));
            client.text(&format!("LPUSH list {n}"));
        }
        wait_for("the rewrite", || {
            info(&mut client, "aof_rewrite_in_progress") == "0"
        });
        assert_eq!(info(&mut client, "aof_last_bgrewrite_status"), "ok");
        let wanted = digest(&server);
        assert_eq!(line(&mut client, "DEBUG LOADAOF"), OK, "{}", server.log());
        assert_eq!(digest(&server), wanted, "{}", server.log());
        client.text("SET after loading");
        let wanted = digest(&server);
        server.signal(end);
        assert_eq!(server.exit().success(), end == "TERM");
        assert_eq!(
            has_room_ahead(&server.dir),
            (policy, end) == ("always", "KILL"),
            "{policy}, {end}"
        );
        let redis = Server::start_in(Which::Reference, &server.dir, &ON);
        let mut redis = redis;
        redis.wait_until_up();
        let mut loading = redis.client();
        wait_for("the load", || info(&mut loading, "loading") == "0");
        assert_eq!(digest(&redis), wanted, "{shards} shards\n{}", redis.log());
        // What Redis appends, Pinion reads.
        let mut theirs = redis.client();
        for n in 0..50 {
            theirs.text(&format!("MSET theirs:{n} {n} ours:{n} {n}"));
            theirs.text(&format!("RENAME theirs:{n} again:{n}"));
        }
        assert_eq!(line(&mut theirs, "MULTI"), "+OK");
        theirs.text("SADD theirs a b c");
        theirs.text("SPOP theirs");
        theirs.text("EXEC");
        let wanted = digest(&redis);
        redis.signal("KILL");
        redis.exit();
        let back = restart(shards, &server.dir, &[]);
        assert_eq!(digest(&back), wanted, "{}", back.log());
    }
}

#[test]
fn an_old_file_with_and_without_a_snapshot_is_taken_over() {
    for shards in [1, 3] {
        let mut redis = Server::start(Which::Reference, &["--appendonly", "yes"]);
        let mut client = redis.client();
        fill(&mut client);
        // Redis deletes what has expired when it comes by.
        for db in [0, 3, 15] {
            client.text(&format!("SELECT {db}"));
            client.text("DEL gone");
        }
        client.text("SELECT 0");
        let wanted = digest(&redis);
        // Under `everysec` Redis holds writes back while it waits for the disk, unless it ends.
        redis.signal("TERM");
        redis.exit();
        let parts = redis.dir.join("appendonlydir");
        let incr = fs::read(parts.join("appendonly.aof.1.incr.aof")).expect("the commands");
        let base = fs::read(parts.join("appendonly.aof.1.base.rdb")).expect("the base");
        for head in [Vec::new(), base] {
            let old = Server::start(Which::Pinion { shards: 1 }, &[]);
            let mut file = head;
            file.extend_from_slice(&incr);
            fs::write(old.dir.join("appendonly.aof"), file).expect("write");
            let server = restart(shards, &old.dir, &[]);
            assert_eq!(digest(&server), wanted, "{}", server.log());
            assert!(!old.dir.join("appendonly.aof").exists());
        }
    }
}

#[test]
fn flushes_and_swaps_of_all_shards_are_recovered_in_their_place() {
    for shards in [1, 2, 4] {
        let mut server = Server::start(Which::Pinion { shards }, &ON);
        let mut client = server.client();
        let mut rng = fastrand::Rng::with_seed(u64::from(shards));
        for round in 0..40 {
            for n in 0..rng.u32(1..30) {
                let key = rng.u32(..100);
                client.text(&format!("SET key:{key} {round}:{n}"));
                client.text(&format!("SELECT {}", rng.u32(..3)));
            }
            let wholes = ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "SWAPDB 2 1"];
            let whole = wholes[rng.usize(..wholes.len())];
            match rng.u32(..4) {
                0 => drop(client.text(whole)),
                // Among other commands, whose keys live on all shards.
                1 => {
                    client.text("MULTI");
                    for n in 0..rng.u32(1..12) {
                        client.text(&format!("SET key:{} {round}:{n}", rng.u32(..100)));
                        match rng.u32(..4) {
                            0 => drop(client.text(whole)),
                            1 => drop(client.text(&format!("SELECT {}", rng.u32(..3)))),
                            _ => {}
                        }
                    }
                    client.text("EXEC");
                }
                2 => {
                    let called = whole.replace(' ', "', '");
                    let script = format!(
                        "redis.call('SET', KEYS[1], 1) redis.call('{called}') \
                         redis.call('SET', KEYS[2], 2) redis.call('SET', KEYS[3], 3)"
                    );
                    let mut key = || format!("key:{}", rng.u32(..100));
                    client.call(&["EVAL", &script, "3", &key(), &key(), &key()]);
                }
                _ => {}
            }
        }
        let wanted = digest(&server);
        server.signal("KILL");
        server.exit();
        let again = restart(5 - shards, &server.dir, &[]);
        assert_eq!(digest(&again), wanted, "{shards} shards\n{}", again.log());
    }
}

#[test]
fn the_file_is_turned_on_and_off_while_clients_write() {
    for shards in [1, 2] {
        let mut server = Server::start(Which::Pinion { shards }, &[]);
        let mut client = server.client();
        fill(&mut client);
        client.text("SELECT 0");
        assert_eq!(line(&mut client, "CONFIG SET appendonly yes"), OK);
        for n in 0..500 {
            client.text(&format!("INCR counter:{n}"));
        }
        wait_for("the first rewrite", || {
            info(&mut client, "aof_rewrites") == "1"
        });
        assert_eq!(info(&mut client, "aof_enabled"), "1");
        client.text("SET last before");
        let wanted = digest(&server);
        assert_eq!(line(&mut client, "CONFIG SET appendonly no"), OK);
        wait_for("the end", || info(&mut client, "aof_enabled") == "0");
        client.text("SET last after");
        server.signal("KILL");
        server.exit();
        let again = restart(shards, &server.dir, &[]);
        assert_eq!(digest(&again), wanted, "{}", again.log());
    }
}

const OK: &str = "+OK";

#[test]
fn a_torn_end_is_cut_off_and_damage_is_refused() {
    for shards in [1, 2] {
        let mut server = Server::start(Which::Pinion { shards }, &ON);
        let mut client = server.client();
        for n in 0..100 {
            client.text(&format!("SET key:{n} value:{n}"));
        }
        server.signal("KILL");
        server.exit();
        let segment = server.dir.join("appendonlydir/appendonly.aof.1.incr.aof");
        let whole = fs::read(&segment).expect("the segment");
        fs::write(&segment, &whole[..whole.len() - 3]).expect("write");
        let mut refuses = Server::start_in(
            Which::Pinion { shards },
            &server.dir,
            &["--appendonly", "yes", "--aof-load-truncated", "no"],
        );
        assert_eq!(refuses.exit().code(), Some(1));
        assert!(
            refuses.log().contains("Unexpected end of file"),
            "{}",
            refuses.log()
        );
        let again = restart(shards, &server.dir, &[]);
        assert_eq!(
            line(&mut again.client(), "DBSIZE"),
            ":99",
            "{}",
            again.log()
        );
        drop(again);
        let mut damaged = whole.clone();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        fs::write(&segment, &damaged).expect("write");
        let mut refuses = Server::start_in(Which::Pinion { shards }, &server.dir, &ON);
        assert_eq!(refuses.exit().code(), Some(1));
        let log = refuses.log();
        assert!(
            log.contains("Bad file format reading the append only file"),
            "{log}"
        );
    }
}

#[test]
fn waitaof_waits_for_the_disk() {
    for policy in ["everysec", "no", "always"] {
        let [on, yes] = ON;
        let options = [on, yes, "--appendfsync", policy];
        let server = Server::start(Which::Pinion { shards: 2 }, &options);
        let mut client = server.client();
        for n in 0..20 {
            client.text(&format!("MSET a:{n} {n} b:{n} {n}"));
            let got = client.words("WAITAOF 1 0 5000");
            assert_eq!(got, Got::Reply(b"*2\r\n:1\r\n:0\r\n".to_vec()), "{policy}");
        }
        client.text("SET k v");
        let got = client.words("WAITAOF 1 1 300");
        assert_eq!(got, Got::Reply(b"*2\r\n:1\r\n:0\r\n".to_vec()), "{policy}");
        assert_eq!(line(&mut client, "CONFIG SET appendonly no"), OK);
        let refused = line(&mut client, "WAITAOF 1 0 0");
        assert!(refused.contains("appendonly is disabled"), "{refused}");
    }
}

#[test]
fn two_servers_do_not_share_a_directory() {
    let server = Server::start(Which::Pinion { shards: 1 }, &ON);
    let mut second = Server::start_in(Which::Pinion { shards: 1 }, &server.dir, &ON);
    assert_eq!(second.exit().code(), Some(1));
    assert!(
        second.log().contains("in use by another server"),
        "{}",
        second.log()
    );
}

/// Writers note what was acknowledged; a signal ends the server at a random moment, with a snapshot or
/// a rewrite under way; everything noted is there again, and transfers between accounts are whole.
/// A `policy` of two words changes from one to the other, and back, while they write.
fn cycles_of(signal: &str, (shards, policy): (u32, &str), cycles: u64, round: u64) -> u64 {
    const ACCOUNTS: u64 = 16;
    const WRITERS: u64 = 3;
    let policies: Vec<&str> = policy.split(' ').collect();
    let options = ["--appendfsync", policies[0]];
    let mut rng = fastrand::Rng::with_seed(u64::from(shards) + (round << 8));
    let first = Server::start(Which::Pinion { shards: 1 }, &[]);
    let dir = first.dir.clone();
    let mut acknowledged = vec![0u64; WRITERS as usize];
    let mut checked = 0;
    for cycle in 0..cycles {
        let mut server = restart(1 + (cycle as u32 + shards) % 4, &dir, &options);
        let mut client = server.client();
        for (writer, &count) in acknowledged.iter().enumerate() {
            let reply = client.text(&format!("GET count:{writer}"));
            let found = reply.split("\\r\\n").nth(1).unwrap_or("0").parse::<u64>();
            let found = found.unwrap_or(0);
            assert!(
                found >= count,
                "cycle {cycle}: {found} of {count}\n{}",
                server.log()
            );
            let length = line(&mut client, &format!("LLEN log:{writer}"));
            assert_eq!(
                length,
                format!(":{found}"),
                "cycle {cycle}: a transaction is torn"
            );
            checked += found;
        }
        if cycle > 0 {
            let balances = (0..ACCOUNTS).map(|n| {
                let reply = client.text(&format!("GET account:{n}"));
                reply
                    .split("\\r\\n")
                    .nth(1)
                    .expect("a value")
                    .parse::<i64>()
                    .expect("a number")
            });
            assert_eq!(
                balances.sum::<i64>(),
                100 * ACCOUNTS as i64,
                "cycle {cycle}"
            );
        } else {
            (0..ACCOUNTS).for_each(|n| drop(client.text(&format!("SET account:{n} 100"))));
        }
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for (writer, count) in acknowledged.iter_mut().enumerate() {
                // Before the kill, however late the thread comes to run.
                let (mut client, stop) = (server.client(), &stop);
                let mut rng = rng.fork();
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let (from, to) = (rng.u64(..ACCOUNTS), rng.u64(..ACCOUNTS));
                        let text = format!(
                            "MULTI\r\nINCR count:{writer}\r\nRPUSH log:{writer} x\r\n\
                             DECRBY account:{from} 3\r\nINCRBY account:{to} 3\r\nEXEC\r\n"
                        );
                        client.send(text.as_bytes());
                        let replies: Vec<Got> = (0..6).map(|_| client.reply()).collect();
                        match &replies[5] {
                            Got::Reply(bytes) if bytes.starts_with(b"*4\r\n:") => {
                                let text = String::from_utf8_lossy(&bytes[5..]).into_owned();
                                let end = text.find('\r').expect("a number");
                                *count = text[..end].parse().expect("a number");
                            }
                            _ => return,
                        }
                    }
                });
            }
            let begun = Instant::now();
            let life = Duration::from_millis(rng.u64(5..120));
            while begun.elapsed() < life {
                client.text(["BGREWRITEAOF", "BGSAVE"][rng.usize(..2)]);
                if policies.len() > 1 {
                    let next = policies[rng.usize(..policies.len())];
                    client.text(&format!("CONFIG SET appendfsync {next}"));
                }
                let left = life.saturating_sub(begun.elapsed());
                thread::sleep(left.min(Duration::from_millis(rng.u64(1..60))));
            }
            server.signal(signal);
            stop.store(true, Ordering::Relaxed);
        });
        server.exit();
    }
    checked
}

/// `PINION_KILL_ROUNDS=50 cargo test --test wire killed_server -- --nocapture` for two thousand
/// cycles.
#[test]
fn a_killed_server_loses_nothing_that_it_acknowledged() {
    let rounds = std::env::var("PINION_KILL_ROUNDS");
    let rounds = rounds.map_or(1, |text| text.parse().expect("PINION_KILL_ROUNDS"));
    let (mut checked, mut killed) = (0, 0);
    for round in 0..rounds {
        for (shards, policy, cycles) in [
            (1, "always", 8),
            (2, "always", 8),
            (1, "everysec", 8),
            (3, "everysec", 8),
            (4, "no", 6),
            (2, "everysec always no", 8),
        ] {
            checked += cycles_of("KILL", (shards, policy), cycles, round);
            killed += cycles;
        }
        if rounds > 1 {
            println!("{killed} kills, {checked} transactions checked");
        }
    }
    // How many a busy machine manages before each kill is not the point.
    assert!(checked > killed, "{checked} transactions");
}

#[test]
fn a_server_that_ends_beside_writers_loses_nothing_that_it_acknowledged() {
    // Shards do not end at the same instant.
    let checked = [(1, "always"), (2, "everysec"), (3, "no")]
        .map(|(shards, policy)| cycles_of("TERM", (shards, policy), 8, 0));
    assert!(checked.iter().sum::<u64>() > 0);
}

/// Limits how large a file the server may write: a disk that is full, and then is not.
fn limit_files(server: &Server, bytes: &str) {
    let pid = server.pid().to_string();
    let limit = format!("--fsize={bytes}:unlimited");
    let status = std::process::Command::new("prlimit")
        .args(["--pid", &pid, &limit])
        .status();
    assert!(status.expect("prlimit is there").success());
}

#[test]
fn a_full_disk_holds_replies_back_and_refuses_writes_until_there_is_room() {
    for (shards, policy) in [
        (1, "everysec"),
        (1, "always"),
        (2, "everysec"),
        (2, "always"),
    ] {
        let which = Which::Pinion { shards };
        let mut server = Server::start(which, &["--appendonly", "yes", "--appendfsync", policy]);
        let (mut writer, mut other) = (server.client(), server.client());
        assert_eq!(line(&mut other, "SET known value"), OK);
        limit_files(&server, "30000");
        writer.set_wait(Duration::from_millis(100));
        let value = "x".repeat(1000);
        let mut acknowledged = 0;
        let mut got = writer.call(&["SET", "key:0", &value]);
        loop {
            match got {
                Got::Reply(reply) if reply == b"+OK\r\n" => acknowledged += 1,
                // A reply that is late says nothing by itself: the disk may be slow.
                Got::Silence(bytes) if bytes.is_empty() => {
                    if server.log().contains("Error writing to the AOF file") {
                        break;
                    }
                    got = writer.reply();
                    continue;
                }
                other => panic!("{policy}: {}", other.shown()),
            }
            assert!(acknowledged < 1000, "{policy}: the disk is never full");
            got = writer.call(&["SET", &format!("key:{acknowledged}"), &value]);
        }
        assert!(acknowledged > 10, "{policy}: {acknowledged}");
        // Nobody is told of what is not written, and nothing more is taken.
        wait_for("the refusal", || {
            other
                .text("SET known other")
                .starts_with("-MISCONF Errors writing to the AOF file")
        });
        // Reads go on, from wherever they come. INFO asks all shards: its questions wait.
        if policy == "everysec" {
            let mut readers: Vec<Client> = (0..shards).map(|_| server.client()).collect();
            for reader in &mut readers {
                for key in ["known", "key:0", "key:1", "key:2", "key:3"] {
                    let value = reader.text(&format!("STRLEN {key}"));
                    assert!(
                        value == ":5\\r\\n" || value == ":1000\\r\\n",
                        "{key}: {value}"
                    );
                }
            }
        }
        if policy == "everysec" && shards == 1 {
            assert_eq!(info(&mut other, "aof_last_write_status"), "err");
        }
        limit_files(&server, "unlimited");
        writer.set_wait(Duration::from_secs(10));
        assert_eq!(
            writer.reply(),
            Got::Reply(b"+OK\r\n".to_vec()),
            "{policy}: {}",
            server.log()
        );
        wait_for("an end of the refusals", || {
            line(&mut other, "SET known other") == OK
        });
        assert_eq!(info(&mut other, "aof_last_write_status"), "ok");
        server.signal("KILL");
        server.exit();
        let again = restart(shards, &server.dir, &[]);
        let size = line(&mut again.client(), "DBSIZE");
        assert_eq!(size, format!(":{}", acknowledged + 2), "{}", again.log());
    }
}

#[test]
fn commands_are_refused_while_a_long_file_is_read() {
    const KEYS: usize = 60_000;
    for shards in [1, 2] {
        let dir = SharedDir::new();
        let mut file = Vec::new();
        for n in 0..KEYS {
            let key = format!("key:{n:07}");
            file.extend_from_slice(
                format!("*3\r\n$3\r\nSET\r\n$11\r\n{key}\r\n$1\r\nv\r\n").as_bytes(),
            );
        }
        fs::write(dir.join("appendonly.aof"), &file).expect("a file");
        let server = Server::start_in(Which::Pinion { shards }, &dir, &ON);
        let mut refused = 0;
        let mut client = None;
        wait_for("the end of the load", || {
            let Some(client) = client.as_mut() else {
                client = Client::tcp(server.port).ok();
                return false;
            };
            for request in ["GET key:0000001", "SET key:0000001 other"] {
                let reply = client.text(request);
                if reply != "-LOADING Redis is loading the dataset in memory\\r\\n" {
                    return true;
                }
                refused += 1;
            }
            // Whoever watches the server is answered.
            assert!(client.text("INFO persistence").contains("loading:"));
            false
        });
        let mut client = server.client();
        assert!(refused > 0, "{shards} shards: nothing was refused");
        let size = line(&mut client, "DBSIZE");
        assert_eq!(size, format!(":{KEYS}"), "{}", server.log());
    }
}

/// As many as no batch and no queue of batches holds.
#[test]
fn long_segments_are_recovered_by_any_number_of_shards() {
    const KEYS: usize = 60_000;
    let dir = SharedDir::new();
    let mut server = restart(2, &dir, &[]);
    let mut client = server.client();
    for from in (0..KEYS).step_by(1000) {
        let sets = (from..from + 1000).map(|n| format!("SET key:{n} value:{n}\r\n"));
        client.send(sets.collect::<String>().as_bytes());
        assert_eq!(client.replies(1000).len(), 1000);
    }
    for shards in [2, 1, 3, 3] {
        client = server.client();
        client.text("RENAME key:1 key:2");
        client.text("MSET key:3 new key:4 new key:5 new");
        let before = (line(&mut client, "DBSIZE"), digest(&server));
        server.signal("KILL");
        server.exit();
        server = restart(shards, &dir, &[]);
        let size = line(&mut server.client(), "DBSIZE");
        assert_eq!((size, digest(&server)), before, "{}", server.log());
    }
}

#[test]
fn all_shards_end_a_load_at_one_instant() {
    const LOADING: &str = "-LOADING Redis is loading the dataset in memory\\r\\n";
    let dir = SharedDir::new();
    let set = |n| format!("*3\r\n$3\r\nSET\r\n$6\r\n{n:06}\r\n$1\r\nv\r\n");
    let file: String = (0..300_000).map(set).collect();
    for round in 0..6 {
        // The first round reads a file that has no manifest, and makes what the others read.
        if round == 0 {
            fs::write(dir.join("appendonly.aof"), &file).expect("a file");
        }
        let server = Server::start_in(Which::Pinion { shards: 4 }, &dir, &ON);
        let mut clients = Vec::new();
        wait_for("connections", || {
            clients.extend(Client::tcp(server.port).ok());
            clients.len() == 8
        });
        let (mut served, mut refused) = (0, 0);
        // Each is asked some more times after all were served once.
        while served < 40 {
            for client in &mut clients {
                if client.text("GET 000001") != LOADING {
                    served += 1;
                    continue;
                }
                refused += 1;
                assert_eq!(served, 0, "round {round}: one is served, another refused");
            }
        }
        assert!(refused > 0 || round > 0, "nothing was refused");
        drop(clients);
    }
}

#[test]
fn a_file_that_has_grown_is_rewritten_by_itself() {
    for shards in [1, 2] {
        let options = [
            "--appendonly",
            "yes",
            "--auto-aof-rewrite-min-size",
            "200kb",
        ];
        let server = Server::start(Which::Pinion { shards }, &options);
        let mut client = server.client();
        let value = "x".repeat(1000);
        for n in 0..600 {
            client.text(&format!("SET key:{} {value}", n % 10));
        }
        wait_for("a rewrite", || info(&mut client, "aof_rewrites") != "0");
        assert_eq!(info(&mut client, "aof_last_bgrewrite_status"), "ok");
        assert!(server.log().contains("Starting automatic rewriting of AOF"));
    }
}

/// Files in a server's folder that are to take another name.
fn temporaries(server: &Server) -> usize {
    let all = fs::read_dir(&server.dir).expect("the folder").flatten();
    let names = all.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("temp-")).count()
}

/// A rewrite is no BGSAVE: INFO does not show it as one, BGSAVE CANCEL does not give it up. The end of
/// the server does, and leaves nothing of it.
#[test]
fn a_rewrite_is_given_up_by_the_end_of_the_server_only() {
    for shards in [1, 3] {
        let mut server = Server::start(Which::Pinion { shards }, &ON);
        let mut client = server.client();
        fill(&mut client);
        let wanted = digest(&server);
        let delay = "CONFIG SET rdb-key-save-delay 1000000";
        assert_eq!(line(&mut client, delay), OK);
        assert!(line(&mut client, "BGREWRITEAOF").starts_with("+Background"));
        assert_eq!(info(&mut client, "aof_rewrite_in_progress"), "1");
        assert_eq!(info(&mut client, "rdb_bgsave_in_progress"), "0");
        assert_eq!(info(&mut client, "rdb_current_bgsave_time_sec"), "-1");
        assert_eq!(
            line(&mut client, "BGSAVE CANCEL"),
            "-ERR Background saving is currently not in progress or scheduled"
        );
        wait_for("the new base", || temporaries(&server) == 1);
        server.signal("TERM");
        server.exit();
        assert_eq!(temporaries(&server), 0);
        let again = restart(shards, &server.dir, &[]);
        assert_eq!(digest(&again), wanted, "{}", again.log());
        let mut client = again.client();
        line(&mut client, "BGREWRITEAOF");
        wait_for("a rewrite", || info(&mut client, "aof_rewrites") == "1");
    }
}

#[test]
fn turning_the_file_off_gives_up_its_rewrite() {
    for shards in [1, 3] {
        let mut server = Server::start(Which::Pinion { shards }, &ON);
        let mut client = server.client();
        fill(&mut client);
        client.text("SELECT 0");
        let delay = "CONFIG SET rdb-key-save-delay 1000000";
        assert_eq!(line(&mut client, delay), OK);
        // A rewrite of the file, and one that is to begin it.
        for begin in ["BGREWRITEAOF", "CONFIG SET appendonly yes"] {
            line(&mut client, begin);
            wait_for("the new base", || temporaries(&server) == 1);
            client.text("INCR between");
            assert_eq!(line(&mut client, "CONFIG SET appendonly no"), OK);
            wait_for("the end", || {
                let is_over = |name| info(&mut client, name) == "0";
                ["aof_enabled", "aof_rewrite_in_progress"]
                    .into_iter()
                    .all(is_over)
            });
            assert_eq!(temporaries(&server), 0, "{begin}");
            assert!(server.log().contains("Killing running AOF rewrite child"));
        }
        client.text("CONFIG SET rdb-key-save-delay 0");
        client.text("CONFIG SET appendonly yes");
        wait_for("a rewrite", || info(&mut client, "aof_rewrites") == "1");
        client.text("SET last value");
        let wanted = digest(&server);
        server.signal("KILL");
        server.exit();
        let again = restart(shards, &server.dir, &[]);
        assert_eq!(digest(&again), wanted, "{}", again.log());
    }
}

/// Neither a snapshot nor a rewrite that is under way is disturbed, nor do they disturb it.
#[test]
fn the_file_is_loaded_again_beside_what_is_being_written() {
    for shards in [1, 3] {
        let server = Server::start(Which::Pinion { shards }, &ON);
        let mut client = server.client();
        fill(&mut client);
        for (begin, shown) in [
            ("BGSAVE", "rdb_bgsave_in_progress"),
            ("BGREWRITEAOF", "aof_rewrite_in_progress"),
        ] {
            assert_eq!(
                line(&mut client, "CONFIG SET rdb-key-save-delay 1000000"),
                "+OK"
            );
            let begun = line(&mut client, begin);
            assert!(begun.starts_with("+Background"), "{begun}");
            assert_eq!(info(&mut client, shown), "1");
            // Some of it behind the cut.
            client.text(&format!("SET {begin} written"));
            let before = digest(&server);
            assert_eq!(line(&mut client, "DEBUG LOADAOF"), "+OK", "{begin}");
            assert_eq!(digest(&server), before);
            assert_eq!(info(&mut client, shown), "1");
            client.text("SET behind it");
            let before = digest(&server);
            assert_eq!(line(&mut client, "DEBUG LOADAOF"), "+OK", "{begin}");
            assert_eq!(digest(&server), before);
            assert_eq!(line(&mut client, "CONFIG SET rdb-key-save-delay 0"), "+OK");
            wait_for("its end", || info(&mut client, shown) == "0");
        }
        assert_eq!(info(&mut client, "rdb_last_bgsave_status"), "ok");
        assert_eq!(info(&mut client, "aof_last_bgrewrite_status"), "ok");
        assert_eq!(info(&mut client, "aof_rewrites"), "1");
        client.text("SET last one");
        let before = digest(&server);
        assert_eq!(line(&mut client, "DEBUG LOADAOF"), "+OK");
        assert_eq!(digest(&server), before);
        server.signal("KILL");
        let mut server = server;
        server.exit();
        let again = restart(shards, &server.dir, &[]);
        assert_eq!(digest(&again), before);
    }
}

#[test]
fn a_snapshot_that_was_scheduled_is_taken() {
    for shards in [1, 2] {
        let server = Server::start(Which::Pinion { shards }, &[]);
        let mut client = server.client();
        assert_eq!(info(&mut client, "aof_last_bgrewrite_status"), "ok");
        assert_eq!(info(&mut client, "aof_last_rewrite_time_sec"), "-1");
        client.text("DEBUG POPULATE 50000");
        client.send(b"CONFIG SET appendonly yes\r\nBGSAVE SCHEDULE\r\n");
        client.reply();
        let scheduled = client.reply().shown();
        assert!(scheduled.starts_with("+Background saving"), "{scheduled}");
        wait_for("both", || {
            info(&mut client, "rdb_saves") == "1" && info(&mut client, "aof_rewrites") == "1"
        });
    }
}

#[test]
fn what_a_transaction_asks_for_begins_after_it() {
    let asked = [
        (
            "BGSAVE",
            "+Background saving scheduled",
            "rdb_bgsave_in_progress:0",
        ),
        (
            "BGREWRITEAOF",
            "+Background append only file rewriting scheduled",
            "aof_rewrite_scheduled:1",
        ),
        (
            "CONFIG SET appendonly yes",
            "+OK",
            "aof_enabled:1\\r\\naof_rewrite_in_progress:0\\r\\naof_rewrite_scheduled:1",
        ),
    ];
    let everywhere = [1, 2, 4].map(|shards| Which::Pinion { shards });
    for which in everywhere.into_iter().chain([Which::Reference]) {
        let server = Server::start(which, &[]);
        let mut client = server.client();
        for (ask, told, shown) in asked {
            for command in ["MULTI", "SET a 1", "SET b 2", ask, "INFO persistence"] {
                client.text(command);
            }
            let all = client.text("EXEC");
            for part in [told, shown, "aof_rewrite_in_progress:0"] {
                assert!(all.contains(part), "{which:?} {ask}: {all}");
            }
            wait_for(ask, || {
                let is_over = |name| info(&mut client, name) == "0";
                [
                    "rdb_bgsave_in_progress",
                    "aof_rewrite_scheduled",
                    "aof_rewrite_in_progress",
                ]
                .into_iter()
                .all(is_over)
                    && info(&mut client, "rdb_last_bgsave_time_sec") != "-1"
            });
        }
        assert_eq!(info(&mut client, "aof_rewrites"), "2", "{which:?}");
        assert!(
            server
                .log()
                .contains("AOF was enabled during a transaction")
        );
    }
}

#[test]
fn what_renamed_commands_did_is_recovered_and_followed() {
    let names = [
        "--rename-command SET put",
        "--rename-command SELECT pick",
        "--rename-command EXEC done",
    ];
    let mut options: Vec<&str> = names.iter().flat_map(|line| line.split(' ')).collect();
    // Nobody may call this, but what is due goes by it.
    options.extend(["--rename-command", "DEL", ""]);
    for shards in [1, 2] {
        let mut all = ON.to_vec();
        all.extend(&options);
        let mut server = Server::start(Which::Pinion { shards }, &all);
        let replica = Server::start(Which::Pinion { shards }, &options);
        let mut client = server.client();
        let follow = format!("REPLICAOF 127.0.0.1 {}", server.port);
        assert_eq!(line(&mut replica.client(), &follow), "+OK");
        crate::replicas::wait_until_linked(&mut replica.client());
        for ask in ["put a 1", "MULTI", "put b 2 PX 1", "put c 3", "pick 3"] {
            client.words(ask);
        }
        client.words("done");
        assert_eq!(line(&mut client, "put d 4"), "+OK");
        wait_for("the deadline", || {
            line(&mut client, "DEBUG OBJECT b").starts_with("-ERR no such key")
                && client.text("INFO keyspace").contains("db0:keys=2,")
        });
        let wanted = digest(&server);
        wait_for("the replica", || digest(&replica) == wanted);
        server.signal("TERM");
        server.exit();
        let again = restart(shards, &server.dir, &options);
        assert_eq!(digest(&again), wanted, "{}", again.log());
    }
}
