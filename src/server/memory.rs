//! What memory is used for: INFO memory, MEMORY STATS, DOCTOR and MALLOC-STATS.
//!
//! Used is what this server accounts for: keys, values, their indexes, clients and their buffers, what is
//! kept of the stream of the replicas.
//! Resident is what the kernel says. The allocator is not asked: what it holds is taken to be the
//! resident memory that belongs to no file.

use std::sync::{Mutex, OnceLock, PoisonError};

use super::info::NodeFigures;
use super::procfs;
use crate::command::help::help;
use crate::resp::{Args, CmdResult, Writer};
use crate::runtime::{clock, usage};

/// One database's share of the indexes.
#[derive(Clone, Copy, Debug, Default)]
pub struct DbBytes {
    pub main: usize,
    pub expires: usize,
}

/// The memory of all nodes, in bytes.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub used: usize,
    /// The sum of what each shard used at most.
    pub peak: usize,
    pub startup: usize,
    pub overhead: usize,
    pub dataset: usize,
    /// All but replicas.
    pub clients: usize,
    /// Of the stream: as much as `repl-backlog-size` says, and what is kept for replicas beyond that.
    pub backlog: usize,
    pub kept_for_replicas: usize,
    /// Replicas as clients.
    links: usize,
    pub aof_buffer: usize,
    /// Used, and what is free in the pages that hold it.
    pub active: usize,
    /// Resident memory that belongs to no file, and all of it.
    pub allocated: usize,
    pub resident: usize,
    pub keys: usize,
    pub dbs: Vec<(usize, DbBytes)>,
    shards: Vec<ShardBytes>,
    connected: usize,
}

/// One shard's own, for MALLOC-STATS.
#[derive(Clone, Copy, Debug)]
struct ShardBytes {
    keys: usize,
    index: usize,
    free: usize,
    clients: usize,
}

impl Memory {
    pub fn of(nodes: &[NodeFigures]) -> Memory {
        let sum = |of: fn(&NodeFigures) -> usize| nodes.iter().map(of).sum::<usize>();
        let (clients, links) = (sum(|n| n.client_bytes), sum(|n| n.replica_bytes));
        let aof_buffer = sum(|n| n.aof_buffer_bytes);
        let replication = nodes.iter().find_map(|node| node.replicas.as_ref());
        let (kept, kept_max) =
            replication.map_or((0, 0), |it| (it.backlog_bytes, it.backlog_max_bytes));
        let buffers = clients + links + kept + aof_buffer;
        let used = sum(|n| n.keys_bytes) + buffers;
        let overhead = sum(|n| n.overhead_bytes) + buffers;
        let (resident, anonymous) = resident_bytes();
        let databases = nodes.first().map_or(0, |node| node.dbs.len());
        let db = |at: usize| {
            let shares = || nodes.iter().map(move |node| node.db_bytes[at]);
            let bytes = DbBytes {
                main: shares().map(|share| share.main).sum(),
                expires: shares().map(|share| share.expires).sum(),
            };
            (at, bytes)
        };
        let is_used = |at: &usize| nodes.iter().any(|node| node.dbs[*at].keys > 0);
        let shard = |node: &NodeFigures| ShardBytes {
            keys: node.keys_bytes - node.overhead_bytes,
            index: node.overhead_bytes,
            free: node.slack_bytes,
            clients: node.client_bytes + node.replica_bytes,
        };
        // Redis: object.c getMemoryOverheadData. What was copied for a replica counts as a client's.
        let has_replicas = replication.is_some_and(|it| !it.replicas.is_empty());
        let backlog = if has_replicas {
            kept.min(kept_max)
        } else {
            kept
        };
        Memory {
            used,
            peak: (sum(|n| n.gauges.peak_bytes) + buffers).max(used),
            startup: sum(|n| n.gauges.startup_bytes),
            overhead,
            dataset: used.saturating_sub(overhead),
            clients,
            backlog,
            kept_for_replicas: kept - backlog,
            links,
            aof_buffer,
            active: used + sum(|n| n.slack_bytes),
            allocated: anonymous,
            resident,
            keys: nodes.iter().flat_map(|n| &n.dbs).map(|db| db.keys).sum(),
            dbs: (0..databases).filter(is_used).map(db).collect(),
            shards: nodes.iter().map(shard).collect(),
            connected: sum(|n| n.sessions),
        }
    }

    /// What the replicas cost, beside what is kept of the stream without them.
    pub fn replicas(&self) -> usize {
        self.links + self.kept_for_replicas
    }

    /// What `maxmemory` is not about: that is keys, and clients but replicas.
    pub fn not_limited(&self) -> usize {
        self.links + self.backlog + self.kept_for_replicas + self.aof_buffer
    }

