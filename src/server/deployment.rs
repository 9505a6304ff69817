//! Modules, functions, replicas and clusters, as far as there are any: no module, no function, no
//! replica, no cluster. Tools ask about them all the same, and get true answers.

use super::host::ServerHost;
use crate::command::help::help;
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
                args,
                &[
                    ("LIST", "Show the modules: there are none."),
                    ("LOAD <path> [<arg> ...]", "Not supported."),
                    (
                        "LOADEX <path> [[CONFIG NAME VALUE] [CONFIG NAME VALUE]] [ARGS ...]",
                        "Not supported.",
                    ),
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
}
