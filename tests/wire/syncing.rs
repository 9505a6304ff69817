//! How replicas begin: one snapshot for all who come together, straight to their sockets, and what a
//! snapshot that a master was restarted with leaves for them to hear.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::client::{Client, encode};
use crate::persistence::{line, wait_for};
use crate::process::{Server, SharedDir, Which};
use crate::replicas::{agree, info, wait_until_linked, write};

/// A replica that is no server.
struct Raw {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Raw {
    fn begin(master: &Server, words: &str) -> Raw {
        let mut stream = TcpStream::connect(("127.0.0.1", master.port)).expect("a connection");
        let wait = Some(Duration::from_secs(60));
        stream.set_read_timeout(wait).expect("set a timeout");
        stream.write_all(words.as_bytes()).expect("the greeting");
        let received = Vec::new();
        Raw { stream, received }
    }

    fn send(&mut self, words: &str) {
        self.stream.write_all(words.as_bytes()).expect("a line");
    }

    /// Reads until `end` has come; what came before it.
    fn until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut looked = 0;
        loop {
            let mut windows = self.received[looked..].windows(end.len());
            if let Some(at) = windows.position(|it| it == end).map(|at| looked + at) {
                let rest = self.received.split_off(at + end.len());
                let mut found = std::mem::replace(&mut self.received, rest);
                found.truncate(at);
                return found;
            }
            looked = self.received.len().saturating_sub(end.len());
            let mut chunk = vec![0; 65_536];
            let len = self.stream.read(&mut chunk).expect("more of the stream");
            assert!(len > 0, "{}", self.received.escape_ascii());
            self.received.extend_from_slice(&chunk[..len]);
        }
    }

    /// The snapshot that ends with a mark.
    fn snapshot(&mut self) -> Vec<u8> {
        self.until(b"$EOF:");
        let mark = self.until(b"\r\n");
        assert_eq!(mark.len(), 40);
        self.until(&mark)
    }
}

const MODERN: &str = "REPLCONF capa eof capa psync2\r\nPSYNC ? -1\r\n";

fn started(master: &Server) -> usize {
    master.log().matches("Starting BGSAVE for SYNC").count()
}

#[test]
fn replicas_that_come_together_share_a_snapshot() {
    let options = [
        "--repl-diskless-sync-delay",
        "100000",
        "--repl-diskless-sync-max-replicas",
        "2",
    ];
    for shards in [1, 2] {
        let master = Server::start(Which::Pinion { shards }, &options);
        let mut client = master.client();
        write(&master, 5, 10);
        let mut first = Raw::begin(&master, MODERN);
        wait_for("one", || info(&mut client, "connected_slaves") == "1");
        assert_eq!(started(&master), 0, "{}", master.log());
        let mut second = Raw::begin(&master, MODERN);
        assert_eq!(first.snapshot(), second.snapshot());
        assert_eq!(started(&master), 1);
        assert!(master.log().contains("with target: replicas sockets"));
        wait_for("the log", || master.log().contains("2 replicas still up"));
        // One that has to know the length gets its own at once, from a file; so do all if that is
        // what is wanted.
        let mut third = Raw::begin(&master, "SYNC\r\n");
        third.until(b"\r\nREDIS00");
        assert_eq!(started(&master), 2);
        assert!(master.log().contains("with target: disk"));
        assert_eq!(line(&mut client, "CONFIG SET repl-diskless-sync no"), "+OK");
        let mut fourth = Raw::begin(&master, MODERN);
        fourth.until(b"\r\nREDIS00");
    }
}

