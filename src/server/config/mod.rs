//! The configuration: one table of parameters behind redis.conf, the command line, CONFIG GET, SET
//! and REWRITE.
//!
//! A [`Config`] is an immutable snapshot, shared between cores. Every parameter of Redis 7.0.15 is
//! accepted; those that mean nothing here are kept and given back.

mod bytes;
pub mod cli;
mod file;
mod memory;
mod param;
mod persistence;
#[cfg(test)]
mod reference_tests;
mod replication;
mod rewrite;
mod rules;
mod server;
mod tls;

pub use bytes::{bytes_of, path_of, text_of, text_of_name};
pub use file::{ConfigError, load, read_stdin};
pub use param::{Param, parse_memory, system_words};
pub use rewrite::{replace_file, rewrite, rewrite_file};

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::LazyLock;

use ahash::AHashMap;

use crate::command::glob;

const TABLES: [&[Param]; 5] = [
    memory::PARAMS,
    persistence::PARAMS,
    replication::PARAMS,
    server::PARAMS,
    tls::PARAMS,
];

fn params() -> impl Iterator<Item = &'static Param> {
    TABLES.iter().copied().flatten()
}

/// Where a parameter stands, by its name or alias in any case.
fn index(name: &str) -> Option<usize> {
    static PLACES: LazyLock<AHashMap<&str, usize>> = LazyLock::new(|| {
        let names = |param: &Param| [Some(param.name), param.alias].into_iter().flatten();
        let places = params().enumerate();
        places
            .flat_map(|(at, param)| names(param).map(move |name| (name, at)))
            .collect()
    });
    let found = PLACES
        .get(name)
        .or_else(|| PLACES.get(&*name.to_ascii_lowercase()));
    found.copied()
}

/// One state of all parameters.
#[derive(Clone, Debug)]
pub struct Config {
    /// Text that stands for bytes: see [`bytes`].
    values: Vec<String>,
    /// Whether a file has begun to list save points: from then on its lines add up.
    save_begun: bool,
    /// `rename-command`: original and new name.
    pub renames: Vec<(Vec<u8>, Vec<u8>)>,
    /// `user` lines: name and rules.
    pub users: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
    /// The file the server was started with.
    pub file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            values: params().map(|param| param.default.to_owned()).collect(),
            save_begun: false,
            renames: Vec::new(),
            users: Vec::new(),
            file: None,
        }
    }
}

/// Why CONFIG SET changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    Unknown(String),
    Duplicate(String),
    Refused { name: String, reason: String },
}

impl std::fmt::Display for SetError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SetError::Unknown(name) => {
                write!(
                    f,
                    "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
                )
            }
            SetError::Duplicate(name) => write!(
                f,
                "ERR CONFIG SET failed (possibly related to argument '{name}') - duplicate \
                 parameter"
            ),
            SetError::Refused { name, reason } => write!(
                f,
                "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
            ),
        }
    }
}

impl Config {
    /// The canonical value of a parameter, as text. What may be no UTF-8 is asked for as [`Config::raw`] or
    /// as [`Config::path`].
    ///
    /// # Panics
    /// When there is no such parameter: names in code are constants.
    pub fn text(&self, name: &str) -> &str {
        let at = index(name).unwrap_or_else(|| panic!("no parameter is called {name}"));
        &self.values[at]
    }

