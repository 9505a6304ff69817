//! HELP of the containers: what their subcommands are for.

use crate::resp::{CmdResult, Writer};

/// The reply of a container's HELP: a heading, then name and description of each subcommand.
pub fn help(out: &mut Writer, container: &str, subcommands: &[(&str, &str)]) -> CmdResult {
    let heading = format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    out.array(1 + 2 * (subcommands.len() + 1))?;
    out.simple(&heading)?;
    for (name, description) in subcommands.iter().chain(&[("HELP", "Print this help.")]) {
        out.simple(name)?;
        out.simple(&format!("    {description}"))?;
    }
    Ok(())
}
