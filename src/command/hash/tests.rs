use crate::command::testing::{Bench, NOW_MS};

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value|";

#[test]
fn fields_come_and_go() {
    Bench::new().rows(&[
        ("HSET h a 1 b 2", ":2|", "hset h", "HSET h a 1 b 2"),
        ("HSET h a 3 c 4", ":1|", "hset h", "HSET h a 3 c 4"),
        (
            "HSET h a",
            "-ERR wrong number of arguments for 'hset' command|",
            "",
            "",
        ),
        ("HMSET h d 5", "+OK|", "hset h", "HSET h d 5"),
        (
            "HGETALL h",
            "*8|$1|a|$1|3|$1|b|$1|2|$1|c|$1|4|$1|d|$1|5|",
            "",
            "",
        ),
        ("HMGET h a x d", "*3|$1|3|$-1|$1|5|", "", ""),
        ("HKEYS h", "*4|$1|a|$1|b|$1|c|$1|d|", "", ""),
        ("HVALS h", "*4|$1|3|$1|2|$1|4|$1|5|", "", ""),
        ("HSETNX h a 9", ":0|", "", ""),
        ("HSETNX h e 9", ":1|", "hset h", "HSET h e 9"),
        ("HLEN h", ":5|", "", ""),
        ("HSTRLEN h e", ":1|", "", ""),
        ("HDEL h a b x", ":2|", "hdel h", "HDEL h a b x"),
        ("HEXISTS h a", ":0|", "", ""),
        ("HDEL h c d e", ":3|", "hdel h, del h", "HDEL h c d e"),
        ("HDEL h c", ":0|", "", ""),
        ("SET s 1", "+OK|", "set s", "SET s 1"),
        ("HGET s a", WRONG_TYPE, "", ""),
        ("HSET s a 1", WRONG_TYPE, "", ""),
    ]);
}

#[test]
fn numbers_in_fields_are_added_to() {
    Bench::new().rows(&[
        ("HINCRBY h n 5", ":5|", "hincrby h", "HINCRBY h n 5"),
        ("HINCRBY h n -7", ":-2|", "hincrby h", "HINCRBY h n -7"),
        ("HSET h t x", ":1|", "hset h", "HSET h t x"),
        (
            "HINCRBY h t 1",
            "-ERR hash value is not an integer|",
            "",
            "",
        ),
        (
            "HINCRBYFLOAT h n 0.5",
            "$4|-1.5|",
            "hincrbyfloat h",
            "HSET h n -1.5",
        ),
        (
            "HINCRBYFLOAT h t 1",
            "-ERR hash value is not a float|",
            "",
            "",
        ),
        (
            "HINCRBYFLOAT h n inf",
            "-ERR value is NaN or Infinity|",
            "",
            "",
        ),
    ]);
}

#[test]
fn fields_expire() {
    let mut bench = Bench::new();
    bench.rows(&[
        ("HSET h a 1 b 2 c 3", ":3|", "hset h", "HSET h a 1 b 2 c 3"),
        (
            "HPEXPIRE h 50 FIELDS 3 a b x",
            "*3|:1|:1|:-2|",
            "hexpire h",
            "HPEXPIREAT h 1000050 FIELDS 2 a b",
        ),
        ("HPTTL h FIELDS 3 a c x", "*3|:50|:-1|:-2|", "", ""),
        (
            "HPEXPIRE h 60 NX FIELDS 2 a c",
            "*2|:0|:1|",
            "hexpire h",
            "HPEXPIREAT h 1000060 FIELDS 1 c",
        ),
        ("HPEXPIRE h 40 GT FIELDS 1 a", "*1|:0|", "", ""),
        (
            "HPERSIST h FIELDS 2 b x",
            "*2|:1|:-2|",
            "hpersist h",
            "HPERSIST h FIELDS 2 b x",
        ),
        (
            "HGETEX h PX 90 FIELDS 1 c",
            "*1|$1|3|",
            "hexpire h",
            "HPEXPIREAT h 1000090 FIELDS 1 c",
        ),
        ("OBJECT ENCODING h", "$10|listpackex|", "", ""),
    ]);
    bench.now_ms = NOW_MS + 50;
    bench.rows(&[
        ("HGET h a", "$-1|", "hexpired h", "HDEL h a"),
        ("HLEN h", ":2|", "", ""),
        ("HGETDEL h FIELDS 1 b", "*1|$1|2|", "hdel h", "HDEL h b"),
    ]);
    bench.now_ms = NOW_MS + 90;
    bench.rows(&[("EXISTS h", ":0|", "hexpired h, del h", "HDEL h c")]);
}

