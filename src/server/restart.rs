//! DEBUG RESTART and DEBUG CRASH-AND-RECOVER: the server ends, and its program begins anew in its place.
//!
//! To whoever started it the process stays the same: its id, its arguments, where it writes to.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::ask::Requester;
use super::host::ServerHost;
use super::log;
use super::stopping::Wish;
use crate::resp::{Args, CmdError, Output, Writer};
use crate::session::Performed;

/// How long after its end the server begins anew, if it is to.
static WISH: OnceLock<Duration> = OnceLock::new();

const FAILED: CmdError = CmdError::Text("ERR failed to restart the server. Check server logs.");

/// The server has come to its end, and is to begin anew.
pub fn wish(delay: Duration) {
    // A server ends once.
    WISH.get_or_init(|| delay);
}

/// What begins when this server has ended: taken before it changes its directory.
pub struct Successor {
    /// An error where it cannot be told: that matters only to a server that begins anew.
    directory: std::io::Result<PathBuf>,
    args: Vec<OsString>,
}

impl Successor {
    pub fn of(args: Vec<OsString>) -> Successor {
        Successor {
            directory: std::env::current_dir(),
            args,
        }
    }

    /// Takes this process' place if that is wished for; otherwise returns.
    ///
    /// # Errors
    /// When the program could not be started, or it cannot be told where this process stood.
    pub fn follow(self) -> std::io::Result<()> {
        let Some(delay) = WISH.get() else {
            return Ok(());
        };
        let (program, directory) = (std::env::current_exe()?, self.directory?);
        std::thread::sleep(*delay);
        let mut command = Command::new(program);
        Err(command.args(&self.args).current_dir(directory).exec())
    }
}

fn may_run(program: &Path) -> bool {
    let about = std::fs::metadata(program);
    about.is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

impl ServerHost {
    /// On shard 0.
    pub(super) fn debug_restart(&mut self, requester: Requester, args: &Args) -> Performed {
        let delay_ms = match args.len() {
            2 => Ok(0),
            _ => args.int(2),
        };
        let delay = match delay_ms {
            Ok(delay_ms) => Duration::from_millis(delay_ms.max(0) as u64),
            Err(error) => return Performed::Failed(error),
        };
        let program = std::env::current_exe().unwrap_or_default();
        if !may_run(&program) {
            log::warning(&format!(
                "Can't restart: this process has no permissions to execute {}",
                program.display()
            ));
            return Performed::Failed(FAILED);
        }
        if args.is(1, "crash-and-recover") {
            wish(delay);
            self.stop = Some(0);
            return Performed::Later;
        }
        if self.config.file.is_some() {
            let mut told = Output::default();
            let mut told = Writer::new(&mut told, requester.proto);
            if self.config_rewrite(false, &mut told).is_err() {
                log::warning("Can't restart: configuration rewrite process failed");
                return Performed::Failed(FAILED);
            }
        }
        self.restart = Some(delay);
        self.end_server(Some(requester), (Wish::Default, false, false));
        Performed::Later
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_to_begin_anew_need_not_know_where_he_stands() {
        let successor = Successor {
            directory: Err(std::io::ErrorKind::NotFound.into()),
            args: Vec::new(),
        };
        assert!(successor.follow().is_ok());
    }
}
