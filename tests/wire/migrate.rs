//! MIGRATE between real servers: what it answers, what is there afterwards, and that nobody waits for a
//! target that does not answer.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::client::{Client, Got};
use crate::process::{Server, Which};

/// The target with these options, and its port.
fn target(options: &[&str]) -> (Server, String) {
    let server = Server::start(Which::Reference, options);
    let port = server.port.to_string();
    (server, port)
}

/// What one source answers, step by step; `P` is the target's port. Lines that begin with `>` are
/// asked of the target.
fn play(which: Which, options: &[&str], lines: &[&str]) -> Vec<String> {
    let (target, port) = target(options);
    let source = Server::start(which, &[]);
    let mut here = source.client();
    let mut there = target.client();
    let mut played = Vec::new();
    for line in lines {
        let (client, line) = match line.strip_prefix('>') {
            Some(line) => (&mut there, line),
            None => (&mut here, *line),
        };
        let words: Vec<String> = line
            .split(' ')
            .map(|word| match word {
                "P" => port.clone(),
                "_" => String::new(),
                word => word.to_owned(),
            })
            .collect();
        played.push(format!("{line}: {}", client.call(&words).shown()));
    }
    played
}

const LINES: &[&str] = &[
    "SET a 1",
    "SET b 2",
    "RPUSH {x}l 1 2 3",
    "HSET h f v",
    "MIGRATE 127.0.0.1 P nosuch 9 5000",
    "MIGRATE 127.0.0.1 P a 9 5000",
    "EXISTS a",
    ">SELECT 9",
    ">GET a",
    "SET a 3",
    "MIGRATE 127.0.0.1 P a 9 5000",
    "GET a",
    "MIGRATE 127.0.0.1 P a 9 5000 REPLACE COPY",
    "GET a",
    ">GET a",
    "MIGRATE 127.0.0.1 P _ 9 5000 KEYS {x}l nosuch a h b",
    "EXISTS {x}l a h b",
    ">LRANGE {x}l 0 -1",
    ">HGETALL h",
    "MIGRATE 127.0.0.1 P _ 9 5000 KEYS",
    "MIGRATE 127.0.0.1 P _ 9 5000 KEYS b {x}l",
    "MIGRATE 127.0.0.1 P a 99 5000",
    "MIGRATE 127.0.0.1 P a x 5000",
    "MIGRATE 127.0.0.1 P a 9 x",
    "MIGRATE 127.0.0.1 P a 9 5000 KEYS b",
    "MIGRATE 127.0.0.1 P a 9 5000 AUTH",
    "MIGRATE 127.0.0.1 P a 9 5000 AUTH2 u",
    "MIGRATE 127.0.0.1 P a 9 5000 BOGUS",
    "MIGRATE 127.0.0.1 P a 9 5000 AUTH wrong",
    "MIGRATE 127.0.0.1 1 a 9 5000",
    "MIGRATE 127.0.0.1 P a 9",
    "SET t v PX 100000",
    "MIGRATE 127.0.0.1 P t 9 5000",
    ">PERSIST t",
    "MULTI",
    "SET m 1",
    "MIGRATE 127.0.0.1 P m 9 5000",
    "EXISTS m",
    "EXEC",
    ">GET m",
    "SET e 1",
    "COMMAND GETKEYS MIGRATE 127.0.0.1 P _ 9 5000 AUTH2 KEYS x KEYS KEYS a",
];

#[test]
fn keys_move_as_from_redis() {
    let wanted = play(Which::Reference, &[], LINES);
    for shards in [1, 2, 4] {
        let got = play(Which::Pinion { shards }, &[], LINES);
        assert_eq!(got, wanted, "shards {shards}");
    }
}

#[test]
fn targets_ask_for_passwords() {
    const LINES: &[&str] = &[
        "SET a 1",
        "MIGRATE 127.0.0.1 P a 9 5000",
        "MIGRATE 127.0.0.1 P a 9 5000 AUTH wrong",
        "MIGRATE 127.0.0.1 P a 9 5000 AUTH2 nobody secret",
        "GET a",
        "MIGRATE 127.0.0.1 P a 9 5000 AUTH secret",
        "GET a",
        "SET a 2",
        "MIGRATE 127.0.0.1 P a 9 5000 REPLACE AUTH2 default secret",
        "EXISTS a",
    ];
    let options = ["--requirepass", "secret"];
    let wanted = play(Which::Reference, &options, LINES);
    let got = play(Which::Pinion { shards: 2 }, &options, LINES);
    assert_eq!(got, wanted);
}

#[test]
fn scripts_migrate_too() {
    let (_target, port) = target(&[]);
    for shards in [1, 2] {
        let source = Server::start(Which::Pinion { shards }, &[]);
        let mut client = source.client();
        client.words("SET a 1");
        let script = format!(
            "return {{redis.call('migrate', '127.0.0.1', '{port}', KEYS[1], '9', '5000', 'REPLACE'), \
             redis.call('exists', KEYS[1])}}"
        );
        let got = client.call(&["EVAL", &script, "1", "a"]);
        assert_eq!(got, Got::Reply(b"*2\r\n+OK\r\n:0\r\n".to_vec()));
    }
}

/// The target accepts, and never answers: who asks for other keys is served, who asks for that key
/// waits until the time is up.
#[test]
fn nobody_waits_for_a_silent_target_but_who_wants_the_key() {
    const TIMEOUT_MS: u64 = 1500;
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = silent.local_addr().expect("bound").port().to_string();
    let source = Server::start(Which::Pinion { shards: 1 }, &[]);
    let mut client = source.client();
    client.words("MSET a 1 b 2");
    let mut other: Client = source.client();
    let mut waiting: Client = source.client();
    let begun = Instant::now();
    let timeout = TIMEOUT_MS.to_string();
    let words = ["MIGRATE", "127.0.0.1", &port, "a", "9", &timeout];
    client.send(&crate::client::encode(&words));
    let mut served = 0;
    while begun.elapsed() < Duration::from_millis(TIMEOUT_MS / 2) {
        assert_eq!(other.words("GET b"), Got::Reply(b"$1\r\n2\r\n".to_vec()));
        served += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(served > 10, "{served}");
    assert_eq!(waiting.words("GET a"), Got::Reply(b"$1\r\n1\r\n".to_vec()));
    assert!(begun.elapsed() >= Duration::from_millis(TIMEOUT_MS));
    let error = b"-IOERR error or timeout reading to target instance\r\n".to_vec();
    assert_eq!(client.reply(), Got::Reply(error));
}