/// A hash of one field that stays and so many that end at once, when these have ended.
fn with_ended(ending: usize) -> Bench {
    let mut bench = Bench::new();
    let fields: Vec<String> = (0..ending).map(|n| format!("e{n} v")).collect();
    let line = format!("HSETEX h PX 50 FIELDS {ending} {}", fields.join(" "));
    assert_eq!(bench.line(&line).reply, ":1|");
    assert_eq!(bench.line("HSET h stays v").reply, ":1|");
    bench.now_ms = NOW_MS + 50;
    bench
}

#[test]
fn of_many_fields_that_end_at_once_each_look_deletes_a_few_and_sees_none() {
    for ending in [100, 600] {
        let look = |line: &str| {
            let mut bench = with_ended(ending);
            let outcome = bench.line(line);
            assert!(outcome.events.starts_with("hexpired h"), "{line}");
            // Some commands look twice.
            for record in outcome.records.split(", ") {
                assert_eq!(record.split(' ').count() - 2, 16, "{line}: {record}");
            }
            outcome.reply
        };
        for (line, reply) in [
            ("HLEN h", ":1|"),
            ("EXISTS h", ":1|"),
            ("HGETALL h", "*2|$5|stays|$1|v|"),
            ("HKEYS h", "*1|$5|stays|"),
            ("HVALS h", "*1|$1|v|"),
            ("HGET h e9", "$-1|"),
            ("HMGET h e9 stays", "*2|$-1|$1|v|"),
            ("HEXISTS h e9", ":0|"),
            ("HSTRLEN h e9", ":0|"),
            ("HRANDFIELD h", "$5|stays|"),
            ("HRANDFIELD h 9", "*1|$5|stays|"),
            (
                "HRANDFIELD h -2 WITHVALUES",
                "*4|$5|stays|$1|v|$5|stays|$1|v|",
            ),
            ("HPTTL h FIELDS 2 e9 stays", "*2|:-2|:-1|"),
            ("HPERSIST h FIELDS 1 e9", "*1|:-2|"),
            ("HPEXPIRE h 9 FIELDS 1 e9", "*1|:-2|"),
            ("HGETEX h PERSIST FIELDS 1 e9", "*1|$-1|"),
            ("HGETDEL h FIELDS 1 e9", "*1|$-1|"),
            ("HDEL h e9", ":0|"),
            ("HSETEX h FXX FIELDS 1 e9 v", ":0|"),
        ] {
            assert_eq!(look(line), reply, "{line}");
        }
        let scanned = look("HSCAN h 0 COUNT 10000");
        assert_eq!(scanned, "*2|$1|0|*2|$5|stays|$1|v|");
    }
}

#[test]
fn a_field_that_ended_is_new_when_it_is_set() {
    for (line, reply, recorded) in [
        ("HSET h e9 1", ":1|", "HSET h e9 1"),
        ("HSETNX h e9 1", ":1|", "HSET h e9 1"),
        ("HINCRBY h e9 1", ":1|", "HINCRBY h e9 1"),
        ("HINCRBYFLOAT h e9 1", "$1|1|", "HSET h e9 1"),
        (
            "HSETEX h FNX FIELDS 1 e9 1",
            ":1|",
            "HSETEX h FIELDS 1 e9 1",
        ),
        (
            "HSETEX h KEEPTTL FIELDS 1 e9 1",
            ":1|",
            "HSETEX h KEEPTTL FIELDS 1 e9 1",
        ),
    ] {
        let mut bench = with_ended(600);
        let outcome = bench.line(line);
        assert_eq!(outcome.reply, reply, "{line}");
        let records: Vec<&str> = outcome.records.split(", ").collect();
        assert!(records.contains(&"HDEL h e9"), "{records:?}");
        assert_eq!(records.last(), Some(&recorded), "{line}");
        let rest = [
            ("HGET h e9", "$1|1|"),
            ("HPTTL h FIELDS 1 e9", "*1|:-1|"),
            ("HLEN h", ":2|"),
        ];
        bench.replies(&rest);
    }
}

