//! From options to running executors, and back.

use std::collections::HashSet;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;

use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level::pipe};

use super::app::App;
use super::driver::{Driver, FrontDoor, Signals};
use super::gathering::Gather;
use super::listen::{self, Doors, Listener, Listening};
use super::mailbox::{Shared, mesh};
use super::preflight::{self, StartError};
use super::scheduling::Scheduling;

/// What the runtime needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// The CPU of each shard.
    pub cpus: Vec<usize>,
    pub scheduling: Scheduling,
    pub gather: Gather,
    /// How long requests may gather while a shard is busy.
    pub gather_longest: Duration,
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

/// Says that a shard's thread is done, also when its executor never came to run.
struct Ended {
    shard: usize,
    to: mpsc::Sender<usize>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        // Nobody listens any more once another shard has failed.
        self.to.send(self.shard).ok();
    }
}

/// The socket files of this process; they go with it.
struct SocketFiles(Vec<PathBuf>);

impl Drop for SocketFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            // The file is only a name; somebody may have removed it already.
            drop(std::fs::remove_file(path));
        }
    }
}

type Executor = ExecutorJoinHandle<std::io::Result<i32>>;

impl Bound {
    /// Whether there is a place to listen at.
    pub fn listens(&self) -> bool {
        !self.listeners.is_empty()
    }

    /// Runs one app per shard until one of them stops the process; returns the exit code. `make`
    /// is called on each shard's own thread.
    ///
    /// A shard that fails is the end of all: its keys are gone, so the error is returned at once,
    /// while the other shards' threads still run. The caller ends the process.
    pub fn run<A: App + 'static>(
        self,
        make: impl Fn(usize) -> A + Send + Clone + 'static,
    ) -> Result<i32, StartError> {
        let Bound { options, listeners } = self;
        super::clock::start_stopwatch();
        let shards = options.cpus.len();
        let _files = SocketFiles(listeners.iter().filter_map(|l| l.unix.clone()).collect());
        let shared = Shared::new(shards);
        let processors: HashSet<usize> = options.cpus.iter().copied().collect();
        let is_crowded = processors.len() < shards;
        let mut front = Some(FrontDoor {
            doors: Doors::new(listeners, options.listening.keepalive_s),
            signals: Some(catch_signals().map_err(StartError::Ring)?),
            is_crowded,
            scheduling: options.scheduling,
            gather: options.gather,
            gather_longest: options.gather_longest,
        });
        let (to, ends) = mpsc::channel();
        let mut executors = Vec::with_capacity(shards);
        for (shard, mailboxes) in mesh::<A::Message>(&shared).into_iter().enumerate() {
            let make = make.clone();
            let shared = shared.clone();
            let others = || FrontDoor {
                is_crowded,
                scheduling: options.scheduling,
                gather: options.gather,
                gather_longest: options.gather_longest,
                ..FrontDoor::default()
            };
            let front = front.take().unwrap_or_else(others);
            let to = to.clone();
            let ended = Ended { shard, to };
            let executor = LocalExecutorBuilder::new(Placement::Fixed(options.cpus[shard]))
                .name(&format!("pinion-{shard}"))
                .io_memory(64 << 10)
                .blocking_thread_pool_placement(glommio::PoolPlacement::Unbound(1))
                .spawn(move || async move {
                    let _ended = ended;
                    // The driver sleeps in its own ring: the executor has no other work.
                    Driver::new(make(shard), shard, shared, mailboxes, front)?.run()
                })
                .map_err(|error| StartError::Executor(error.to_string()))?;
            executors.push(Some(executor));
        }
        await_all(executors, &ends)
    }
}

/// Joins the executors in the order in which they end; the first failure is the result.
fn await_all(
    mut executors: Vec<Option<Executor>>,
    ends: &mpsc::Receiver<usize>,
) -> Result<i32, StartError> {
    let mut exit_code = 0;
    for shard in ends.iter().take(executors.len()) {
        let Some(executor) = executors[shard].take() else {
            continue;
        };
        let ended = executor
            .join()
            .map_err(|error| StartError::Executor(error.to_string()))?;
        exit_code = ended.map_err(StartError::Ring)?;
    }
    Ok(exit_code)
}

/// Turns SIGTERM and SIGINT into bytes on a pipe that shard 0 reads, and ignores what would end the
/// server for no reason.
fn catch_signals() -> std::io::Result<Signals> {
    let (reader, writer) = UnixStream::pair()?;
    let unseen = Arc::new(AtomicBool::new(false));
    let interrupted = Arc::new(AtomicBool::new(false));
    // Redis: server.c sigShutdownHandler: SIGINT while a shutdown is under way exits at once. The app
    // sees to that once it knows of the first; this is for a core that is stuck.
    // Actions run in the order of their registration: the test stands before what makes it true.
    flag::register_conditional_shutdown(SIGINT, 1, unseen.clone())?;
    flag::register(SIGINT, interrupted.clone())?;
    for signal in [SIGINT, SIGTERM] {
        flag::register(signal, unseen.clone())?;
        pipe::register(signal, writer.try_clone()?)?;
    }
    // Ignored: a closed terminal does not end the server, as with Redis; nor does a file that may
    // grow no further, of which the write tells.
    for ignored in [SIGHUP, libc::SIGXFSZ] {
        flag::register(ignored, Arc::new(AtomicBool::new(false)))?;
    }
    Ok(Signals {
        pipe: reader.into(),
        interrupted,
        unseen,
        byte: Box::new([0]),
    })
}