#[test]
fn a_snapshot_in_pieces_is_whole_and_the_stream_waits_for_a_word() {
    for shards in [1, 3] {
        let master = Server::start(Which::Pinion { shards }, &[]);
        write(&master, 6, 20);
        let mut client = master.client();
        let big = "x".repeat(3_000_000);
        for n in 0..8 {
            client.call(&["SET", &format!("big{n}"), &big]);
        }
        let mut raw = Raw::begin(&master, MODERN);
        raw.until(b"$EOF:");
        client.call(&["SET", "since", "then"]);
        let mark = raw.until(b"\r\n");
        let snapshot = raw.until(&mark);
        wait_for("the replica", || {
            client.text("INFO replication").contains("state=online")
        });
        client.call(&["SET", "since", "long"]);
        assert!(raw.received.is_empty(), "{}", raw.received.escape_ascii());
        raw.send("REPLCONF ACK 0\r\n");
        let stream = raw.until(b"long\r\n");
        assert!(stream.starts_with(b"*2\r\n$6\r\nSELECT"));
        assert!(!raw.received.starts_with(b"*"), "all of it in one order");

        for which in [Which::Reference, Which::Pinion { shards: 2 }] {
            let dir = SharedDir::new();
            std::fs::write(dir.join("dump.rdb"), &snapshot).expect("the snapshot");
            let mut copy = Server::start_in(which, &dir, &[]);
            copy.wait_until_up();
            let mut copied = copy.client();
            let then = |client: &mut Client| line(client, "GET since");
            assert_eq!(then(&mut copied), "$-1");
            for n in 0..8 {
                let length = line(&mut copied, &format!("STRLEN big{n}"));
                assert_eq!(length, ":3000000");
            }
        }
    }
}

/// An element goes out in one piece, however large it is: who has not read it yet is not behind.
#[test]
fn the_last_piece_of_a_snapshot_is_under_no_limit() {
    let options = [
        "--client-output-buffer-limit",
        "replica 1mb 0 0",
        "--rdbcompression",
        "no",
    ];
    let master = Server::start(Which::Pinion { shards: 1 }, &options);
    let mut client = master.client();
    client.call(&["RPUSH", "big", &"x".repeat(32_000_000)]);
    let mut raw = Raw::begin(&master, MODERN);
    wait_for("the last piece", || {
        master.log().contains("transfer terminated with success")
    });
    // Whenever there is something for replicas, they are looked at.
    client.call(&["SET", "since", "then"]);
    assert!(raw.snapshot().len() > 32_000_000);
    raw.send("REPLCONF ACK 0\r\n");
    raw.until(b"then\r\n");
}

#[test]
fn a_slow_replica_holds_a_snapshot_up_and_its_end_sets_it_free() {
    let master = Server::start(Which::Pinion { shards: 2 }, &["--rdbcompression", "no"]);
    let mut client = master.client();
    let big = "x".repeat(1_000_000);
    for n in 0..40 {
        client.call(&["SET", &format!("big{n}"), &big]);
    }
    line(&mut client, "CONFIG SET repl-diskless-sync-delay 100000");
    line(&mut client, "CONFIG SET repl-diskless-sync-max-replicas 2");
    // It reads nothing behind the beginning.
    let mut slow = Raw::begin(&master, MODERN);
    let mut quick = Raw::begin(&master, MODERN);
    slow.until(b"$EOF:");
    quick.until(b"$EOF:");
    let mark = quick.until(b"\r\n");
    let saves = |client: &mut Client| {
        let info = client.text("INFO persistence");
        info.contains("rdb_bgsave_in_progress:1")
    };
    assert!(saves(&mut client), "40 MB do not fit into sockets");
    drop(slow);
    assert!(quick.until(&mark).len() > 40_000_000);
    wait_for("the log", || master.log().contains("1 replicas still up"));
    // Without anybody, nothing goes on.
    line(&mut client, "CONFIG SET repl-diskless-sync-max-replicas 1");
    let mut last = Raw::begin(&master, MODERN);
    last.until(b"$EOF:");
    drop(last);
    wait_for("its end", || !saves(&mut client));
    assert!(master.log().contains("last replica dropped"));
}

