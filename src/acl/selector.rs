//! A selector: commands, keys and channels, and the rules that change them.

use std::collections::BTreeMap;

use super::catalog::{self, Catalog};
use super::error::RuleError;
use super::rules::{has_spaces, is_word};
use crate::command::flags::NO_AUTH;
use crate::command::keys::{ACCESS, Access, DELETE, INSERT, UPDATE, accesses};
use crate::command::pubsub::Kind;
use crate::command::{Command, CommandId, Entry, Job, Run, glob};
use crate::resp::Args;

/// What a key pattern allows.
const READ: u8 = 1;
const WRITE: u8 = 2;
const READ_WRITE: u8 = READ | WRITE;

/// Keys of which some uses are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyPattern {
    uses: u8,
    pattern: Box<[u8]>,
}

/// Commands that a set has room for: more than twice as many as there are.
const COMMANDS_MAX: usize = 1024;

/// A set of commands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CommandSet {
    words: [u64; COMMANDS_MAX / 64],
    /// Commands that are not there yet, too: whoever was allowed all and lost some.
    pub future: bool,
}

impl CommandSet {
    pub fn has(&self, id: CommandId) -> bool {
        let word = self.words.get(usize::from(id) / 64);
        word.is_some_and(|word| word & (1 << (id % 64)) != 0)
    }

    pub fn set(&mut self, id: CommandId, allowed: bool) {
        let word = &mut self.words[usize::from(id) / 64];
        match allowed {
            true => *word |= 1 << (id % 64),
            false => *word &= !(1 << (id % 64)),
        }
    }
}

/// Why a request is not allowed; the order is the order of relevance. Redis: acl.c ACL_DENIED_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    Command,
    Key,
    Channel,
    /// No request: the password was wrong.
    Auth,
}

/// A request is not allowed: why, and the argument that names what is out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Denied {
    pub reason: Reason,
    pub at: usize,
}

/// One set of permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    pub(super) commands: CommandSet,
    /// None of the commands was taken away since all were given.
    all_commands: bool,
    /// First arguments with which a command is allowed that is not allowed otherwise.
    pub(super) first_args: BTreeMap<CommandId, Vec<Box<[u8]>>>,
    all_keys: bool,
    keys: Vec<KeyPattern>,
    all_channels: bool,
    channels: Vec<Box<[u8]>>,
}

impl Selector {
    /// One that allows nothing, or as `acl-pubsub-default` may ask, no more than all channels.
    pub fn new(all_channels: bool) -> Selector {
        Selector {
            commands: CommandSet::default(),
            all_commands: false,
            first_args: BTreeMap::new(),
            all_keys: false,
            keys: Vec::new(),
            all_channels,
            channels: Vec::new(),
        }
    }

    /// Whether nothing is out of its reach.
    pub fn is_unlimited(&self) -> bool {
        self.all_commands && self.all_keys && self.all_channels
    }

    pub fn has_all_channels(&self) -> bool {
        self.all_channels
    }

    pub fn channels(&self) -> &[Box<[u8]>] {
        &self.channels
    }

    /// Applies one rule. Redis: acl.c ACLSetSelector.
    pub fn apply(&mut self, rule: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
        if is_word(rule, &["allkeys", "~*"]) {
            self.all_keys = true;
            self.keys.clear();
        } else if is_word(rule, &["resetkeys"]) {
            self.all_keys = false;
            self.keys.clear();
        } else if is_word(rule, &["allchannels", "&*"]) {
            self.all_channels = true;
            self.channels.clear();
        } else if is_word(rule, &["resetchannels"]) {
            self.all_channels = false;
            self.channels.clear();
        } else if is_word(rule, &["allcommands", "+@all"]) {
            self.set_all(true, catalog);
        } else if is_word(rule, &["nocommands", "-@all"]) {
            self.set_all(false, catalog);
        } else {
            return match rule {
                [b'~' | b'%', ..] => self.add_keys(rule),
                [b'&', pattern @ ..] => self.add_channel(pattern),
                [b'+', b'@', name @ ..] => self.set_category(name, true, catalog),
                [b'-', b'@', name @ ..] => self.set_category(name, false, catalog),
                [b'+', name @ ..] => self.allow(name, catalog),
                [b'-', name @ ..] => {
                    let listed = catalog.find(name).ok_or(RuleError::Unknown)?;
                    self.change(listed.id, &listed.subs, false);
                    Ok(())
                }
                _ => Err(RuleError::Syntax),
            };
        }
        Ok(())
    }

