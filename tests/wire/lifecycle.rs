//! Starting, stopping and refusing to start.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Got};
use crate::process::{Server, SharedDir, Which, free_port};

/// Without an option of ours.
const PLAIN: Which = Which::Pinion { shards: 0 };

/// Both servers must behave alike; the reference shows that the test asks for what Redis does.
fn both() -> [Which; 2] {
    [Which::Reference, Which::Pinion { shards: 2 }]
}

#[test]
fn sigterm_and_sigint_end_the_process_in_peace() {
    for which in both() {
        for signal in ["TERM", "INT"] {
            let mut server = Server::start(which, &[]);
            let mut client = server.client();
            assert_eq!(client.text("SET k v"), "+OK\\r\\n");
            server.signal(signal);
            let status = server.exit();
            assert_eq!(status.code(), Some(0), "{which} on {signal}");
            let log = server.log();
            assert!(log.contains("ready to exit, bye bye"), "{which}:\n{log}");
        }
    }
}

#[test]
fn shutdown_ends_the_process_and_its_connections() {
    for which in both() {
        let mut server = Server::start(which, &[]);
        let mut client = server.client();
        assert_eq!(
            client.text("SHUTDOWN BOGUS"),
            "-ERR syntax error\\r\\n",
            "{which}"
        );
        let got = client.words("SHUTDOWN NOSAVE");
        assert_eq!(got, Got::Closed(Vec::new()), "{which}: {}", got.shown());
        assert_eq!(server.exit().code(), Some(0), "{which}");
    }
}

#[test]
fn the_log_announces_the_start() {
    for which in both() {
        let server = Server::start(which, &[]);
        let log = server.log();
        assert!(log.contains("Ready to accept connections"), "{log}");
        // Redis says it in one form on a terminal and in the other elsewhere; supervisors and
        // Redis' own tests look for either.
        let forms = [
            format!("pid={}", server.pid()),
            format!(" PID: {}", server.pid()),
        ];
        assert!(forms.iter().any(|pid| log.contains(pid)), "{which}:\n{log}");
    }
}

#[test]
fn a_server_that_daemonizes_goes_on_without_whoever_started_it() {
    for which in both() {
        let port = free_port();
        let conf =
            format!("port {port}\nsave \"\"\ndaemonize yes\npidfile the.pid\nlogfile the.log\n");
        let mut starter = Server::spawn_bare(which, &[("the.conf", &conf)], &["the.conf"]);
        assert_eq!(starter.exit().code(), Some(0), "{which}");
        let mut client = wait_for(|| Client::tcp(port).ok());
        assert_eq!(wait_for_pong(&mut client, port), "+PONG\\r\\n", "{which}");
        let read = |name: &str| fs::read_to_string(starter.dir.join(name)).unwrap_or_default();
        let pid = read("the.pid");
        let pid = pid.trim_end();
        assert_ne!(pid, starter.pid().to_string(), "{which}");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
        let behind_name = stat.rsplit_once(") ").expect("a name").1;
        // State, parent, group, session.
        let session = behind_name.split(' ').nth(3);
        assert_eq!(session, Some(pid), "{which}: a session of its own");
        assert_eq!(
            client.words("SHUTDOWN NOSAVE"),
            Got::Closed(Vec::new()),
            "{which}"
        );
        wait_for(|| (!starter.dir.join("the.pid").exists()).then_some(()));
        assert!(read("the.log").contains("bye bye"), "{which}");
    }
}

/// The first answer of a server that may still be loading.
fn wait_for_pong(client: &mut Client, port: u16) -> String {
    wait_for(|| {
        let text = client.text("PING");
        if text.starts_with("-LOADING") {
            *client = Client::tcp(port).expect("it listens");
            return None;
        }
        Some(text)
    })
}

/// What `look` finds, sooner or later.
fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it does not happen");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn systemd_is_told_when_clients_are_served_and_when_it_ends() {
    for which in both() {
        let dir = SharedDir::new();
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a timeout");
        let told = |word: &str| {
            let mut bytes = [0; 512];
            loop {
                let len = socket.recv(&mut bytes).expect("systemd is told");
                if String::from_utf8_lossy(&bytes[..len])
                    .lines()
                    .any(|line| line == word)
                {
                    return;
                }
            }
        };
        let port = free_port().to_string();
        let mut args = vec!["--port", &port, "--save", "", "--supervised", "auto"];
        // Somebody who supervises does not want a process that goes away.
        args.extend(["--daemonize", "yes"]);
        let path = path.to_string_lossy();
        let mut server = Server::spawn_under(which, &[("NOTIFY_SOCKET", &path)], &[], &args);
        told("READY=1");
        let port = port.parse().expect("a port");
        let info = Client::tcp(port).expect("it serves").text("INFO server");
        assert!(
            info.contains("process_supervised:systemd"),
            "{which}: {info}"
        );
        server.signal("TERM");
        told("STOPPING=1");
        assert_eq!(server.exit().code(), Some(0), "{which}");
    }
}

