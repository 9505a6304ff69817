//! How the server stands to whoever started it: to an init script that waits for it to go into the
//! background (`daemonize`), or to a service manager that wants to be told (`supervised`).
//!
//! There is no fork: the process starts itself again, in a session of its own, and leaves.

use std::ffi::OsString;
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::config::{self, Config};
use super::log;
use crate::runtime;

/// Set in the process that was started to stay in the background.
const IN_BACKGROUND: &str = "PINION_IN_BACKGROUND";
/// Where a server in the background writes its process id unless told otherwise, as Redis does.
const PID_FILE: &str = "/var/run/redis.pid";

/// Who supervises this server.
static SUPERVISED: OnceLock<Manager> = OnceLock::new();
/// Where systemd listens, if it is to be told.
static SYSTEMD: OnceLock<Option<UnixDatagram>> = OnceLock::new();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manager {
    Nobody,
    Upstart,
    Systemd,
}

/// Whose environment this is, for a value of `supervised`.
fn manager(supervised: &str, has: impl Fn(&str) -> bool) -> Manager {
    match (supervised, has("UPSTART_JOB"), has("NOTIFY_SOCKET")) {
        ("upstart" | "auto", true, _) => Manager::Upstart,
        ("systemd" | "auto", _, true) => Manager::Systemd,
        _ => Manager::Nobody,
    }
}

fn manager_of(config: &Config) -> Manager {
    manager(config.text("supervised"), |name| {
        std::env::var_os(name).is_some()
    })
}

fn is_in_background() -> bool {
    std::env::var_os(IN_BACKGROUND).is_some()
}

/// Starts the server again in the background, if it is to be there and is not yet; true: this process
/// has nothing left to do. `args` are those behind the program's name, `stdin` what was read from there.
///
/// # Errors
/// When no process could be started.
pub fn leave_to_background(
    config: &Config,
    args: &[OsString],
    stdin: Option<&str>,
) -> std::io::Result<bool> {
    if !config.flag("daemonize") || manager_of(config) != Manager::Nobody {
        return Ok(false);
    }
    if is_in_background() {
        runtime::title::lead_session()?;
        return Ok(false);
    }
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(name) = std::env::args_os().next() {
        command.arg0(name);
    }
    command
        .args(args)
        .env(IN_BACKGROUND, "yes")
        .stdin(if stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    if let (Some(mut input), Some(text)) = (child.stdin.take(), stdin) {
        input.write_all(&config::bytes_of(text))?;
    }
    Ok(true)
}

/// The file for the process id; empty: none.
pub fn pid_file(config: &Config) -> &str {
    match config.text("pidfile") {
        "" if is_in_background() => PID_FILE,
        path => path,
    }
}

/// Makes the manager's acquaintance, before anything takes time.
pub fn begin(config: &Config) {
    match *SUPERVISED.get_or_init(|| manager_of(config)) {
        Manager::Nobody => {}
        Manager::Upstart => {
            log::notice("supervised by upstart, will stop to signal readiness");
            if let Err(error) = signal_hook::low_level::raise(signal_hook::consts::SIGSTOP) {
                log::warning(&format!("Stopping for upstart failed: {error}"));
            }
        }
        Manager::Systemd => {
            log::notice(
                "supervised by systemd. Please make sure you set appropriate values for \
                 TimeoutStartSec and TimeoutStopSec in your service unit.",
            );
            let path = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
            let socket = connect(path);
            if let Err(error) = &socket {
                log::warning(&format!("systemd cannot be told: {error}"));
            }
            let _first = SYSTEMD.set(socket.ok());
            tell("STATUS=Loading\n");
        }
    }
}

/// A path, or after `@` a name in Linux' abstract space. Format: sd_notify(3).
fn connect(path: OsString) -> std::io::Result<UnixDatagram> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(OsString::from_vec(path.into_vec()))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // A manager that does not read must not hold up a shard.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn tell(state: &str) {
    if let Some(Some(socket)) = SYSTEMD.get()
        && let Err(error) = socket.send(state.as_bytes())
    {
        log::warning(&format!("systemd cannot be told: {error}"));
    }
}

/// Who supervises, in the words of INFO.
pub fn by() -> &'static str {
    match SUPERVISED.get() {
        None | Some(Manager::Nobody) => "no",
        Some(Manager::Upstart) => "upstart",
        Some(Manager::Systemd) => "systemd",
    }
}

/// Clients are served from now on.
pub fn ready() {
    log::notice("Ready to accept connections");
    tell("STATUS=Ready to accept connections\nREADY=1\n");
}

/// The server begins to end.
pub fn stopping() {
    tell("STATUS=Stopping\nSTOPPING=1\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_tells_who_supervises() {
        let of = |supervised, names: &[&str]| manager(supervised, |name| names.contains(&name));
        let (upstart, systemd) = ("UPSTART_JOB", "NOTIFY_SOCKET");
        assert_eq!(of("auto", &[]), Manager::Nobody);
        assert_eq!(of("no", &[upstart, systemd]), Manager::Nobody);
        assert_eq!(of("auto", &[upstart, systemd]), Manager::Upstart);
        assert_eq!(of("systemd", &[upstart, systemd]), Manager::Systemd);
        assert_eq!(of("auto", &[systemd]), Manager::Systemd);
        assert_eq!(of("upstart", &[systemd]), Manager::Nobody);
    }

    #[test]
    fn sockets_are_reached_by_path_and_by_name() {
        let dir = std::env::temp_dir().join(format!("pinion-notify-{}", std::process::id()));
        let _old = std::fs::remove_file(&dir);
        let by_path = UnixDatagram::bind(&dir).expect("a socket");
        let name = format!("pinion-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let by_name = UnixDatagram::bind_addr(&address).expect("a socket");
        let told = |socket: &UnixDatagram, path: OsString| {
            connect(path)
                .expect("connected")
                .send(b"READY=1")
                .expect("sent");
            let mut got = [0; 16];
            let len = socket.recv(&mut got).expect("received");
            got[..len].to_vec()
        };
        assert_eq!(told(&by_path, dir.clone().into()), b"READY=1");
        assert_eq!(told(&by_name, format!("@{name}").into()), b"READY=1");
        drop(std::fs::remove_file(&dir));
        assert!(connect(dir.into()).is_err());
    }
}
