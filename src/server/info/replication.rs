//! INFO replication, and the names under which replicas know this history.

use std::sync::Mutex;

use super::{Context, lines};
use crate::server::following::Figures as Master;
use crate::server::replicas;

/// Names this process by chance: 40 hexadecimal digits each.
#[derive(Debug)]
pub struct Identity {
    pub run_id: String,
    names: Mutex<Names>,
    pub role: crate::server::role::Shared,
}

fn digits() -> String {
    (0..40).map(|_| fastrand::digit(16)).collect()
}

/// Of the history.
#[derive(Clone, Debug)]
struct Names {
    /// `master_replid`
    replid: String,
    /// `master_replid2`, and the first offset that is not of that history.
    second: Option<(String, i64)>,
}

impl Identity {
    pub fn random() -> Identity {
        Identity {
            run_id: digits(),
            names: Mutex::new(Names {
                replid: digits(),
                second: None,
            }),
            role: Default::default(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut Names)) {
        if let Ok(mut names) = self.names.lock() {
            change(&mut names);
        }
    }

    /// A history of its own begins: what was before has nothing to do with it. DEBUG CHANGE-REPL-ID.
    pub fn change_replid(&self) {
        self.change(|names| {
            names.replid = digits();
            names.second = None;
        });
    }

    /// This server has the history of another.
    pub fn take_over(&self, replid: String) {
        self.change(|names| {
            names.replid = replid;
            names.second = None;
        });
    }

    /// The history has another name from `offset` on.
    pub fn rename(&self, replid: String, offset: i64) {
        self.change(|names| {
            let old = std::mem::replace(&mut names.replid, replid);
            names.second = Some((old, offset));
        });
    }

    /// A master's history goes on as this server's own. Redis: replication.c shiftReplicationId.
    pub fn shift(&self, offset: i64) {
        self.rename(digits(), offset);
    }

    /// What is here was made under another name, up to `offset`.
    pub fn come_after(&self, replid: String, offset: i64) {
        self.change(|names| names.second = Some((replid, offset)));
    }

    pub fn replid(&self) -> String {
        self.names
            .lock()
            .map_or_else(|_| String::new(), |names| names.replid.clone())
    }

    /// The name before, and the first offset that is not of it.
    pub fn second(&self) -> (String, i64) {
        let names = self.names.lock();
        let second = names.ok().and_then(|names| names.second.clone());
        second.unwrap_or_else(|| ("0".repeat(40), -1))
    }
}

pub fn replication(context: &Context, replicas: &replicas::Figures) -> String {
    let config = context.config;
    let mut text = match &replicas.master {
        Some(master) => of_master(master, context),
        None => lines(&[("role", "master".into())]),
    };
    let count = replicas.replicas.len();
    text.push_str(&lines(&[("connected_slaves", count.into())]));
    if config.int("min-replicas-to-write") > 0 && config.int("min-replicas-max-lag") > 0 {
        let good = replicas.good;
        text.push_str(&lines(&[("min_slaves_good_slaves", good.into())]));
    }
    for (number, replica) in replicas.replicas.iter().enumerate() {
        text.push_str(&format!("slave{number}:{replica}\r\n"));
    }
    let (second, second_offset) = context.identity.second();
    text + &lines(&[
        (
            "master_failover_state",
            replicas.failover.unwrap_or("no-failover").into(),
        ),
        ("master_replid", context.identity.replid().into()),
        ("master_replid2", second.into()),
        ("master_repl_offset", replicas.offset.into()),
        ("second_repl_offset", second_offset.into()),
        ("repl_backlog_active", u8::from(replicas.streaming).into()),
        ("repl_backlog_size", config.int("repl-backlog-size").into()),
        ("repl_backlog_first_byte_offset", replicas.first.into()),
        ("repl_backlog_histlen", replicas.backlog_bytes.into()),
    ])
}

/// What a replica tells of its master.
fn of_master(master: &Master, context: &Context) -> String {
    let config = context.config;
    let seconds = |known: Option<i64>| known.unwrap_or(-1);
    let status = if master.is_up { "up" } else { "down" };
    let mut text = lines(&[
        ("role", "slave".into()),
        ("master_host", master.host.as_str().into()),
        ("master_port", master.port.into()),
        ("master_link_status", status.into()),
        (
            "master_last_io_seconds_ago",
            seconds(master.silent_s).into(),
        ),
        (
            "master_sync_in_progress",
            u8::from(master.transfer.is_some()).into(),
        ),
        ("slave_read_repl_offset", master.read_offset.into()),
        ("slave_repl_offset", master.offset.into()),
    ]);
    if let Some(transfer) = &master.transfer {
        let size = transfer.size_bytes.map_or(-1, |size| size as i64);
        let read = transfer.read_bytes as i64;
        let percent = match size {
            1.. => read as f64 / size as f64 * 100.0,
            _ => 0.0,
        };
        text.push_str(&lines(&[
            ("master_sync_total_bytes", size.max(0).into()),
            ("master_sync_read_bytes", read.into()),
            ("master_sync_left_bytes", (size - read).into()),
            ("master_sync_perc", format!("{percent:.2}").into()),
            ("master_sync_last_io_seconds_ago", transfer.silent_s.into()),
        ]));
    }
    if !master.is_up {
        text.push_str(&lines(&[(
            "master_link_down_since_seconds",
            seconds(master.down_s).into(),
        )]));
    }
    let flag = |name: &str| u8::from(config.flag(name)).to_string();
    text + &lines(&[
        ("slave_priority", config.text("replica-priority").into()),
        ("slave_read_only", flag("replica-read-only").into()),
        ("replica_announced", flag("replica-announced").into()),
    ])
}