    /// What keys and clients added since the start; at least 1, to divide by.
    fn net(&self) -> usize {
        self.used.saturating_sub(self.startup).max(1)
    }

    pub fn dataset_percent(&self) -> f64 {
        percent(self.dataset, self.net())
    }

    pub fn peak_percent(&self) -> f64 {
        percent(self.used, self.peak)
    }

    /// MEMORY STATS, DOCTOR, MALLOC-STATS.
    pub fn reply(&self, args: &Args, out: &mut Writer) -> CmdResult {
        if args.is(1, "stats") {
            self.stats(out)
        } else if args.is(1, "doctor") {
            out.verbatim("txt", self.doctor().as_bytes())
        } else {
            out.verbatim("txt", self.allocator().as_bytes())
        }
    }

    fn stats(&self, out: &mut Writer) -> CmdResult {
        out.map(27 + self.dbs.len())?;
        integers(
            &[
                ("peak.allocated", self.peak),
                ("total.allocated", self.used),
                ("startup.allocated", self.startup),
                ("replication.backlog", self.backlog),
                ("clients.slaves", self.replicas()),
                ("clients.normal", self.clients),
                ("cluster.links", 0),
                ("aof.buffer", self.aof_buffer),
                ("lua.caches", 0),
                ("functions.caches", 0),
            ],
            out,
        )?;
        for (db, bytes) in &self.dbs {
            out.bulk(format!("db.{db}").as_bytes())?;
            out.map(3)?;
            let shares = [
                ("overhead.hashtable.main", bytes.main),
                ("overhead.hashtable.expires", bytes.expires),
                ("overhead.hashtable.slot-to-keys", 0),
            ];
            integers(&shares, out)?;
        }
        integers(
            &[
                ("overhead.total", self.overhead),
                ("keys.count", self.keys),
                (
                    "keys.bytes-per-key",
                    self.net() / self.keys.max(1) * usize::from(self.keys > 0),
                ),
                ("dataset.bytes", self.dataset),
            ],
            out,
        )?;
        out.bulk(b"dataset.percentage")?;
        out.double(self.dataset_percent())?;
        out.bulk(b"peak.percentage")?;
        out.double(self.peak_percent())?;
        integers(
            &[
                ("allocator.allocated", self.used),
                ("allocator.active", self.active),
                ("allocator.resident", self.allocated),
            ],
            out,
        )?;
        for (name, part, whole) in self.ratios() {
            let (ratio, bytes) = match name {
                "fragmentation" => (name.to_owned(), format!("{name}.bytes")),
                _ => (format!("{name}.ratio"), format!("{name}.bytes")),
            };
            out.bulk(ratio.as_bytes())?;
            out.double(over(whole, part))?;
            out.bulk(bytes.as_bytes())?;
            out.int(whole as i64 - part as i64)?;
        }
        Ok(())
    }

