//! Scripts that run for long, and functions: what holds while they run, and what is kept.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::client::{Client, Got, encode};
use crate::persistence::{info, line, wait_for};
use crate::process::{Server, Which};

const BUSY: &str =
    "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";

/// Starts a script that does not end, and waits until the server says so to others.
fn start_endless(server: &Server, script: &str) -> Client {
    let mut runner = server.client();
    runner.set_wait(Duration::from_secs(20));
    runner.send(&encode(&["EVAL", script, "1", "k"]));
    let mut other = server.client();
    wait_for(script, || line(&mut other, "PING") == BUSY);
    runner
}

#[test]
fn a_late_script_keeps_nobody_waiting() {
    const ENDLESS: [&str; 5] = [
        "while true do end",
        "while true do redis.call('publish', 'channel', 'message') end",
        "while true do redis.call('get', 'k') end",
        "while true do redis.call('get', 'a' .. math.random(9)) end",
        "while true do pcall(function() while true do redis.pcall('nosuch') end end) end",
    ];
    for shards in [1, 2, 4] {
        let server = Server::start(Which::Pinion { shards }, &["--busy-reply-threshold", "50"]);
        for script in ENDLESS {
            // What was asked for before the script is late is answered as well.
            let mut early: Vec<Client> = (0..4).map(|_| server.client()).collect();
            let mut runner = server.client();
            runner.set_wait(Duration::from_secs(20));
            runner.send(&encode(&["EVAL", script, "1", "k"]));
            for (early, command) in
                early
                    .iter_mut()
                    .zip(["GET a1", "MGET a b k", "SET k 1", "DBSIZE"])
            {
                let reply = line(early, command);
                let ran = !reply.starts_with('-');
                assert!(ran || reply == BUSY, "{script}: {command}: {reply}");
            }
            let mut other = server.client();
            wait_for(script, || line(&mut other, "PING") == BUSY);
            for (command, reply) in [
                ("GET k", BUSY),
                ("MGET a b c d e f", BUSY),
                ("BLPOP list 1", BUSY),
                ("EVAL 'return 1' 0", BUSY),
                ("SHUTDOWN", BUSY),
                ("MULTI", "+OK"),
                ("SET k 1", BUSY),
                ("DISCARD", "+OK"),
                ("WATCH a b c", "+OK"),
                ("UNWATCH", "+OK"),
                ("SCRIPT KILL", "+OK"),
            ] {
                assert_eq!(line(&mut other, command), reply, "{script}: {command}");
            }
            let reply = line(&mut runner, "ECHO behind");
            assert!(
                reply.starts_with("-ERR Script killed by user"),
                "{script}: {reply}"
            );
            assert!(runner.reply().shown().contains("behind"), "{script}");
            assert_eq!(
                line(&mut other, "SCRIPT KILL"),
                "-NOTBUSY No scripts in execution right now."
            );
            assert_eq!(line(&mut other, "SET k 1"), "+OK");
            assert_eq!(line(&mut other, "MGET a k"), "*2\\r\\n$-1\\r\\n$1\\r\\n1");
        }
    }
}

/// CPU time of the server so far, in hundredths of a second.
fn cpu_ticks(server: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("alive");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    ticks(11) + ticks(12)
}

