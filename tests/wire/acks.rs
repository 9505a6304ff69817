//! Clients that wait until replicas have what they wrote: which part of the stream that is. The replica is
//! one that acknowledges what the test wants.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::client::{Client, encode};
use crate::persistence::{line, wait_for};
use crate::process::{Server, Which};

const GETACK: &[u8] = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";

/// A replica that has taken its snapshot, and reads the stream when it is told to.
pub struct Follower {
    stream: TcpStream,
    received: Vec<u8>,
    /// Of the stream as far as it was read.
    offset: usize,
    history: String,
}

impl Follower {
    pub fn of(master: &Server) -> Follower {
        let stream = TcpStream::connect(("127.0.0.1", master.port)).expect("a connection");
        let wait = Some(Duration::from_secs(30));
        stream.set_read_timeout(wait).expect("a limit");
        let mut follower = Follower {
            stream,
            received: Vec::new(),
            offset: 0,
            history: String::new(),
        };
        follower.say("REPLCONF capa eof capa psync2\r\n");
        follower.read_to(b"+OK\r\n");
        follower.say("PSYNC ? -1\r\n");
        assert_eq!(follower.read_to(b" "), b"+FULLRESYNC ");
        let head = follower.read_to(b"\r\n");
        let head = String::from_utf8(head).expect("a reply");
        let (history, offset) = head.trim_end().split_once(' ').expect("an offset");
        follower.history = history.to_owned();
        let offset = offset.parse().expect("an offset");
        follower.read_to(b"$EOF:");
        let mark = follower.read_to(b"\r\n");
        follower.read_to(&mark[..40]);
        follower.offset = offset;
        let mut client = master.client();
        wait_for("the follower", || {
            client.text("INFO replication").contains("state=online")
        });
        // The stream begins when it says that it has the snapshot.
        follower.acknowledge();
        follower
    }

    pub fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).expect("to be heard");
    }

    /// What comes up to the end of `end`.
    pub fn read_to(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            let found = self.received.windows(end.len()).position(|it| it == end);
            if let Some(at) = found {
                let rest = self.received.split_off(at + end.len());
                let read = std::mem::replace(&mut self.received, rest);
                self.offset += read.len();
                return read;
            }
            let mut chunk = [0; 65_536];
            let len = self.stream.read(&mut chunk).expect("more of the stream");
            assert!(len > 0, "{}", self.received.escape_ascii());
            self.received.extend_from_slice(&chunk[..len]);
        }
    }

    /// Loses its connection, and goes on where it was with another.
    pub fn come_back(&mut self, master: &Server) {
        self.stream = TcpStream::connect(("127.0.0.1", master.port)).expect("a connection");
        let wait = Some(Duration::from_secs(30));
        self.stream.set_read_timeout(wait).expect("a limit");
        self.received.clear();
        let offset = self.offset;
        self.say("REPLCONF capa eof capa psync2\r\n");
        self.read_to(b"+OK\r\n");
        self.say(&format!("PSYNC {} {}\r\n", self.history, offset + 1));
        assert_eq!(self.read_to(b"\r\n")[..9], *b"+CONTINUE");
        self.offset = offset;
    }

    /// The next command of the stream. No word in it may have a line of its own.
    pub fn command(&mut self) -> Vec<String> {
        let mut line = |mark: &str| {
            let line = String::from_utf8(self.read_to(b"\r\n")).expect("text");
            let rest = line.trim_end().strip_prefix(mark);
            rest.unwrap_or_else(|| panic!("{line:?} for {mark}"))
                .to_owned()
        };
        let count = line("*").parse().expect("a count");
        let word = |_| {
            line("$");
            line("")
        };
        (0..count).map(word).collect()
    }

    /// Reads up to the next question how far it is.
    fn hear_question(&mut self) {
        self.read_to(GETACK);
    }

    /// The same, with its disk at another place.
    fn acknowledge_synced(&mut self, synced: usize) {
        self.say(&format!("REPLCONF ACK {} FACK {synced}\r\n", self.offset));
    }

    /// Says that it has what it has read.
    pub fn acknowledge(&mut self) {
        self.say(&format!("REPLCONF ACK {}\r\n", self.offset));
    }
}

fn id(client: &mut Client) -> String {
    line(client, "CLIENT ID")[1..].to_owned()
}

/// A client waits without end, and in vain.
fn waits_in_vain(client: &mut Client, follower: &mut Follower, other: &mut Client, what: &str) {
    let id = id(client);
    client.send(&encode(&["WAIT", "1", "0"]));
    follower.hear_question();
    wait_for(what, || {
        let unblock = format!("CLIENT UNBLOCK {id}");
        line(other, &unblock) == ":1"
    });
    assert_eq!(client.reply().shown(), ":0\\r\\n", "{what}");
}

