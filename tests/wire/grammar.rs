//! Random commands over every data type, from tables that read like Redis' own documentation.
//!
//! A row is a template. A word in capitals, and whatever does not begin with a letter, stands for
//! itself; a word in small letters names a hole that [`Writer::fill`] fills. Then there is
//!
//! ```text
//! a|b|      one of these, where the last is nothing
//! a:b       two words that stand or fall together
//! a..       the same again a few times, now and then often enough to change an encoding
//! ```
//!
//! and in front of a row may stand what a comparison of its replies has to know:
//!
//! ```text
//! ~   the order does not count: a hash table of Redis has none
//! #   the same, unless this seed keeps hashes compact
//! %   a DUMP, equal as far as the order of its bytes is defined
//! @   tells times, which pass between two servers
//! ?   any outcome will do as long as it is of the same kind
//! !   never spoiled: only as it stands here is the outcome certain
//! ```

use std::collections::VecDeque;

/// What of two replies has to be equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Same {
    Bytes,
    /// All but the order of elements.
    Elements,
    /// All but the order of fields, if a hash may have become a table.
    Fields,
    /// A DUMP, but for the order of a table and for times.
    Dump,
    /// All but times and what is counted in them.
    ButTimes,
    Kind,
}

/// A family's rows, and how often it is drawn.
type Family = (u32, &'static [&'static str]);

