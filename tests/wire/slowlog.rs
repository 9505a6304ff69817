//! What the slow log notes while everything counts as slow: which commands, in which order, whose.

use crate::client::Got;
use crate::process::{Server, Which};

/// Each is one connection's commands, separated by ` ; `; words are separated by spaces, `_` is a
/// space within one.
const CASES: &[&str] = &[
    "MULTI ; MULTI ; WATCH k ; SET k v ; DISCARD ; DISCARD ; EXEC",
    "WATCH k ; UNWATCH ; WATCH a b c d e ; MULTI ; INCR k ; LPUSH k v ; NOSUCH ; EXEC",
    "MULTI ; INCR n ; LPUSH n v ; SELECT 1 ; MSET a b c ; PUBLISH a b ; UNWATCH ; EXEC",
    "MULTI ; EVAL redis.call('set',KEYS[1],'1') 1 k ; EVALSHA x 0 ; EVAL nonsense x ; EXEC",
    "NOSUCH a ; GET ; GET k ; BLPOP l x ; MSET a b c ; COPY a b DB 100 ; LMPOP x a LEFT",
    "SCRIPT EXISTS a ; SCRIPT LOAD return_1 ; SCRIPT FLUSH ; SCRIPT KILL",
    "EVALSHA a 0 ; EVAL return_1 1 ; EVAL retur_1 0 ; FCALL nosuch 0 ; EVAL return_1 0",
    "EVAL redis.call('SeT',KEYS[1],1)_redis.call('get',KEYS[1])_redis.pcall('lpush',KEYS[1],'1') 1 k",
    "EVAL redis.call('set',KEYS[1],1)_redis.call('get',KEYS[2])_error('x') 2 a b",
    "EVAL redis.call('mget','a','b','c','d')_redis.call('dbsize')_redis.call('ping') 0",
    "EVAL redis.call('select',1)_redis.call('publish','a','b')_redis.call('time') 0",
    // What was refused has not run, what may not wait has.
    "EVAL redis.pcall('get')_redis.pcall('multi')_redis.pcall('xread','block',0,'streams','a','$') 0",
    "EVAL_RO redis.pcall('set',KEYS[1],'1') 1 k",
    "SELECT 100 ; SELECT x ; CLIENT ID ; CLIENT SETNAME me ; AUTH a ; HELLO 9 ; ECHO x ; RESET",
    "SUBSCRIBE x ; UNSUBSCRIBE x ; PUBLISH x y",
    // Only what serves who waited is noted, not that one waited in vain.
    "DEL l ; RPUSH l a ; BLPOP l 0 ; BLPOP l 0.01 ; WAIT 0 0 ; WAIT 1 1",
];

/// The log, oldest first: commands, whether a script asked for them, and their clients' names.
const SHOWN: &str = "local lines = {} \
     for _, entry in ipairs(redis.call('slowlog', 'get', -1)) do \
         if entry[6] ~= 'admin' then \
             local whose = entry[5] == '?:0' and 'script' or 'client' \
             table.insert(lines, 1, table.concat(entry[4], ' ') .. ' | ' .. whose .. entry[6]) \
         end \
     end \
     return table.concat(lines, '\\n')";

fn noted(server: &Server) -> Vec<Vec<String>> {
    let mut admin = server.client();
    admin.words("CLIENT SETNAME admin");
    admin.words("CONFIG SET slowlog-log-slower-than 0 slowlog-max-len 1000");
    let mut cases = Vec::new();
    for case in CASES {
        admin.words("SLOWLOG RESET");
        let mut client = server.client();
        for request in case.split(" ; ") {
            let words: Vec<String> = request.split(' ').map(|w| w.replace('_', " ")).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let name = words[0].replace(' ', "_");
            let words = [&[name.as_str()], &words[1..]].concat();
            assert!(matches!(client.call(&words), Got::Reply(_)), "{request}");
        }
        let Got::Reply(shown) = admin.call(&["EVAL", SHOWN, "0"]) else {
            panic!("{case}: no reply");
        };
        let shown = String::from_utf8_lossy(&shown).into_owned();
        // Without the length in front.
        let lines = shown.lines().skip(1).map(str::to_owned);
        cases.push(lines.filter(|line| !line.is_empty()).collect());
    }
    cases
}

#[test]
fn everything_that_redis_notes_is_noted() {
    let wanted = noted(&Server::start(Which::Reference, &[]));
    assert!(wanted.iter().map(Vec::len).sum::<usize>() > 60);
    for shards in [1, 2, 4] {
        let mut got = noted(&Server::start(Which::Pinion { shards }, &[]));
        for ((case, wanted), got) in CASES.iter().zip(&wanted).zip(&mut got) {
            let mut wanted = wanted.clone();
            if shards > 1 {
                // Notes of two cores may reach the log in any order.
                wanted.sort();
                got.sort();
            }
            assert_eq!(*got, wanted, "{shards} shards: {case}");
        }
    }
}
