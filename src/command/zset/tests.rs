use crate::command::testing::Bench;

#[test]
fn members_get_scores() {
    Bench::new().rows(&[
        ("ZADD z 1 a 2 b 3 c", ":3|", "zadd z", "ZADD z 1 a 2 b 3 c"),
        ("ZADD z 1 a", ":0|", "", ""),
        ("ZADD z CH 5 a 4 d", ":2|", "zadd z", "ZADD z CH 5 a 4 d"),
        ("ZADD z NX 9 a", ":0|", "", ""),
        ("ZADD z XX CH 9 x", ":0|", "", ""),
        ("ZADD z GT CH 4 a", ":0|", "", ""),
        ("ZADD z LT CH 4.5 a", ":1|", "zadd z", "ZADD z LT CH 4.5 a"),
        ("ZADD z INCR 1 a", "$3|5.5|", "zincr z", "ZADD z INCR 1 a"),
        ("ZADD z NX INCR 1 a", "$-1|", "", ""),
        ("ZINCRBY z -1 b", "$1|1|", "zincr z", "ZINCRBY z -1 b"),
        (
            "ZADD z GT NX 1 a",
            "-ERR GT, LT, and/or NX options at the same time are not compatible|",
            "",
            "",
        ),
        (
            "ZADD z XX NX 1 a",
            "-ERR XX and NX options at the same time are not compatible|",
            "",
            "",
        ),
        (
            "ZADD z INCR 1 a 2 b",
            "-ERR INCR option supports a single increment-element pair|",
            "",
            "",
        ),
        ("ZADD z 1 a 2", "-ERR syntax error|", "", ""),
        ("ZADD z 1 a x b", "-ERR value is not a valid float|", "", ""),
        ("ZADD none XX 1 a", ":0|", "", ""),
        ("ZADD z inf i", ":1|", "zadd z", "ZADD z inf i"),
        (
            "ZINCRBY z -inf i",
            "-ERR resulting score is not a number (NaN)|",
            "",
            "",
        ),
        ("ZSCORE z i", "$3|inf|", "", ""),
        ("ZMSCORE z a none", "*2|$3|5.5|$-1|", "", ""),
        ("ZREM z i none", ":1|", "zrem z", "ZREM z i none"),
        (
            "ZRANGE z 0 -1 WITHSCORES",
            "*8|$1|b|$1|1|$1|c|$1|3|$1|d|$1|4|$1|a|$3|5.5|",
            "",
            "",
        ),
        ("ZRANK z c", ":1|", "", ""),
        ("ZREVRANK z c", ":2|", "", ""),
        ("ZRANK z c WITHSCORE", "*2|:1|$1|3|", "", ""),
        ("ZRANK z none", "$-1|", "", ""),
        ("ZREM z a b c d", ":4|", "zrem z, del z", "ZREM z a b c d"),
    ]);
}

#[test]
fn ranges_are_by_rank_score_or_bytes() {
    for compact in [true, false] {
        let mut bench = Bench::new();
        bench.replies(&[("ZADD z 1 a 2 b 3 c 4 d 5 e", ":5|")]);
        if !compact {
            let long = format!("ZADD z 6 {}", "z".repeat(65));
            bench.replies(&[(long.as_str(), ":1|"), ("ZREMRANGEBYRANK z -1 -1", ":1|")]);
        }
        let encoding = if compact {
            "$8|listpack|"
        } else {
            "$8|skiplist|"
        };
        bench.replies(&[
            ("OBJECT ENCODING z", encoding),
            ("ZRANGE z 1 2", "*2|$1|b|$1|c|"),
            ("ZRANGE z -2 -1 REV", "*2|$1|b|$1|a|"),
            ("ZREVRANGE z 0 1", "*2|$1|e|$1|d|"),
            ("ZRANGE z 5 9", "*0|"),
            ("ZRANGE z (1 3 BYSCORE", "*2|$1|b|$1|c|"),
            ("ZRANGE z 3 -inf BYSCORE REV LIMIT 1 1", "*1|$1|b|"),
            ("ZRANGEBYSCORE z 2 +inf LIMIT 1 2", "*2|$1|c|$1|d|"),
            ("ZRANGEBYSCORE z 2 +inf LIMIT -1 2", "*0|"),
            ("ZREVRANGEBYSCORE z 4 (2 WITHSCORES", "*4|$1|d|$1|4|$1|c|$1|3|"),
            ("ZRANGEBYLEX z [b (d", "*2|$1|b|$1|c|"),
            ("ZREVRANGEBYLEX z + [c", "*3|$1|e|$1|d|$1|c|"),
            ("ZRANGE z - + BYLEX LIMIT 1 1", "*1|$1|b|"),
            ("ZCOUNT z 2 (4", ":2|"),
            ("ZLEXCOUNT z - (c", ":2|"),
            ("ZRANGE z 1 2 LIMIT 0 1", "-ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX|"),
            ("ZRANGE z - + BYLEX WITHSCORES", "-ERR syntax error, WITHSCORES not supported in combination with BYLEX|"),
            ("ZRANGEBYSCORE z x 1", "-ERR min or max is not a float|"),
            ("ZRANGEBYLEX z x 1", "-ERR min or max not valid string range item|"),
            ("ZRANGESTORE d z 1 2", ":2|"),
            ("ZRANGE d 0 -1", "*2|$1|b|$1|c|"),
            ("ZREMRANGEBYSCORE z (4 5", ":1|"),
            ("ZREMRANGEBYLEX z [a [a", ":1|"),
            ("ZREMRANGEBYRANK z 0 0", ":1|"),
            ("ZRANGE z 0 -1", "*2|$1|c|$1|d|"),
        ]);
    }
}

