//! DEBUG, for tests of this server and of Redis; off unless `enable-debug-command` allows it.

mod show;
mod subcommands;

use super::ask::{Contribution, Requester, parts_of};
use super::config;
use super::digest;
use super::host::ServerHost;
use super::jobs::done;
use super::log;
use super::populate;
use crate::command::help::help;
use crate::command::{Job, generic, glob};
use crate::keyspace::{Due, Tx};
use crate::resp::{Args, CmdError, CmdResult, Output, Writer};
use crate::runtime::crash;
use crate::session::{Core, Link, Performed};
use crate::value::Value;
use subcommands::SUBCOMMANDS;

/// Switches of Redis' own machinery, which is not here to be switched, and their number of arguments.
const SWITCHES: [(&str, usize); 2] = [("drop-cluster-packet-filter", 3), ("jmap", 2)];

/// The most that DEBUG QUICKLIST-PACKED-THRESHOLD takes. Redis: quicklist.c.
const PACKED_THRESHOLD_MAX: u64 = (1 << 32) - (1 << 20);

impl ServerHost {
    pub(super) fn debug(
        &mut self,
        link: &mut dyn Link,
        requester: Requester,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        let performed = self.begin_debug(requester, args, out);
        if args.is(1, "sleep") {
            link.slept();
        }
        performed
    }

    fn begin_debug(&mut self, requester: Requester, args: &Args, out: &mut Output) -> Performed {
        let is_local = requester.is_local;
        if !self.config.allows("enable-debug-command", is_local) {
            return Performed::Failed(CmdError::Text(
                "ERR DEBUG command not allowed. If the enable-debug-command option is set to \
                 \"local\", you can run it from a local connection, otherwise you need to set this \
                 option in the configuration file, and then restart the server.",
            ));
        }
        let word = args.get(1).to_ascii_lowercase();
        let checked = match (word.as_slice(), args.len()) {
            (b"populate", 3..=5) => populate::check(args),
            (b"htstats", 3) => match args.int(2) {
                Ok(db) if (0..self.config.int("databases")).contains(&db) => Ok(()),
                Ok(_) => Err(CmdError::Text("ERR Out of range database")),
                Err(error) => Err(error),
            },
            (b"object" | b"listpack" | b"set-active-expire" | b"pause-cron", 3)
            | (b"set-skip-checksum-validation" | b"htstats-key", 3) => Ok(()),
            (b"set-disable-deny-scripts", 3) => Ok(()),
            (b"aof-flush-sleep", 3) => args.int(2).map(|_| ()),
            (b"change-repl-id", 2) | (b"sdslen", 3) | (b"quicklist", 3 | 4) => Ok(()),
            (b"client-eviction", 2) => match self.config.text("maxmemory-clients") {
                "0" => Err(CmdError::Text("ERR maxmemory-clients is disabled.")),
                _ => Ok(()),
            },
            (b"reload" | b"loadaof" | b"restart" | b"crash-and-recover", _)
            | (b"config-rewrite-force-all", 2)
            | (b"replicate", 3..) => {
                return self.forward(Job::Debug, requester, args, out);
            }
            _ if digest::is_asked(args) => Ok(()),
            _ => return done(debug_here(args, &mut Writer::new(out, requester.proto))),
        };
        match checked {
            Ok(()) => self.ask_all(Job::Debug, requester, args.to_buf(), None),
            Err(error) => Performed::Failed(error),
        }
    }