#[test]
fn more_shards_than_cpus_serve_with_a_warning() {
    let server = Server::start(Which::Pinion { shards: 16 }, &[]);
    let mut client = server.client();
    assert_eq!(client.text("MSET a 1 b 2 c 3 d 4"), "+OK\\r\\n");
    assert_eq!(client.text("DEL a b c d e"), ":4\\r\\n");
    let log = server.log();
    assert!(log.contains("more shards than CPUs"), "{log}");
}

#[test]
fn a_busy_port_is_refused() {
    for which in both() {
        let first = Server::start(which, &[]);
        let mut second = Server::spawn(which, first.port, &[]);
        assert_eq!(second.exit().code(), Some(1), "{which}");
        let log = second.log();
        assert!(log.contains("Failed listening on port"), "{which}:\n{log}");
        assert!(log.contains("Address already in use"), "{which}:\n{log}");
        assert_eq!(first.client().text("PING"), "+PONG\\r\\n", "{which}");
    }
}

#[test]
fn a_unix_socket_has_the_permissions_asked_for() {
    for which in both() {
        let path = std::env::temp_dir().join(format!("pinion-wire-{}.sock", free_port()));
        let text = path.to_string_lossy().into_owned();
        let mut server = Server::start(which, &["--unixsocket", &text, "--unixsocketperm", "700"]);
        let mode = fs::metadata(&path)
            .expect("the socket")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{which}");
        let mut client = Client::unix(&path).expect("connect");
        assert_eq!(client.text("SET k v"), "+OK\\r\\n", "{which}");
        assert_eq!(server.client().text("GET k"), "$1\\r\\nv\\r\\n", "{which}");
        let info = client.text("CLIENT INFO");
        assert!(info.contains(&format!("addr={text}:0")), "{which}: {info}");
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(0), "{which}");
        assert!(!path.exists(), "{which} left its socket behind");
    }
}

/// Starts with a configuration and expects a refusal that says all of `words`.
fn refused(text: &str, words: &[&str]) {
    for which in both() {
        let mut server = Server::spawn_bare(which, &[("redis.conf", text)], &["redis.conf"]);
        assert_eq!(server.exit().code(), Some(1), "{which}: {text}");
        let log = server.log();
        for word in words {
            assert!(log.contains(word), "{which}: `{word}` not in:\n{log}");
        }
    }
}

#[test]
fn configuration_errors_name_line_and_reason() {
    refused(
        "port 0\nbogus yes\n",
        &[
            "*** FATAL CONFIG FILE ERROR (Redis ",
            "Reading the configuration file, at line 2",
            ">>> 'bogus yes'",
            "Bad directive or wrong number of arguments",
        ],
    );
    refused(
        "\n\nmaxmemory 1xb\n",
        &[
            "at line 3",
            ">>> 'maxmemory 1xb'",
            "argument must be a memory value",
        ],
    );
    refused(
        "appendfsync sometimes\n",
        &["at line 1", "argument(s) must be one of the following"],
    );
    refused("port \"1\n", &["at line 1", "Unbalanced quotes"]);
    refused(
        "timeout -1\n",
        &[
            "at line 1",
            "argument must be between 0 and 2147483647 inclusive",
        ],
    );
    refused(
        "rename-command nosuch x\n",
        &["at line 1", "No such command in rename-command"],
    );
    refused("include nosuch.conf\n", &["nosuch.conf"]);
}

#[test]
fn a_missing_configuration_file_is_fatal() {
    for which in both() {
        let mut server = Server::spawn_bare(which, &[], &["nosuch.conf"]);
        assert_eq!(server.exit().code(), Some(1), "{which}");
        let log = server.log();
        assert!(
            log.contains("Fatal error, can't open config file"),
            "{which}:\n{log}"
        );
    }
}

