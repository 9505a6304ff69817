//! The ACL file: one user a line, without comments. `user <name> <rule> <rule> ...`

use std::sync::Arc;

use super::error::RuleError;
use super::rules::{is_valid_name, merge_selectors};
use super::users::Users;
use super::{DEFAULT_USER, User};

/// What Redis says behind all that is wrong.
const UNCHANGED: &[u8] =
    b"WARNING: ACL errors detected, no change to the previously active ACL rules \
was performed";

/// Redis: acl.c ACLLoadFromFile.
pub(super) fn parse(
    old: &Users,
    path: &str,
    text: &[u8],
    all_channels: bool,
) -> Result<Users, Vec<u8>> {
    let mut users = Users::with(Arc::clone(old.catalog()), old.next_id);
    let mut seen: Vec<Vec<u8>> = Vec::new();
    let mut errors = Vec::new();
    for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let place = format!("{path}:{}", at + 1);
        let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let [b"user", name, rules @ ..] = &words[..] else {
            errors.extend(place.as_bytes());
            errors.extend(b" should start with user keyword followed by the username. ");
            continue;
        };
        if !is_valid_name(name) {
            errors.extend([b"'", place.as_bytes(), b": username '", *name].concat());
            errors.extend(b"' contains invalid characters. ");
            continue;
        }
        if seen.iter().any(|known| known == name) {
            errors.extend([b"WARNING: Duplicate user '", *name, b"' found on line "].concat());
            errors.extend(format!("{}. ", at + 1).as_bytes());
            continue;
        }
        seen.push(name.to_vec());
        let user = match *name {
            // Its connections stay.
            DEFAULT_USER => User::new(name, old.default_user().id, all_channels),
            _ => users.user_to_change(name, all_channels),
        };
        let (user, wrong) = with_rules(user, rules, &place, (&users, all_channels));
        errors.extend(wrong);
        users.insert(user);
    }
    match errors.is_empty() {
        true => Ok(users),
        false => Err([&errors[..], UNCHANGED].concat()),
    }
}

/// Applies what can be applied; returns what cannot, too.
fn with_rules(
    mut user: User,
    rules: &[&[u8]],
    place: &str,
    (users, all_channels): (&Users, bool),
) -> (User, Vec<u8>) {
    let Ok(merged) = merge_selectors(rules) else {
        let error = format!("{place}: Unmatched parenthesis in selector definition.");
        return (user, error.into_bytes());
    };
    let mut errors = Vec::new();
    let mut is_told = false;
    for rule in merged {
        let rule = rule.trim_ascii();
        match user.apply(rule, all_channels, users.catalog()) {
            Ok(()) => {}
            // What is not known gives no secret away: all of them are told.
            Err(error @ RuleError::Unknown) => {
                let words = [place.as_bytes(), b": Error in applying operation '", rule];
                errors.extend(words.concat());
                errors.extend(format!("': {error}. ").as_bytes());
            }
            Err(error) if !is_told => {
                is_told = true;
                errors.extend(format!("{place}: {error}. ").as_bytes());
            }
            Err(_) => {}
        }
    }
    (user, errors)
}
