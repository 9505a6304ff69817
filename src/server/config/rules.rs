//! What a value has to fulfil beyond its kind; the reasons are those of Redis.

/// Looks at the words of a value; the error is the reason that is told.
pub type Rule = fn(&[&str]) -> Result<(), String>;

fn unless(valid: bool, reason: &str) -> Result<(), String> {
    if valid {
        Ok(())
    } else {
        Err(reason.to_owned())
    }
}

fn first<'a>(words: &[&'a str]) -> &'a str {
    words.first().copied().unwrap_or_default()
}

fn is_base_name(text: &str) -> bool {
    !text.contains(['/', '\\'])
}

pub fn rdb_file_name(words: &[&str]) -> Result<(), String> {
    unless(
        is_base_name(first(words)),
        "dbfilename can't be a path, just a filename",
    )
}

pub fn aof_file_name(words: &[&str]) -> Result<(), String> {
    unless(!first(words).is_empty(), "appendfilename can't be empty")?;
    unless(
        is_base_name(first(words)),
        "appendfilename can't be a path, just a filename",
    )
}

pub fn aof_dir_name(words: &[&str]) -> Result<(), String> {
    unless(!first(words).is_empty(), "appenddirname can't be empty")?;
    unless(
        is_base_name(first(words)),
        "appenddirname can't be a path, just a dirname",
    )
}

/// Redis: CONFIG_BINDADDR_MAX.
const ADDRESSES_MAX: usize = 16;

pub fn addresses(words: &[&str]) -> Result<(), String> {
    unless(
        words.len() <= ADDRESSES_MAX,
        "Too many bind addresses specified.",
    )
}

/// `<host> <port>`, or `no one`.
pub fn master(words: &[&str]) -> Result<(), String> {
    let [host, port] = words else {
        return Err("wrong number of arguments".into());
    };
    let none = host.eq_ignore_ascii_case("no") && port.eq_ignore_ascii_case("one");
    unless(none || port.parse::<u16>().is_ok(), "Invalid master port")
}

/// Of a master, a replica and a background child.
pub fn oom_scores(words: &[&str]) -> Result<(), String> {
    unless(words.len() == 3, "wrong number of arguments")?;
    let in_range = |word: &&str| word.parse().is_ok_and(|n| (-2000..=2000).contains(&n));
    unless(
        words.iter().all(in_range),
        "Invalid oom-score-adj-values, elements must be between -2000 and 2000.",
    )
}

pub fn shutdown_flags(words: &[&str]) -> Result<(), String> {
    let named = |name: &str| words.iter().any(|word| word.eq_ignore_ascii_case(name));
    unless(
        !(named("save") && named("nosave")),
        "shutdown options SAVE and NOSAVE can't be used simultaneously",
    )
}

/// Redis: NET_HOST_STR_LEN.
const HOST_NAME_MAX_BYTES: usize = 256;

pub fn host_name(words: &[&str]) -> Result<(), String> {
    let name = first(words);
    unless(
        name.len() < HOST_NAME_MAX_BYTES,
        "Hostnames must be less than 256 characters",
    )?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    unless(
        name.bytes().all(plain),
        "Hostnames may only contain alphanumeric characters, hyphens or dots",
    )
}

/// A Redis without defragmentation refuses in these words.
pub fn no_defrag(words: &[&str]) -> Result<(), String> {
    unless(
        !first(words).eq_ignore_ascii_case("yes"),
        "Active defragmentation cannot be enabled: it requires a Redis server compiled with a \
         modified Jemalloc like the one shipped by default with the Redis source distribution",
    )
}

/// Variables of `proc-title-template`. Redis: redisProcTitleGetVariable.
const TITLE_VARIABLES: &[&str] = &[
    "title",
    "listen-addr",
    "server-mode",
    "port",
    "tls-port",
    "unixsocket",
    "config-file",
];

pub fn title_template(words: &[&str]) -> Result<(), String> {
    let refused = "template format is invalid or contains unknown variables";
    let mut rest = first(words);
    unless(!rest.is_empty(), refused)?;
    while let Some((_, tail)) = rest.split_once('{') {
        // `{{` is a literal brace.
        if let Some(tail) = tail.strip_prefix('{') {
            rest = tail;
            continue;
        }
        let (name, tail) = tail.split_once('}').ok_or(refused)?;
        unless(TITLE_VARIABLES.contains(&name), refused)?;
        rest = tail;
    }
    Ok(())
}
