//! What redis-server 7.0.15 said when it was given these lines and commands.

use super::cli::Sources;
use super::{Config, ConfigError};

/// Name, value, and why CONFIG SET refuses it.
const REFUSED: &[(&str, &str, &str)] = &[
    ("appendonly", "maybe", "argument must be 'yes' or 'no'"),
    ("port", "abc", "argument couldn't be parsed into an integer"),
    ("port", "", "argument couldn't be parsed into an integer"),
    (
        "timeout",
        "+1",
        "argument couldn't be parsed into an integer",
    ),
    (
        "port",
        "70000",
        "argument must be between 0 and 65535 inclusive",
    ),
    ("maxmemory", "abc", "argument must be a memory value"),
    ("maxmemory", "-1", "argument must be a memory value"),
    (
        "loglevel",
        "foo",
        "argument(s) must be one of the following: debug, verbose, notice, warning",
    ),
    ("databases", "3", "can't set immutable config"),
    ("dir", "/tmp", "can't set protected config"),
    ("save", "a b", "Invalid save parameters"),
    ("save", "1", "Invalid save parameters"),
    (
        "client-output-buffer-limit",
        "foo 1 2 3",
        "Invalid client class specified in buffer limit configuration.",
    ),
    (
        "client-output-buffer-limit",
        "normal 1 2",
        "Wrong number of arguments in buffer limit configuration.",
    ),
    (
        "client-output-buffer-limit",
        "normal 1 2 x",
        "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
    ),
    (
        "notify-keyspace-events",
        "Q",
        "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.",
    ),
    (
        "maxmemory-clients",
        "-5",
        "argument must be a memory or percent value",
    ),
    (
        "maxmemory-clients",
        "200%",
        "percentage argument must be less or equal to 100",
    ),
    (
        "maxmemory-clients",
        "8589934592gb",
        "percentage argument must be less or equal to 100",
    ),
    (
        "loading-process-events-interval-bytes",
        "1mb",
        "argument couldn't be parsed into an integer",
    ),
    (
        "loading-process-events-interval-bytes",
        "1023",
        "argument must be between 1024 and 2147483647 inclusive",
    ),
    (
        "shutdown-on-sigterm",
        "save nosave",
        "shutdown options SAVE and NOSAVE can't be used simultaneously",
    ),
    (
        "shutdown-on-sigterm",
        "foo",
        "argument(s) must be one of the following: default, save, nosave, now, force",
    ),
    (
        "latency-tracking-info-percentiles",
        "101",
        "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
    ),
    (
        "latency-tracking-info-percentiles",
        "a",
        "Invalid latency-tracking-info-percentiles parameters",
    ),
    (
        "hash-max-ziplist-entries",
        "-1",
        "argument must be between 0 and 9223372036854775807 inclusive",
    ),
    (
        "maxclients",
        "-1",
        "argument must be between 1 and 4294967295 inclusive",
    ),
    ("oom-score-adj-values", "1 2", "wrong number of arguments"),
    (
        "oom-score-adj-values",
        "3000 1 2",
        "Invalid oom-score-adj-values, elements must be between -2000 and 2000.",
    ),
    (
        "cluster-announce-hostname",
        "a_b",
        "Hostnames may only contain alphanumeric characters, hyphens or dots",
    ),
    (
        "proc-title-template",
        "{foo}",
        "template format is invalid or contains unknown variables",
    ),
    (
        "proc-title-template",
        "",
        "template format is invalid or contains unknown variables",
    ),
    (
        "client-query-buffer-limit",
        "18446744073709551616",
        "argument must be between 1048576 and 9223372036854775807 inclusive",
    ),
    (
        "client-output-buffer-limit",
        "normal  0 0 0",
        "Wrong number of arguments in buffer limit configuration.",
    ),
    ("save", "900  1", "Invalid save parameters"),
    (
        "latency-tracking-info-percentiles",
        "50  99",
        "Invalid latency-tracking-info-percentiles parameters",
    ),
    (
        "repl-backlog-size",
        "0",
        "argument must be between 1 and 9223372036854775807 inclusive",
    ),
    (
        "bind",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17",
        "Too many bind addresses specified.",
    ),
    (
        "activedefrag",
        "yes",
        "Active defragmentation cannot be enabled: it requires a Redis server compiled with a modified Jemalloc like the one shipped by default with the Redis source distribution",
    ),
];