#[test]
fn a_master_that_was_restarted_tells_which_keys_are_gone() {
    for shards in [1, 2] {
        let options = ["--save", "3600 1"];
        let mut master = Server::start(Which::Pinion { shards }, &options);
        let replica = Server::start(Which::Pinion { shards: 2 }, &[]);
        let mut client = master.client();
        let address = format!("REPLICAOF 127.0.0.1 {}", master.port);
        assert_eq!(line(&mut replica.client(), &address), "+OK");
        wait_until_linked(&mut replica.client());
        line(&mut client, "DEBUG SET-ACTIVE-EXPIRE 0");
        for n in 0..300 {
            line(&mut client, &format!("SELECT {}", n % 3));
            line(&mut client, &format!("SET soon{n} gone PX 1"));
        }
        line(&mut client, "SET stays here");
        agree(&master, &replica);
        client.send(b"SHUTDOWN SAVE NOW\r\n");
        assert!(master.exit().success(), "{}", master.log());

        let mut again = Server::start_in(Which::Pinion { shards }, &master.dir, &options);
        again.wait_until_up();
        let mut client = again.client();
        assert!(
            client
                .text("INFO persistence")
                .contains("rdb_last_load_keys_expired:300")
        );
        let address = format!("REPLICAOF 127.0.0.1 {}", again.port);
        assert_eq!(line(&mut replica.client(), &address), "+OK");
        wait_until_linked(&mut replica.client());
        agree(&again, &replica);
        assert_eq!(info(&mut client, "sync_partial_ok"), "1", "{}", again.log());
        let mut left = replica.client();
        assert_eq!(line(&mut client, "CONFIG RESETSTAT"), "+OK");
        assert_eq!(info(&mut client, "sync_partial_ok"), "0");
        for (db, count) in [(0, 0), (1, 0), (2, 1)] {
            line(&mut left, &format!("SELECT {db}"));
            assert_eq!(line(&mut left, "DBSIZE"), format!(":{count}"));
        }
    }
}

/// DEBUG RELOAD drops keys whose time has come. Whoever was told of one has to be told of that, or takes
/// what comes next for a change of it.
#[test]
fn a_reload_tells_which_keys_are_gone() {
    for (shards, appendonly) in [(1, "yes"), (2, "yes"), (2, "no")] {
        let options = ["--appendonly", appendonly];
        let mut master = Server::start(Which::Pinion { shards }, &options);
        let replica = Server::start(Which::Pinion { shards: 2 }, &[]);
        let mut client = master.client();
        if appendonly == "no" {
            let address = format!("REPLICAOF 127.0.0.1 {}", master.port);
            assert_eq!(line(&mut replica.client(), &address), "+OK");
            wait_until_linked(&mut replica.client());
        }
        line(&mut client, "DEBUG SET-ACTIVE-EXPIRE 0");
        for n in 0..50 {
            line(&mut client, &format!("SET soon{n} gone PX 1"));
        }
        wait_for("their time", || line(&mut client, "GET soon49") == "$-1");
        assert_eq!(line(&mut client, "DEBUG RELOAD"), "+OK");
        for n in 0..50 {
            assert_eq!(line(&mut client, &format!("HSET soon{n} f v")), ":1");
        }
        if appendonly == "no" {
            agree(&master, &replica);
            continue;
        }
        let digest = line(&mut client, "DEBUG DIGEST");
        master.kill();
        let mut again = Server::start_in(Which::Pinion { shards }, &master.dir, &options);
        again.wait_until_up();
        assert_eq!(
            line(&mut again.client(), "DEBUG DIGEST"),
            digest,
            "{shards}"
        );
        assert_eq!(line(&mut again.client(), "DBSIZE"), ":50");
    }
}

/// What repeats a stream on other cores is not a client.
#[test]
fn a_replica_counts_its_master_once() {
    let master = Server::start(Which::Pinion { shards: 1 }, &[]);
    let replica = Server::start(Which::Pinion { shards: 4 }, &[]);
    let mut asking = replica.client();
    let address = format!("REPLICAOF 127.0.0.1 {}", master.port);
    assert_eq!(line(&mut asking, &address), "+OK");
    wait_until_linked(&mut asking);
    let sets: Vec<u8> = (0..20_000)
        .flat_map(|n| encode(&["SET", &format!("k{n}"), "v"]))
        .collect();
    let mut client = master.client();
    client.send(&sets);
    client.replies(20_000);
    agree(&master, &replica);
    let clients = |client: &mut Client, count: u32| {
        let text = client.text("INFO clients");
        text.contains(&format!("connected_clients:{count}\\r\\n"))
    };
    wait_for("itself and the master", || clients(&mut asking, 2));
    assert_eq!(line(&mut asking, "REPLICAOF NO ONE"), "+OK");
    wait_for("itself", || clients(&mut asking, 1));
}

