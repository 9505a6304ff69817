//! Pinion as a replica, of a stock redis-server and of Pinion: under writers of every type, over lost
//! links and from one master to another it ends with the same data, without a second snapshot.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::client::{Client, Got};
use crate::persistence::{line, wait_for};
use crate::process::{Server, Which, free_port};
use crate::replicas::{agree, info, wait_until_linked, write};

const OK: &str = "+OK";

/// Makes a server follow another.
fn follow(replica: &Server, master: &Server) {
    let words = format!("REPLICAOF 127.0.0.1 {}", master.port);
    assert_eq!(line(&mut replica.client(), &words), OK);
    wait_until_linked(&mut replica.client());
}

/// Keeps enough of the stream for whoever is away for a moment.
const OPTIONS: [&str; 6] = [
    "--repl-backlog-size",
    "64mb",
    "--repl-diskless-sync-delay",
    "0",
    "--repl-ping-replica-period",
    "1",
];

/// A replica of `master` under writers, which loses its link, is promoted, and becomes the master of
/// its old one; with a replica of its own all the while.
fn follows(which: Which, shards: u32) {
    let master = Server::start(which, &OPTIONS);
    let replica = Server::start(Which::Pinion { shards }, &OPTIONS);
    let below = Server::start(Which::Pinion { shards: 2 }, &OPTIONS);
    let seed = 1000 * u64::from(shards) + u64::from(which == Which::Reference);
    write(&master, seed, 20);
    follow(&replica, &master);
    follow(&below, &replica);
    thread::scope(|scope| {
        for number in 1..3 {
            let master = &master;
            scope.spawn(move || write(master, seed + number, 40));
        }
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(100));
            master.client().text("CLIENT KILL TYPE replica");
            replica.client().text("CLIENT KILL TYPE master");
        }
    });
    let replicas = [&replica, &below];
    for follower in replicas {
        wait_until_linked(&mut follower.client());
        agree(&master, follower);
    }
    assert_eq!(
        info(&mut master.client(), "sync_full"),
        "1",
        "{}",
        replica.log()
    );
    let refused = line(&mut replica.client(), "SET k v");
    assert!(refused.starts_with("-READONLY"), "{refused}");

    assert_eq!(line(&mut replica.client(), "REPLICAOF NO ONE"), OK);
    assert_eq!(line(&mut replica.client(), "SET k v"), OK);
    follow(&master, &replica);
    write(&replica, seed + 7, 20);
    for follower in [&master, &below] {
        wait_until_linked(&mut follower.client());
        agree(&replica, follower);
    }
    let mut client = replica.client();
    assert_eq!(info(&mut client, "sync_full"), "1", "{}", replica.log());
    assert_eq!(info(&mut client, "connected_slaves"), "2");
}

#[test]
fn one_shard_follows_redis_server() {
    follows(Which::Reference, 1);
}

#[test]
fn two_shards_follow_redis_server() {
    follows(Which::Reference, 2);
}

#[test]
fn four_shards_follow_redis_server() {
    follows(Which::Reference, 4);
}

#[test]
fn one_shard_follows_two() {
    follows(Which::Pinion { shards: 2 }, 1);
}

#[test]
fn four_shards_follow_one() {
    follows(Which::Pinion { shards: 1 }, 4);
}

#[test]
fn transactions_are_whole_where_they_are_read() {
    const ACCOUNTS: usize = 16;
    let master = Server::start(Which::Reference, &OPTIONS);
    let replica = Server::start(Which::Pinion { shards: 4 }, &OPTIONS);
    let names: Vec<String> = (0..ACCOUNTS).map(|n| format!("account:{n}")).collect();
    let mut client = master.client();
    for name in &names {
        assert_eq!(line(&mut client, &format!("SET {name} 1000")), OK);
    }
    follow(&replica, &master);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (stop, master) = (&stop, &master);
        scope.spawn(move || {
            let mut rng = fastrand::Rng::with_seed(5);
            let mut client = master.client();
            while !stop.load(Ordering::Relaxed) {
                let (from, to) = (rng.usize(..ACCOUNTS), rng.usize(..ACCOUNTS));
                let lines = format!(
                    "MULTI\r\nDECRBY account:{from} 7\r\nINCRBY account:{to} 7\r\nEXEC\r\n"
                );
                client.send(lines.as_bytes());
                client.replies(4);
            }
        });
        let all = format!("MGET {}", names.join(" "));
        let mut reader = replica.client();
        for _ in 0..200 {
            let reply = reader.text(&all);
            let values = reply.split("\\r\\n").skip(2).step_by(2);
            let sum: i64 = values.filter_map(|text| text.parse::<i64>().ok()).sum();
            assert_eq!(sum, 1000 * ACCOUNTS as i64, "{reply}");
        }
        stop.store(true, Ordering::Relaxed);
    });
    agree(&master, &replica);
}

