//! INFO persistence: loading, snapshots and the append-only file.

use super::{JournalFigures, NodeFigures, flag, lines, total, verdict};

pub fn persistence(nodes: &[NodeFigures]) -> String {
    let Some(files) = nodes.iter().find_map(|node| node.files.as_ref()) else {
        return String::new();
    };
    let status = &files.status;
    let (saved, to_save) = files.saving.map_or((0, 0), |saving| {
        let keys = || nodes.iter().flat_map(|n| &n.dbs).map(|db| db.keys).sum();
        saving.progress.unwrap_or_else(|| (0, keys()))
    });
    let rdb_s = files.saving.and_then(|saving| saving.rdb_s);
    let mut text = lines(&[
        (
            "loading",
            flag(files.loading.is_some() && !files.serves).into(),
        ),
        ("async_loading", flag(files.serves).into()),
        ("current_cow_peak", "0".into()),
        ("current_cow_size", "0".into()),
        ("current_cow_size_age", "0".into()),
        ("current_fork_perc", "0.00".into()),
        ("current_save_keys_processed", saved.into()),
        ("current_save_keys_total", to_save.into()),
        (
            "rdb_changes_since_last_save",
            total(nodes, |n| n.dirty).into(),
        ),
        ("rdb_bgsave_in_progress", flag(rdb_s.is_some()).into()),
        ("rdb_last_save_time", status.last_save_s.into()),
        ("rdb_last_bgsave_status", verdict(status.last_ok).into()),
        ("rdb_last_bgsave_time_sec", status.last_took_s.into()),
        ("rdb_current_bgsave_time_sec", rdb_s.unwrap_or(-1).into()),
        ("rdb_saves", status.saves.into()),
        ("rdb_last_cow_size", "0".into()),
        ("rdb_last_load_keys_expired", status.keys_expired.into()),
        ("rdb_last_load_keys_loaded", status.keys_loaded.into()),
    ]);
    text += &journal_lines(&files.journal);
    if let Some((begun_s, done, all, took_s)) = files.loading {
        let percent = done as f64 * 100.0 / all.max(1) as f64;
        let left = all.saturating_sub(done) as f64 * took_s as f64 / done.max(1) as f64;
        text += &lines(&[
            ("loading_start_time", begun_s.into()),
            ("loading_total_bytes", all.into()),
            ("loading_loaded_bytes", done.into()),
            ("loading_loaded_perc", format!("{percent:.2}").into()),
            ("loading_eta_seconds", format!("{left:.0}").into()),
        ]);
    }
    text
}

fn journal_lines(journal: &JournalFigures) -> String {
    let mut text = lines(&[
        ("aof_enabled", flag(journal.on).into()),
        (
            "aof_rewrite_in_progress",
            flag(journal.rewriting_s.is_some()).into(),
        ),
        ("aof_rewrite_scheduled", flag(journal.scheduled).into()),
        ("aof_last_rewrite_time_sec", journal.last_took_s.into()),
        (
            "aof_current_rewrite_time_sec",
            journal.rewriting_s.unwrap_or(-1).into(),
        ),
        ("aof_last_bgrewrite_status", verdict(journal.last_ok).into()),
        ("aof_rewrites", journal.rewrites.into()),
        ("aof_rewrites_consecutive_failures", journal.failures.into()),
        ("aof_last_write_status", verdict(journal.write_ok).into()),
        ("aof_last_cow_size", "0".into()),
        ("module_fork_in_progress", "0".into()),
        ("module_fork_last_cow_size", "0".into()),
    ]);
    if journal.on {
        text += &lines(&[
            ("aof_current_size", journal.size_bytes.into()),
            ("aof_base_size", journal.base_bytes.into()),
            ("aof_pending_rewrite", "0".into()),
            ("aof_buffer_length", journal.pending_bytes.into()),
            ("aof_pending_bio_fsync", "0".into()),
            ("aof_delayed_fsync", journal.delayed_syncs.into()),
        ]);
    }
    text
}
