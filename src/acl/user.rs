//! One user.

use sha2::{Digest, Sha256};

use super::catalog::Catalog;
use super::error::RuleError;
use super::rules::is_word;
use super::selector::{Denied, Reason, Selector, allows_channel};
use crate::command::Entry;
use crate::command::keys::Access;
use crate::resp::{Args, split_quoted};

/// Hexadecimal digits of a SHA-256 digest.
const DIGEST_DIGITS: usize = 64;

type PasswordDigest = [u8; DIGEST_DIGITS];

/// A user with all that its rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: Box<[u8]>,
    /// Another one for each user that is made: one that comes back under an old name is not the same.
    pub id: u64,
    is_on: bool,
    is_nopass: bool,
    /// `sanitize-payload` and its opposite, if one was said.
    sanitize: Option<bool>,
    passwords: Vec<PasswordDigest>,
    /// The rules outside of parentheses.
    root: Selector,
    selectors: Vec<Selector>,
    is_unlimited: bool,
}

impl User {
    /// One that may do nothing, nor authenticate.
    pub fn new(name: &[u8], id: u64, all_channels: bool) -> User {
        User {
            name: name.into(),
            id,
            is_on: false,
            is_nopass: false,
            sanitize: None,
            passwords: Vec::new(),
            root: Selector::new(all_channels),
            selectors: Vec::new(),
            is_unlimited: false,
        }
    }

    /// Applies one rule. `all_channels`: what `acl-pubsub-default` gives to new selectors. Redis: acl.c
    /// ACLSetUser.
    pub fn apply(
        &mut self,
        rule: &[u8],
        all_channels: bool,
        catalog: &Catalog,
    ) -> Result<(), RuleError> {
        let is = |word: &str| is_word(rule, &[word]);
        if rule.is_empty() {
        } else if is("on") {
            self.is_on = true;
        } else if is("off") {
            self.is_on = false;
        } else if is("skip-sanitize-payload") {
            self.sanitize = Some(false);
        } else if is("sanitize-payload") {
            self.sanitize = Some(true);
        } else if is("nopass") || is("resetpass") {
            self.is_nopass = is("nopass");
            self.passwords.clear();
        } else if is("clearselectors") {
            self.selectors.clear();
        } else if is("reset") {
            *self = User {
                sanitize: Some(true),
                ..User::new(&self.name, self.id, all_channels)
            };
        } else {
            match rule {
                [b'>' | b'#', ..] => self.add_password(digest_in(rule)?),
                [b'<' | b'!', ..] => self.remove_password(digest_in(rule)?)?,
                [b'(', .., b')'] => {
                    let selector = parse_selector(rule, all_channels, catalog)?;
                    self.selectors.push(selector);
                }
                _ => self.root.apply(rule, catalog)?,
            }
        }
        let is_unlimited = self.all().any(Selector::is_unlimited);
        self.is_unlimited = is_unlimited;
        Ok(())
    }

    fn add_password(&mut self, digest: PasswordDigest) {
        if !self.passwords.contains(&digest) {
            self.passwords.push(digest);
        }
        self.is_nopass = false;
    }

