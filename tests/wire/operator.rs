//! What an operator and their tools see: figures, parameters, the process.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;

use crate::client::{Client, Got, encode, line_end};
use crate::process::{Server, Which, free_port};

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

/// A reply as a tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tree {
    Leaf(String),
    Branch(Vec<Tree>),
}

impl Tree {
    fn parse(bytes: &[u8], at: &mut usize) -> Tree {
        let end = line_end(bytes, *at).expect("a line");
        let line = String::from_utf8_lossy(&bytes[*at..end - 2]).into_owned();
        *at = end;
        let count = || line[1..].parse::<i64>().expect("a count");
        match line.as_bytes()[0] {
            b'$' if count() >= 0 => {
                let from = *at;
                *at += count() as usize + 2;
                Tree::Leaf(String::from_utf8_lossy(&bytes[from..*at - 2]).into_owned())
            }
            b'*' => Tree::Branch((0..count()).map(|_| Tree::parse(bytes, at)).collect()),
            _ => Tree::Leaf(line),
        }
    }

    fn branch(&self) -> &[Tree] {
        match self {
            Tree::Branch(parts) => parts,
            Tree::Leaf(_) => panic!("no array: {self:?}"),
        }
    }

    /// Sets have no order.
    fn sorted(&self) -> Tree {
        let mut parts = self.branch().to_vec();
        parts.sort();
        Tree::Branch(parts)
    }
}

/// Every command and subcommand by name, as COMMAND INFO describes it in RESP2.
fn commands(server: &Server) -> BTreeMap<String, Vec<Tree>> {
    fn collect(rows: &[Tree], all: &mut BTreeMap<String, Vec<Tree>>) {
        for row in rows {
            let parts = row.branch();
            let Tree::Leaf(name) = &parts[0] else {
                panic!("{row:?}");
            };
            collect(parts[9].branch(), all);
            let mut told = parts[1..9].to_vec();
            // Flags, categories and tips; the flags of each key specification.
            for at in [1, 5, 6] {
                told[at] = told[at].sorted();
            }
            all.insert(name.clone(), told);
        }
    }
    let Got::Reply(bytes) = server.client().words("COMMAND") else {
        panic!("no reply");
    };
    let mut all = BTreeMap::new();
    collect(Tree::parse(&bytes, &mut 0).branch(), &mut all);
    all
}

#[test]
fn commands_are_described_as_redis_describes_them() {
    /// They take an option that 7.0 does not know.
    const NEWER: [&str; 2] = ["zrank", "zrevrank"];
    const PARTS: [&str; 8] = [
        "arity",
        "flags",
        "first key",
        "last key",
        "step",
        "categories",
        "tips",
        "key specifications",
    ];
    let wanted = commands(&Server::start(Which::Reference, &[]));
    let got = commands(&pinion());
    let mut complaints = Vec::new();
    let mut compared = 0;
    for (name, theirs) in &wanted {
        let Some(ours) = got.get(name) else { continue };
        compared += 1;
        for (at, part) in PARTS.iter().enumerate() {
            if theirs[at] != ours[at] && !(NEWER.contains(&name.as_str()) && at == 0) {
                complaints.push(format!(
                    "{name}: {part}\n  theirs {:?}\n  ours   {:?}",
                    theirs[at], ours[at]
                ));
            }
        }
    }
    assert!(compared > 300, "{compared} compared");
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_command_is_documented() {
    let server = pinion();
    let described = commands(&server);
    let Got::Reply(bytes) = server.client().words("COMMAND DOCS") else {
        panic!("no reply");
    };
    fn check(docs: &[Tree], described: &BTreeMap<String, Vec<Tree>>) -> usize {
        let mut count = 0;
        for pair in docs.chunks(2) {
            let Tree::Leaf(name) = &pair[0] else { panic!() };
            assert!(described.contains_key(name), "{name}");
            let fields = pair[1].branch();
            for (field, value) in fields.iter().zip(&fields[1..]).step_by(2) {
                match value {
                    Tree::Branch(flags) if matches!(field, Tree::Leaf(name) if name.ends_with("doc_flags")) =>
                    {
                        assert_eq!(flags.len(), 1, "{name}");
                    }
                    Tree::Leaf(text) => assert!(!text.is_empty(), "{name}: {field:?}"),
                    Tree::Branch(sub) => count += check(sub, described),
                }
            }
            count += 1;
        }
        count
    }
    let documented = check(Tree::parse(&bytes, &mut 0).branch(), &described);
    assert_eq!(documented, described.len());
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
        if ["shards", "cpus"].contains(&name.as_str()) {
            assert_eq!(got, reply("+OK"), "{name}");
            own += 1;
        }
    }
    assert_eq!(own, 2);
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

/// What a monitor sees, without times and addresses, up to a command that ends it.
fn watched(which: Which) -> Vec<String> {
    let server = Server::start(which, &[]);
    let mut monitor = server.client();
    assert_eq!(monitor.words("MONITOR"), reply("+OK"));
    let (mut client, mut other) = (server.client(), server.client());
    for line in [
        "SET a 1", "MULTI", "SET b 2", "GET b", "EXEC", "MULTI", "BOGUS", "SET c 1", "EXEC",
        "MULTI", "SET c 1", "DISCARD", "WATCH w",
    ] {
        client.words(line);
    }
    other.words("SET w 1");
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
        let (_, words) = text.split_once("] ").expect("a command");
        seen.push(words.trim_end().to_owned());
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
