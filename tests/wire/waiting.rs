//! Clients that wait for keys, replicas or a disk: who sees it, who ends it, and that nobody waits on
//! whose connection is gone.

use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, encode};
use crate::process::{Server, Which};

fn all() -> [Which; 3] {
    [
        Which::Reference,
        Which::Pinion { shards: 1 },
        Which::Pinion { shards: 2 },
    ]
}

/// Looks until `look` finds what it wants.
fn until(what: &str, mut look: impl FnMut() -> Option<()>) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while look().is_none() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The line of a client in CLIENT LIST.
fn line(watcher: &mut Client, id: &str) -> Option<String> {
    let list = watcher.text("CLIENT LIST");
    let mine = |line: &&str| line.contains(&format!("id={id} "));
    list.split("\\n").find(mine).map(str::to_owned)
}

fn id(client: &mut Client) -> String {
    let reply = client.text("CLIENT ID");
    reply.trim_matches([':', '\\', 'r', 'n']).to_owned()
}

fn until_blocked(watcher: &mut Client, id: &str, what: &str) {
    until(what, || {
        line(watcher, id)
            .filter(|line| line.contains(" flags=b "))
            .map(drop)
    });
}

#[test]
fn nobody_waits_whose_connection_is_gone() {
    let set = encode(&["SET", "k", "v"]);
    // What comes behind the command that waits: little, and a little more than is read while it does.
    let behind = [Vec::new(), set.clone(), set.repeat(11_000)];
    for which in all() {
        let server = Server::start(which, &[]);
        let mut watcher = server.client();
        for command in ["BLPOP q 0", "XREAD BLOCK 0 STREAMS s $", "WAIT 1 0"] {
            for behind in &behind {
                let what = format!("{which}: {command} and {} bytes", behind.len());
                let mut client = server.client();
                let id = id(&mut client);
                let words: Vec<&str> = command.split(' ').collect();
                client.send(&encode(&words));
                until_blocked(&mut watcher, &id, &what);
                client.send(behind);
                drop(client);
                until(&what, || line(&mut watcher, &id).is_none().then_some(()));
            }
        }
        assert_eq!(watcher.text("EXISTS k"), ":0\\r\\n", "{which}");
    }
}

#[test]
fn who_waits_for_replicas_or_a_disk_is_blocked_like_any_other() {
    const ERROR: &str = "-UNBLOCKED client unblocked via CLIENT UNBLOCK\\r\\n";
    for which in all() {
        let server = Server::start(which, &["--appendonly", "yes"]);
        let mut watcher = server.client();
        let commands = [
            ("WAIT 2 0", ":0\\r\\n"),
            ("WAITAOF 1 1 0", "*2\\r\\n:1\\r\\n:0\\r\\n"),
        ];
        // WAITAOF is younger than the reference.
        let known = if which == Which::Reference { 1 } else { 2 };
        for (command, reply) in &commands[..known] {
            for (how, reply) in [("TIMEOUT", *reply), ("ERROR", ERROR)] {
                let what = format!("{which}: {command} {how}");
                let mut client = server.client();
                let id = id(&mut client);
                assert_eq!(client.text("SET k v"), "+OK\\r\\n", "{what}");
                if which != Which::Reference {
                    // The disk has it before its part of the wait begins.
                    let local = "*2\\r\\n:1\\r\\n:0\\r\\n";
                    assert_eq!(client.text("WAITAOF 1 0 0"), local, "{what}");
                }
                let words: Vec<&str> = command.split(' ').collect();
                client.send(&encode(&words));
                until_blocked(&mut watcher, &id, &what);
                let clients = watcher.text("INFO clients");
                assert!(
                    clients.contains("blocked_clients:1\\r\\n"),
                    "{what}: {clients}"
                );
                let unblock = format!("CLIENT UNBLOCK {id} {how}");
                assert_eq!(watcher.text(&unblock), ":1\\r\\n", "{what}");
                assert_eq!(client.reply().shown(), reply, "{what}");
                assert_eq!(watcher.text(&unblock), ":0\\r\\n", "{what}");
                assert_eq!(client.text("PING"), "+PONG\\r\\n", "{what}");
            }
        }
    }
}

#[test]
fn who_waits_for_a_disk_is_told_when_there_is_none_any_more() {
    for shards in [1, 2] {
        let server = Server::start(Which::Pinion { shards }, &["--appendonly", "yes"]);
        let mut watcher = server.client();
        let mut waits = |line: &str| {
            let mut client = server.client();
            let id = id(&mut client);
            let words: Vec<&str> = line.split(' ').collect();
            client.send(&encode(&words));
            until_blocked(&mut watcher, &id, line);
            client
        };
        let (mut local, mut remote) = (waits("WAITAOF 1 1 0"), waits("WAITAOF 0 1 0"));
        assert_eq!(
            server.client().text("CONFIG SET appendonly no"),
            "+OK\\r\\n"
        );
        let told = local.reply().shown();
        assert_eq!(
            told,
            "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\\r\\n",
            "{shards} shards"
        );
        // As a replica it has no replicas of its own to wait for.
        assert_eq!(server.client().text("REPLICAOF 127.0.0.1 1"), "+OK\\r\\n");
        let told = remote.until_closed().shown();
        assert!(
            told.contains("-UNBLOCKED force unblock"),
            "{shards} shards: {told}"
        );
    }
}

/// Who is told that a client was unblocked can rely on that: it was not served at that moment.
#[test]
fn a_client_is_unblocked_or_has_what_it_waited_for() {
    for shards in [1, 2, 3] {
        let server = Server::start(Which::Pinion { shards }, &[]);
        let mut others: Vec<Client> = (0..3).map(|_| server.client()).collect();
        let mut waiter = server.client();
        let id = id(&mut waiter);
        for n in 0..300 {
            let other = &mut others[n % 3];
            let serve = match n % 4 {
                0 => {
                    // It is over soon, or at once.
                    waiter.send(b"WAIT 1 1\r\n");
                    String::new()
                }
                _ => {
                    waiter.send(format!("BLPOP list:{n} 0\r\n").as_bytes());
                    until_blocked(other, &id, "BLPOP");
                    format!("RPUSH list:{n} v\r\n")
                }
            };
            other.send(format!("{serve}CLIENT UNBLOCK {id} ERROR\r\n").as_bytes());
            let told = other.replies(1 + usize::from(!serve.is_empty()));
            let is_told = told.last().is_some_and(|it| it.shown() == ":1\\r\\n");
            let got = waiter.reply().shown();
            let is_ended = got.starts_with("-UNBLOCKED");
            assert_eq!(is_told, is_ended, "{shards} shards, {n}: {got}");
        }
    }
}

#[test]
fn no_wait_ends_before_its_time() {
    const MS: u128 = 4;
    for which in all() {
        let server = Server::start(which, &[]);
        let (mut client, mut other) = (server.client(), server.client());
        for round in 0..20 {
            let lasts = |what: &str, wait: &mut dyn FnMut()| {
                let begin = Instant::now();
                wait();
                let took = begin.elapsed();
                assert!(took.as_millis() >= MS, "{which}: {what}: {took:?}");
            };
            for wait in ["BLPOP q 0.004", "XREAD BLOCK 4 STREAMS s $", "WAIT 1 4"] {
                lasts(wait, &mut || drop(client.text(wait)));
            }
            lasts(&format!("pause {round}"), &mut || {
                assert_eq!(other.text("CLIENT PAUSE 4"), "+OK\\r\\n");
                client.text("GET k");
            });
        }
    }
}
