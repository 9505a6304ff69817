//! The jobs of the SERVER family, one function each.

use super::acl;
use super::ask::{Contribution, Requester, parts_of};
use super::config;
use super::host::ServerHost;
use super::info::NodeFigures;
use super::spikes::Spikes;
use super::{info, log, memory};
use crate::command::{Job, Table, server};
use crate::resp::{Args, CmdError, CmdResult, Output, Writer};
use crate::session::{Core, Performed};

impl ServerHost {
    /// CONFIG GET and HELP, from this node's snapshot.
    pub(super) fn config_get(&self, args: &Args, out: &mut Writer) -> CmdResult {
        if args.is(1, "help") {
            return server::config_help(args, out);
        }
        let patterns: Vec<&[u8]> = args.iter().skip(2).collect();
        let found = self.config.get(&patterns);
        out.map(found.len())?;
        found.iter().try_for_each(|(name, value)| {
            out.bulk(name.as_bytes())?;
            out.bulk(&config::bytes_of(value))
        })
    }

    /// CONFIG REWRITE; with `all` also parameters that have their defaults.
    pub(super) fn config_rewrite(&self, all: bool, out: &mut Writer) -> CmdResult {
        let Some(path) = &self.config.file else {
            return Err(CmdError::Text(
                "ERR The server is running without a config file",
            ));
        };
        let users = match self.config.text("aclfile") {
            "" => acl::config_lines(&self.office.users),
            // They are in a file of their own.
            _ => Vec::new(),
        };
        config::rewrite_file(&self.config, &users, path, all).map_err(|error| {
            let reason = config::system_words(&error);
            log::warning(&format!("CONFIG REWRITE failed: {reason}"));
            CmdError::owned(format!("ERR Rewriting config file: {reason}"))
        })?;
        log::notice("CONFIG REWRITE executed with success.");
        out.ok()
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
            return done(memory::memory_help(args, out));
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
            return done(info::commands::latency_help(args, out));
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
            return info::commands::histogram(args, &nodes, table, out);
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
}

pub(super) fn done(result: CmdResult) -> Performed {
    match result {
        Ok(()) => Performed::Done,
        Err(error) => Performed::Failed(error),
    }
}

/// CONFIG RESETSTAT on one node.
pub(super) fn reset_stats(core: &mut Core) {
    core.shard.stats.reset();
    core.shard.keyspace.counters = Default::default();
    core.counters = Default::default();
}

/// Writes an error into an output that was asked for elsewhere.
pub(super) fn write_error(out: &mut Output, requester: &Requester, error: &CmdError) {
    out.clear();
    let written = Writer::new(out, requester.proto).error(error);
    debug_assert!(written.is_ok());
}
