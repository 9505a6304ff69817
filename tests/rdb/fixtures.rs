//! Files of other servers, and what the codec makes of them; shared with `tests/wire`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use pinion::rdb::digest::{self, Digest};
use pinion::rdb::file::{self, Attributes, Event, Reader, Summed};
use pinion::rdb::object::{Encode, Object, types};
use pinion::rdb::string::StringWriter;
use pinion::rdb::{Error, Fault, VERSION};

/// November 2026, when Redis was asked: keys that expired before are not loaded.
pub const NOW_MS: i64 = 1_795_000_000_000;

pub struct Fixture {
    pub name: String,
    pub verdict: String,
    pub digest: String,
    pub bytes: Bytes,
}

pub fn fixtures() -> Vec<Fixture> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rdb");
    let manifest = fs::read_to_string(folder.join("manifest.tsv")).expect("manifest.tsv");
    let fixtures: Vec<Fixture> = manifest
        .lines()
        .skip(1)
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            Fixture {
                name: columns[0].to_string(),
                verdict: columns[2].to_string(),
                digest: columns[3].to_string(),
                bytes: fs::read(folder.join(columns[0])).expect(columns[0]).into(),
            }
        })
        .collect();
    assert!(fixtures.len() > 100);
    fixtures
}

/// All events of a file that arrives in pieces of this size.
pub fn events(bytes: &Bytes, piece: usize, verify: bool) -> Result<Vec<Event>, Error> {
    let mut reader = Reader::new(verify, Some(bytes.len() as u64));
    let mut events = Vec::new();
    let mut left = bytes.clone();
    while !left.is_empty() {
        reader.feed(left.split_to(piece.min(left.len())));
        while let Some(event) = reader.next_event()? {
            events.push(event);
        }
    }
    reader.end_input();
    while let Some(event) = reader.next_event()? {
        events.push(event);
    }
    assert!(reader.has_ended());
    Ok(events)
}

pub type Keys = BTreeMap<(u32, Bytes), (Object, Attributes)>;

/// What a server would hold that refuses data of modules, as Redis without these modules does.
pub fn keyspace(events: &[Event]) -> Result<Keys, Fault> {
    let mut keys = Keys::new();
    let mut db = 0;
    for event in events {
        match event {
            Event::SelectDb(selected) => db = *selected,
            Event::Entry(entry) => {
                let expired = |at_ms| at_ms < NOW_MS;
                if !entry.attributes.expire_at_ms.is_some_and(expired) {
                    let object = as_held(entry.object.clone(), entry.ty);
                    let value = (object, entry.attributes);
                    let before = keys.insert((db, entry.key.clone()), value);
                    assert!(before.is_none(), "a key twice");
                }
            }
            Event::ModuleKey { module, .. } | Event::ModuleAux { module, .. } => {
                return Err(Fault::Module(module.clone()));
            }
            _ => {}
        }
    }
    Ok(keys)
}

/// Redis keeps small sorted sets in listpacks, where -0 becomes 0 unless the file has a listpack.
fn as_held(mut object: Object, ty: u8) -> Object {
    if let (Object::Zset(members), types::ZSET | types::ZSET_2) = (&mut object, ty)
        && members.len() <= 128
        && members.iter().all(|(member, _)| member.len() <= 64)
    {
        members.iter_mut().for_each(|(_, score)| *score += 0.0);
    }
    object
}

pub fn digest_of(keys: &Keys) -> String {
    let mut dbs: BTreeMap<u32, Digest> = BTreeMap::new();
    for ((db, key), (object, attributes)) in keys {
        let part = digest::key(key, |digest| {
            digest.object(object);
            if attributes.expire_at_ms.is_some() {
                digest.expires();
            }
        });
        dbs.entry(*db).or_default().merge(&part);
    }
    digest::dataset(dbs).to_string()
}

pub fn written(keys: &Keys, strings: &mut StringWriter) -> Bytes {
    let version = keys.values().map(|(object, _)| object.ty().version());
    let mut out = Summed::<Vec<u8>>::default();
    file::put_signature(&mut out, version.max().unwrap_or(VERSION));
    file::put_aux(&mut out, strings, "redis-ver", "7.2.0");
    let mut selected = None;
    for ((db, key), (object, attributes)) in keys {
        if selected != Some(db) {
            selected = Some(db);
            file::put_select_db(&mut out, *db);
            file::put_resize_db(&mut out, keys.len() as u64, 0);
        }
        file::put_entry(&mut out, strings, key, attributes, object);
    }
    let crc = out.crc;
    file::put_end(&mut out, crc);
    out.out.into()
}