    pub(super) fn set_all(&mut self, allowed: bool, catalog: &Catalog) {
        for listed in catalog.all() {
            self.commands.set(listed.id, allowed);
        }
        self.commands.future = allowed;
        self.all_commands = allowed;
        self.first_args.clear();
    }

    fn add_keys(&mut self, rule: &[u8]) -> Result<(), RuleError> {
        if self.all_keys {
            return Err(RuleError::AfterAllKeys);
        }
        let (uses, pattern) = match rule {
            [b'%', letters @ ..] => {
                let end = letters.iter().position(|&byte| byte == b'~');
                let (letters, pattern) = match end {
                    Some(at) => (&letters[..at], &letters[at + 1..]),
                    // Redis: `%RW` is a pattern without text.
                    None => (letters, &[][..]),
                };
                let mut uses = 0;
                for letter in letters {
                    let one = match letter.to_ascii_uppercase() {
                        b'R' => READ,
                        b'W' => WRITE,
                        _ => return Err(RuleError::Syntax),
                    };
                    if uses & one != 0 {
                        return Err(RuleError::Syntax);
                    }
                    uses |= one;
                }
                (uses, pattern)
            }
            _ => (READ_WRITE, &rule[1..]),
        };
        if uses == 0 || has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        match self
            .keys
            .iter_mut()
            .find(|known| *known.pattern == *pattern)
        {
            Some(known) => known.uses |= uses,
            None => self.keys.push(KeyPattern {
                uses,
                pattern: pattern.into(),
            }),
        }
        Ok(())
    }

