//! The connection to a master, up to where its stream begins.

use super::handshake::{Card, Handshake, Next, Verdict};
use super::transfer::{self, Transfer};
use super::{Call, Following, Origin, Phase};
use crate::runtime::resolve::Lookup;
use crate::runtime::{ConnId, ConnInfo, Dial};
use crate::server::host::ServerHost;
use crate::server::log;
use crate::session::Link;
use crate::shard::message::SessionKey;

/// How long to wait before another try. Redis: replicationCron runs once a second.
const RETRY_MS: i64 = 1_000;
/// How often to look whether a name is known.
const LOOK_MS: i64 = 10;
/// How long what clients have under way may keep this server from calling its master, or from its end.
pub const SETTLE_MS: i64 = 5_000;
/// A longer line is none of a master's.
const LINE_MAX_BYTES: usize = 1024;

impl Following {
    /// When to look at the link, unix milliseconds.
    pub fn due_ms(&self) -> Option<i64> {
        let silent_ms = self.heard_ms.saturating_add(self.timeout_ms);
        let silence_ms = silent_ms.saturating_add(1);
        match &self.phase {
            Phase::Idle => self.failover.as_ref().and_then(|it| it.deadline_ms()),
            Phase::Promoting { .. } => None,
            Phase::Settling(settling) => Some(settling.asked_ms.saturating_add(SETTLE_MS)),
            Phase::Waiting { until_ms } => Some(*until_ms),
            Phase::Resolving { looked_ms, .. } => Some(looked_ms.saturating_add(LOOK_MS)),
            Phase::Dialing | Phase::Greeting(_) => Some(silence_ms),
            Phase::Receiving(_) => Some(silence_ms),
            Phase::Preparing(_) | Phase::Loading(_) => Some(self.acked_ms + RETRY_MS),
            Phase::Online => Some(silence_ms.min(self.acked_ms + RETRY_MS)),
        }
    }

    /// Forgets the connection; it is to be closed.
    pub(super) fn part(&mut self) -> Option<SessionKey> {
        self.line.clear();
        self.paused = false;
        self.conn.take()
    }
}

impl ServerHost {
    fn master_name(&self) -> String {
        let master = self.following.master.as_ref();
        master.map_or_else(String::new, |it| format!("{}:{}", it.host, it.port))
    }

    /// Begins to connect.
    pub(super) fn call_master(&mut self) {
        let Some(master) = self.following.master.clone() else {
            return;
        };
        log::notice("MASTER <-> REPLICA sync started");
        self.following.heard_ms = self.now_ms;
        let lookup = Lookup::begin(&master.host, master.port);
        let looked_ms = self.now_ms;
        self.following.phase = Phase::Resolving { lookup, looked_ms };
        self.look_up();
    }

    /// Tries again after a failure: at once, or in a while.
    pub(super) fn call_again(&mut self, at_once: bool) {
        let until_ms = self.now_ms + if at_once { 0 } else { RETRY_MS };
        self.following.phase = Phase::Waiting { until_ms };
    }

    /// Dials as soon as the master's address is known.
    fn look_up(&mut self) {
        let Phase::Resolving { lookup, looked_ms } = &mut self.following.phase else {
            return;
        };
        *looked_ms = self.now_ms;
        match lookup.poll() {
            None if self.now_ms - self.following.heard_ms > self.following.timeout_ms => {
                log::warning("Timeout connecting to the MASTER...");
                self.call_again(false);
            }
            None => {}
            Some(Err(error)) => {
                log::warning(&format!("Unable to connect to MASTER: {error}"));
                self.call_again(false);
            }
            Some(Ok(to)) => {
                self.following.dialed += 1;
                self.following.calls.push(Call::Dial(Dial {
                    tag: self.following.dialed,
                    to,
                    from: self.config.text("bind-source-addr").parse().ok(),
                    no_delay: true,
                }));
                self.following.phase = Phase::Dialing;
            }
        }
    }

    /// The connection is there, or is not.
    pub fn dialed(
        &mut self,
        link: &mut dyn Link,
        tag: u64,
        result: std::io::Result<(ConnId, ConnInfo)>,
    ) {
        let is_wanted = matches!(self.following.phase, Phase::Dialing);
        let is_wanted = is_wanted && tag == self.following.dialed;
        match result {
            Ok((conn, _)) if !is_wanted => link.close(conn.pack()),
            Err(_) if !is_wanted => {}
            Err(error) => {
                log::warning(&format!("Error condition on socket for SYNC: {error}"));
                self.call_again(false);
            }
            Ok((conn, info)) => {
                log::notice("Non blocking connect for SYNC fired the event.");
                self.following.conn = Some(conn.pack());
                self.following.about = Some(info);
                self.following.heard_ms = self.now_ms;
                let (handshake, said) = Handshake::begin(self.card());
                self.following.phase = Phase::Greeting(Box::new(handshake));
                self.say_to_master(link, &said);
            }
        }
    }

