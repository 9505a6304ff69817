//! Lookup of a request's command: by name, and for containers by subcommand.

use ahash::AHashMap;

use super::{
    Command, Run, acl, bitmap, connection, deployment, function, generic, geo, hash, hyperloglog,
    list, pubsub, script, server, set, stream, string, transaction, zset,
};
use crate::resp::{Args, CmdError};

/// The families, each with its rows next to its functions.
const FAMILIES: &[&[Command]] = &[
    acl::COMMANDS,
    bitmap::COMMANDS,
    connection::COMMANDS,
    deployment::COMMANDS,
    function::COMMANDS,
    generic::COMMANDS,
    generic::expire::COMMANDS,
    geo::COMMANDS,
    hash::COMMANDS,
    hyperloglog::COMMANDS,
    list::COMMANDS,
    pubsub::COMMANDS,
    server::COMMANDS,
    set::COMMANDS,
    stream::COMMANDS,
    string::COMMANDS,
    transaction::COMMANDS,
    script::COMMANDS,
    zset::COMMANDS,
    zset::algebra::COMMANDS,
    zset::range::COMMANDS,
];

/// Index of a command or subcommand in [`Table::entries`]; the key of all per-command statistics.
pub type CommandId = u16;

/// A command or subcommand with its place in the table.
pub struct Entry {
    pub id: CommandId,
    pub command: &'static Command,
    pub container: Option<&'static Command>,
    /// Its name by [`folded`], if that says all of it.
    folded: Option<Folded>,
}

impl Entry {
    /// The name statistics and ACL rules use: `get`, `client|list`.
    pub fn full_name(&self) -> String {
        match self.container {
            Some(container) => format!("{}|{}", container.name, self.command.name),
            None => self.command.name.to_owned(),
        }
    }
}

/// All commands this server knows, under the names its configuration leaves them.
pub struct Table {
    entries: Vec<Entry>,
    /// Where most names are found at once: commands of letters alone that kept their name, by
    /// [`quick_slot`]. The first that claims a slot has it.
    quick: Box<[Option<CommandId>; QUICK_SLOTS]>,
    by_name: AHashMap<Box<[u8]>, CommandId>,
    /// Subcommands: id of the container and lower-case name.
    by_subcommand: AHashMap<(CommandId, Box<[u8]>), CommandId>,
    /// First names of commands that have another one now, or none.
    renamed: AHashMap<Box<[u8]>, CommandId>,
}

/// Slots for some 270 names: few share one.
const QUICK_SLOTS: usize = 2048;
/// Longest name that is looked for there.
const QUICK_MAX_BYTES: usize = 16;

/// A short name's length and both its ends, which together are all of it; letters in lower case.
/// Other bytes become others, too: where what is looked for consists of letters alone, equal numbers
/// are equal names.
type Folded = (usize, u64, u64);

#[inline]
fn folded(name: &[u8]) -> Option<Folded> {
    /// What tells a letter's cases apart, in each byte.
    const CASES: u64 = u64::MAX / 0xff * 0x20;
    let (first, last) = if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        (first.into(), last.into())
    } else {
        // One to three letters.
        let middle = u64::from(*name.get(name.len() / 2)?) << 8;
        (middle | u64::from(*name.first()?), (*name.last()?).into())
    };
    (name.len() <= QUICK_MAX_BYTES).then_some((name.len(), first | CASES, last | CASES))
}

/// A slot for a name.
#[inline]
fn quick_slot((len, first, last): Folded) -> usize {
    let mixed = first ^ last.rotate_left(29) ^ len as u64;
    let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (64 - QUICK_SLOTS.ilog2())) as usize
}

/// What a request names.
pub enum Lookup<'a> {
    Found(&'a Entry),
    Error(CmdError),
}

/// Longest name worth folding to lower case: no command is longer.
const NAME_MAX_BYTES: usize = 48;
/// How much of an unknown command and of its arguments an error quotes. Redis: server.c.
const QUOTED_MAX_BYTES: usize = 128;

impl Table {
    /// The table with `renames` (original name, new name; an empty new name removes the command)
    /// applied. Fails with the name that does not exist or is taken.
    pub fn new(renames: &[(Vec<u8>, Vec<u8>)]) -> Result<Table, Vec<u8>> {
        let mut table = Table {
            entries: Vec::new(),
            quick: Box::new([None; QUICK_SLOTS]),
            by_name: AHashMap::new(),
            by_subcommand: AHashMap::new(),
            renamed: AHashMap::new(),
        };
        for command in FAMILIES.iter().copied().flatten() {
            let id = table.push(command, None);
            table.by_name.insert(command.name.as_bytes().into(), id);
            for sub in command.sub {
                let sub_id = table.push(sub, Some(command));
                table
                    .by_subcommand
                    .insert((id, sub.name.as_bytes().into()), sub_id);
            }
        }
        for (from, to) in renames {
            let from = from.to_ascii_lowercase();
            let id = table
                .by_name
                .remove(from.as_slice())
                .ok_or_else(|| from.clone())?;
            table.renamed.insert(from.into_boxed_slice(), id);
            let to = to.to_ascii_lowercase();
            if !to.is_empty() && table.by_name.insert(to.as_slice().into(), id).is_some() {
                return Err(to);
            }
        }
        for entry in &table.entries {
            let has_kept_name = table.by_name.get(entry.command.name.as_bytes()) == Some(&entry.id);
            if let Some(folded) = entry.folded.filter(|_| has_kept_name) {
                table.quick[quick_slot(folded)].get_or_insert(entry.id);
            }
        }
        Ok(table)
    }

