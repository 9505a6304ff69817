//! Scripts that run for long, and functions: what holds while they run, and what is kept.

use std::time::Duration;

use crate::client::{Client, encode};
use crate::persistence::{line, wait_for};
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
    const ENDLESS: [&str; 4] = [
        "while true do end",
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

#[test]
fn a_late_script_that_wrote_runs_to_its_end() {
    let options = ["--busy-reply-threshold", "50", "--appendonly", "yes"];
    for shards in [1, 2] {
        let mut server = Server::start(Which::Pinion { shards }, &options);
        let script = "redis.call('set', 'k', 1) redis.call('rpush', 'list', 'x', 'y') \
                      while redis.call('incr', 'k') < 30000 do end return redis.call('get', 'k')";
        let mut waiter = server.client();
        waiter.set_wait(Duration::from_secs(20));
        waiter.send(&encode(&["BLPOP", "list", "0"]));
        let mut runner = start_endless(&server, script);
        let mut other = server.client();
        let reply = line(&mut other, "SCRIPT KILL");
        assert!(reply.starts_with("-UNKILLABLE "), "{reply}");
        assert_eq!(runner.reply().shown(), "$5\\r\\n30000\\r\\n");
        assert!(waiter.reply().shown().contains("list"));
        assert_eq!(line(&mut other, "GET k"), "$5\\r\\n30000");
        // It is in the log, and whole: what it changed before it was late, too.
        assert_eq!(line(&mut other, "DEBUG LOADAOF"), "+OK");
        assert_eq!(line(&mut other, "GET k"), "$5\\r\\n30000");
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
        assert_eq!(replies[3].shown(), "*2\\r\\n+OK\\r\\n$5\\r\\n30000\\r\\n");
        let _endless = start_endless(&server, "redis.call('set', 'k', 1) while true do end");
        other.send(&encode(&["SHUTDOWN", "NOSAVE"]));
        assert!(server.exit().success());
    }
}
