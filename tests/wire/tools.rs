//! The program's tools on files, beside those of Redis.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::process::{Server, SharedDir, Which};

const PINION: &str = env!("CARGO_BIN_EXE_pinion");

fn fixtures() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rdb");
    let manifest = fs::read_to_string(folder.join("manifest.tsv")).expect("manifest.tsv");
    let row = |line: &str| {
        let mut columns = line.split('\t');
        let path = folder.join(columns.next().expect("a file"));
        (path, columns.nth(1).expect("a verdict").to_string())
    };
    manifest.lines().skip(1).map(row).collect()
}

fn run(program: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(args).output().expect(program);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

/// What is written of an intact file is written by both, line by line.
#[test]
fn check_rdb_tells_what_redis_check_rdb_tells() {
    let mut compared = 0;
    for (path, verdict) in fixtures() {
        let file = path.to_string_lossy();
        let (code, told, _) = run(PINION, &["check-rdb", &file]);
        // Newer versions are checked here and not there.
        if verdict == "newer" {
            continue;
        }
        let (redis_code, redis_told, _) = run("redis-check-rdb", &[&file]);
        assert_eq!(code, redis_code, "{file}:\n{told}\n{redis_told}");
        match code {
            // An AUX field there holds a zero, where redis-check-rdb stops printing it.
            Some(0) if file.ends_with("misc_with_stream.rdb") => {}
            Some(0) => assert_eq!(told, redis_told, "{file}"),
            _ => assert!(
                told.contains("--- RDB ERROR DETECTED ---\n"),
                "{file}:\n{told}"
            ),
        }
        compared += 1;
    }
    assert!(compared > 60, "{compared}");
}

#[test]
fn check_rdb_says_where_the_damage_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rdb");
    let told = |name: &str| {
        let path = folder.join(name);
        let (code, told, _) = run(PINION, &["check-rdb", &path.to_string_lossy()]);
        assert_eq!(code, Some(1), "{told}");
        told
    };
    let damaged = told("hdt3213/zipmap_big_len.rdb");
    for line in [
        "[offset 34] Zipmap integrity check failed",
        "[additional info] While doing: read-object-value",
        "[additional info] Reading key 'zimap_doesnt_compress'",
        "[additional info] Reading type 9 (hash-zipmap)",
        "[info] 1 keys read",
    ] {
        assert!(damaged.contains(line), "{line}:\n{damaged}");
    }
    assert!(told("librdb/invalid_chksum_v8.rdb").contains("] RDB CRC error ("));
    assert!(told("librdb/future_v19.rdb").contains("] Can't handle RDB format version 99\n"));
    let (code, _, complaint) = run(PINION, &["check-rdb", "/nonexistent.rdb"]);
    assert_eq!(code, Some(1));
    assert!(
        complaint.contains("Cannot read /nonexistent.rdb"),
        "{complaint}"
    );
    let (code, told, _) = run(PINION, &["check-rdb", "/dev/null"]);
    assert_eq!(code, Some(1));
    assert!(
        told.contains("[offset 0] Unexpected EOF reading RDB file"),
        "{told}"
    );
    let (code, _, usage) = run(PINION, &["check-rdb"]);
    assert_eq!(
        (code, usage.as_str()),
        (Some(1), "Usage: pinion check-rdb <rdb-file-name>\n")
    );
}

/// Redis writes a file, and every key of it is listed.
#[test]
fn dump_rdb_lists_every_key() {
    let mut server = Server::start(Which::Reference, &[]);
    let mut client = server.client();
    for command in [
        "SET text hello PXAT 4102444800123",
        "SET number 12345",
        "RPUSH list a b c",
        "SADD ints 1 2 3",
        "SADD words one two",
        "HSET hash f v g w",
        "ZADD zset 1.5 m",
        "XADD stream 5-1 f v",
        "SELECT 3",
        "SET quo\"te x",
    ] {
        client.text(command);
    }
    assert_eq!(client.text("SAVE"), "+OK\\r\\n");
    let file = server.dir.join("dump.rdb");
    let (code, listed, complaint) = run(PINION, &["dump-rdb", &file.to_string_lossy()]);
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    let mut lines: Vec<&str> = listed.lines().collect();
    lines.sort_unstable();
    let expected = [
        r#"{"db":0,"key":"hash","type":"hash","encoding":"hash-listpack","expire_at_ms":null,"size":20,"elements":2}"#,
        r#"{"db":0,"key":"ints","type":"set","encoding":"set-intset","expire_at_ms":null,"size":15,"elements":3}"#,
        r#"{"db":0,"key":"list","type":"list","encoding":"quicklist-v2","expire_at_ms":null,"size":19,"elements":3}"#,
        r#"{"db":0,"key":"number","type":"string","encoding":"string","expire_at_ms":null,"size":3,"elements":5}"#,
        r#"{"db":0,"key":"stream","type":"stream","encoding":"stream-v2","expire_at_ms":null,"size":57,"elements":1}"#,
        r#"{"db":0,"key":"text","type":"string","encoding":"string","expire_at_ms":4102444800123,"size":6,"elements":5}"#,
        r#"{"db":0,"key":"words","type":"set","encoding":"set-hashtable","expire_at_ms":null,"size":9,"elements":2}"#,
        r#"{"db":0,"key":"zset","type":"zset","encoding":"zset-listpack","expire_at_ms":null,"size":16,"elements":1}"#,
        r#"{"db":3,"key":"quo\"te","type":"string","encoding":"string","expire_at_ms":null,"size":2,"elements":1}"#,
    ];
    assert_eq!(lines, expected, "{}", lines.join("\n"));
    // Cut short, it lists what is whole and complains about the rest.
    let whole = fs::read(&file).expect("the file");
    let cut = server.dir.join("cut.rdb");
    fs::write(&cut, &whole[..whole.len() - 12]).expect("write");
    let (code, listed, complaint) = run(PINION, &["dump-rdb", &cut.to_string_lossy()]);
    assert_eq!(code, Some(1));
    assert_eq!(listed.lines().count(), 8);
    assert!(
        complaint.contains("offset ") && complaint.contains("too early"),
        "{complaint}"
    );
    server.signal("TERM");
    assert!(server.exit().success());
}