    /// What this server says of itself.
    fn card(&self) -> Card {
        let config = &self.config;
        let announced = config.int("replica-announce-port");
        let port = match announced {
            0 => config.int("port"),
            port => port,
        };
        let past = self.following.can_continue.then(|| {
            let offset = self.replicas.offset();
            (self.identity.replid(), offset + 1)
        });
        Card {
            user: config.raw("masteruser").into_owned(),
            password: config.raw("masterauth").into_owned(),
            port,
            ip: config.text("replica-announce-ip").to_owned(),
            past,
            takes_over: self.following.failover.is_some(),
        }
    }

    pub(super) fn say_to_master(&self, link: &mut dyn Link, bytes: &[u8]) {
        if let Some(conn) = self.following.conn {
            link.out(conn).bytes.extend_from_slice(bytes);
        }
    }

    /// The master sent something.
    pub fn heard_master(&mut self, link: &mut dyn Link, mut bytes: &[u8]) {
        self.following.heard_ms = self.now_ms;
        self.following.read_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            match &mut self.following.phase {
                Phase::Greeting(_) => match self.take_line(bytes) {
                    Some((used, line)) => {
                        bytes = &bytes[used..];
                        self.master_said(link, &line);
                    }
                    None => return self.check_line(link),
                },
                Phase::Receiving(_) => return self.heard_snapshot(link, bytes),
                Phase::Preparing(transfer) if transfer.is_direct() => {
                    return self.heard_snapshot(link, bytes);
                }
                Phase::Preparing(transfer) => {
                    transfer.rest.extend_from_slice(bytes);
                    return;
                }
                Phase::Loading(origin) if origin.direct.is_some() => {
                    return self.heard_snapshot(link, bytes);
                }
                _ => return self.following.input.extend_from_slice(bytes),
            }
        }
    }

    /// More of a snapshot has come.
    fn heard_snapshot(&mut self, link: &mut dyn Link, bytes: &[u8]) {
        let transfer = match &mut self.following.phase {
            Phase::Receiving(transfer) | Phase::Preparing(transfer) => transfer,
            Phase::Loading(Origin {
                direct: Some(transfer),
                ..
            }) => transfer,
            _ => return,
        };
        let mut wishes = Vec::new();
        let is_one = transfer.receive(bytes, &mut wishes);
        transfer.end(&mut wishes);
        let (id, is_behind) = (transfer.id, transfer.is_behind());
        self.write_transfer(id, wishes);
        if !is_one {
            return self.give_up_snapshot(link, false);
        }
        self.prepare_direct();
        self.feed_direct();
        if is_behind || self.persistence.is_fed() {
            self.pause_master(link);
        }
    }

    fn take_line(&mut self, bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
        let line = &mut self.following.line;
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
            line.extend_from_slice(bytes);
            return None;
        };
        line.extend_from_slice(&bytes[..end]);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Some((end + 1, std::mem::take(line)))
    }

    fn check_line(&mut self, link: &mut dyn Link) {
        if self.following.line.len() > LINE_MAX_BYTES {
            log::warning("Master did not respond to command during SYNC handshake");
            self.drop_master(link);
            self.call_again(false);
        }
    }

    fn master_said(&mut self, link: &mut dyn Link, line: &[u8]) {
        let Phase::Greeting(handshake) = &mut self.following.phase else {
            return;
        };
        match handshake.line(line) {
            Next::Wait => {}
            Next::Say(bytes) => self.say_to_master(link, &bytes),
            Next::Fail => {
                self.drop_master(link);
                self.call_again(false);
            }
            Next::Done(Verdict::Old | Verdict::Later, _) if self.following.failover.is_some() => {
                self.abort_failover("Failover target rejected psync request");
            }
            Next::Done(Verdict::Later, _) => {
                self.drop_master(link);
                self.call_again(false);
            }
            Next::Done(Verdict::Continue(id), _) => self.go_on_with_master(id),
            Next::Done(Verdict::Full(origin), bytes) => self.receive_snapshot(link, origin, &bytes),
            Next::Done(Verdict::Old, bytes) => self.receive_snapshot(link, None, &bytes),
        }
    }

    fn receive_snapshot(&mut self, link: &mut dyn Link, origin: transfer::Origin, bytes: &[u8]) {
        self.end_failover();
        self.say_to_master(link, bytes);
        self.following.next_transfer += 1;
        let id = self.following.next_transfer;
        if self.loads_directly() {
            self.following.acked_ms = self.now_ms;
            let transfer = Box::new(Transfer::begin_direct(origin, id));
            self.following.phase = Phase::Receiving(transfer);
            return;
        }
        match Transfer::begin(origin, id, self.now_ms) {
            Ok(transfer) => {
                self.following.acked_ms = self.now_ms;
                self.following.phase = Phase::Receiving(Box::new(transfer));
            }
            Err(error) => {
                log::warning(&format!(
                    "Opening the temp file needed for MASTER <-> REPLICA synchronization: {error}"
                ));
                self.drop_master(link);
                self.call_again(false);
            }
        }
    }

    pub(super) fn pause_master(&mut self, link: &mut dyn Link) {
        if let Some(conn) = self.following.conn.filter(|_| !self.following.paused) {
            self.following.paused = true;
            link.pause_recv(conn);
        }
    }

    pub(super) fn resume_master(&mut self, link: &mut dyn Link) {
        if let Some(conn) = self.following.conn.filter(|_| self.following.paused) {
            self.following.paused = false;
            link.resume_recv(conn);
        }
    }

    /// The rest of a snapshot does not come. What is loaded of it already fails, and then the master is
    /// called again.
    fn give_up_snapshot(&mut self, link: &mut dyn Link, at_once: bool) {
        let is_loading = self.following.is_incoming();
        self.drop_master(link);
        if !is_loading {
            self.call_again(at_once);
        }
    }

    /// Ends the connection, or the attempt to make one, and forgets what came of it. What follows is
    /// the caller's.
    pub(super) fn drop_master(&mut self, link: &mut dyn Link) {
        if matches!(self.following.phase, Phase::Dialing) {
            let tag = self.following.dialed;
            self.following.calls.push(Call::HangUp(tag));
        }
        if let Some(conn) = self.following.part() {
            link.close(conn);
        }
        self.following.forget_stream();
        let until_ms = self.now_ms;
        let phase = std::mem::replace(&mut self.following.phase, Phase::Waiting { until_ms });
        match phase {
            Phase::Receiving(transfer) | Phase::Preparing(transfer) => transfer.discard(),
            // What is complete is loaded to its end all the same.
            Phase::Loading(mut origin) => {
                if origin.direct.take().is_some() {
                    self.persistence.end_feed();
                }
                self.following.phase = Phase::Loading(origin);
            }
            _ => {}
        }
    }

    /// The connection to the master has ended.
    pub fn master_gone(&mut self, link: &mut dyn Link) {
        let name = self.master_name();
        match self.following.phase {
            Phase::Online => self.lose_master(link),
            Phase::Receiving(_) => {
                log::warning("I/O error trying to sync with MASTER: connection lost");
                self.drop_master(link);
                log::notice(&format!("Reconnecting to MASTER {name} after failure"));
                self.call_again(true);
            }
            _ if self.following.is_receiving() => {
                log::warning("I/O error trying to sync with MASTER: connection lost");
                self.give_up_snapshot(link, false);
            }
            // What is complete is loaded; that the connection is gone shows afterwards.
            Phase::Preparing(_) | Phase::Loading(_) => drop(self.following.part()),
            _ => {
                log::warning("Failed to read response from the server: connection lost");
                self.drop_master(link);
                self.call_again(false);
            }
        }
    }

    /// A link that was up is down: what has come of the stream can be gone on with.
    pub(super) fn lose_master(&mut self, link: &mut dyn Link) {
        log::warning("Connection with master lost.");
        if self.following.can_continue {
            log::notice("Caching the disconnected master state.");
        }
        self.drop_master(link);
        self.link_changed(false);
        log::notice(&format!("Reconnecting to MASTER {}", self.master_name()));
        self.call_again(true);
    }

    /// Looks at the clock.
    pub(super) fn time_link(&mut self, link: &mut dyn Link) {
        let now_ms = self.now_ms;
        let is_silent = now_ms - self.following.heard_ms > self.following.timeout_ms;
        match &self.following.phase {
            Phase::Waiting { .. } if self.part.is_any_loading() => {}
            Phase::Waiting { until_ms } if *until_ms <= now_ms => {
                log::notice(&format!("Connecting to MASTER {}", self.master_name()));
                self.call_master();
            }
            Phase::Resolving { .. } => self.look_up(),
            Phase::Dialing | Phase::Greeting(_) if is_silent => {
                log::warning("Timeout connecting to the MASTER...");
                self.drop_master(link);
                self.call_again(false);
            }
            _ if self.following.is_receiving() && is_silent => {
                log::warning(
                    "Timeout receiving bulk data from MASTER... If the problem persists try to set \
                     the 'repl-timeout' parameter in redis.conf to a larger value.",
                );
                self.give_up_snapshot(link, true);
            }
            Phase::Online if is_silent => {
                log::warning("MASTER timeout: no data nor PING received...");
                self.lose_master(link);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::replicas::{Applicant, Place};

    #[test]
    fn a_name_is_looked_at_now_and_then() {
        let mut following = Following::new(1);
        let lookup = Lookup::begin("::1", 7);
        following.phase = Phase::Resolving {
            lookup,
            looked_ms: 5_000,
        };
        assert_eq!(following.due_ms(), Some(5_000 + LOOK_MS));
    }

    #[test]
    fn who_is_gone_does_not_ask_any_more() {
        let applicant = |session| Applicant {
            place: Place { node: 1, session },
            ip: "::1".to_owned(),
            greeting: Default::default(),
            psync: None,
            takes_over: true,
        };
        let mut following = Following::new(1);
        following.applicants.extend([applicant(3), applicant(4)]);
        following.forget_applicant(Place {
            node: 1,
            session: 3,
        });
        let left = following.applicants.iter().map(|it| it.place.session);
        assert_eq!(left.collect::<Vec<_>>(), [4]);
    }
}
