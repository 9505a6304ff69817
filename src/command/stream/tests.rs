use crate::command::testing::{Bench, NOW_MS};

#[test]
fn entries_are_added_and_read() {
    Bench::new().rows(&[
        ("XADD s 1-1 a 1 b 2", "$3|1-1|", "xadd s", "XADD s 1-1 a 1 b 2"),
        ("XADD s 1-* a 3 b 4", "$3|1-2|", "xadd s", "XADD s 1-2 a 3 b 4"),
        ("XADD s * c x", "$9|1000000-0|", "xadd s", "XADD s 1000000-0 c x"),
        ("XADD s 1-1 a 1", "-ERR The ID specified in XADD is equal or smaller than the target stream top item|", "", ""),
        ("XADD s 0-0 a 1", "-ERR The ID specified in XADD must be greater than 0-0|", "", ""),
        ("XADD s x a 1", "-ERR Invalid stream ID specified as stream command argument|", "", ""),
        ("XADD s * a", "-ERR wrong number of arguments for 'xadd' command|", "", ""),
        ("XADD none NOMKSTREAM * a 1", "$-1|", "", ""),
        ("XLEN s", ":3|", "", ""),
        ("XRANGE s - + COUNT 1", "*1|*2|$3|1-1|*4|$1|a|$1|1|$1|b|$1|2|", "", ""),
        ("XRANGE s (1-1 1", "*1|*2|$3|1-2|*4|$1|a|$1|3|$1|b|$1|4|", "", ""),
        ("XREVRANGE s + 2", "*1|*2|$9|1000000-0|*2|$1|c|$1|x|", "", ""),
        ("XREAD COUNT 1 STREAMS s t 1-1 0", "*1|*2|$1|s|*1|*2|$3|1-2|*4|$1|a|$1|3|$1|b|$1|4|", "", ""),
        ("XREAD STREAMS s $", "*-1|", "", ""),
        ("XREAD STREAMS s t 1", "-ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.|", "", ""),
        ("XDEL s 1-1 7-7", ":1|", "xdel s", "XDEL s 1-1 7-7"),
        ("XTRIM s MAXLEN 1", ":1|", "xtrim s", "XTRIM s MAXLEN = 1"),
        ("XADD s MAXLEN = 1 2000000 d y", "$9|2000000-0|", "xadd s, xtrim s", "XADD s 2000000-0 d y, XTRIM s MAXLEN = 1"),
        ("XSETID s 5-0", "-ERR The ID specified in XSETID is smaller than the target stream top item|", "", ""),
        ("XSETID s 3000000-0", "+OK|", "xsetid s", "XSETID s 3000000-0"),
        ("XDEL s 2000000-0", ":1|", "xdel s", "XDEL s 2000000-0"),
        ("EXISTS s", ":1|", "", ""),
    ]);
}

#[test]
fn the_last_entry_can_be_asked_for() {
    let last = "*1|*2|$1|s|*1|*2|$3|2-0|*2|$1|a|$1|2|";
    Bench::new().rows(&[
        ("XREAD STREAMS s +", "*-1|", "", ""),
        ("XGROUP CREATE s g $ MKSTREAM", "+OK|", "xgroup-create s", "XGROUP CREATE s g 0-0 MKSTREAM ENTRIESREAD -1"),
        ("XREAD STREAMS s +", "-ERR the stream last element ID is 0-0|", "", ""),
        ("XADD s 1-0 a 1", "$3|1-0|", "xadd s", "XADD s 1-0 a 1"),
        ("XADD s 2-0 a 2", "$3|2-0|", "xadd s", "XADD s 2-0 a 2"),
        ("XREAD STREAMS s +", last, "", ""),
        ("XREAD COUNT 9 BLOCK 0 STREAMS none s + +", last, "", ""),
        ("XREADGROUP GROUP g c STREAMS s +", "-ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The + ID would just return an empty result set.|", "", ""),
        ("XDEL s 2-0", ":1|", "xdel s", "XDEL s 2-0"),
        ("XREAD STREAMS s +", "*-1|", "", ""),
    ]);
}