#[rustfmt::skip]
const FAMILIES: &[Family] = &[
    (12, &[
        "SET string value NX|XX| GET| EX:ttl|PX:ttl_ms|EXAT:at|PXAT:at_ms|PXAT:past|KEEPTTL||||",
        "SET string number NX|XX||| GET|", "SETNX string value", "SETEX string ttl value", "PSETEX string ttl_ms value",
        "GETSET string value", "GETDEL string", "GETEX string EX:ttl|PXAT:at_ms|EXAT:past|PERSIST|", "GET string", "GET string",
        "APPEND string value|number", "APPEND string value", "STRLEN string", "SETRANGE string offset value",
        "GETRANGE string index index", "SUBSTR string index index", "INCR string", "DECR string", "INCRBY string number",
        "DECRBY string number", "INCRBYFLOAT string score", "MSET string:value..", "MSETNX string:number..", "MGET any..",
        "LCS string string LEN|IDX|IDX:WITHMATCHLEN|IDX:MINMATCHLEN:count|",
    ]),
    (6, &[
        "SETBIT bits bit 0|1", "SETBIT bits bit 1", "GETBIT bits bit", "BITCOUNT bits", "BITCOUNT bits index index BIT|BYTE|",
        "BITPOS bits 0|1 index| index:BIT|index:BYTE||", "BITOP AND|OR|XOR bits bits..", "BITOP NOT bits bits",
        "BITFIELD bits OVERFLOW:overflow| GET:width:field|SET:width:field:number|INCRBY:width:field:number..",
        "BITFIELD_RO bits GET:width:field..", "BITFIELD bits OVERFLOW:overflow INCRBY:width:field:number SET:width:field:number",
    ]),
    (14, &[
        "LPUSH list element..", "RPUSH list element..", "RPUSH list element..", "LPUSHX list element", "RPUSHX list element..",
        "LPOP list count|", "RPOP list count|", "LLEN list", "LRANGE list index index", "LINDEX list index",
        "LSET list index element", "LREM list index element", "LTRIM list index index", "LINSERT list BEFORE|AFTER element element",
        "!LPOS list element RANK:index| COUNT:0|COUNT:count| MAXLEN:count|", "LMOVE list list LEFT|RIGHT LEFT|RIGHT",
        "RPOPLPUSH list list", "LMPOP 2 list list LEFT|RIGHT COUNT:count|", "LRANGE list 0 -1",
    ]),
    (10, &[
        "SADD set member..", "SADD set integer..", "SADD set integer", "SREM set member..", "SREM set integer..",
        "SISMEMBER set integer", "SMISMEMBER set integer|member..", "SCARD set", "~SMEMBERS set", "SMOVE set set integer|member",
        "~SINTER set..", "~SUNION set..", "~SDIFF set..", "SINTERSTORE set set..", "SUNIONSTORE set set..", "SDIFFSTORE set set..",
        "SINTERCARD 2 set set LIMIT:count|", "~!SPOP set 100000", "~!SRANDMEMBER set 100000", "?!SRANDMEMBER set", "?!SRANDMEMBER set -3",
    ]),
    (10, &[
        "HSET hash field:value|field:integer..", "HSET hash field:integer..", "HMSET hash field:value..", "HSETNX hash field value",
        "HGET hash field", "HMGET hash field..", "HDEL hash field..", "HDEL hash field..", "HLEN hash", "HSTRLEN hash field",
        "HEXISTS hash field", "HINCRBY hash field number", "HINCRBYFLOAT hash field score", "#HGETALL hash", "#HKEYS hash",
        "#HVALS hash", "#!HRANDFIELD hash 100000", "#!HRANDFIELD hash 100000 WITHVALUES", "?!HRANDFIELD hash", "?!HRANDFIELD hash -3",
    ]),
    (16, &[
        "ZADD zset score:member..", "ZADD zset score:member..", "ZADD zset NX|XX|GT|LT||NX:GT CH| INCR| score:member", "ZADD zset GT|LT CH score:member..",
        "ZADD zset 0:member..", "ZINCRBY zset score member", "ZSCORE zset member", "ZMSCORE zset member..", "ZREM zset member..", "ZCARD zset",
        "!ZRANK|ZREVRANK zset member", "ZCOUNT zset min max", "ZPOPMIN|ZPOPMAX zset count|",
        "ZMPOP 2 zset zset MIN|MAX COUNT:count|", "ZRANGE zset index index REV| WITHSCORES|", "ZREVRANGE zset index index WITHSCORES|",
        "ZRANGE zset min max BYSCORE LIMIT:index:index| WITHSCORES|", "ZRANGE zset max min BYSCORE REV LIMIT:index:index| WITHSCORES|",
        "ZRANGEBYSCORE zset min max WITHSCORES| LIMIT:index:index|",
        "ZREVRANGEBYSCORE zset max min WITHSCORES| LIMIT:index:index|", 
        "ZREMRANGEBYRANK zset index index", "ZREMRANGEBYSCORE zset min max",
        "ZRANGESTORE zset zset index index REV|", "ZRANGESTORE zset zset min max BYSCORE LIMIT:index:index|",
        "ZUNIONSTORE|ZINTERSTORE zset 2 zset zset|set WEIGHTS:score:score| AGGREGATE:SUM|AGGREGATE:MIN|AGGREGATE:MAX|",
        "ZUNION|ZINTER 3 zset zset set WEIGHTS:1:2:score| AGGREGATE:MIN|AGGREGATE:MAX| WITHSCORES|", "ZDIFFSTORE zset 2 zset zset|set",
        "ZDIFF 3 zset zset set WITHSCORES|", "ZINTERCARD 2 zset zset|set LIMIT:count|", "~!ZRANDMEMBER zset 100000 WITHSCORES|", "?!ZRANDMEMBER zset",
    ]),
    // A range of names is defined while all scores are equal: these keys see no others.
    (3, &[
        "!ZADD lexical 0:member..", "!ZADD lexical 0:member..", "!ZREM lexical member..", "!ZLEXCOUNT lexical lex lex", "!ZREMRANGEBYLEX lexical lex lex",
        "!ZRANGEBYLEX|ZREVRANGEBYLEX lexical lex lex LIMIT:index:index|", "!ZRANGE lexical lex lex BYLEX REV| LIMIT:index:index|",
        "!ZRANGESTORE lexical lexical lex lex BYLEX LIMIT:index:index|", "!ZUNIONSTORE|ZINTERSTORE|ZDIFFSTORE lexical 2 lexical lexical", "!ZPOPMIN lexical count",
        "!COPY lexical lexical REPLACE", "!RENAME lexical lexical", "!ZRANK lexical member", "!UNLINK lexical",
    ]),
    (12, &[
        "XADD stream NOMKSTREAM|| MAXLEN:count|MAXLEN:=:count|MINID:id|MAXLEN:~:count||||| new_id name:value..", "XADD stream new_id name:integer..",
        "XADD stream new_id A:integer B:value", "XLEN stream", "XRANGE stream bound bound COUNT:count|", "XREVRANGE stream bound bound COUNT:count|",
        "XRANGE stream - +", "XDEL stream id..", "XTRIM stream MAXLEN|MINID =|~| count", "XTRIM stream MINID ~| id LIMIT:count|", "XSETID stream id ENTRIESADDED:number:MAXDELETEDID:id|",
        "XREAD COUNT:count| STREAMS stream stream id id|0|$", "XGROUP CREATE stream group id|0|$ MKSTREAM| ENTRIESREAD:count|", "XGROUP SETID stream group id|0|$ ENTRIESREAD:count|",
        "XGROUP DESTROY stream group", "XGROUP CREATECONSUMER|DELCONSUMER stream group consumer", "XREADGROUP GROUP group consumer COUNT:count| NOACK| STREAMS stream >|>|id|0",
        "XREADGROUP GROUP group consumer COUNT:count STREAMS stream stream > >", "XACK stream group id..", "XPENDING stream group", "@XPENDING stream group IDLE:0| bound bound count consumer|",
        "@XCLAIM stream group consumer 0 id.. IDLE:number|TIME:number| RETRYCOUNT:count| FORCE| JUSTID|", "XAUTOCLAIM stream group consumer 0 id|0 COUNT:count| JUSTID|",
        // XINFO STREAM FULL and XINFO CONSUMERS tell of more than Redis 7.0 knows: the cases compare them.
        "XINFO STREAM stream", "XINFO GROUPS stream",
    ]),
    // What is no HyperLogLog any more is found out by luck: these keys see no other commands.
    (4, &[
        "PFADD hll member..", "PFADD hll integer..", "PFADD hll integer..", "PFCOUNT hll..", "PFMERGE hll hll..", "GET hll", "PFDEBUG ENCODING hll", "PFADD hll",
        "PFDEBUG TODENSE|DECODE hll", "OBJECT ENCODING hll", "%DUMP hll", "STRLEN hll", "COPY|RENAME hll hll", "EXPIREAT hll at",
        "UNLINK hll", "!PFADD string|list element", "!PFMERGE string|set hll",
    ]),
    (6, &[
        "GEOADD geo NX|XX| CH| longitude:latitude:member..", "GEOADD geo longitude:latitude:member..", "GEODIST geo member member m|km|ft|mi|", "GEOPOS geo member..", "GEOHASH geo member..",
        "GEOSEARCH geo FROMLONLAT:longitude:latitude|FROMMEMBER:member BYRADIUS:radius:unit|BYBOX:radius:radius:unit ASC|DESC COUNT:count|COUNT:count:ANY| WITHCOORD| WITHDIST| WITHHASH|",
        "GEOSEARCHSTORE zset geo FROMLONLAT:longitude:latitude BYRADIUS:radius:unit|BYBOX:radius:radius:unit ASC|DESC| COUNT:count| STOREDIST|",
        "GEORADIUS geo longitude latitude radius unit WITHCOORD| WITHDIST| WITHHASH| COUNT:count| ASC|DESC", "GEORADIUSBYMEMBER geo member radius unit STORE:zset|STOREDIST:zset|",
        "GEORADIUS_RO geo longitude latitude radius unit WITHDIST", "GEORADIUSBYMEMBER_RO geo member radius unit WITHHASH ASC", "ZRANGE geo 0 -1 WITHSCORES",
        "ZREM geo member..", "COPY|RENAME geo geo", "UNLINK geo", "OBJECT ENCODING geo", "%DUMP geo", "!GEOADD string|list longitude latitude member", "!GEOPOS string|list member",
    ]),
    (4, &[
        "SORT list LIMIT:index:index| ASC|DESC| ALPHA|", "SORT set|zset ALPHA LIMIT:index:index| DESC|", "SORT set|list ALPHA GET:#| GET:s*| GET:h*->f1| STORE:list|",
        "SORT set|zset BY:nosort ALPHA STORE:list", "~SORT list BY:nosort GET:#| GET:hash*->1", "SORT list|set STORE:list", "SORT_RO list ALPHA", "~SORT zset BY:nosort DESC|",
        "~SORT list BY:weight* ALPHA GET:#", "SORT list BY:string* STORE:list",
    ]),
    (12, &[
        "DEL any..", "UNLINK any any", "DEL any", "EXISTS any..", "TOUCH any..", "TYPE any", "OBJECT ENCODING any", "OBJECT ENCODING any", "?OBJECT REFCOUNT any", "?OBJECT IDLETIME any", "OBJECT FREQ any",
        "RENAME|RENAMENX any any", "RENAME list|list list", "COPY any any DB:db| REPLACE|", "MOVE any db", "%DUMP any", "%DUMP any", "!RESTORE any 0 payload REPLACE|REPLACE|",
        "!RESTORE any at_ms payload REPLACE ABSTTL IDLETIME:10|FREQ:5|", "!RESTORE any past payload ABSTTL REPLACE|", "?!RANDOMKEY", "~!KEYS *|s*|*[0-2]",
        "EXPIRE any ttl|-1 NX|XX|", "PEXPIRE any ttl_ms XX|NX|", "EXPIREAT any at|at|past NX|XX|GT|LT|", "PEXPIREAT any at_ms|past NX|XX|GT|LT|", "PERSIST any", "@TTL any", "@PTTL any",
        "@EXPIRETIME any", "@PEXPIRETIME any",
    ]),
    (7, &[
        "MULTI", "MULTI", "EXEC", "EXEC", "EXEC", "EXEC", "DISCARD", "WATCH any..", "UNWATCH", "SELECT db", "SELECT db", "SELECT 0", "PING value|", "ECHO value", "NOSUCH value", "OBJECT any", "XGROUP stream",
    ]),
    // What would block waits for a moment, or finds something to take.
    (1, &[
        "!BLPOP|BRPOP list list 0.001", "!BLMOVE list list LEFT|RIGHT LEFT|RIGHT 0.001", "!BRPOPLPUSH list list 0.001", "!BLMPOP 0.001 2 list list LEFT|RIGHT COUNT:count|",
        "!BZPOPMIN|BZPOPMAX zset zset 0.001", "!BZMPOP 0.001 2 zset zset MIN|MAX COUNT:count|", "!XREAD BLOCK 1 STREAMS stream $|id", "!XREADGROUP GROUP group consumer BLOCK 1 STREAMS stream >",
        "FLUSHDB ASYNC|", "SWAPDB db db", "FLUSHALL",
    ]),
    (3, &[
        "!EVAL|EVAL_RO lua_reads 2 string list index", "!EVAL lua_counts 1 string number", "!EVAL lua_moves 2 list list count", "!EVAL lua_writes 3 string hash zset value",
        "!EVAL lua_flags 2 set string member", "!FUNCTION LOAD REPLACE lua_library", "FCALL|FCALL_RO reader 2 string hash field", "FCALL writer 2 set stream name value",
        "!EVAL_RO lua_writes 3 string hash zset value",
    ]),
];

