//! Client-side caching: what a client asked to be told of the keys that it reads.

use super::client::Client;
use crate::keyspace::tracking::Reader;
use crate::resp::{Args, CmdError, CmdResult, Writer};

/// Which reads of a client are noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    All,
    /// Those after CLIENT CACHING YES.
    OptIn,
    /// All but those after CLIENT CACHING NO.
    OptOut,
    /// None: it is told of every key under its prefixes.
    Broadcast,
}

/// CLIENT TRACKING of one client, while it is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracking {
    pub mode: Mode,
    /// It need not be told what it changed itself.
    pub no_loop: bool,
    /// CLIENT CACHING was said and concerns what comes next.
    pub is_caching: bool,
    /// The client to tell instead: its id, and where it is.
    pub redirect: Option<(u64, Reader)>,
    /// That client is gone.
    pub is_broken: bool,
    /// Of a client that broadcasts, ascending.
    pub prefixes: Vec<Box<[u8]>>,
}

impl Tracking {
    /// Memory of the prefixes here, and of what every node keeps of them.
    pub fn memory_bytes(&self) -> usize {
        /// Its places in tables.
        const EACH: usize = 64;
        let prefixes = self.prefixes.iter();
        size_of::<Tracking>()
            + prefixes
                .map(|prefix| 2 * prefix.len() + EACH)
                .sum::<usize>()
    }

    /// Whether the keys of what it reads next are noted.
    pub fn covers_reads(&self) -> bool {
        match self.mode {
            Mode::All => true,
            Mode::OptIn => self.is_caching,
            Mode::OptOut => !self.is_caching,
            Mode::Broadcast => false,
        }
    }
}

/// `CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX prefix ...] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]`,
/// checked against how the client tracks now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub on: bool,
    pub mode: Mode,
    pub no_loop: bool,
    /// A client's id.
    pub redirect: Option<u64>,
    /// Prefixes that the client does not have yet.
    pub prefixes: Vec<Box<[u8]>>,
}

#[derive(Default)]
struct Options {
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
}

impl Wish {
    /// # Errors
    /// Redis' own, for options that contradict each other or the present mode.
    pub fn parse(args: &Args, now: Option<&Tracking>) -> Result<Wish, CmdError> {
        let mut wish = Wish::default();
        let mut options = Options::default();
        let mut at = 3;
        while at < args.len() {
            at += wish.option(args, at, &mut options)?;
        }
        wish.on = args.is(2, "on");
        if !wish.on {
            return if args.is(2, "off") {
                Ok(wish)
            } else {
                Err(CmdError::Syntax)
            };
        }
        wish.mode = match options {
            Options {
                broadcast: true, ..
            } => Mode::Broadcast,
            Options { opt_in: true, .. } => Mode::OptIn,
            Options { opt_out: true, .. } => Mode::OptOut,
            _ => Mode::All,
        };
        wish.check(&options, now)?;
        wish.take_prefixes(now)?;
        Ok(wish)
    }

    /// Reads one option; returns how many arguments it took.
    fn option(&mut self, args: &Args, at: usize, options: &mut Options) -> Result<usize, CmdError> {
        let has_more = at + 1 < args.len();
        if args.is(at, "redirect") && has_more {
            if self.redirect.is_some() {
                return Err(CmdError::Text(
                    "ERR A client can only redirect to a single other client",
                ));
            }
            // No client has a negative id.
            self.redirect = Some(u64::try_from(args.int(at + 1)?).unwrap_or(u64::MAX));
            return Ok(2);
        }
        if args.is(at, "prefix") && has_more {
            self.prefixes.push(args.get(at + 1).into());
            return Ok(2);
        }
        let flag = if args.is(at, "bcast") {
            &mut options.broadcast
        } else if args.is(at, "optin") {
            &mut options.opt_in
        } else if args.is(at, "optout") {
            &mut options.opt_out
        } else if args.is(at, "noloop") {
            &mut self.no_loop
        } else {
            return Err(CmdError::Syntax);
        };
        *flag = true;
        Ok(1)
    }

    fn check(&self, options: &Options, now: Option<&Tracking>) -> CmdResult {
        let mode = now.map(|now| now.mode);
        let is_broadcast = |mode| mode == Mode::Broadcast;
        let refusal = if !options.broadcast && !self.prefixes.is_empty() {
            "ERR PREFIX option requires BCAST mode to be enabled"
        } else if mode.is_some_and(|mode| is_broadcast(mode) != options.broadcast) {
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and \
             then re-enabling it with a different mode."
        } else if options.broadcast && (options.opt_in || options.opt_out) {
            "ERR OPTIN and OPTOUT are not compatible with BCAST"
        } else if options.opt_in && options.opt_out {
            "ERR You can't specify both OPTIN mode and OPTOUT mode"
        } else if options.opt_in && mode == Some(Mode::OptOut)
            || options.opt_out && mode == Some(Mode::OptIn)
        {
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and \
             then re-enabling it with a different mode."
        } else {
            return Ok(());
        };
        Err(CmdError::Text(refusal))
    }

