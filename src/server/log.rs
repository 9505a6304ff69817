//! Log lines in Redis' format, so that whatever watches Redis recognises them.
//!
//! `pid:role day month year hour:minute:second.millisecond level text`, in local time

use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Local, TimeZone};

use crate::runtime::crash;

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
    path: Option<PathBuf>,
    level: Level,
    syslog: Option<Syslog>,
}

/// The system's log, beside the server's own.
struct Syslog {
    socket: UnixDatagram,
    facility: u32,
    ident: String,
}

impl Syslog {
    /// `<facility * 8 + severity>ident[pid]: text`, as syslog(3) sends it; the time is the daemon's.
    fn line(&self, level: Level, text: &str) -> String {
        let severity = match level {
            Level::Debug => 7,
            Level::Verbose => 6,
            Level::Notice => 5,
            Level::Warning => 4,
        };
        let (priority, ident) = (self.facility * 8 + severity, &self.ident);
        format!("<{priority}>{ident}[{}]: {text}", std::process::id())
    }
}

static SINK: Mutex<Sink> = Mutex::new(Sink {
    path: None,
    level: Level::Notice,
    syslog: None,
});

/// Chooses where log lines go (an empty path: standard output) and which are written.
pub fn configure(path: &Path, level: Level) -> std::io::Result<()> {
    let path = match path.as_os_str().is_empty() {
        true => None,
        // `dir` may change; the log stays where it was.
        false => Some(std::path::absolute(path)?),
    };
    if let Some(path) = &path {
        open(path)?;
    }
    if let Ok(mut sink) = SINK.lock() {
        sink.path = path;
        sink.level = level;
    }
    Ok(())
}

/// Has lines sent to the system's log, too, under a facility of syslog(3). A system without one is
/// none the worse.
pub fn join_syslog(ident: &str, facility: &str) -> std::io::Result<()> {
    let facility = match facility.strip_prefix("local") {
        Some(number) => 16 + number.parse().unwrap_or(0),
        None => 1,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect("/dev/log")?;
    // A daemon that does not read must not stop the server.
    socket.set_nonblocking(true)?;
    if let Ok(mut sink) = SINK.lock() {
        sink.syslog = Some(Syslog {
            socket,
            facility,
            ident: ident.to_owned(),
        });
    }
    Ok(())
}

pub fn set_level(level: Level) {
    if let Ok(mut sink) = SINK.lock() {
        sink.level = level;
    }
}

// Redis: server.c serverLogRaw opens the file for each line, so that whoever rotates logs moves it away
// and needs to tell nobody.
fn open(path: &Path) -> std::io::Result<File> {
    File::options().create(true).append(true).open(path)
}

pub fn notice(text: &str) {
    write(Level::Notice, text);
}

pub fn warning(text: &str) {
    write(Level::Warning, text);
}

/// Writes one line, at once.
pub fn write(level: Level, text: &str) {
    raw(
        level,
        &format(std::process::id(), &Local::now(), level, text),
    );
    if let Ok(sink) = SINK.lock()
        && let Some(syslog) = sink.syslog.as_ref().filter(|_| level >= sink.level)
    {
        let _unsent = syslog.socket.send(syslog.line(level, text).as_bytes());
    }
}

/// Has deadly signals reported in the log.
pub fn note_crashes() {
    if let Ok(sink) = SINK.lock() {
        crash::arm(sink.path.as_deref());
    }
}

/// Has panics written to the log, with where they came from: standard error may lead nowhere.
pub fn note_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let trace = std::backtrace::Backtrace::force_capture();
        let version = env!("CARGO_PKG_VERSION");
        let text = format!(
            "=== PINION BUG REPORT START ===\nPinion {version} crashed: {panic}\n------ STACK TRACE \
             ------\n{trace}\n=== PINION BUG REPORT END ==="
        );
        // Whoever panics may have been writing to the log.
        let line = format(std::process::id(), &Local::now(), Level::Warning, &text);
        if let Ok(sink) = SINK.try_lock() {
            put(&sink, &line);
        }
        let _unwritten = std::io::stderr().write_all(line.as_bytes());
        crash::told();
    }));
}

fn put(sink: &Sink, text: &str) {
    // A log that cannot be written must not stop the server.
    let _unwritten = match &sink.path {
        Some(path) => open(path).and_then(|mut file| file.write_all(text.as_bytes())),
        None => std::io::stdout().write_all(text.as_bytes()),
    };
}

/// Writes text as it is: the banner.
pub fn raw(level: Level, text: &str) {
    let Ok(sink) = SINK.lock() else { return };
    if level < sink.level {
        return;
    }
    put(&sink, text);
}

/// Lines tell that they are a replica's.
static IS_REPLICA: AtomicBool = AtomicBool::new(false);

/// The role of this process, as its lines tell it.
pub fn set_replica(is_replica: bool) {
    IS_REPLICA.store(is_replica, Ordering::Relaxed);
}

fn format<Z: TimeZone<Offset: std::fmt::Display>>(
    pid: u32,
    at: &DateTime<Z>,
    level: Level,
    text: &str,
) -> String {
    let role = match IS_REPLICA.load(Ordering::Relaxed) {
        true => 'S',
        false => 'M',
    };
    format!(
        "{pid}:{role} {} {} {text}\n",
        at.format("%d %b %Y %H:%M:%S%.3f"),
        level.mark()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_gets_lines_with_a_priority() {
        let syslog = Syslog {
            socket: UnixDatagram::unbound().unwrap(),
            facility: 16,
            ident: "redis".to_owned(),
        };
        let pid = std::process::id();
        let line = syslog.line(Level::Warning, "text");
        assert_eq!(line, format!("<132>redis[{pid}]: text"));
    }

    #[test]
    fn lines_look_like_those_of_redis() {
        let east = chrono::FixedOffset::east_opt(2 * 3600).unwrap();
        let at = east.timestamp_millis_opt(1_709_210_096_007).unwrap();
        let line = format(42, &at, Level::Warning, "text");
        assert_eq!(line, "42:M 29 Feb 2024 14:34:56.007 # text\n");
    }

    #[test]
    fn a_log_that_was_moved_away_begins_anew() {
        let folder = std::env::temp_dir().join(format!("pinion-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (path, moved) = (folder.join("log"), folder.join("log.1"));
        for _ in 0..2 {
            open(&path).unwrap().write_all(b"line\n").unwrap();
        }
        std::fs::rename(&path, &moved).unwrap();
        open(&path).unwrap().write_all(b"next\n").unwrap();
        assert_eq!(std::fs::read(&moved).unwrap(), b"line\nline\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"next\n");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