#[test]
fn who_ends_a_script_that_is_not_late_yet_waits_until_it_is() {
    const FUNCTION: &str = "#!lua name=l\nredis.register_function{function_name='f', flags={'no-writes'}, \
                            callback=function() while true do end end}";
    for which in [
        Which::Reference,
        Which::Pinion { shards: 1 },
        Which::Pinion { shards: 2 },
        Which::Pinion { shards: 4 },
    ] {
        let server = Server::start(which, &["--busy-reply-threshold", "1500"]);
        // As many clients as to have one on each shard.
        let mut others: Vec<Client> = (0..4).map(|_| server.client()).collect();
        others[0].send(&encode(&["FUNCTION", "LOAD", FUNCTION]));
        others[0].reply();
        for (at, other) in others.iter_mut().enumerate() {
            other.set_wait(Duration::from_secs(20));
            let (run, kill): (&[&str], _) = match at % 2 {
                0 => (&["EVAL", "while true do end", "0"], "SCRIPT KILL"),
                _ => (&["FCALL", "f", "0"], "FUNCTION KILL"),
            };
            let mut runner = server.client();
            runner.set_wait(Duration::from_secs(20));
            let before = cpu_ticks(&server);
            runner.send(&encode(run));
            // Nothing else makes the server work: so it has begun.
            wait_for("a script", || cpu_ticks(&server) >= before + 30);
            if at == 1 {
                let stats = other.text("FUNCTION STATS");
                assert!(stats.contains("duration_ms"), "{which}: {stats}");
            }
            assert_eq!(line(other, kill), "+OK", "{which}: {at}");
            let Got::Reply(end) = runner.reply() else {
                panic!("{which}: {at}: the script goes on");
            };
            assert!(end.starts_with(b"-ERR Script killed"), "{which}: {at}");
        }
    }
}

#[test]
fn a_late_script_that_wrote_runs_to_its_end() {
    let options = ["--busy-reply-threshold", "50", "--appendonly", "yes"];
    for shards in [1, 2] {
        let mut server = Server::start(Which::Pinion { shards }, &options);
        let script = "redis.call('set', 'k', 1) redis.call('rpush', 'list', 'x', 'y') \
                      local function now() local t = redis.call('time') return t[1] + t[2] / 1e6 end \
                      local ends = now() + 0.7 \
                      while now() < ends do redis.call('incr', 'k') end \
                      redis.call('set', 'k', 'end') return redis.call('get', 'k')";
        let mut waiter = server.client();
        waiter.set_wait(Duration::from_secs(20));
        waiter.send(&encode(&["BLPOP", "list", "0"]));
        let mut other = server.client();
        wait_for("the waiter", || {
            other.text("INFO clients").contains("blocked_clients:1")
        });
        let mut runner = start_endless(&server, script);
        let mut other = server.client();
        let reply = line(&mut other, "SCRIPT KILL");
        assert!(reply.starts_with("-UNKILLABLE "), "{reply}");
        assert_eq!(runner.reply().shown(), "$3\\r\\nend\\r\\n");
        let served = waiter.reply().shown();
        assert!(served.contains("list"), "{served}");
        assert_eq!(line(&mut other, "GET k"), "$3\\r\\nend");
        // It is in the log, and whole: what it changed before it was late, too.
        assert_eq!(line(&mut other, "DEBUG LOADAOF"), "+OK");
        assert_eq!(line(&mut other, "GET k"), "$3\\r\\nend");
        assert_eq!(line(&mut other, "LRANGE list 0 -1"), "*1\\r\\n$1\\r\\ny");
        // Within a transaction it is the same.
        let mut runner = server.client();
        runner.set_wait(Duration::from_secs(20));
        for words in [
            &["MULTI"][..],
            &["SET", "t", "1"],
            &["EVAL", script, "0"],
            &["EXEC"],
        ] {
            runner.send(&encode(words));
        }
        let replies = runner.replies(4);
        assert_eq!(replies[3].shown(), "*2\\r\\n+OK\\r\\n$3\\r\\nend\\r\\n");
        let _endless = start_endless(&server, "redis.call('set', 'k', 1) while true do end");
        other.send(&encode(&["SHUTDOWN", "NOSAVE"]));
        assert!(server.exit().success());
    }
}