#[test]
fn a_replica_that_was_restarted_goes_on_where_it_was() {
    let master = Server::start(Which::Pinion { shards: 2 }, &OPTIONS);
    let mut replica = Server::start(Which::Pinion { shards: 2 }, &OPTIONS);
    follow(&replica, &master);
    write(&master, 77, 10);
    agree(&master, &replica);
    // The server ends without an answer.
    replica.client().send(b"SHUTDOWN SAVE\r\n");
    assert!(replica.exit().success(), "{}", replica.log());
    write(&master, 78, 10);
    let address = format!("127.0.0.1 {}", master.port);
    let mut options = OPTIONS.to_vec();
    options.extend(["--replicaof", &address]);
    let mut again = Server::start_in(Which::Pinion { shards: 4 }, &replica.dir, &options);
    again.wait_until_up();
    wait_until_linked(&mut again.client());
    agree(&master, &again);
    let mut client = master.client();
    assert_eq!(info(&mut client, "sync_full"), "1", "{}", again.log());
    assert_eq!(info(&mut client, "sync_partial_ok"), "1");
}

#[test]
fn master_and_replica_change_places() {
    let master = Server::start(Which::Pinion { shards: 2 }, &OPTIONS);
    let replica = Server::start(Which::Pinion { shards: 2 }, &OPTIONS);
    write(&master, 5, 10);
    follow(&replica, &master);
    let mut client = master.client();
    wait_for("the replica to be online", || {
        line(&mut client, "WAIT 1 100") == ":1"
    });
    assert_eq!(line(&mut client, "FAILOVER"), OK);
    wait_for("the change", || {
        info(&mut client, "role") == "slave" && info(&mut client, "master_link_status") == "up"
    });
    assert_eq!(info(&mut client, "master_failover_state"), "no-failover");
    assert_eq!(info(&mut replica.client(), "role"), "master");
    write(&replica, 6, 10);
    agree(&replica, &master);
    assert_eq!(info(&mut replica.client(), "sync_full"), "0");
}

#[test]
fn a_failover_outlives_the_pauses_of_clients() {
    let master = Server::start(Which::Pinion { shards: 2 }, &OPTIONS);
    let replica = Server::start(Which::Reference, &[]);
    follow(&replica, &master);
    let (mut client, mut writer, mut reader) = (master.client(), master.client(), master.client());
    wait_for("the replica to be online", || {
        line(&mut client, "WAIT 1 100") == ":1"
    });
    // It does not come to have what is written now.
    replica.signal("STOP");
    assert_eq!(line(&mut client, "SET a 1"), OK);
    assert_eq!(line(&mut client, "FAILOVER"), OK);
    assert_eq!(line(&mut client, "CLIENT UNPAUSE"), OK);
    writer.send(b"SET b 2\r\n");
    let mut held_back = |count: &str| {
        let blocked = format!("blocked_clients:{count}\\r\\n");
        wait_for(&blocked, || client.text("INFO clients").contains(&blocked));
    };
    held_back("1");
    // Who only reads waits for no more than the time of the pause.
    assert_eq!(line(&mut reader, "CLIENT PAUSE 100 ALL"), OK);
    assert_eq!(reader.text("GET a"), "$1\\r\\n1\\r\\n");
    held_back("1");
    assert_eq!(reader.text("GET b"), "$-1\\r\\n");
    assert_eq!(line(&mut reader, "FAILOVER ABORT"), OK);
    assert_eq!(writer.reply().shown(), "+OK\\r\\n");
    replica.signal("CONT");
}

