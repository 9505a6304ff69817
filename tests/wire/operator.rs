//! What an operator and their tools see: figures, parameters, the process.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;

use crate::client::{Client, Got, encode};
use crate::persistence::wait_for;
use crate::process::{Server, Which, free_port};
use crate::tree::Tree;

fn pinion() -> Server {
    Server::start(Which::Pinion { shards: 2 }, &[])
}

/// The text of a bulk or verbatim reply.
fn told(client: &mut Client, line: &str) -> String {
    let Got::Reply(bytes) = client.words(line) else {
        panic!("{line}: no reply");
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (_, body) = text.split_once("\r\n").expect("a length");
    body.to_owned()
}

/// INFO's fields by name, each with its section and value.
fn info(client: &mut Client) -> BTreeMap<String, (String, String)> {
    let mut section = String::new();
    let mut fields = BTreeMap::new();
    for line in told(client, "INFO everything").lines() {
        if let Some(title) = line.strip_prefix("# ") {
            section = title.to_owned();
        } else if let Some((name, value)) = line.split_once(':') {
            fields.insert(name.to_owned(), (section.clone(), value.to_owned()));
        }
    }
    fields
}

#[test]
fn info_tells_everything_that_redis_tells() {
    let reference = Server::start(Which::Reference, &["--appendonly", "yes"]);
    let ours = Server::start(Which::Pinion { shards: 2 }, &["--appendonly", "yes"]);
    let (wanted, got) = (info(&mut reference.client()), info(&mut ours.client()));
    assert!(wanted.len() > 150, "{} fields", wanted.len());
    let is_of_a_command = |name: &str| name.starts_with("cmdstat_") || name.contains("_usec_");
    for (name, (section, _)) in wanted.iter().filter(|(name, _)| !is_of_a_command(name)) {
        let ours = got.get(name).map(|(section, _)| section);
        assert_eq!(ours, Some(section), "{name}");
    }
}

#[test]
fn figures_are_true() {
    let server = pinion();
    let mut client = server.client();
    let number = |fields: &BTreeMap<String, (String, String)>, name: &str| -> u64 {
        fields[name].1.parse().unwrap_or_else(|_| panic!("{name}"))
    };
    let before = info(&mut client);
    for name in ["run_id", "master_replid"] {
        let value = &before[name].1;
        assert_eq!(value.len(), 40, "{name}");
        assert!(value.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    }
    assert_ne!(before["run_id"].1, before["master_replid"].1);
    client.text("SET big 0");
    client.text("SETRANGE big 3000000 x");
    client.words("GET big");
    client.text("DEL big");
    let after = info(&mut client);
    assert!(number(&after, "total_net_output_bytes") > 3_000_000);
    assert!(number(&after, "total_reads_processed") > 3);
    assert!(number(&after, "total_writes_processed") > 3);
    assert!(number(&after, "used_memory_peak") > number(&after, "used_memory") + 2_000_000);
    assert!(number(&after, "used_memory_startup") > 0);
    assert!(number(&after, "instantaneous_ops_per_sec") > 0);
    assert_eq!(number(&after, "maxclients"), 10_000);
}

#[test]
fn the_mean_time_to_live_is_shown() {
    for which in [Which::Reference, Which::Pinion { shards: 2 }] {
        let server = Server::start(which, &[]);
        let mut client = server.client();
        for line in ["SET a 1 EX 1000", "SET b 1 EX 1000", "SET c 1"] {
            assert_eq!(client.words(line), reply("+OK"), "{which}");
        }
        // Redis estimates it when it next looks for keys that are due.
        wait_for("an estimate of the time to live", || {
            let line = info(&mut client)["db0"].1.clone();
            let (rest, avg_ttl) = line.rsplit_once(",avg_ttl=").expect("a field");
            assert_eq!(rest, "keys=3,expires=2", "{which}");
            let avg_ttl: u64 = avg_ttl.parse().expect("a number");
            (500_000..=1_000_000).contains(&avg_ttl)
        });
    }
}

/// What each command adds to the figures of lookups and of changes since the last save.
fn counted(which: Which, commands: &[&str]) -> Vec<String> {
    const FIGURES: [&str; 3] = [
        "keyspace_hits",
        "keyspace_misses",
        "rdb_changes_since_last_save",
    ];
    let server = Server::start(which, &[]);
    let mut client = server.client();
    let figures = |client: &mut Client| {
        let fields = info(client);
        FIGURES.map(|name| fields[name].1.parse::<i64>().expect("a number"))
    };
    let mut before = figures(&mut client);
    let mut all = Vec::new();
    for command in commands {
        client.words(command);
        let after = figures(&mut client);
        let added = std::array::from_fn::<i64, 3, _>(|i| after[i] - before[i]);
        all.push(format!("{command}: {added:?}"));
        before = after;
    }
    all
}

#[test]
fn lookups_and_changes_are_counted_as_redis_counts_them() {
    let commands = [
        "RPUSH list b a c",
        "SADD set 1 2 3",
        "GEOADD geo 13.361389 38.115556 P 15.087269 37.502669 C",
        "SET s v",
        "BITFIELD bits SET u8 0 1 SET u8 8 2 GET u8 0 INCRBY u8 0 0",
        "BITFIELD bits SET u8 0 1 SET u8 8 3",
        "SORT list ALPHA STORE sorted",
        "SORT list LIMIT 0 x",
        "SORT none LIMIT x 0",
        "SORT set STORE none BOGUS",
        "GEORADIUS geo 15 37 200 km STORE near",
        "GEOSEARCHSTORE near geo FROMLONLAT 15 37 BYRADIUS 200 km STOREDIST",
        "ZRANGESTORE part geo 0 -1",
        "SUNIONSTORE union set",
        "RENAME s t",
        "RENAME t list",
        "RENAMENX list s",
        "MOVE s 1",
        "MOVE s 1",
        "COPY set set REPLACE",
        "COPY set set DB 0",
        "COPY set copy",
        "BITOP NOPE dest s",
        "BITOP NOT dest none set",
        "SINTERCARD 1 set LIMIT -1",
        "SINTERCARD 1 none LIMIT x",
        "SINTERCARD 2 set none LIMIT 1",
        "OBJECT ENCODING set",
        "OBJECT REFCOUNT none",
        "OBJECT IDLETIME none",
        "OBJECT FREQ set",
        "SPOP set 1",
        "SPOP set 5",
    ];
    let wanted = counted(Which::Reference, &commands);
    for shards in [1, 3] {
        assert_eq!(counted(Which::Pinion { shards }, &commands), wanted);
    }
}

fn connects(port: u16) -> bool {
    Client::tcp(port).is_ok_and(|mut client| client.words("PING") == reply("+PONG"))
}

fn reply(line: &str) -> Got {
    Got::Reply(format!("{line}\r\n").into_bytes())
}

#[test]
fn ports_and_addresses_change_while_clients_stay() {
    for which in [Which::Reference, Which::Pinion { shards: 2 }] {
        let server = Server::start(which, &[]);
        let mut client = server.client();
        let next = free_port();
        assert_eq!(
            client.words(&format!("CONFIG SET port {next}")),
            reply("+OK")
        );
        assert!(connects(next) && !connects(server.port), "{which}");
        assert_eq!(client.words("PING"), reply("+PONG"), "{which}");
        let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
        let used = taken.local_addr().expect("bound").port();
        assert_eq!(
            client.words(&format!("CONFIG SET maxmemory 12345678 port {used} hz 20")),
            reply(
                "-ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on \
                 this port. Check server logs."
            ),
            "{which}"
        );
        assert!(!client.text("CONFIG GET maxmemory").contains("12345678"));
        assert!(client.text("CONFIG GET port").contains(&next.to_string()));
        assert!(connects(next), "{which}");
        assert_eq!(
            client.words("CONFIG SET bind 203.0.113.7"),
            reply(
                "-ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to \
                 specified addresses."
            ),
            "{which}"
        );
        assert!(connects(next), "{which}");
        // The new address contains the old one; then back.
        assert_eq!(client.words("CONFIG SET bind 0.0.0.0"), reply("+OK"));
        assert!(connects(next), "{which}");
        assert_eq!(client.words("CONFIG SET bind 127.0.0.1"), reply("+OK"));
        assert!(connects(next), "{which}");
        for nowhere in ["bind", "port"] {
            let (unset, back) = match nowhere {
                "bind" => ("", "127.0.0.1".to_string()),
                _ => ("0", next.to_string()),
            };
            let set = client.call(&["CONFIG", "SET", nowhere, unset]);
            assert_eq!(set, reply("+OK"), "{which}: {nowhere}");
            assert!(!connects(next), "{which}: {nowhere}");
            let set = client.call(&["CONFIG", "SET", nowhere, &back]);
            assert_eq!(set, reply("+OK"), "{which}: {nowhere}");
            assert!(connects(next), "{which}: {nowhere}");
        }
        assert_eq!(client.words("CONFIG SET port 0"), reply("+OK"));
        assert!(!connects(next), "{which}");
        assert_eq!(
            client.words(&format!("CONFIG SET port {next}")),
            reply("+OK")
        );
        assert!(connects(next), "{which}");
    }
}

#[test]
fn a_server_that_could_hear_nobody_ends() {
    let port = format!("port {}\nbind \"\"\n", free_port());
    for which in [Which::Reference, Which::Pinion { shards: 2 }] {
        for conf in ["port 0\n", port.as_str()] {
            let mut server = Server::spawn_bare(which, &[("the.conf", conf)], &["the.conf"]);
            assert_eq!(server.exit().code(), Some(1), "{which}: {conf}");
            let told = server.log();
            let why = "Configured to not listen anywhere, exiting.";
            assert!(told.contains(why), "{which}: {told}");
        }
        // For a unix socket it stays.
        let conf = format!("{port}unixsocket the.sock\n");
        let server = Server::spawn_bare(which, &[("the.conf", &conf)], &["the.conf"]);
        let socket = server.dir.join("the.sock");
        let mut client = None;
        wait_for("the socket", || {
            client = Client::unix(&socket).ok();
            client.is_some()
        });
        let mut client = client.expect("a client");
        let bind = client.text("CONFIG GET bind");
        assert_eq!(bind, "*2\\r\\n$4\\r\\nbind\\r\\n$0\\r\\n\\r\\n", "{which}");
    }
}

#[test]
fn every_parameter_takes_back_what_it_shows() {
    let server = pinion();
    let mut client = server.client();
    let Got::Reply(bytes) = client.words("CONFIG GET *") else {
        panic!("no reply");
    };
    let fixed = ["immutable", "protected"];
    let mut own = 0;
    for pair in Tree::parse(&bytes, &mut 0).branch().chunks(2) {
        let [Tree::Leaf(name), Tree::Leaf(value)] = pair else {
            panic!("{pair:?}");
        };
        let got = client.call(&["CONFIG", "SET", name, value]);
        let Got::Reply(bytes) = &got else {
            panic!("{name}");
        };
        let text = String::from_utf8_lossy(bytes);
        let is_fixed = fixed.iter().any(|word| text.contains(word));
        assert!(got == reply("+OK") || is_fixed, "{name} {value}: {text}");
        if ["shards", "cpus", "shard-gathering", "shard-scheduling"].contains(&name.as_str()) {
            assert_eq!(got, reply("+OK"), "{name}");
            own += 1;
        }
    }
    assert_eq!(own, 4);
}

#[test]
fn a_pid_file_comes_and_goes_and_the_log_can_be_rotated() {
    let mut server = Server::start(
        Which::Pinion { shards: 1 },
        &["--pidfile", "the.pid", "--logfile", "the.log"],
    );
    let path = |name: &str| server.dir.join(name);
    let (pid, log, old) = (path("the.pid"), path("the.log"), path("the.log.1"));
    let text = fs::read_to_string(&pid).expect("the pid file");
    assert_eq!(text, format!("{}\n", server.pid()));
    fs::rename(&log, &old).expect("rotate");
    server.signal("TERM");
    assert!(server.exit().success());
    assert!(!pid.exists());
    assert!(
        fs::read_to_string(&log)
            .expect("a new log")
            .contains("SIGTERM")
    );
}

/// What a monitor sees, each with its database, without times and addresses, up to a command that ends it.
fn watched(which: Which) -> Vec<String> {
    let server = Server::start(which, &[]);
    let mut monitor = server.client();
    assert_eq!(monitor.words("MONITOR"), reply("+OK"));
    let (mut client, mut other) = (server.client(), server.client());
    for line in [
        "SET a 1",
        "MULTI",
        "SET b 2",
        "GET b",
        "EXEC",
        "MULTI",
        "BOGUS",
        "SET c 1",
        "EXEC",
        "MULTI",
        "SET c 1",
        "DISCARD",
        "WATCH w",
        "SELECT 3",
        "GET a",
        "SELECT 99",
        "MULTI",
        "SELECT 2",
        "GET a",
        "SELECT x",
        "PING",
        "EXEC",
        "GET a",
        "SELECT 0",
    ] {
        client.words(line);
    }
    other.words("SET w 1");
    for script in [
        "return redis.pcall('XREAD', 'BLOCK', 1, 'STREAMS', 's', '0')",
        "return redis.pcall('BLPOP', 'l', 0)",
    ] {
        client.call(&["EVAL", script, "0"]);
    }
    for line in [
        "MULTI",
        "SET d 1",
        "EXEC",
        "CONFIG GET port",
        "BLPOP none 0.01",
        "AUTH x y",
        "ECHO end",
    ] {
        client.words(line);
    }
    let mut seen = Vec::new();
    loop {
        let Got::Reply(bytes) = monitor.reply() else {
            panic!("{which}: {seen:?}");
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, words) = text.split_once("] ").expect("a command");
        let (_, db) = head.split_once('[').expect("a database");
        let (db, _) = db.split_once(' ').expect("an address");
        seen.push(format!("{db} {}", words.trim_end()));
        if words.contains("end") {
            return seen;
        }
    }
}

#[test]
fn monitors_see_what_runs_when_it_runs() {
    let wanted = watched(Which::Reference);
    for shards in [1, 2, 4] {
        assert_eq!(watched(Which::Pinion { shards }), wanted, "{shards}");
    }
}

#[test]
fn waits_that_end_with_an_error_are_failures() {
    for which in [Which::Reference, Which::Pinion { shards: 2 }] {
        let server = Server::start(which, &[]);
        let (mut client, mut other) = (server.client(), server.client());
        let id = client.text("CLIENT ID");
        let id = id.trim_start_matches(':').replace("\\r\\n", "");
        client.send(&encode(&["BLPOP", "none", "0"]));
        let unblock = format!("CLIENT UNBLOCK {id} ERROR");
        while other.words(&unblock) != reply(":1") {}
        assert!(matches!(client.reply(), Got::Reply(bytes) if bytes.starts_with(b"-UNBLOCKED")));
        let stats = told(&mut other, "INFO commandstats");
        let line = stats.lines().find(|line| line.contains("blpop"));
        let line = line.unwrap_or_else(|| panic!("{which}: {stats}"));
        assert!(line.contains("calls=1,"), "{which}: {line}");
        assert!(line.contains("failed_calls=1"), "{which}: {line}");
    }
}

#[test]
fn a_script_that_asks_to_wait_has_an_error_of_that_command() {
    for which in [Which::Reference, Which::Pinion { shards: 2 }] {
        let server = Server::start(which, &[]);
        let mut client = server.client();
        for call in [
            "'xread', 'block', 1, 'streams', 's', '0'",
            "'blpop', 'l', 0",
        ] {
            let script = format!("return redis.pcall({call})");
            client.call(&["EVAL", &script, "0"]);
        }
        let stats = told(&mut client, "INFO commandstats");
        let ends = |name: &str, end: &str| {
            let line = stats.lines().find(|line| line.contains(name));
            let line = line.unwrap_or_else(|| panic!("{which}: {stats}"));
            assert!(line.trim_end().ends_with(end), "{which}: {line}");
        };
        ends("xread:calls=1", "rejected_calls=0,failed_calls=1");
        ends("blpop:calls=0", "rejected_calls=1,failed_calls=0");
        let errors = told(&mut client, "INFO errorstats");
        assert!(
            errors.contains("errorstat_ERR:count=2"),
            "{which}: {errors}"
        );
    }
}

#[test]
fn too_few_words_count_as_a_refusal_of_the_command_they_name() {
    for which in [Which::Reference, Which::Pinion { shards: 2 }] {
        let server = Server::start(which, &[]);
        let mut client = server.client();
        for refused in ["OBJECT IDLETIME", "XINFO GROUPS", "OBJECT"] {
            assert!(client.text(refused).contains("wrong number"), "{which}");
        }
        for call in ["'get'", "'object', 'freq'", "'nosuch'"] {
            let script = format!("return redis.pcall({call})");
            client.call(&["EVAL", &script, "0"]);
        }
        let stats = told(&mut client, "INFO commandstats");
        let refused = |line: &&str| line.contains("rejected_calls=1");
        let name = |line: &str| line.split(':').next().unwrap_or_default().to_owned();
        let mut names: Vec<String> = stats.lines().filter(refused).map(name).collect();
        names.sort();
        let wanted = [
            "get",
            "object",
            "object|freq",
            "object|idletime",
            "xinfo|groups",
        ];
        let wanted = wanted.map(|name| format!("cmdstat_{name}"));
        assert_eq!(names, wanted, "{which}: {stats}");
    }
}

#[test]
fn the_largest_clients_go_when_they_use_too_much() {
    for which in [
        Which::Reference,
        Which::Pinion { shards: 1 },
        Which::Pinion { shards: 2 },
    ] {
        let server = Server::start(which, &["--maxmemory-clients", "3000000"]);
        let (mut small, mut spared) = (server.client(), server.client());
        assert_eq!(spared.words("CLIENT NO-EVICT on"), reply("+OK"));
        let half = |size: usize| {
            let mut bytes = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${}\r\n", 2 * size).into_bytes();
            bytes.resize(bytes.len() + size, b'x');
            bytes
        };
        let mut large = server.client();
        spared.send(&half(1_200_000));
        large.send(&half(2_000_000));
        assert!(matches!(large.until_closed(), Got::Closed(_)), "{which}");
        assert_eq!(small.words("PING"), reply("+PONG"), "{which}");
        spared.send(&vec![b'x'; 1_200_000]);
        spared.send(b"\r\n");
        assert!(matches!(spared.reply(), Got::Reply(_)), "{which}");
        let fields = info(&mut small);
        assert_eq!(fields["evicted_clients"].1, "1", "{which}");
    }
}

#[test]
fn ps_shows_the_title_that_the_template_asks_for() {
    let shown = |server: &Server| {
        let bytes = fs::read(format!("/proc/{}/cmdline", server.pid())).expect("alive");
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    let server = Server::start(Which::Pinion { shards: 1 }, &[]);
    let mut client = server.client();
    let before = shown(&server);
    let port = told(&mut client, "CONFIG GET port");
    let port = port
        .trim_end()
        .rsplit("\r\n")
        .next()
        .expect("a port")
        .to_owned();
    assert!(
        before.ends_with(&format!("pinion 127.0.0.1:{port}")),
        "{before}"
    );
    let template = [
        "CONFIG",
        "SET",
        "proc-title-template",
        "TEST {port} {{x} {config-file}",
    ];
    assert_eq!(client.call(&template), Got::Reply(b"+OK\r\n".to_vec()));
    assert_eq!(shown(&server), format!("TEST {port} {{x}} -"));
    let server = Server::start(Which::Pinion { shards: 1 }, &["--set-proc-title", "no"]);
    assert!(
        shown(&server).contains("--set-proc-title\0no"),
        "as it was called"
    );
}

#[test]
fn a_deadly_signal_is_reported_in_the_log() {
    for (option, reported) in [("yes", true), ("no", false)] {
        let options = ["--crash-log-enabled", option];
        let mut server = Server::start(Which::Pinion { shards: 2 }, &options);
        server.signal("ABRT");
        assert!(!server.exit().success());
        let log = server.log();
        assert_eq!(log.contains("crashed by signal: 6"), reported, "{log}");
        assert_eq!(log.contains("STACK TRACE"), reported, "{log}");
    }
}

/// How many threads of a process run by which policy of sched(7): field 41 of proc(5)'s `stat`.
fn policies(pid: u32) -> BTreeMap<String, usize> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let stats = tasks.map(|task| fs::read_to_string(task.expect("a thread").path().join("stat")));
    let mut counts = BTreeMap::new();
    for stat in stats.flatten() {
        let (_, fields) = stat.rsplit_once(')').expect("a name");
        let policy = fields.split_whitespace().nth(38).expect("field 41");
        *counts.entry(policy.to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn shards_run_by_the_policy_they_are_told() {
    let ours = policies(std::process::id());
    let usual = ours.keys().next().expect("a thread");
    // What is watched depends on what else runs here.
    for (scheduling, batches) in [("batch", 2..=2), ("other", 0..=0), ("auto", 0..=2)] {
        let options = ["--shard-scheduling", scheduling];
        let server = Server::start(Which::Pinion { shards: 2 }, &options);
        // A shard may serve clients while another begins.
        wait_for("the policies", || {
            let counts = policies(server.pid());
            // What somebody chose for all of this stays.
            match usual.as_str() {
                "0" => batches.contains(&counts.get("3").copied().unwrap_or(0)),
                _ => counts.keys().eq([usual]),
            }
        });
    }
}

/// Requests that go to their homes together took no longer than all of them.
#[test]
fn time_that_requests_took_together_is_shared_out() {
    const REQUESTS: usize = 200;
    let options = [
        "--slowlog-log-slower-than",
        "0",
        "--slowlog-max-len",
        "1000",
    ];
    let server = Server::start(Which::Pinion { shards: 2 }, &options);
    // Each on a core of its own.
    let (mut client, mut sleeper) = (server.client(), server.client());
    let pairs: String = (0..16).map(|n| format!(" key{n} value")).collect();
    let requests = format!("MSET{pairs}\r\n").repeat(REQUESTS);
    let mut ask = || {
        client.send(requests.as_bytes());
        client.replies(REQUESTS);
    };
    // They go together once nothing was in their way for a while.
    ask();
    let mut watcher = server.client();
    watcher.text("CONFIG RESETSTAT");
    watcher.text("SLOWLOG RESET");
    let begun = std::time::Instant::now();
    sleeper.send(b"DEBUG SLEEP 0.2\r\n");
    ask();
    let elapsed_us = begun.elapsed().as_micros() as u64;
    sleeper.reply();
    let stats = watcher.text("INFO commandstats");
    let of_mset = stats.split("cmdstat_mset:").nth(1).expect("its line");
    let spent = of_mset.split(',').find_map(|it| it.strip_prefix("usec="));
    let spent_us: u64 = spent.and_then(|it| it.parse().ok()).expect("a number");
    assert!(
        (1..=elapsed_us).contains(&spent_us),
        "{spent_us} of {elapsed_us}"
    );
    let slow = watcher.text("SLOWLOG GET -1");
    let entries: Vec<&str> = slow.split("\\r\\n$4\\r\\nMSET").collect();
    let entries = &entries[..entries.len() - 1];
    assert_eq!(entries.len(), REQUESTS);
    // id, time, duration, the number of its arguments
    let duration = |entry: &&str| -> u64 {
        let lines: Vec<&str> = entry.split("\\r\\n").collect();
        lines[lines.len() - 2][1..].parse().expect("a number")
    };
    let logged_us: u64 = entries.iter().map(duration).sum();
    assert!(logged_us <= elapsed_us, "{logged_us} of {elapsed_us}");
}

/// What a command on a stream counts as: keys looked up and missed, and changes since the last save.
#[test]
fn commands_on_streams_count_as_those_of_redis_do() {
    const LINES: [&str; 16] = [
        "XREADGROUP GROUP g c COUNT 3 STREAMS s >",
        "XREADGROUP GROUP g c STREAMS s 0",
        "XREADGROUP GROUP g c NOACK COUNT 1 STREAMS s >",
        "XREADGROUP GROUP g c STREAMS s t > >",
        "XREADGROUP GROUP g c STREAMS s >",
        "XACK s g 1-0 9-0",
        "XACK s g 9-0",
        "XACK none g 1-0",
        "XCLAIM s g d 0 2-0 3-0",
        "XAUTOCLAIM s g c 0 0",
        "XPENDING s g",
        "XINFO STREAM s",
        "XINFO STREAM s FULL",
        "XINFO CONSUMERS s g",
        "XDEL s 4-0 5-0",
        "XTRIM s MAXLEN 2",
    ];
    let counted = |which: Which| {
        let server = Server::start(which, &[]);
        let mut client = server.client();
        for key in ["s", "t"] {
            client.text(&format!("XGROUP CREATE {key} g 0 MKSTREAM"));
            for n in 1..10 {
                client.text(&format!("XADD {key} {n}-0 a 1"));
            }
        }
        let counts = |client: &mut Client| {
            let told = client.text("INFO stats") + &client.text("INFO persistence");
            let names = [
                "keyspace_hits",
                "keyspace_misses",
                "rdb_changes_since_last_save",
            ];
            names.map(|name| {
                let mut lines = told.split("\\r\\n");
                let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                value
                    .and_then(|value| value.parse::<i64>().ok())
                    .expect("a count")
            })
        };
        let of_each = LINES.map(|line| {
            let before = counts(&mut client);
            client.text(line);
            let after = counts(&mut client);
            let more: [i64; 3] = std::array::from_fn(|at| after[at] - before[at]);
            format!("{line}: {more:?}")
        });
        of_each.join("\n")
    };
    let wanted = counted(Which::Reference);
    for shards in [1, 2] {
        let got = counted(Which::Pinion { shards });
        assert_eq!(got, wanted, "{shards} shards");
    }
}
