//! Rewrites of the append-only file that fail: nothing is lost, and they do not go on for ever.

use std::fs;
use std::path::{Path, PathBuf};

use crate::client::Client;
use crate::persistence::{info, line, wait_for};
use crate::process::{Server, Which};

const EVERYWHERE: [Which; 3] = [
    Which::Pinion { shards: 1 },
    Which::Pinion { shards: 3 },
    Which::Reference,
];

/// Stands where a base is to be: the rewrite cannot end.
fn obstacle(server: &Server, seq: u32) -> PathBuf {
    let name = format!("appendonlydir/appendonly.aof.{seq}.base.rdb");
    let path = server.dir.join(name);
    fs::create_dir_all(&path).expect("an obstacle");
    path
}

/// The kinds of the files that the manifest names.
fn kinds(dir: &Path) -> String {
    let path = dir.join("appendonlydir/appendonly.aof.manifest");
    let text = fs::read_to_string(path).expect("a manifest");
    let kind = |line: &str| line.split(" type ").nth(1).and_then(|it| it.chars().next());
    text.lines().filter_map(kind).collect()
}

fn segments(dir: &Path) -> usize {
    let files = fs::read_dir(dir.join("appendonlydir")).expect("a directory");
    let names = files.map(|file| file.expect("a file").file_name());
    let is_segment = |name: &std::ffi::OsString| name.to_string_lossy().ends_with(".incr.aof");
    names.filter(is_segment).count()
}

fn restarted(server: &mut Server) -> Server {
    server.signal("KILL");
    server.exit();
    let which = Which::Pinion { shards: 2 };
    let mut again = Server::start_in(which, &server.dir, &["--appendonly", "yes"]);
    again.wait_until_up();
    let mut client = again.client();
    wait_for("the recovery", || info(&mut client, "loading") == "0");
    again
}

fn fails_to_rewrite(client: &mut Client, failures: u32) {
    let begun = line(client, "BGREWRITEAOF");
    assert!(begun.starts_with("+Background"), "{begun}");
    wait_for("the failure", || {
        info(client, "aof_rewrites_consecutive_failures") == failures.to_string()
    });
    assert_eq!(info(client, "aof_last_bgrewrite_status"), "err");
    assert_eq!(info(client, "aof_rewrite_scheduled"), "0");
}

#[test]
fn a_rewrite_that_fails_waits_for_who_wants_it() {
    for which in EVERYWHERE {
        let mut server = Server::start(which, &["--appendonly", "yes"]);
        let shards = match which {
            Which::Pinion { shards } => shards as usize,
            Which::Reference => 1,
        };
        let mut client = server.client();
        let obstacle = obstacle(&server, 2);
        for failures in 1..=3 {
            line(&mut client, &format!("SET failures {failures}"));
            fails_to_rewrite(&mut client, failures);
            let segments = "i".repeat(shards * (1 + failures as usize));
            assert_eq!(kinds(&server.dir), format!("b{segments}"));
        }
        // Growth asks for one, and has to wait.
        for ask in [
            "CONFIG SET auto-aof-rewrite-percentage 1 auto-aof-rewrite-min-size 1kb",
            &format!("SET large {}", "x".repeat(200_000)),
        ] {
            assert_eq!(line(&mut client, ask), "+OK");
        }
        let told = "repeatedly failed and triggered the limit, will retry in 1 minutes";
        wait_for("the limit", || server.log().contains(told));
        assert_eq!(info(&mut client, "aof_rewrite_in_progress"), "0");
        assert_eq!(info(&mut client, "aof_rewrites_consecutive_failures"), "3");
        // Who asks is not limited.
        let grows = "CONFIG SET auto-aof-rewrite-percentage 0";
        assert_eq!(line(&mut client, grows), "+OK");
        fs::remove_dir(obstacle).expect("removed");
        let begun = line(&mut client, "BGREWRITEAOF");
        assert!(begun.starts_with("+Background"), "{begun}");
        wait_for("the rewrite", || {
            info(&mut client, "aof_last_bgrewrite_status") == "ok"
        });
        assert_eq!(info(&mut client, "aof_rewrites_consecutive_failures"), "0");
        assert_eq!(kinds(&server.dir), format!("b{}", "i".repeat(shards)));
        if which != Which::Reference {
            line(&mut client, "SET behind it");
            let digest = line(&mut client, "DEBUG DIGEST");
            let again = restarted(&mut server);
            assert_eq!(line(&mut again.client(), "DEBUG DIGEST"), digest);
        }
    }
}