/// What both say of the same directory, whole and with its end cut off.
#[test]
fn check_aof_tells_what_redis_check_aof_tells() {
    for (which, shards) in [(Which::Reference, 1), (Which::Pinion { shards: 2 }, 2)] {
        let mut server = Server::start(which, &["--appendonly", "yes"]);
        let mut client = server.client();
        for n in 0..50 {
            client.text(&format!("MSET a:{n} 1 b:{n} 2"));
        }
        server.signal("KILL");
        server.exit();
        let folder = server.dir.join("appendonlydir");
        let manifest = folder.join("appendonly.aof.manifest");
        let manifest = manifest.to_string_lossy().into_owned();
        let (code, told, _) = run(PINION, &["check-aof", &manifest]);
        let (redis_code, redis_told, _) = run("redis-check-aof", &[&manifest]);
        assert_eq!(
            (code, redis_code),
            (Some(0), Some(0)),
            "{told}\n{redis_told}"
        );
        let verdicts = |text: &str| -> Vec<String> {
            let is_verdict = |line: &&str| line.contains("AOF") && !line.contains("FIELD");
            text.lines().filter(is_verdict).map(str::to_owned).collect()
        };
        assert_eq!(verdicts(&told), verdicts(&redis_told), "{which}");
        let last = folder.join(format!("appendonly.aof.{shards}.incr.aof"));
        let bytes = fs::read(&last).expect("the segment");
        fs::write(&last, &bytes[..bytes.len() - 5]).expect("cut");
        let (code, told, _) = run(PINION, &["check-aof", &manifest]);
        assert_eq!(code, Some(1), "{told}");
        assert!(
            told.contains("is not valid. Use the --fix option"),
            "{told}"
        );
        let mut fix = Command::new(PINION)
            .args(["check-aof", "--fix", &manifest])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("start");
        let mut answer = fix.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut answer, b"y\n").expect("answer");
        drop(answer);
        let fixed = fix.wait_with_output().expect("an end");
        let told = String::from_utf8_lossy(&fixed.stdout).into_owned();
        assert!(
            fixed.status.success() && told.contains("Successfully truncated"),
            "{told}"
        );
        let (code, told, _) = run("redis-check-aof", &[&manifest]);
        assert_eq!(code, Some(0), "{told}");
    }
}

#[test]
fn check_aof_truncates_to_a_time_as_redis_check_aof_does() {
    let dir = SharedDir::new();
    let set = |key: &str| format!("*3\r\n$3\r\nSET\r\n$1\r\n{key}\r\n$1\r\nv\r\n");
    let whole = format!("#TS:100\r\n{}#TS:200\r\n{}", set("a"), set("b"));
    let last = dir.join("i.aof").to_string_lossy().into_owned();
    let manifest = dir.join("m.manifest").to_string_lossy().into_owned();
    for (time, left) in [("50", 2), ("100", 1), ("199", 1), ("200", 2)] {
        for path in [&last, &manifest] {
            let outcomes = [PINION, "redis-check-aof"].map(|program| {
                let base = format!("#TS:90\r\n{}", set("0"));
                fs::write(dir.join("b.aof"), base).expect("a base");
                fs::write(&last, &whole).expect("a segment");
                let text = "file b.aof seq 1 type b\nfile i.aof seq 1 type i\n";
                fs::write(&manifest, text).expect("a manifest");
                let mut args = vec!["--truncate-to-timestamp", time, path.as_str()];
                if program == PINION {
                    args.insert(0, "check-aof");
                }
                let (code, told, _) = run(program, &args);
                let text = fs::read_to_string(&last).expect("what is left");
                assert_eq!(
                    text.matches("SET").count(),
                    left,
                    "{program} {time}: {told}"
                );
                (code, told)
            });
            assert_eq!(outcomes[0], outcomes[1], "{time} {path}");
        }
    }
}