    fn remove_password(&mut self, digest: PasswordDigest) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| *known == digest);
        self.passwords.remove(at.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.selectors)
    }

    /// Whether every request is allowed.
    pub fn is_unlimited(&self) -> bool {
        self.is_unlimited
    }

    pub fn is_on(&self) -> bool {
        self.is_on
    }

    pub fn is_nopass(&self) -> bool {
        self.is_nopass
    }

    /// Whether somebody with this password is this user. All passwords are looked at, so that the
    /// time it takes does not tell which one matched, or how much of it.
    pub fn accepts(&self, password: &[u8]) -> bool {
        if !self.is_on {
            return false;
        }
        let given = digest(password);
        let matches = self.passwords.iter().fold(false, |matches, known| {
            matches | equal_in_constant_time(known, &given)
        });
        self.is_nopass || matches
    }

    /// Whether the user may make a request; if not, why. Redis: acl.c ACLCheckAllUserCommandPerm.
    pub fn check(&self, entry: &Entry, args: &Args) -> Result<(), Denied> {
        if self.is_unlimited {
            return Ok(());
        }
        let mut worst = Denied {
            reason: Reason::Command,
            at: 0,
        };
        for selector in self.all() {
            match selector.check(entry, args) {
                Ok(()) => return Ok(()),
                Err(denied) => worst = worst.max(denied),
            }
        }
        Err(worst)
    }

    /// Whether a selector allows the request, and this access to every key besides. Redis: acl.c
    /// ACLUserCheckCmdWithUnrestrictedKeyAccess.
    pub fn allows_with_every_key(&self, entry: &Entry, args: &Args, access: Access) -> bool {
        let mut all = self.all();
        all.any(|one| one.allows_every_key(access) && one.check(entry, args).is_ok())
    }

    /// Whether a channel that somebody listens to is still allowed.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        let channels = || self.all().flat_map(Selector::channels);
        self.all().any(Selector::has_all_channels)
            || allows_channel(channels(), channel, is_pattern)
    }

    /// Whether this user, who was `before`, may listen to all that it could. Redis: acl.c
    /// ACLKillPubsubClientsIfNeeded.
    pub fn keeps_channels_of(&self, before: &User) -> bool {
        if self.all().any(Selector::has_all_channels) {
            return true;
        }
        let mut lost = before.all().flat_map(Selector::channels);
        let now = |channel| self.all().any(|one| one.channels().contains(channel));
        !before.all().any(Selector::has_all_channels) && lost.all(now)
    }

    /// The words ACL GETUSER shows as flags.
    pub fn flags(&self) -> Vec<&'static str> {
        let on = if self.is_on { "on" } else { "off" };
        let sanitize = match self.sanitize {
            Some(true) => Some("sanitize-payload"),
            Some(false) => Some("skip-sanitize-payload"),
            None => None,
        };
        let nopass = self.is_nopass.then_some("nopass");
        [Some(on), nopass, sanitize].into_iter().flatten().collect()
    }

    /// Digests of its passwords, in hexadecimal digits.
    pub fn passwords(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.passwords.iter().map(|digest| &digest[..])
    }

    /// The rules about commands, keys and channels: first those outside of parentheses, then those of
    /// each selector.
    pub fn permissions(&self, catalog: &Catalog) -> Vec<[Vec<u8>; 3]> {
        let one = |selector: &Selector| {
            [
                selector.commands_text(catalog),
                selector.keys_text(),
                selector.channels_text(),
            ]
        };
        self.all().map(one).collect()
    }

    /// `user <name> <rules>`: the line that makes this user again.
    pub fn line(&self, catalog: &Catalog) -> Vec<u8> {
        let mut line = [b"user ", &*self.name].concat();
        for flag in self.flags() {
            line.extend([b" ", flag.as_bytes()].concat());
        }
        for password in self.passwords() {
            line.extend([b" #", password].concat());
        }
        line.extend([b" ", &*self.root.text(catalog)].concat());
        for selector in &self.selectors {
            line.extend([b" (", &*selector.text(catalog), b")"].concat());
        }
        line
    }
}

/// `(rule rule ...)`
fn parse_selector(
    rule: &[u8],
    all_channels: bool,
    catalog: &Catalog,
) -> Result<Selector, RuleError> {
    let mut selector = Selector::new(all_channels);
    // Redis: a selector whose quotes are unbalanced has no rules.
    let words = split_quoted(&rule[1..rule.len() - 1]).unwrap_or_default();
    for word in words {
        selector.apply(&word, catalog)?;
    }
    Ok(selector)
}

/// The digest that a rule about passwords means.
fn digest_in(rule: &[u8]) -> Result<PasswordDigest, RuleError> {
    let text = &rule[1..];
    if matches!(rule[0], b'>' | b'<') {
        return Ok(digest(text));
    }
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let digits: PasswordDigest = text.try_into().map_err(|_| RuleError::BadHash)?;
    match digits.iter().all(is_digit) {
        true => Ok(digits),
        false => Err(RuleError::BadHash),
    }
}

fn digest(password: &[u8]) -> PasswordDigest {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; DIGEST_DIGITS];
    for (pair, byte) in text.chunks_exact_mut(2).zip(Sha256::digest(password)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// Compares without telling by its duration where the first difference stands.
fn equal_in_constant_time(a: &PasswordDigest, b: &PasswordDigest) -> bool {
    let different = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    std::hint::black_box(different) == 0
}