#[test]
fn a_file_that_could_not_begin_leaves_nothing_and_begins_later() {
    for shards in [1, 3] {
        let mut server = Server::start(Which::Pinion { shards }, &[]);
        let mut client = server.client();
        let obstacle = obstacle(&server, 1);
        line(&mut client, "SET counted 1");
        assert_eq!(line(&mut client, "CONFIG SET appendonly yes"), "+OK");
        wait_for("the failure", || {
            info(&mut client, "aof_last_bgrewrite_status") == "err"
        });
        wait_for("the end of its segments", || segments(&server.dir) == 0);
        assert!(server.log().contains("Removing the temp incr aof file"));
        // It is in none of the segments that are left, and in the base.
        line(&mut client, "INCR counted");
        fs::remove_dir(obstacle).expect("removed");
        wait_for("the rewrite", || info(&mut client, "aof_rewrites") == "1");
        assert_eq!(info(&mut client, "aof_last_bgrewrite_status"), "ok");
        assert_eq!(
            kinds(&server.dir),
            format!("b{}", "i".repeat(shards as usize))
        );
        assert_eq!(segments(&server.dir), shards as usize);
        line(&mut client, "INCR counted");
        let again = restarted(&mut server);
        assert_eq!(line(&mut again.client(), "GET counted"), "$1\\r\\n3");
    }
}

#[test]
fn a_rewrite_that_cannot_begin_is_refused() {
    for which in EVERYWHERE {
        let server = Server::start(which, &[]);
        let mut client = server.client();
        fs::write(server.dir.join("appendonlydir"), "no directory").expect("a file");
        assert_eq!(
            line(&mut client, "BGREWRITEAOF"),
            "-ERR Can\\'t execute an AOF background rewriting. Please check the server logs for more \
             information."
        );
        assert_eq!(info(&mut client, "aof_last_bgrewrite_status"), "err");
        assert_eq!(info(&mut client, "aof_rewrite_in_progress"), "0");
    }
}

#[test]
fn the_first_base_tells_when_it_was_made() {
    let mut server = Server::start(Which::Pinion { shards: 2 }, &["--appendonly", "yes"]);
    let log = restarted(&mut server).log();
    let age = log.split("RDB age ").nth(1).expect("it is told");
    let seconds = age.split(' ').next().and_then(|it| it.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| seconds < 86_400), "{log}");
}

/// Redis refuses an end that would be the end of what is being written, not of what is to begin later.
#[test]
fn a_file_that_is_yet_to_begin_does_not_keep_the_server() {
    let pinion = [1, 2].map(|shards| Which::Pinion { shards });
    for which in [Which::Reference].into_iter().chain(pinion) {
        let mut server = Server::start(which, &["--rdb-key-save-delay", "1000000"]);
        let mut client = server.client();
        client.text("MSET a 1 b 2 c 3 d 4 e 5 f 6 g 7 h 8 i 9 j 10");
        assert_eq!(line(&mut client, "BGSAVE"), "+Background saving started");
        assert_eq!(line(&mut client, "CONFIG SET appendonly yes"), "+OK");
        assert_eq!(info(&mut client, "aof_rewrite_scheduled"), "1", "{which}");
        client.send(b"SHUTDOWN NOSAVE\r\n");
        assert_eq!(client.until_closed().shown(), " <closed>", "{which}");
        assert!(server.exit().success(), "{which}");
    }
}
