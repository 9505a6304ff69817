//! CLIENT LIST, INFO, KILL, UNBLOCK: one client's view of all clients.

use super::{log, monitor};
use crate::acl::Users;
use crate::command::Table;
use crate::command::tracking::{self, Mode};
use crate::number;
use crate::resp::{Args, CmdError, Proto};
use crate::session::{Core, Link, Overflow, Session, State};
use crate::shard::message::{MASTER, SessionKey};

/// What `client list` selects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub ids: Option<Vec<u64>>,
    pub kind: Option<Kind>,
    pub addr: Option<Vec<u8>>,
    pub laddr: Option<Vec<u8>>,
    pub user: Option<Vec<u8>>,
    /// Seconds a connection has lived at least.
    pub max_age_s: Option<i64>,
    /// Leave the asking client out.
    pub skip: Option<u64>,
}

/// `TYPE` of CLIENT LIST and KILL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Master,
    Replica,
    Pubsub,
}

fn kind_of(session: &Session) -> Kind {
    if session.key == MASTER {
        Kind::Master
    } else if session.client.replica {
        Kind::Replica
    } else if session.client.subscriptions.any() {
        Kind::Pubsub
    } else {
        Kind::Normal
    }
}

fn parse_kind(word: &[u8]) -> Result<Kind, CmdError> {
    let kinds: [(&str, Kind); 5] = [
        ("normal", Kind::Normal),
        ("slave", Kind::Replica),
        ("replica", Kind::Replica),
        ("master", Kind::Master),
        ("pubsub", Kind::Pubsub),
    ];
    let found = kinds
        .iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    found
        .map(|(_, kind)| *kind)
        .ok_or_else(|| CmdError::quoting(&[b"ERR Unknown client type '", word, b"'"]))
}

impl Selection {
    /// `CLIENT LIST [TYPE type] [ID id ...]`
    pub fn of_list(args: &Args) -> Result<Selection, CmdError> {
        if args.len() == 2 {
            return Ok(Selection::default());
        }
        if args.len() == 4 && args.is(2, "type") {
            return Ok(Selection {
                kind: Some(parse_kind(args.get(3))?),
                ..Selection::default()
            });
        }
        if args.len() > 3 && args.is(2, "id") {
            let ids: Result<Vec<u64>, CmdError> = (3..args.len())
                .map(|i| {
                    let id = number::parse_i64(args.get(i));
                    // No client has a negative id, but it is not an error to ask for one.
                    id.map(|id| u64::try_from(id).unwrap_or(0))
                        .ok_or(CmdError::Text("ERR Invalid client ID"))
                })
                .collect();
            return Ok(Selection {
                ids: Some(ids?),
                ..Selection::default()
            });
        }
        Err(CmdError::Syntax)
    }

    /// `CLIENT KILL addr` or `CLIENT KILL filter value ...`; `me` is the asking client.
    pub fn of_kill(args: &Args, me: u64, users: &Users) -> Result<Selection, CmdError> {
        if args.len() == 3 {
            return Ok(Selection {
                addr: Some(args.get(2).to_vec()),
                ..Selection::default()
            });
        }
        let mut selection = Selection {
            skip: Some(me),
            ..Selection::default()
        };
        let mut at = 2;
        while at < args.len() {
            if at + 1 == args.len() {
                return Err(CmdError::Syntax);
            }
            selection.add_filter(args, at, me, users)?;
            at += 2;
        }
        Ok(selection)
    }

    fn add_filter(
        &mut self,
        args: &Args,
        at: usize,
        me: u64,
        users: &Users,
    ) -> Result<(), CmdError> {
        let value = args.get(at + 1);
        if args.is(at, "id") {
            let id = number::parse_i64(value)
                .filter(|&id| id > 0)
                .ok_or(CmdError::Text("ERR client-id should be greater than 0"))?;
            // Redis: of two ids, the second one counts, as of two of any filter.
            self.ids = Some(vec![id as u64]);
        } else if args.is(at, "type") {
            self.kind = Some(parse_kind(value)?);
        } else if args.is(at, "addr") {
            self.addr = Some(value.to_vec());
        } else if args.is(at, "laddr") {
            self.laddr = Some(value.to_vec());
        } else if args.is(at, "user") {
            if users.get(value).is_none() {
                return Err(CmdError::quoting(&[b"ERR No such user '", value, b"'"]));
            }
            self.user = Some(value.to_vec());
        } else if args.is(at, "maxage") {
            // Redis 7.4: networking.c clientKillCommand.
            let age = number::parse_i64(value).ok_or(CmdError::Text(
                "ERR maxage is not an integer or out of range",
            ))?;
            if age <= 0 {
                return Err(CmdError::Text("ERR maxage should be greater than 0"));
            }
            self.max_age_s = Some(age);
        } else if args.is(at, "skipme") && args.is(at + 1, "yes") {
            self.skip = Some(me);
        } else if args.is(at, "skipme") && args.is(at + 1, "no") {
            self.skip = None;
        } else {
            return Err(CmdError::Syntax);
        }
        Ok(())
    }

