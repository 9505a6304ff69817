//! Users beyond what a transcript can say: files, restarts, all shards at once.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Got};
use crate::process::{Server, Which, free_port};

fn all() -> [Which; 3] {
    [
        Which::Reference,
        Which::Pinion { shards: 1 },
        Which::Pinion { shards: 4 },
    ]
}

/// A client that is this user, whose password is anything.
fn client_of(server: &Server, user: &str) -> Client {
    let mut client = server.client();
    assert_eq!(client.text(&format!("AUTH {user} x")), "+OK\\r\\n");
    client
}

#[test]
fn users_of_the_configuration_are_rewritten_and_read_again() {
    for which in all() {
        let port = free_port();
        let text = format!(
            "port {port}\nsave \"\"\nuser alice on >secret ~a* &news +@all -@dangerous\nrequirepass top\n\
             user bob (+get ~x*) %R~r*\n# the end\n"
        );
        let mut server = Server::spawn_bare(which, &[("redis.conf", &text)], &["redis.conf"]);
        server.port = port;
        server.wait_until_up();
        let mut client = server.client();
        assert!(client.text("GET k").starts_with("-NOAUTH"), "{which}");
        assert_eq!(client.text("AUTH top"), "+OK\\r\\n", "{which}");
        assert_eq!(client.text("ACL SETUSER carl on nopass +ping"), "+OK\\r\\n");
        assert_eq!(client.text("ACL DELUSER bob"), ":1\\r\\n");
        let users = client.text("ACL LIST");
        assert_eq!(client.text("CONFIG REWRITE"), "+OK\\r\\n", "{which}");
        let file = fs::read_to_string(server.dir.join("redis.conf")).expect("the file");
        let lines: Vec<&str> = file.lines().collect();
        let alice = "user alice on #2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b \
                     ~a* resetchannels &news +@all -@dangerous";
        assert!(lines.contains(&alice), "{which}:\n{file}");
        assert!(
            lines.contains(&"user carl on nopass resetchannels -@all +ping"),
            "{which}:\n{file}"
        );
        assert!(lines.contains(&"# the end"), "{which}:\n{file}");
        assert!(!file.contains("bob"), "{which}:\n{file}");
        drop(server);
        // The folder that the line names went with the first server.
        let kept = lines.iter().filter(|line| !line.starts_with("dir "));
        let file: String = kept.flat_map(|line| [line, "\n"]).collect();
        let mut again = Server::spawn_bare(which, &[("redis.conf", &file)], &["redis.conf"]);
        again.port = port;
        again.wait_until_up();
        let mut client = again.client();
        assert_eq!(client.text("AUTH top"), "+OK\\r\\n", "{which}");
        // A line about the default user begins with its reset, which says this.
        let again = client.text("ACL LIST").replace(" sanitize-payload", "");
        assert_eq!(again.replace("$110", "$93"), users, "{which}");
    }
}

#[test]
fn users_of_a_file_are_saved_and_loaded_whole_or_not_at_all() {
    for which in all() {
        let port = free_port();
        let conf = format!("port {port}\nsave \"\"\naclfile users.acl\n");
        let users = "user alice on nopass ~* +@all\n\nuser default on nopass ~* &* +@all\n";
        let files = [("redis.conf", &*conf), ("users.acl", users)];
        let mut server = Server::spawn_bare(which, &files, &["redis.conf"]);
        server.port = port;
        server.wait_until_up();
        let path = server.dir.join("users.acl");
        let mut client = server.client();
        let mut alice = client_of(&server, "alice");
        assert_eq!(client.text("ACL SETUSER bob on >x +get ~b"), "+OK\\r\\n");
        assert_eq!(client.text("ACL SAVE"), "+OK\\r\\n", "{which}");
        let saved = fs::read_to_string(&path).expect("the file");
        assert_eq!(
            saved,
            "user alice on nopass ~* resetchannels +@all\n\
             user bob on #2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 ~b \
             resetchannels -@all +get\nuser default on nopass ~* &* +@all\n"
        );
        fs::write(&path, "user alice on\nuser alice off\nbogus\n").expect("written");
        let error = client.text("ACL LOAD");
        assert_eq!(
            error,
            "-ERR WARNING: Duplicate user \\'alice\\' found on line 2. users.acl:3 should start with \
             user keyword followed by the username. WARNING: ACL errors detected, no change to the \
             previously active ACL rules was performed\\r\\n",
            "{which}"
        );
        assert_eq!(alice.text("PING"), "+PONG\\r\\n", "{which}");
        fs::write(&path, saved.replace("+get", "+set")).expect("written");
        assert_eq!(client.text("ACL LOAD"), "+OK\\r\\n", "{which}");
        assert_eq!(alice.until_closed(), Got::Closed(Vec::new()), "{which}");
        assert!(
            client.text("ACL GETUSER bob").contains("-@all +set"),
            "{which}"
        );
        fs::remove_file(&path).expect("removed");
        assert_eq!(
            client.text("ACL LOAD"),
            "-ERR Error loading ACLs, opening file \\'users.acl\\': No such file or directory\\r\\n",
            "{which}"
        );
    }
}