/// What its master does waits like what its clients do, and goes on with them.
#[test]
fn a_replica_that_is_paused_changes_nothing() {
    for which in [
        Which::Reference,
        Which::Pinion { shards: 1 },
        Which::Pinion { shards: 2 },
    ] {
        let quiet = ["--repl-ping-replica-period", "3600"];
        let master = Server::start(Which::Pinion { shards: 2 }, &quiet);
        let replica = Server::start(which, &[]);
        follow(&replica, &master);
        let (mut writer, mut client) = (master.client(), replica.client());
        wait_for("the replica to be online", || {
            line(&mut writer, "WAIT 1 100") == ":1"
        });
        assert_eq!(line(&mut client, "CLIENT PAUSE 1000000 WRITE"), OK);
        for n in 0..8 {
            assert_eq!(line(&mut writer, &format!("SET key{n} value")), OK);
        }
        let offset = info(&mut writer, "master_repl_offset");
        wait_for("what was written to arrive", || {
            info(&mut client, "slave_read_repl_offset") == offset
        });
        assert_ne!(info(&mut client, "slave_repl_offset"), offset, "{which}");
        assert_eq!(line(&mut client, "DBSIZE"), ":0", "{which}");
        assert_eq!(line(&mut client, "CLIENT UNPAUSE"), OK);
        wait_for("it to be applied", || line(&mut client, "DBSIZE") == ":8");
        assert_eq!(line(&mut writer, "WAIT 1 0"), ":1");
    }
}

#[test]
fn a_failover_waits_for_a_replica_that_has_just_come() {
    let options = ["--repl-diskless-sync-delay", "100000"];
    let master = Server::start(Which::Pinion { shards: 2 }, &options);
    let replica = Server::start(Which::Pinion { shards: 2 }, &OPTIONS);
    let words = format!("REPLICAOF 127.0.0.1 {}", master.port);
    let mut client = master.client();
    assert_eq!(line(&mut client, "SET key value"), OK);
    assert_eq!(line(&mut replica.client(), &words), OK);
    wait_for("one", || info(&mut client, "connected_slaves") == "1");
    // Nothing was ever told to replicas: there is no stream yet.
    assert_eq!(line(&mut client, "FAILOVER"), OK);
    let now = "CONFIG SET repl-diskless-sync-delay 0";
    assert_eq!(line(&mut client, now), OK);
    wait_for("the change", || {
        info(&mut client, "role") == "slave" && info(&mut client, "master_link_status") == "up"
    });
    assert_eq!(client.text("GET key"), "$5\\r\\nvalue\\r\\n");
}

#[test]
fn a_server_that_ends_is_not_kept_by_the_snapshot_of_its_master() {
    let options = ["--repl-diskless-sync-delay", "100000"];
    let more = ["--repl-diskless-sync-max-replicas", "2"];
    let master = Server::start(Which::Pinion { shards: 2 }, &[options, more].concat());
    let slow = ["--rdb-key-save-delay", "20000"];
    let mut replica = Server::start(Which::Pinion { shards: 2 }, &slow);
    assert_eq!(line(&mut replica.client(), "DEBUG POPULATE 100"), OK);
    let words = format!("REPLICAOF 127.0.0.1 {}", master.port);
    assert_eq!(line(&mut replica.client(), &words), OK);
    let mut client = master.client();
    wait_for("one", || info(&mut client, "connected_slaves") == "1");
    replica.client().send(b"SHUTDOWN SAVE\r\n");
    wait_for("the last snapshot", || {
        replica.log().contains("Saving the final RDB snapshot")
    });
    let other = Server::start(Which::Pinion { shards: 1 }, &OPTIONS);
    assert_eq!(line(&mut other.client(), &words), OK);
    assert!(replica.exit().success(), "{}", replica.log());
}

/// A sentinel that watches one master.
fn sentinel(port: u16) -> Server {
    let own = free_port();
    // It pings once a second: with less time than two pings take, it gives up who is well.
    let text = format!(
        "port {own}\nsentinel monitor it 127.0.0.1 {port} 1\nsentinel down-after-milliseconds it \
         2500\nsentinel failover-timeout it 5000\n"
    );
    let files = [("sentinel.conf", text.as_str())];
    let mut server = Server::spawn_bare(Which::Reference, &files, &["sentinel.conf", "--sentinel"]);
    server.port = own;
    server.wait_until_up();
    server
}

