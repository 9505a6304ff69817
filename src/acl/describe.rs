//! The rules that make a selector, as short as Redis makes them.
//!
//! The text begins with all commands or none. Then come categories, each time the one that leaves the
//! fewest commands wrong and settles the most, as long as it settles more than it leaves wrong; then
//! what is still different, command by command. Redis: acl.c ACLDescribeSelectorCommandRules, which
//! tells single commands in no particular order; here they are in order of their names.

use super::catalog::Catalog;
use super::selector::{CommandSet, Selector};
use crate::command::flags::{CATEGORY_NAMES, Categories};

impl Selector {
    /// All rules, as ACL LIST shows them.
    pub(super) fn text(&self, catalog: &Catalog) -> Vec<u8> {
        let mut text = Vec::new();
        let keys = self.keys_text();
        if !keys.is_empty() {
            text.extend([&keys[..], b" "].concat());
        }
        if !self.has_all_channels() {
            text.extend(b"resetchannels ");
        }
        let channels = self.channels_text();
        if !channels.is_empty() {
            text.extend([&channels[..], b" "].concat());
        }
        text.extend(self.commands_text(catalog));
        text
    }

    /// The rules about commands.
    pub(super) fn commands_text(&self, catalog: &Catalog) -> Vec<u8> {
        let adds = !self.commands.future;
        let sign = |allows: bool| if allows { '+' } else { '-' };
        let mut told = Selector::new(false);
        told.set_all(!adds, catalog);
        let mut left = self.clone();
        let mut words = vec![format!("{}@all", sign(!adds)).into_bytes()];
        let mut used: Categories = 0;
        while let Some((category, name)) = best_category(&left.commands, adds, used, catalog) {
            used |= category;
            let known = told.set_category(name.as_bytes(), adds, catalog);
            debug_assert!(known.is_ok(), "a category of the list");
            let known = left.set_category(name.as_bytes(), !adds, catalog);
            debug_assert!(known.is_ok(), "a category of the list");
            words.push(format!("{}@{name}", sign(adds)).into_bytes());
        }
        for listed in catalog.all() {
            let allowed = self.commands.has(listed.id);
            if allowed != told.commands.has(listed.id) {
                told.change(listed.id, &listed.subs, allowed);
                words.push(format!("{}{}", sign(allowed), listed.name).into_bytes());
            }
            let first_args = self.first_args.get(&listed.id).filter(|_| !allowed);
            for argument in first_args.into_iter().flatten() {
                words.push([b"+", listed.name.as_bytes(), b"|", argument].concat());
            }
        }
        assert!(
            told.commands == self.commands,
            "the rules that are told make the same selector"
        );
        words.join(&b' ')
    }
}

/// The category that fits best the commands which are still to be told.
fn best_category(
    left: &CommandSet,
    adds: bool,
    used: Categories,
    catalog: &Catalog,
) -> Option<(Categories, &'static str)> {
    let mut best = None;
    let (mut fewest_wrong, mut most_settled) = (usize::MAX, 0);
    for &(category, name) in CATEGORY_NAMES {
        if used & category != 0 {
            continue;
        }
        let (mut settled, mut wrong) = (0, 0);
        for listed in catalog.all() {
            if listed.categories & category != 0 {
                match left.has(listed.id) == adds {
                    true => settled += 1,
                    false => wrong += 1,
                }
            }
        }
        let is_better = wrong < fewest_wrong || wrong == fewest_wrong && settled > most_settled;
        if settled > wrong && is_better {
            best = Some((category, name));
            (fewest_wrong, most_settled) = (wrong, settled);
        }
    }
    best
}
