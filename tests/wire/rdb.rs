//! The RDB codec against redis-server 7.0.15: what is written here is loaded there, and the other
//! way round, value by value and file by file.

use std::fs;

use bytes::Bytes;
use pinion::rdb::digest::Digest;
use pinion::rdb::dump;
use pinion::rdb::object::{Encode, Object, Type};
use pinion::rdb::string::StringWriter;

use crate::client::{Client, Got};
use crate::fixtures::{Keys, NOW_MS, digest_of, events, fixtures, keyspace, written};
use crate::process::{Server, Which};

/// What can be loaded, except what Redis 7.0 has no words for: fields that expire.
fn loadable() -> Vec<(String, Keys)> {
    let mut found = Vec::new();
    for fixture in fixtures() {
        let Ok(Ok(keys)) = events(&fixture.bytes, 1 << 20, true).map(|events| keyspace(&events))
        else {
            continue;
        };
        let known = |object: &Object| object.ty() != Type::HashExpiring;
        assert_ne!(fixture.verdict, "refused", "{}", fixture.name);
        assert!(["-", &digest_of(&keys)].contains(&fixture.digest.as_str()));
        // Expiries are kept, but Redis must not act on them while it compares.
        let lasting = |expire_at_ms: Option<i64>| expire_at_ms.is_none_or(|at| at > 2 * NOW_MS);
        if keys
            .values()
            .all(|(object, attributes)| known(object) && lasting(attributes.expire_at_ms))
        {
            found.push((fixture.name, keys));
        }
    }
    assert!(found.len() > 70, "{}", found.len());
    found
}

fn call<A: AsRef<[u8]>>(client: &mut Client, args: &[A]) -> Vec<u8> {
    match client.call(args) {
        Got::Reply(bytes) => bytes,
        other => panic!("{}", other.shown()),
    }
}

fn bulk(reply: &[u8]) -> Bytes {
    let at = reply
        .iter()
        .position(|&byte| byte == b'\n')
        .expect("a line")
        + 1;
    Bytes::copy_from_slice(&reply[at..reply.len() - 2])
}

#[test]
fn redis_loads_what_is_written() {
    let server = Server::start(Which::Reference, &[]);
    let mut client = server.client();
    for (name, keys) in loadable() {
        for compress in [true, false] {
            let file = written(&keys, &mut StringWriter::new(compress));
            fs::write(server.dir.join("dump.rdb"), &file).expect("write");
            assert_eq!(client.text("DEBUG RELOAD NOSAVE"), "+OK\\r\\n", "{name}");
            let digest = client.text("DEBUG DIGEST");
            assert_eq!(digest, format!("+{}\\r\\n", digest_of(&keys)), "{name}");
        }
    }
}

#[test]
fn values_travel_by_dump_and_restore() {
    let server = Server::start(Which::Reference, &[]);
    let mut client = server.client();
    let mut strings = StringWriter::new(true);
    let mut travelled = 0;
    for (name, keys) in loadable() {
        for (object, _) in keys.values() {
            let payload = dump::put(object, &mut strings);
            let restored = call(
                &mut client,
                &[b"RESTORE".as_slice(), b"k", b"0", &payload, b"REPLACE"],
            );
            assert_eq!(restored, b"+OK\r\n", "{name}: {object:?}");
            let mut digest = Digest::default();
            digest.object(object);
            let theirs = call(&mut client, &["DEBUG", "DIGEST-VALUE", "k"]);
            assert_eq!(
                theirs,
                format!("*1\r\n+{digest}\r\n").into_bytes(),
                "{name}: {object:?}"
            );
            let back = bulk(&call(&mut client, &["DUMP", "k"]));
            let back = dump::take(&back).expect("a payload of Redis");
            let mut digest_back = Digest::default();
            digest_back.object(&back);
            assert_eq!(digest_back, digest, "{name}: {object:?}");
            // To the byte, but for the order of hash tables.
            if !matches!(object.ty(), Type::Set | Type::Hash) {
                let theirs = bulk(&call(&mut client, &["DUMP", "k"]));
                assert_eq!(theirs, payload, "{name}: {object:?}");
            }
            travelled += 1;
        }
    }
    assert!(travelled > 700, "{travelled}");
}
