//! `maxclients` and how many files this process may open: each client is one.

use super::config::{Config, SetError};
use super::log;
use crate::runtime::preflight;

/// Files that are no clients: sockets, rings, the log, segments. Redis: server.h
/// CONFIG_MIN_RESERVED_FDS.
const OTHERS: u64 = 32;
/// What each shard beyond the first opens for itself.
const OTHERS_PER_SHARD: u64 = 8;

fn others(shards: usize) -> u64 {
    OTHERS + OTHERS_PER_SHARD * (shards as u64).saturating_sub(1)
}

/// How many clients fit.
fn clients_max(open_files: u64, shards: usize) -> u64 {
    open_files.saturating_sub(others(shards))
}

/// Lowers `maxclients` to what fits, and has the log say so. Returns whether any client fits. Redis:
/// server.c adjustOpenFilesLimit.
pub fn lower_maxclients(config: &mut Config, shards: usize) -> bool {
    let open_files = preflight::open_files();
    let (wanted, fit) = (
        config.int("maxclients") as u64,
        clients_max(open_files, shards),
    );
    let needed = wanted + others(shards);
    if fit == 0 {
        log::warning(&format!(
            "Your current 'ulimit -n' of {open_files} is not enough for the server to start. Please \
             increase your open file limit to at least {needed}. Exiting."
        ));
        return false;
    }
    if fit < wanted {
        config.replace("maxclients", &fit.to_string());
        log::warning(&format!(
            "You requested maxclients of {wanted} requiring at least {needed} max file descriptors."
        ));
        log::warning(&format!(
            "Current maximum open files is {open_files}. maxclients has been reduced to {fit} to \
             compensate for low ulimit. If you need higher maxclients increase 'ulimit -n'."
        ));
    }
    true
}

/// Refuses a `maxclients` that does not fit. Redis: config.c updateMaxclients.
pub fn check(new: &Config, old: &Config, shards: usize) -> Result<(), SetError> {
    let (wanted, fit) = (
        new.int("maxclients"),
        clients_max(preflight::open_files(), shards),
    );
    if wanted <= old.int("maxclients") || wanted as u64 <= fit {
        return Ok(());
    }
    Err(SetError::Refused {
        name: "maxclients".into(),
        reason: format!(
            "The operating system is not able to handle the specified number of clients, try with {fit}"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_room_for_what_shards_open() {
        assert_eq!(clients_max(200, 1), 168);
        assert_eq!(clients_max(200, 3), 152);
        assert_eq!(clients_max(20, 1), 0);
    }
}
