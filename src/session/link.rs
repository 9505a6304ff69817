//! What a core needs of the world around it: sockets and mailboxes below, the server above.

use super::{Core, Refused};
use crate::command::errand::Parcel;
use crate::command::{Entry, Job};
use crate::resp::{Args, CmdError, Output};
use crate::shard::TxId;
use crate::shard::message::{Message, SessionKey};

/// The core's way out. The runtime implements it over its ring, the simulation over queues.
pub trait Link {
    /// Where replies to a session go; they leave at the end of the turn.
    fn out(&mut self, session: SessionKey) -> &mut Output;
    /// Bytes handed over for a session and not sent yet.
    fn pending_bytes(&self, session: SessionKey) -> usize;
    /// Asks for [`Core::drained`] once all of them are sent.
    fn notify_drained(&mut self, session: SessionKey);
    /// Stops and resumes reading from a session's socket.
    fn pause_recv(&mut self, session: SessionKey);
    fn resume_recv(&mut self, session: SessionKey);
    /// Closes at once, discarding what was not sent; or after everything was sent.
    fn close(&mut self, session: SessionKey);
    fn close_after_flush(&mut self, session: SessionKey);
    fn post(&mut self, to: usize, message: Message);
    /// While a session is corked, a few replies wait for those that follow.
    fn cork(&mut self, _session: SessionKey, _corked: bool) {}
    /// What was just written for a session tells of no change: it waits for no disk.
    fn hasten(&mut self, _session: SessionKey) {}
    /// Wall clock of this turn, unix microseconds.
    fn now_us(&self) -> i64;

    /// The core was made to sleep within the turn: the clock is read again.
    fn slept(&mut self) {}

    /// Wall clock of this turn, unix milliseconds.
    fn now_ms(&self) -> i64 {
        self.now_us().div_euclid(1000)
    }
}

/// How a job went.
#[derive(Debug)]
pub enum Performed {
    /// The reply is written.
    Done,
    Failed(CmdError),
    /// The reply comes later through [`Core::answer`]; the session waits.
    Later,
}

/// What only the server as a whole can do, asked by a session of this core.
pub trait Host {
    /// Performs a job for a session.
    fn perform(
        &mut self,
        core: &mut Core,
        link: &mut dyn Link,
        session: SessionKey,
        job: Job,
        args: &Args,
        out: &mut Output,
    ) -> Performed;

    /// Whether commands must pass [`Host::admit`] first: something beyond authentication is on
    /// (a pause, monitors, rename tables, loading).
    fn is_watching(&self) -> bool {
        false
    }

    /// Sees every command before it runs, while [`Host::is_watching`].
    fn admit(
        &mut self,
        _core: &mut Core,
        _link: &mut dyn Link,
        _session: SessionKey,
        _entry: &crate::command::Entry,
        _args: &Args,
    ) -> Admission {
        Admission::Run
    }

    /// Why a command that a script asks for may not run, while [`Host::is_watching`]. What a script has
    /// begun no pause holds back.
    fn refuses(&mut self, _session: SessionKey, _entry: &Entry) -> Option<CmdError> {
        None
    }

    /// Whether clients are refused as data is being loaded.
    fn is_loading(&self) -> bool {
        false
    }

    /// Whether data is being loaded beside that from which they are served.
    fn is_loading_beside(&self) -> bool {
        false
    }

    /// A replica asked for something that has a reply, and is about to be disconnected.
    fn replica_asked(
        &mut self,
        _core: &Core,
        _link: &dyn Link,
        _session: SessionKey,
        _entry: &Entry,
    ) {
    }

    /// Why a session may write nothing now.
    fn refuses_writes(&self, _session: SessionKey) -> Option<CmdError> {
        None
    }

    /// Why a session may not even read now.
    fn refuses_reads(&self, _session: SessionKey) -> Option<CmdError> {
        None
    }

    /// A command is about to run, or to wait; called while [`Host::is_watching`]. Commands of a
    /// transaction are seen when it is carried out.
    fn show(
        &mut self,
        _core: &mut Core,
        _link: &mut dyn Link,
        _session: SessionKey,
        _entry: &crate::command::Entry,
        _args: &Args,
    ) {
    }

    /// A script is about to run; or, with the database that it uses, a command that it asks for.
    fn show_script(
        &mut self,
        _core: &mut Core,
        _link: &mut dyn Link,
        _session: SessionKey,
        _args: &Args,
        _inner_db: Option<u32>,
    ) {
    }

    /// Memory is short, and this shard has no key to evict: asks the others to. The session waits until
    /// [`Core::resume`] if this returns true.
    fn want_room(&mut self, _session: SessionKey) -> bool {
        false
    }

    /// A session that keeps copies has had its reply, if there was one: it is told now which of its
    /// copies are stale.
    fn tell_own(&mut self, _core: &mut Core, _link: &mut dyn Link, _session: SessionKey) {}

    /// A script has something for the server's log, at one of Redis' levels: 0, debug, to 3, warning.
    fn log(&mut self, _level: u8, _text: &[u8]) {}

    /// A client has emptied every database, and is about to be told. Whether it is told later, through
    /// [`Core::answer`]: when that is on the disk, or could not be written.
    fn emptied(&mut self, _core: &Core, _session: SessionKey) -> bool {
        false
    }

    /// Sends keys to another server, while they are held; [`Core::returned`] follows with what became
    /// of them.
    fn errand(&mut self, core: &mut Core, link: &mut dyn Link, work: TxId, parcel: Parcel);

    /// Somebody tried what its user may not do, or gave a wrong password.
    fn refused(
        &mut self,
        _core: &mut Core,
        _link: &mut dyn Link,
        _session: SessionKey,
        _refused: &Refused,
    ) {
    }

    /// A client spoke HTTP to this port. The session is about to be closed.
    fn attacked(&mut self, _core: &mut Core, _session: SessionKey) {}

    /// A command of this core's session took `spent_ns`; called when that exceeds the core's
    /// `slow_ns`.
    fn slow(
        &mut self,
        _core: &mut Core,
        _link: &mut dyn Link,
        _session: SessionKey,
        _args: &Args,
        _spent_ns: u64,
    ) {
    }

    /// The same of a command that a script asked for.
    fn slow_in_script(
        &mut self,
        _core: &mut Core,
        _link: &mut dyn Link,
        _args: &Args,
        _spent_ns: u64,
    ) {
    }
}

/// What [`Host::admit`] decides.
#[derive(Debug)]
pub enum Admission {
    Run,
    Refuse(CmdError),
    /// The session waits with this command until [`Core::resume`] (CLIENT PAUSE).
    Postpone,
}