#[test]
fn groups_share_the_reading() {
    let mut bench = Bench::new();
    bench.rows(&[
        ("XGROUP CREATE s g $", "-ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.|", "", ""),
        ("XGROUP CREATE s g $ MKSTREAM", "+OK|", "xgroup-create s", "XGROUP CREATE s g 0-0 MKSTREAM ENTRIESREAD -1"),
        ("XGROUP CREATE s g $", "-BUSYGROUP Consumer Group name already exists|", "", ""),
        ("XADD s 1-0 a 1", "$3|1-0|", "xadd s", "XADD s 1-0 a 1"),
        ("XADD s 2-0 a 2", "$3|2-0|", "xadd s", "XADD s 2-0 a 2"),
        (
            "XREADGROUP GROUP g c COUNT 1 STREAMS s >",
            "*1|*2|$1|s|*1|*2|$3|1-0|*2|$1|a|$1|1|",
            "xgroup-createconsumer s",
            "XCLAIM s g c 0 1-0 TIME 1000000 RETRYCOUNT 1 FORCE JUSTID, XGROUP SETID s g 1-0 ENTRIESREAD 1",
        ),
        ("XPENDING s g", "*4|:1|$3|1-0|$3|1-0|*1|*2|$1|c|$1|1|", "", ""),
        ("XREADGROUP GROUP g c STREAMS s 0", "*1|*2|$1|s|*1|*2|$3|1-0|*2|$1|a|$1|1|", "", ""),
        ("XREADGROUP GROUP x c STREAMS s >", "-NOGROUP No such key 's' or consumer group 'x' in XREADGROUP with GROUP option|", "", ""),
    ]);
    bench.now_ms = NOW_MS + 100;
    bench.rows(&[
        ("XPENDING s g - + 9", "*1|*4|$3|1-0|$1|c|:100|:2|", "", ""),
        ("XCLAIM s g d 200 1-0", "*0|", "", ""),
        (
            "XAUTOCLAIM s g d 50 0",
            "*3|$3|0-0|*1|*2|$3|1-0|*2|$1|a|$1|1|*0|",
            "xgroup-createconsumer s",
            "XCLAIM s g d 0 1-0 TIME 1000100 RETRYCOUNT 3 FORCE JUSTID",
        ),
        ("XACK s g 1-0 9-9", ":1|", "", "XACK s g 1-0 9-9"),
        ("XINFO GROUPS s", "*1|*12|$4|name|$1|g|$9|consumers|:2|$7|pending|:0|$17|last-delivered-id|$3|1-0|$12|entries-read|:1|$3|lag|:1|", "", ""),
        ("XGROUP DELCONSUMER s g c", ":0|", "xgroup-delconsumer s", "XGROUP DELCONSUMER s g c"),
        ("XGROUP DESTROY s g", ":1|", "xgroup-destroy s", "XGROUP DESTROY s g"),
        ("XPENDING s g", "-NOGROUP No such key 's' or consumer group 'g'|", "", ""),
    ]);
}

#[test]
fn consumers_are_seen_when_they_ask_and_active_when_they_get() {
    let mut bench = Bench::new();
    bench.line("XGROUP CREATE s g $ MKSTREAM");
    bench.line("XGROUP CREATECONSUMER s g c");
    bench.line("XADD s 1-0 a 1");
    bench.now_ms = NOW_MS + 100;
    bench.replies(&[("XINFO CONSUMERS s g", &consumer(0, 100, -1))]);
    bench.line("XREADGROUP GROUP g c STREAMS s >");
    bench.replies(&[("XINFO CONSUMERS s g", &consumer(1, 0, 0))]);
    bench.now_ms = NOW_MS + 150;
    bench.line("XREADGROUP GROUP g c STREAMS s 0");
    bench.replies(&[("XINFO CONSUMERS s g", &consumer(1, 0, 50))]);
    let full = bench.line("XINFO STREAM s FULL").reply;
    assert!(full.contains("$9|seen-time|:1000150|$11|active-time|:1000100|"));
}

/// What XINFO CONSUMERS says of one consumer, `c`.
fn consumer(pending: u64, idle_ms: i64, inactive_ms: i64) -> String {
    let (idle, inactive) = (idle_ms, inactive_ms);
    format!("*1|*8|$4|name|$1|c|$7|pending|:{pending}|$4|idle|:{idle}|$8|inactive|:{inactive}|")
}

