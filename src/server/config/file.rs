//! redis.conf and the command line.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::bytes::{bytes_of, path_of, text_of};
use super::cli::Sources;
use super::param::{pieces, system_words};
use super::{Config, Param};
use crate::acl::Users;
use crate::command::Table;
use crate::resp::split_quoted;

/// A configuration that cannot be used, with the line that says why.
#[derive(Debug, PartialEq, Eq)]
pub enum ConfigError {
    Unreadable {
        path: PathBuf,
        error: String,
    },
    Line {
        number: usize,
        line: String,
        reason: String,
    },
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConfigError::Unreadable { path, error } => {
                write!(
                    f,
                    "Fatal error, can't open config file '{}': {error}",
                    path.display()
                )
            }
            ConfigError::Line {
                number,
                line,
                reason,
            } => write!(
                f,
                "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\nReading the configuration \
                 file, at line {number}\n>>> '{line}'\n{reason}"
            ),
        }
    }
}

/// Includes within includes; a file that includes itself ends here.
const DEPTH_MAX: usize = 16;

/// Reads the file, standard input and the options of the command line as one text: what comes last
/// wins, and line numbers run through. Blocks on the files.
///
/// `stdin` is what [`read_stdin`] read, if that belongs to it.
pub fn load(sources: &Sources, stdin: Option<&str>) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    let mut text = String::new();
    if let Some(name) = &sources.file {
        text = read(&path_of(name))?;
        config.file = fs::canonicalize(path_of(name)).ok();
    }
    text.extend(stdin);
    text.push('\n');
    text.push_str(&sources.options);
    apply(&mut config, &text, 0)?;
    if config.text("dir") == Config::default().text("dir") {
        // Answered and rewritten as an absolute path. Where there is none, the process stays
        // where it is.
        let _unresolved = config.assign("dir", &["."]);
    }
    Ok(config)
}

/// All of standard input, if the sources include it. Blocks until its end.
pub fn read_stdin(sources: &Sources) -> Result<Option<String>, ConfigError> {
    let mut bytes = Vec::new();
    if !sources.stdin {
        return Ok(None);
    }
    let result = std::io::stdin().read_to_end(&mut bytes);
    text_from(Path::new("-"), result.map(|_| bytes)).map(Some)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    text_from(path, fs::read(path))
}

fn text_from(path: &Path, read: std::io::Result<Vec<u8>>) -> Result<String, ConfigError> {
    let bytes = read.map_err(|error| ConfigError::Unreadable {
        path: path.into(),
        error: system_words(&error),
    })?;
    Ok(text_of(&bytes))
}