/// Scripts of the rows above, and what becomes of their errors.
#[rustfmt::skip]
const SCRIPTS: &[(&str, &str)] = &[
    ("lua_reads", "local a = redis.pcall('get', KEYS[1]) return {a, redis.call('lrange', KEYS[2], 0, ARGV[1]), 3.7, true, false}"),
    ("lua_counts", "local n = redis.call('incrby', KEYS[1], ARGV[1])\nif n > 20 then return redis.call('expire', KEYS[1], 900000) end\nreturn n"),
    ("lua_moves", "for n = 1, tonumber(ARGV[1]) do local v = redis.call('lpop', KEYS[1]) if not v then return n end\nredis.call('rpush', KEYS[2], v) end return {ok = 'moved'}"),
    ("lua_writes", "redis.call('set', KEYS[1], ARGV[1])\nlocal done = redis.pcall('hset', KEYS[2], 'f1', ARGV[1])\nredis.pcall('zadd', KEYS[3], 1, 'm1') return done"),
    ("lua_flags", "#!lua flags=allow-cross-slot-keys\nif redis.call('sismember', KEYS[1], ARGV[1]) == 1 then return redis.call('del', KEYS[2]) end\nreturn redis.error_reply('none ' .. KEYS[1])"),
    ("lua_library", "#!lua name=lib\nredis.register_function{function_name='reader', flags={'no-writes'}, callback=function(keys, args) \
        return {redis.pcall('get', keys[1]), redis.call('hget', keys[2], args[1])} end}\n\
        redis.register_function('writer', function(keys, args) local n = redis.pcall('sadd', keys[1], args[2])\n\
        return {n, redis.call('xlen', keys[2])} end)"),
];

