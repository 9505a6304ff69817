//! From the command line to a running server, and its end.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::acl;
use super::config::cli::{self, Invocation};
use super::config::{self, Config};
use super::following::Master;
use super::host::{REDIS_VERSION, ServerHost};
use super::info::Identity;
use super::journal::Boot;
use super::log::{self, Level};
use super::node::Node;
use super::open_files;
use super::persist::{self, Part};
use super::restart::Successor;
use super::role::Role;
use super::settings;
use super::supervise;
use super::title;
use super::tools;
use crate::acl::Users;
use crate::command::Table;
use crate::keyspace::Keyspace;
use crate::runtime::{self, Gather, Listening, Options, Scheduling, StartError, clock, cpus};
use crate::script;
use crate::session::Core;
use crate::shard::budget::{self, Budget};
use crate::shard::{Place, Shard};

/// Runs the server until it is told to stop.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let words: Vec<String> = args.iter().map(|arg| config::text_of_name(arg)).collect();
    let sources = match cli::parse(&words) {
        Invocation::Serve(sources) => sources,
        Invocation::Tell { text, code: 0 } => {
            log::raw(Level::Warning, &text);
            return ExitCode::SUCCESS;
        }
        Invocation::Tell { text, .. } => return fail(text.trim_end()),
        Invocation::CheckSystem => {
            return match runtime::preflight::check() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error.to_string()),
            };
        }
        Invocation::Tool { tool, path } => return tools::run(tool, &path),
    };
    let stdin = config::read_stdin(&sources);
    let loaded = stdin.and_then(|stdin| Ok((config::load(&sources, stdin.as_deref())?, stdin)));
    let (config, stdin) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return fail(&error.to_string()),
    };
    match supervise::leave_to_background(&config, &args, stdin.as_deref()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            title::prepare();
            let successor = Successor::of(args);
            let code = serve(config);
            match successor.follow() {
                Ok(()) => code,
                Err(error) => fail(&format!("Can't start again: {error}")),
            }
        }
        Err(error) => fail(&format!("Can't go into the background: {error}")),
    }
}

fn fail(text: &str) -> ExitCode {
    use std::io::Write;
    // If standard error is gone there is nobody left to tell.
    let _unwritten = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}

fn options_of(config: &Config) -> Result<(Options, bool), StartError> {
    let shards = usize::try_from(config.int("shards"))
        .ok()
        .filter(|&shards| shards > 0);
    let allowed = cpus::allowed();
    let list = match config.text("cpus") {
        "" => cpus::parse_redis_list(config.text("server_cpulist"), &allowed),
        list => cpus::parse_list(list),
    };
    let placement = cpus::place(shards, list.as_deref(), &allowed, cpus::quota())
        .map_err(StartError::ForbiddenCpu)?;
    Ok((
        Options {
            cpus: placement.cpus,
            scheduling: match config.text("shard-scheduling") {
                "batch" => Scheduling::Batch,
                "other" => Scheduling::Other,
                _ => Scheduling::Auto,
            },
            gather: match config.text("shard-gathering") {
                "always" => Gather::Always,
                "never" => Gather::Never,
                _ => Gather::Auto,
            },
            gather_longest: runtime::GATHER_LONGEST,
            listening: listening_of(config),
        },
        placement.crowded,
    ))
}

/// Where a configuration listens.
pub fn listening_of(config: &Config) -> Listening {
    let unix_socket = config.text("unixsocket");
    Listening {
        // None at all is a server for the unix socket alone.
        bind: config
            .text("bind")
            .split_ascii_whitespace()
            .map(str::to_owned)
            .collect(),
        port: config.int("port") as u16,
        unix_socket: (!unix_socket.is_empty()).then(|| config::path_of(unix_socket)),
        unix_mode: u32::from_str_radix(config.text("unixsocketperm"), 8).unwrap_or(0),
        backlog: config.int("tcp-backlog") as i32,
        keepalive_s: config.int("tcp-keepalive").max(0) as u64,
    }
}