#[test]
fn a_snapshot_that_waits_for_a_script_outlives_the_stream() {
    let server = Server::start(Which::Pinion { shards: 2 }, &["--repl-backlog-ttl", "3"]);
    let replica = Server::start(Which::Pinion { shards: 1 }, &[]);
    let mut follower = replica.client();
    let follow = format!("REPLICAOF 127.0.0.1 {}", server.port);
    assert_eq!(line(&mut follower, &follow), "+OK");
    wait_for("the replica", || {
        crate::replicas::info(&mut follower, "master_link_status") == "up"
    });
    let mut client = server.client();
    let settings = [["save", "1 1"], ["busy-reply-threshold", "50"]];
    for [name, value] in settings {
        client.call(&["CONFIG", "SET", name, value]);
    }
    assert_eq!(line(&mut client, "SET dirty v"), "+OK");
    assert_eq!(line(&mut follower, "REPLICAOF NO ONE"), "+OK");
    let mut runner = start_endless(&server, "while true do end");
    // The cut waits for the script, and nobody is left for whom the stream would go on.
    for event in ["Background saving started", "Replication backlog freed"] {
        wait_for(event, || server.log().contains(event));
    }
    assert_eq!(line(&mut client, "SCRIPT KILL"), "+OK");
    assert!(runner.reply().shown().starts_with("-ERR"));
    wait_for("the snapshot", || {
        info(&mut client, "rdb_bgsave_in_progress") == "0"
    });
    assert_eq!(line(&mut client, "SAVE"), "+OK");
}

fn load(client: &mut Client, name: &str, body: &str) {
    let text =
        format!("#!lua name={name}\nredis.register_function('{name}', function() {body} end)");
    let reply = client.call(&["FUNCTION", "LOAD", &text]).shown();
    assert!(reply.contains(name), "{reply}");
}

/// What a server with these libraries replies.
fn check_functions(server: &Server, wanted: &[(&str, &str)]) {
    let mut client = server.client();
    for (name, reply) in wanted {
        assert_eq!(
            &line(&mut client, &format!("FCALL {name} 0")),
            reply,
            "{}",
            server.log()
        );
    }
    let stats = line(&mut client, "FUNCTION STATS");
    let count = format!(
        "libraries_count\\r\\n:{}",
        wanted
            .iter()
            .filter(|(_, reply)| !reply.starts_with('-'))
            .count()
    );
    assert!(stats.contains(&count), "{stats}");
}