#[test]
fn entries_go_with_what_refers_to_them_or_stay_for_it() {
    let mut bench = Bench::new();
    for line in ["XGROUP CREATE s g 0 MKSTREAM", "XGROUP CREATE s h 0"] {
        bench.line(line);
    }
    for n in 1..=6 {
        bench.line(&format!("XADD s {n}-0 a 1"));
    }
    bench.line("XREADGROUP GROUP g c COUNT 5 STREAMS s >");
    bench.line("XREADGROUP GROUP h c COUNT 4 STREAMS s >");
    bench.rows(&[
        (
            "XDELEX s IDS 3 1-0 1-0 9-9",
            "*3|:1|:-1|:-1|",
            "xdel s",
            "XDEL s 1-0",
        ),
        (
            "XDELEX s DELREF IDS 2 1-0 9-9",
            "*2|:-1|:-1|",
            "",
            "XACK s g 1-0, XACK s h 1-0",
        ),
        (
            "XDELEX s IDS 1 2-0 DELREF",
            "*1|:1|",
            "xdel s",
            "XACK s g 2-0, XACK s h 2-0, XDEL s 2-0",
        ),
        // One is pending, one has yet to be read by a group, and one is not there.
        ("XDELEX s ACKED IDS 3 3-0 5-0 1-0", "*3|:2|:2|:-1|", "", ""),
        (
            "XACKDEL s g ACKED IDS 3 3-0 3-0 2-0",
            "*3|:2|:-1|:-1|",
            "",
            "XACK s g 3-0",
        ),
        (
            "XACKDEL s h ACKED IDS 2 3-0 9-9",
            "*2|:1|:-1|",
            "xdel s",
            "XACK s h 3-0, XDEL s 3-0",
        ),
        (
            "XACKDEL s g IDS 1 4-0",
            "*1|:1|",
            "xdel s",
            "XACK s g 4-0, XDEL s 4-0",
        ),
        // It is pending, though not there any more.
        ("XACKDEL s h DELREF IDS 1 4-0", "*1|:1|", "", "XACK s h 4-0"),
        (
            "XACKDEL s g DELREF IDS 1 5-0",
            "*1|:1|",
            "xdel s",
            "XACK s g 5-0, XDEL s 5-0",
        ),
        ("XLEN s", ":1|", "", ""),
    ]);
}

#[test]
fn what_is_wrong_with_a_selection_of_ids_changes_nothing() {
    let usage = "-ERR syntax error|";
    let count = "-ERR Number of IDs must be a positive integer|";
    let number = "-ERR The `numids` parameter must match the number of arguments|";
    let invalid = "-ERR Invalid stream ID specified as stream command argument|";
    let mut bench = Bench::new();
    for line in [
        "XADD s 1-0 a 1",
        "XGROUP CREATE s g 0",
        "XREADGROUP GROUP g c STREAMS s >",
    ] {
        bench.line(line);
    }
    for head in ["XDELEX s", "XACKDEL s g"] {
        let cases = [
            ("IDS 1 x", invalid),
            ("IDS 2 1-0 x", invalid),
            ("IDS 0 1-0", count),
            ("IDS x 1-0", count),
            ("IDS -1 1-0", count),
            ("IDS 9999999999999999999 1-0", count),
            ("IDS 2 1-0", number),
            ("IDS 1 1-0 2-0", usage),
            ("KEEPREF KEEPREF IDS 1 1-0", usage),
            ("ACKED DELREF IDS 1 1-0", usage),
            ("1-0 2-0 3-0", usage),
            ("IDS 1 1-0 IDS", usage),
        ];
        for (tail, error) in cases {
            bench.rows(&[(&format!("{head} {tail}"), error, "", "")]);
        }
        // The last ids count.
        let twice = format!("{head} IDS 1 1-0 IDS 2 8-0 9-0");
        bench.rows(&[(&twice, "*2|:-1|:-1|", "", "")]);
    }
    bench.rows(&[
        ("XDELEX s ACKED KEEPREF DELREF", usage, "", ""),
        (
            "XDELEX s",
            "-ERR wrong number of arguments for 'xdelex' command|",
            "",
            "",
        ),
        (
            "XACKDEL s g IDS 1",
            "-ERR wrong number of arguments for 'xackdel' command|",
            "",
            "",
        ),
        // Who has no stream has no ids, be they ids or not.
        ("XDELEX none IDS 2 x y", "*2|:-1|:-1|", "", ""),
        ("XDELEX none IDS 3 x y", number, "", ""),
        ("XACKDEL none g IDS 1 x", "*1|:-1|", "", ""),
        ("XACKDEL s none ACKED IDS 1 x", "*1|:-1|", "", ""),
        ("SET t 1", "+OK|", "set t", "SET t 1"),
        (
            "XDELEX t IDS x 1-0",
            "-WRONGTYPE Operation against a key holding the wrong kind of value|",
            "",
            "",
        ),
        (
            "XACKDEL t g IDS 0 x",
            "-WRONGTYPE Operation against a key holding the wrong kind of value|",
            "",
            "",
        ),
        (
            "XPENDING s g",
            "*4|:1|$3|1-0|$3|1-0|*1|*2|$1|c|$1|1|",
            "",
            "",
        ),
        ("XLEN s", ":1|", "", ""),
    ]);
}