#[test]
fn a_server_that_nobody_disturbs_calls_its_master_at_once() {
    for shards in [1, 2] {
        let master = Server::start(Which::Pinion { shards: 1 }, &[]);
        let replica = Server::start(Which::Pinion { shards }, &[]);
        let mut quiet = replica.client();
        let address = format!("REPLICAOF 127.0.0.1 {}", master.port);
        assert_eq!(line(&mut quiet, &address), "+OK");
        // Only the master is asked: the replica is woken by nothing but its own work.
        let mut client = master.client();
        wait_for("the replica", || {
            client.text("INFO replication").contains("state=online")
        });
        let log = replica.log();
        assert!(
            !log.contains("does not end: the master is called now"),
            "{log}"
        );
    }
}

#[test]
fn all_who_ask_for_the_end_hear_that_it_does_not_come() {
    let master = Server::start(Which::Pinion { shards: 2 }, &["--shutdown-timeout", "600"]);
    let replica = Server::start(Which::Pinion { shards: 1 }, &[]);
    let mut client = master.client();
    let address = format!("REPLICAOF 127.0.0.1 {}", master.port);
    assert_eq!(line(&mut replica.client(), &address), "+OK");
    wait_for("the replica", || line(&mut client, "WAIT 1 100") == ":1");
    replica.signal("STOP");
    for n in 0..10 {
        line(&mut client, &format!("SET k{n} v"));
    }
    let mut asking = [master.client(), master.client()];
    for one in &mut asking {
        one.send(b"SHUTDOWN\r\n");
    }
    wait_for("both", || {
        let info = client.text("INFO clients");
        info.contains("blocked_clients:2") && info.contains("connected_clients:3")
    });
    assert_eq!(line(&mut client, "SHUTDOWN ABORT"), "+OK");
    for one in &mut asking {
        let reply = one.reply().shown();
        assert!(
            reply.contains("Errors trying to SHUTDOWN. Check logs."),
            "{reply}"
        );
    }
    assert_eq!(line(&mut client, "SET k v"), "+OK");
    replica.signal("CONT");
}

fn is_in(client: &mut Client, what: &str) -> bool {
    client.text("INFO persistence").contains(what)
}

/// Makes the snapshot for replicas last until it is given up.
fn slow_down(master: &mut Client) {
    line(master, "CONFIG SET rdb-key-save-delay 200000");
}

/// Ends the transfer under way; the next one waits for [`let_go`].
fn cut(master: &mut Client) {
    line(master, "CONFIG SET repl-diskless-sync-delay 100000");
    line(master, "CLIENT KILL TYPE replica");
}

fn let_go(master: &mut Client) {
    line(master, "CONFIG SET rdb-key-save-delay 0");
    line(master, "CONFIG SET repl-diskless-sync-delay 0");
}

const LOADED_DIRECTLY: [&str; 2] = ["--repl-diskless-load", "swapdb"];

#[test]
fn a_snapshot_that_breaks_off_leaves_what_was_there() {
    for shards in [1, 3] {
        let master = Server::start(Which::Pinion { shards: 2 }, &["--rdbcompression", "no"]);
        let replica = Server::start(Which::Pinion { shards }, &LOADED_DIRECTLY);
        let (mut ours, mut theirs) = (master.client(), replica.client());
        write(&master, 8, 10);
        let big = "x".repeat(50_000);
        for n in 0..100 {
            ours.call(&["SET", &format!("big{n}"), &big]);
            theirs.call(&["SET", &format!("old{n}"), "v"]);
        }
        slow_down(&mut ours);
        let address = format!("REPLICAOF 127.0.0.1 {}", master.port);
        assert_eq!(line(&mut theirs, &address), "+OK");
        wait_for("the load", || is_in(&mut theirs, "\\nloading:1"));
        assert!(line(&mut theirs, "GET old1").starts_with("-LOADING"));
        cut(&mut ours);
        wait_for("its end", || is_in(&mut theirs, "\\nloading:0"));
        assert!(replica.log().contains("Internal error in RDB"));
        assert_eq!(line(&mut theirs, "DBSIZE"), ":100");
        assert_eq!(theirs.text("GET old1"), "$1\\r\\nv\\r\\n");
        let_go(&mut ours);
        wait_until_linked(&mut theirs);
        agree(&master, &replica);
        assert_eq!(line(&mut theirs, "GET old1"), "$-1");
        assert!(replica.log().contains("with EOF to parser"));
        // It follows, and a replica of its own begins with what it has.
        write(&master, 9, 10);
        agree(&master, &replica);
        let below = Server::start(
            Which::Pinion { shards: 1 },
            &["--repl-diskless-load", "on-empty-db"],
        );
        let address = format!("REPLICAOF 127.0.0.1 {}", replica.port);
        assert_eq!(line(&mut below.client(), &address), "+OK");
        wait_until_linked(&mut below.client());
        agree(&master, &below);
        assert!(below.log().contains("with EOF to parser"));
    }
}

