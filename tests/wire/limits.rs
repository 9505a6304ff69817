//! What a client may not do, and what it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Got, encode};
use crate::process::{Server, Which};

fn both() -> [Which; 3] {
    [
        Which::Reference,
        Which::Pinion { shards: 1 },
        Which::Pinion { shards: 2 },
    ]
}

fn raw(server: &Server, bytes: &[u8]) -> Got {
    let mut client = server.client();
    client.send(bytes);
    client.until_closed()
}

fn closed(text: &str) -> Got {
    Got::Closed(text.as_bytes().to_vec())
}

#[test]
fn a_password_is_asked_for() {
    for which in both() {
        let server = Server::start(which, &["--requirepass", "secret"]);
        let mut client = server.client();
        for (line, wanted) in [
            ("GET k", "-NOAUTH Authentication required."),
            ("PING", "-NOAUTH Authentication required."),
            (
                "AUTH wrong",
                "-WRONGPASS invalid username-password pair or user is disabled.",
            ),
            (
                "AUTH other secret",
                "-WRONGPASS invalid username-password pair or user is disabled.",
            ),
            (
                "HELLO 3 AUTH default wrong",
                "-WRONGPASS invalid username-password pair or user is disabled.",
            ),
            ("AUTH secret", "+OK"),
            ("GET k", "$-1"),
            ("RESET", "+RESET"),
            ("GET k", "-NOAUTH Authentication required."),
            ("AUTH default secret", "+OK"),
            ("CONFIG SET requirepass other", "+OK"),
            ("GET k", "$-1"),
            (
                "AUTH secret",
                "-WRONGPASS invalid username-password pair or user is disabled.",
            ),
            ("AUTH other", "+OK"),
        ] {
            assert_eq!(
                client.text(line),
                format!("{wanted}\\r\\n"),
                "{which}: {line}"
            );
        }
        let hello = server.client().text("HELLO 3");
        assert!(
            hello.starts_with("-NOAUTH HELLO must be called with the client already authenticated"),
            "{which}: {hello}"
        );
        let mut resp3 = server.client();
        let hello = resp3.words("HELLO 3 AUTH default other SETNAME joe");
        assert!(
            matches!(&hello, Got::Reply(reply) if reply[0] == b'%'),
            "{which}"
        );
        assert_eq!(resp3.text("CLIENT GETNAME"), "$3\\r\\njoe\\r\\n", "{which}");
    }
}

#[test]
fn strangers_may_send_little() {
    for which in both() {
        let server = Server::start(which, &["--requirepass", "secret"]);
        assert_eq!(
            raw(&server, b"*11\r\n"),
            closed("-ERR Protocol error: unauthenticated multibulk length\r\n"),
            "{which}"
        );
        assert_eq!(
            raw(&server, b"*2\r\n$3\r\nGET\r\n$16385\r\n"),
            closed("-ERR Protocol error: unauthenticated bulk length\r\n"),
            "{which}"
        );
        let mut client = server.client();
        client.send(b"*10\r\n$16384\r\n");
        client.set_wait(Duration::from_millis(100));
        let got = client.reply();
        assert_eq!(got, Got::Silence(Vec::new()), "{which}: still a request");
    }
}

#[test]
fn strangers_who_never_read_are_cut_off() {
    // 1,024 bytes of unsent replies. The kernel takes the first few hundred kilobytes itself.
    for shards in [1, 2] {
        let server = Server::start(Which::Pinion { shards }, &["--requirepass", "secret"]);
        let before = server.rss_bytes();
        let mut client = server.client();
        client.set_wait(Duration::from_secs(1));
        let errors = encode(&["GET", "k"]).repeat(10_000);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            client.send(&errors);
            let mut watcher = server.client();
            assert_eq!(watcher.text("AUTH secret"), "+OK\\r\\n");
            let list = watcher.text("CLIENT LIST");
            if list.matches("id=").count() == 1 {
                break;
            }
            assert!(Instant::now() < deadline, "still there: {list}");
        }
        let grown = server.rss_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "{grown} bytes of memory for a stranger");
    }
}

