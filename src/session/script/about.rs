//! SCRIPT and its subcommands.

use super::named;
use crate::command::script as command_script;
use crate::resp::{Args, CmdError, Writer};
use crate::session::core::Core;

impl Core {
    /// SCRIPT and its subcommands.
    pub(in crate::session) fn about_scripts(
        &mut self,
        what: command_script::Script,
        args: &Args,
        out: &mut Writer,
    ) -> Result<(), CmdError> {
        use command_script::Script::*;
        let clock = self.shard.clock();
        let store = self.scripts.store.clone();
        match what {
            Eval { .. } | Call { .. } => Err(CmdError::Syntax),
            Load => {
                let script = self.scripts.engine(clock)?.load(args.get(2), &store)?;
                out.bulk(&script.name)
            }
            Exists => {
                out.array(args.len() - 2)?;
                args.iter().skip(2).try_for_each(|name| {
                    let known = named(name).is_some_and(|name| store.find(&name).is_some());
                    out.int(i64::from(known))
                })
            }
            Flush => match args.len() {
                2 => {
                    self.scripts.flush();
                    out.ok()
                }
                3 if args.is(2, "sync") || args.is(2, "async") => {
                    self.scripts.flush();
                    out.ok()
                }
                _ => Err(CmdError::Text(
                    "ERR SCRIPT FLUSH only support SYNC|ASYNC option",
                )),
            },
            Debug if args.is(2, "no") => out.ok(),
            Debug if args.is(2, "yes") || args.is(2, "sync") => {
                Err(CmdError::Text("ERR The Lua debugger is not supported"))
            }
            Debug => Err(CmdError::Text("ERR Use SCRIPT DEBUG YES/SYNC/NO")),
        }
    }
}
