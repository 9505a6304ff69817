//! INFO replication, and the names under which replicas know this history.

use std::sync::Mutex;

use super::{Context, lines};
use crate::server::replicas;

/// Names this process by chance: 40 hexadecimal digits each.
#[derive(Debug)]
pub struct Identity {
    pub run_id: String,
    /// `master_replid`
    replid: Mutex<String>,
    pub role: crate::server::role::Shared,
}

fn digits() -> String {
    (0..40).map(|_| fastrand::digit(16)).collect()
}

impl Identity {
    pub fn random() -> Identity {
        Identity {
            run_id: digits(),
            replid: Mutex::new(digits()),
            role: Default::default(),
        }
    }

    /// DEBUG CHANGE-REPL-ID.
    pub fn change_replid(&self) {
        if let Ok(mut replid) = self.replid.lock() {
            *replid = digits();
        }
    }

    pub fn replid(&self) -> String {
        self.replid
            .lock()
            .map_or_else(|_| String::new(), |id| id.clone())
    }
}

pub fn replication(context: &Context, replicas: &replicas::Figures) -> String {
    let config = context.config;
    let mut text = lines(&[
        ("role", "master".into()),
        ("connected_slaves", replicas.replicas.len().to_string()),
    ]);
    if config.int("min-replicas-to-write") > 0 && config.int("min-replicas-max-lag") > 0 {
        let good = replicas.good.to_string();
        text.push_str(&lines(&[("min_slaves_good_slaves", good)]));
    }
    for (number, replica) in replicas.replicas.iter().enumerate() {
        text.push_str(&format!("slave{number}:{replica}\r\n"));
    }
    text + &lines(&[
        ("master_failover_state", "no-failover".into()),
        ("master_replid", context.identity.replid()),
        ("master_replid2", "0".repeat(40)),
        ("master_repl_offset", replicas.offset.to_string()),
        ("second_repl_offset", "-1".into()),
        (
            "repl_backlog_active",
            u8::from(replicas.streaming).to_string(),
        ),
        (
            "repl_backlog_size",
            config.int("repl-backlog-size").to_string(),
        ),
        ("repl_backlog_first_byte_offset", replicas.first.to_string()),
        ("repl_backlog_histlen", replicas.backlog_bytes.to_string()),
    ])
}
