//! Payloads with some bytes changed and their checksum put right, as a hostile client sends them: refused,
//! or values that every command can live with.

use super::*;
use crate::command::testing::Bench;
use crate::resp::ArgBuf;

/// Lines that make values of every encoding at the key `k`.
fn makers() -> Vec<Vec<String>> {
    let words = |from: usize, to: usize, word: fn(usize) -> String| -> String {
        (from..to).map(word).collect()
    };
    let one = |line: String| vec![line];
    let mut stream: Vec<String> = (1..140)
        .map(|n| format!("XADD k {n}-1 field {n} other value"))
        .collect();
    stream.extend(
        [
            "XADD k 200-1 own v",
            "XGROUP CREATE k g 0",
            "XREADGROUP GROUP g c COUNT 9 STREAMS k >",
            "XREADGROUP GROUP g d COUNT 3 STREAMS k >",
            "XDEL k 1-1 3-1 139-1",
        ]
        .map(String::from),
    );
    vec![
        one("SET k 123456".into()),
        one(format!(
            "SET k {}",
            "long and alike ".repeat(40).replace(' ', "_")
        )),
        one(format!(
            "RPUSH k {}",
            words(0, 40, |n| format!("{n} element:{n} "))
        )),
        one(format!("RPUSH k {} {}", "x".repeat(9000), "y".repeat(20))),
        one(format!(
            "SADD k {}",
            words(0, 30, |n| format!("{} ", n * 7000))
        )),
        one(format!("SADD k {}", words(0, 30, |n| format!("m{n} ")))),
        one(format!("HSET k {}", words(0, 20, |n| format!("f{n} {n} ")))),
        one(format!(
            "HSET k {}",
            words(0, 20, |n| format!("f{n} {} ", "v".repeat(70)))
        )),
        vec![
            format!("HSET k {}", words(0, 20, |n| format!("f{n} {n} "))),
            "HPEXPIRE k 500000 FIELDS 3 f1 f5 f7".into(),
        ],
        one(format!(
            "ZADD k {}",
            words(0, 20, |n| format!("{n}.5 m{n} "))
        )),
        one(format!(
            "ZADD k {}",
            words(0, 140, |n| format!("{n} m{n} "))
        )),
        stream,
    ]
}

/// What is done to a value afterwards, of whatever type it is.
const TRAFFIC: [&str; 62] = [
    "OBJECT ENCODING k",
    "DUMP k",
    "APPEND k x",
    "INCR k",
    "LPUSH k a",
    "RPOP k",
    "LRANGE k 0 -1",
    "LREM k 0 a",
    "LSET k 0 z",
    "LINSERT k BEFORE z b",
    "LTRIM k 1 -2",
    "LPOS k a",
    "SADD k a 5",
    "SREM k a",
    "SMEMBERS k",
    "SPOP k 2",
    "SRANDMEMBER k 5",
    "SISMEMBER k 7",
    "HSET k f v",
    "HDEL k f f1",
    "HGETALL k",
    "HRANDFIELD k 5 WITHVALUES",
    "HSCAN k 0",
    "HPEXPIRE k 100 FIELDS 1 f2",
    "HINCRBY k f3 1",
    "ZADD k 1 a",
    "ZRANGE k 0 -1 WITHSCORES",
    "ZREM k a m1",
    "ZPOPMIN k",
    "ZRANGEBYSCORE k -inf +inf",
    "ZREVRANGE k 0 -1",
    "ZRANK k m5",
    "ZINCRBY k 5 m7",
    "ZRANGEBYLEX k - +",
    "XADD k * f v",
    "XRANGE k - +",
    "XREVRANGE k + -",
    "XRANGE k 5-1 9-1",
    "XLEN k",
    "XDEL k 1-1 5-1 50-1",
    "XINFO STREAM k FULL",
    "XINFO GROUPS k",
    "XINFO CONSUMERS k g",
    "XTRIM k MINID 30",
    "XTRIM k MAXLEN 20",
    "XADD k MAXLEN ~ 3 * a b",
    "XREADGROUP GROUP g c COUNT 5 STREAMS k >",
    "XREADGROUP GROUP g c STREAMS k 0",
    "XPENDING k g",
    "XPENDING k g - + 10",
    "XAUTOCLAIM k g d 0 0",
    "XCLAIM k g c 0 10-1",
    "XACK k g 4-1",
    "XSETID k 99999999999999-1",
    "XADD k * f v",
    "XINFO STREAM k",
    "COPY k l REPLACE",
    "RENAME l m",
    "DUMP m",
    "PERSIST m",
    "TYPE m",
    "DEL k l m",
];

#[test]
fn damaged_payloads_are_refused_or_harmless() {
    const ROUNDS: usize = 40;
    let mut rng = fastrand::Rng::with_seed(7);
    let mut bench = Bench::new();
    let (mut refused, mut taken) = (0, 0);
    for lines in makers() {
        for line in &lines {
            let reply = bench.line(line.trim_end()).reply;
            assert!(!reply.starts_with('-'), "{line}: {reply}");
        }
        let mut tx = bench.tx();
        let whole = tx.clone_value(b"k").expect("it exists");
        let payload = payload(&mut tx, &whole);
        tx.finish();
        bench.line("DEL k");
        let (body, _) = payload.split_at(payload.len() - 10);
        let version = payload[body.len()].into();
        for _ in 0..ROUNDS {
            let mut body = body.to_vec();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(1..body.len());
                match rng.u8(..3) {
                    0 => body[at] ^= 1 << rng.u8(..8),
                    1 => body[at] = rng.u8(..),
                    _ => body[at] = [0, 0xff, 0x7f, 0x80, 0xfe][rng.usize(..5)],
                }
            }
            let damaged = dump::seal(body, version);
            let words: [&[u8]; 4] = [b"RESTORE", b"k", b"0", &damaged];
            let restored = bench.run(&words.into_iter().collect::<ArgBuf>());
            if restored.reply != "+OK|" {
                refused += 1;
                continue;
            }
            taken += 1;
            for line in TRAFFIC {
                bench.line(line);
            }
        }
    }
    assert!(
        refused > 20 && taken > 20,
        "{refused} refused, {taken} taken"
    );
}