#[test]
fn trims_go_by_what_groups_refer_to() {
    let mut bench = Bench::new();
    bench.line("XGROUP CREATE s g 0 MKSTREAM");
    for n in 1..=6 {
        bench.line(&format!("XADD s {n}-0 a 1"));
    }
    bench.line("XREADGROUP GROUP g c COUNT 5 STREAMS s >");
    bench.line("XACK s g 1-0 3-0 5-0");
    let invalid = "-ERR Invalid stream ID specified as stream command argument|";
    bench.rows(&[
        (
            "XTRIM s ACKED",
            "-ERR wrong number of arguments for 'xtrim' command|",
            "",
            "",
        ),
        (
            "XTRIM s ACKED LIMIT 0",
            "-ERR syntax error, XTRIM must be called with a trimming strategy|",
            "",
            "",
        ),
        (
            "XTRIM s ACKED MAXLEN 0 DELREF",
            "-ERR syntax error|",
            "",
            "",
        ),
        (
            "XTRIM s MAXLEN 0 KEEPREF KEEPREF",
            "-ERR syntax error|",
            "",
            "",
        ),
        ("XADD s KEEPREF ACKED * a 1", invalid, "", ""),
        // 2 stays, since it is pending, and 6, since it is unread.
        (
            "XTRIM s MAXLEN 1 ACKED",
            ":3|",
            "xtrim s",
            "XDEL s 3-0 5-0, XTRIM s MAXLEN = 3",
        ),
        ("XTRIM s MAXLEN ~ 0 LIMIT 9 ACKED", ":0|", "", ""),
        (
            "XADD s ACKED 7-0 a 1",
            "$3|7-0|",
            "xadd s",
            "XADD s 7-0 a 1",
        ),
        ("XACK s g 2-0", ":1|", "", "XACK s g 2-0"),
        (
            "XADD s acked minid 9-0 8-0 a 1",
            "$3|8-0|",
            "xadd s, xtrim s",
            "XADD s 8-0 a 1, XTRIM s MAXLEN = 4",
        ),
        // Asked for about so many, it takes exactly so many: none goes with its node.
        (
            "XADD s DELREF MAXLEN ~ 3 9-0 a 1",
            "$3|9-0|",
            "xadd s, xtrim s",
            "XADD s 9-0 a 1, XACK s g 4-0, XTRIM s MAXLEN = 3",
        ),
        (
            "XTRIM s MINID 8-0 KEEPREF",
            ":1|",
            "xtrim s",
            "XTRIM s MAXLEN = 2",
        ),
        ("XPENDING s g", "*4|:0|$-1|$-1|*-1|", "", ""),
    ]);
    let told = bench.line("XINFO STREAM s").reply;
    assert!(told.contains("$20|max-deleted-entry-id|$3|5-0|"), "{told}");
}