#[test]
fn clients_are_served_while_newer_data_of_the_same_history_comes() {
    for shards in [1, 2] {
        let master = Server::start(Which::Pinion { shards: 1 }, &["--rdbcompression", "no"]);
        let replica = Server::start(Which::Pinion { shards }, &LOADED_DIRECTLY);
        let (mut ours, mut theirs) = (master.client(), replica.client());
        let library = |says: &str| {
            format!(
                "#!lua name=l\nredis.register_function{{function_name='f', flags={{'no-writes'}}, \
                 callback=function() return '{says}' end}}"
            )
        };
        ours.call(&["FUNCTION", "LOAD", &library("old")]);
        ours.call(&["SET", "key", "old"]);
        let address = format!("REPLICAOF 127.0.0.1 {}", master.port);
        assert_eq!(line(&mut theirs, &address), "+OK");
        wait_until_linked(&mut theirs);
        assert_eq!(theirs.text("FCALL f 0"), "$3\\r\\nold\\r\\n");
        // The backlog does not reach back to what the replica has.
        slow_down(&mut ours);
        line(&mut ours, "CONFIG SET repl-backlog-size 16384");
        let big = "x".repeat(50_000);
        line(&mut ours, "MULTI");
        line(&mut ours, "CLIENT KILL TYPE replica");
        for n in 0..100 {
            ours.call(&["SET", &format!("big{n}"), &big]);
        }
        ours.call(&["FUNCTION", "LOAD", "REPLACE", &library("new")]);
        ours.call(&["SET", "key", "new"]);
        line(&mut ours, "EXEC");
        wait_for("the load", || is_in(&mut theirs, "async_loading:1"));
        assert!(is_in(&mut theirs, "\\nloading:0"));
        assert_eq!(theirs.text("GET key"), "$3\\r\\nold\\r\\n");
        assert_eq!(theirs.text("FCALL f 0"), "$3\\r\\nold\\r\\n");
        assert_eq!(line(&mut theirs, "DBSIZE"), ":1");
        for refused in ["REPLICAOF NO ONE", "CONFIG SET appendonly no", "BGSAVE"] {
            let reply = line(&mut theirs, refused);
            assert!(reply.starts_with("-LOADING"), "{refused}: {reply}");
        }
        assert!(is_in(&mut theirs, "async_loading:1"));
        cut(&mut ours);
        wait_for("its end", || is_in(&mut theirs, "async_loading:0"));
        assert_eq!(theirs.text("GET key"), "$3\\r\\nold\\r\\n");
        assert_eq!(theirs.text("FCALL f 0"), "$3\\r\\nold\\r\\n");
        let_go(&mut ours);
        wait_until_linked(&mut theirs);
        agree(&master, &replica);
        assert_eq!(theirs.text("GET key"), "$3\\r\\nnew\\r\\n");
        assert_eq!(theirs.text("FCALL f 0"), "$3\\r\\nnew\\r\\n");
    }
}