    /// The same, byte for byte.
    pub fn raw(&self, name: &str) -> Cow<'_, [u8]> {
        bytes_of(self.text(name))
    }

    /// The same, as a path.
    pub fn path(&self, name: &str) -> PathBuf {
        path_of(self.text(name))
    }

    /// Gives a parameter a value that needs no check.
    pub fn replace(&mut self, name: &str, value: &str) {
        if let Some(at) = index(name) {
            value.clone_into(&mut self.values[at]);
        }
    }

    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == "yes"
    }

    pub fn int(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// A number of bytes: all that 64 bits can say.
    pub fn bytes(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// Sets one parameter from words, as a line of redis.conf does.
    pub fn assign(&mut self, name: &str, words: &[&str]) -> Result<(), Option<String>> {
        let at = index(name).ok_or(None)?;
        let param = params().nth(at).ok_or(None)?;
        let value = param.check(words, &self.values[at]).map_err(Some)?;
        let earlier = &self.values[at];
        let adds = param.name == "save" && words != [""] && !earlier.is_empty();
        self.values[at] = match adds && self.save_begun {
            true => format!("{earlier} {value}").trim_end().to_owned(),
            false => value,
        };
        self.save_begun |= param.name == "save";
        Ok(())
    }

    /// CONFIG SET: a new configuration with all pairs applied, or the first reason why not.
    /// `is_local`: who asks is on this machine.
    // Redis: config.c configSetCommand: what is wrong with a name comes before what is wrong with any
    // value, and the second kind is told by the parameter's name as the table spells it.
    pub fn set(&self, pairs: &[(String, String)], is_local: bool) -> Result<Config, SetError> {
        let mut new = self.clone();
        for ((at, spelling), (_, value)) in self.find(pairs, is_local)?.into_iter().zip(pairs) {
            let unknown = || SetError::Unknown(spelling.to_owned());
            let param = params().nth(at).ok_or_else(unknown)?;
            let words: Vec<&str> = if param.is_multiple() {
                param::pieces(value)
            } else {
                vec![value]
            };
            let refused = |reason: String| SetError::Refused {
                name: spelling.to_owned(),
                reason,
            };
            new.values[at] = param.check(&words, &new.values[at]).map_err(refused)?;
        }
        Ok(new)
    }

    /// The parameters that `pairs` name, each with its index and name or alias, or what is wrong with
    /// the first that may not be set.
    fn find(
        &self,
        pairs: &[(String, String)],
        is_local: bool,
    ) -> Result<Vec<(usize, &'static str)>, SetError> {
        let mut found: Vec<(usize, &'static str)> = Vec::new();
        for (name, value) in pairs {
            let unknown = || SetError::Unknown(name.clone());
            let at = index(name).ok_or_else(unknown)?;
            let param = params().nth(at).ok_or_else(unknown)?;
            let refused = |reason: &str| SetError::Refused {
                name: name.clone(),
                reason: reason.into(),
            };
            let stays = param.own && *value == self.values[at];
            if param.immutable && !stays {
                return Err(refused("can't set immutable config"));
            }
            if param.protected && !self.allows("enable-protected-configs", is_local) {
                return Err(refused("can't set protected config"));
            }
            // A name and its alias do not exclude each other: the later counts.
            let alias = param.alias.filter(|its| its.eq_ignore_ascii_case(name));
            let spelling = alias.unwrap_or(param.name);
            if found.contains(&(at, spelling)) {
                return Err(SetError::Duplicate(name.clone()));
            }
            found.push((at, spelling));
        }
        Ok(found)
    }

    /// Whether a parameter that says `yes`, `no` or `local` allows a client what it is about.
    pub fn allows(&self, name: &str, is_local: bool) -> bool {
        match self.text(name) {
            "yes" => true,
            "local" => is_local,
            _ => false,
        }
    }

    /// CONFIG GET: names and values that match one of the patterns, each once.
    // Redis: config.c configGetCommand: who asks by a whole name is answered in their own spelling.
    pub fn get<'a>(&'a self, patterns: &[&'a [u8]]) -> Vec<(&'a str, &'a str)> {
        let is_glob = |pattern: &[u8]| pattern.iter().any(|byte| b"*?[".contains(byte));
        let patterns: Vec<_> = patterns.iter().map(|&p| (p, is_glob(p))).collect();
        let mut asked: Vec<usize> = if patterns.iter().any(|(_, is_glob)| *is_glob) {
            (0..self.values.len()).collect()
        } else {
            let names = patterns.iter().map(|(name, _)| std::str::from_utf8(name));
            names.filter_map(|name| index(name.ok()?)).collect()
        };
        asked.sort_unstable();
        asked.dedup();
        let mut found = Vec::new();
        for (param, value) in asked
            .iter()
            .filter_map(|&at| params().nth(at).zip(self.values.get(at)))
        {
            for name in [Some(param.name), param.alias].into_iter().flatten() {
                let bytes = name.as_bytes();
                let spelling = patterns.iter().find_map(|&(pattern, is_glob)| {
                    if is_glob {
                        let shown = !param.hidden && glob::matches_nocase(pattern, bytes);
                        return shown.then_some(name);
                    }
                    let is_it = pattern.eq_ignore_ascii_case(bytes);
                    is_it.then(|| std::str::from_utf8(pattern).ok()).flatten()
                });
                found.extend(spelling.map(|spelling| (spelling, value.as_str())));
            }
        }
        found
    }

    /// Parameters that were changed from their defaults and do nothing here.
    pub fn without_effect(&self) -> Vec<&'static str> {
        let changed = params()
            .zip(&self.values)
            .filter(|(param, value)| !param.effective && value.as_str() != param.default);
        changed.map(|(param, _)| param.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../../../tests/golden/config-7.0.15.tsv");

    /// Where Pinion differs on purpose: it listens on this machine only until it is told otherwise,
    /// and `dir` is wherever the capture was made.
    const DIFFERENT: [&str; 2] = ["bind", "dir"];

    #[test]
    fn every_parameter_of_redis_is_known_with_its_default() {
        let config = Config::default();
        let mut compared = 0;
        for line in GOLDEN.lines() {
            let (name, default) = line.split_once('\t').unwrap_or((line, ""));
            let found = config.get(&[name.as_bytes()]);
            assert_eq!(found.len(), 1, "{name} is missing");
            if !DIFFERENT.contains(&name) {
                assert_eq!(found[0].1, default, "{name}");
                compared += 1;
            }
        }
        assert_eq!(compared, GOLDEN.lines().count() - DIFFERENT.len());
    }

    /// Everything outside of this room, as one text.
    fn other_sources(folder: &std::path::Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("server/config") {
                other_sources(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }

    #[test]
    fn what_claims_an_effect_is_read_and_documented() {
        let tuning = include_str!("../../../tuning.md");
        let mut sources = String::new();
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        other_sources(&root, &mut sources);
        for param in params().filter(|param| param.effective) {
            let name = param.name;
            // This one is read by CONFIG SET itself.
            let read_here = name == "enable-protected-configs";
            assert!(
                read_here || sources.contains(&format!("\"{name}\"")),
                "nothing reads {name}"
            );
            assert!(
                tuning.contains(&format!("| `{name}`")),
                "tuning.md says nothing of {name}"
            );
        }
    }

    #[test]
    fn what_get_answers_set_accepts() {
        let config = Config::default();
        let all: Vec<(String, String)> = config
            .get(&[b"*"])
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        for pair in all {
            let result = config.set(std::slice::from_ref(&pair), true);
            let fixed = ["can't set immutable config", "can't set protected config"];
            let known = match &result {
                Ok(new) => new.values == config.values,
                Err(SetError::Refused { reason, .. }) => fixed.contains(&reason.as_str()),
                Err(_) => false,
            };
            assert!(known, "{pair:?}: {result:?}");
        }
    }

    #[test]
    fn set_applies_all_or_nothing() {
        let config = Config::default();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let new = config
            .set(&[pair("maxclients", "5"), pair("timeout", "7")], true)
            .unwrap();
        assert_eq!((new.int("maxclients"), new.int("timeout")), (5, 7));
        let texts = [
            (
                vec![pair("nope", "1")],
                "ERR Unknown option or number of arguments for CONFIG SET - 'nope'",
            ),
            (
                vec![pair("timeout", "1"), pair("timeout", "2")],
                "ERR CONFIG SET failed (possibly related to argument 'timeout') - duplicate parameter",
            ),
            (
                vec![pair("port", "1"), pair("timeout", "x")],
                "ERR CONFIG SET failed (possibly related to argument 'timeout') - argument couldn't be parsed into an integer",
            ),
        ];
        for (pairs, text) in texts {
            assert_eq!(config.set(&pairs, true).unwrap_err().to_string(), text);
        }
    }
}
