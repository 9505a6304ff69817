//! From the command line to a running server, and its end.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use super::config::{self, Config};
use super::host::{REDIS_VERSION, ServerHost};
use super::log::{self, Level};
use super::monitor::quote;
use super::node::Node;
use super::settings;
use crate::command::Table;
use crate::keyspace::Keyspace;
use crate::runtime::{self, Listening, Options, StartError, clock, cpus};
use crate::session::Core;
use crate::shard::{Place, Shard};

/// What the command line asks for.
enum Invocation {
    Serve {
        file: Option<String>,
        options: String,
    },
    /// Print this and exit with success.
    Print(String),
    Refuse(String),
}

/// Runs the server until it is told to stop.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let (file, options) = match parse(&args) {
        Invocation::Serve { file, options } => (file, options),
        Invocation::Print(text) => {
            log::raw(Level::Warning, &text);
            return ExitCode::SUCCESS;
        }
        Invocation::Refuse(text) => return fail(&text),
    };
    match config::load(file.as_deref(), &options) {
        Ok(config) => serve(config),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(text: &str) -> ExitCode {
    use std::io::Write;
    // If standard error is gone there is nobody left to tell.
    let _unwritten = writeln!(std::io::stderr(), "{text}");
    ExitCode::FAILURE
}

/// `[file|-] [--name value ...] ...`: options become lines of configuration.
fn parse(args: &[String]) -> Invocation {
    let mut file = None;
    let mut options = String::new();
    let mut i = 0;
    while i < args.len() {
        let arg = args[i].as_str();
        match arg {
            "-v" | "--version" => return Invocation::Print(version()),
            "-h" | "--help" => return Invocation::Print(usage()),
            "--sentinel" => {
                return Invocation::Refuse("Pinion does not run as a Sentinel.".into());
            }
            _ if i == 0 && (arg == "-" || !arg.starts_with('-')) => file = Some(arg.to_owned()),
            _ => match arg.strip_prefix("--") {
                Some(name) => {
                    let mut line = name.as_bytes().to_vec();
                    let mut values = 0;
                    while args
                        .get(i + 1)
                        .is_some_and(|value| !value.starts_with("--"))
                    {
                        i += 1;
                        values += 1;
                        line.push(b' ');
                        // A single value may be several words, as in --save "900 1".
                        let several = args[i].contains(' ') && !args[i].starts_with('"');
                        match several {
                            true => line.extend_from_slice(args[i].as_bytes()),
                            false => quote(args[i].as_bytes(), &mut line),
                        }
                    }
                    if values == 0 && name == "save" {
                        line.extend_from_slice(b" \"\"");
                    }
                    line.push(b'\n');
                    options.push_str(&String::from_utf8_lossy(&line));
                }
                None => {
                    return Invocation::Refuse(format!("Unknown argument '{arg}'.\n{}", usage()));
                }
            },
        }
        i += 1;
    }
    Invocation::Serve { file, options }
}

fn version() -> String {
    format!(
        "Pinion server v={} redis={REDIS_VERSION} malloc=mimalloc bits={}\n",
        env!("CARGO_PKG_VERSION"),
        usize::BITS
    )
}

fn usage() -> String {
    "Usage: pinion [/path/to/redis.conf] [options] [-]\n       \
     pinion - (read the configuration from standard input)\n       \
     pinion -v | --version\n       pinion -h | --help\n\n\
     Every parameter of redis.conf is an option: --port 7000 --save \"\" --maxclients 100\n  \
     --shards N    number of shards (default: one for each CPU the process may use)\n  \
     --cpus LIST   CPUs to run on, for example 0,2-3\n"
        .to_owned()
}

fn options_of(config: &Config) -> Result<(Options, bool), StartError> {
    let shards = usize::try_from(config.int("shards"))
        .ok()
        .filter(|&shards| shards > 0);
    let list = config.text("cpus");
    let list = if list.is_empty() {
        None
    } else {
        cpus::parse_list(list)
    };
    let placement = cpus::place(shards, list.as_deref(), &cpus::allowed(), cpus::quota())
        .map_err(StartError::ForbiddenCpu)?;
    let unix_socket = config.text("unixsocket");
    let listening = Listening {
        bind: config.text("bind").split(' ').map(str::to_owned).collect(),
        port: config.int("port") as u16,
        unix_socket: (!unix_socket.is_empty()).then(|| unix_socket.into()),
        unix_mode: u32::from_str_radix(config.text("unixsocketperm"), 8).unwrap_or(0),
        backlog: config.int("tcp-backlog") as i32,
        keepalive_s: config.int("tcp-keepalive").max(0) as u64,
    };
    Ok((
        Options {
            cpus: placement.cpus,
            listening,
        },
        placement.crowded,
    ))
}

fn serve(config: Config) -> ExitCode {
    if let Err(error) = std::env::set_current_dir(config.text("dir")) {
        return fail(&format!("Can't chdir to '{}': {error}", config.text("dir")));
    }
    if let Err(error) = log::configure(
        config.text("logfile"),
        Level::parse(config.text("loglevel")),
    ) {
        return fail(&format!("Can't open the log file: {error}"));
    }
    log::notice("oO0OoO0OoO0Oo Pinion is starting oO0OoO0OoO0Oo");
    let table = match Table::new(&config.renames) {
        Ok(table) => Arc::new(table),
        Err(name) => {
            let name = String::from_utf8_lossy(&name).into_owned();
            return fail(&format!(
                "rename-command: no such command, or the name is taken: {name}"
            ));
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
    announce(&config, shards);
    run(config, table, bound, shards)
}

fn announce(config: &Config, shards: usize) {
    log::raw(
        Level::Notice,
        &format!(
            "\n    .-o-o-.     Pinion {} ({} bit), {shards} shard(s)\n   o  .-.  o    \
             Port: {}\n   o  '-'  o    PID: {}\n    '-o-o-'\n\n",
            env!("CARGO_PKG_VERSION"),
            usize::BITS,
            config.text("port"),
            std::process::id()
        ),
    );
    let idle = config.without_effect();
    if !idle.is_empty() {
        log::notice(&format!(
            "Accepted without effect in this version: {}",
            idle.join(", ")
        ));
    }
    log::notice("Server initialized");
    log::notice("Ready to accept connections");
}

fn run(config: Config, table: Arc<Table>, bound: runtime::Bound, shards: usize) -> ExitCode {
    let config = Arc::new(config);
    let started_ms = clock::now().unix_ms();
    let seed = fastrand::u64(..);
    let ran = bound.run(move |shard| {
        let databases = config.int("databases") as u32;
        let keyspace = Keyspace::new(databases, seed.wrapping_add(shard as u64));
        let place = Place { shard, shards };
        let commands = table.entries().len();
        let shard_state = Shard::new(place, keyspace, commands, clock::mono_ns);
        let mut core = Core::new(shard_state, table.clone());
        let mut host = ServerHost::new(shard, shards, config.clone(), started_ms);
        settings::install(&config, &mut core, &mut host);
        Node { core, host }
    });
    match ran {
        Ok(code) => ExitCode::from(code as u8),
        Err(error) => fail(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &[&str]) -> Option<(Option<String>, String)> {
        let args: Vec<String> = line.iter().map(|&arg| arg.to_owned()).collect();
        match parse(&args) {
            Invocation::Serve { file, options } => Some((file, options)),
            _ => None,
        }
    }

    #[test]
    fn options_become_lines_of_configuration() {
        let (file, lines) = options(&[
            "my.conf", "--port", "7000", "--save", "", "--bind", "::1", "1.2.3.4",
        ])
        .unwrap();
        assert_eq!(file.as_deref(), Some("my.conf"));
        assert_eq!(
            lines,
            "port \"7000\"\nsave \"\"\nbind \"::1\" \"1.2.3.4\"\n"
        );
        let (_, lines) = options(&["--save", "900 1"]).unwrap();
        assert_eq!(lines, "save 900 1\n");
        assert!(options(&["--version"]).is_none());
        assert!(options(&["x.conf", "stray"]).is_none());
    }
}