#[test]
fn what_had_deadlines_stays_a_listpackex() {
    Bench::new().rows(&[
        ("HSET h a 1", ":1|", "hset h", "HSET h a 1"),
        ("OBJECT ENCODING h", "$8|listpack|", "", ""),
        (
            "HPEXPIRE h 50 FIELDS 1 a",
            "*1|:1|",
            "hexpire h",
            "HPEXPIREAT h 1000050 FIELDS 1 a",
        ),
        (
            "HPERSIST h FIELDS 1 a",
            "*1|:1|",
            "hpersist h",
            "HPERSIST h FIELDS 1 a",
        ),
        ("OBJECT ENCODING h", "$10|listpackex|", "", ""),
        ("HSET h b 2", ":1|", "hset h", "HSET h b 2"),
        ("OBJECT ENCODING h", "$10|listpackex|", "", ""),
    ]);
}

#[test]
fn fields_are_set_with_a_deadline() {
    Bench::new().rows(&[
        (
            "HSETEX h PX 9 FIELDS 2 a 1 b 2",
            ":1|",
            "hset h, hexpire h",
            "HSETEX h PXAT 1000009 FIELDS 2 a 1 b 2",
        ),
        ("HSETEX h FNX FIELDS 1 a 2", ":0|", "", ""),
        (
            "HSETEX h FXX KEEPTTL FIELDS 1 a 2",
            ":1|",
            "hset h",
            "HSETEX h KEEPTTL FIELDS 1 a 2",
        ),
        ("HPTTL h FIELDS 1 a", "*1|:9|", "", ""),
        ("HSET h a 3", ":0|", "hset h", "HSET h a 3"),
        ("HPTTL h FIELDS 1 a", "*1|:-1|", "", ""),
        ("HPEXPIREAT h 5 FIELDS 1 a", "*1|:2|", "hdel h", "HDEL h a"),
        (
            "HEXPIRE h 5 FIELDS 0",
            "-ERR wrong number of arguments for 'hexpire' command|",
            "",
            "",
        ),
        (
            "HEXPIRE h 5 FIELDS 2 a",
            "-ERR The `numfields` parameter must match the number of arguments|",
            "",
            "",
        ),
        (
            "HEXPIRE h 5 ELDERS 1 a",
            "-ERR Mandatory argument FIELDS is missing or not at the right position|",
            "",
            "",
        ),
        (
            "HEXPIRE h -1 FIELDS 1 a",
            "-ERR invalid expire time, must be >= 0|",
            "",
            "",
        ),
    ]);
}

#[test]
fn deadlines_are_refused_in_redis_words() {
    const COUNT: &str = "-ERR Number of fields must be a positive integer|";
    const COUNT_TO_SET: &str = "-ERR Parameter `numFields` should be greater than 0|";
    const NEGATIVE: &str = "-ERR invalid expire time, must be >= 0|";
    let invalid = |name: &str| format!("-ERR invalid expire time in '{name}' command|");
    let mut bench = Bench::new();
    bench.replies(&[("HSET h a 1", ":1|"), ("SET s 1", "+OK|")]);
    bench.replies(&[
        // The type comes before any argument.
        ("HEXPIRE s x BAD 1 a b", WRONG_TYPE),
        ("HTTL s FIELDS 0 a", WRONG_TYPE),
        ("HPERSIST s FIELDS 0 a", WRONG_TYPE),
        ("HGETDEL s FIELDS 0 a", WRONG_TYPE),
        ("HGETEX s EX -1 FIELDS 1 a", WRONG_TYPE),
        ("HEXPIRE h 5 FIELDS 0 a", COUNT_TO_SET),
        ("HTTL h FIELDS 0 a", COUNT),
        ("HPEXPIRETIME h FIELDS x a", COUNT),
        ("HPERSIST h FIELDS -1 a", COUNT),
        ("HGETDEL h FIELDS 0 a", COUNT),
        ("HGETEX h FIELDS 0 a", COUNT),
        ("HGETEX h EX -1 FIELDS 1 a", NEGATIVE),
        ("HSETEX s PX -1 FIELDS 1 a b", NEGATIVE),
        // 46 bits of milliseconds.
        ("HPEXPIREAT h 70368744177663 FIELDS 1 a", "*1|:1|"),
        (
            "HPEXPIREAT h 70368744177664 FIELDS 1 a",
            &invalid("hpexpireat"),
        ),
        ("HPEXPIRE h 70368744177663 FIELDS 1 a", &invalid("hpexpire")),
        ("HEXPIREAT h 70368744178 FIELDS 1 a", &invalid("hexpireat")),
        (
            "HGETEX h PXAT 70368744177664 FIELDS 1 a",
            &invalid("hgetex"),
        ),
        (
            "HSETEX h EX 9223372036854775 FIELDS 1 a b",
            &invalid("hsetex"),
        ),
    ]);
}

