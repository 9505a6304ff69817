//! Log lines in Redis' format, so that whatever watches Redis recognises them.
//!
//! `pid:role day month year hour:minute:second.millisecond level text`

use std::io::Write;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// Severity, in the order of `loglevel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Verbose,
    Notice,
    Warning,
}

impl Level {
    const fn mark(self) -> char {
        match self {
            Level::Debug => '.',
            Level::Verbose => '-',
            Level::Notice => '*',
            Level::Warning => '#',
        }
    }

    /// A value of `loglevel`.
    pub fn parse(name: &str) -> Level {
        match name {
            "debug" => Level::Debug,
            "verbose" => Level::Verbose,
            "warning" => Level::Warning,
            _ => Level::Notice,
        }
    }
}

struct Sink {
    /// `None`: standard output.
    file: Option<std::fs::File>,
    level: Level,
}

static SINK: Mutex<Sink> = Mutex::new(Sink {
    file: None,
    level: Level::Notice,
});

/// Chooses where log lines go (an empty path: standard output) and which are written.
pub fn configure(path: &str, level: Level) -> std::io::Result<()> {
    let file = if path.is_empty() {
        None
    } else {
        Some(
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)?,
        )
    };
    if let Ok(mut sink) = SINK.lock() {
        *sink = Sink { file, level };
    }
    Ok(())
}

pub fn notice(text: &str) {
    write(Level::Notice, text);
}

pub fn warning(text: &str) {
    write(Level::Warning, text);
}

/// Writes one line, at once.
pub fn write(level: Level, text: &str) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let line = format(std::process::id(), now.as_millis() as i64, level, text);
    raw(level, &line);
}

/// Writes text as it is: the banner.
pub fn raw(level: Level, text: &str) {
    let Ok(mut sink) = SINK.lock() else { return };
    if level < sink.level {
        return;
    }
    // A log that cannot be written must not stop the server.
    let _unwritten = match &mut sink.file {
        Some(file) => file.write_all(text.as_bytes()),
        None => std::io::stdout().write_all(text.as_bytes()),
    };
}

fn format(pid: u32, unix_ms: i64, level: Level, text: &str) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (days, ms) = (
        unix_ms.div_euclid(86_400_000),
        unix_ms.rem_euclid(86_400_000),
    );
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!(
        "{pid}:M {day:02} {} {year} {hour:02}:{minute:02}:{second:02}.{:03} {} {text}\n",
        MONTHS[month as usize - 1],
        ms % 1000,
        level.mark()
    )
}

/// Year, month and day of a number of days since 1970-01-01.
/// Howard Hinnant, chrono-Compatible Low-Level Date Algorithms: civil_from_days.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_like_those_of_redis() {
        let line = format(42, 1_709_210_096_007, Level::Warning, "text");
        assert_eq!(line, "42:M 29 Feb 2024 12:34:56.007 # text\n");
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(-1), (1969, 12, 31));
    }
}
