//! OBJECT: how a value is kept.

use crate::command::Client;
use crate::command::help::help;
use crate::keyspace::{Encoded, Stored, Tx};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::Value;
use crate::value::list::List;

/// Integers that Redis shares, and the reference count it shows for them.
/// Redis: server.h OBJ_SHARED_INTEGERS, OBJ_SHARED_REFCOUNT.
const SHARED_INTEGERS: std::ops::Range<i64> = 0..10_000;
const SHARED_REFCOUNT: i64 = i32::MAX as i64;

pub(super) fn encoding(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    tx.count_lookup(args.get(2));
    match tx.encoded(args.get(2)) {
        None => out.null(),
        Some(Encoded::Int(_)) => out.bulk(b"int"),
        Some(Encoded::Embstr) => out.bulk(b"embstr"),
        Some(Encoded::Raw) => out.bulk(b"raw"),
        Some(Encoded::Named(name)) => out.bulk(name.as_bytes()),
    }
}

/// What DEBUG OBJECT tells of a key; `None`: there is no such key. Redis: debug.c.
pub fn described(tx: &mut Tx, key: &[u8]) -> Option<String> {
    let encoding = match tx.encoded(key)? {
        Encoded::Int(_) => "int",
        Encoded::Embstr => "embstr",
        Encoded::Raw => "raw",
        Encoded::Named(name) => name,
    };
    /// What follows the value in a payload: version and checksum; its type stands before it.
    const AROUND_BYTES: usize = 11;
    let taken = tx.clone_value(key)?;
    let payload = super::dump::payload(tx, &taken);
    let idle_s = tx.idle_s(key).unwrap_or(0);
    let lru = (tx.now_ms() / 1000 - idle_s) & 0xff_ffff;
    Some(format!(
        "Value at:0x0 refcount:1 encoding:{encoding} serializedlength:{} lru:{lru} \
         lru_seconds_idle:{idle_s}{}",
        payload.len() - AROUND_BYTES,
        match &taken.value {
            Stored::Object(Value::List(list)) => described_nodes(list),
            _ => String::new(),
        }
    ))
}

/// How a list is laid out.
fn described_nodes(list: &List) -> String {
    let nodes = list.node_count();
    format!(
        " ql_nodes:{nodes} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:{} \
         ql_uncompressed_size:{}",
        list.len() as f64 / nodes as f64,
        list.listpack_max(),
        i32::from(list.compresses()),
        list.listpack_bytes()
    )
}

pub(super) fn refcount(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    tx.count_lookup(args.get(2));
    match tx.encoded(args.get(2)) {
        None => out.null(),
        Some(Encoded::Int(n))
            if SHARED_INTEGERS.contains(&n) && !tx.settings().no_shared_values =>
        {
            out.int(SHARED_REFCOUNT)
        }
        Some(_) => out.int(1),
    }
}

pub(super) fn idletime(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    tx.count_lookup(args.get(2));
    let Some(idle_s) = tx.idle_s(args.get(2)) else {
        return out.null();
    };
    if tx.settings().lfu {
        return Err(CmdError::Text(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that \
             when switching between policies at runtime LRU and LFU data will take some time to \
             adjust.",
        ));
    }
    out.int(idle_s)
}

pub(super) fn freq(tx: &mut Tx, args: &Args, out: &mut Writer) -> CmdResult {
    tx.count_lookup(args.get(2));
    let Some(frequency) = tx.frequency(args.get(2)) else {
        return out.null();
    };
    if !tx.settings().lfu {
        return Err(CmdError::Text(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please \
             note that when switching between policies at runtime LRU and LFU data will take some \
             time to adjust.",
        ));
    }
    out.int(frequency)
}

pub(super) fn show_help(_client: &mut Client, args: &Args, out: &mut Writer) -> CmdResult {
    help(
        out,
        args,
        &[
            ("ENCODING <key>", "How the value is represented."),
            (
                "FREQ <key>",
                "How often the key was used, on a logarithmic scale.",
            ),
            ("IDLETIME <key>", "Seconds since the key was used."),
            ("REFCOUNT <key>", "Number of references to the value."),
        ],
    )
}