#[test]
fn one_client_too_many_is_told_so() {
    for which in both() {
        let server = Server::start(which, &["--maxclients", "5"]);
        let mut clients: Vec<Client> = (0..5).map(|_| server.client()).collect();
        for client in &mut clients {
            // The connection of the start-up check may still be closing.
            let mut got = client.words("PING");
            while matches!(got, Got::Closed(_)) {
                *client = server.client();
                got = client.words("PING");
            }
        }
        let refused = server.client().until_closed();
        assert_eq!(
            refused,
            closed("-ERR max number of clients reached\r\n"),
            "{which}: {}",
            refused.shown()
        );
        drop(clients.pop());
        let deadline = Instant::now() + Duration::from_secs(5);
        while server.client().words("PING") != Got::Reply(b"+PONG\r\n".to_vec()) {
            assert!(Instant::now() < deadline, "{which}: the place is free");
        }
    }
}

#[test]
fn idle_clients_are_closed() {
    for which in both() {
        let server = Server::start(which, &["--timeout", "1"]);
        let mut client = server.client();
        assert_eq!(client.text("PING"), "+PONG\\r\\n");
        let start = Instant::now();
        assert_eq!(client.until_closed(), closed(""), "{which}");
        let waited = start.elapsed();
        assert!(
            waited > Duration::from_millis(900) && waited < Duration::from_secs(4),
            "{which}: {waited:?}"
        );
    }
}

/// The only line of the log that has this in it.
fn told_of(server: &Server, text: &str) -> String {
    let log = server.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
    assert_eq!(told.len(), 1, "{}: {log}", server.which);
    told[0].to_string()
}

#[test]
fn a_query_buffer_has_its_limit() {
    for which in both() {
        let server = Server::start(which, &["--client-query-buffer-limit", "1mb"]);
        let mut client = server.client();
        client.send(b"*2\r\n$3\r\nGET\r\n$1500000\r\n");
        client.send(&vec![b'x'; 1_400_000]);
        let got = client.until_closed();
        assert_eq!(got, closed(""), "{which}: {}", got.shown());
        assert_eq!(server.client().text("PING"), "+PONG\\r\\n", "{which}");
        let told = told_of(
            &server,
            "Closing client that reached max query buffer length: id=",
        );
        let bytes = format!("(qbuf initial bytes: \"{}\")", "x".repeat(64));
        assert!(told.contains(&bytes), "{which}: {told}");
    }
}

#[test]
fn an_output_buffer_has_its_limit() {
    for which in both() {
        let limit = "normal 1mb 0 0";
        let server = Server::start(which, &["--client-output-buffer-limit", limit]);
        let mut client = server.client();
        let big = "x".repeat(500_000);
        assert_eq!(
            client.call(&["SET", "k", &big]),
            Got::Reply(b"+OK\r\n".to_vec())
        );
        // Asks for 500 MB and does not read it.
        client.send(&encode(&["GET", "k"]).repeat(1_000));
        let mut watcher = server.client();
        let deadline = Instant::now() + Duration::from_secs(10);
        while watcher.text("CLIENT LIST").matches("id=").count() > 1 {
            assert!(Instant::now() < deadline, "{which}: still there");
            thread::sleep(Duration::from_millis(10));
        }
        let got = client.until_closed();
        assert!(
            matches!(&got, Got::Closed(bytes) if bytes.len() < 100_000_000),
            "{which}: got it all"
        );
        let told = told_of(
            &server,
            "closed ASAP for overcoming of output buffer limits.",
        );
        assert!(told.contains("Client id="), "{which}: {told}");
        assert!(
            told.contains(" flags=N ") && told.contains(" cmd=get "),
            "{which}: {told}"
        );
    }
}

