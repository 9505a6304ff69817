//! A stock redis-server as replica of Pinion: under writers of every type, over lost connections, it
//! ends with the same data, and never shows half of a transaction.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Got, encode};
use crate::grammar::Author;
use crate::persistence::{line, wait_for};
use crate::process::{Server, Which};
use crate::sameness::{bulk, elements};

const OK: &str = "+OK";

/// A line of `INFO replication` or `stats`.
pub fn info(client: &mut Client, name: &str) -> String {
    let text = client.text("INFO replication") + &client.text("INFO stats");
    let mut lines = text.split("\\r\\n");
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().to_string()
}

fn replica_of(master: &Server) -> Server {
    let port = master.port.to_string();
    let address = format!("127.0.0.1 {port}");
    Server::start(Which::Reference, &["--replicaof", &address])
}

pub fn wait_until_linked(replica: &mut Client) {
    wait_for("the link to the master", || {
        info(replica, "master_link_status") == "up"
    });
}

/// Waits until a replica has everything, and compares.
pub fn agree(master: &Server, replica: &Server) {
    let (mut ours, mut theirs) = (master.client(), replica.client());
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let offset = info(&mut ours, "master_repl_offset");
        let has_all = offset == info(&mut theirs, "slave_repl_offset");
        let equal = line(&mut ours, "DEBUG DIGEST") == line(&mut theirs, "DEBUG DIGEST");
        if has_all && (equal || differences(&mut ours, &mut theirs).is_empty()) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{offset}, {}: {:?}",
            info(&mut theirs, "slave_repl_offset"),
            differences(&mut ours, &mut theirs)
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Keys of which two servers hold different things. A listpack of Redis holds no negative zero: a
/// replica that begins with a small sorted set has a zero for it.
fn differences(ours: &mut Client, theirs: &mut Client) -> Vec<String> {
    let mut found = Vec::new();
    for db in 0..16 {
        for client in [&mut *ours, &mut *theirs] {
            assert_eq!(line(client, &format!("SELECT {db}")), OK);
        }
        let mut all = Vec::new();
        for client in [&mut *ours, &mut *theirs] {
            let Got::Reply(reply) = client.words("KEYS *") else {
                continue;
            };
            let keys = elements(&reply).unwrap_or_default();
            all.extend(keys.into_iter().map(|key| bulk(key).to_vec()));
        }
        all.sort();
        all.dedup();
        for key in all {
            let digest = |client: &mut Client| {
                let words: [&[u8]; 3] = [b"DEBUG", b"DIGEST-VALUE", &key];
                let ttl: [&[u8]; 2] = [b"PEXPIRETIME", &key];
                format!(
                    "{} {}",
                    client.call(&words).shown(),
                    client.call(&ttl).shown()
                )
            };
            if digest(ours) == digest(theirs) {
                continue;
            }
            let tell = |client: &mut Client| {
                let kind = client.call(&[b"TYPE", &key[..]]).shown();
                let words: &[&[u8]] = match kind.starts_with("+zset") {
                    true => &[b"ZRANGE", &key, b"0", b"-1", b"WITHSCORES"],
                    false => &[b"DUMP", &key],
                };
                match client.call(words) {
                    Got::Reply(bytes) => {
                        let text = bytes.escape_ascii().to_string();
                        kind + &text.replace("$2\\r\\n-0\\r", "$1\\r\\n0\\r")
                    }
                    other => other.shown(),
                }
            };
            let (our, their) = (tell(ours), tell(theirs));
            if our == their {
                continue;
            }
            let mut pairs = our.bytes().zip(their.bytes());
            let from = pairs.position(|(our, their)| our != their).unwrap_or(0);
            let part = |text: &str| {
                text[from.saturating_sub(40)..]
                    .chars()
                    .take(80)
                    .collect::<String>()
            };
            found.push(format!(
                "{db} {}: {} / {}",
                key.escape_ascii(),
                part(&our),
                part(&their)
            ));
        }
    }
    found
}

/// Sends random commands, some of them in transactions.
pub fn write(server: &Server, seed: u64, batches: usize) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut author = Author::new(seed);
    let mut client = server.client();
    client.set_wait(Duration::from_secs(60));
    for _ in 0..batches {
        let mut bytes = Vec::new();
        let (mut count, mut open) = (0, false);
        for _ in 0..40 {
            let words = author.request().words;
            let name = words[0].to_ascii_uppercase();
            let ends = matches!(
                &name[..],
                b"MULTI" | b"EXEC" | b"DISCARD" | b"WATCH" | b"RESET"
            );
            if ends || name.starts_with(b"FLUSH") && rng.u8(..4) > 0 {
                continue;
            }
            if rng.u8(..6) == 0 {
                let word: &[u8] = if open { b"EXEC" } else { b"MULTI" };
                bytes.extend(encode(&[word]));
                open = !open;
                count += 1;
            }
            bytes.extend(encode(&words));
            count += 1;
        }
        if open {
            bytes.extend(encode(&[b"EXEC"]));
            count += 1;
        }
        client.send(&bytes);
        for reply in client.replies(count) {
            assert!(matches!(reply, Got::Reply(_)), "{}", reply.shown());
        }
    }
}

