//! One parameter: its type, and how its values are checked and written.

use super::bytes::{path_of, text_of_name};
use super::rules::Rule;
use crate::number::{parse_f64, parse_i64};

/// How a parameter's value is read, bounded and printed.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    /// Bytes, with units when read.
    Memory {
        min: i64,
        max: i64,
    },
    /// Bytes, with units when read, of all that 64 bits can say.
    WideMemory,
    /// Bytes, with units when read, at least one; fewer than these count as these.
    MemoryHint {
        least: i64,
    },
    /// Bytes, or a percentage of `maxmemory`.
    MemoryOrPercent,
    Octal,
    Enum(&'static [&'static str]),
    /// Some of the names after the first; the first stands for none of them.
    Flags(&'static [&'static str]),
    /// A number of which only the part within these bounds counts.
    Hint {
        least: i64,
        most: i64,
    },
    /// A directory that exists, kept as an absolute path.
    Directory,
    Text,
    /// Several words.
    Words,
    /// Pairs of seconds and changes.
    Save,
    /// Class, hard limit, soft limit, soft seconds; four words per class.
    OutputLimits,
    /// Letters of keyspace event classes.
    Events,
    Percentiles,
}

/// One row of the table of parameters.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    pub name: &'static str,
    pub alias: Option<&'static str>,
    pub default: &'static str,
    pub kind: Kind,
    /// Fixed once the server runs.
    pub immutable: bool,
    /// Not one of Redis': tools that set what they have read may set it to what it is.
    pub own: bool,
    /// Changed at run time only with `enable-protected-configs`.
    pub protected: bool,
    /// Not shown by patterns.
    pub hidden: bool,
    /// Does something in this server; others are accepted and remembered.
    pub effective: bool,
    /// Two names for the same value, and the one that is answered.
    pub synonym: Option<(&'static str, &'static str)>,
    /// What the words have to fulfil beyond their kind.
    pub rule: Option<Rule>,
}

impl Param {
    pub const fn new(name: &'static str, default: &'static str, kind: Kind) -> Param {
        Param {
            name,
            alias: None,
            default,
            kind,
            immutable: false,
            own: false,
            protected: false,
            hidden: false,
            effective: false,
            synonym: None,
            rule: None,
        }
    }

    pub const fn alias(self, alias: &'static str) -> Param {
        Param {
            alias: Some(alias),
            ..self
        }
    }

    pub const fn immutable(self) -> Param {
        Param {
            immutable: true,
            ..self
        }
    }

    pub const fn own(self) -> Param {
        Param { own: true, ..self }
    }

    pub const fn protected(self) -> Param {
        Param {
            protected: true,
            ..self
        }
    }

    pub const fn hidden(self) -> Param {
        Param {
            hidden: true,
            ..self
        }
    }

    pub const fn effective(self) -> Param {
        Param {
            effective: true,
            ..self
        }
    }

    pub const fn synonym(self, name: &'static str, answered: &'static str) -> Param {
        Param {
            synonym: Some((name, answered)),
            ..self
        }
    }

    pub const fn rule(self, rule: Rule) -> Param {
        Param {
            rule: Some(rule),
            ..self
        }
    }

    /// Whether the value is several words on one line.
    pub const fn is_multiple(&self) -> bool {
        matches!(
            self.kind,
            Kind::Words | Kind::Flags(_) | Kind::Save | Kind::OutputLimits | Kind::Percentiles
        )
    }

    /// The canonical form of a new value, given what the parameter holds, or Redis' reason why not.
    pub fn check(&self, words: &[&str], old: &str) -> Result<String, String> {
        // `save ""` says nothing.
        let words = match words {
            [""] if self.is_multiple() => &[],
            words => words,
        };
        let single = || match words {
            [word] => Ok(*word),
            _ => Err("wrong number of arguments".to_owned()),
        };
        if let Some(rule) = self.rule {
            rule(words)?;
        }
        match self.kind {
            Kind::Bool => match single()?.to_ascii_lowercase().as_str() {
                yes_or_no @ ("yes" | "no") => Ok(yes_or_no.to_owned()),
                _ => Err("argument must be 'yes' or 'no'".into()),
            },
            Kind::Int { min, max } => bounded(integer(single()?)?, min, max),
            Kind::Hint { least, most } => {
                bounded(integer(single()?)?, 0, i32::MAX.into())?;
                Ok(integer(single()?)?.clamp(least, most).to_string())
            }
            Kind::Flags(names) => flags(names, words),
            Kind::Directory => directory(single()?, old),
            Kind::Memory { min, max } => Ok(memory(single()?, min, max)?.to_string()),
            Kind::WideMemory => Ok(parse_memory(single()?).ok_or(NO_MEMORY)?.to_string()),
            Kind::MemoryHint { least } => {
                Ok(memory(single()?, 1, i64::MAX)?.max(least).to_string())
            }
            Kind::MemoryOrPercent => percent_or_memory(single()?),
            Kind::Octal => {
                let n = i64::from_str_radix(single()?, 8)
                    .map_err(|_| "argument couldn't be parsed as an octal number".to_owned())?;
                if (0..=0o777).contains(&n) {
                    Ok(format!("{n:o}"))
                } else {
                    Err("argument must be between 0 and 777 inclusive".into())
                }
            }
            Kind::Enum(names) => {
                let name = one_of(names, single()?)?;
                match self.synonym {
                    Some((same, answered)) if same == name => Ok(answered.to_owned()),
                    _ => Ok(name),
                }
            }
            Kind::Text => Ok(single()?.to_owned()),
            Kind::Words => Ok(words.join(" ")),
            Kind::Save => check_save(words),
            Kind::OutputLimits => check_output_limits(words, old),
            Kind::Events => check_events(single()?),
            Kind::Percentiles => check_percentiles(words),
        }
    }
}

