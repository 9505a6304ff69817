//! From options to running executors, and back.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use glommio::{LocalExecutorBuilder, Placement};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::app::App;
use super::driver::{Driver, FrontDoor};
use super::listen::{self, Listener, Listening};
use super::mailbox::{Shared, mesh};
use super::preflight::{self, StartError};

/// What the runtime needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// The CPU of each shard.
    pub cpus: Vec<usize>,
    pub listening: Listening,
}

/// A runtime that holds its ports and has not started serving.
pub struct Bound {
    options: Options,
    listeners: Vec<Listener>,
}

/// Checks the machine and binds the ports, so that what fails does so before anything runs.
pub fn bind(options: Options) -> Result<Bound, StartError> {
    preflight::check()?;
    let listeners = listen::open(&options.listening).map_err(StartError::Listen)?;
    Ok(Bound { options, listeners })
}

impl Bound {
    /// Runs one app per shard until one of them stops the process; returns the exit code. `make`
    /// is called on each shard's own thread.
    pub fn run<A: App + 'static>(
        self,
        make: impl Fn(usize) -> A + Send + Clone + 'static,
    ) -> Result<i32, StartError> {
        let Bound { options, listeners } = self;
        let shards = options.cpus.len();
        let unix_paths: Vec<_> = listeners.iter().filter_map(|l| l.unix.clone()).collect();
        let shared = Shared::new(shards);
        let signals = catch_signals().map_err(StartError::Ring)?;
        let mut front = Some(FrontDoor {
            listeners,
            keepalive_s: options.listening.keepalive_s,
            signals: Some(signals),
        });
        let mut executors = Vec::with_capacity(shards);
        for (shard, mailboxes) in mesh::<A::Message>(&shared).into_iter().enumerate() {
            let make = make.clone();
            let shared = shared.clone();
            let front = front.take().unwrap_or_default();
            let executor = LocalExecutorBuilder::new(Placement::Fixed(options.cpus[shard]))
                .name(&format!("pinion-{shard}"))
                .io_memory(64 << 10)
                .blocking_thread_pool_placement(glommio::PoolPlacement::Unbound(1))
                .spawn(move || async move {
                    // The driver sleeps in its own ring: the executor has no other work.
                    Driver::new(make(shard), shard, shared, mailboxes, front)?.run()
                })
                .map_err(|error| StartError::Executor(error.to_string()))?;
            executors.push(executor);
        }
        let mut exit_code = 0;
        for executor in executors {
            let ended = executor
                .join()
                .map_err(|error| StartError::Executor(error.to_string()))?;
            exit_code = ended.map_err(StartError::Ring)?;
        }
        for path in unix_paths {
            // The socket file is only a name; somebody may have removed it already.
            drop(std::fs::remove_file(path));
        }
        Ok(exit_code)
    }
}

/// Turns SIGTERM and SIGINT into bytes on a pipe that shard 0 reads.
fn catch_signals() -> std::io::Result<OwnedFd> {
    let (reader, writer) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGTERM, writer.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGINT, writer)?;
    Ok(reader.into())
}
