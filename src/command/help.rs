//! HELP of the containers: what their subcommands are for.

use crate::resp::{Args, CmdResult, Writer};

/// The first line. Redis: networking.c addReplyHelp, the container is called what the client calls it.
pub fn heading(args: &Args) -> String {
    let container = args.name().to_ascii_uppercase();
    let container = String::from_utf8_lossy(&container);
    format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
}

/// The reply of a container's HELP: a heading, then name and description of each subcommand.
pub fn help(out: &mut Writer, args: &Args, subcommands: &[(&str, &str)]) -> CmdResult {
    out.array(1 + 2 * (subcommands.len() + 1))?;
    out.simple(&heading(args))?;
    for (name, description) in subcommands.iter().chain(&[("HELP", "Print this help.")]) {
        out.simple(name)?;
        out.simple(&format!("    {description}"))?;
    }
    Ok(())
}