fn serve(mut config: Config) -> ExitCode {
    if let Err(error) = std::env::set_current_dir(config.path("dir")) {
        return fail(&format!("Can't chdir to '{}': {error}", config.text("dir")));
    }
    if let Err(error) = log::configure(
        &config.path("logfile"),
        Level::parse(config.text("loglevel")),
    ) {
        return fail(&format!("Can't open the log file: {error}"));
    }
    if config.flag("syslog-enabled")
        && let Err(error) =
            log::join_syslog(config.text("syslog-ident"), config.text("syslog-facility"))
    {
        log::warning(&format!("The system's log cannot be reached: {error}"));
    }
    log::note_panics();
    if config.flag("crash-log-enabled") {
        log::note_crashes();
    }
    log::notice("oO0OoO0OoO0Oo Pinion is starting oO0OoO0OoO0Oo");
    if config.flag("disable-thp") && !runtime::preflight::disable_huge_pages() {
        log::warning("Transparent huge pages could not be disabled: latencies may suffer.");
    }
    let table = match Table::new(&config.renames) {
        Ok(table) => Arc::new(table),
        Err(name) => {
            let name = String::from_utf8_lossy(&name).into_owned();
            return fail(&format!(
                "rename-command: no such command, or the name is taken: {name}"
            ));
        }
    };
    let users = match acl::at_start(&config, &table) {
        Ok(users) => Arc::new(users),
        Err(error) => {
            log::warning(&error);
            log::warning("Critical error while loading ACLs. Exiting.");
            return ExitCode::FAILURE;
        }
    };
    let bound = options_of(&config).and_then(|(options, crowded)| {
        if crowded {
            log::warning("There are more shards than CPUs: they share, and latencies suffer.");
        }
        runtime::bind(options.clone()).map(|bound| (bound, options.cpus.len()))
    });
    let (bound, shards) = match bound {
        Ok(bound) => bound,
        Err(error) => {
            log::warning(&format!("Warning: {error}"));
            if matches!(error, StartError::Listen(_)) {
                let port = config.text("port");
                log::warning(&format!("Failed listening on port {port} (tcp), aborting."));
            }
            return ExitCode::FAILURE;
        }
    };
    if !bound.listens() {
        log::warning("Configured to not listen anywhere, exiting.");
        return ExitCode::FAILURE;
    }
    if !open_files::lower_maxclients(&mut config, shards) {
        return ExitCode::FAILURE;
    }
    announce(&config, shards);
    supervise::begin(&config);
    let _pid_file = PidFile::write(supervise::pid_file(&config));
    run(config, table, users, bound, shards)
}

/// The file that names this process to others; it goes with it.
struct PidFile(Option<PathBuf>);