/// Runs any command: of its own script, and with one key declared or none.
const WRAPPERS: [&str; 2] = [
    "return redis.call(unpack(ARGV))",
    "return redis.pcall(unpack(ARGV))",
];

/// Families of keys, five to eight of each; `any` is one of them all.
const KEYS: &[(&str, u32)] = &[
    ("string", 8),
    ("bits", 5),
    ("list", 6),
    ("set", 6),
    ("hash", 5),
    ("zset", 6),
    ("stream", 5),
];

/// Every key that is meant.
pub fn key_names() -> impl Iterator<Item = String> {
    KEYS.iter()
        .chain(CLOSED)
        .flat_map(|(family, count)| (0..*count).map(move |number| format!("{family}{number}")))
}

/// What stands where a number, a word or a key should: a twentieth of all commands is spoiled. No number
/// too large for a double: redis-server keeps that error, and a later SORT of numbers fails for it (sort.c
/// looks at an errno that it has not reset).
const SPOILT: &[&str] = &[
    "",
    "abc",
    "0",
    "-1",
    "1.5",
    "-0",
    "+5",
    "007",
    " 1",
    "1 ",
    "0x10",
    "1e3",
    "nan",
    "inf",
    "-inf",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "18446744073709551615",
    "\u{ff}\0\r\n",
    "$",
    "(1",
    "[a",
];

