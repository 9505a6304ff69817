//! All users of a moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::Catalog;
use super::error::RuleError;
use super::rules::{is_valid_name, merge_selectors, unmatched};
use super::user::User;
use super::{DEFAULT_USER, file};
use crate::command::Table;
use crate::resp::CmdError;

/// The users, by name. A change makes another `Users`; those who hold this one keep it.
#[derive(Clone, Debug)]
pub struct Users {
    catalog: Arc<Catalog>,
    by_name: BTreeMap<Box<[u8]>, Arc<User>>,
    default: Arc<User>,
    /// The id of the next user.
    pub(super) next_id: u64,
}

impl Users {
    /// The default user alone, who may do everything without a password.
    pub fn new(table: &Table) -> Users {
        Users::with(Arc::new(Catalog::new(table)), 1)
    }

    /// The same, of known commands.
    pub(super) fn with(catalog: Arc<Catalog>, next_id: u64) -> Users {
        let mut default = User::new(DEFAULT_USER, 0, true);
        for rule in ["+@all", "~*", "&*", "on", "nopass"] {
            let applied = default.apply(rule.as_bytes(), true, &catalog);
            debug_assert!(applied.is_ok(), "a rule of the default user");
        }
        let default = Arc::new(default);
        Users {
            catalog,
            by_name: BTreeMap::from([(DEFAULT_USER.into(), default.clone())]),
            default,
            next_id,
        }
    }

    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    pub fn default_user(&self) -> &Arc<User> {
        &self.default
    }

    pub fn get(&self, name: &[u8]) -> Option<&Arc<User>> {
        self.by_name.get(name)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<User>> {
        self.by_name.values()
    }

    /// Whether a connection has to authenticate before it may do anything. Redis: networking.c
    /// authRequired.
    pub fn requires_auth(&self) -> bool {
        !self.default.is_nopass() || !self.default.is_on()
    }

    /// The user that this name and password belong to.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<&Arc<User>> {
        self.get(name).filter(|user| user.accepts(password))
    }

    pub(super) fn insert(&mut self, user: User) {
        let user = Arc::new(user);
        if *user.name == *DEFAULT_USER {
            self.default = user.clone();
        }
        self.by_name.insert(user.name.clone(), user);
    }

    /// The user of this name to change, or a new one.
    pub(super) fn user_to_change(&mut self, name: &[u8], all_channels: bool) -> User {
        match self.get(name) {
            Some(user) => User::clone(user),
            None => {
                self.next_id += 1;
                User::new(name, self.next_id - 1, all_channels)
            }
        }
    }

    /// ACL SETUSER: with all rules applied, or none. `all_channels`: what `acl-pubsub-default` gives to
    /// new users and selectors.
    ///
    /// # Errors
    /// What is wrong with the first rule that cannot be.
    pub fn set(&self, name: &[u8], rules: &[&[u8]], all_channels: bool) -> Result<Users, CmdError> {
        if !is_valid_name(name) {
            return Err(CmdError::Text(
                "ERR Usernames can't contain spaces or null characters",
            ));
        }
        let merged = merge_selectors(rules).map_err(|at| unmatched(rules[at]))?;
        let mut users = self.clone();
        let mut user = users.user_to_change(name, all_channels);
        for rule in &merged {
            user.apply(rule, all_channels, &self.catalog)
                .map_err(|error| {
                    let reason = error.to_string();
                    CmdError::quoting(&[
                        b"ERR Error in ACL SETUSER modifier '",
                        rule,
                        b"': ",
                        reason.as_bytes(),
                    ])
                })?;
        }
        users.insert(user);
        Ok(users)
    }

    /// ACL DELUSER: without these, and how many there were.
    pub fn without<'a>(&self, names: impl Iterator<Item = &'a [u8]>) -> (Users, usize) {
        let mut users = self.clone();
        let mut gone = 0;
        for name in names.filter(|name| *name != DEFAULT_USER) {
            gone += usize::from(users.by_name.remove(name).is_some());
        }
        (users, gone)
    }

    /// `requirepass`: the default user's one password, or none at all.
    pub fn with_default_password(&self, password: &[u8]) -> Users {
        let mut users = self.clone();
        let mut user = User::clone(&self.default);
        let added = [b">", password].concat();
        let rules: [&[u8]; 2] = match password {
            b"" => [b"resetpass", b"nopass"],
            _ => [b"resetpass", &added],
        };
        for rule in rules {
            let applied = user.apply(rule, true, &self.catalog);
            debug_assert!(applied.is_ok(), "a rule about a password");
        }
        users.insert(user);
        users
    }

    /// A `user` line of redis.conf, whose rules are applied in order; what they say of the default user
    /// replaces what it was.
    ///
    /// # Errors
    /// The rule that cannot be, and why.
    pub fn with_configured(
        &self,
        name: &[u8],
        rules: &[Vec<u8>],
        all_channels: bool,
    ) -> Result<Users, (Vec<u8>, RuleError)> {
        let mut users = self.clone();
        let mut user = users.user_to_change(name, all_channels);
        if name == DEFAULT_USER {
            let reset = user.apply(b"reset", all_channels, &self.catalog);
            debug_assert!(reset.is_ok(), "a word that always applies");
        }
        for rule in merged(rules)? {
            let applied = user.apply(&rule, all_channels, &self.catalog);
            applied.map_err(|error| (rule, error))?;
        }
        users.insert(user);
        Ok(users)
    }

    /// What is wrong with the rules of a `user` line, apart from names that are not known.
    ///
    /// # Errors
    /// The rule that cannot be, and why.
    pub fn check_rules(
        &self,
        rules: &[Vec<u8>],
        all_channels: bool,
    ) -> Result<(), (Vec<u8>, RuleError)> {
        let mut user = User::new(b"", 0, all_channels);
        for rule in merged(rules)? {
            match user.apply(&rule, all_channels, &self.catalog) {
                Ok(()) | Err(RuleError::Unknown) => {}
                Err(error) => return Err((rule, error)),
            }
        }
        Ok(())
    }

    /// The text of an ACL file with these users.
    pub fn file_text(&self) -> Vec<u8> {
        let line = |user: &Arc<User>| [&user.line(&self.catalog)[..], b"\n"].concat();
        self.iter().flat_map(line).collect()
    }

    /// The users of an ACL file. All but the default one are new, also those whose names were known.
    ///
    /// # Errors
    /// Everything that is wrong with it, in one line.
    pub fn from_file(&self, path: &str, text: &[u8], all_channels: bool) -> Result<Users, Vec<u8>> {
        file::parse(self, path, text, all_channels)
    }
}

fn merged(rules: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, (Vec<u8>, RuleError)> {
    let rules: Vec<&[u8]> = rules.iter().map(Vec::as_slice).collect();
    merge_selectors(&rules).map_err(|at| (rules[at].to_vec(), RuleError::Syntax))
}