/// Decimal digits without a plus sign, spaces or leading zeros, as the protocol's integers.
fn integer(word: &str) -> Result<i64, String> {
    parse_i64(word.as_bytes()).ok_or_else(|| "argument couldn't be parsed into an integer".into())
}

/// The flags that `words` name, in the order of `names`.
fn flags(names: &[&str], words: &[&str]) -> Result<String, String> {
    let mut set = Vec::new();
    for word in words {
        set.push(one_of(names, word)?);
    }
    if set.is_empty() {
        return one_of(names, "");
    }
    let (none, some) = names.split_first().ok_or("there are no flags")?;
    let named: Vec<&str> = some
        .iter()
        .copied()
        .filter(|name| set.iter().any(|word| word == name))
        .collect();
    Ok(if named.is_empty() {
        (*none).to_owned()
    } else {
        named.join(" ")
    })
}

/// The absolute path of `path`, which begins at `old` when it is relative.
fn directory(path: &str, old: &str) -> Result<String, String> {
    if path.is_empty() {
        // To join it would be to stay.
        return Err("No such file or directory".into());
    }
    let resolved = path_of(old)
        .join(path_of(path))
        .canonicalize()
        .map_err(|error| system_words(&error))?;
    if !resolved.is_dir() {
        return Err("Not a directory".into());
    }
    Ok(text_of_name(resolved.as_os_str()))
}

/// The system's words for `error`, without the number that Rust adds.
pub fn system_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

const NO_MEMORY: &str = "argument must be a memory value";

/// A number of bytes. Redis: config.c numericBoundaryCheck, which is what refuses numbers beyond 63
/// bits.
fn memory(word: &str, min: i64, max: i64) -> Result<i64, String> {
    let n = parse_memory(word).ok_or(NO_MEMORY)?;
    let within = i64::try_from(n).ok().filter(|n| (min..=max).contains(n));
    within.ok_or_else(|| format!("argument must be between {min} and {max} inclusive"))
}

fn bounded(n: i64, min: i64, max: i64) -> Result<String, String> {
    if n < min || n > max {
        return Err(format!(
            "argument must be between {min} and {max} inclusive"
        ));
    }
    Ok(n.to_string())
}

fn one_of(names: &[&str], word: &str) -> Result<String, String> {
    match names.iter().find(|name| name.eq_ignore_ascii_case(word)) {
        Some(name) => Ok((*name).to_owned()),
        None => Err(format!(
            "argument(s) must be one of the following: {}",
            names.join(", ")
        )),
    }
}

/// Redis: config.c numericConfigSet with PERCENT_CONFIG: percentages are kept negative, so that what is
/// beyond 63 bits is one.
fn percent_or_memory(word: &str) -> Result<String, String> {
    let error = || "argument must be a memory or percent value".to_owned();
    if let Some(percent) = word.strip_suffix('%') {
        let n = parse_i64(percent.as_bytes())
            .filter(|n| *n >= 0)
            .ok_or_else(error)?;
        return percentage(n);
    }
    match parse_memory(word).ok_or_else(error)?.cast_signed() {
        n @ 0.. => Ok(n.to_string()),
        n => percentage(n.saturating_neg()),
    }
}

fn percentage(n: i64) -> Result<String, String> {
    match n {
        0 => Ok("0".into()),
        1..=100 => Ok(format!("{n}%")),
        _ => Err("percentage argument must be less or equal to 100".into()),
    }
}

