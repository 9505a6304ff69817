//! MIGRATE's way to other servers: each parcel is brought by a thread of its own, which may block;
//! the shard looks once a millisecond whether it is back. Connections are kept for the next parcel.
//!
//! Texts and order of errors are those of Redis' cluster.c, migrateCommand.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use super::host::ServerHost;
use crate::command::errand::{Item, Parcel, Receipt};
use crate::resp::CmdError;
use crate::session::{Core, Link};
use crate::shard::TxId;

/// Parcels of one shard that are on their way at the same time; others wait for them.
const UNDER_WAY_MAX: usize = 32;
/// Connections that are kept, and for how long. Redis: cluster.c MIGRATE_SOCKET_CACHE_*.
const KEPT_MAX: usize = 64;
const KEPT_MS: i64 = 10_000;
/// Of a reply, as much as an error quotes. Redis: its buffers for replies.
const LINE_MAX_BYTES: u64 = 1023;

/// A connection to a server that took parcels.
#[derive(Debug)]
struct Line {
    /// Of the server: host and port.
    name: (String, String),
    stream: BufReader<TcpStream>,
    /// The database that was selected, if that is known.
    db: Option<i64>,
    used_ms: i64,
}

#[derive(Debug)]
struct Returned {
    work: TxId,
    receipt: Receipt,
    line: Option<Line>,
}

/// Parcels of one shard.
#[derive(Debug)]
pub struct Migrations {
    under_way: usize,
    waiting: VecDeque<(u64, Parcel)>,
    kept: Vec<Line>,
    back: (Sender<Returned>, Receiver<Returned>),
}

impl Default for Migrations {
    fn default() -> Migrations {
        Migrations {
            under_way: 0,
            waiting: VecDeque::new(),
            kept: Vec::new(),
            back: mpsc::channel(),
        }
    }
}

impl Migrations {
    /// Number of connections that wait for parcels.
    pub fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Closes those that have waited for long.
    fn close_idle(&mut self, now_ms: i64) {
        self.kept.retain(|line| now_ms - line.used_ms < KEPT_MS);
    }

    /// When to look whether something is back, or may be closed.
    pub fn due_ms(&self, now_ms: i64) -> Option<i64> {
        match self.under_way {
            0 => self.kept.iter().map(|line| line.used_ms + KEPT_MS).min(),
            _ => Some(now_ms + 1),
        }
    }

    fn send(&mut self, work: TxId, parcel: Parcel, now_ms: i64) {
        if self.under_way == UNDER_WAY_MAX {
            return self.waiting.push_back((work, parcel));
        }
        self.under_way += 1;
        let name = (&*parcel.host, &*parcel.port);
        let known = |line: &Line| (&*line.name.0, &*line.name.1) == name;
        self.close_idle(now_ms);
        let line = self.kept.iter().position(known);
        let line = line.map(|at| self.kept.swap_remove(at));
        let back = self.back.0.clone();
        let bring = move || {
            let (receipt, line) = bring(&parcel, line);
            let returned = Returned {
                work,
                receipt,
                line,
            };
            // The server may be gone by now.
            back.send(returned).ok();
        };
        let carrier = std::thread::Builder::new().name("pinion-migrate".into());
        if carrier.spawn(bring).is_err() {
            let receipt = Receipt {
                arrived: Vec::new(),
                error: Some(CONNECTING),
            };
            let line = None;
            let returned = Returned {
                work,
                receipt,
                line,
            };
            self.back.0.send(returned).ok();
        }
    }

    fn take_back(&mut self, now_ms: i64) -> Option<Returned> {
        let mut returned = self.back.1.try_recv().ok()?;
        self.under_way -= 1;
        if let Some(line) = returned.line.take() {
            if self.kept.len() == KEPT_MAX {
                self.kept.swap_remove(fastrand::usize(..KEPT_MAX));
            }
            let used_ms = now_ms;
            self.kept.push(Line { used_ms, ..line });
        }
        Some(returned)
    }
}

impl ServerHost {
    pub(super) fn migrate(&mut self, work: TxId, parcel: Parcel) {
        self.migrations.send(work, parcel, self.now_ms);
    }