#[test]
fn users_stand_in_one_place_and_make_sense() {
    for which in all() {
        let acl = ("users.acl", "user alice on\nuser alice off\n");
        let cases = [
            (
                "aclfile users.acl\nuser bob on\n",
                "please define either an ACL file",
            ),
            (
                "aclfile users.acl\n",
                "Duplicate user 'alice' found on line 2",
            ),
            ("user bob on\nuser bob off\n", "Duplicate user found"),
            ("user bob ~* ~x\n", "Adding a pattern after the * pattern"),
            (
                "user bob +nosuch\n",
                "Error loading ACL rule '+nosuch' for the user named 'bob'",
            ),
        ];
        for (lines, wanted) in cases {
            let conf = format!("port {}\n{lines}", free_port());
            let files = [("redis.conf", &*conf), acl];
            let mut server = Server::spawn_bare(which, &files, &["redis.conf"]);
            assert_eq!(server.exit().code(), Some(1), "{which}: {lines}");
            let log = server.log();
            assert!(log.contains(wanted), "{which}: {lines}\n{log}");
        }
    }
}

#[test]
fn a_change_is_in_force_on_every_shard_when_it_is_answered() {
    let server = Server::start(Which::Pinion { shards: 4 }, &[]);
    let mut admin = server.client();
    let allow = "ACL SETUSER u on nopass ~* +@all";
    assert_eq!(admin.text(allow), "+OK\\r\\n");
    let mut clients: Vec<Client> = (0..16).map(|_| client_of(&server, "u")).collect();
    for round in 0..50 {
        assert_eq!(admin.text("ACL SETUSER u -get"), "+OK\\r\\n");
        for client in &mut clients {
            let reply = client.text("GET k");
            assert!(reply.starts_with("-NOPERM"), "round {round}: {reply}");
        }
        assert_eq!(admin.text("ACL SETUSER u +get"), "+OK\\r\\n");
        for client in &mut clients {
            assert_eq!(client.text("GET k"), "$-1\\r\\n", "round {round}");
        }
    }
    // Refusals are counted on the shards, and kept together.
    let info = admin.text("INFO stats");
    assert!(info.contains("acl_access_denied_cmd:800\\r\\n"), "{info}");
    let log = admin.text("ACL LOG");
    assert!(log.starts_with("*1\\r\\n"), "{log}");
    assert!(log.contains("count\\r\\n:800\\r\\n"), "{log}");
    assert!(log.contains(" cmd=get user=u "), "{log}");
    assert_eq!(admin.text("ACL LOG RESET"), "+OK\\r\\n");
    assert_eq!(admin.text("ACL LOG"), "*0\\r\\n");
    assert!(admin.text("CLIENT LIST").contains(" user=u "));
    assert_eq!(admin.text("CLIENT KILL USER u SKIPME no"), ":16\\r\\n");
    for client in &mut clients {
        assert_eq!(client.until_closed(), Got::Closed(Vec::new()));
    }
    let mut clients: Vec<Client> = (0..16).map(|_| client_of(&server, "u")).collect();
    assert_eq!(admin.text("ACL DELUSER u"), ":1\\r\\n");
    for client in &mut clients {
        assert_eq!(client.until_closed(), Got::Closed(Vec::new()));
    }
}