/// A reply that repeats elements ends with its client, not with the memory of the server.
#[test]
fn a_reply_without_end_stops_at_the_limit() {
    let relaxed: &[&str] = &["--pipeline-order", "relaxed"];
    let exact = both().map(|which| (which, &[][..]));
    for (which, order) in exact
        .into_iter()
        .chain([(Which::Pinion { shards: 3 }, relaxed)])
    {
        let limit = ["--client-output-buffer-limit", "normal 100kb 0 0"];
        let server = Server::start(which, &[&limit[..], order].concat());
        let mut watcher = server.client();
        let long = "x".repeat(100);
        for line in ["HSET h 1", "ZADD z 1", "SADD s"] {
            assert_eq!(watcher.text(&format!("{line} {long}")), ":1\\r\\n");
        }
        for line in ["HRANDFIELD h", "ZRANDMEMBER z", "SRANDMEMBER s"] {
            let mut client = server.client();
            client.send(format!("{line} -2147483648\r\nPING\r\n").as_bytes());
            let got = client.until_closed();
            assert!(
                matches!(&got, Got::Closed(bytes) if bytes.is_empty()),
                "{which} {line}"
            );
            // What comes behind it in a transaction is done.
            let mut client = server.client();
            for queued in ["MULTI", &format!("{line} -20000000"), "INCR n"] {
                client.text(queued);
            }
            client.send(b"EXEC\r\n");
            let got = client.until_closed();
            assert!(
                matches!(&got, Got::Closed(bytes) if bytes.is_empty()),
                "{which} EXEC {line}"
            );
        }
        assert_eq!(watcher.text("GET n"), "$1\\r\\n3\\r\\n", "{which}");
        if which != Which::Reference {
            let peak_bytes = server.peak_rss_bytes();
            assert!(peak_bytes < 500 << 20, "{which}: {peak_bytes} bytes");
        }
        assert_eq!(watcher.text("PING"), "+PONG\\r\\n", "{which}");
    }
}

#[test]
fn a_slow_reader_gets_everything_without_a_limit() {
    for shards in [1, 2] {
        let server = Server::start(Which::Pinion { shards }, &[]);
        let mut client = server.client();
        let big = "x".repeat(100_000);
        assert_eq!(
            client.call(&["SET", "k", &big]),
            Got::Reply(b"+OK\r\n".to_vec())
        );
        client.send(&encode(&["GET", "k"]).repeat(300));
        client.send(&encode(&["PING"]));
        thread::sleep(Duration::from_millis(200));
        assert_eq!(server.client().text("PING"), "+PONG\\r\\n");
        let wanted = format!("$100000\r\n{big}\r\n").into_bytes();
        for number in 0..300 {
            assert!(
                client.reply() == Got::Reply(wanted.clone()),
                "reply {number}"
            );
        }
        assert_eq!(client.reply(), Got::Reply(b"+PONG\r\n".to_vec()));
    }
}

/// A client may send a pipeline of any length before it reads the first reply.
#[test]
fn who_sends_everything_before_reading_is_served() {
    for which in both() {
        let server = Server::start(which, &[]);
        let mut client = server.client();
        // Neither they nor their replies fit the kernel's buffers.
        const COUNT: usize = 40_000;
        let text = "x".repeat(1_000);
        let wanted = Got::Reply(format!("$1000\r\n{text}\r\n").into_bytes());
        client.send(&encode(&["ECHO", &text]).repeat(COUNT));
        for number in 0..COUNT {
            assert!(client.reply() == wanted, "{which}: reply {number}");
        }
    }
}