fn write(client: &mut Client, which: usize, n: usize) {
    let script = format!("redis.call('set', KEYS[1], {n}) redis.call('incr', KEYS[2])");
    match which {
        0 => drop(line(client, &format!("SET k{n} {n}"))),
        1 => drop(line(client, &format!("MSET a{n} 1 b{n} 2 c{n} 3"))),
        2 => {
            let lines = format!("MULTI\r\nSET k{n} {n}\r\nINCR n{n}\r\nINCR m{n}\r\nEXEC\r\n");
            client.send(lines.as_bytes());
            client.replies(5);
        }
        3 => {
            let keys = [format!("s{n}"), format!("t{n}")];
            client.call(&["EVAL", &script, "2", &keys[0], &keys[1]]);
        }
        4 => drop(client.call(&[
            "EVAL",
            &script,
            "2",
            &format!("{{s{n}}}"),
            &format!("{{s{n}}}2"),
        ])),
        5 => {
            client.send(format!("SET p{n} 1\r\nINCR q{n}\r\nINCR r{n}\r\n").as_bytes());
            client.replies(3);
        }
        6 => drop(line(client, &format!("BLMPOP 0 1 queue{} LEFT", n % 8))),
        _ => drop(line(client, &format!("PUBLISH news {n}"))),
    }
}

#[test]
fn a_client_waits_for_what_it_wrote_and_not_for_more() {
    for which in [
        Which::Reference,
        Which::Pinion { shards: 1 },
        Which::Pinion { shards: 2 },
    ] {
        let server = Server::start(which, &["--repl-diskless-sync-delay", "0"]);
        let (mut client, mut other) = (server.client(), server.client());
        let mut unblocker = server.client();
        let mut follower = Follower::of(&server);
        for n in 0..64 {
            let how = n % 8;
            let what = format!("{which}: {how}, {n}");
            line(&mut other, &format!("RPUSH queue{} a b", n % 8));
            write(&mut client, how, n);
            client.send(&encode(&["WAIT", "1", "0"]));
            follower.hear_question();
            follower.acknowledge();
            assert_eq!(client.reply().shown(), ":1\\r\\n", "{what}");
            // What another client writes is its own affair.
            line(&mut other, &format!("SET other{n} 1"));
            waits_in_vain(&mut other, &mut follower, &mut unblocker, &what);
            assert_eq!(line(&mut client, "WAIT 1 0"), ":1", "{what}");
            // Whoever has done nothing yet waits for nothing.
            assert_eq!(line(&mut server.client(), "WAIT 1 0"), ":1", "{what}");
            // What it has seen is more.
            assert_eq!(line(&mut client, &format!("GET other{n}")), "$1\\r\\n1");
            waits_in_vain(&mut client, &mut follower, &mut unblocker, &what);
        }
    }
}

fn both(local: u8, replicas: u8) -> String {
    format!("*2\\r\\n:{local}\\r\\n:{replicas}\\r\\n")
}

// WAITAOF is younger than the reference.
#[test]
fn a_replica_counts_for_the_disk_when_it_says_that_its_disk_has_it() {
    for shards in [1, 2] {
        let options = ["--appendonly", "yes", "--repl-diskless-sync-delay", "0"];
        let server = Server::start(Which::Pinion { shards }, &options);
        let (mut client, mut other) = (server.client(), server.client());
        let mut follower = Follower::of(&server);
        for n in 0..32 {
            write(&mut client, n % 6, n);
            client.send(&encode(&["WAITAOF", "1", "1", "0"]));
            follower.hear_question();
            // It has it, and its disk does not.
            let before = follower.offset - 1000.min(follower.offset);
            follower.acknowledge_synced(before);
            let told = format!("offset={},", follower.offset);
            wait_for("the word", || {
                other.text("INFO replication").contains(&told)
            });
            let list = other.text("CLIENT LIST");
            assert!(list.contains(" flags=b "), "{n}: {list}");
            follower.acknowledge_synced(follower.offset);
            assert_eq!(client.reply().shown(), both(1, 1), "{n}");
            // What another client writes is its own affair.
            line(&mut other, &format!("SET other{n} 1"));
            assert_eq!(client.text("WAITAOF 1 1 0"), both(1, 1), "{n}");
            assert_eq!(client.text("WAITAOF 0 0 0"), both(1, 1), "{n}");
            client.send(b"MULTI\r\nWAITAOF 1 1 0\r\nEXEC\r\n");
            let replies = client.replies(3);
            let shown = format!("*1\\r\\n{}", both(1, 1));
            assert_eq!(replies[2].shown(), shown, "{n}");
            // Whoever has done nothing waits for nothing.
            assert_eq!(server.client().text("WAITAOF 1 1 0"), both(1, 1));
        }
        assert_eq!(line(&mut client, "SET k v"), "+OK");
        client.send(b"MULTI\r\nWAITAOF 1 2 0\r\nEXEC\r\n");
        let shown = client.replies(3)[2].shown();
        assert!(shown.ends_with("\\r\\n:0\\r\\n"), "{shown}");
        assert_eq!(line(&mut client, "CONFIG SET appendonly no"), "+OK");
        assert_eq!(client.text("WAITAOF 0 0 0"), both(0, 0));
    }
}