    fn matches(&self, session: &Session, now_ms: i64) -> bool {
        let id = session.client.id;
        self.skip != Some(id)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&id))
            && self.kind.is_none_or(|kind| kind == kind_of(session))
            && self
                .addr
                .as_ref()
                .is_none_or(|addr| session.peer.addr().as_bytes() == addr.as_slice())
            && self
                .laddr
                .as_ref()
                .is_none_or(|addr| session.peer.laddr().as_bytes() == addr.as_slice())
            && self.user.as_ref().is_none_or(|name| {
                session
                    .user
                    .as_ref()
                    .is_some_and(|user| user.name[..] == name[..])
            })
            && self
                .max_age_s
                .is_none_or(|age| (now_ms - session.created_ms) / 1000 >= age)
    }
}

/// One node's clients that match, as (id, line).
pub fn list(
    core: &Core,
    link: &dyn Link,
    selection: &Selection,
    monitors: &[SessionKey],
) -> Vec<(u64, String)> {
    let now_ms = link.now_ms();
    core.sessions()
        // The hands of a master on shards that do not have its connection.
        .filter(|session| session.client.id > 0 || session.key != MASTER)
        .filter(|session| selection.matches(session, now_ms))
        .map(|session| (session.client.id, describe(session, core, link, monitors)))
        .collect()
}

/// One line of CLIENT LIST. Redis: networking.c catClientInfoString.
pub fn describe(
    session: &Session,
    core: &Core,
    link: &dyn Link,
    monitors: &[SessionKey],
) -> String {
    let client = &session.client;
    let now_ms = link.now_ms();
    let out_bytes = link.pending_bytes(session.key);
    // Who is about to be told of in the log is described as it was.
    let is_told = core.overflown.iter().any(|(key, _)| *key == session.key);
    let closes = session.state == State::Closing && !is_told;
    let multi = session.multi.as_ref();
    let resp = if client.proto == Proto::Resp3 { 3 } else { 2 };
    let mut line = Fields(String::with_capacity(LINE_BYTES));
    line.number("id=", client.id);
    line.name(" addr=");
    session.peer.push_addr(&mut line.0);
    line.name(" laddr=");
    session.peer.push_laddr(&mut line.0);
    line.number(" fd=", session.fd);
    line.text(" name=", &client.name);
    line.number(" age=", (now_ms - session.created_ms).max(0) / 1000);
    line.number(" idle=", (now_ms - session.last_ms).max(0) / 1000);
    line.name(" flags=");
    push_flags(&mut line.0, session, closes, monitors);
    line.number(" db=", client.db);
    line.number(" sub=", client.subscriptions.channels);
    line.number(" psub=", client.subscriptions.patterns);
    line.number(" ssub=", client.subscriptions.shard_channels);
    line.number(" multi=", multi.map_or(-1, |multi| multi.len() as i64));
    line.number(" qbuf=", session.unread_bytes());
    let free_bytes = session.input.capacity() - session.input.len();
    line.number(" qbuf-free=", free_bytes);
    line.number(" argv-mem=", session.parser.pending_bytes());
    let queued_bytes = multi.map_or(0, |multi| multi.memory_bytes());
    line.number(" multi-mem=", queued_bytes);
    line.number(" rbs=", out_bytes);
    line.number(" rbp=", out_bytes);
    line.number(" obl=0 oll=", u8::from(out_bytes > 0));
    line.number(" omem=", out_bytes);
    line.number(" tot-mem=", session.memory_bytes() + out_bytes);
    line.name(" events=r cmd=");
    push_command(&mut line.0, &core.table, session);
    line.text(" user=", user_name(session));
    line.number(" redir=", tracking::redirection(client));
    line.number(" resp=", resp);
    line.text(" lib-name=", &client.lib_name);
    line.text(" lib-ver=", &client.lib_ver);
    line.0
}

/// Room for a line and its end.
const LINE_BYTES: usize = 384;

/// A line under construction. Fields are put together one by one: by one format string a line took
/// twice the time.
struct Fields(String);

impl Fields {
    fn name(&mut self, name: &str) {
        self.0.push_str(name);
    }

    fn number(&mut self, name: &str, number: impl itoa::Integer) {
        self.name(name);
        self.0.push_str(itoa::Buffer::new().format(number));
    }

    fn text(&mut self, name: &str, text: &[u8]) {
        self.name(name);
        self.0.push_str(&String::from_utf8_lossy(text));
    }
}

// Redis: networking.c catClientInfoString, in whose order the letters stand.
fn push_flags(line: &mut String, session: &Session, closes: bool, monitors: &[SessionKey]) {
    let from = line.len();
    let tracking = session.client.tracking.as_ref();
    let is_waiting = matches!(session.state, State::Postponed | State::Blocked);
    let is_unix = matches!(session.peer, crate::session::Peer::Unix(_));
    let known = [
        (session.client.replica, 'S'),
        (monitors.contains(&session.key), 'O'),
        (session.key == MASTER, 'M'),
        (session.client.subscriptions.any(), 'P'),
        (session.multi.is_some(), 'x'),
        (is_waiting, 'b'),
        (tracking.is_some(), 't'),
        (tracking.is_some_and(|its| its.is_broken), 'R'),
        (tracking.is_some_and(|its| its.mode == Mode::Broadcast), 'B'),
        (closes, 'c'),
        (is_unix, 'U'),
        (session.client.no_evict, 'e'),
        (session.client.no_touch, 'T'),
    ];
    line.extend(known.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag));
    if line.len() == from {
        line.push('N');
    }
}

