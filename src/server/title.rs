//! `proc-title-template`: what `ps` shows of the server. Redis: server.c redisSetProcTitle.

use std::sync::OnceLock;

use super::config::Config;
use super::log;
use crate::runtime::title;

/// How the program was called. Read before a title stands where the arguments did.
static CALLED: OnceLock<String> = OnceLock::new();

/// To be called first of all, while there is one thread.
pub fn prepare() {
    CALLED.get_or_init(|| {
        let name = std::env::args_os().next().unwrap_or_default();
        title::prepare();
        name.to_string_lossy().into_owned()
    });
}

/// Shows the title that a configuration asks for.
pub fn show(config: &Config) {
    let Some(called) = CALLED.get().filter(|_| config.flag("set-proc-title")) else {
        return;
    };
    if let Err(error) = title::set(&expand(config, called)) {
        log::notice(&format!("The title of the process cannot be set: {error}"));
    }
}

/// What stands for a variable. Redis: server.c redisProcTitleGetVariable.
fn variable(name: &str, config: &Config, called: &str) -> String {
    match name {
        "title" => called.to_owned(),
        "listen-addr" if config.int("port") > 0 => {
            let host = config.text("bind").split(' ').next().unwrap_or_default();
            let host = if host.is_empty() { "*" } else { host };
            format!("{host}:{}", config.text("port"))
        }
        "listen-addr" => format!("unixsocket:{}", config.text("unixsocket")),
        "config-file" => match &config.file {
            Some(path) => path.display().to_string(),
            None => "-".to_owned(),
        },
        "port" | "tls-port" | "unixsocket" => config.text(name).to_owned(),
        // The mode of a server that is neither in a cluster nor a sentinel.
        _ => String::new(),
    }
}

/// Fills in a template that was checked when it was set: `{name}`, and `{{` for a brace.
fn expand(config: &Config, called: &str) -> String {
    let mut rest = config.text("proc-title-template");
    let mut title = String::new();
    while let Some((plain, tail)) = rest.split_once('{') {
        title.push_str(plain);
        if let Some(tail) = tail.strip_prefix('{') {
            title.push('{');
            rest = tail;
            continue;
        }
        let (name, tail) = tail.split_once('}').unwrap_or((tail, ""));
        title.push_str(&variable(name, config, called));
        rest = tail;
    }
    title.push_str(rest);
    title.trim_matches(' ').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_filled_in() {
        let title = |pairs: &[(&str, &str)]| {
            let owned = pairs
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()));
            let config = Config::default().set(&owned.collect::<Vec<_>>(), true);
            let config = config.expect("valid");
            expand(&config, "/bin/pinion")
        };
        assert_eq!(title(&[("port", "7000")]), "/bin/pinion 127.0.0.1:7000");
        let template = "{{x} {title} {port} {tls-port} {config-file}";
        let pairs = [("proc-title-template", template), ("port", "1")];
        assert_eq!(title(&pairs), "{x} /bin/pinion 1 0 -");
        let pairs = [
            ("proc-title-template", "{listen-addr} {server-mode}"),
            ("port", "0"),
        ];
        assert_eq!(title(&pairs), "unixsocket:");
    }
}