    /// How much more memory each layer holds than the one above it: name, above, below.
    pub fn ratios(&self) -> [(&'static str, usize, usize); 4] {
        [
            ("allocator-fragmentation", self.used, self.active),
            ("allocator-rss", self.active, self.allocated),
            ("rss-overhead", self.allocated, self.resident),
            ("fragmentation", self.used, self.resident),
        ]
    }

    fn doctor(&self) -> String {
        /// Below this, what the process itself needs outweighs the data.
        const TOO_LITTLE_BYTES: usize = 5 << 20;
        /// A difference that is worth a word.
        const WORTH_BYTES: usize = 10 << 20;
        const CLIENT_MAX_BYTES: usize = 200 << 10;
        if self.used < TOO_LITTLE_BYTES {
            return "There is too little data to judge how memory is used.\n".to_owned();
        }
        let exceeds = |whole: usize, part: usize, ratio: f64| {
            over(whole, part) > ratio && whole.saturating_sub(part) > WORTH_BYTES
        };
        let mut found = Vec::new();
        if over(self.peak, self.used) > 1.5 {
            found.push(
                "Peak: at its peak this server used more than 1.5 times the memory it uses now. \
                 Resident memory stays high after a peak, and is used again as data grows.",
            );
        }
        if exceeds(self.active, self.used, 1.1) {
            found.push(
                "Fragmentation: the pages that hold entries are not full. New entries of the same \
                 sizes fill them again.",
            );
        }
        if exceeds(self.resident, self.used, 1.4) {
            found.push(
                "Resident memory: the process holds more than 1.4 times the memory that is \
                 accounted for. A peak before, buffers of clients, or several shards with little \
                 data each are the usual reasons.",
            );
        }
        if self.clients / self.connected.max(1) > CLIENT_MAX_BYTES {
            found.push(
                "Clients: on average a client's buffers hold more than 200 kB. CLIENT LIST shows \
                 (tot-mem, omem, qbuf) whose they are.",
            );
        }
        if found.is_empty() {
            return "No problem with memory was found.\n".to_owned();
        }
        let lines: String = found.iter().map(|line| format!("* {line}\n")).collect();
        format!("Something about memory deserves a look:\n\n{lines}")
    }

    /// There is no report of the allocator's own: what each shard has of it.
    fn allocator(&self) -> String {
        let mut text = format!(
            "allocator: mimalloc\nresident: {}\nresident and of no file: {}\n",
            self.resident, self.allocated
        );
        for (shard, bytes) in self.shards.iter().enumerate() {
            let ShardBytes {
                keys,
                index,
                free,
                clients,
            } = bytes;
            text += &format!(
                "shard {shard}: entries {keys}, index {index}, free in pages {free}, clients \
                 {clients}\n"
            );
        }
        text
    }
}

/// `whole / part`, where nothing over nothing is all there is.
pub fn over(whole: usize, part: usize) -> f64 {
    whole as f64 / part.max(1) as f64
}

fn percent(part: usize, whole: usize) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

fn integers(pairs: &[(&str, usize)], out: &mut Writer) -> CmdResult {
    pairs.iter().try_for_each(|(name, value)| {
        out.bulk(name.as_bytes())?;
        out.int(*value as i64)
    })
}

/// Resident bytes of this process, and those of them that belong to no file, from the kernel. It is
/// asked ten times a second at most: that was a third of what INFO cost. Redis: server.c
/// cronUpdateMemoryStats.
fn resident_bytes() -> (usize, usize) {
    const EVERY_NS: u64 = 100_000_000;
    /// When it was asked, and what it said.
    static LAST: Mutex<Option<(u64, (usize, usize))>> = Mutex::new(None);
    let now_ns = clock::mono_ns();
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    match *last {
        Some((at_ns, bytes)) if now_ns.saturating_sub(at_ns) < EVERY_NS => bytes,
        _ => last.insert((now_ns, resident_now())).1,
    }
}

fn resident_now() -> (usize, usize) {
    let pages = procfs::read("self/statm");
    let page = |at: usize| pages.split(' ').nth(at)?.parse::<usize>().ok();
    let (resident, shared) = (page(1).unwrap_or(0), page(2).unwrap_or(0));
    let bytes = usage::page_bytes();
    (resident * bytes, resident.saturating_sub(shared) * bytes)
}

/// Bytes of memory of this machine.
pub fn system_bytes() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| procfs::bytes_of(&procfs::read("meminfo"), "MemTotal"))
}

/// Bytes as people read them: `1.50M`.
pub fn human(bytes: usize) -> String {
    let units = [("P", 50), ("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    match units.iter().find(|(_, bits)| bytes >> bits > 0) {
        // Redis: server.c bytesToHuman has no unit beyond these.
        Some((unit, bits)) if bytes >> bits < 1 << 10 => {
            format!("{:.2}{unit}", bytes as f64 / (1u64 << bits) as f64)
        }
        _ => format!("{bytes}B"),
    }
}

/// MEMORY HELP.
pub fn memory_help(args: &Args, out: &mut Writer) -> CmdResult {
    help(
        out,
        args,
        &[
            ("DOCTOR", "Look for problems with memory."),
            ("MALLOC-STATS", "Show what each shard has of the memory."),
            ("PURGE", "Ask the allocator to give memory back."),
            ("STATS", "Show what memory is used for."),
            (
                "USAGE <key> [SAMPLES <count>]",
                "Estimate the memory of a key.",
            ),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doctor_judges_proportions() {
        let small = Memory {
            used: 1 << 20,
            resident: 100 << 20,
            ..Memory::default()
        };
        assert!(small.doctor().contains("too little"));
        let healthy = Memory {
            used: 100 << 20,
            peak: 110 << 20,
            active: 101 << 20,
            resident: 120 << 20,
            ..Memory::default()
        };
        assert!(healthy.doctor().starts_with("No problem"));
        let sick = Memory {
            peak: 300 << 20,
            resident: 300 << 20,
            ..healthy
        };
        let told = sick.doctor();
        assert!(told.contains("* Peak") && told.contains("* Resident"));
        assert!(!told.contains("* Fragmentation"));
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(human(17), "17B");
        assert_eq!(human(1536 << 10), "1.50M");
        assert_eq!(human(5 << 40), "5.00T");
        assert_eq!(human(1023 << 50), "1023.00P");
        assert_eq!(human(1 << 60), "1152921504606846976B");
    }
}
