//! The commands as rules name them: by their original names, whatever the configuration calls them.

use ahash::AHashMap;

use crate::command::flags::{CATEGORY_NAMES, Categories};
use crate::command::{CommandId, Table};

/// One command or subcommand.
#[derive(Debug)]
pub struct Listed {
    pub id: CommandId,
    /// `get`, `config|set`
    pub name: String,
    pub categories: Categories,
    pub is_sub: bool,
    /// Its subcommands, if it is a container.
    pub subs: Vec<CommandId>,
}

/// All commands, in the order in which rules are told.
#[derive(Debug)]
pub struct Catalog {
    listed: Vec<Listed>,
    by_name: AHashMap<String, usize>,
}

impl Catalog {
    pub fn new(table: &Table) -> Catalog {
        let entries = table.entries();
        let subs_of = |name: &str| {
            let its = entries
                .iter()
                .filter(|entry| entry.container.is_some_and(|own| own.name == name));
            its.map(|entry| entry.id).collect()
        };
        let mut listed: Vec<Listed> = entries
            .iter()
            .map(|entry| Listed {
                id: entry.id,
                name: entry.full_name(),
                categories: entry.command.categories(),
                is_sub: entry.container.is_some(),
                subs: match entry.container {
                    None => subs_of(entry.command.name),
                    Some(_) => Vec::new(),
                },
            })
            .collect();
        // A container stands before its subcommands.
        listed.sort_by(|a, b| a.name.split('|').cmp(b.name.split('|')));
        let names = listed.iter().enumerate();
        let by_name = names.map(|(at, one)| (one.name.clone(), at)).collect();
        Catalog { listed, by_name }
    }

    pub fn all(&self) -> &[Listed] {
        &self.listed
    }

    /// The command of this name in any case, if there is one.
    pub fn find(&self, name: &[u8]) -> Option<&Listed> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        self.by_name.get(&name).map(|&at| &self.listed[at])
    }
}

/// The category of this name in any case, without the `@`.
pub fn category(name: &[u8]) -> Option<Categories> {
    let mut all = CATEGORY_NAMES.iter();
    let found = all.find(|(_, known)| name.eq_ignore_ascii_case(known.as_bytes()));
    found.map(|(category, _)| *category)
}
