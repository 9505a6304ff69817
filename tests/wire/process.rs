//! Servers as processes: ours, and Debian's redis-server beside it.

use std::fs;
use std::net::TcpListener;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Got};

/// From `exec` to the first answered PING, with whatever is loaded, on a machine that is busy.
const START_WAIT: Duration = Duration::from_secs(60);
/// From a signal to the exit.
const STOP_WAIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    /// `redis-server` as the distribution ships it. Missing means the tests fail: a comparison
    /// that does not happen proves nothing.
    Reference,
    /// This crate's binary, with so many shards.
    Pinion { shards: u32 },
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Which::Reference => f.write_str("redis-server"),
            Which::Pinion { shards } => write!(f, "pinion --shards {shards}"),
        }
    }
}

pub struct Server {
    pub which: Which,
    pub port: u16,
    pub dir: PathBuf,
    child: Child,
}

impl Server {
    /// Starts a server that keeps nothing on disk and waits until it answers.
    pub fn start(which: Which, options: &[&str]) -> Server {
        let mut server = Server::spawn(which, free_port(), options);
        server.wait_until_up();
        server
    }

    /// Starts the process on `port` without waiting for anything.
    pub fn spawn(which: Which, port: u16, options: &[&str]) -> Server {
        let dir = fresh_dir();
        let (port_text, dir_text) = (port.to_string(), dir.to_string_lossy().into_owned());
        let mut args = vec!["--port", &port_text, "--save", "", "--dir", &dir_text];
        args.extend(["--enable-debug-command", "yes"]);
        args.extend(["--repl-diskless-sync-delay", "0"]);
        args.extend(options);
        let mut command = command(which, &args);
        let child = spawn_logged(&mut command, &dir);
        Server {
            which,
            port,
            dir,
            child,
        }
    }

    /// Starts a server in the folder that another one left, without waiting for anything. The folder
    /// stays the other's.
    pub fn start_in(which: Which, dir: &Path, options: &[&str]) -> Server {
        let (port, own) = (free_port(), fresh_dir());
        let (port_text, dir_text) = (port.to_string(), dir.to_string_lossy().into_owned());
        let mut args = vec!["--port", &port_text, "--save", "", "--dir", &dir_text];
        args.extend(["--enable-debug-command", "yes"]);
        args.extend(["--repl-diskless-sync-delay", "0"]);
        args.extend(options);
        let child = spawn_logged(&mut command(which, &args), &own);
        Server {
            which,
            port,
            dir: own,
            child,
        }
    }

    /// Starts the process with exactly these arguments, in a fresh folder that holds `files`.
    pub fn spawn_bare(which: Which, files: &[(&str, &str)], args: &[&str]) -> Server {
        Server::spawn_under(which, &[], files, args)
    }

    /// The same, with these variables in its environment.
    pub fn spawn_under(
        which: Which,
        variables: &[(&str, &str)],
        files: &[(&str, &str)],
        args: &[&str],
    ) -> Server {
        let dir = fresh_dir();
        for (name, text) in files {
            fs::write(dir.join(name), text).expect("write a file for the server");
        }
        let mut command = command(which, args);
        command.current_dir(&dir).envs(variables.iter().copied());
        let child = spawn_logged(&mut command, &dir);
        Server {
            which,
            port: 0,
            dir,
            child,
        }
    }

    pub fn wait_until_up(&mut self) {
        let deadline = Instant::now() + START_WAIT;
        loop {
            if let Ok(mut client) = Client::tcp(self.port)
                && matches!(client.call(&["PING"]), Got::Reply(it) if !it.starts_with(b"-LOADING"))
            {
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} exited with {status}:\n{}", self.which, self.log());
            }
            assert!(
                Instant::now() < deadline,
                "{} does not answer:\n{}",
                self.which,
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn client(&self) -> Client {
        Client::tcp(self.port).unwrap_or_else(|error| {
            panic!("connect to {}: {error}\n{}", self.which, self.log());
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Standard output and error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status()
            .expect("kill is there");
        assert!(status.success(), "kill -{name}");
    }

    /// Ends the process at this very moment.
    pub fn kill(&mut self) {
        let killed = self.child.kill();
        assert!(killed.is_ok() && self.child.wait().is_ok(), "kill");
    }

    /// Waits for the process to end by itself.
    pub fn exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + STOP_WAIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "{} does not exit:\n{}",
                self.which,
                self.log()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most it ever was.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("alive");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect(name);
        let kb: u64 = line
            .trim_end_matches("kB")
            .trim()
            .parse()
            .expect("a number");
        kb * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let killed = self.child.kill();
        let waited = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of {} ---\n{}", self.which, tail(&self.log()));
        } else {
            assert!(killed.is_ok() && waited.is_ok(), "the child was ours");
        }
        remove(&self.dir);
    }
}

fn tail(log: &str) -> &str {
    let from = log.len().saturating_sub(4_000);
    match log.get(from..) {
        Some(tail) => tail,
        None => log,
    }
}

fn command(which: Which, args: &[&str]) -> Command {
    match which {
        Which::Reference => {
            let mut command = Command::new("redis-server");
            command.args(args);
            command
        }
        Which::Pinion { shards } => {
            // Another build of the same server, for instance a release build.
            let path = std::env::var_os("PINION_WIRE_BINARY")
                .unwrap_or_else(|| env!("CARGO_BIN_EXE_pinion").into());
            let stand_in = Path::new(&path)
                .file_name()
                .is_some_and(|name| name == "redis-server");
            let mut command = Command::new(path);
            // Options come after a configuration file. With 0 shards there are none.
            command.args(args);
            if !stand_in && shards > 0 {
                command.args(["--shards", &shards.to_string()]);
            }
            command
        }
    }
}

fn spawn_logged(command: &mut Command, dir: &Path) -> Child {
    let log = fs::File::create(dir.join("log")).expect("create the log");
    let errors = log.try_clone().expect("one log for both");
    command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .unwrap_or_else(|error| {
            panic!(
                "cannot start {:?}: {error}; `.ci/test` installs it",
                command.get_program()
            )
        })
}

/// A port nobody listens on, and that no other test of this process is given: two servers on one port
/// would answer for each other. It is none of those that the kernel gives to connections (from 32768),
/// and another process begins elsewhere.
pub fn free_port() -> u16 {
    const FIRST: u32 = 11_000;
    const COUNT: u32 = 21_000;
    const APART: u32 = 997;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(APART);
    for _ in 0..COUNT {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + number % COUNT) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("every port is taken");
}

/// A folder that several servers use, one after another; it goes after them.
pub struct SharedDir(PathBuf);

impl SharedDir {
    pub fn new() -> SharedDir {
        SharedDir(fresh_dir())
    }
}

impl Deref for SharedDir {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for SharedDir {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// What a failure leaves can be looked at: `PINION_WIRE_KEEP=1`.
fn remove(dir: &Path) {
    if thread::panicking() && std::env::var_os("PINION_WIRE_KEEP").is_some() {
        eprintln!("kept: {}", dir.display());
        return;
    }
    let _: std::io::Result<()> = fs::remove_dir_all(dir);
}

fn fresh_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("pinion-wire-{}-{number}", std::process::id()));
    fs::create_dir_all(&dir).expect("create a folder for the server");
    dir
}
