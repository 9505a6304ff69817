//! What SCAN promises over all shards: every key that stays is returned, whatever else happens.

use std::collections::BTreeSet;

use crate::client::{Client, Got, encode};
use crate::process::{Server, Which};

/// Keys that stay during the whole scan.
const STAYING: usize = 2_000;

/// One SCAN call: the next cursor and the keys.
fn scan(client: &mut Client, cursor: &str, options: &[&str]) -> (String, Vec<String>) {
    let args: Vec<&str> = ["SCAN", cursor].iter().chain(options).copied().collect();
    let Got::Reply(reply) = client.call(&args) else {
        panic!("SCAN {cursor} is not answered");
    };
    let text = String::from_utf8(reply).expect("keys are text here");
    let mut words = text
        .split("\r\n")
        .filter(|word| !word.starts_with(['*', '$']));
    let next = words.next().expect("a cursor").to_string();
    let is_cursor = next.bytes().all(|byte| byte.is_ascii_digit());
    assert!(is_cursor, "SCAN {cursor} is answered {text:?}");
    let keys = words.filter(|key| !key.is_empty()).map(str::to_string);
    (next, keys.collect())
}

fn fill(client: &mut Client, name: &str, count: usize) {
    let mut bytes = Vec::new();
    for number in 0..count {
        bytes.extend(encode(&["SET", &format!("{name}:{number}"), "x"]));
    }
    client.send(&bytes);
    for _ in 0..count {
        assert_eq!(client.reply(), Got::Reply(b"+OK\r\n".to_vec()));
    }
}

/// Scans to the end, doing something between two calls; returns what it saw of the staying keys.
fn scan_while(client: &mut Client, mut meanwhile: impl FnMut(&mut Client, usize)) -> usize {
    let mut seen = BTreeSet::new();
    let mut cursor = "0".to_string();
    for call in 0.. {
        let (next, keys) = scan(client, &cursor, &["COUNT", "50"]);
        seen.extend(keys.into_iter().filter(|key| key.starts_with("stays:")));
        cursor = next;
        if cursor == "0" {
            break;
        }
        assert!(call < 100_000, "the scan does not end");
        meanwhile(client, call);
    }
    seen.len()
}

#[test]
fn a_scan_returns_every_key_that_stays() {
    for shards in [1, 2, 4] {
        let server = Server::start(Which::Pinion { shards }, &[]);
        let mut client = server.client();
        fill(&mut client, "stays", STAYING);
        assert_eq!(scan_while(&mut client, |_, _| {}), STAYING, "at rest");
        let grown = scan_while(&mut client, |client, call| {
            if call < 20 {
                fill(client, &format!("new:{call}"), 500);
            }
        });
        assert_eq!(grown, STAYING, "{shards} shards, while growing");
        let shrunk = scan_while(&mut client, |client, call| {
            if call < 20 {
                for number in 0..500 {
                    client.call(&["DEL", &format!("new:{call}:{number}")]);
                }
            }
        });
        assert_eq!(shrunk, STAYING, "{shards} shards, while shrinking");
        assert_eq!(client.text("DBSIZE"), format!(":{STAYING}\\r\\n"));
    }
}

#[test]
fn a_scan_filters_by_pattern_and_type() {
    let server = Server::start(Which::Pinion { shards: 4 }, &[]);
    let mut client = server.client();
    fill(&mut client, "stays", 100);
    fill(&mut client, "other", 100);
    for (options, wanted) in [
        (["MATCH", "other:*"], 100),
        (["MATCH", "*:7"], 2),
        (["TYPE", "string"], 200),
        (["TYPE", "list"], 0),
    ] {
        let mut found = BTreeSet::new();
        let mut cursor = "0".to_string();
        loop {
            let (next, keys) = scan(&mut client, &cursor, &options);
            found.extend(keys);
            cursor = next;
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(found.len(), wanted, "{options:?}");
    }
}

/// Goes through all keys, deletes them, and tells how many there were.
const DELETE_ALL: &str = "local cursor, count = '0', 0
    repeat
        local page = redis.call('SCAN', cursor)
        cursor, count = page[1], count + #page[2]
        if #page[2] > 0 then redis.call('DEL', unpack(page[2])) end
    until cursor == '0'
    return count";

#[test]
fn transactions_and_scripts_scan_what_is_elsewhere() {
    for shards in [1, 2, 4] {
        let server = Server::start(Which::Pinion { shards }, &[]);
        let mut client = server.client();
        fill(&mut client, "stays", 100);
        let mut seen = BTreeSet::new();
        let mut cursor = "0".to_string();
        loop {
            client.call(&["MULTI"]);
            client.call(&["SCAN", &cursor]);
            client.call(&["PING"]);
            let Got::Reply(reply) = client.call(&["EXEC"]) else {
                panic!("EXEC is not answered");
            };
            let text = String::from_utf8(reply).expect("keys are text here");
            let is_word = |word: &&str| !word.is_empty() && !word.starts_with(['*', '$', '+']);
            let mut words = text.split("\r\n").filter(is_word);
            cursor = words.next().expect("a cursor").to_string();
            seen.extend(words.map(str::to_string));
            if cursor == "0" {
                break;
            }
        }
        assert_eq!(seen.len(), 100, "{shards} shards");
        let deleted = client.call(&["EVAL", DELETE_ALL, "0"]);
        assert_eq!(deleted, Got::Reply(b":100\r\n".to_vec()), "{shards} shards");
        assert_eq!(client.text("DBSIZE"), ":0\\r\\n");
    }
}