    fn add_channel(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.all_channels {
            return Err(RuleError::AfterAllChannels);
        }
        if has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| **known == *pattern) {
            self.channels.push(pattern.into());
        }
        Ok(())
    }

    pub(super) fn set_category(
        &mut self,
        name: &[u8],
        allowed: bool,
        catalog: &Catalog,
    ) -> Result<(), RuleError> {
        let category = catalog::category(name).ok_or(RuleError::Unknown)?;
        for listed in catalog.all() {
            if listed.categories & category != 0 {
                self.change(listed.id, &listed.subs, allowed);
            }
        }
        Ok(())
    }

    /// `+command`, `+container|subcommand` or `+command|argument`.
    fn allow(&mut self, name: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
        let Some(bar) = name.iter().rposition(|&byte| byte == b'|') else {
            let listed = catalog.find(name).ok_or(RuleError::Unknown)?;
            self.change(listed.id, &listed.subs, true);
            return Ok(());
        };
        let (before, argument) = (&name[..bar], &name[bar + 1..]);
        let listed = catalog.find(before).ok_or(RuleError::Unknown)?;
        if listed.is_sub {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if argument.is_empty() {
            return Err(RuleError::Syntax);
        }
        if !listed.subs.is_empty() {
            let sub = catalog.find(name).ok_or(RuleError::Unknown)?;
            self.change(sub.id, &[], true);
            return Ok(());
        }
        let known = self.first_args.entry(listed.id).or_default();
        if !known.iter().any(|one| one.eq_ignore_ascii_case(argument)) {
            known.push(argument.into());
        }
        Ok(())
    }

    /// Allows or forbids a command, with its subcommands.
    pub(super) fn change(&mut self, id: CommandId, subs: &[CommandId], allowed: bool) {
        for &id in std::iter::once(&id).chain(subs) {
            self.commands.set(id, allowed);
        }
        self.all_commands &= allowed;
        self.first_args.remove(&id);
    }

    /// Whether it allows a request. Redis: acl.c ACLSelectorCheckCmd.
    pub fn check(&self, entry: &Entry, args: &Args) -> Result<(), Denied> {
        if !self.allows_command(entry, args) {
            return Err(Denied {
                reason: Reason::Command,
                at: 0,
            });
        }
        let command = entry.command;
        if !self.all_keys && !command.keys.is_empty() {
            // Redis: keys that cannot be told are none; the command itself will refuse.
            for (at, access) in accesses(command.keys, args).unwrap_or_default() {
                if !self.allows_key(args.get(at), access) {
                    let reason = Reason::Key;
                    return Err(Denied { reason, at });
                }
            }
        }
        if !self.all_channels
            && let Some((range, is_pattern)) = channels_of(command, args)
        {
            for at in range {
                if !allows_channel(self.channels.iter(), args.get(at), is_pattern) {
                    let reason = Reason::Channel;
                    return Err(Denied { reason, at });
                }
            }
        }
        Ok(())
    }

    fn allows_command(&self, entry: &Entry, args: &Args) -> bool {
        if self.all_commands || entry.command.flags & NO_AUTH != 0 || self.commands.has(entry.id) {
            return true;
        }
        let known = self.first_args.get(&entry.id);
        args.len() > 1
            && known.is_some_and(|known| {
                known
                    .iter()
                    .any(|one| one.eq_ignore_ascii_case(args.get(1)))
            })
    }

    fn allows_key(&self, key: &[u8], access: Access) -> bool {
        let needed = uses_of(access);
        self.keys
            .iter()
            .any(|known| known.uses & needed == needed && glob::matches(&known.pattern, key))
    }

    /// Whether it allows this access to every key.
    pub fn allows_every_key(&self, access: Access) -> bool {
        let needed = uses_of(access);
        let is_every =
            |known: &KeyPattern| known.uses & needed == needed && *known.pattern == *b"*";
        self.all_keys || self.keys.iter().any(is_every)
    }

    /// The rules about keys, as ACL GETUSER shows them.
    pub(super) fn keys_text(&self) -> Vec<u8> {
        if self.all_keys {
            return b"~*".to_vec();
        }
        let one = |known: &KeyPattern| {
            let mark: &[u8] = match known.uses {
                READ => b"%R~",
                WRITE => b"%W~",
                _ => b"~",
            };
            [mark, &known.pattern].concat()
        };
        self.keys.iter().map(one).collect::<Vec<_>>().join(&b' ')
    }

    pub(super) fn channels_text(&self) -> Vec<u8> {
        if self.all_channels {
            return b"&*".to_vec();
        }
        let one = |pattern: &[u8]| [b"&", pattern].concat();
        self.channels
            .iter()
            .map(|pattern| one(pattern))
            .collect::<Vec<_>>()
            .join(&b' ')
    }
}

/// What a pattern has to allow for an access.
fn uses_of(access: Access) -> u8 {
    let reads = if access & ACCESS != 0 { READ } else { 0 };
    let writes = access & (INSERT | DELETE | UPDATE) != 0;
    reads | if writes { WRITE } else { 0 }
}

/// The arguments that name channels to listen or send to, and whether they are patterns. Whoever
/// listens no more needs no permission.
fn channels_of(command: &Command, args: &Args) -> Option<(std::ops::Range<usize>, bool)> {
    match command.run {
        Run::Job(Job::Subscribe(kind)) => Some((1..args.len(), kind == Kind::Pattern)),
        Run::Job(Job::Publish(_)) => Some((1..args.len().min(2), false)),
        _ => None,
    }
}

/// Whether one of `allowed` covers a channel, or a pattern: that has to be among them word for word.
pub(super) fn allows_channel<'a>(
    mut allowed: impl Iterator<Item = &'a Box<[u8]>>,
    channel: &[u8],
    is_pattern: bool,
) -> bool {
    allowed.any(|known| match is_pattern {
        true => **known == *channel,
        false => glob::matches(known, channel),
    })
}