/// FUNCTION LOAD without REPLACE is that for replicas as well: a library of their own stays.
#[test]
fn a_library_of_a_replicas_own_stays_unless_it_is_replaced() {
    let load = |client: &mut Client, option: &[&str], says: &str| {
        let text = format!(
            "#!lua name=l\nredis.register_function{{function_name='f', flags={{'no-writes'}}, \
             callback=function() return '{says}' end}}"
        );
        let words = [&["FUNCTION", "LOAD"], option, &[&text]].concat();
        client.call(&words)
    };
    for (of_master, of_replica) in [
        (Which::Pinion { shards: 2 }, Which::Pinion { shards: 2 }),
        (Which::Pinion { shards: 1 }, Which::Reference),
        (Which::Reference, Which::Pinion { shards: 1 }),
    ] {
        let master = Server::start(of_master, &[]);
        let address = format!("127.0.0.1 {}", master.port);
        let options = ["--replicaof", &address, "--replica-read-only", "no"];
        let replica = Server::start(of_replica, &options);
        let (mut ours, mut theirs) = (master.client(), replica.client());
        wait_until_linked(&mut theirs);
        load(&mut theirs, &[], "own");
        load(&mut ours, &[], "masters");
        assert_eq!(line(&mut ours, "SET behind it"), "+OK");
        wait_for("the stream", || line(&mut theirs, "EXISTS behind") == ":1");
        assert_eq!(theirs.text("FCALL f 0"), "$3\\r\\nown\\r\\n", "{of_master}");
        load(&mut ours, &["REPLACE"], "another");
        wait_for("the other", || theirs.text("FCALL f 0").contains("another"));
    }
}

/// Keys that DEBUG POPULATE makes are this server's alone, and no change that save points count.
#[test]
fn keys_that_are_made_up_are_told_to_nobody() {
    let reference = [Which::Reference].into_iter();
    for which in reference.chain([1, 2].map(|shards| Which::Pinion { shards })) {
        let master = Server::start(which, &["--appendonly", "yes"]);
        let address = format!("127.0.0.1 {}", master.port);
        let replica = Server::start(Which::Pinion { shards: 1 }, &["--replicaof", &address]);
        let (mut ours, mut theirs) = (master.client(), replica.client());
        wait_until_linked(&mut theirs);
        assert_eq!(line(&mut ours, "DEBUG POPULATE 100"), "+OK");
        assert_eq!(line(&mut ours, "DBSIZE"), ":100");
        assert!(is_in(&mut ours, "rdb_changes_since_last_save:0"), "{which}");
        assert_eq!(line(&mut ours, "SET behind it"), "+OK");
        wait_for("the stream", || line(&mut theirs, "EXISTS behind") == ":1");
        assert_eq!(line(&mut theirs, "DBSIZE"), ":1", "{which}");
        assert_eq!(line(&mut ours, "DEBUG LOADAOF"), "+OK");
        assert_eq!(line(&mut ours, "DBSIZE"), ":1", "{which}");
    }
}

#[test]
fn a_replica_is_told_nothing_but_the_stream() {
    let master = Server::start(Which::Pinion { shards: 2 }, &[]);
    for (asked, told) in [
        ("PING", "'ping'"),
        ("GET k", "'get'"),
        ("XINFO HELP", "'xinfo|help'"),
    ] {
        let mut raw = master.client();
        raw.send(format!("SYNC\r\n{asked}\r\n").as_bytes());
        let received = raw.until_closed().shown();
        assert!(!received.contains("PONG"), "{received}");
        let told = format!("Replica generated a reply to command {told}, disconnecting it: id=");
        assert!(master.log().contains(&told), "{}", master.log());
    }
    assert!(
        master
            .log()
            .contains("Replica can't interact with the keyspace")
    );
    let mut client = master.client();
    assert!(line(&mut client, "PSYNC id offset").starts_with("-ERR value is not an integer"));
    assert!(
        master
            .log()
            .contains("asks for synchronization but with a wrong offset")
    );
    assert_eq!(line(&mut client, "PING"), "+PONG");
}

#[test]
fn a_replica_may_end_where_it_would_differ() {
    let master = Server::start(Which::Pinion { shards: 1 }, &[]);
    let options = ["--propagation-error-behavior", "panic"];
    let mut replica = Server::start(Which::Pinion { shards: 2 }, &options);
    let address = format!("REPLICAOF 127.0.0.1 {}", master.port);
    assert_eq!(line(&mut replica.client(), &address), "+OK");
    wait_until_linked(&mut replica.client());
    line(&mut master.client(), "DEBUG REPLICATE fake-command");
    assert!(!replica.exit().success());
    assert!(replica.log().contains("fake-command"), "{}", replica.log());
}

