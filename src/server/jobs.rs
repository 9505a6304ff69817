//! The jobs of the SERVER family, one function each.

use super::ask::{Contribution, Requester, parts_of};
use super::config;
use super::host::ServerHost;
use super::info::NodeFigures;
use super::spikes::Spikes;
use super::{digest, populate};
use super::{info, log, memory};
use crate::command::connection::help;
use crate::command::{Job, Table, server};
use crate::resp::{Args, CmdError, CmdResult, Output, Writer};
use crate::session::{Core, Performed};

impl ServerHost {
    /// CONFIG GET and HELP, from this node's snapshot.
    pub(super) fn config_get(&self, args: &Args, out: &mut Writer) -> CmdResult {
        if args.is(1, "help") {
            return server::config_help(out);
        }
        let patterns: Vec<&[u8]> = args.iter().skip(2).collect();
        let found = self.config.get(&patterns);
        out.map(found.len())?;
        found.iter().try_for_each(|(name, value)| {
            out.bulk(name.as_bytes())?;
            out.bulk(value.as_bytes())
        })
    }

    pub(super) fn config_rewrite(&self, out: &mut Writer) -> CmdResult {
        let Some(path) = &self.config.file else {
            return Err(CmdError::Text(
                "ERR The server is running without a config file",
            ));
        };
        config::rewrite_file(&self.config, path).map_err(|error| {
            let reason = config::system_words(&error);
            log::warning(&format!("CONFIG REWRITE failed: {reason}"));
            CmdError::owned(format!("ERR Rewriting config file: {reason}"))
        })?;
        log::notice("CONFIG REWRITE executed with success.");
        out.ok()
    }

    /// DEBUG, for tests; off unless `enable-debug-command` allows it.
    pub(super) fn debug(
        &mut self,
        requester: Requester,
        is_local: bool,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        let allowed = match self.config.text("enable-debug-command") {
            "yes" => true,
            "local" => is_local,
            _ => false,
        };
        if !allowed {
            return Performed::Failed(CmdError::Text(
                "ERR DEBUG command not allowed. If the enable-debug-command option is set to \
                 \"local\", you can run it from a local connection, otherwise you need to set this \
                 option in the configuration file, and then restart the server.",
            ));
        }
        if args.is(1, "populate") && (3..=5).contains(&args.len()) {
            return match populate::check(args) {
                Ok(()) => self.ask_all(Job::Debug, requester, args.to_buf(), None),
                Err(error) => Performed::Failed(error),
            };
        }
        if args.is(1, "reload") || args.is(1, "loadaof") {
            return self.forward(Job::Debug, requester, args, out);
        }
        if args.is(1, "object") && args.len() == 3 || digest::is_asked(args) {
            return self.ask_all(Job::Debug, requester, args.to_buf(), None);
        }
        let out = &mut Writer::new(out, requester.proto);
        if args.is(1, "set-active-expire") && args.len() == 3 {
            return self.ask_all(Job::Debug, requester, args.to_buf(), None);
        }
        done(self.debug_here(args, out))
    }

    fn debug_here(&self, args: &Args, out: &mut Writer) -> CmdResult {
        if args.is(1, "sleep") && args.len() == 3 {
            let seconds = args.double(2)?.clamp(0.0, 3600.0);
            std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
            return out.ok();
        }
        // An element of any size stands in a listpack here: there is nothing to switch over.
        if args.is(1, "quicklist-packed-threshold") && args.len() == 3 {
            return out.ok();
        }
        if args.is(1, "jmap") || args.is(1, "log") {
            if args.len() > 2 {
                log::warning(&format!(
                    "DEBUG LOG: {}",
                    String::from_utf8_lossy(args.get(2))
                ));
            }
            return out.ok();
        }
        if args.is(1, "protocol") && args.len() == 3 {
            return debug_protocol(args, out);
        }
        if args.is(1, "help") {
            return help(
                out,
                "DEBUG",
                &[
                    ("LOG <message>", "Write a line to the log."),
                    (
                        "PROTOCOL <type>",
                        "Reply with a value of a type of the protocol.",
                    ),
                    (
                        "SET-ACTIVE-EXPIRE <0|1>",
                        "Stop or start deleting keys on time.",
                    ),
                    ("SLEEP <seconds>", "Block this shard."),
                ],
            );
        }
        Err(CmdError::owned(format!(
            "ERR unknown subcommand or wrong number of arguments for '{}'. Try DEBUG HELP.",
            String::from_utf8_lossy(args.get(1))
        )))
    }

