//! INFO persistence: loading, snapshots and the append-only file.

use super::{JournalFigures, NodeFigures, flag, lines, total, verdict};

pub fn persistence(nodes: &[NodeFigures]) -> String {
    let Some(files) = nodes.iter().find_map(|node| node.files.as_ref()) else {
        return String::new();
    };
    let status = &files.status;
    let (saved, to_save) = files.saving.map_or((0, 0), |saving| saving.progress);
    let rdb_s = files.saving.and_then(|saving| saving.rdb_s);
    let mut text = lines(&[
        ("loading", flag(files.loading.is_some() && !files.serves)),
        ("async_loading", flag(files.serves)),
        ("current_cow_peak", "0".into()),
        ("current_cow_size", "0".into()),
        ("current_cow_size_age", "0".into()),
        ("current_fork_perc", "0.00".into()),
        ("current_save_keys_processed", saved.to_string()),
        ("current_save_keys_total", to_save.to_string()),
        (
            "rdb_changes_since_last_save",
            total(nodes, |n| n.dirty).to_string(),
        ),
        ("rdb_bgsave_in_progress", flag(rdb_s.is_some())),
        ("rdb_last_save_time", status.last_save_s.to_string()),
        ("rdb_last_bgsave_status", verdict(status.last_ok)),
        ("rdb_last_bgsave_time_sec", status.last_took_s.to_string()),
        (
            "rdb_current_bgsave_time_sec",
            rdb_s.unwrap_or(-1).to_string(),
        ),
        ("rdb_saves", status.saves.to_string()),
        ("rdb_last_cow_size", "0".into()),
        (
            "rdb_last_load_keys_expired",
            status.keys_expired.to_string(),
        ),
        ("rdb_last_load_keys_loaded", status.keys_loaded.to_string()),
    ]);
    text += &journal_lines(&files.journal);
    if let Some((begun_s, done, all, took_s)) = files.loading {
        let percent = done as f64 * 100.0 / all.max(1) as f64;
        let left = all.saturating_sub(done) as f64 * took_s as f64 / done.max(1) as f64;
        text += &lines(&[
            ("loading_start_time", begun_s.to_string()),
            ("loading_total_bytes", all.to_string()),
            ("loading_loaded_bytes", done.to_string()),
            ("loading_loaded_perc", format!("{percent:.2}")),
            ("loading_eta_seconds", format!("{left:.0}")),
        ]);
    }
    text
}

fn journal_lines(journal: &JournalFigures) -> String {
    let mut text = lines(&[
        ("aof_enabled", flag(journal.on)),
        (
            "aof_rewrite_in_progress",
            flag(journal.rewriting_s.is_some()),
        ),
        ("aof_rewrite_scheduled", flag(journal.scheduled)),
        ("aof_last_rewrite_time_sec", journal.last_took_s.to_string()),
        (
            "aof_current_rewrite_time_sec",
            journal.rewriting_s.unwrap_or(-1).to_string(),
        ),
        ("aof_last_bgrewrite_status", verdict(journal.last_ok)),
        ("aof_rewrites", journal.rewrites.to_string()),
        (
            "aof_rewrites_consecutive_failures",
            journal.failures.to_string(),
        ),
        ("aof_last_write_status", verdict(journal.write_ok)),
        ("aof_last_cow_size", "0".into()),
        ("module_fork_in_progress", "0".into()),
        ("module_fork_last_cow_size", "0".into()),
    ]);
    if journal.on {
        text += &lines(&[
            ("aof_current_size", journal.size_bytes.to_string()),
            ("aof_base_size", journal.base_bytes.to_string()),
            ("aof_pending_rewrite", "0".into()),
            ("aof_buffer_length", journal.pending_bytes.to_string()),
            ("aof_pending_bio_fsync", "0".into()),
            ("aof_delayed_fsync", journal.delayed_syncs.to_string()),
        ]);
    }
    text
}
