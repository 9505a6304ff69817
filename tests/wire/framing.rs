//! Requests in every possible cut: a reply may not depend on where TCP ends a packet.

use std::thread;
use std::time::Duration;

use crate::client::{Got, encode, shown};
use crate::process::{Server, Which};

/// A pipeline with each form of request in it, and the replies to it.
fn pipeline() -> (Vec<u8>, Vec<u8>) {
    let mut bytes = encode(&["MSET", "a", "1", "b", "22", "c", "333"]);
    bytes.extend(b"\r\nGET a\r\n*0\r\n");
    bytes.extend(encode(&["MGET", "c", "b", "a", "none"]));
    bytes.extend(b"set a 'x y'\n");
    bytes.extend(encode(&["RENAME", "a", "c"]));
    bytes.extend(encode(&["GET", "c"]));
    bytes.extend(encode(&["NOSUCH", ""]));
    bytes.extend(encode(&["DEL", "a", "b", "c"]));
    let replies =
        b"+OK\r\n$1\r\n1\r\n*4\r\n$3\r\n333\r\n$2\r\n22\r\n$1\r\n1\r\n$-1\r\n+OK\r\n+OK\r\n\
        $3\r\nx y\r\n-ERR unknown command 'NOSUCH', with args beginning with: '' \r\n:2\r\n";
    (bytes, replies.to_vec())
}

const REPLIES: usize = 8;

fn run(which: Which, pause: Duration) {
    let server = Server::start(which, &[]);
    let (bytes, wanted) = pipeline();
    let mut client = server.client();
    for cut in 0..=bytes.len() {
        client.send(&bytes[..cut]);
        thread::sleep(pause);
        client.send(&bytes[cut..]);
        let mut got = Vec::new();
        for _ in 0..REPLIES {
            match client.reply() {
                Got::Reply(reply) => got.extend(reply),
                other => panic!("{which}, cut at {cut}: {}", other.shown()),
            }
        }
        assert_eq!(shown(&got), shown(&wanted), "{which}, cut at {cut}");
    }
}

#[test]
fn a_pipeline_may_be_cut_anywhere() {
    // The reference proves the expectation; then ours, with time for the first part to arrive
    // alone.
    run(Which::Reference, Duration::ZERO);
    for shards in [1, 4] {
        run(Which::Pinion { shards }, Duration::from_millis(1));
    }
}

#[test]
fn a_pipeline_may_come_byte_by_byte() {
    let server = Server::start(Which::Pinion { shards: 2 }, &[]);
    let (bytes, wanted) = pipeline();
    let mut client = server.client();
    for byte in bytes.chunks(1) {
        client.send(byte);
    }
    let mut got = Vec::new();
    while got.len() < wanted.len() {
        match client.reply() {
            Got::Reply(reply) => got.extend(reply),
            other => panic!("{}", other.shown()),
        }
    }
    assert_eq!(shown(&got), shown(&wanted));
}

#[test]
fn a_deep_pipeline_is_answered_whole_and_in_order() {
    const DEPTH: usize = 20_000;
    for shards in [1, 2, 4] {
        let server = Server::start(Which::Pinion { shards }, &[]);
        let mut client = server.client();
        let mut bytes = Vec::new();
        for number in 0..DEPTH {
            // One counter over the whole pipeline, and keys that live on every shard.
            bytes.extend(encode(&["INCR", "counter"]));
            bytes.extend(encode(&["SET", &format!("key:{number}"), "x"]));
        }
        client.send(&bytes);
        for number in 1..=DEPTH {
            assert_eq!(
                client.reply(),
                Got::Reply(format!(":{number}\r\n").into_bytes())
            );
            assert_eq!(client.reply(), Got::Reply(b"+OK\r\n".to_vec()));
        }
        assert_eq!(client.text("DBSIZE"), format!(":{}\\r\\n", DEPTH + 1));
    }
}

/// MGET over two shards holds its keys here until its reply is out. A command that waits for such a key
/// and others goes before one on the others alone, whatever the order between shards.
#[test]
fn commands_on_a_key_keep_their_order_behind_one_that_waits_for_another() {
    for order in ["exact", "relaxed"] {
        let options = ["--pipeline-order", order];
        let server = Server::start(Which::Pinion { shards: 2 }, &options);
        let mut client = server.client();
        for (one, other) in (0..8).flat_map(|one| (0..8).map(move |other| (one, other))) {
            let (held, free) = (format!("{{{one}}}held"), format!("{{{one}}}free"));
            let there = format!("{{{other}}}there");
            let requests = [
                encode(&["MSET", &held, "1", &free, "2", &there, "3"]),
                encode(&["MGET", &held, &there]),
                encode(&["DEL", &held, &free]),
                encode(&["EXISTS", &free]),
            ];
            client.send(&requests.concat());
            let wanted = [
                "+OK\r\n",
                "*2\r\n$1\r\n1\r\n$1\r\n3\r\n",
                ":2\r\n",
                ":0\r\n",
            ];
            for wanted in wanted {
                let wanted = Got::Reply(wanted.as_bytes().to_vec());
                assert_eq!(client.reply(), wanted, "{order}, {one} and {other}");
            }
        }
    }
}

#[test]
fn a_client_that_half_closes_gets_its_replies() {
    use std::io::{Read, Write};
    for which in [Which::Reference, Which::Pinion { shards: 2 }] {
        let server = Server::start(which, &[]);
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).expect("connect");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("set a timeout");
        stream
            .write_all(b"SET a 1\r\nGET a\r\nMGET a b c\r\n")
            .expect("send");
        thread::sleep(Duration::from_millis(20));
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("half close");
        let mut got = Vec::new();
        stream.read_to_end(&mut got).expect("replies, then the end");
        let wanted: &[u8] = b"+OK\r\n$1\r\n1\r\n*3\r\n$1\r\n1\r\n$-1\r\n$-1\r\n";
        assert_eq!(shown(&got), shown(wanted), "{which}");
    }
}
