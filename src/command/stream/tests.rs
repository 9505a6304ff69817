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
