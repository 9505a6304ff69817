//! redis.conf and the command line.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::Config;
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

/// Reads a file (`-`: standard input) and then the options of the command line, which win.
pub fn load(file: Option<&str>, options: &str) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    if let Some(name) = file {
        let text = read(name)?;
        if name != "-" {
            config.file = fs::canonicalize(name).ok();
        }
        apply(&mut config, &text, 0)?;
    }
    apply(&mut config, options, 0)?;
    Ok(config)
}

fn read(name: &str) -> Result<String, ConfigError> {
    let result = if name == "-" {
        let mut text = Vec::new();
        std::io::stdin().read_to_end(&mut text).map(|_| text)
    } else {
        fs::read(name)
    };
    let bytes = result.map_err(|error| ConfigError::Unreadable {
        path: name.into(),
        error: error.to_string(),
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn apply(config: &mut Config, text: &str, depth: usize) -> Result<(), ConfigError> {
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        apply_line(config, line, depth).map_err(|reason| match reason {
            Reason::Text(reason) => ConfigError::Line {
                number: i + 1,
                line: line.to_owned(),
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
    let words = split_quoted(line.as_bytes())
        .ok_or_else(|| text("Unbalanced quotes in configuration line"))?;
    let words: Vec<String> = words
        .into_iter()
        .map(|word| String::from_utf8_lossy(&word).into_owned())
        .collect();
    let Some((name, values)) = words.split_first() else {
        return Ok(());
    };
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    match (name.to_ascii_lowercase().as_str(), values.as_slice()) {
        ("include", [path]) => include(config, path, depth),
        ("rename-command", [from, to]) => {
            config
                .renames
                .push((from.as_bytes().to_vec(), to.as_bytes().to_vec()));
            Ok(())
        }
        ("loadmodule", [_, ..]) => Err(text("Modules are not supported")),
        ("user", [_, ..]) => Err(text("ACL users are not supported")),
        ("save", values) if values.concat().is_empty() => config
            .assign("save", &[""])
            .map_err(|_| text("Invalid save parameters")),
        (_, []) => Err(text("Bad directive or wrong number of arguments")),
        (name, values) => config.assign(name, values).map_err(|reason| match reason {
            Some(reason) if reason != "wrong number of arguments" => Reason::Text(reason),
            _ => text("Bad directive or wrong number of arguments"),
        }),
    }
}

/// Includes a file, or in order of their names all that a pattern names within its folder.
fn include(config: &mut Config, name: &str, depth: usize) -> Result<(), Reason> {
    if depth >= DEPTH_MAX {
        return Err(Reason::Text("include is nested too deeply".into()));
    }
    let path = Path::new(name);
    let pattern = path
        .file_name()
        .map(|name| name.as_encoded_bytes().to_vec());
    let mut paths = vec![path.to_path_buf()];
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
        let text = read(&path.to_string_lossy()).map_err(Reason::Inner)?;
        apply(config, &text, depth + 1).map_err(Reason::Inner)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_text(text: &str) -> Result<Config, String> {
        load(None, text).map_err(|error| error.to_string())
    }

    #[test]
    fn comments_quotes_units_and_aliases() {
        let text = "# c\n\nport 7000\nmaxmemory 1gb\nslave-read-only \"no\"\nsave 1 2\nsave 3 4\n\
                    rename-command CONFIG \"\"\nbind 127.0.0.1 -::1\n";
        let config = apply_text(text).unwrap();
        assert_eq!(config.int("port"), 7000);
        assert_eq!(config.int("maxmemory"), 1 << 30);
        assert!(!config.flag("replica-read-only"));
        assert_eq!(config.text("save"), "1 2 3 4");
        assert_eq!(config.renames, [(b"CONFIG".to_vec(), vec![])]);
        assert_eq!(apply_text("save \"\"").unwrap().text("save"), "");
    }

    #[test]
    fn errors_name_the_line() {
        let error = apply_text("port 1\nnope 3").unwrap_err();
        assert!(
            error.ends_with("at line 2\n>>> 'nope 3'\nBad directive or wrong number of arguments")
        );
        let error = apply_text("port abc").unwrap_err();
        assert!(
            error.ends_with("argument couldn't be parsed into an integer"),
            "{error}"
        );
        let error = apply_text("dir \"x").unwrap_err();
        assert!(
            error.ends_with("Unbalanced quotes in configuration line"),
            "{error}"
        );
    }
}