#[test]
fn the_command_line_overrides_the_file() {
    for which in both() {
        let port = free_port();
        let text =
            "maxmemory 1mb\nhz 50\nsave 10 10\ninclude more.conf\nrename-command FLUSHDB WIPE\n";
        let files = [
            ("redis.conf", text),
            ("more.conf", "# a comment\nslowlog-max-len 7\n"),
        ];
        let port_text = port.to_string();
        let args = [
            "redis.conf",
            "--port",
            &port_text,
            "--hz",
            "20",
            "--save",
            "",
        ];
        let mut server = Server::spawn_bare(which, &files, &args);
        server.port = port;
        server.wait_until_up();
        let mut client = server.client();
        for (name, value) in [
            ("maxmemory", "1048576"),
            ("hz", "20"),
            ("slowlog-max-len", "7"),
            ("save", ""),
        ] {
            let got = client.text(&format!("CONFIG GET {name}"));
            let wanted = format!(
                "*2\\r\\n${}\\r\\n{name}\\r\\n${}\\r\\n{value}\\r\\n",
                name.len(),
                value.len()
            );
            assert_eq!(got, wanted, "{which}");
        }
        assert_eq!(client.text("WIPE"), "+OK\\r\\n", "{which}");
        assert!(client.text("FLUSHDB").starts_with("-ERR unknown command"));
    }
}

/// What a command does is told by its row, not by the name it was called by.
#[test]
fn renamed_commands_keep_their_form() {
    let text = "rename-command SORT_RO look\nrename-command GEORADIUS_RO gread\n\
                rename-command GEORADIUSBYMEMBER gmember\nrename-command GEOSEARCHSTORE gkeep\n\
                rename-command LPOP lout\nrename-command ZUNION unite\n\
                rename-command SINTERCARD common\nrename-command XINFO xtell\n\
                rename-command XGROUP xset\nrename-command FAILOVER swap\n";
    let asked = [
        ("RPUSH l 3 1 2", ":3\\r\\n"),
        ("look l STORE d", "-ERR syntax error\\r\\n"),
        (
            "lout l 1 2",
            "-ERR wrong number of arguments for \\'lpop\\' command\\r\\n",
        ),
        (
            "unite 0 a",
            "-ERR at least 1 input key is needed for \\'zunion\\' command\\r\\n",
        ),
        (
            "common 2 a",
            "-ERR Number of keys can\\'t be greater than number of args\\r\\n",
        ),
        ("GEOADD g 1 1 x", ":1\\r\\n"),
        ("gread g 1 1 1 km STORE d", "-ERR syntax error\\r\\n"),
        ("gmember g x 1 km", "*1\\r\\n$1\\r\\nx\\r\\n"),
        ("gmember g x 1 km STORE d", ":1\\r\\n"),
        ("gkeep e g FROMMEMBER x BYRADIUS 1 km", ":1\\r\\n"),
        (
            "xtell none s",
            "-ERR unknown subcommand \\'none\\'. Try XTELL HELP.\\r\\n",
        ),
        ("swap abort", "-ERR No failover in progress.\\r\\n"),
    ];
    for which in both() {
        let port = free_port();
        let args = ["redis.conf", "--port", &port.to_string()];
        let mut server = Server::spawn_bare(which, &[("redis.conf", text)], &args);
        server.port = port;
        server.wait_until_up();
        let mut client = server.client();
        for (line, reply) in asked {
            assert_eq!(client.text(line), reply, "{which}: {line}");
        }
        for (line, part) in [
            ("xtell HELP", "+CONSUMERS <key> <groupname>"),
            ("xset HELP", "+DESTROY <key> <groupname>"),
        ] {
            assert!(client.text(line).contains(part), "{which}: {line}");
        }
    }
}

/// What is said of a container calls it what the client called it.
#[test]
fn help_goes_by_the_name_that_was_used() {
    let containers = [
        "ACL", "CLIENT", "COMMAND", "CONFIG", "DEBUG", "FUNCTION", "LATENCY", "MEMORY", "MODULE",
        "OBJECT", "PUBSUB", "SCRIPT", "SLOWLOG", "XGROUP", "XINFO",
    ];
    let renames = containers.map(|name| format!("rename-command {name} my{name}\n"));
    let text = format!(
        "enable-debug-command yes\nenable-module-command yes\n{}",
        renames.concat()
    );
    let mut refusals = Vec::new();
    for which in both() {
        let port = free_port();
        let args = ["redis.conf", "--port", &port.to_string()];
        let mut server = Server::spawn_bare(which, &[("redis.conf", &text)], &args);
        server.port = port;
        server.wait_until_up();
        let mut client = server.client();
        for name in containers {
            let told = client.text(&format!("My{name} help"));
            let heading = format!("\\r\\n+MY{name} <subcommand> [<arg> [value] [opt] ...]. ");
            assert!(told.contains(&heading), "{which}: {told}");
        }
        let wrong = [
            "myclient pause 1 2 3",
            "mypubsub channels a b",
            "myxgroup create key group $ a b c",
            "myxinfo stream key a",
            "myslowlog get 1 2",
            "myacl genpass 1 2",
            "mydebug sleep",
        ];
        refusals.push(wrong.map(|line| client.text(line)));
    }
    assert_eq!(refusals[0], refusals[1]);
    assert!(
        refusals[0][1].contains("Try MYPUBSUB HELP."),
        "{refusals:?}"
    );
}