#[test]
fn replicas_say_what_their_disks_have() {
    for (policy, shards) in [("everysec", 2), ("always", 1), ("always", 2)] {
        let options = [
            "--appendonly",
            "yes",
            "--appendfsync",
            policy,
            "--repl-diskless-sync-delay",
            "0",
        ];
        let master = Server::start(Which::Pinion { shards: 2 }, &options);
        let mut client = master.client();
        let begin = |which, options: &[&str]| {
            let replica = Server::start(which, options);
            let address = format!("REPLICAOF 127.0.0.1 {}", master.port);
            assert_eq!(line(&mut replica.client(), &address), "+OK");
            replica
        };
        let durable = begin(Which::Pinion { shards }, &options);
        let forgetful = begin(Which::Pinion { shards: 2 }, &[]);
        let stock = begin(Which::Reference, &["--appendonly", "yes"]);
        wait_for("the replicas", || line(&mut client, "WAIT 3 100") == ":3");
        for n in 0..8 {
            write(&mut client, n % 6, n);
            assert_eq!(client.text("WAITAOF 1 1 0"), both(1, 1), "{policy} {n}");
            let two = client.text("WAITAOF 0 2 20");
            assert!(two.ends_with(":1\\r\\n"), "{policy} {n}: {two}");
        }
        // What was promised is there after the worst end.
        durable.signal("KILL");
        let dir = durable.dir.clone();
        drop((forgetful, stock));
        let mut again = Server::start_in(Which::Pinion { shards }, &dir, &options);
        again.wait_until_up();
        for name in ["k0", "b1", "m2", "s3", "{s4}", "r5", "k6", "c7"] {
            let found = line(&mut again.client(), &format!("EXISTS {name}"));
            assert_eq!(found, ":1", "{policy} {name}");
        }
    }
}

/// What others do for a client that waits is not what WAIT waits for, in Redis 7.0.
#[test]
fn what_a_client_was_served_is_not_waited_for() {
    for which in [
        Which::Reference,
        Which::Pinion { shards: 1 },
        Which::Pinion { shards: 2 },
    ] {
        let options = ["--repl-diskless-sync-delay", "0"];
        let quiet = ["--repl-ping-replica-period", "3600"];
        let server = Server::start(which, &[options, quiet].concat());
        let (mut client, mut other) = (server.client(), server.client());
        let mut follower = Follower::of(&server);
        for n in 0..8 {
            line(&mut client, &format!("SET own{n} 1"));
            client.send(&encode(&["WAIT", "1", "0"]));
            follower.hear_question();
            follower.acknowledge();
            assert_eq!(client.reply().shown(), ":1\\r\\n", "{which}");
            let keys = [format!("queue{n}"), format!("other{n}")];
            client.send(&encode(&["BLPOP", &keys[0], &keys[1], "0"]));
            wait_for("a client that waits", || {
                other
                    .text("INFO clients")
                    .contains("blocked_clients:1\\r\\n")
            });
            assert_eq!(line(&mut other, &format!("RPUSH {} a", keys[n % 2])), ":1");
            assert!(client.reply().shown().ends_with("a\\r\\n"), "{which}");
            assert_eq!(line(&mut client, "WAIT 1 0"), ":1", "{which}");
        }
    }
}

/// What a transaction holds is given back, whatever becomes of the client. While its shard sleeps somebody
/// closes it; then its WAIT is held back with what it has written, until that is on the disk.
#[test]
fn a_transaction_that_asks_for_replicas_ends_without_its_client() {
    let options = ["--appendonly", "yes", "--appendfsync", "always"];
    let server = Server::start(Which::Pinion { shards: 2 }, &options);
    let mut other = server.client();
    // Some of the keys live where the client does.
    for n in 0..12 {
        let mut client = server.client();
        let id = line(&mut client, "CLIENT ID");
        let begin = "MULTI\r\nDEBUG SLEEP 0.04\r\n";
        client
            .send(format!("{begin}SET k{n} 1\r\nWAIT 0 0\r\nAPPEND k{n} 2\r\nEXEC\r\n").as_bytes());
        std::thread::sleep(Duration::from_millis(20));
        let kill = format!("CLIENT KILL ID {}", id.trim_start_matches(':'));
        assert_eq!(line(&mut other, &kill), ":1");
        let get = format!("GET k{n}");
        wait_for("the end", || other.text(&get) == "$2\\r\\n12\\r\\n");
        assert_eq!(line(&mut other, "DBSIZE"), format!(":{}", n + 1));
    }
}