/// A command that was allowed, and waits for keys that others hold, has run when its user is told to
/// have lost the right to it.
#[test]
fn nothing_that_is_not_allowed_runs_after_the_change_is_answered() {
    for (command, reply) in [("APPEND k w", ":2"), ("MSET k v j w", "+OK")] {
        let server = Server::start(Which::Pinion { shards: 2 }, &[]);
        let (mut admin, mut mover) = (server.client(), server.client());
        admin.text("ACL SETUSER u on nopass ~* +@all");
        // From either shard.
        let mut clients = [client_of(&server, "u"), client_of(&server, "u")];
        assert_eq!(admin.text("SET k v"), "+OK\\r\\n");
        // It accepts nothing: the key is on its way there for a while.
        let nobody = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = nobody.local_addr().expect("an address").port();
        mover.send(format!("MIGRATE 127.0.0.1 {port} k 0 1000\r\n").as_bytes());
        let name = command.split(' ').next().unwrap_or_default();
        let name = name.to_lowercase();
        let listed = |admin: &mut Client, what: &str| {
            let begun = Instant::now();
            while !admin.text("CLIENT LIST").contains(what) {
                assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            }
        };
        listed(&mut admin, "cmd=migrate");
        for client in &mut clients {
            client.send(format!("{command}\r\n").as_bytes());
            listed(&mut admin, &format!("cmd={name} user=u"));
        }
        assert_eq!(
            admin.text(&format!("ACL SETUSER u -{name}")),
            "+OK\\r\\n",
            "{command}"
        );
        let stats = admin.text("INFO commandstats");
        let ran = format!("cmdstat_{name}:calls=2,");
        assert!(stats.contains(&ran), "{command}: {stats}");
        for (client, at) in clients.iter_mut().zip(0..) {
            let reply = match reply.strip_prefix(':') {
                Some(_) => format!(":{}\\r\\n", 2 + at),
                None => format!("{reply}\\r\\n"),
            };
            assert_eq!(client.reply().shown(), reply, "{command}");
            assert!(client.text(command).starts_with("-NOPERM"), "{command}");
        }
    }
}

#[test]
fn who_waits_for_keys_it_may_no_longer_touch_is_refused() {
    let server = Server::start(Which::Pinion { shards: 2 }, &[]);
    let mut admin = server.client();
    assert_eq!(admin.text("ACL SETUSER u on nopass ~* +@all"), "+OK\\r\\n");
    for key in ["a", "b", "c", "d"] {
        let mut client = client_of(&server, "u");
        client.send(format!("BLPOP {key} 0\r\n").as_bytes());
        let begun = Instant::now();
        while !admin.text("INFO clients").contains("blocked_clients:1") {
            assert!(begun.elapsed() < Duration::from_secs(20), "it waits");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(admin.text("ACL SETUSER u resetkeys ~x"), "+OK\\r\\n");
        let refused = b"-NOPERM this user has no permissions to access one of the keys used as \
                        arguments\r\n";
        assert_eq!(client.reply(), Got::Reply(refused.to_vec()));
        assert_eq!(admin.text(&format!("RPUSH {key} v")), ":1\\r\\n");
        assert_eq!(admin.text("ACL SETUSER u allkeys"), "+OK\\r\\n");
        assert_eq!(client.text("PING"), "+PONG\\r\\n");
    }
}

#[test]
fn a_script_stays_within_its_limits_when_its_client_leaves() {
    let script = "for i = 1, 3000 do redis.call('SET', 'a' .. i, i) end \
                  redis.pcall('SET', 'b', 1) return redis.call('SET', 'a-end', 1)";
    let server = Server::start(Which::Pinion { shards: 2 }, &[]);
    let mut admin = server.client();
    for leaves in ["by itself", "with its user"] {
        assert_eq!(admin.text("ACL SETUSER u on nopass ~a* +@all"), "+OK\\r\\n");
        let mut client = client_of(&server, "u");
        client.send(&crate::client::encode(&["EVAL", script, "0"]));
        match leaves {
            "by itself" => drop(client),
            _ => {
                let begun = Instant::now();
                while !admin.text("CLIENT LIST").contains("cmd=eval") {
                    assert!(begun.elapsed() < Duration::from_secs(20), "it begins");
                }
                assert_eq!(admin.text("ACL DELUSER u"), ":1\\r\\n");
            }
        }
        let begun = Instant::now();
        while admin.text("EXISTS a-end") == ":0\\r\\n" {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{leaves}: it ends"
            );
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(admin.text("EXISTS b"), ":0\\r\\n", "{leaves}");
        assert_eq!(admin.text("FLUSHALL"), "+OK\\r\\n");
    }
}