/// What the disk of a replica does not take is carried out all the same, or is its end.
#[test]
fn a_replica_ends_where_its_disk_refuses_unless_it_is_not_to_mind() {
    let options = ["--save", "3600 1000000"];
    for which in [Which::Reference, Which::Pinion { shards: 2 }] {
        let master = Server::start(Which::Pinion { shards: 1 }, &[]);
        let mut replica = Server::start(which, &options);
        let (mut ours, mut theirs) = (master.client(), replica.client());
        let address = format!("REPLICAOF 127.0.0.1 {}", master.port);
        assert_eq!(line(&mut theirs, &address), "+OK");
        wait_until_linked(&mut theirs);
        line(
            &mut theirs,
            "CONFIG SET replica-ignore-disk-write-errors yes",
        );
        // A directory stands where the file is to be; what came of the master may be there already.
        let _ = std::fs::remove_file(replica.dir.join("dump.rdb"));
        std::fs::create_dir(replica.dir.join("dump.rdb")).expect("create");
        assert_eq!(line(&mut theirs, "BGSAVE"), "+Background saving started");
        wait_for("the status", || {
            is_in(&mut theirs, "rdb_last_bgsave_status:err")
        });
        assert_eq!(line(&mut ours, "SET k v"), "+OK");
        wait_for("the key", || line(&mut theirs, "EXISTS k") == ":1");
        let told = "Replica is applying a command even though it is unable to write to disk.";
        assert!(replica.log().contains(told), "{which}");
        line(
            &mut theirs,
            "CONFIG SET replica-ignore-disk-write-errors no",
        );
        line(&mut ours, "PING");
        assert_eq!(line(&mut ours, "SET k other"), "+OK");
        assert!(!replica.exit().success(), "{which}");
        assert!(
            replica
                .log()
                .contains("Replica was unable to write command to disk."),
            "{which}"
        );
    }
}

