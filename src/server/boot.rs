//! From the command line to a running server.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use super::host::ServerHost;
use super::node::Node;
use crate::command::Table;
use crate::keyspace::Keyspace;
use crate::runtime::{self, Listening, Options, clock, cpus};
use crate::session::Core;
use crate::shard::{Place, Shard};

pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    let option = |name: &str| {
        args.iter()
            .position(|arg| arg == name)
            .and_then(|at| args.get(at + 1))
            .cloned()
    };
    let shards = option("--shards").and_then(|n| n.parse().ok());
    let list = option("--cpus").and_then(|list| cpus::parse_list(&list));
    let placement = match cpus::place(shards, list.as_deref(), &cpus::allowed(), cpus::quota()) {
        Ok(placement) => placement,
        Err(cpu) => {
            eprintln!("{}", runtime::StartError::ForbiddenCpu(cpu));
            return ExitCode::FAILURE;
        }
    };
    let options = Options {
        cpus: placement.cpus.clone(),
        listening: Listening {
            bind: vec!["127.0.0.1".into(), "-::1".into()],
            port: option("--port")
                .and_then(|port| port.parse().ok())
                .unwrap_or(6379),
            unix_socket: None,
            unix_mode: 0,
            backlog: 511,
            keepalive_s: 300,
        },
    };
    let bound = match runtime::bind(options) {
        Ok(bound) => bound,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let table = Arc::new(Table::new(&[]).expect("no command is renamed"));
    let shards = placement.cpus.len();
    let ran = bound.run(move |shard| {
        let place = Place { shard, shards };
        let keyspace = Keyspace::new(16, fastrand::u64(..));
        let shard_state = Shard::new(place, keyspace, table.entries().len(), clock::mono_ns);
        Node {
            core: Core::new(shard_state, table.clone()),
            host: ServerHost::new(shard, shards, 1),
            databases: 16,
            maxclients: 10000,
        }
    });
    match ran {
        Ok(code) => ExitCode::from(code as u8),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
