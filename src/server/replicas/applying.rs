//! A replica asks: it goes on where it was, waits for a snapshot, or gets one without keys at once.

use super::greeting::{Applicant, Filter};
use super::master::{Replica, State, TICK_MS};
use super::{Message, Place};
use crate::server::host::ServerHost;
use crate::server::log;

impl ServerHost {
    /// SYNC or PSYNC.
    pub(in crate::server) fn replica_wants(&mut self, applicant: Applicant) {
        let Some(applicant) = self.may_apply_as_replica(applicant) else {
            return;
        };
        let name = applicant.name();
        log::notice(&format!("Replica {name} asks for synchronization"));
        let now_ms = self.now_ms;
        let continued = self.try_partial(&applicant);
        let state = match continued {
            true => State::Online,
            false => State::WaitsToSave,
        };
        let replicas = &mut self.replicas;
        if !replicas.has_any() {
            replicas.tick_ms = now_ms + TICK_MS;
        }
        if continued {
            replicas.partial += 1;
        } else {
            let is_refused =
                |(id, _): &(Vec<u8>, i64)| id.first().is_some_and(|first| *first != b'?');
            replicas.refused += u64::from(applicant.psync.as_ref().is_some_and(is_refused));
            replicas.full += 1;
        }
        replicas.list.push(Replica::new(applicant, state, now_ms));
        self.count_good();
        if !continued {
            self.send_filtered();
        }
    }

    /// The last replica gets its snapshot at once if no key is to be in it.
    fn send_filtered(&mut self) {
        let Some(replica) = self.replicas.list.last_mut() else {
            return;
        };
        let greeting = &replica.applicant.greeting;
        let Some(filter) = greeting.filter.filter(|_| greeting.rdb_only) else {
            return;
        };
        let has_functions = filter == Filter::Functions;
        let persistence = &self.persistence;
        let written = persistence.write_libraries(&self.config, has_functions, self.now_ms);
        let reply = match replica.is_mute() {
            true => String::new(),
            false => {
                let (replid, offset) = (self.identity.replid(), self.replicas.backlog.end());
                format!("+FULLRESYNC {replid} {offset}\r\n")
            }
        };
        let Place { node, session } = replica.applicant.place;
        let follows = false;
        let begin = Message::Begin {
            session,
            reply,
            follows,
        };
        let (state, then) = match written {
            Ok((file, len)) => (State::Sending, Message::File { session, file, len }),
            Err(error) => {
                log::warning(&format!("SYNC failed: {error}"));
                (State::Leaving, Message::Drop { session })
            }
        };
        replica.state = state;
        self.inform(node, begin);
        self.inform(node, then);
    }

    /// Goes on with a replica where it was, if the backlog reaches back so far.
    fn try_partial(&mut self, applicant: &Applicant) -> bool {
        let Some((id, offset)) = &applicant.psync else {
            return false;
        };
        let name = applicant.name();
        let replid = self.identity.replid();
        if id.as_slice() == b"?" {
            log::notice(&format!("Full resync requested by replica {name}"));
            return false;
        }
        let (second, second_end) = self.identity.second();
        let is_second = id.eq_ignore_ascii_case(second.as_bytes());
        if !id.eq_ignore_ascii_case(replid.as_bytes()) && (!is_second || *offset > second_end) {
            let asked = String::from_utf8_lossy(id);
            log::notice(&match is_second {
                false => format!(
                    "Partial resynchronization not accepted: Replication ID mismatch (Replica asked \
                     for '{asked}', my replication IDs are '{replid}' and '{second}')"
                ),
                true => format!(
                    "Partial resynchronization not accepted: Requested offset for second ID was \
                     {offset}, but I can reply up to {second_end}"
                ),
            });
            return false;
        }
        self.pump();
        let rest = match self.replicas.is_streaming() {
            true => self.replicas.backlog.from(*offset),
            false => None,
        };
        let Some(rest) = rest else {
            log::notice(&format!(
                "Unable to partial resync with replica {name} for lack of backlog (Replica request \
                 was: {offset})."
            ));
            if *offset > self.replicas.offset() {
                log::warning(&format!(
                    "Warning: replica {name} tried to PSYNC with an offset that is greater than the \
                     master replication offset."
                ));
            }
            return false;
        };
        log::notice(&format!(
            "Partial resynchronization request from {name} accepted. Sending {} bytes of backlog \
             starting from offset {offset}.",
            self.replicas.offset() + 1 - offset
        ));
        let reply = match applicant.greeting.psync2 {
            true => format!("+CONTINUE {replid}\r\n"),
            false => "+CONTINUE\r\n".to_owned(),
        };
        let Place { node, session } = applicant.place;
        let go_on = Message::Continue {
            session,
            reply,
            rest,
        };
        self.inform(node, go_on);
        true
    }
}