    pub(super) fn memory(
        &mut self,
        requester: Requester,
        args: &Args,
        out: &mut Writer,
    ) -> Performed {
        if args.is(1, "purge") {
            return done(out.ok());
        }
        if args.is(1, "help") {
            return done(memory::memory_help(out));
        }
        self.ask_all(Job::Memory, requester, args.to_buf(), None)
    }

    pub(super) fn latency(
        &mut self,
        requester: Requester,
        args: &Args,
        out: &mut Writer,
    ) -> Performed {
        if args.is(1, "help") {
            return done(info::latency_help(out));
        }
        self.ask_all(Job::Latency, requester, args.to_buf(), None)
    }

    /// LATENCY, when all nodes have answered.
    pub(super) fn latency_told(
        &self,
        args: &Args,
        parts: Vec<Contribution>,
        table: &Table,
        out: &mut Writer,
    ) -> CmdResult {
        if args.is(1, "histogram") {
            let nodes: Vec<NodeFigures> = parts_of(parts).collect();
            return info::histogram(args, &nodes, table, out);
        }
        if args.is(1, "reset") {
            let mut events: Vec<&str> = parts_of(parts)
                .flat_map(|part: Vec<&'static str>| part)
                .collect();
            events.sort_unstable();
            events.dedup();
            return out.int(events.len() as i64);
        }
        let slow_us = self.config.int("slowlog-log-slower-than");
        Spikes::merged(parts_of(parts)).reply(args, self.now_ms / 1000, slow_us, out)
    }

    pub(super) fn lolwut(&self, out: &mut Writer) -> CmdResult {
        let teeth = "  o-o-o-o-o-o-o\n".repeat(3);
        let text = format!(
            "{teeth}Redis ver. {}, Pinion ver. {}\n",
            super::host::REDIS_VERSION,
            env!("CARGO_PKG_VERSION")
        );
        out.verbatim("txt", text.as_bytes())
    }

    pub(super) fn role(&self, out: &mut Writer) -> CmdResult {
        out.array(3)?;
        out.bulk(b"master")?;
        out.int(0)?;
        out.array(0)
    }
}

pub(super) fn done(result: CmdResult) -> Performed {
    match result {
        Ok(()) => Performed::Done,
        Err(error) => Performed::Failed(error),
    }
}

/// One value of each protocol type. Redis: debug.c, DEBUG PROTOCOL.
fn debug_protocol(args: &Args, out: &mut Writer) -> CmdResult {
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
        b"bignum" => out.bignum("1234567999999999999999999999999999999"),
        b"true" => out.bool(true),
        b"false" => out.bool(false),
        b"verbatim" => out.verbatim("txt", b"This is a verbatim\nstring"),
        _ => Err(CmdError::Text(
            "ERR Wrong protocol type name. Please use one of the following: \
             string|integer|double|null|array|set|map|attrib|push|verbatim|true|false",
        )),
    }
}

/// What a node does when every node is asked.
pub(super) fn set_active_expire(core: &mut Core, args: &Args) {
    core.shard.keyspace.active_expire = args.get(2) != b"0";
}

/// CONFIG RESETSTAT on one node.
pub(super) fn reset_stats(core: &mut Core) {
    core.shard.stats.reset();
    core.shard.keyspace.counters = Default::default();
    core.counters = Default::default();
    core.errors.clear();
}

/// Writes an error into an output that was asked for elsewhere.
pub(super) fn write_error(out: &mut Output, requester: &Requester, error: &CmdError) {
    out.clear();
    let written = Writer::new(out, requester.proto).error(error);
    debug_assert!(written.is_ok());
}