#[test]
fn functions_are_kept() {
    const WANTED: [(&str, &str); 5] = [
        ("early", ":1"),
        ("replaced", ":20"),
        ("deleted", "-ERR Function not found"),
        ("late", ":3"),
        ("restored", ":4"),
    ];
    for (shards, preamble) in [(1, "yes"), (2, "yes"), (2, "no"), (4, "yes")] {
        let options = ["--appendonly", "yes", "--aof-use-rdb-preamble", preamble];
        let mut server = Server::start(Which::Pinion { shards }, &options);
        // On whatever shards these clients are.
        let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
        load(&mut clients[0], "restored", "return 4");
        let dump = match clients[1].call(&["FUNCTION", "DUMP"]) {
            crate::client::Got::Reply(reply) => crate::sameness::bulk(&reply).to_vec(),
            other => panic!("{other:?}"),
        };
        assert_eq!(line(&mut clients[2], "FUNCTION FLUSH"), "+OK");
        load(&mut clients[0], "early", "return 1");
        load(&mut clients[1], "replaced", "return 2");
        load(&mut clients[2], "deleted", "return 3");
        check_functions(
            &server,
            &[("early", ":1"), ("replaced", ":2"), ("deleted", ":3")],
        );
        let mut client = server.client();
        assert_eq!(
            line(&mut client, "BGREWRITEAOF"),
            "+Background append only file rewriting started"
        );
        wait_for("the rewrite", || {
            crate::persistence::info(&mut client, "aof_rewrite_in_progress") == "0"
        });
        load(&mut clients[1], "late", "return 3");
        assert_eq!(line(&mut clients[0], "FUNCTION DELETE deleted"), "+OK");
        let text =
            "#!lua name=replaced\nredis.register_function('replaced', function() return 20 end)";
        clients[3].call(&["FUNCTION", "LOAD", "REPLACE", text]);
        let restored = [&b"FUNCTION"[..], b"RESTORE", &dump];
        assert_eq!(clients[2].call(&restored).shown(), "+OK\\r\\n");
        assert_eq!(line(&mut clients[2], "FLUSHALL"), "+OK");
        assert_eq!(line(&mut clients[2], "SET k v"), "+OK");
        check_functions(&server, &WANTED);
        wait_for("the rewrite that a flush begins", || {
            crate::persistence::info(&mut client, "aof_rewrite_in_progress") == "0"
                && crate::persistence::info(&mut client, "aof_rewrite_scheduled") == "0"
        });
        assert_eq!(
            line(&mut client, "DEBUG LOADAOF"),
            "+OK",
            "{}",
            server.log()
        );
        check_functions(&server, &WANTED);
        assert_eq!(line(&mut client, "DEBUG RELOAD"), "+OK", "{}", server.log());
        check_functions(&server, &WANTED);
        assert_eq!(line(&mut client, "SAVE"), "+OK");
        server.signal("TERM");
        assert!(server.exit().success());
        // Both files, in both servers.
        for which in [
            Which::Reference,
            Which::Pinion { shards },
            Which::Pinion { shards: 3 },
        ] {
            for kept in ["yes", "no"] {
                let mut again = Server::start_in(which, &server.dir, &["--appendonly", kept]);
                again.wait_until_up();
                let mut loading = again.client();
                wait_for("the load", || {
                    crate::persistence::info(&mut loading, "loading") == "0"
                });
                check_functions(&again, &WANTED);
                again.signal("KILL");
                again.exit();
            }
        }
    }
}

#[test]
fn the_time_of_a_script_stands_still() {
    const SCRIPT: &str = "redis.call('set', KEYS[1], 'v', 'px', 20) redis.call('set', 'there', 'v', 'px', 20) \
         local from = redis.call('time') redis.call('debug', 'sleep', 0.05) \
         local to = redis.call('time') local us = (to[1] - from[1]) * 1000000 + to[2] - from[2] \
         return {us >= 50000, redis.call('exists', KEYS[1], 'there'), redis.call('pttl', KEYS[1])}";
    for shards in [1, 2, 4] {
        let server = Server::start(Which::Pinion { shards }, &["--enable-debug-command", "yes"]);
        let mut client = server.client();
        line(&mut client, "DEBUG SET-DISABLE-DENY-SCRIPTS 1");
        for key in ["a", "b", "c"] {
            client.send(&encode(&["EVAL", SCRIPT, "1", key]));
            let reply = client.reply().shown();
            assert_eq!(
                reply, "*3\\r\\n:1\\r\\n:2\\r\\n:20\\r\\n",
                "{key}, {shards} shard(s)"
            );
            wait_for("its deadline", || {
                line(&mut client, &format!("EXISTS {key} there")) == ":0"
            });
        }
        // A key that is due is there for who asks about its form, and for nobody else.
        line(&mut client, "DEBUG SET-ACTIVE-EXPIRE 0");
        line(&mut client, "SET due v PX 1");
        line(&mut client, "DEBUG SLEEP 0.01");
        assert!(line(&mut client, "DEBUG OBJECT due").contains("encoding:embstr"));
        client.send(&encode(&[
            "EVAL",
            "return redis.call('exists', 'due')",
            "0",
        ]));
        assert_eq!(client.reply().shown(), ":0\\r\\n");
    }
}

/// A job is taken from a queue, and noted under a key with its name. The first call finds no job, and
/// touches nothing but the keys that it was called with.
const TAKES: &str = "local job = redis.call('rpoplpush', keys[1], keys[2]) \
     if not job then return {} end \
     redis.call('set', job .. ':lock', args[1]) redis.call('hincrby', 'count:' .. job, 'taken', 1) \
     return {job, redis.call('get', job .. ':lock'), redis.call('llen', keys[2])}";