#[test]
fn hsetex_is_refused_in_redis_words() {
    const ARITY: &str = "-ERR wrong number of arguments for 'hsetex' command|";
    const CONDITIONS: &str = "-ERR Only one of FXX or FNX arguments can be specified|";
    const DEADLINES: &str =
        "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified|";
    let mut bench = Bench::new();
    bench.replies(&[("SET s 1", "+OK|")]);
    bench.replies(&[
        ("HSETEX s FIELDS 2 a b", ARITY),
        ("HSETEX s FIELDS 2 a b c", ARITY),
        ("HSETEX s FIELDS 1 a b EX 5", ARITY),
        ("HSETEX s FIELDS 0 a b", "-ERR invalid number of fields|"),
        ("HSETEX s NX FIELDS 1 a b", "-ERR unknown argument: NX|"),
        ("HSETEX s FXX FNX FIELDS 1 a b", CONDITIONS),
        ("HSETEX s FNX FNX FIELDS 1 a b", CONDITIONS),
        ("HSETEX s EX 1 KEEPTTL FIELDS 1 a b", DEADLINES),
        ("HSETEX s KEEPTTL KEEPTTL FIELDS 1 a b", DEADLINES),
        ("HSETEX s FNX FXX PX PX 1 1", CONDITIONS),
        ("HSETEX s FNX KEEPTTL FIELDS EX", ARITY),
        ("HSETEX s FNX a b KEEPTTL EX", "-ERR unknown argument: a|"),
        ("HSETEX s FNX FIELDS 1 a b", WRONG_TYPE),
    ]);
}

#[test]
fn a_field_named_twice_is_taken_once() {
    Bench::new().rows(&[
        ("HSET h a 1 b 2 c 3", ":3|", "hset h", "HSET h a 1 b 2 c 3"),
        (
            "HGETDEL h FIELDS 3 a x a",
            "*3|$1|1|$-1|$-1|",
            "hdel h",
            "HDEL h a",
        ),
        (
            "HGETEX h PXAT 5 FIELDS 2 b b",
            "*2|$1|2|$-1|",
            "hdel h",
            "HDEL h b",
        ),
        (
            "HSETEX h PXAT 5 FIELDS 1 c 9",
            ":1|",
            "hset h, hdel h, del h",
            "HDEL h c",
        ),
        (
            "HSETEX h PXAT 5 FIELDS 1 c 9",
            ":1|",
            "hset h, hdel h, del h",
            "HDEL h c",
        ),
        ("HGETEX h PXAT 5 FIELDS 1 b", "*1|$-1|", "", ""),
        ("HGETDEL h FIELDS 1 b", "*1|$-1|", "", ""),
    ]);
}

#[test]
fn samples_have_the_size_asked_for() {
    let mut bench = Bench::new();
    bench.replies(&[("HSET h a 1 b 2", ":2|"), ("HRANDFIELD none", "$-1|")]);
    for (request, len) in [
        ("1", 1),
        ("5", 2),
        ("-5", 5),
        ("5 WITHVALUES", 4),
        ("-3 WITHVALUES", 6),
    ] {
        let reply = bench.line(&format!("HRANDFIELD h {request}")).reply;
        assert!(reply.starts_with(&format!("*{len}|")), "{request}: {reply}");
    }
}