#[test]
fn a_sentinel_replaces_a_master_that_is_killed() {
    let mut master = Server::start(Which::Pinion { shards: 2 }, &OPTIONS);
    let first = Server::start(Which::Pinion { shards: 2 }, &OPTIONS);
    let second = Server::start(Which::Pinion { shards: 1 }, &OPTIONS);
    follow(&first, &master);
    follow(&second, &master);
    let sentinel = sentinel(master.port);
    let mut watcher = sentinel.client();
    wait_for("the sentinel to know both replicas", || {
        watcher
            .text("SENTINEL MASTER it")
            .contains("num-slaves\\r\\n$1\\r\\n2")
    });
    write(&master, 9, 10);
    agree(&master, &first);
    agree(&master, &second);
    master.signal("KILL");
    master.exit();
    // A sentinel closes clients of those whose part it changes.
    let told = |server: &Server, name: &str| {
        let Got::Reply(text) = server.client().call(&["INFO", "replication"]) else {
            return String::new();
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.to_owned());
        text.lines().find_map(value).unwrap_or_default()
    };
    let role = |server: &Server| told(server, "role");
    wait_for("another master", || {
        role(&first) == "master" || role(&second) == "master"
    });
    let (new, other) = match role(&first) == "master" {
        true => (&first, &second),
        false => (&second, &first),
    };
    let port = new.port.to_string();
    wait_for("the other to follow it", || {
        told(other, "master_port") == port && told(other, "master_link_status") == "up"
    });
    write(new, 10, 10);
    agree(new, other);
    // The old one comes back and is told its place.
    let again = Server::spawn(Which::Pinion { shards: 2 }, master.port, &OPTIONS);
    let mut closed = None;
    wait_for("the old master to listen", || {
        closed = Client::tcp(again.port).ok();
        closed.is_some()
    });
    // With its place it is told to close its clients.
    let mut closed = closed.expect("it listens");
    closed.set_wait(Duration::from_secs(60));
    assert!(matches!(closed.until_closed(), Got::Closed(_)));
    wait_for("the old master to follow", || {
        Client::tcp(again.port).is_ok()
            && role(&again) == "slave"
            && told(&again, "master_link_status") == "up"
    });
    agree(new, &again);
}

/// A client of `replica` that is not evicted.
fn spared(replica: &Server) -> Client {
    let mut client = replica.client();
    assert_eq!(line(&mut client, "CLIENT NO-EVICT on"), OK);
    client
}

#[test]
fn limits_of_clients_are_none_of_a_master() {
    let master = Server::start(Which::Pinion { shards: 2 }, &[]);
    for shards in [1, 2] {
        let replica = Server::start(Which::Pinion { shards }, &[]);
        follow(&replica, &master);
        let arrives = |client: &mut Client, key: &str| {
            assert_eq!(line(&mut master.client(), &format!("SET {key} v")), OK);
            let exists = format!("EXISTS {key}");
            wait_for(key, || line(client, &exists) == ":1");
        };
        // Who says nothing goes; a master has nothing to say while nobody writes.
        let mut idle = replica.client();
        assert_eq!(line(&mut idle, "CONFIG SET timeout 1"), OK);
        idle.set_wait(Duration::from_secs(60));
        assert!(matches!(idle.until_closed(), Got::Closed(_)));
        let mut client = spared(&replica);
        assert_eq!(line(&mut client, "CONFIG SET timeout 0"), OK);
        arrives(&mut client, &format!("after-silence:{shards}"));
        // Of all clients the master alone could go.
        let mut large = spared(&replica);
        let half = [&b"*2\r\n$4\r\nECHO\r\n$400000\r\n"[..], &[b'x'; 300_000]].concat();
        large.send(&half);
        wait_for("the large client", || {
            let clients = client.text("CLIENT LIST");
            let mut sizes = clients.split("tot-mem=").skip(1);
            sizes.any(|rest| rest.split(' ').next().is_some_and(|size| size.len() > 5))
        });
        assert_eq!(line(&mut client, "CONFIG SET maxmemory-clients 131072"), OK);
        arrives(&mut client, &format!("after-eviction:{shards}"));
    }
}
