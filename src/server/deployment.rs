//! Modules, functions, replicas and clusters, as far as there are any: no module, no function, no
//! replica, no cluster. Tools ask about them all the same, and get true answers.

use super::host::ServerHost;
use crate::command::connection::help;
use crate::resp::{Args, CmdError, CmdResult, Writer};

impl ServerHost {
    /// MODULE and its subcommands. There are no modules.
    pub(super) fn module(&self, is_local: bool, args: &Args, out: &mut Writer) -> CmdResult {
        if args.is(1, "list") {
            return out.array(0);
        }
        if args.is(1, "help") {
            return help(
                out,
                "MODULE",
                &[
                    ("LIST", "Show the modules: there are none."),
                    ("LOAD <path> [<arg> ...]", "Not supported."),
                    ("LOADEX <path> [<option> ...]", "Not supported."),
                    ("UNLOAD <name>", "Not supported."),
                ],
            );
        }
        let allowed = self.config.allows("enable-module-command", is_local);
        Err(CmdError::Text(if !allowed {
            "ERR MODULE command not allowed. If the enable-module-command option is set to \
             \"local\", you can run it from a local connection, otherwise you need to set this \
             option in the configuration file, and then restart the server."
        } else if args.is(1, "unload") {
            "ERR Error unloading module: no such module with that name"
        } else {
            "ERR Error loading the extension. Please check the server logs."
        }))
    }

    /// REPLICAOF, SLAVEOF and FAILOVER of a master without replicas.
    pub(super) fn replication(&self, args: &Args, out: &mut Writer) -> CmdResult {
        if args.is(0, "failover") {
            return Err(failover(args));
        }
        if args.is(1, "no") && args.is(2, "one") {
            return out.ok();
        }
        match args.int(2) {
            Ok(0..=65_535) => Err(CmdError::Text(
                "ERR this server cannot be a replica: replication is not supported yet",
            )),
            _ => Err(CmdError::Text("ERR Invalid master port")),
        }
    }
}

/// Why a server without replicas cannot fail over. Redis: replication.c failoverCommand.
fn failover(args: &Args) -> CmdError {
    if args.len() == 2 && args.is(1, "abort") {
        return CmdError::Text("ERR No failover in progress.");
    }
    let (mut at, mut timed, mut named, mut forced) = (1, false, false, false);
    while at < args.len() {
        if args.is(at, "timeout") && at + 1 < args.len() && !timed {
            match args.int(at + 1) {
                Ok(1..) => timed = true,
                Ok(_) => return CmdError::Text("ERR FAILOVER timeout must be greater than 0"),
                Err(error) => return error,
            }
            at += 2;
        } else if args.is(at, "to") && at + 2 < args.len() && !named {
            if let Err(error) = args.int(at + 2) {
                return error;
            }
            named = true;
            at += 3;
        } else if args.is(at, "force") && !forced {
            forced = true;
            at += 1;
        } else {
            return CmdError::Syntax;
        }
    }
    CmdError::Text("ERR FAILOVER requires connected replicas.")
}