/// `bytes` in the largest unit that divides it, as CONFIG REWRITE writes it.
pub fn format_memory(bytes: u64) -> String {
    for (unit, name) in [(1 << 30, "gb"), (1 << 20, "mb"), (1 << 10, "kb")] {
        if bytes != 0 && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

/// A number of bytes with an optional unit: k = 1000, kb = 1024, and so on up to g and gb. A number that
/// 64 bits cannot say is the most that they can; what is beyond it for its unit begins at 0 again.
/// Redis: util.c memtoull.
pub fn parse_memory(word: &str) -> Option<u64> {
    let digits = word
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(word.len());
    // A missing number is 0, as in Redis.
    let n: u64 = match &word[..digits] {
        "" => 0,
        number => number.parse().unwrap_or(u64::MAX),
    };
    let unit = match word[digits..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    Some(n.wrapping_mul(unit))
}

/// The words of a value of several, which CONFIG SET takes as one. Redis: sdssplitlen, which finds an
/// empty word between two spaces.
pub(super) fn pieces(value: &str) -> Vec<&str> {
    match value {
        "" => Vec::new(),
        value => value.split(' ').collect(),
    }
}

/// Redis: strtoll, to which nothing is 0.
fn number_or_nothing(word: &str) -> Option<i64> {
    match word {
        "" => Some(0),
        word => word.parse().ok(),
    }
}

fn check_save(words: &[&str]) -> Result<String, String> {
    let valid = words.len().is_multiple_of(2)
        && words.chunks(2).all(|pair| {
            let number = |word: &str, least| number_or_nothing(word).is_some_and(|n| n >= least);
            number(pair[0], 1) && number(pair[1], 0)
        });
    if valid {
        let number = |word| if str::is_empty(word) { "0" } else { word };
        let words: Vec<&str> = words.iter().copied().map(number).collect();
        Ok(words.join(" "))
    } else {
        Err("Invalid save parameters".into())
    }
}

fn check_output_limits(words: &[&str], old: &str) -> Result<String, String> {
    if !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    let old: Vec<&str> = old.split(' ').collect();
    let mut classes: Vec<String> = old.chunks(4).map(|class| class.join(" ")).collect();
    for limit in words.chunks(4) {
        let class = match limit[0].to_ascii_lowercase().as_str() {
            "normal" => 0,
            "slave" | "replica" => 1,
            "pubsub" => 2,
            _ => {
                return Err("Invalid client class specified in buffer limit configuration.".into());
            }
        };
        let (hard, soft) = (parse_memory(limit[1]), parse_memory(limit[2]));
        let seconds = number_or_nothing(limit[3]).filter(|&seconds| seconds >= 0);
        let (Some(hard), Some(soft), Some(seconds)) = (hard, soft, seconds) else {
            return Err(
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.".into(),
            );
        };
        let name = ["normal", "slave", "pubsub"][class];
        classes[class] = format!("{name} {hard} {soft} {seconds}");
    }
    Ok(classes.join(" "))
}

/// Redis: notify.c: `A` stands for all classes but `m` and `n`; canonical order is theirs, except that
/// 7.0 forgets to show `n` beside `A`.
fn check_events(letters: &str) -> Result<String, String> {
    const ALL: &str = "g$lshzxetd";
    if !letters.chars().all(|c| "Ag$lshzxetdnmKE".contains(c)) {
        return Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into());
    }
    let all = letters.contains('A') || ALL.chars().all(|c| letters.contains(c));
    let mut canonical = String::new();
    if all {
        canonical.push('A');
    } else {
        canonical.extend(ALL.chars().chain(['n']).filter(|c| letters.contains(*c)));
    }
    canonical.extend(['K', 'E', 'm'].iter().filter(|c| letters.contains(**c)));
    if all && letters.contains('n') {
        canonical.push('n');
    }
    Ok(canonical)
}

fn check_percentiles(words: &[&str]) -> Result<String, String> {
    let mut canonical = Vec::new();
    for word in words {
        let percentile = parse_f64(word.as_bytes())
            .ok_or("Invalid latency-tracking-info-percentiles parameters")?;
        if !(0.0..=100.0).contains(&percentile) {
            return Err(
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
                    .into(),
            );
        }
        // Up to six decimals, without zeros at the end.
        let text = format!("{percentile:.6}");
        canonical.push(text.trim_end_matches('0').trim_end_matches('.').to_owned());
    }
    Ok(canonical.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, value: &str) -> Result<String, String> {
        let param = Param::new("x", "", kind);
        let words = match param.is_multiple() {
            true => pieces(value),
            false => vec![value],
        };
        param.check(&words, "normal 0 0 0 slave 1 1 1 pubsub 2 2 2")
    }

    #[test]
    fn values_are_read_in_redis_forms_and_refused_in_its_words() {
        assert_eq!(check(Kind::Bool, "YES"), Ok("yes".into()));
        assert_eq!(
            check(Kind::Bool, "1"),
            Err("argument must be 'yes' or 'no'".into())
        );
        let memory = Kind::Memory {
            min: 0,
            max: i64::MAX,
        };
        assert_eq!(check(memory, "2gb"), Ok("2147483648".into()));
        assert_eq!(
            check(memory, "2x"),
            Err("argument must be a memory value".into())
        );
        let int = Kind::Int { min: 1, max: 5 };
        assert_eq!(
            check(int, "9"),
            Err("argument must be between 1 and 5 inclusive".into())
        );
        assert_eq!(check(Kind::Events, "KEA"), Ok("AKE".into()));
        assert_eq!(check(Kind::Events, "xKE"), Ok("xKE".into()));
        assert_eq!(check(Kind::Save, "900 1"), Ok("900 1".into()));
        assert_eq!(check(Kind::Save, ""), Ok("".into()));
        assert_eq!(
            check(Kind::OutputLimits, "replica 1mb 2 3"),
            Ok("normal 0 0 0 slave 1048576 2 3 pubsub 2 2 2".into())
        );
        assert_eq!(check(Kind::Octal, "700"), Ok("700".into()));
    }
}