fn follows(shards: u32) {
    let master = Server::start(
        Which::Pinion { shards },
        &["--repl-ping-replica-period", "1"],
    );
    let batches = 60;
    write(&master, 100 + u64::from(shards), batches);
    let replica = replica_of(&master);
    let mut client = master.client();
    thread::scope(|scope| {
        for seed in 0..3 {
            let master = &master;
            scope.spawn(move || write(master, 10 * seed + u64::from(shards), batches));
        }
        wait_until_linked(&mut replica.client());
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(100));
            client.text("CLIENT KILL TYPE replica");
        }
    });
    wait_until_linked(&mut replica.client());
    agree(&master, &replica);
    assert_ne!(info(&mut client, "sync_partial_ok"), "0");
    assert_eq!(info(&mut client, "sync_full"), "1", "{}", master.log());
    assert_eq!(info(&mut client, "connected_slaves"), "1");
    // What expires, expires there as well.
    assert_eq!(line(&mut client, "SET soon gone PX 20"), OK);
    assert_eq!(line(&mut client, "WAIT 1 5000"), ":1");
    wait_for("the key to be deleted", || {
        line(&mut replica.client(), "DEBUG OBJECT soon").starts_with("-ERR no such key")
    });
    agree(&master, &replica);
}

#[test]
fn redis_server_follows_one_shard() {
    follows(1);
}

#[test]
fn redis_server_follows_two_shards() {
    follows(2);
}

#[test]
fn redis_server_follows_four_shards() {
    follows(4);
}