impl PidFile {
    fn write(path: &str) -> PidFile {
        if path.is_empty() {
            return PidFile(None);
        }
        let written = std::path::absolute(config::path_of(path)).and_then(|path| {
            std::fs::write(&path, format!("{}\n", std::process::id()))?;
            Ok(path)
        });
        match written {
            Ok(path) => PidFile(Some(path)),
            Err(error) => {
                log::warning(&format!("Failed to write PID file: {error}"));
                PidFile(None)
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Somebody may have removed it already.
            drop(std::fs::remove_file(path));
        }
    }
}

fn announce(config: &Config, shards: usize) {
    let port = config.text("port");
    let on_terminal = config.text("logfile").is_empty() && std::io::stdout().is_terminal();
    if on_terminal || config.flag("always-show-logo") {
        log::raw(
            Level::Notice,
            &format!(
                "\n    .-o-o-.     Pinion {} ({} bit), {shards} shard(s)\n   o  .-.  o    \
                 Port: {port}\n   o  '-'  o    PID: {}\n    '-o-o-'\n\n",
                env!("CARGO_PKG_VERSION"),
                usize::BITS,
                std::process::id()
            ),
        );
    } else {
        log::notice(&format!(
            "Pinion version={}, bits={}, shards={shards}, running mode=standalone, port={port}, pid={}",
            env!("CARGO_PKG_VERSION"),
            usize::BITS,
            std::process::id()
        ));
    }
    let idle = config.without_effect();
    if !idle.is_empty() {
        log::notice(&format!(
            "Accepted without effect in this version: {}",
            idle.join(", ")
        ));
    }
    let in_the_clear: Vec<&str> = idle
        .into_iter()
        .filter(|name| matches!(*name, "tls-cluster" | "tls-port" | "tls-replication"))
        .collect();
    if !in_the_clear.is_empty() {
        log::warning(&format!(
            "There is no TLS in this version: what {} should encrypt goes in the clear",
            in_the_clear.join(", ")
        ));
    }
    log::notice("Server initialized");
}

/// What shard 0 alone begins with.
fn begin_office(host: &mut ServerHost, boot: Boot) {
    host.boot = boot;
    host.start_following();
    let (config, is_replica) = (host.config.clone(), host.identity.role.is_replica());
    if host.oom_score.apply(&config, is_replica).is_err() {
        log::warning("oom-score-adj has no effect: the kernel refuses it");
    }
}

/// Who this process is, and whether it begins as a replica.
fn identity_of(config: &Config) -> Identity {
    let identity = Identity::random();
    if Master::of_config(config.text("replicaof")).is_some() {
        identity.role.set(Role::Replica { is_linked: false });
        log::set_replica(true);
    }
    identity
}

/// What is loaded before clients are served.
fn boot_of(config: &Config) -> Boot {
    if config.flag("appendonly") {
        Boot::Journal
    } else if config.path("dbfilename").exists() {
        Boot::Snapshot
    } else {
        Boot::Nothing
    }
}

fn run(
    config: Config,
    table: Arc<Table>,
    users: Arc<Users>,
    bound: runtime::Bound,
    shards: usize,
) -> ExitCode {
    let config = Arc::new(config);
    let started_ms = clock::now().unix_ms();
    let seed = fastrand::u64(..);
    let identity = Arc::new(identity_of(&config));
    let figures = budget::figures(shards);
    let file_figures = persist::shared(shards);
    let boot = boot_of(&config);
    if boot == Boot::Nothing {
        supervise::ready();
    }
    let scripts: Arc<script::Store> = Arc::default();
    let libraries: Arc<script::library::Libraries> = Arc::default();
    let late: Arc<script::late::LateScripts> = Arc::default();
    let ran = bound.run(move |shard| {
        let databases = config.int("databases") as u32;
        let mut keyspace = Keyspace::new(databases, seed.wrapping_add(shard as u64));
        keyspace.set_replica(identity.role.is_replica());
        let place = Place { shard, shards };
        let commands = table.entries().len();
        let mut shard_state = Shard::new(place, keyspace, commands, clock::stopwatch_ns);
        shard_state.budget = Budget::new(shard, figures.clone());
        let mut core = Core::new(shard_state, table.clone());
        core.users = users.clone();
        core.scripts.store = scripts.clone();
        core.scripts.late = late.clone();
        core.scripts.libraries = libraries.clone();
        core.scripts.manner = script::Manner {
            version: REDIS_VERSION,
            seed: seed.wrapping_add(shard as u64),
            deprecated: config.flag("lua-enable-deprecated-api"),
        };
        let mut part = Part::new(shard, file_figures.clone());
        part.loading = boot != Boot::Nothing;
        part.set_any_loading(part.loading);
        let (config, users) = (config.clone(), users.clone());
        let mut host = ServerHost::new(
            part,
            shards,
            config.clone(),
            identity.clone(),
            users,
            started_ms,
        );
        host.persistence.libraries = libraries.clone();
        host.gauges.startup_bytes = core.shard.keyspace.memory_bytes();
        if shard == 0 {
            begin_office(&mut host, boot);
        }
        settings::install(&config, &mut core, &mut host);
        Node { core, host }
    });
    match ran {
        Ok(code) => ExitCode::from(code as u8),
        Err(error) => fail(&error.to_string()),
    }
}