    fn push(
        &mut self,
        command: &'static Command,
        container: Option<&'static Command>,
    ) -> CommandId {
        let id = self.entries.len() as CommandId;
        let name = command.name.as_bytes();
        self.entries.push(Entry {
            id,
            command,
            container,
            folded: folded(name).filter(|_| name.iter().all(u8::is_ascii_lowercase)),
        });
        id
    }

    /// All commands and subcommands, by id.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub fn entry(&self, id: CommandId) -> &Entry {
        &self.entries[usize::from(id)]
    }

    /// The command called `name` in any case.
    pub fn find(&self, name: &[u8]) -> Option<&Entry> {
        if let Some(word) = folded(name)
            && let Some(id) = self.quick[quick_slot(word)]
            && let entry = self.entry(id)
            && entry.folded == Some(word)
        {
            return Some(entry);
        }
        let mut folded = [0u8; NAME_MAX_BYTES];
        let folded = folded.get_mut(..name.len())?;
        folded.copy_from_slice(name);
        folded.make_ascii_lowercase();
        self.by_name.get(&*folded).map(|&id| self.entry(id))
    }

    /// The subcommand `name` of `container`.
    pub fn find_sub(&self, container: &Entry, name: &[u8]) -> Option<&Entry> {
        if name.len() > NAME_MAX_BYTES {
            return None;
        }
        let key = (container.id, name.to_ascii_lowercase().into_boxed_slice());
        self.by_subcommand.get(&key).map(|&id| self.entry(id))
    }

    /// The command a request names, whatever else its arguments are.
    pub fn named(&self, args: &Args) -> Option<&Entry> {
        let entry = self.find(args.name())?;
        match entry.command.sub.is_empty() || args.len() < 2 {
            true => Some(entry),
            false => self.find_sub(entry, args.get(1)),
        }
    }

    /// The command that a record names: records keep to the names that Redis gave, though others may
    /// have written them by what is a command's name now.
    pub fn find_recorded(&self, name: &[u8]) -> Option<&Entry> {
        self.find(name).or_else(|| {
            let id = self.renamed.get(name.to_ascii_lowercase().as_slice())?;
            Some(self.entry(*id))
        })
    }

    /// The command a request names, its arity checked.
    #[inline]
    pub fn lookup(&self, args: &Args) -> Lookup<'_> {
        self.check(self.find(args.name()), args)
    }

    /// The same of a record.
    pub fn lookup_recorded(&self, args: &Args) -> Lookup<'_> {
        self.check(self.find_recorded(args.name()), args)
    }

    #[inline]
    fn check<'a>(&'a self, found: Option<&'a Entry>, args: &Args) -> Lookup<'a> {
        let Some(entry) = found else {
            return Lookup::Error(unknown_command(args));
        };
        let entry = match self.resolve_sub(entry, args) {
            Ok(entry) => entry,
            Err(error) => return Lookup::Error(error),
        };
        if !entry.command.accepts(args.len()) {
            return Lookup::Error(CmdError::arity(&entry.full_name()));
        }
        Lookup::Found(entry)
    }

    fn resolve_sub<'a>(&'a self, entry: &'a Entry, args: &Args) -> Result<&'a Entry, CmdError> {
        if entry.command.sub.is_empty() || args.len() < 2 {
            return match entry.command.run {
                Run::Container => Err(CmdError::arity(entry.command.name)),
                _ => Ok(entry),
            };
        }
        self.find_sub(entry, args.get(1)).ok_or_else(|| {
            let container = args.name().to_ascii_uppercase();
            CmdError::quoting(&[
                b"ERR unknown subcommand '",
                quoted_within(args.get(1), QUOTED_MAX_BYTES),
                b"'. Try ",
                &container,
                b" HELP.",
            ])
        })
    }
}

// Redis: server.c formats these as C strings, so a NUL ends them.
fn quoted_within(text: &[u8], bytes_max: usize) -> &[u8] {
    let text = &text[..text.len().min(bytes_max)];
    text.split(|&byte| byte == 0).next().unwrap_or(text)
}

/// Names the unknown command and the beginning of its arguments.
fn unknown_command(args: &Args) -> CmdError {
    let mut quoted_args = Vec::new();
    for arg in args.iter().skip(1) {
        if quoted_args.len() >= QUOTED_MAX_BYTES {
            break;
        }
        let arg = quoted_within(arg, QUOTED_MAX_BYTES - quoted_args.len());
        quoted_args.extend([b"'", arg, b"' "].concat());
    }
    CmdError::quoting(&[
        b"ERR unknown command '",
        quoted_within(args.name(), QUOTED_MAX_BYTES),
        b"', with args beginning with: ",
        &quoted_args,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_nothing_like_them() {
        let table = Table::new(&[]).unwrap();
        let found = |name: &[u8]| table.find(name).map(|entry| entry.command.name);
        let commands = FAMILIES.iter().copied().flatten();
        let names: Vec<&str> = commands.map(|command| command.name).collect();
        for name in &names {
            assert_eq!(found(name.to_ascii_uppercase().as_bytes()), Some(*name));
            let mut like = name.as_bytes().to_vec();
            for at in 0..like.len() {
                for bit in 0..8 {
                    like[at] ^= 1 << bit;
                    let is_name = |name: &&&str| name.as_bytes().eq_ignore_ascii_case(&like);
                    assert_eq!(found(&like), names.iter().find(is_name).copied());
                    like[at] ^= 1 << bit;
                }
            }
            for more in [0, b' '] {
                like.push(more);
                assert_eq!(found(&like), None);
                like.pop();
            }
        }
        assert_eq!(found(b""), None);
        assert_eq!(found(&[b'g'; 1000]), None);
    }
}