#[test]
fn a_script_may_compute_keys_after_it_changed_others() {
    let eval = format!("local keys, args = KEYS, ARGV {TAKES}");
    let library = format!(
        "#!lua name=jobs\nredis.register_function('take', function(keys, args) {TAKES} end)"
    );
    let mut sides = vec![Which::Reference];
    sides.extend([1, 2, 4].map(|shards| Which::Pinion { shards }));
    let told = sides.into_iter().map(|which| {
        let server = Server::start(which, &[]);
        let mut client = server.client();
        client.call(&["FUNCTION", "LOAD", &library]);
        let mut told = Vec::new();
        for by in [["EVAL", &eval], ["FCALL", "take"]] {
            for round in 0..12 {
                // Keys of several shards, and of one.
                let name = format!("{}{round}", by[0]);
                let keys = match round % 2 {
                    0 => [format!("wait:{name}"), format!("active:{name}")],
                    _ => [format!("{{q{name}}}wait"), format!("{{q{name}}}active")],
                };
                let take = [by[0], by[1], "2", &keys[0], &keys[1], "token"];
                told.push(client.call(&take).shown());
                for job in 0..4 {
                    client.call(&["LPUSH", &keys[0], &format!("{name}:job{job}")]);
                    told.push(client.call(&take).shown());
                }
                told.push(client.text(&format!("HGETALL count:{name}:job3")));
            }
        }
        told
    });
    let told: Vec<Vec<String>> = told.collect();
    assert!(told[0].iter().all(|reply| !reply.starts_with('-')));
    for other in &told[1..] {
        assert_eq!(*other, told[0]);
    }
}

/// Reads and writes keys that it is not called with, wherever they are.
const COMPUTES_KEYS: &str = "redis.call('get', ARGV[1]) redis.call('set', ARGV[1], 'w') \
     redis.call('set', ARGV[2], 'w') return 'done'";

#[test]
fn a_pause_leaves_scripts_that_have_begun_alone() {
    const ROUNDS: usize = 30;
    let server = Server::start(Which::Pinion { shards: 2 }, &[]);
    let is_over = AtomicBool::new(false);
    let pause = || {
        let mut admin = server.client();
        while !is_over.load(Ordering::Relaxed) {
            assert_eq!(line(&mut admin, "CLIENT PAUSE 2 WRITE"), "+OK");
            thread::sleep(Duration::from_millis(3));
        }
    };
    let run = &|at: usize| {
        let mut client = server.client();
        client.set_wait(Duration::from_secs(60));
        for round in 0..ROUNDS {
            let key = |more: usize| format!("key:{}", (at * 3 + round * 5 + more) % 7);
            let eval = |more| {
                let keys = [key(more), key(more + 1), key(2 * more + 2)];
                let script = ["EVAL", COMPUTES_KEYS, "1", &keys[0], &keys[1], &keys[2]];
                [encode(&script), encode(&["ECHO", "behind"])].concat()
            };
            client.send(&(0..5).flat_map(eval).collect::<Vec<u8>>());
            let told = client
                .replies(10)
                .iter()
                .map(Got::shown)
                .collect::<Vec<_>>();
            let wanted = ["$4\\r\\ndone\\r\\n", "$6\\r\\nbehind\\r\\n"];
            assert_eq!(told, wanted.repeat(5), "client {at}, round {round}");
        }
    };
    thread::scope(|scope| {
        scope.spawn(pause);
        let clients: Vec<_> = (0..8).map(|at| scope.spawn(move || run(at))).collect();
        let ends: Vec<_> = clients.into_iter().map(|client| client.join()).collect();
        is_over.store(true, Ordering::Relaxed);
        assert!(ends.iter().all(Result::is_ok), "every client");
    });
}