/// Name, value, and what CONFIG GET answers then.
const ACCEPTED: &[(&str, &str, &str)] = &[
    ("hz", "100000", "500"),
    ("hz", "0", "1"),
    ("maxmemory", "1gB", "1073741824"),
    ("maxmemory", "", "0"),
    ("maxmemory", "9223372036854775808", "9223372036854775808"),
    ("maxmemory", "17179869183gb", "18446744072635809792"),
    ("maxmemory", "17179869184gb", "0"),
    (
        "maxmemory",
        "99999999999999999999999",
        "18446744073709551615",
    ),
    (
        "cluster-link-sendbuf-limit",
        "18446744073709551615",
        "18446744073709551615",
    ),
    ("stream-node-max-bytes", "17179869184gb", "0"),
    ("maxmemory-clients", "18446744073709551615", "1%"),
    ("maxmemory-clients", "5%", "5%"),
    ("repl-backlog-size", "1", "16384"),
    ("repl-backlog-size", "20kb", "20480"),
    (
        "latency-tracking-info-percentiles",
        "50 99.90 99.999",
        "50 99.9 99.999",
    ),
    ("latency-tracking-info-percentiles", "", ""),
    ("shutdown-on-sigterm", "save now", "save now"),
    ("oom-score-adj", "relative", "yes"),
    ("save", "", ""),
    ("save", "100 1 20 300", "100 1 20 300"),
    ("bind", "", ""),
    ("notify-keyspace-events", "KEAn", "AKEn"),
    ("notify-keyspace-events", "Kmn", "nKm"),
    (
        "client-output-buffer-limit",
        "slave 1mb 1k 60 pubsub 1 2 3",
        "normal 0 0 0 slave 1048576 1000 60 pubsub 1 2 3",
    ),
    ("SLAVE-PRIORITY", "7", "7"),
];

/// A line of redis.conf, and why the server does not start with it.
const FATAL: &[(&str, &str)] = &[
    ("foo bar", "Bad directive or wrong number of arguments"),
    ("port abc", "argument couldn't be parsed into an integer"),
    ("port 1 2", "wrong number of arguments"),
    ("loglevel", "wrong number of arguments"),
    ("port \"1", "Unbalanced quotes in configuration line"),
    ("save 1", "Invalid save parameters"),
    ("rename-command NOPE x", "No such command in rename-command"),
    (
        "rename-command ping echo",
        "Target command name already exists",
    ),
    (
        "rename-command a",
        "Bad directive or wrong number of arguments",
    ),
    (
        "unixsocketperm 999",
        "argument couldn't be parsed as an octal number",
    ),
    (
        "unixsocketperm 1777",
        "argument must be between 0 and 777 inclusive",
    ),
    (
        "sentinel monitor",
        "sentinel directive while not in sentinel mode",
    ),
    ("a.b", "Module config specified without value"),
    ("replicaof a b", "Invalid master port"),
    ("replicaof a", "wrong number of arguments"),
    ("appendfilename \"\"", "appendfilename can't be empty"),
    (
        "appenddirname a/b",
        "appenddirname can't be a path, just a dirname",
    ),
    (
        "dbfilename a/b",
        "dbfilename can't be a path, just a filename",
    ),
    ("dir /nonexistent", "No such file or directory"),
    ("include", "Bad directive or wrong number of arguments"),
    (
        "maxclients 0",
        "argument must be between 1 and 4294967295 inclusive",
    ),
];

/// Loads options, which stand below the first line that a file would be.
fn load(options: &str) -> Result<Config, ConfigError> {
    let options = options.to_owned();
    super::load(
        &Sources {
            options,
            ..Sources::default()
        },
        None,
    )
}

fn set(config: &Config, name: &str, value: &str) -> Result<Config, String> {
    let pair = (name.to_owned(), value.to_owned());
    config.set(&[pair], true).map_err(|error| error.to_string())
}

#[test]
fn config_set_refuses_in_the_same_words() {
    for (name, value, reason) in REFUSED {
        let expected =
            format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}");
        let refused = set(&Config::default(), name, value).map(|_| "accepted");
        assert_eq!(refused, Err(expected), "{name} {value}");
    }
}

#[test]
fn config_get_answers_the_same_canonical_values() {
    for (name, value, answer) in ACCEPTED {
        let config = set(&Config::default(), name, value).expect(name);
        assert_eq!(config.text(name), *answer, "{name} {value}");
    }
}

#[test]
fn a_bad_line_stops_the_start_with_the_same_words() {
    for (line, reason) in FATAL {
        let expected = format!(
            "\n*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n\
             Reading the configuration file, at line 3\n>>> '{line}'\n{reason}"
        );
        let told = load(&format!("# a comment\n {line} "));
        let told = told.map(|_| "loaded").map_err(|error| error.to_string());
        assert_eq!(told, Err(expected), "{line}");
    }
}

#[test]
fn directives_of_older_files_pass() {
    for line in [
        "list-max-ziplist-entries 5",
        "lua-replicate-commands yes",
        "save",
        "bind",
    ] {
        assert!(load(line).is_ok(), "{line}");
    }
}

#[test]
fn saves_add_up_also_after_the_defaults_were_written_out() {
    let config = load("save \"3600 1 300 100 60 10000\"\nsave 5 6").expect("valid");
    assert_eq!(config.text("save"), "3600 1 300 100 60 10000 5 6");
    let config = load("save 1 2\nsave \"\"\nsave 3 4").expect("valid");
    assert_eq!(config.text("save"), "3 4");
}

#[test]
fn protected_parameters_are_open_to_whom_the_configuration_says() {
    for (who, here, elsewhere) in [
        ("no", false, false),
        ("local", true, false),
        ("yes", true, true),
    ] {
        let config = load(&format!("enable-protected-configs {who}")).expect("valid");
        for (is_local, open) in [(true, here), (false, elsewhere)] {
            let pair = ("dbfilename".to_owned(), "x.rdb".to_owned());
            assert_eq!(config.set(&[pair], is_local).is_ok(), open, "{who}");
        }
    }
}