/// Redis tells XREADGROUP by the length of its name, so that it would take no group here.
#[test]
fn a_renamed_xreadgroup_takes_a_group() {
    let port = free_port();
    let files = [("redis.conf", "rename-command XREADGROUP take\n")];
    let args = ["redis.conf", "--port", &port.to_string()];
    let mut server = Server::spawn_bare(PLAIN, &files, &args);
    server.port = port;
    server.wait_until_up();
    let mut client = server.client();
    assert_eq!(client.text("XGROUP CREATE s g 0 MKSTREAM"), "+OK\\r\\n");
    assert_eq!(client.text("XADD s 1-1 f v"), "$3\\r\\n1-1\\r\\n");
    let got = client.text("take GROUP g c STREAMS s >");
    assert!(got.contains("1-1"), "{got}");
}

#[test]
fn config_rewrite_keeps_what_was_set() {
    for which in both() {
        let port = free_port();
        let text = format!("# mine\nport {port}\nmaxmemory 1mb\n");
        let mut server = Server::spawn_bare(which, &[("redis.conf", &text)], &["redis.conf"]);
        server.port = port;
        server.wait_until_up();
        let mut client = server.client();
        assert_eq!(client.text("CONFIG SET maxmemory 2mb hz 33"), "+OK\\r\\n");
        assert_eq!(client.text("CONFIG REWRITE"), "+OK\\r\\n", "{which}");
        let file = fs::read_to_string(server.dir.join("redis.conf")).expect("the file");
        assert!(file.starts_with("# mine\n"), "{which}:\n{file}");
        assert!(file.contains(&format!("port {port}\n")), "{which}:\n{file}");
        assert!(file.contains("maxmemory 2mb\n"), "{which}:\n{file}");
        assert!(file.contains("hz 33\n"), "{which}:\n{file}");
    }
}

/// The process is the same, and what it was told before its end holds. Redis does the same when it is
/// not found by the search path.
#[test]
fn debug_restart_begins_anew_with_all_that_was_there() {
    for which in [1, 2].map(|shards| Which::Pinion { shards }) {
        let port = free_port();
        let text = format!("port {port}\nenable-debug-command yes\nsave 900 1\n");
        let mut server = Server::spawn_bare(which, &[("redis.conf", &text)], &["redis.conf"]);
        server.port = port;
        server.wait_until_up();
        let mut client = server.client();
        for ask in ["SET kept 1", "CONFIG SET maxmemory 2mb"] {
            assert_eq!(client.text(ask), "+OK\\r\\n");
        }
        let wrong = "-ERR value is not an integer or out of range\\r\\n";
        assert_eq!(client.text("DEBUG RESTART soon"), wrong);
        let reply = client.words("DEBUG RESTART 10");
        assert!(!matches!(reply, Got::Reply(_)), "{}", reply.shown());
        server.wait_until_up();
        let mut client = server.client();
        assert_eq!(client.text("GET kept"), "$1\\r\\n1\\r\\n", "{which}");
        let limit = client.text("CONFIG GET maxmemory");
        assert!(limit.contains("2097152"), "{which}: {limit}");
        let pid = format!("process_id:{}\\r\\n", server.pid());
        assert!(client.text("INFO server").contains(&pid), "{which}");
        assert!(server.log().contains("ready to exit, bye bye"), "{which}");
        // It is one that ends as any other.
        server.signal("TERM");
        assert_eq!(server.exit().code(), Some(0), "{which}");
    }
}