    /// Keeps the prefixes that are new; refuses those that overlap.
    fn take_prefixes(&mut self, now: Option<&Tracking>) -> CmdResult {
        let old: &[Box<[u8]>] = now.map_or(&[], |now| &now.prefixes);
        let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
        let refuse = |which: &str, a: &[u8], b: &[u8]| {
            Err(CmdError::quoting(&[
                b"ERR Prefix '",
                a,
                b"' overlaps with ",
                which.as_bytes(),
                b" prefix '",
                b,
                b"'. Prefixes for a single client must not overlap.",
            ]))
        };
        for (i, prefix) in self.prefixes.iter().enumerate() {
            if let Some(other) = old.iter().find(|other| overlap(other, prefix)) {
                return refuse("an existing", prefix, other);
            }
            let mut rest = self.prefixes[i + 1..].iter();
            if let Some(other) = rest.find(|other| overlap(other, prefix)) {
                return refuse("another provided", prefix, other);
            }
        }
        if self.mode == Mode::Broadcast && self.prefixes.is_empty() {
            let everything: Box<[u8]> = Box::default();
            if !old.contains(&everything) {
                self.prefixes.push(everything);
            }
        }
        Ok(())
    }
}

/// CLIENT CACHING
pub fn caching(client: &mut Client, args: &Args, out: &mut Writer) -> CmdResult {
    let Some(tracking) = &mut client.tracking else {
        return Err(CmdError::Text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN \
             or OPTOUT mode enabled",
        ));
    };
    let (mode, refusal) = if args.is(2, "yes") {
        let refusal =
            "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.";
        (Mode::OptIn, refusal)
    } else if args.is(2, "no") {
        let refusal =
            "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.";
        (Mode::OptOut, refusal)
    } else {
        return Err(CmdError::Syntax);
    };
    if tracking.mode != mode {
        return Err(CmdError::Text(refusal));
    }
    tracking.is_caching = true;
    out.ok()
}

/// What GETREDIR replies: -1 without tracking, 0 without redirection.
pub fn redirection(client: &Client) -> i64 {
    match &client.tracking {
        None => -1,
        Some(tracking) => tracking.redirect.map_or(0, |(id, _)| id as i64),
    }
}

/// CLIENT GETREDIR
pub fn getredir(client: &mut Client, _args: &Args, out: &mut Writer) -> CmdResult {
    out.int(redirection(client))
}

/// CLIENT TRACKINGINFO
pub fn trackinginfo(client: &mut Client, _args: &Args, out: &mut Writer) -> CmdResult {
    let off = Tracking::default();
    let tracking = client.tracking.as_deref();
    let is_on = tracking.is_some();
    let its = tracking.unwrap_or(&off);
    let caching = |word| its.is_caching.then_some(word);
    let mut flags = vec![if is_on { "on" } else { "off" }];
    match its.mode {
        Mode::All => {}
        Mode::Broadcast => flags.push("bcast"),
        Mode::OptIn => flags.extend(["optin"].into_iter().chain(caching("caching-yes"))),
        Mode::OptOut => flags.extend(["optout"].into_iter().chain(caching("caching-no"))),
    }
    flags.extend(its.no_loop.then_some("noloop"));
    flags.extend(its.is_broken.then_some("broken_redirect"));
    out.map(3)?;
    out.bulk(b"flags")?;
    out.set(flags.len())?;
    for flag in flags {
        out.bulk(flag.as_bytes())?;
    }
    out.bulk(b"redirect")?;
    out.int(redirection(client))?;
    out.bulk(b"prefixes")?;
    out.array(its.prefixes.len())?;
    its.prefixes.iter().try_for_each(|prefix| out.bulk(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::ArgBuf;

    fn parse(line: &str, now: Option<&Tracking>) -> Result<Wish, String> {
        let words: ArgBuf = line.split(' ').map(str::as_bytes).collect();
        Wish::parse(&words.as_args(), now).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_checked_against_each_other_and_the_present_mode() {
        let opt_in = Tracking {
            mode: Mode::OptIn,
            ..Tracking::default()
        };
        let broadcast = Tracking {
            mode: Mode::Broadcast,
            prefixes: vec![b"user:"[..].into()],
            ..Tracking::default()
        };
        for (line, now, part) in [
            ("client tracking maybe", None, "syntax error"),
            ("client tracking on what", None, "syntax error"),
            ("client tracking on redirect", None, "syntax error"),
            ("client tracking on redirect x", None, "not an integer"),
            ("client tracking on redirect 1 redirect 2", None, "single"),
            ("client tracking on prefix a", None, "PREFIX option"),
            ("client tracking on bcast optin", None, "not compatible"),
            ("client tracking on optin optout", None, "both OPTIN"),
            ("client tracking on bcast", Some(&opt_in), "switch BCAST"),
            ("client tracking on optout", Some(&opt_in), "switch OPTIN"),
            ("client tracking on", Some(&broadcast), "switch BCAST"),
            (
                "client tracking on bcast prefix us",
                Some(&broadcast),
                "'us' overlaps with an existing prefix 'user:'",
            ),
            (
                "client tracking on bcast prefix a prefix b prefix bc",
                None,
                "'b' overlaps with another provided prefix 'bc'",
            ),
        ] {
            let refused = parse(line, now).expect_err(line);
            assert!(refused.contains(part), "{line}: {refused}");
        }
        let all = parse("client tracking on bcast noloop", None).unwrap();
        assert_eq!((all.prefixes.len(), all.no_loop), (1, true));
        let more = parse("client tracking on bcast prefix item:", Some(&broadcast));
        assert_eq!(more.unwrap().prefixes, [b"item:"[..].into()]);
        assert!(!parse("client tracking off bcast", None).unwrap().on);
    }
}