/// Lists of 1 MB on several homes, and a request for each in turn with a count behind it.
fn large_lists(client: &mut Client, rounds: usize) -> Vec<[&'static str; 2]> {
    const LISTS: [[&str; 2]; 4] = [
        ["{a}l", "{a}n"],
        ["{b}l", "{b}n"],
        ["{c}l", "{c}n"],
        ["{d}l", "{d}n"],
    ];
    let element = "x".repeat(1_000);
    for [list, _] in LISTS {
        let mut words = vec!["RPUSH", list];
        words.extend([&element[..]; 1_000]);
        assert_eq!(client.call(&words), Got::Reply(b":1000\r\n".to_vec()));
    }
    // A few of one home, then those of the next: hops of several commands, and several hops.
    (0..rounds).map(|round| LISTS[round / 10 % 4]).collect()
}

fn counted(client: &mut Client) -> u64 {
    let counts = client.text("MGET {a}n {b}n {c}n {d}n");
    let counts = counts.split("\\r\\n");
    counts.filter_map(|count| count.parse::<u64>().ok()).sum()
}

/// A pipeline that asks for each list and counts that it did.
fn read_and_count(rounds: &[[&str; 2]]) -> Vec<u8> {
    let requests = |[list, count]: &[&str; 2]| {
        [
            encode(&["LRANGE", list, "0", "-1"]),
            encode(&["INCR", count]),
        ]
        .concat()
    };
    rounds.iter().flat_map(requests).collect()
}

/// Waits until a pipeline of 120 rounds waits for its reader; returns how many have run.
fn stalled(watcher: &mut Client, seen: &str) -> u64 {
    // The kernel takes a few megabytes itself.
    let (mut ran, mut same) = (0, 0);
    while same < 50 {
        let now = counted(watcher);
        same = if now == ran { same + 1 } else { 0 };
        ran = now;
        assert!(ran < 60, "{seen}: {ran} of 120 replies wait");
        thread::sleep(Duration::from_millis(2));
    }
    ran
}