#[test]
fn what_nobody_acknowledged_in_time_is_given_to_who_claims_it() {
    let mut bench = Bench::new();
    bench.line("XGROUP CREATE s g 0 MKSTREAM");
    for n in 1..=4 {
        bench.line(&format!("XADD s {n}-0 a {n}"));
    }
    bench.line("XREADGROUP GROUP g c COUNT 2 STREAMS s >");
    bench.now_ms = NOW_MS + 50;
    let (one, two) = ("$3|1-0|*2|$1|a|$1|1|", "$3|2-0|*2|$1|a|$1|2|");
    let (three, four) = ("$3|3-0|*2|$1|a|$1|3|", "$3|4-0|*2|$1|a|$1|4|");
    let get = |parts: &[String]| format!("*1|*2|$1|s|*{}|{}", parts.len(), parts.concat());
    let claim = |ms: u32, n: u32, times: u32| {
        format!(
            "XCLAIM s g d 0 {n}-0 TIME {} RETRYCOUNT {times} FORCE JUSTID",
            NOW_MS as u32 + ms
        )
    };
    bench.rows(&[
        (
            "XREADGROUP GROUP g d CLAIM 51 COUNT 1 STREAMS s >",
            &get(&[format!("*4|{three}:0|:0|")]),
            "xgroup-createconsumer s",
            &format!("{}, XGROUP SETID s g 3-0 ENTRIESREAD 3", claim(50, 3, 1)),
        ),
        // With NOACK, only what is new is not to be acknowledged.
        (
            "XREADGROUP GROUP g d NOACK CLAIM 50 STREAMS s >",
            &get(&[
                format!("*4|{one}:50|:1|"),
                format!("*4|{two}:50|:1|"),
                format!("*4|{four}:0|:0|"),
            ]),
            "",
            &format!(
                "{}, {}, XGROUP SETID s g 4-0 ENTRIESREAD 4",
                claim(50, 1, 2),
                claim(50, 2, 2)
            ),
        ),
        ("XREADGROUP GROUP g d CLAIM 50 STREAMS s >", "*-1|", "", ""),
        (
            "XPENDING s g",
            "*4|:3|$3|1-0|$3|3-0|*1|*2|$1|d|$1|3|",
            "",
            "",
        ),
        // What it was given before it may read again, and claims nothing.
        (
            "XREADGROUP GROUP g c CLAIM 0 STREAMS s s 0 >",
            "*1|*2|$1|s|*0|",
            "",
            "",
        ),
        ("XDEL s 1-0", ":1|", "xdel s", "XDEL s 1-0"),
        (
            "XREADGROUP GROUP g d CLAIM 0 COUNT 1 STREAMS s >",
            &get(&[format!("*4|{two}:0|:2|")]),
            "",
            &claim(50, 2, 3),
        ),
        (
            "XREADGROUP GROUP none d CLAIM 0 STREAMS s >",
            "-NOGROUP No such key 's' or consumer group 'none' in XREADGROUP with GROUP option|",
            "",
            "",
        ),
        (
            "XREADGROUP GROUP g d CLAIM -1 STREAMS s >",
            "-ERR min-idle-time must be a positive integer|",
            "",
            "",
        ),
        (
            "XREADGROUP GROUP g d CLAIM -0 STREAMS s >",
            "-ERR min-idle-time is not an integer or out of range|",
            "",
            "",
        ),
        (
            "XREADGROUP GROUP g d CLAIM STREAMS s >",
            "-ERR min-idle-time is not an integer or out of range|",
            "",
            "",
        ),
        (
            "XREAD CLAIM x STREAMS s 0",
            "-ERR The CLAIM option is only supported by XREADGROUP. You called XREAD instead.|",
            "",
            "",
        ),
        (
            "XREADGROUP GROUP g d CLAIM 9223372036854775807 STREAMS s >",
            "*-1|",
            "",
            "",
        ),
    ]);
}

#[test]
fn a_key_named_twice_is_claimed_from_as_long_as_there_is_something() {
    let mut bench = Bench::new();
    bench.line("XGROUP CREATE s g 0 MKSTREAM");
    bench.line("XADD s 1-0 a 1");
    bench.line("XADD s 2-0 a 2");
    bench.line("XREADGROUP GROUP g c STREAMS s >");
    bench.now_ms = NOW_MS + 50;
    let ids = |reply: &str| {
        let parts = reply
            .split('|')
            .filter(|part| part.ends_with("-0") || *part == "s");
        parts.collect::<Vec<_>>().join(" ")
    };
    let reads = [
        ("CLAIM 50 COUNT 1 STREAMS s s s > > >", "s 1-0 s 2-0"),
        ("CLAIM 50 STREAMS s s > >", ""),
        ("CLAIM 0 COUNT 1 STREAMS s s s > > >", "s 1-0 s 1-0 s 1-0"),
        ("CLAIM 0 STREAMS s s > >", "s 1-0 2-0 s 1-0 2-0"),
    ];
    for (tail, wanted) in reads {
        let reply = bench.line(&format!("XREADGROUP GROUP g d {tail}")).reply;
        assert_eq!(ids(&reply), wanted, "{tail}: {reply}");
    }
}