    /// What a node does when every node is asked.
    pub(super) fn debug_part(&mut self, core: &mut Core, args: &Args, db: u32) -> Contribution {
        if args.is(1, "populate") {
            populate::fill(core, args, db, self.now_ms);
        } else if args.is(1, "set-active-expire") {
            core.shard.keyspace.active_expire = args.get(2) != b"0";
        } else if args.is(1, "set-skip-checksum-validation") {
            core.shard.keyspace.settings.skip_checksums = args.get(2) != b"0";
        } else if args.is(1, "change-repl-id") {
            if self.shard == 0 {
                self.identity.change_replid();
            }
        } else if args.is(1, "htstats") {
            let db = args.int(2).map_or(0, |db| db as u32);
            let keys = core.shard.keyspace.stats(db);
            let (buckets, overflow) = core.shard.keyspace.dict_shape(db);
            return Box::new((self.shard, keys.keys, keys.expires, buckets, overflow));
        } else if args.is(1, "pause-cron") {
            self.signals.paused = args.get(2) != b"0";
            if !self.signals.paused
                && let Some(interrupted) = self.signals.waiting.take()
            {
                self.stop_signal(interrupted);
            }
        } else if args.is(1, "set-disable-deny-scripts") {
            core.scripts.allows_all = args.get(2) != b"0";
        } else if args.is(1, "aof-flush-sleep") {
            let sleep_us = args.int(2).map_or(0, |us| us.max(0) as u64);
            self.flush_sleep = std::time::Duration::from_micros(sleep_us);
        } else if args.is(1, "htstats-key") {
            let mut tx = keeping(core, db, self.now_ms);
            let told = index_of(&mut tx, args.get(2));
            tx.finish();
            return Box::new(told);
        } else if args.is(1, "sdslen") || args.is(1, "quicklist") {
            let mut tx = keeping(core, db, self.now_ms);
            let told = match args.is(1, "sdslen") {
                true => show::lengths(&mut tx, args.get(2)),
                false => show::quicklist(&mut tx, args.get(2)),
            };
            tx.finish();
            return Box::new(told);
        } else if args.is(1, "client-eviction") {
            return Box::new(show::buckets(core));
        } else if args.is(1, "object") || args.is(1, "listpack") {
            // Redis: debug.c looks at a key that is due, and leaves it there.
            let mut tx = keeping(core, db, self.now_ms);
            let told = generic::described(&mut tx, args.get(2));
            tx.finish();
            return Box::new(told);
        } else {
            return Box::new(digest::part(core, args, db, self.now_ms));
        }
        Box::new(())
    }
}

/// A look at what is there, whether it is due or not.
fn keeping(core: &mut Core, db: u32, now_ms: i64) -> Tx<'_> {
    let tx = core.shard.keyspace.tx(db, now_ms, false);
    tx.with_due(Due::Keep)
}

/// How the index of a key's elements looks, if they have one; `None`: there is no such key.
fn index_of(tx: &mut Tx, key: &[u8]) -> show::About {
    tx.encoded(key)?;
    let value = tx.peek_value(key);
    let lookup = match &value {
        Some(Value::Set(set)) => set.lookup(),
        Some(Value::Hash(hash)) => hash.lookup(),
        Some(Value::Zset(set)) => set.lookup(),
        _ => None,
    };
    Some(lookup.map(|lookup| {
        let (buckets, overflow) = lookup.dict().shape();
        let elements = lookup.dict().len();
        format!(
            "[Dictionary HT]\nHash table 0 stats (main hash table):\n table size: {buckets}\n \
             number of elements: {elements}\n overflow buckets: {overflow}\n"
        )
    }))
}

/// The reply when all nodes have done their part.
pub fn told(args: &Args, parts: Vec<Contribution>, out: &mut Writer) -> CmdResult {
    if digest::is_asked(args) {
        return digest::reply(args, parts_of(parts), out);
    }
    let is_listpack = args.is(1, "listpack");
    if is_listpack || args.is(1, "object") {
        let Some(told) = parts_of::<Option<String>>(parts).flatten().next() else {
            return Err(CmdError::NoSuchKey);
        };
        if !is_listpack {
            return out.simple(&told);
        }
        if !told.contains("encoding:listpack") {
            return Err(CmdError::Text("ERR Not a listpack encoded object."));
        }
        log::notice(&told);
        return out.simple("Listpack structure printed on stdout");
    }
    if ["htstats-key", "sdslen", "quicklist"]
        .iter()
        .any(|word| args.is(1, word))
    {
        return show::about(args.get(1), parts, out);
    }
    if args.is(1, "client-eviction") {
        return show::evictable(parts, out);
    }
    if args.is(1, "htstats") {
        type Shape = (usize, usize, usize, usize, usize);
        let mut shapes: Vec<Shape> = parts_of(parts).collect();
        shapes.sort_unstable();
        let lines = shapes
            .iter()
            .map(|(shard, keys, expires, buckets, overflow)| {
                format!(
                    "[Dictionary HT] shard {shard}\n table size: {buckets}\n number of elements: \
                 {keys}\n overflow buckets: {overflow}\n number of deadlines: {expires}\n"
                )
            });
        return out.verbatim("txt", lines.collect::<String>().as_bytes());
    }
    out.ok()
}