fn user_name(session: &Session) -> &[u8] {
    let user = session.user.as_ref();
    user.map_or(b"(superuser)", |user| &user.name)
}

fn push_command(line: &mut String, table: &Table, session: &Session) {
    let entry = session.last_command.map(|id| table.entry(id));
    if let Some(container) = entry.and_then(|entry| entry.container) {
        line.push_str(container.name);
        line.push('|');
    }
    line.push_str(entry.map_or("NULL", |entry| entry.command.name));
}

/// Tells the log of clients that are closed for their buffers. Redis: networking.c
/// closeClientOnOutputBufferLimitReached, readQueryFromClient.
pub fn log_overflown(core: &mut Core, link: &dyn Link, monitors: &[SessionKey]) {
    const SHOWN_BYTES: usize = 64;
    for &(key, overflow) in &core.overflown {
        let Some(session) = core.session(key) else {
            continue;
        };
        let line = describe(session, core, link, monitors);
        log::warning(&match overflow {
            Overflow::Output => format!(
                "Client {line} scheduled to be closed ASAP for overcoming of output buffer limits."
            ),
            Overflow::Query => {
                let unread = session.unread();
                let mut begin = Vec::new();
                monitor::quote(&unread[..unread.len().min(SHOWN_BYTES)], &mut begin);
                format!(
                    "Closing client that reached max query buffer length: {line} (qbuf initial \
                     bytes: {})",
                    String::from_utf8_lossy(&begin)
                )
            }
        });
    }
    core.overflown.clear();
}

/// Closes this node's clients that match; returns how many.
pub fn kill(core: &mut Core, link: &mut dyn Link, selection: &Selection, me: u64) -> i64 {
    let now_ms = link.now_ms();
    let doomed: Vec<(SessionKey, u64)> = core
        .sessions()
        .filter(|session| session.client.id > 0 || session.key != MASTER)
        .filter(|session| session.state != State::Closing && selection.matches(session, now_ms))
        .map(|session| (session.key, session.client.id))
        .collect();
    for (key, id) in &doomed {
        if *key == MASTER {
            // What has come of its stream is carried out all the same.
            core.master_killed |= *id > 0;
        } else if *id == me {
            // It still gets the reply to this very command.
            if let Some(session) = core.session_mut(*key) {
                session.client.closing = true;
            }
        } else {
            core.abandon(*key, link);
        }
    }
    doomed.len() as i64
}

/// `CLIENT UNBLOCK client-id [TIMEOUT|ERROR]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unblock {
    pub client_id: u64,
    pub with_error: bool,
}

impl Unblock {
    pub fn parse(args: &Args) -> Result<Unblock, CmdError> {
        let with_error = match args.len() {
            3 => false,
            4 if args.is(3, "timeout") => false,
            4 if args.is(3, "error") => true,
            4 => {
                return Err(CmdError::Text(
                    "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR",
                ));
            }
            _ => return Err(CmdError::subcommand(args)),
        };
        // No client has a negative id, but it is not an error to ask for one.
        let client_id = u64::try_from(args.int(2)?).unwrap_or(0);
        Ok(Unblock {
            client_id,
            with_error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::ArgBuf;

    fn args(line: &str) -> ArgBuf {
        line.split(' ').map(str::as_bytes).collect()
    }

    #[test]
    fn kill_filters_parse_as_in_redis() {
        let users = Users::new(&Table::new(&[]).unwrap());
        let kill = |line: &str| Selection::of_kill(&args(line).as_args(), 7, &users);
        assert_eq!(
            kill("CLIENT KILL 1.2.3.4:5").unwrap().addr.unwrap(),
            b"1.2.3.4:5"
        );
        assert_eq!(kill("CLIENT KILL ID 3").unwrap().ids, Some(vec![3]));
        assert_eq!(kill("CLIENT KILL ID 3 ID 5").unwrap().ids, Some(vec![5]));
        assert_eq!(kill("CLIENT KILL ID 3").unwrap().skip, Some(7));
        assert_eq!(kill("CLIENT KILL ID 3 SKIPME no").unwrap().skip, None);
        assert_eq!(
            kill("CLIENT KILL ID 0 SKIPME no").unwrap_err().to_string(),
            "ERR client-id should be greater than 0"
        );
        assert_eq!(kill("CLIENT KILL ID 3 SKIPME maybe"), Err(CmdError::Syntax));
        assert_eq!(
            kill("CLIENT KILL TYPE x SKIPME no")
                .unwrap_err()
                .to_string(),
            "ERR Unknown client type 'x'"
        );
    }
}
