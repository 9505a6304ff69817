//! What a client says before it is a replica, and while it is: REPLCONF, SYNC, PSYNC.

use super::{Message, Place};
use crate::command::{Entry, flags};
use crate::resp::{Args, CmdError, Output, Writer, split_quoted};
use crate::server::ask::Requester;
use crate::server::host::ServerHost;
use crate::server::jobs::done;
use crate::server::{clients, log};
use crate::session::{Core, Link, Performed};
use crate::shard::message::SessionKey;

/// What `rdb-filter-only` leaves of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Nothing,
    Functions,
}

/// What REPLCONF told of one.
#[derive(Clone, Debug, Default)]
pub struct Greeting {
    pub port: i64,
    pub ip: Option<String>,
    pub psync2: bool,
    pub eof: bool,
    pub rdb_only: bool,
    /// The snapshot is to hold nothing, or nothing but the libraries of functions.
    pub filter: Option<Filter>,
}

/// One that wants to be a replica.
#[derive(Clone, Debug)]
pub struct Applicant {
    pub place: Place,
    /// Where it comes from, without the port of the connection.
    pub ip: String,
    pub greeting: Greeting,
    /// The history and the offset that it asks to go on with; `None` for SYNC.
    pub psync: Option<(Vec<u8>, i64)>,
    /// It is this server's master, and steps down.
    pub takes_over: bool,
}

impl Applicant {
    /// Redis: replication.c replicationGetSlaveName.
    pub fn name(&self) -> String {
        let ip = self.greeting.ip.as_ref().unwrap_or(&self.ip);
        match self.greeting.port {
            0 => format!("{ip}:<unknown-replica-port>"),
            port => format!("{ip}:{port}"),
        }
    }
}

/// Longest address. Redis: server.h NET_HOST_STR_LEN.
const ADDRESS_MAX_BYTES: usize = 256;

impl Greeting {
    /// Notes one pair of REPLCONF.
    fn note(&mut self, args: &Args, at: usize) -> Result<(), CmdError> {
        let value = args.get(at + 1);
        let text = || String::from_utf8_lossy(value).into_owned();
        if args.is(at, "listening-port") {
            self.port = args.int(at + 1)?;
        } else if args.is(at, "ip-address") {
            if value.len() >= ADDRESS_MAX_BYTES {
                return Err(CmdError::owned(format!(
                    "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
                    value.len()
                )));
            }
            self.ip = Some(text());
        } else if args.is(at, "capa") {
            self.psync2 |= args.is(at + 1, "psync2");
            self.eof |= args.is(at + 1, "eof");
        } else if args.is(at, "rdb-only") {
            self.rdb_only = match args.int(at + 1)? {
                n @ 0..=1 => n == 1,
                _ => {
                    return Err(CmdError::Text(
                        "ERR value is out of range, must be between 0 and 1",
                    ));
                }
            };
        } else if args.is(at, "rdb-filter-only") {
            self.filter = Some(Filter::Nothing);
            let Some(words) = split_quoted(value) else {
                return Err(CmdError::Text("ERR Missing rdb-filter-only values"));
            };
            for word in words {
                if !word.eq_ignore_ascii_case(b"functions") {
                    return Err(CmdError::quoting(&[
                        b"ERR Unsupported rdb-filter-only option: ",
                        &word,
                    ]));
                }
                self.filter = Some(Filter::Functions);
            }
        } else {
            return Err(CmdError::quoting(&[
                b"ERR Unrecognized REPLCONF option: ",
                args.get(at),
            ]));
        }
        Ok(())
    }
}