#[test]
fn what_waits_for_its_reader_waits_for_the_end_of_a_pause() {
    for order in ["exact", "relaxed"] {
        let server = Server::start(Which::Pinion { shards: 3 }, &["--pipeline-order", order]);
        let (mut client, mut watcher) = (server.client(), server.client());
        let rounds = large_lists(&mut watcher, 120);
        client.send(&read_and_count(&rounds));
        stalled(&mut watcher, order);
        assert_eq!(watcher.text("CLIENT PAUSE 600000 WRITE"), "+OK\\r\\n");
        let ran = counted(&mut watcher);
        let reader =
            thread::spawn(move || (0..240).all(|_| matches!(client.reply(), Got::Reply(_))));
        let begun = Instant::now();
        while !watcher.text("INFO clients").contains("blocked_clients:1") {
            assert!(begun.elapsed() < Duration::from_secs(20), "{order}: waits");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(counted(&mut watcher), ran, "{order}");
        assert_eq!(watcher.text("CLIENT UNPAUSE"), "+OK\\r\\n");
        assert!(reader.join().expect("it reads"), "{order}");
        assert_eq!(counted(&mut watcher), 120, "{order}");
    }
}

#[test]
fn what_waits_for_its_reader_is_checked_again_when_rules_change() {
    for order in ["exact", "relaxed"] {
        let server = Server::start(Which::Pinion { shards: 3 }, &["--pipeline-order", order]);
        let (mut client, mut watcher) = (server.client(), server.client());
        let rounds = large_lists(&mut watcher, 120);
        for rules in ["on nopass ~* +@all -debug", "-incr"] {
            let set = format!("ACL SETUSER limited {rules}");
            assert_eq!(watcher.text(&set), "+OK\\r\\n", "{order}");
            if rules != "-incr" {
                assert_eq!(client.text("AUTH limited x"), "+OK\\r\\n");
                client.send(&read_and_count(&rounds));
                stalled(&mut watcher, order);
            }
        }
        let ran = counted(&mut watcher);
        // What is left of a hop is not run; what comes behind it is refused one by one.
        while let Got::Reply(_) = client.reply() {}
        assert_eq!(counted(&mut watcher), ran, "{order}");
    }
}

#[test]
fn a_pipeline_waits_for_its_reader() {
    for (shards, order) in [(1, "exact"), (3, "exact"), (3, "relaxed")] {
        let options = ["--pipeline-order", order];
        let server = Server::start(Which::Pinion { shards }, &options);
        let (mut client, mut watcher) = (server.client(), server.client());
        let rounds = large_lists(&mut watcher, 120);
        client.send(&read_and_count(&rounds));
        let seen = format!("{shards} shards, {order}");
        stalled(&mut watcher, &seen);
        let element = format!("$1000\r\n{}\r\n", "x".repeat(1_000));
        let list = format!("*1000\r\n{}", element.repeat(1_000)).into_bytes();
        let mut counts = std::collections::HashMap::new();
        for (number, [_, count]) in rounds.iter().enumerate() {
            assert!(
                client.reply() == Got::Reply(list.clone()),
                "{seen}: {number}"
            );
            let count = counts.entry(count).and_modify(|n| *n += 1).or_insert(1);
            let wanted = Got::Reply(format!(":{count}\r\n").into_bytes());
            assert_eq!(client.reply(), wanted, "{seen}: {number}");
        }
    }
}

#[test]
fn replies_of_a_transaction_count_while_it_runs() {
    for shards in [1, 3] {
        let limit = ["--client-output-buffer-limit", "normal 5mb 0 0"];
        let server = Server::start(Which::Pinion { shards }, &limit);
        let (mut client, mut watcher) = (server.client(), server.client());
        let rounds = large_lists(&mut watcher, 200);
        let before = server.peak_rss_bytes();
        client.send(&encode(&["MULTI"]));
        for [list, count] in &rounds {
            client.send(&encode(&["LRANGE", list, "0", "-1"]));
            client.send(&encode(&["INCR", count]));
        }
        client.send(&encode(&["EXEC"]));
        let end = client.until_closed();
        assert!(matches!(end, Got::Closed(_)), "{shards}: {}", end.shown());
        // What has begun is carried out, for whoever reads the replies.
        assert_eq!(counted(&mut watcher), 200, "{shards} shards");
        let grown = server.peak_rss_bytes().saturating_sub(before);
        assert!(grown < 100 << 20, "{shards} shards: {grown} bytes");
    }
}

#[test]
fn memory_of_large_replies_is_given_back() {
    for shards in [1, 2] {
        let server = Server::start(Which::Pinion { shards }, &[]);
        let before = server.rss_bytes();
        let mut client = server.client();
        let rounds = large_lists(&mut client, 40);
        for [list, _] in rounds {
            client.send(&encode(&["LRANGE", list, "0", "-1"]).repeat(10));
            client.replies(10);
        }
        assert_eq!(client.text("FLUSHALL"), "+OK\\r\\n");
        let deadline = Instant::now() + Duration::from_secs(60);
        while server.rss_bytes() > before + (8 << 20) {
            let grown = server.rss_bytes() - before;
            assert!(
                Instant::now() < deadline,
                "{shards}: {grown} bytes are kept"
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn headers_reserve_no_memory() {
    let server = Server::start(Which::Pinion { shards: 1 }, &[]);
    let before = server.rss_bytes();
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = server.client();
        client.send(b"*1000000\r\n$500000000\r\n");
        clients.push(client);
    }
    assert_eq!(server.client().text("PING"), "+PONG\\r\\n");
    let grown = server.rss_bytes().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes for 200 headers");
}

#[test]
fn debug_needs_permission() {
    for which in both() {
        let server = Server::start(which, &["--enable-debug-command", "no"]);
        let got = server.client().text("DEBUG SLEEP 0");
        assert!(
            got.starts_with("-ERR DEBUG command not allowed. If the enable-debug-command option"),
            "{which}: {got}"
        );
    }
}

/// The number behind a name in INFO.
fn info(client: &mut Client, name: &str) -> u64 {
    let text = client.text("INFO");
    let found = text
        .split("\\r\\n")
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.expect(name).parse().expect(name)
}

/// The reply of one line without its end.
fn line(client: &mut Client, command: &str) -> String {
    let text = client.text(command);
    text.strip_suffix("\\r\\n").unwrap_or(&text).to_string()
}

#[test]
fn memory_is_kept_below_its_limit() {
    const OOM: &str = "-OOM command not allowed when used memory > \\'maxmemory\\'.";
    for which in both() {
        let options = ["--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru"];
        let server = Server::start(which, &options);
        let mut client = server.client();
        let value = "x".repeat(1000);
        for n in 0..15_000 {
            let set = line(&mut client, &format!("SET key:{n} {value}"));
            assert_eq!(set, "+OK", "{which}");
        }
        assert!(info(&mut client, "evicted_keys") > 3_000, "{which}");
        assert!(info(&mut client, "used_memory") < 9 << 20, "{which}");
        // The newest keys are the ones that stay.
        let mut kept = |from: usize| {
            let keys = from..from + 200;
            let exists = |n: &usize| line(&mut client, &format!("EXISTS key:{n}")) == ":1";
            keys.filter(exists).count()
        };
        let (oldest, newest) = (kept(0), kept(14_800));
        let are_fair = oldest < 120 && newest > 160;
        assert!(are_fair, "{which}: {oldest} and {newest}");
        let aborted = "-EXECABORT Transaction discarded because of previous errors.";
        for (command, wanted) in [
            ("CONFIG SET maxmemory-policy noeviction", "+OK"),
            ("CONFIG SET maxmemory 3mb", "+OK"),
            ("SET more x", OOM),
            ("MULTI", "+OK"),
            ("SET more x", OOM),
            ("EXEC", aborted),
            ("DEL key:14999", ":1"),
            ("CONFIG SET maxmemory 0", "+OK"),
            ("SET more x", "+OK"),
        ] {
            assert_eq!(line(&mut client, command), wanted, "{which}: {command}");
        }
    }
}

#[test]
fn clients_go_before_keys_do() {
    for which in both() {
        let limits = ["--maxmemory", "11mb", "--maxmemory-clients", "3mb"];
        let policy = ["--maxmemory-policy", "allkeys-lru"];
        let server = Server::start(which, &[&limits[..], &policy].concat());
        let mut watcher = server.client();
        assert_eq!(line(&mut watcher, "CLIENT NO-EVICT on"), "+OK");
        for n in 0..50 {
            let made = line(&mut watcher, &format!("SETRANGE key:{n} 100000 x"));
            assert_eq!(made, ":100001", "{which}");
        }
        for round in 1..=10 {
            // Nobody reads what comes of it, on whichever shard a client is: 60 MB.
            let connect = |_| TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
            let mut clients: Vec<TcpStream> = (0..20).map(connect).collect();
            let get = encode(&["GET", &format!("key:{round}")]);
            for _ in 0..30 {
                // Those that had to go are gone.
                clients.retain_mut(|client| client.write_all(&get).is_ok());
            }
            let begun = Instant::now();
            while info(&mut watcher, "evicted_clients") < round {
                assert!(begun.elapsed() < Duration::from_secs(30), "{which}");
            }
            assert_eq!(info(&mut watcher, "evicted_keys"), 0, "{which}");
            assert_eq!(line(&mut watcher, "DBSIZE"), ":50", "{which}");
        }
    }
}

/// Shards take turns with clients that differ in size, not with each of them.
#[test]
fn a_limit_that_is_lowered_is_soon_kept() {
    let bytes = |n: usize| 140_000 + n * 500;
    let sent: usize = (0..100).map(bytes).sum();
    for which in both() {
        let server = Server::start(which, &[]);
        let mut watcher = server.client();
        assert_eq!(line(&mut watcher, "CLIENT NO-EVICT on"), "+OK");
        let half = |n: usize| {
            let header = format!("*2\r\n${}\r\n", bytes(n) + 1);
            [header.as_bytes(), &vec![b'x'; bytes(n)]].concat()
        };
        let clients = (0..100).map(|n| {
            let mut client = server.client();
            client.send(&half(n));
            client
        });
        let clients: Vec<Client> = clients.collect();
        let begun = Instant::now();
        let queued = |watcher: &mut Client| -> usize {
            let list = watcher.text("CLIENT LIST");
            let buffers = list.split(' ').filter_map(|it| it.strip_prefix("qbuf="));
            buffers.filter_map(|it| it.parse::<usize>().ok()).sum()
        };
        while queued(&mut watcher) < sent {
            assert!(begun.elapsed() < Duration::from_secs(30), "{which}");
        }
        let set = line(&mut watcher, "CONFIG SET maxmemory-clients 1mb");
        assert_eq!(set, "+OK", "{which}");
        let mut looks = Vec::new();
        while looks.last().is_none_or(|gone| *gone < 90) {
            looks.push(info(&mut watcher, "evicted_clients"));
            assert!(looks.len() < 12, "{which}: {looks:?}");
        }
        drop(clients);
    }
}

#[test]
fn transactions_and_scripts_that_write_wait_for_the_end_of_a_pause() {
    for which in both() {
        let server = Server::start(which, &[]);
        let (mut admin, mut client) = (server.client(), server.client());
        for line in ["MULTI", "SET a 1", "SET b 1", "SET c 1"] {
            client.words(line);
        }
        assert_eq!(admin.text("CLIENT PAUSE 600000 WRITE"), "+OK\\r\\n");
        client.send(b"EXEC\r\n");
        let begun = Instant::now();
        while !admin.text("INFO clients").contains("blocked_clients:1") {
            assert!(begun.elapsed() < Duration::from_secs(20), "{which}: waits");
            thread::sleep(Duration::from_millis(5));
        }
        // What only reads does not wait, nor do scripts that say so.
        let script = "#!lua flags=no-writes\nreturn redis.call('EXISTS', KEYS[1])";
        let reads: [&[&str]; 8] = [
            &["EXISTS", "a", "b", "c"],
            &["EVAL", script, "1", "a"],
            &["EVAL_RO", "return redis.call('EXISTS', KEYS[1])", "1", "b"],
            &["MULTI"],
            &["GET", "a"],
            &["EVAL", script, "1", "a"],
            &["EXEC"],
            &["CLIENT", "UNPAUSE"],
        ];
        let wanted = [
            ":0",
            ":0",
            ":0",
            "+OK",
            "+QUEUED",
            "+QUEUED",
            "*2|$-1|:0",
            "+OK",
        ];
        for (line, wanted) in reads.iter().zip(wanted) {
            let wanted = format!("{}\r\n", wanted.replace('|', "\r\n"));
            assert_eq!(
                admin.call(line),
                Got::Reply(wanted.into_bytes()),
                "{which}: {line:?}"
            );
        }
        let done = b"*3\r\n+OK\r\n+OK\r\n+OK\r\n";
        assert_eq!(client.reply(), Got::Reply(done.to_vec()), "{which}");
        assert_eq!(admin.text("EXISTS a b c"), ":3\\r\\n", "{which}");
    }
}

/// The other shard has to evict for it, which takes a message there and one back.
#[test]
fn who_sends_nothing_more_is_answered_all_the_same_where_memory_is_short() {
    let options = ["--maxmemory-policy", "allkeys-random"];
    let server = Server::start(Which::Pinion { shards: 2 }, &options);
    let mut client = server.client();
    assert_eq!(client.text("DEBUG POPULATE 200000 {a}"), "+OK\\r\\n");
    assert_eq!(client.text("CONFIG SET maxmemory 2mb"), "+OK\\r\\n");
    for _ in 0..40 {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("a connection");
        stream.write_all(b"SET {b} value\r\n").expect("the request");
        stream.shutdown(Shutdown::Write).expect("no more");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the answer");
        assert!(!answer.is_empty());
    }
}
