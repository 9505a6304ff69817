//! What ACL shows and changes nothing by: users, categories, passwords made up, what a user may do.

use std::io::Read;

use crate::acl::{Reason, User, Users};
use crate::command::{Table, flags};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::session::Core;

pub(super) fn names(users: &Users, out: &mut Writer) -> CmdResult {
    out.array(users.iter().len())?;
    users.iter().try_for_each(|user| out.bulk(&user.name))
}

pub(super) fn list(users: &Users, out: &mut Writer) -> CmdResult {
    out.array(users.iter().len())?;
    let mut lines = users.iter().map(|user| user.line(users.catalog()));
    lines.try_for_each(|line| out.bulk(&line))
}

/// ACL GETUSER
pub(super) fn show(user: &User, users: &Users, out: &mut Writer) -> CmdResult {
    let permissions = user.permissions(users.catalog());
    let flags = user.flags();
    out.map(6)?;
    out.bulk(b"flags")?;
    out.set(flags.len())?;
    flags
        .iter()
        .try_for_each(|flag| out.bulk(flag.as_bytes()))?;
    out.bulk(b"passwords")?;
    out.array(user.passwords().len())?;
    user.passwords()
        .try_for_each(|password| out.bulk(password))?;
    let mut selectors = permissions.iter();
    if let Some(root) = selectors.next() {
        show_selector(root, out)?;
    }
    out.bulk(b"selectors")?;
    out.array(selectors.len())?;
    selectors.try_for_each(|selector| {
        out.map(3)?;
        show_selector(selector, out)
    })
}

fn show_selector(texts: &[Vec<u8>; 3], out: &mut Writer) -> CmdResult {
    let names = ["commands", "keys", "channels"];
    names.iter().zip(texts).try_for_each(|(name, text)| {
        out.bulk(name.as_bytes())?;
        out.bulk(text)
    })
}

/// `ACL CAT [category]`
pub(super) fn category(table: &Table, args: &Args, out: &mut Writer) -> CmdResult {
    let all = flags::CATEGORY_NAMES;
    let names: Vec<String> = match args.len() {
        2 => all.iter().map(|(_, name)| (*name).to_owned()).collect(),
        3 => {
            let wanted = args.get(2);
            let known = all
                .iter()
                .find(|(_, name)| wanted.eq_ignore_ascii_case(name.as_bytes()));
            let Some((bit, _)) = known else {
                const QUOTED_MAX_BYTES: usize = 128;
                let quoted = &wanted[..wanted.len().min(QUOTED_MAX_BYTES)];
                return Err(CmdError::quoting(&[
                    b"ERR Unknown category '",
                    quoted,
                    b"'",
                ]));
            };
            let entries = table.entries().iter();
            entries
                .filter(|entry| entry.command.categories() & bit != 0)
                .map(|entry| entry.full_name())
                .collect()
        }
        _ => return Err(CmdError::subcommand(args)),
    };
    out.array(names.len())?;
    names.iter().try_for_each(|name| out.bulk(name.as_bytes()))
}

/// `ACL GENPASS [bits]`: hexadecimal digits from the kernel's source of chance.
pub(super) fn generate_password(args: &Args, out: &mut Writer) -> CmdResult {
    const BITS_MAX: i64 = 4096;
    let bits = match args.len() {
        2 => 256,
        3 => args.int(2)?,
        _ => return Err(CmdError::subcommand(args)),
    };
    if !(1..=BITS_MAX).contains(&bits) {
        return Err(CmdError::Text(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a \
             positive number up to 4096",
        ));
    }
    let digits = (bits as usize).div_ceil(4);
    let mut bytes = vec![0; digits.div_ceil(2)];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    if read.is_err() {
        return Err(CmdError::Text(
            "ERR the kernel's source of chance cannot be read",
        ));
    }
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    out.bulk(&text.as_bytes()[..digits])
}

/// `ACL DRYRUN user command [arg ...]`
pub(super) fn dry_run(core: &Core, args: &Args, out: &mut Writer) -> CmdResult {
    let Some(user) = core.users.get(args.get(2)) else {
        return Err(CmdError::quoting(&[
            b"ERR User '",
            args.get(2),
            b"' not found",
        ]));
    };
    let request = args.from(3);
    let Some(entry) = core.table.named(&request) else {
        return Err(CmdError::quoting(&[
            b"ERR Command '",
            request.get(0),
            b"' not found",
        ]));
    };
    let name = entry.full_name();
    if !entry.command.accepts(request.len()) {
        return Err(CmdError::arity(&name));
    }
    let Err(denied) = user.check(entry, &request) else {
        return out.ok();
    };
    let (before, object, after): (&[u8], &[u8], &[u8]) = match denied.reason {
        Reason::Command => (b"run", name.as_bytes(), b"command"),
        Reason::Key => (b"access", request.get(denied.at), b"key"),
        _ => (b"access", request.get(denied.at), b"channel"),
    };
    let words = [
        b"This user has no permissions to ",
        before,
        b" the '",
        object,
        b"' ",
        after,
    ];
    out.bulk(&words.concat())
}