    /// Answers for parcels that are back.
    pub(super) fn migrated(&mut self, core: &mut Core, link: &mut dyn Link) {
        if self.migrations.under_way == 0 {
            return self.migrations.close_idle(self.now_ms);
        }
        while let Some(returned) = self.migrations.take_back(self.now_ms) {
            core.returned(returned.work, &returned.receipt, link, self);
            if let Some((work, parcel)) = self.migrations.waiting.pop_front() {
                self.migrations.send(work, parcel, self.now_ms);
            }
        }
    }
}

const CONNECTING: CmdError = CmdError::Text("IOERR error or timeout connecting to the client");
const WRITING: CmdError = CmdError::Text("IOERR error or timeout writing to target instance");
const READING: CmdError = CmdError::Text("IOERR error or timeout reading to target instance");

/// Why a parcel did not get through.
struct Lost {
    error: CmdError,
    /// Not worth another attempt: time is up, or part of it was answered.
    is_final: bool,
    arrived: Vec<usize>,
}

impl Lost {
    fn new(error: CmdError, why: &io::Error) -> Lost {
        let kinds = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
        Lost {
            error,
            is_final: kinds.contains(&why.kind()),
            arrived: Vec::new(),
        }
    }
}

/// Brings a parcel, if need be twice: a connection that was kept is often closed at its other end.
fn bring(parcel: &Parcel, kept: Option<Line>) -> (Receipt, Option<Line>) {
    let mut line = kept;
    let mut retries = 1;
    loop {
        let ready = line.take().map_or_else(|| connect(parcel), Ok);
        let mut open = match ready {
            Ok(open) => open,
            Err(why) => {
                let receipt = Receipt {
                    arrived: Vec::new(),
                    error: Some(unconnected(&why)),
                };
                return (receipt, None);
            }
        };
        match exchange(parcel, &mut open) {
            Ok(receipt) => return (receipt, Some(open)),
            Err(lost) if retries == 0 || lost.is_final => {
                let receipt = Receipt {
                    arrived: lost.arrived,
                    error: Some(lost.error),
                };
                return (receipt, None);
            }
            Err(_) => retries -= 1,
        }
    }
}

/// Redis: connBlockingConnect notices nothing but a timeout; who refuses is met when it writes.
fn unconnected(why: &io::Error) -> CmdError {
    match why.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => WRITING,
        _ => CONNECTING,
    }
}