/// One command to send, and how its replies compare.
#[derive(Clone, Debug)]
pub struct Request {
    pub words: Vec<Vec<u8>>,
    pub same: Same,
}

/// Keys that keep to themselves, so that they hold what they should.
const CLOSED: &[(&str, u32)] = &[("lexical", 4), ("hll", 5), ("geo", 4)];

/// Numbers of interest: the borders of every listpack and intset integer encoding, and beyond.
const BORDERS: &[i64] = &[
    0,
    127,
    128,
    4095,
    4096,
    32767,
    32768,
    8_388_607,
    8_388_608,
    2_147_483_647,
    2_147_483_648,
    9_223_372_036_854_775_806,
];

const SCORES: &[&str] = &[
    "0",
    "1",
    "1",
    "2",
    "2.5",
    "-1.5",
    "3e10",
    "1e100",
    "inf",
    "-inf",
    "0.1",
    "3.0",
    "1e-7",
    "-0",
    "100000000000000000000",
    "4503599627370496.5",
];

/// Writes commands, the same ones for the same seed and payloads.
pub struct Author {
    rng: fastrand::Rng,
    /// Streams grow along this clock of their own.
    tick: u64,
    /// What DUMP of the reference gave lately, for RESTORE.
    pub payloads: VecDeque<Vec<u8>>,
    /// Longest run of `..` that is not rare.
    pub many: usize,
}

impl Author {
    pub fn new(seed: u64) -> Author {
        Author {
            rng: fastrand::Rng::with_seed(seed),
            tick: 1,
            payloads: VecDeque::new(),
            many: 40,
        }
    }