fn apply(config: &mut Config, text: &str, depth: usize) -> Result<(), ConfigError> {
    for (i, line) in text.lines().enumerate() {
        // Redis: sdstrim.
        let line = line.trim_matches([' ', '\t', '\r', '\n']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        apply_line(config, line, depth).map_err(|reason| match reason {
            Reason::Text(reason) => ConfigError::Line {
                number: i + 1,
                line: String::from_utf8_lossy(&bytes_of(line)).into_owned(),
                reason,
            },
            Reason::Inner(error) => error,
        })?;
    }
    Ok(())
}

enum Reason {
    Text(String),
    Inner(ConfigError),
}

fn apply_line(config: &mut Config, line: &str, depth: usize) -> Result<(), Reason> {
    let text = |reason: &str| Reason::Text(reason.to_owned());
    let words = split_quoted(&bytes_of(line))
        .ok_or_else(|| text("Unbalanced quotes in configuration line"))?;
    if words
        .first()
        .is_some_and(|name| name.eq_ignore_ascii_case(b"user"))
        && words.len() > 1
    {
        return user(config, &words[1], &words[2..]).map_err(Reason::Text);
    }
    let words: Vec<String> = words.iter().map(|word| text_of(word)).collect();
    let Some((name, values)) = words.split_first() else {
        return Ok(());
    };
    let name = name.to_ascii_lowercase();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    match super::params().nth(super::index(&name).unwrap_or(usize::MAX)) {
        Some(param) => assign(config, param, &values),
        None => directive(config, &name, &values, depth),
    }
}

fn assign(config: &mut Config, param: &Param, values: &[&str]) -> Result<(), Reason> {
    let wrong_count = Reason::Text("wrong number of arguments".into());
    let assigned = match values {
        // `save "900 1"` is `save 900 1`.
        [whole] if param.is_multiple() && !whole.is_empty() => {
            config.assign(param.name, &pieces(whole))
        }
        [_] => config.assign(param.name, values),
        _ if param.is_multiple() => config.assign(param.name, values),
        _ => return Err(wrong_count),
    };
    assigned.map_err(|reason| reason.map_or(wrong_count, Reason::Text))
}

/// Directives that Redis 7 no longer has and still lets pass.
const FORGOTTEN: [&str; 3] = [
    "list-max-ziplist-entries",
    "list-max-ziplist-value",
    "lua-replicate-commands",
];

/// Lines that are no parameters.
fn directive(config: &mut Config, name: &str, values: &[&str], depth: usize) -> Result<(), Reason> {
    let reason = match (name, values) {
        ("include", [path]) => return include(config, path, depth),
        ("rename-command", [from, to]) => return rename(config, from, to),
        (_, [_]) if FORGOTTEN.contains(&name) => return Ok(()),
        ("loadmodule", [_, ..]) => "Modules are not supported",
        ("sentinel", [_, ..]) => "sentinel directive while not in sentinel mode",
        (_, []) if name.contains('.') => "Module config specified without value",
        _ if name.contains('.') => "Modules are not supported",
        _ => "Bad directive or wrong number of arguments",
    };
    Err(Reason::Text(reason.into()))
}

/// A user and its rules. Commands that are not known are left for later. Redis: acl.c
/// ACLAppendUserForLoading.
fn user(config: &mut Config, name: &[u8], rules: &[Vec<u8>]) -> Result<(), String> {
    let wrong = |word: &[u8], reason: &str| {
        let word = String::from_utf8_lossy(word);
        format!("Error in user declaration '{word}': {reason}")
    };
    if config.users.iter().any(|(known, _)| known == name) {
        let reason = "Duplicate user found. A user can only be defined once in config files";
        return Err(wrong(name, reason));
    }
    let table = Table::new(&[]).map_err(|name| wrong(&name, "no such command"))?;
    let all_channels = config.text("acl-pubsub-default") == "allchannels";
    Users::new(&table)
        .check_rules(rules, all_channels)
        .map_err(|(rule, error)| wrong(&rule, &error.to_string()))?;
    config.users.push((name.to_vec(), rules.to_vec()));
    Ok(())
}

/// Renames are tried where they stand, so that the line that cannot be is the one that is told.
fn rename(config: &mut Config, from: &str, to: &str) -> Result<(), Reason> {
    let (from, to) = (bytes_of(from), bytes_of(to));
    config.renames.push((from.to_vec(), to.to_vec()));
    let reason = match Table::new(&config.renames) {
        Ok(_) => return Ok(()),
        Err(name) if name.eq_ignore_ascii_case(&from) => "No such command in rename-command",
        Err(_) => "Target command name already exists",
    };
    Err(Reason::Text(reason.into()))
}

/// Includes a file, or in order of their names all that a pattern names within its folder.
fn include(config: &mut Config, name: &str, depth: usize) -> Result<(), Reason> {
    if depth >= DEPTH_MAX {
        return Err(Reason::Text("include is nested too deeply".into()));
    }
    let path = path_of(name);
    let pattern = path
        .file_name()
        .map(|name| name.as_encoded_bytes().to_vec());
    let mut paths = vec![path.clone()];
    if let Some(pattern) = pattern.filter(|p| p.iter().any(|b| b"*?[".contains(b))) {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let entries = fs::read_dir(folder.unwrap_or(Path::new(".")))
            .into_iter()
            .flatten();
        paths = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                let name = path.file_name().map(|name| name.as_encoded_bytes());
                name.is_some_and(|name| crate::command::glob::matches(&pattern, name))
            })
            .collect();
        paths.sort();
    }
    for path in paths {
        let text = read(&path).map_err(Reason::Inner)?;
        apply(config, &text, depth + 1).map_err(Reason::Inner)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_text(text: &str) -> Result<Config, String> {
        let options = text.to_owned();
        let sources = Sources {
            options,
            ..Sources::default()
        };
        load(&sources, None).map_err(|error| error.to_string())
    }

    #[test]
    fn comments_quotes_units_and_aliases() {
        let text = "# c\n\nport 7000\nmaxmemory 1gb\nslave-read-only \"no\"\nsave 1 2\nsave 3 4\n\
                    rename-command CONFIG \"\"\nbind 127.0.0.1 -::1\n";
        let config = apply_text(text).unwrap();
        assert_eq!(config.int("port"), 7000);
        assert_eq!(config.bytes("maxmemory"), 1 << 30);
        assert!(!config.flag("replica-read-only"));
        assert_eq!(config.text("save"), "1 2 3 4");
        assert_eq!(config.renames, [(b"CONFIG".to_vec(), vec![])]);
        assert_eq!(apply_text("save \"\"").unwrap().text("save"), "");
    }

    #[test]
    fn users_keep_their_bytes() {
        let text = "user alice on \"~a\\xff b\" >x\nUSER bob (+get ~x)\nuser eve +nosuch\n";
        let rules = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect::<Vec<_>>();
        assert!(
            apply_text(text)
                .unwrap_err()
                .contains("'~a\u{fffd} b': Syntax error")
        );
        let config = apply_text(&text.replace(" b\"", "\"")).unwrap();
        assert_eq!(
            config.users,
            [
                (b"alice".to_vec(), rules(&[b"on", b"~a\xff", b">x"])),
                (b"bob".to_vec(), rules(&[b"(+get", b"~x)"])),
                (b"eve".to_vec(), rules(&[b"+nosuch"])),
            ]
        );
        let error = apply_text("user a\nuser a").unwrap_err();
        assert!(
            error.ends_with(
                "Error in user declaration 'a': Duplicate user found. A user can only be defined \
                 once in config files"
            ),
            "{error}"
        );
    }

    #[test]
    fn errors_name_the_line() {
        let error = apply_text("port 1\nnope 3").unwrap_err();
        assert!(
            error.ends_with("at line 3\n>>> 'nope 3'\nBad directive or wrong number of arguments")
        );
        let error = apply_text("port abc").unwrap_err();
        assert!(
            error.ends_with("argument couldn't be parsed into an integer"),
            "{error}"
        );
        let error = apply_text("dir \"\"").unwrap_err();
        assert!(error.ends_with("No such file or directory"), "{error}");
        let error = apply_text("dir \"x").unwrap_err();
        assert!(
            error.ends_with("Unbalanced quotes in configuration line"),
            "{error}"
        );
    }
}
