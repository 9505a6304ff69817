//! Users in files: the configuration that the server begins with, and the ACL file.

use std::sync::Arc;

use crate::acl::{User, Users, is_valid_name};
use crate::command::Table;
use crate::resp::{CmdError, CmdResult};
use crate::server::config::{self, Config};
use crate::server::log;
use crate::server::monitor::quote;

const NOT_SAVED: CmdError = CmdError::Text(
    "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
);

/// The users as `user` lines of redis.conf.
pub fn config_lines(users: &Users) -> Vec<String> {
    let is_plain = |word: &[u8]| {
        let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'');
        word.iter().all(plain)
    };
    let one = |user: &Arc<User>| {
        let mut line = Vec::new();
        for word in user.line(users.catalog()).split(|&byte| byte == b' ') {
            if !line.is_empty() {
                line.push(b' ');
            }
            match is_plain(word) {
                true => line.extend_from_slice(word),
                false => quote(word, &mut line),
            }
        }
        String::from_utf8_lossy(&line).into_owned()
    };
    users.iter().map(one).collect()
}

/// The users that a configuration begins with. Blocks on the disk.
///
/// # Errors
/// Why there cannot be any, as the log is told.
pub fn at_start(config: &Config, table: &Table) -> Result<Users, String> {
    let path = config.text("aclfile");
    if !path.is_empty() && !config.users.is_empty() {
        return Err(
            "Configuring Redis with users defined in redis.conf and at the same setting an ACL file \
             path is invalid. This setup is very likely to lead to configuration errors and security \
             holes, please define either an ACL file or declare users directly in your redis.conf, \
             but not both."
                .to_owned(),
        );
    }
    let all_channels = config.text("acl-pubsub-default") == "allchannels";
    let password = config.raw("requirepass");
    let mut users = Users::new(table).with_default_password(&password);
    for (name, rules) in &config.users {
        let shown = String::from_utf8_lossy(name);
        if !is_valid_name(name) {
            return Err("Spaces not allowed in ACL usernames".to_owned());
        }
        users = users
            .with_configured(name, rules, all_channels)
            .map_err(|(rule, error)| {
                let rule = String::from_utf8_lossy(&rule);
                format!("Error loading ACL rule '{rule}' for the user named '{shown}': {error}")
            })?;
        if users.get(name).is_some_and(|user| !user.is_on()) {
            log::notice(&format!(
                "The user '{shown}' is disabled (there is no 'on' modifier in the user description). \
                 Make sure this is not a configuration error."
            ));
        }
    }
    if path.is_empty() {
        return Ok(users);
    }
    load(path, &users, all_channels).map_err(|errors| {
        let errors = String::from_utf8_lossy(&errors);
        format!("Aborting Redis startup because of ACL errors: {errors}")
    })
}

/// Reads the users of the ACL file. Blocks on the disk.
pub(super) fn load(path: &str, users: &Users, all_channels: bool) -> Result<Users, Vec<u8>> {
    let text = std::fs::read(config::path_of(path)).map_err(|error| {
        let reason = config::system_words(&error);
        format!("Error loading ACLs, opening file '{path}': {reason}").into_bytes()
    })?;
    users.from_file(path, &text, all_channels)
}

/// Writes the ACL file: whole, or not at all. Blocks on the disk.
pub(super) fn save(path: &str, users: &Users) -> CmdResult {
    config::replace_file(&config::path_of(path), &users.file_text()).map_err(|error| {
        log::warning(&format!(
            "Writing ACL file for ACL SAVE: {}",
            config::system_words(&error)
        ));
        NOT_SAVED
    })
}