impl ServerHost {
    /// REPLCONF.
    pub(in crate::server) fn replconf(
        &mut self,
        requester: Requester,
        args: &Args,
        out: &mut Output,
    ) -> Performed {
        if args.len().is_multiple_of(2) {
            return Performed::Failed(CmdError::Syntax);
        }
        for at in (1..args.len()).step_by(2) {
            if args.is(at, "ack") {
                // Nobody is answered who tells this.
                if let Ok(offset) = args.int(at + 1)
                    && self.outlets.has(requester.session)
                {
                    let session = requester.session;
                    // Redis 7.2: REPLCONF ACK offset FACK offset.
                    let follows = args.len() > at + 3 && args.is(at + 2, "fack");
                    let synced = follows.then(|| args.int(at + 3).ok()).flatten();
                    let ack = Message::Ack {
                        session,
                        offset,
                        synced,
                    };
                    self.inform(0, ack);
                    if self.outlets.awaits_ack(session) {
                        self.inform(self.shard, Message::Has { session });
                    }
                }
                return Performed::Done;
            }
            if args.is(at, "getack") {
                return Performed::Done;
            }
            let greeting = self.outlets.greeting(requester.session);
            if let Err(error) = greeting.note(args, at) {
                return Performed::Failed(error);
            }
        }
        done(Writer::new(out, requester.proto).ok())
    }

    /// Whether the master of this server may step down for it.
    fn may_take_over(&self, args: &Args) -> Result<(), CmdError> {
        let replid = String::from_utf8_lossy(args.get(1));
        log::warning(&format!("Failover request received for replid {replid}."));
        if !self.identity.role.is_replica() {
            return Err(CmdError::Text(
                "ERR PSYNC FAILOVER can't be sent to a master.",
            ));
        }
        if !replid.eq_ignore_ascii_case(&self.identity.replid()) {
            return Err(CmdError::Text(
                "ERR PSYNC FAILOVER replid must match my replid.",
            ));
        }
        Ok(())
    }

    /// A replica asked for something that has a reply. Redis: networking.c
    /// logInvalidUseAndFreeClientAsync.
    pub(in crate::server) fn tell_of_invalid_use(
        &self,
        core: &Core,
        link: &dyn Link,
        session: SessionKey,
        entry: &Entry,
    ) {
        const KEYSPACE: flags::Flags = flags::WRITE | flags::READONLY | flags::MAY_REPLICATE;
        let Some(client) = core.session(session) else {
            return;
        };
        let name = entry.full_name();
        if entry.command.flags & KEYSPACE != 0 {
            log::warning(&format!(
                "== CRITICAL == This master is sending an error to its replica: 'ERR Replica can't \
                 interact with the keyspace' after processing the command '{name}'"
            ));
        }
        let about = clients::describe(client, core, link, &[]);
        log::warning(&format!(
            "Replica generated a reply to command '{name}', disconnecting it: {about}"
        ));
    }

    pub(in crate::server) fn synchronize(
        &mut self,
        core: &mut Core,
        requester: Requester,
        args: &Args,
    ) -> Performed {
        let session = requester.session;
        if self.outlets.has(session) {
            return Performed::Done;
        }
        let takes_over = args.len() > 3 && args.is(3, "failover");
        if takes_over && let Err(error) = self.may_take_over(args) {
            return Performed::Failed(error);
        }
        if self.lacks_link() && !takes_over {
            return Performed::Failed(CmdError::Text(
                "NOMASTERLINK Can't SYNC while not connected with my master",
            ));
        }
        let greeting = self.outlets.greeting(session).clone();
        if greeting.filter.is_some() && !greeting.eof {
            return Performed::Failed(CmdError::Text(
                "ERR Filtered replica requires EOF capability",
            ));
        }
        let Some(client) = core.session_mut(session) else {
            return Performed::Done;
        };
        let addr = client.peer.addr();
        let ip = addr.rsplit_once(':').map_or(addr.as_str(), |(ip, _)| ip);
        let ip = ip.trim_start_matches('[').trim_end_matches(']').to_owned();
        let mut applicant = Applicant {
            place: Place {
                node: self.shard,
                session,
            },
            ip,
            greeting,
            psync: None,
            takes_over,
        };
        if args.is(0, "psync") {
            match args.int(2) {
                Ok(offset) => applicant.psync = Some((args.get(1).to_vec(), offset)),
                Err(error) => {
                    let name = applicant.name();
                    log::warning(&format!(
                        "Replica {name} asks for synchronization but with a wrong offset"
                    ));
                    return Performed::Failed(error);
                }
            }
        }
        client.client.replica = true;
        self.outlets.open(session, applicant.greeting.rdb_only);
        self.inform(0, Message::Wants(Box::new(applicant)));
        Performed::Later
    }
}