#[test]
fn the_append_only_file_comes_and_goes_beside_replicas() {
    let mut master = Server::start(Which::Pinion { shards: 2 }, &[]);
    let replica = replica_of(&master);
    wait_until_linked(&mut replica.client());
    let mut client = master.client();
    let second = thread::scope(|scope| {
        for seed in 0..2 {
            let master = &master;
            scope.spawn(move || write(master, 70 + seed, 120));
        }
        for wanted in ["yes", "no", "yes"] {
            let set = format!("CONFIG SET appendonly {wanted}");
            assert_eq!(line(&mut client, &set), OK);
            thread::sleep(Duration::from_millis(60));
        }
        let second = replica_of(&master);
        wait_until_linked(&mut second.client());
        second
    });
    agree(&master, &replica);
    agree(&master, &second);
    assert_eq!(info(&mut client, "connected_slaves"), "2");
    assert_eq!(info(&mut client, "sync_full"), "2");
    assert_eq!(line(&mut client, "WAIT 2 5000"), ":2");
    // What the file holds is the same.
    wait_for("the end of the rewrite", || {
        let text = client.text("INFO persistence");
        text.contains("aof_enabled:1") && text.contains("aof_rewrite_in_progress:0")
    });
    master.signal("TERM");
    assert!(master.exit().success(), "{}", master.log());
    let mut again = Server::start_in(
        Which::Pinion { shards: 4 },
        &master.dir,
        &["--appendonly", "yes"],
    );
    again.wait_until_up();
    let found = differences(&mut again.client(), &mut replica.client());
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_replica_that_does_not_read_is_cut_off() {
    let options = [
        "--client-output-buffer-limit",
        "replica 1mb 0 0",
        "--repl-backlog-size",
        "64kb",
    ];
    let master = Server::start(Which::Pinion { shards: 2 }, &options);
    let mut client = master.client();
    let mut idle = master.client();
    idle.send(b"SYNC\r\n");
    wait_for("a replica", || info(&mut client, "connected_slaves") == "1");
    let value = "x".repeat(1 << 20);
    wait_for("its end", || {
        client.call(&["SET", "k", &value]);
        info(&mut client, "connected_slaves") == "0"
    });
    assert!(master.log().contains("overcoming of output buffer limits"));
}

/// A number of INFO.
fn figure(client: &mut Client, section: &str, name: &str) -> usize {
    let text = client.text(&format!("INFO {section}"));
    let mut lines = text.split("\\r\\n");
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_default().parse().expect("a number")
}

/// What a slow replica has not taken is kept for all: one that comes back goes on from far behind
/// `repl-backlog-size`, and nothing of it is kept twice.
#[test]
fn who_comes_back_goes_on_from_what_is_kept_for_a_slow_replica() {
    const BACKLOG: usize = 16 * 1024;
    const KEPT: usize = 512 * 1024;
    for shards in [1, 2] {
        let size = BACKLOG.to_string();
        let options = ["--repl-backlog-size", &size, "--client-output-buffer-limit"];
        let options = [&options[..], &["replica 0 0 0"]].concat();
        let master = Server::start(Which::Pinion { shards }, &options);
        let mut client = master.client();
        let replica = replica_of(&master);
        wait_until_linked(&mut replica.client());
        let listed = client.text("CLIENT LIST TYPE replica");
        let id = listed
            .split("id=")
            .nth(1)
            .and_then(|it| it.split(' ').next());
        let kill = format!("CLIENT KILL ID {}", id.expect("a replica"));
        // Another waits for a snapshot that takes long.
        write(&master, 5, 2);
        line(&mut client, "CONFIG SET rdb-key-save-delay 1000000");
        let mut slow = master.client();
        slow.send(b"SYNC\r\n");
        let value = "x".repeat(10_000);
        let mut histlen = 0;
        wait_for("the backlog to grow", || {
            client.call(&["SET", "k", &value]);
            histlen = figure(&mut client, "replication", "repl_backlog_histlen");
            histlen > KEPT
        });
        let all = figure(&mut client, "memory", "mem_total_replication_buffers");
        // It is used, and no reason to evict keys.
        let used = figure(&mut client, "memory", "used_memory");
        let not_counted = figure(&mut client, "memory", "mem_not_counted_for_evict");
        assert!(
            used > all && not_counted >= all,
            "{used}, {not_counted}, {all}"
        );
        assert!((histlen..2 * histlen).contains(&all), "{all} for {histlen}");
        let backlog = figure(&mut client, "memory", "mem_replication_backlog");
        let beyond = figure(&mut client, "memory", "mem_clients_slaves");
        assert_eq!(backlog, BACKLOG);
        assert!(beyond >= histlen - BACKLOG, "{beyond} for {histlen}");
        // The first one misses more than the backlog is to hold.
        replica.signal("STOP");
        assert_eq!(line(&mut client, &kill), ":1");
        let before = info(&mut client, "sync_full");
        for _ in 0..20 {
            client.call(&["SET", "k", &value]);
        }
        replica.signal("CONT");
        wait_for("the link", || info(&mut client, "sync_partial_ok") == "1");
        agree(&master, &replica);
        assert_eq!(info(&mut client, "sync_full"), before);
        assert_eq!(info(&mut client, "connected_slaves"), "2");
        // Nobody needs it any more.
        drop(slow);
        wait_for("the backlog to shrink", || {
            figure(&mut client, "replication", "repl_backlog_histlen") <= BACKLOG
        });
        agree(&master, &replica);
    }
}

/// What a replica does not read is the replica's, not a client's.
#[test]
fn the_memory_of_a_replica_is_its_own() {
    for shards in [1, 2] {
        let master = Server::start(Which::Pinion { shards }, &[]);
        let mut client = master.client();
        let replica = replica_of(&master);
        wait_until_linked(&mut replica.client());
        replica.signal("STOP");
        let before = figure(&mut client, "memory", "mem_clients_normal");
        let value = "x".repeat(100_000);
        wait_for("the replica to fall behind", || {
            client.call(&["SET", "k", &value]);
            figure(&mut client, "memory", "mem_clients_slaves") > 4 << 20
        });
        let normal = figure(&mut client, "memory", "mem_clients_normal");
        assert!(normal < before + 16 * 1024, "{before}, {normal}");
        replica.signal("CONT");
        agree(&master, &replica);
    }
}

#[test]
fn a_server_ends_when_its_replicas_have_everything() {
    let mut master = Server::start(Which::Pinion { shards: 2 }, &[]);
    let replica = replica_of(&master);
    wait_until_linked(&mut replica.client());
    let mut client = master.client();
    wait_for("the replica to be online", || {
        line(&mut client, "WAIT 1 100") == ":1"
    });
    replica.signal("STOP");
    for n in 0..100 {
        assert_eq!(line(&mut client, &format!("SET k{n} {n}")), OK);
    }
    master.signal("TERM");
    wait_for("the wait", || master.log().contains("Waiting for replicas"));
    replica.signal("CONT");
    assert!(master.exit().success(), "{}", master.log());
    assert!(master.log().contains("1 of 1 replicas are in sync"));
    assert_eq!(line(&mut replica.client(), "DBSIZE"), ":100");
}

#[test]
fn transactions_over_shards_are_whole_on_a_replica() {
    const ACCOUNTS: usize = 32;
    let master = Server::start(Which::Pinion { shards: 4 }, &[]);
    let mut client = master.client();
    let names: Vec<String> = (0..ACCOUNTS).map(|n| format!("account:{n}")).collect();
    for name in &names {
        assert_eq!(line(&mut client, &format!("SET {name} 1000")), OK);
    }
    let replica = replica_of(&master);
    let mut reader = replica.client();
    wait_until_linked(&mut reader);
    let stop = AtomicBool::new(false);
    let mut seen = 0;
    thread::scope(|scope| {
        for seed in 0..3 {
            let (stop, master) = (&stop, &master);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed);
                let mut client = master.client();
                while !stop.load(Ordering::Relaxed) {
                    let (from, to) = (rng.usize(..ACCOUNTS), rng.usize(..ACCOUNTS));
                    let lines = match rng.u8(..8) {
                        0 => format!(
                            "COPY account:{from} copy:{to} REPLACE\r\nPING\r\nPING\r\nPING\r\n"
                        ),
                        _ => format!(
                            "MULTI\r\nDECRBY account:{from} 7\r\nINCRBY account:{to} 7\r\nEXEC\r\n"
                        ),
                    };
                    client.send(lines.as_bytes());
                    client.replies(4);
                }
            });
        }
        let all = format!("MGET {}", names.join(" "));
        for _ in 0..300 {
            let reply = reader.text(&all);
            let values = reply.split("\\r\\n").skip(2).step_by(2);
            let sum: i64 = values.filter_map(|text| text.parse::<i64>().ok()).sum();
            assert_eq!(sum, 1000 * ACCOUNTS as i64, "{reply}");
            seen += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(seen, 300);
    agree(&master, &replica);
}

#[test]
fn writers_wait_for_replicas() {
    let options = ["--min-replicas-to-write", "1"];
    let master = Server::start(Which::Pinion { shards: 2 }, &options);
    let mut client = master.client();
    let refused = "-NOREPLICAS Not enough good replicas to write.";
    assert_eq!(line(&mut client, "SET k v"), refused);
    assert_eq!(line(&mut client, "WAIT 1 50"), ":0");
    let replica = replica_of(&master);
    wait_until_linked(&mut replica.client());
    wait_for("writes", || line(&mut client, "SET k v") == OK);
    for n in 0..50 {
        assert_eq!(line(&mut client, &format!("SET k{n} {n}")), OK);
        assert_eq!(line(&mut client, "WAIT 1 5000"), ":1");
        assert_eq!(replica.client().text(&format!("EXISTS k{n}")), ":1\\r\\n");
    }
    assert_eq!(line(&mut client, "WAIT 2 50"), ":1");
    assert_eq!(line(&mut client, "MULTI"), OK);
    assert_eq!(line(&mut client, "SET k w"), "+QUEUED");
    drop(replica);
    let mut other = master.client();
    wait_for("the loss", || info(&mut other, "connected_slaves") == "0");
    let aborted = format!(
        "-EXECABORT Transaction discarded because of: {}",
        &refused[1..]
    );
    assert_eq!(line(&mut client, "EXEC"), aborted);
}

#[test]
fn messages_reach_subscribers_of_a_replica() {
    let master = Server::start(Which::Pinion { shards: 2 }, &[]);
    let replica = replica_of(&master);
    let mut subscriber = replica.client();
    wait_until_linked(&mut subscriber);
    subscriber.text("SUBSCRIBE news");
    let mut client = master.client();
    assert_eq!(line(&mut client, "PUBLISH news hello"), ":0");
    let Got::Reply(message) = subscriber.reply() else {
        panic!("no message");
    };
    assert!(message.ends_with(b"hello\r\n"));
}

#[test]
fn scripts_choose_who_repeats_them() {
    // One key of each audience; with few shards, some of them live where the script does not run.
    const SCRIPT: &str = "for at, flags in ipairs{redis.REPL_ALL, redis.REPL_AOF, redis.REPL_REPLICA, \
         redis.REPL_NONE} do redis.set_repl(flags) redis.call('set', KEYS[at], at) \
         redis.call('publish', 'channel', at) end redis.set_repl(redis.REPL_ALL) \
         redis.call('incr', 'after') return redis.call('mget', unpack(KEYS))";
    for shards in [1, 2, 4] {
        let on = ["--appendonly", "yes", "--appendfsync", "always"];
        let master = Server::start(Which::Pinion { shards }, &on);
        let replica = replica_of(&master);
        let (mut ours, mut theirs) = (master.client(), replica.client());
        wait_until_linked(&mut theirs);
        let mut listener = replica.client();
        line(&mut listener, "SUBSCRIBE channel");
        let ask = ["EVAL", SCRIPT, "4", "a", "b", "c", "d"];
        for _ in 0..2 {
            ours.send(&encode(&ask));
            let all = "*4\\r\\n$1\\r\\n1\\r\\n$1\\r\\n2\\r\\n$1\\r\\n3\\r\\n$1\\r\\n4\\r\\n";
            assert_eq!(ours.reply().shown(), all);
        }
        wait_for("the stream", || {
            line(&mut theirs, "GET after") == "$1\\r\\n2"
        });
        let there = "*4\\r\\n$1\\r\\n1\\r\\n$-1\\r\\n$1\\r\\n3\\r\\n$-1";
        assert_eq!(line(&mut theirs, "MGET a b c d"), there);
        for told in ["1", "3", "1", "3"] {
            let message = listener.reply().shown();
            assert!(
                message.ends_with(&format!("$1\\r\\n{told}\\r\\n")),
                "{message}"
            );
        }
        assert_eq!(line(&mut ours, "DEBUG LOADAOF"), OK);
        let kept = "*4\\r\\n$1\\r\\n1\\r\\n$1\\r\\n2\\r\\n$-1\\r\\n$-1";
        assert_eq!(line(&mut ours, "MGET a b c d"), kept);
    }
}

/// `redis-cli --functions-rdb` asks for a snapshot without keys.
#[test]
fn a_snapshot_may_be_of_functions_alone() {
    for which in [
        Which::Reference,
        Which::Pinion { shards: 1 },
        Which::Pinion { shards: 2 },
    ] {
        let server = Server::start(which, &["--repl-diskless-sync-delay", "0"]);
        let mut client = server.client();
        let library = "#!lua name=l\nredis.register_function('f', function() return 'here' end)";
        client.call(&["FUNCTION", "LOAD", library]);
        for key in 0..100 {
            client.words(&format!("SET key{key} value"));
        }
        let copy = Server::start(Which::Reference, &[]);
        let file = copy.dir.join("dump.rdb");
        let done = std::process::Command::new("redis-cli")
            .args(["-p", &server.port.to_string(), "--functions-rdb"])
            .arg(&file)
            .output()
            .expect("redis-cli");
        assert!(done.status.success(), "{done:?}");
        let mut copied = Server::start_in(Which::Reference, &copy.dir, &[]);
        copied.wait_until_up();
        let mut copied = copied.client();
        assert_eq!(line(&mut copied, "DBSIZE"), ":0");
        assert_eq!(copied.text("FCALL f 0"), "$4\\r\\nhere\\r\\n");
        // One that wants less than everything has to take it without a length.
        for (command, reply) in [
            (
                &["REPLCONF", "rdb-filter-only", "functions keys"][..],
                "-ERR Unsupported rdb-filter-only option: keys",
            ),
            (
                &["REPLCONF", "rdb-filter-only", "'"],
                "-ERR Missing rdb-filter-only values",
            ),
            (&["REPLCONF", "rdb-only", "1", "rdb-filter-only", ""], "+OK"),
            (&["SYNC"], "-ERR Filtered replica requires EOF capability"),
            (&["REPLCONF", "capa", "eof"], "+OK"),
        ] {
            let got = client.call(command).shown();
            assert_eq!(
                got.trim_end_matches("\\r\\n"),
                reply,
                "{which:?}: {command:?}"
            );
        }
    }
}

/// Everything that can be read of streams, but for the times of consumers and the shape of nodes.
fn streams_told(client: &mut Client) -> Vec<String> {
    let mut told = Vec::new();
    for key in ["{a}s", "{b}s", "{c}s"] {
        let about = client.text(&format!("XINFO STREAM {key}"));
        let lines: Vec<&str> = about.split("\\r\\n").collect();
        let is_shape = |at: usize| at > 0 && lines[at - 1].starts_with("radix-tree-");
        let kept = (0..lines.len()).filter(|&at| !is_shape(at));
        told.push(kept.map(|at| lines[at]).collect::<Vec<_>>().join(" "));
        told.push(client.text(&format!("XRANGE {key} - +")));
        told.push(client.text(&format!("XINFO GROUPS {key}")));
        for group in ["g", "h"] {
            let pending = client.text(&format!("XPENDING {key} {group} - + 1000"));
            let lines: Vec<&str> = pending.split("\\r\\n").collect();
            let is_idle = |at: usize| at > 0 && ["one", "two", "three"].contains(&lines[at - 1]);
            let kept = (0..lines.len()).filter(|&at| !is_idle(at));
            told.push(kept.map(|at| lines[at]).collect::<Vec<_>>().join(" "));
        }
    }
    told
}

/// What the reference cannot be asked for comes to it as what it can.
#[test]
fn streams_of_a_stock_replica_are_trimmed_and_claimed_alike() {
    const STREAM: &[&str] = &[
        "XADD K * a 1",
        "XADD K * a 1 b 2",
        "XADD K ACKED MAXLEN 40 * a 1",
        "XADD K DELREF MAXLEN ~ 60 * a 1",
        "XREADGROUP GROUP G one COUNT 7 STREAMS K >",
        "XREADGROUP GROUP G two CLAIM 1 COUNT 5 STREAMS K >",
        "XREADGROUP GROUP G three CLAIM 0 COUNT 4 NOACK STREAMS K >",
    ];
    const OF_AN_ENTRY: &[&str] = &[
        "XACK K G ID",
        "XDEL K ID",
        "XDELEX K IDS 1 ID",
        "XDELEX K DELREF IDS 2 9-9 ID",
        "XDELEX K ACKED IDS 1 ID",
        "XACKDEL K G IDS 1 ID",
        "XACKDEL K G DELREF IDS 1 ID",
        "XACKDEL K G ACKED IDS 1 ID",
        "XTRIM K MINID ID ACKED",
        "XTRIM K MINID ~ ID LIMIT 9 DELREF",
    ];
    let master = Server::start(
        Which::Pinion { shards: 3 },
        &["--stream-node-max-entries", "7"],
    );
    let replica = replica_of(&master);
    let (mut ours, mut theirs) = (master.client(), replica.client());
    wait_until_linked(&mut theirs);
    let keys = ["{a}s", "{b}s", "{c}s"];
    for (key, group) in keys.iter().flat_map(|key| [(key, "g"), (key, "h")]) {
        let made = line(
            &mut ours,
            &format!("XGROUP CREATE {key} {group} 0 MKSTREAM"),
        );
        assert_eq!(made, OK);
    }
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..3000 {
        let key = keys[rng.usize(..3)];
        let group = ["g", "h"][rng.usize(..2)];
        let some = ours.text(&format!("XRANGE {key} - + COUNT {}", rng.u8(1..20)));
        let ids = some.split("\\r\\n").filter(|line| line.contains('-'));
        let id = ids.last().unwrap_or("1-0");
        let template = match rng.u8(..3) {
            0 => OF_AN_ENTRY[rng.usize(..OF_AN_ENTRY.len())],
            _ => STREAM[rng.usize(..STREAM.len())],
        };
        let words = template.split(' ').map(|word| match word {
            "K" => key,
            "G" => group,
            "ID" => id,
            word => word,
        });
        let asked = words.collect::<Vec<_>>().join(" ");
        let reply = ours.text(&asked);
        assert!(
            !reply.starts_with("-E") && !reply.starts_with("-N"),
            "{asked}: {reply}"
        );
    }
    wait_for("the replica to have it all", || {
        info(&mut ours, "master_repl_offset") == info(&mut theirs, "slave_repl_offset")
    });
    assert_eq!(streams_told(&mut ours), streams_told(&mut theirs));
}