#[test]
fn debug_crash_and_recover_saves_nothing() {
    for which in [1, 2].map(|shards| Which::Pinion { shards }) {
        for kept in [true, false] {
            let options: &[&str] = match kept {
                true => &["--appendonly", "yes", "--appendfsync", "always"],
                false => &["--save", "900 1"],
            };
            let mut server = Server::start(which, options);
            let mut client = server.client();
            assert_eq!(client.text("SET k 1"), "+OK\\r\\n");
            let reply = client.words("DEBUG CRASH-AND-RECOVER");
            assert!(!matches!(reply, Got::Reply(_)), "{}", reply.shown());
            server.wait_until_up();
            let found = server.client().text("EXISTS k");
            assert_eq!(found, format!(":{}\\r\\n", u8::from(kept)), "{which}");
            assert!(!server.log().contains("bye bye"), "{which}");
        }
    }
}

#[test]
fn debug_oom_ends_the_process_with_a_word() {
    for which in both() {
        let mut server = Server::start(which, &[]);
        let reply = server.client().words("DEBUG OOM");
        assert!(!matches!(reply, Got::Reply(_)), "{}", reply.shown());
        assert!(!server.exit().success(), "{which}");
        let log = server.log();
        assert!(
            log.contains("Out Of Memory allocating 9223372036854775807 bytes!"),
            "{log}"
        );
    }
}

#[test]
fn version_and_help_answer_without_starting() {
    for (flag, word) in [("--version", "pinion"), ("--help", "--shards")] {
        let mut server = Server::spawn_bare(PLAIN, &[], &[flag]);
        assert_eq!(server.exit().code(), Some(0), "{flag}");
        let log = server.log().to_lowercase();
        assert!(log.contains(word), "{flag}:\n{log}");
    }
}

/// The number behind `name` in a reply.
fn number_after(reply: &str, name: &str) -> i64 {
    let rest = reply.split_once(name).map_or("", |(_, rest)| rest);
    let rest = rest
        .trim_start_matches(|c| c != ':')
        .trim_start_matches(':');
    let digits = rest.split("\\r").next().unwrap_or_default();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("{name} in {reply}"))
}

#[test]
fn what_is_read_from_the_append_only_file_keeps_its_times() {
    for which in both() {
        let on = ["--appendonly", "yes"];
        let mut server = Server::start(which, &on);
        let mut client = server.client();
        for line in [
            "XGROUP CREATE x g 0 MKSTREAM",
            "XADD x 1-1 f v",
            "XREADGROUP GROUP g reader STREAMS x >",
            "XGROUP CREATECONSUMER x g other",
            "SET k v",
        ] {
            assert!(matches!(client.words(line), Got::Reply(_)), "{line}");
        }
        let pending = client.text("XINFO STREAM x FULL");
        let (_, delivered) = pending.split_once("pending\\r\\n").expect(&pending);
        let delivered = delivered.split("reader\\r\\n").nth(1).expect(delivered);
        let delivered = delivered.split("\\r\\n").next().expect("a time");
        assert!(delivered.len() > ":1000000000000".len() - 1, "{pending}");
        server.kill();
        let mut again = Server::start_in(which, &server.dir, &on);
        again.wait_until_up();
        let mut client = again.client();
        let pending = client.text("XINFO STREAM x FULL");
        assert!(pending.contains(delivered), "{which}: {pending}");
        // Both have been seen, and the key used, when they were read at the latest.
        const DAY_MS: i64 = 86_400_000;
        let consumers = client.text("XINFO CONSUMERS x g");
        for of in ["other", "reader"] {
            let (_, its) = consumers.split_once(of).expect("the consumer");
            assert!(number_after(its, "idle") < DAY_MS, "{which}: {consumers}");
        }
        let idle = client.text("OBJECT IDLETIME k");
        assert!(
            number_after(&format!(" {idle}"), " ") < 86_400,
            "{which}: {idle}"
        );
    }
}

/// Asks for each of `asked` and returns the replies.
fn told(client: &mut Client, asked: &[&[&[u8]]]) -> Vec<String> {
    asked
        .iter()
        .map(|words| client.call(words).shown())
        .collect()
}