fn debug_here(args: &Args, out: &mut Writer) -> CmdResult {
    let is_switch = SWITCHES
        .iter()
        .any(|(name, len)| args.is(1, name) && args.len() == *len);
    if is_switch {
        return out.ok();
    }
    match (args.get(1).to_ascii_lowercase().as_slice(), args.len()) {
        (b"sleep", 3) => {
            let seconds = args.double(2)?.clamp(0.0, 3600.0);
            std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
            out.ok()
        }
        (b"log", 3) => {
            let text = String::from_utf8_lossy(args.get(2)).into_owned();
            log::warning(&format!("DEBUG LOG: {text}"));
            out.ok()
        }
        (b"error", 3) => {
            let text = String::from_utf8_lossy(args.get(2)).into_owned();
            Err(CmdError::owned(text.replace(['\r', '\n'], " ")))
        }
        (b"segfault", 2) => {
            crash::segfault();
            out.ok()
        }
        (b"panic" | b"assert", 2) => {
            log::warning("Pinion is made to crash by DEBUG");
            panic!("DEBUG {}", String::from_utf8_lossy(args.get(1)))
        }
        (b"oom", 2) => {
            // Redis: debug.c asks for half of what there is room for.
            let bytes = usize::MAX / 2;
            log::warning(&format!("Out Of Memory allocating {bytes} bytes!"));
            panic!("Pinion aborting for OUT OF MEMORY. Allocating {bytes} bytes!")
        }
        (b"clusterlink", 5) if args.is(2, "kill") => Err(CmdError::Text(
            "ERR Debug option only available for cluster mode enabled setup!",
        )),
        (b"protocol", 3) => protocol(args, out),
        // An element of any size stands in a listpack here.
        (b"quicklist-packed-threshold", 3) => {
            let text = std::str::from_utf8(args.get(2)).ok();
            match text.and_then(config::parse_memory) {
                Some(..=PACKED_THRESHOLD_MAX) => out.ok(),
                _ => Err(CmdError::Text(
                    "ERR argument must be a memory value bigger than 1 and smaller than 4gb",
                )),
            }
        }
        (b"replybuffer", 4) if args.is(2, "resizing") => out.ok(),
        (b"replybuffer", 4) if args.is(2, "peak-reset-time") => {
            if !args.is(3, "never") && !args.is(3, "reset") {
                args.int(3)?;
            }
            out.ok()
        }
        (b"leak", 3) => {
            // What is asked for: nobody frees it.
            std::mem::forget(args.get(2).to_vec());
            out.ok()
        }
        (b"structsize", 2) => show::sizes(out),
        (b"stringmatch-test", 2) => show::match_anything(out),
        (b"stringmatch-len", 4) => out.int(i64::from(glob::matches(args.get(2), args.get(3)))),
        (b"help", 2) => help(out, args, SUBCOMMANDS),
        _ => Err(CmdError::subcommand(args)),
    }
}

/// One value of each protocol type. Redis: debug.c, DEBUG PROTOCOL.
fn protocol(args: &Args, out: &mut Writer) -> CmdResult {
    let three = |out: &mut Writer| (0..3).try_for_each(|n| out.int(n));
    match args.get(2).to_ascii_lowercase().as_slice() {
        b"string" => out.bulk(b"Hello World"),
        b"integer" => out.int(12345),
        #[allow(clippy::approx_constant)] // The value Redis replies with.
        b"double" => out.double(3.141),
        b"null" => out.null(),
        b"array" => out.array(3).and_then(|()| three(out)),
        b"set" => out.set(3).and_then(|()| three(out)),
        b"map" => {
            out.map(3)?;
            (0..3).try_for_each(|n| out.int(n).and_then(|()| out.bool(n == 1)))
        }
        b"attrib" => {
            if out.resp3() {
                out.attribute(1)?;
                out.bulk(b"key-popularity")?;
                out.array(2)?;
                out.bulk(b"key:123")?;
                out.int(90)?;
            }
            out.bulk(b"Some real reply following the attribute")
        }
        b"push" => {
            if !out.resp3() {
                return Err(CmdError::Text("ERR RESP2 is not supported by this command"));
            }
            out.push(2)?;
            out.bulk(b"server-cpu-usage")?;
            out.int(42)?;
            // A push is no reply.
            out.bulk(b"Some real reply following the push reply")
        }
        b"bignum" => out.bignum("1234567999999999999999999999999999999"),
        b"true" => out.bool(true),
        b"false" => out.bool(false),
        b"verbatim" => out.verbatim("txt", b"This is a verbatim\nstring"),
        _ => Err(CmdError::Text(
            "ERR Wrong protocol type name. Please use one of the following: \
             string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
        )),
    }
}