fn connect(parcel: &Parcel) -> io::Result<Line> {
    // Redis: atoi of what was given.
    let port = parcel.port.parse().unwrap_or(0);
    let timeout = Duration::from_millis(parcel.timeout_ms);
    let mut failure = io::ErrorKind::NotFound.into();
    for address in (&*parcel.host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(Line {
                    name: (parcel.host.clone(), parcel.port.clone()),
                    stream: BufReader::new(stream),
                    db: None,
                    used_ms: 0,
                });
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Writes all requests, then reads all replies.
fn exchange(parcel: &Parcel, line: &mut Line) -> Result<Receipt, Lost> {
    let selects = line.db != Some(parcel.db);
    let timeout = Some(Duration::from_millis(parcel.timeout_ms));
    let stream = line.stream.get_mut();
    let requests = requests(parcel, selects);
    let written = stream
        .set_write_timeout(timeout)
        .and_then(|()| stream.set_read_timeout(timeout))
        .and_then(|()| stream.write_all(&requests));
    written.map_err(|why| Lost::new(WRITING, &why))?;
    let mut refused = None;
    for _ in 0..usize::from(!parcel.auth.is_empty()) + usize::from(selects) {
        let reply = reply(line).map_err(|why| Lost::new(READING, &why))?;
        refused = refused.or(error_in(&reply));
    }
    let mut receipt = Receipt::default();
    for item in &parcel.items {
        let reply = match reply(line) {
            Ok(reply) => reply,
            // An error that came before is told rather than the end of the connection.
            Err(why) => {
                let is_answered = receipt.error.is_some() || !receipt.arrived.is_empty();
                let mut lost = Lost::new(receipt.error.unwrap_or(READING), &why);
                lost.is_final |= is_answered;
                lost.arrived = receipt.arrived;
                return Err(lost);
            }
        };
        match refused.clone().or(error_in(&reply)) {
            Some(error) => {
                line.db = None;
                receipt.error.get_or_insert(error);
            }
            None => receipt.arrived.push(item.at),
        }
    }
    if receipt.error.is_none() {
        line.db = Some(parcel.db);
    }
    Ok(receipt)
}

/// The error that a reply is.
fn error_in(reply: &str) -> Option<CmdError> {
    let text = reply.strip_prefix('-')?;
    Some(CmdError::owned(format!(
        "ERR Target instance replied with error: {text}"
    )))
}

fn reply(line: &mut Line) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut limited = io::Read::take(&mut line.stream, LINE_MAX_BYTES);
    limited.read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn requests(parcel: &Parcel, selects: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if !parcel.auth.is_empty() {
        let mut words: Vec<&[u8]> = vec![b"AUTH"];
        words.extend(parcel.auth.iter().map(Vec::as_slice));
        put(&mut out, &words);
    }
    if selects {
        put(&mut out, &[b"SELECT", parcel.db.to_string().as_bytes()]);
    }
    for Item {
        key,
        ttl_ms,
        payload,
        ..
    } in &parcel.items
    {
        let ttl_ms = ttl_ms.to_string();
        let words: [&[u8]; 5] = [b"RESTORE", key, ttl_ms.as_bytes(), payload, b"REPLACE"];
        put(&mut out, &words[..4 + usize::from(parcel.replace)]);
    }
    out
}

/// One request in RESP.
fn put(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        out.extend(format!("${}\r\n", word.len()).bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;

    use super::*;

    fn parcel(port: u16) -> Parcel {
        let item = |at, key: &str| Item {
            at,
            key: key.into(),
            ttl_ms: 0,
            payload: "x".into(),
        };
        Parcel {
            host: "127.0.0.1".into(),
            port: port.to_string(),
            timeout_ms: 2000,
            db: 9,
            auth: Vec::new(),
            replace: false,
            items: vec![item(8, "a"), item(9, "b")],
        }
    }

    /// A server that reads `requests` bytes and writes `replies`, once for each connection.
    fn target(scripts: Vec<(usize, &'static str)>) -> (u16, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = move || {
            for (requests, replies) in scripts {
                let (mut stream, _) = listener.accept().unwrap();
                let mut bytes = vec![0; requests];
                stream.read_exact(&mut bytes).unwrap();
                stream.write_all(replies.as_bytes()).unwrap();
            }
        };
        (port, std::thread::spawn(serve))
    }

    fn brought(scripts: Vec<(usize, &'static str)>) -> (Vec<usize>, Option<String>, bool) {
        let (port, served) = target(scripts);
        let (receipt, line) = bring(&parcel(port), None);
        served.join().unwrap();
        let error = receipt.error.map(|error| error.to_string());
        (receipt.arrived, error, line.is_some())
    }

    #[test]
    fn what_arrived_is_told_apart_from_what_did_not() {
        let all = requests(&parcel(0), true).len();
        let reading = Some(READING.to_string());
        assert_eq!(
            brought(vec![(all, "+OK\r\n+OK\r\n+OK\r\n")]),
            (vec![8, 9], None, true)
        );
        let busy = "ERR Target instance replied with error: BUSYKEY no";
        assert_eq!(
            brought(vec![(all, "+OK\r\n-BUSYKEY no\r\n+OK\r\n")]),
            (vec![9], Some(busy.into()), true)
        );
        // The connection ends after the first key: that one is there.
        assert_eq!(
            brought(vec![(all, "+OK\r\n+OK\r\n")]),
            (vec![8], reading.clone(), false)
        );
        // It ends before, twice.
        assert_eq!(
            brought(vec![(all, ""), (all, "")]),
            (vec![], reading, false)
        );
        // The second attempt gets through.
        assert_eq!(
            brought(vec![(all, ""), (all, "+OK\r\n+OK\r\n+OK\r\n")]),
            (vec![8, 9], None, true)
        );
    }

    #[test]
    fn nobody_there_is_met_when_writing() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        let (receipt, line) = bring(&parcel(port), None);
        assert_eq!(receipt.error, Some(WRITING));
        assert!(receipt.arrived.is_empty() && line.is_none());
    }
}