    pub fn request(&mut self) -> Request {
        let total: u32 = FAMILIES.iter().map(|(weight, _)| weight).sum();
        let mut at = self.rng.u32(..total);
        let mut families = FAMILIES.iter();
        let rows = loop {
            let (weight, rows) = families.next().expect("below the total");
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => break rows,
            }
        };
        let row = rows[self.rng.usize(..rows.len())];
        // Emptying everything is worth a test, but leaves little to test.
        if row.starts_with("FLUSH") && self.rng.u8(..) > 10 {
            return self.request();
        }
        let mut request = self.filled(row);
        if self.rng.u8(..30) == 0 {
            self.wrap(&mut request.words);
        }
        request
    }

    /// Has a script run a command, which may live anywhere.
    fn wrap(&mut self, words: &mut Vec<Vec<u8>>) {
        let declared = words.get(1).filter(|_| self.rng.bool()).cloned();
        let count = if declared.is_some() { "1" } else { "0" };
        let script = WRAPPERS[self.rng.usize(..WRAPPERS.len())];
        let head = ["EVAL", script, count].map(|word| word.as_bytes().to_vec());
        let inner = std::mem::take(words);
        words.extend(head.into_iter().chain(declared).chain(inner));
    }

    /// Fills a row, and sometimes spoils it.
    pub fn filled(&mut self, row: &str) -> Request {
        let template = row.trim_start_matches(['~', '#', '%', '@', '?', '!']);
        let marks = &row[..row.len() - template.len()];
        let same = match marks.chars().find(|&mark| mark != '!') {
            Some('~') => Same::Elements,
            Some('#') => Same::Fields,
            Some('%') => Same::Dump,
            Some('@') => Same::ButTimes,
            Some(_) => Same::Kind,
            None => Same::Bytes,
        };
        let mut words = Vec::new();
        for part in template.split(' ') {
            self.part(part, &mut words);
        }
        if !marks.contains('!') && self.rng.u8(..20) == 0 {
            self.spoil(&mut words);
        }
        Request { words, same }
    }

    fn part(&mut self, part: &str, words: &mut Vec<Vec<u8>>) {
        let (part, again) = match part.strip_suffix("..") {
            Some(part) => (part, true),
            None => (part, false),
        };
        let times = match (again, self.rng.u8(..12)) {
            (false, _) => 1,
            (true, 0) => self.rng.usize(1..=self.many),
            (true, _) => self.rng.usize(1..4),
        };
        let choices: Vec<&str> = part.split('|').collect();
        for _ in 0..times {
            let choice = choices[self.rng.usize(..choices.len())];
            let holes = choice.split(':').filter(|hole| !hole.is_empty());
            words.extend(holes.map(|hole| self.fill(hole)));
        }
    }

    fn spoil(&mut self, words: &mut Vec<Vec<u8>>) {
        let at = self.rng.usize(..words.len());
        let spoilt = SPOILT[self.rng.usize(..SPOILT.len())].into();
        match self.rng.u8(..5) {
            0 => drop(words.remove(at)),
            1 => words.insert(at, words[at].clone()),
            2 => words.push(spoilt),
            _ if at > 0 => words[at] = spoilt,
            _ => words[0] = words[0].to_ascii_lowercase(),
        }
        if words.is_empty() {
            words.push(b"PING".to_vec());
        }
    }

    fn fill(&mut self, hole: &str) -> Vec<u8> {
        if let Some(&(family, count)) = KEYS.iter().find(|(family, _)| *family == hole) {
            return self.key(family, count);
        }
        let rng = &mut self.rng;
        if let Some(&(family, count)) = CLOSED.iter().find(|(family, _)| *family == hole) {
            return format!("{family}{}", rng.u32(..count)).into_bytes();
        }
        if let Some((_, script)) = SCRIPTS.iter().find(|(name, _)| *name == hole) {
            return script.as_bytes().to_vec();
        }
        let text = match hole {
            "any" => {
                let (family, count) = KEYS[rng.usize(..KEYS.len())];
                return self.key(family, count);
            }
            "value" | "element" => return self.value(),
            "payload" => return self.payload(),
            "number" | "integer" => match rng.u8(..8) {
                0 => (BORDERS[rng.usize(..BORDERS.len())] * rng.i64(-1..=1)).to_string(),
                _ => rng.i32(-9..60).to_string(),
            },
            "count" => rng.u32(1..9).to_string(),
            "index" => rng.i32(-9..12).to_string(),
            "offset" => rng.u32(..120).to_string(),
            "bit" => rng.u32(..400).to_string(),
            "field" => format!("f{}", rng.u32(..24)),
            "member" => match rng.u8(..30) {
                0 => "m".repeat(rng.usize(1..100)),
                _ => format!("m{}", rng.u32(..40)),
            },
            "name" => format!("n{}", rng.u32(..3)),
            "group" => format!("g{}", rng.u32(..2)),
            "consumer" => format!("c{}", rng.u32(..3)),
            "db" => rng.u32(..3).to_string(),
            "width" => format!("{}{}", ["i", "u"][rng.usize(..2)], rng.u32(1..64)),
            "overflow" => ["WRAP", "SAT", "FAIL"][rng.usize(..3)].to_owned(),
            "unit" => ["m", "km", "mi", "ft"][rng.usize(..4)].to_owned(),
            "score" => SCORES[rng.usize(..SCORES.len())].to_owned(),
            "min" | "max" => {
                let open = ["", "", "("][rng.usize(..3)];
                format!("{open}{}", SCORES[rng.usize(..SCORES.len())])
            }
            "lex" => match rng.u8(..6) {
                0 => "-".to_owned(),
                1 => "+".to_owned(),
                side => format!("{}m{}", ["[", "("][usize::from(side) % 2], rng.u32(..40)),
            },
            "longitude" => format!("{}", f64::from(rng.i32(-1900..1900)) / 10.5),
            "latitude" => format!("{}", f64::from(rng.i32(-900..900)) / 10.5),
            "radius" => (10_u64.pow(rng.u32(..8)) * rng.u64(1..9)).to_string(),
            _ => return self.time(hole),
        };
        text.into_bytes()
    }

    /// Deadlines lie behind or so far ahead that the time a test takes does not count, and those
    /// that are relative never near those that are not.
    fn time(&mut self, hole: &str) -> Vec<u8> {
        let rng = &mut self.rng;
        let ttl = rng.u64(10..40) * 20_000;
        let at = 4_000_000_000 + rng.u64(..4) * 1_000_000;
        let text = match hole {
            "ttl" => ttl.to_string(),
            "ttl_ms" => (ttl * 1000 + 7).to_string(),
            "at" => at.to_string(),
            "at_ms" => (at * 1000 + 7).to_string(),
            "past" => rng.u32(1..1000).to_string(),
            "new_id" => {
                self.tick += rng.u64(..3);
                match rng.u8(..20) {
                    0 => format!("{}-*", self.tick),
                    1 => self.tick.to_string(),
                    2 => self.old_id(),
                    _ => format!("{}-{}", self.tick, rng.u32(..3)),
                }
            }
            "id" => self.old_id(),
            "bound" => match rng.u8(..6) {
                0 => "-".to_owned(),
                1 => "+".to_owned(),
                2 => format!("({}", self.old_id()),
                3 => self.tick.saturating_sub(rng.u64(..30)).to_string(),
                _ => self.old_id(),
            },
            _ => {
                let literal = !hole.starts_with(|first: char| first.is_ascii_lowercase());
                let known = [
                    "m", "km", "ft", "mi", "nosort", "s*", "h*->f1", "hash*->1", "reader", "writer",
                ];
                let named = known.contains(&hole) || hole.ends_with('*');
                assert!(literal || named, "there is no hole called {hole}");
                hole.to_owned()
            }
        };
        text.into_bytes()
    }

    fn old_id(&mut self) -> String {
        let ms = self.tick.saturating_sub(self.rng.u64(..40));
        format!("{ms}-{}", self.rng.u32(..3))
    }

    /// Mostly a key that holds this type, if any.
    fn key(&mut self, family: &str, count: u32) -> Vec<u8> {
        let (family, count) = match self.rng.u8(..40) {
            0 => KEYS[self.rng.usize(..KEYS.len())],
            _ => (family, count),
        };
        format!("{family}{}", self.rng.u32(..count)).into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        let rng = &mut self.rng;
        match rng.u8(..10) {
            0..4 => self.fill("integer"),
            4 => b"ab".repeat(rng.usize(..50)),
            // No NUL: SORT ALPHA compares C strings.
            5 => (0..rng.usize(..20)).map(|_| rng.u8(1..)).collect(),
            6 if rng.u8(..8) == 0 => b"long ".repeat(rng.usize(..400)),
            _ => format!("v{}", rng.u32(..20)).into_bytes(),
        }
    }

    fn payload(&mut self) -> Vec<u8> {
        let rng = &mut self.rng;
        if self.payloads.is_empty() {
            return b"no payload at all".to_vec();
        }
        let mut payload = self.payloads[rng.usize(..self.payloads.len())].clone();
        if rng.u8(..10) == 0 && !payload.is_empty() {
            let at = rng.usize(..payload.len());
            payload[at] ^= 1 << rng.u8(..8);
        }
        payload
    }
}

#[test]
fn every_row_can_be_written() {
    let mut author = Author::new(1);
    for row in FAMILIES.iter().flat_map(|(_, rows)| *rows) {
        for _ in 0..50 {
            assert!(!author.filled(row).words.is_empty(), "{row}");
        }
    }
}