#[test]
fn a_rewrite_without_an_append_only_file_leaves_a_base_alone() {
    let server = Server::start(Which::Pinion { shards: 2 }, &[]);
    let mut client = server.client();
    let manifest = || {
        let path = server.dir.join("appendonlydir/appendonly.aof.manifest");
        std::fs::read_to_string(path).unwrap_or_default()
    };
    for wanted in ["yes", "no"] {
        line(&mut client, &format!("CONFIG SET appendonly {wanted}"));
        line(&mut client, "SET k v");
        wait_for("the rewrite", || {
            is_in(&mut client, "aof_rewrite_in_progress:0")
        });
    }
    line(&mut client, "BGREWRITEAOF");
    wait_for("the base", || {
        manifest() == "file appendonly.aof.2.base.rdb seq 2 type b\n"
    });
    let files = std::fs::read_dir(server.dir.join("appendonlydir")).expect("the files");
    let names = files.map(|file| file.expect("a file").file_name());
    let left: Vec<_> = names
        .filter(|name| name.to_string_lossy().contains("incr"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    wait_for("the file", || line(&mut client, "DEBUG LOADAOF") == "+OK");
    assert_eq!(client.text("GET k"), "$1\\r\\nv\\r\\n");
    line(&mut client, "CONFIG SET appendonly yes");
    line(&mut client, "SET k w");
    wait_for("segments", || manifest().contains("type i"));
}

#[test]
fn a_flush_ends_a_snapshot_that_is_under_way() {
    let master = Server::start(Which::Pinion { shards: 2 }, &[]);
    let replica = Server::start(Which::Pinion { shards: 1 }, &[]);
    let mut client = master.client();
    write(&master, 10, 10);
    slow_down(&mut client);
    let address = format!("REPLICAOF 127.0.0.1 {}", master.port);
    assert_eq!(line(&mut replica.client(), &address), "+OK");
    wait_for("the transfer", || {
        is_in(&mut client, "rdb_bgsave_in_progress:1")
    });
    assert_eq!(line(&mut client, "FLUSHALL"), "+OK");
    assert_eq!(line(&mut client, "SET k v"), "+OK");
    let_go(&mut client);
    wait_until_linked(&mut replica.client());
    agree(&master, &replica);
    assert_eq!(started(&master), 2, "{}", master.log());
}

#[test]
fn a_script_of_the_append_only_file_keeps_nobody_from_hearing_of_the_load() {
    let dir = SharedDir::new();
    let files = dir.join("appendonlydir");
    std::fs::create_dir(&files).expect("a directory");
    let script = "redis.call('set',KEYS[1],'y') for i=1,1000000 do redis.call('ping') end";
    let commands = encode(&["EVAL", script, "1", "x"]);
    std::fs::write(files.join("appendonly.aof.1.incr.aof"), commands).expect("a segment");
    let manifest = "file appendonly.aof.1.incr.aof seq 1 type i\n";
    std::fs::write(files.join("appendonly.aof.manifest"), manifest).expect("the manifest");
    let options = ["--appendonly", "yes", "--lua-time-limit", "1"];
    let server = Server::start_in(Which::Pinion { shards: 1 }, &dir, &options);
    let mut client = None;
    wait_for("the server", || {
        client = Client::tcp(server.port).ok();
        client.is_some()
    });
    let mut client = client.expect("a client");
    let mut replies = Vec::new();
    wait_for("the end of the load", || {
        replies.push(line(&mut client, "PING"));
        replies.last().is_some_and(|it| it == "+PONG")
    });
    replies.pop();
    assert!(!replies.is_empty());
    assert!(
        replies.iter().all(|it| it.starts_with("-LOADING")),
        "{replies:?}"
    );
    // Without a base, too, it can be read again.
    assert_eq!(line(&mut client, "DEL x"), ":1");
    assert_eq!(line(&mut client, "DEBUG LOADAOF"), "+OK");
    assert_eq!(line(&mut client, "EXISTS x"), ":0");
    drop(server);
}

#[test]
fn replicas_are_heard_while_clients_are_paused() {
    let master = Server::start(Which::Pinion { shards: 2 }, &[]);
    let mut raw = Raw::begin(&master, MODERN);
    raw.snapshot();
    raw.send("REPLCONF ACK 0\r\n");
    let (mut client, mut waiter) = (master.client(), master.client());
    assert_eq!(line(&mut waiter, "SET key value"), "+OK");
    raw.until(b"value\r\n");
    waiter.send(b"WAIT 1 0\r\n");
    raw.until(b"GETACK");
    assert_eq!(line(&mut client, "CLIENT PAUSE 1000000 ALL"), "+OK");
    raw.send("REPLCONF ACK 1000000\r\n");
    assert_eq!(waiter.reply().shown(), ":1\\r\\n");
}

#[test]
fn a_snapshot_that_cannot_begin_leaves_no_stream_behind() {
    let options = ["--repl-diskless-sync", "no", "--appendonly", "yes"];
    let more = ["--repl-diskless-load", "swapdb"];
    let server = Server::start(Which::Pinion { shards: 2 }, &[&options[..], &more].concat());
    let mut client = server.client();
    assert_eq!(line(&mut client, "SET key value"), "+OK");
    fs::remove_dir_all(&server.dir).expect("remove");
    let mut replica = server.client();
    replica.send(b"PSYNC ? -1\r\n");
    replica.until_closed();
    assert_eq!(line(&mut client, "SET key other"), "+OK");
    // Nobody is told of it.
    assert_eq!(line(&mut client, "WAIT 0 0"), ":0");
    let master = Server::start(Which::Pinion { shards: 1 }, &[]);
    let words = format!("REPLICAOF 127.0.0.1 {}", master.port);
    assert_eq!(line(&mut client, &words), "+OK");
    wait_until_linked(&mut client);
}

/// A large snapshot takes longer to load than `repl-timeout`.
#[test]
fn a_replica_that_loads_is_heard() {
    for shards in [1, 2] {
        let master = Server::start(Which::Pinion { shards }, &[]);
        let mut client = master.client();
        let mut raw = Raw::begin(&master, MODERN);
        raw.snapshot();
        let mut lag = || {
            let text = client.text("INFO replication");
            let lag = text.split("state=online").nth(1)?.split("lag=").nth(1)?;
            lag.split('\\').next()?.parse::<u64>().ok()
        };
        wait_for("silence", || lag() >= Some(3));
        wait_for("a word", || {
            raw.send("\n");
            lag().is_some_and(|lag| lag < 3)
        });
    }
}