#[test]
fn members_are_popped() {
    Bench::new().rows(&[
        (
            "ZADD z 1 a 2 b 3 c 4 d",
            ":4|",
            "zadd z",
            "ZADD z 1 a 2 b 3 c 4 d",
        ),
        ("ZPOPMIN z", "*2|$1|a|$1|1|", "zpopmin z", "ZPOPMIN z 1"),
        (
            "ZPOPMAX z 2",
            "*4|$1|d|$1|4|$1|c|$1|3|",
            "zpopmax z",
            "ZPOPMAX z 2",
        ),
        ("ZPOPMIN z 0", "*0|", "", ""),
        (
            "ZPOPMIN z -1",
            "-ERR value is out of range, must be positive|",
            "",
            "",
        ),
        (
            "ZMPOP 2 none z MIN COUNT 9",
            "*2|$1|z|*1|*2|$1|b|$1|2|",
            "zpopmin z, del z",
            "ZPOPMIN z 1",
        ),
        ("ZMPOP 1 z MAX", "*-1|", "", ""),
        ("ZPOPMIN z", "*0|", "", ""),
    ]);
}

#[test]
fn sets_are_combined() {
    Bench::new().rows(&[
        ("ZADD a 1 x 2 y", ":2|", "zadd a", "ZADD a 1 x 2 y"),
        ("SADD b y z", ":2|", "sadd b", "SADD b y z"),
        (
            "ZUNION 2 a b WITHSCORES",
            "*6|$1|x|$1|1|$1|z|$1|1|$1|y|$1|3|",
            "",
            "",
        ),
        (
            "ZINTER 2 a b WEIGHTS 2 3 WITHSCORES",
            "*2|$1|y|$1|7|",
            "",
            "",
        ),
        (
            "ZINTER 2 a b AGGREGATE MAX WITHSCORES",
            "*2|$1|y|$1|2|",
            "",
            "",
        ),
        ("ZDIFF 2 a b WITHSCORES", "*2|$1|x|$1|1|", "", ""),
        ("ZDIFF 2 a b WEIGHTS 1 2", "-ERR syntax error|", "", ""),
        ("ZINTERCARD 2 a b", ":1|", "", ""),
        ("ZINTERCARD 2 a a LIMIT 1", ":1|", "", ""),
        (
            "ZUNION 0 a",
            "-ERR at least 1 input key is needed for 'zunion' command|",
            "",
            "",
        ),
        (
            "ZUNION x a",
            "-ERR value is not an integer or out of range|",
            "",
            "",
        ),
        ("ZUNION 3 a b", "-ERR syntax error|", "", ""),
        (
            "ZUNION 1 a WEIGHTS x",
            "-ERR weight value is not a float|",
            "",
            "",
        ),
        (
            "ZUNIONSTORE d 2 a b",
            ":3|",
            "zunionstore d",
            "DEL d, ZADD d 1 x 1 z 3 y",
        ),
        ("ZINTERSTORE d 2 a none", ":0|", "del d", "DEL d"),
        (
            "ZDIFFSTORE d 1 a",
            ":2|",
            "zdiffstore d",
            "DEL d, ZADD d 1 x 2 y",
        ),
        ("OBJECT ENCODING d", "$8|listpack|", "", ""),
    ]);
}

#[test]
fn samples_have_the_size_asked_for() {
    let mut bench = Bench::new();
    bench.replies(&[("ZADD z 1 a 2 b", ":2|"), ("ZRANDMEMBER none", "$-1|")]);
    for (request, len) in [("1", 1), ("5", 2), ("-5", 5), ("5 WITHSCORES", 4)] {
        let reply = bench.line(&format!("ZRANDMEMBER z {request}")).reply;
        assert!(reply.starts_with(&format!("*{len}|")), "{request}: {reply}");
    }
}