/// In files, in CONFIG SET and behind CONFIG REWRITE.
#[test]
fn what_a_server_is_told_may_be_any_bytes() {
    let shared = SharedDir::new();
    let raw = b"masterauth m\xe9\nrename-command ECHO say\xfe\nuser u\xff on >pw\xfe ~* +@all\n";
    let file = shared.join("redis.conf").display().to_string();
    let folder = shared.join(OsStr::from_bytes(b"d\xff"));
    fs::create_dir(&folder).expect("create a folder");
    let folder = folder.as_os_str().as_bytes();
    let asked: &[&[&[u8]]] = &[
        &[b"AUTH", b"p\xfe"],
        &[b"AUTH", b"p\xef\xbf\xbd"],
        &[b"AUTH", b"p\xff"],
        &[b"CONFIG", b"GET", b"requirepass"],
        &[b"CONFIG", b"GET", b"dbfilename"],
        &[b"CONFIG", b"GET", b"masterauth"],
        &[b"say\xfe", b"hello"],
        &[b"AUTH", b"u\xff", b"pw\xfe"],
        &[b"ACL", b"WHOAMI"],
        &[b"CONFIG", b"SET", b"requirepass", b"q\xfe \"\xc3\xa9\""],
        &[b"AUTH", b"default", b"p\xff"],
        &[b"AUTH", b"default", b"q\xfe \"\xc3\xa9\""],
        &[b"CONFIG", b"SET", b"dir", folder],
        &[b"CONFIG", b"GET", b"dir"],
        &[b"CONFIG", b"SET", b"no\xffsuch", b"1"],
        &[b"CONFIG", b"SET", b"maxmemory", b"1\xff"],
        &[b"CONFIG", b"SET", b"masteruser", b"u\xff"],
        &[b"SET", b"k", b"v"],
        &[b"SAVE"],
        &[b"CONFIG", b"REWRITE"],
    ];
    let again: &[&[&[u8]]] = &[
        &[b"AUTH", b"p\xff"],
        &[b"AUTH", b"q\xfe \"\xc3\xa9\""],
        &[b"CONFIG", b"GET", b"masterauth"],
        &[b"CONFIG", b"GET", b"masteruser"],
        &[b"CONFIG", b"GET", b"dir"],
        &[b"GET", b"k"],
        &[b"AUTH", b"u\xff", b"pw\xfe"],
    ];
    let mut wanted = None;
    for which in [
        Which::Reference,
        Which::Pinion { shards: 1 },
        Which::Pinion { shards: 2 },
    ] {
        let port = free_port();
        let text = format!(
            "port {port}\nrequirepass \"p\\xff\"\ndbfilename \"d\\xfe.rdb\"\nlogfile \"l\\xfd.log\"\n\
             save \"\"\nenable-protected-configs yes\n"
        );
        fs::write(&file, [text.as_bytes(), raw].concat()).expect("write a file");
        let mut server = Server::spawn_bare(which, &[], &[&file]);
        server.port = port;
        server.wait_until_up();
        let mut got = told(&mut server.client(), asked);
        assert!(
            server.dir.join(OsStr::from_bytes(b"l\xfd.log")).exists(),
            "{which}"
        );
        let saved = [folder, b"/d\xfe.rdb"].concat();
        assert!(Path::new(OsStr::from_bytes(&saved)).exists(), "{which}");
        server.kill();
        // The kernel may take a while to close the killed one's socket.
        let port = free_port();
        let args = [file.as_str(), "--port", &port.to_string()];
        let mut next = Server::spawn_bare(which, &[], &args);
        next.port = port;
        next.wait_until_up();
        let mut client = next.client();
        got.extend(told(&mut client, &again[..2]));
        // Who has not authenticated is not told that it is still loading.
        while client.text("PING") != "+PONG\\r\\n" {
            thread::sleep(Duration::from_millis(10));
        }
        got.extend(told(&mut client, &again[2..]));
        drop(next);
        fs::remove_file(OsStr::from_bytes(&saved)).expect("the snapshot");
        let wanted = wanted.get_or_insert_with(|| got.clone());
        assert_eq!(&got, wanted, "{which}");
    }
}

#[test]
fn a_replica_s_password_may_be_any_bytes() {
    let master = Server::start(Which::Pinion { shards: 2 }, &[]);
    let mut client = master.client();
    assert_eq!(client.text("SET k v"), "+OK\\r\\n");
    let set: &[&[&[u8]]] = &[&[b"CONFIG", b"SET", b"requirepass", b"\xff"]];
    assert_eq!(told(&mut client, set), ["+OK\\r\\n"]);
    let replica = Server::start(Which::Pinion { shards: 2 }, &[]);
    let mut replica = replica.client();
    let set: &[&[&[u8]]] = &[&[b"CONFIG", b"SET", b"masterauth", b"\xff"]];
    assert_eq!(told(&mut replica, set), ["+OK\\r\\n"]);
    replica.text(&format!("REPLICAOF 127.0.0.1 {}", master.port));
    crate::replicas::wait_until_linked(&mut replica);
    assert_eq!(replica.text("GET k"), "$1\\r\\nv\\r\\n");
}
