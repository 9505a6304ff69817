//! The runtime alone, under a small app and real sockets: what must hold whatever a server does
//! with it. Sockets are unix sockets, whose small buffers make partial sends certain; one test
//! takes TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pinion::runtime::{
    self, App, CloseReason, ConnId, ConnInfo, Delivery, FileDone, Gather, Io, Listening, NextTurn,
    Options, Scheduling, Signal, cpus,
};

/// One test at a time: they count the descriptors of this process.
static SERIAL: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    SERIAL
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Bytes of the reply to `HUGE`, and of the pieces it is made of.
const HUGE_BYTES: usize = 8 << 20;
const PIECE_BYTES: usize = 40_000;
/// How long `PAUSE` stops reading.
const PAUSE_NS: u64 = 20_000_000;
/// How long `BUSY` takes, and how many of these `BURST` sends to the next shard.
const BUSY: Duration = Duration::from_millis(5);
const BURST: usize = 5;
const EXIT_CODE: i32 = 7;

/// Byte `at` of the huge reply.
fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

/// Echoes what it receives, over the next shard and back if there is one; a chunk that is one of a
/// few words does what the word says. `HOLD` lets go what earlier ones held, in the turn that it holds.
#[derive(Default)]
struct Echo {
    paused: Vec<(u64, ConnId)>,
    /// Connections that `CORK` came from, and the bytes it has written.
    corked: Vec<ConnId>,
    written: usize,
    turns: u64,
    /// Turns that held what they sent, and whether this one does.
    gates: u64,
    holds: bool,
    /// Turns up to which everything may leave.
    released: u64,
    /// Connections that are gone, and how many were when a turn was last committed.
    gone: u64,
    committed: u64,
}

enum Parcel {
    Out(ConnId, Vec<u8>),
    Back(ConnId, Vec<u8>),
}

impl Echo {
    fn huge(conn: ConnId, io: &mut Io<Parcel>) {
        let out = io.out(conn);
        static ALL: LazyLock<Vec<u8>> = LazyLock::new(|| (0..HUGE_BYTES).map(pattern).collect());
        for (n, piece) in ALL.chunks(PIECE_BYTES).enumerate() {
            if n % 2 == 0 {
                let at = out.bytes.len();
                out.share(at, &Bytes::copy_from_slice(piece));
            } else {
                out.bytes.extend_from_slice(piece);
            }
        }
    }

    /// Longer than a turn goes on. Returns the number of this one.
    fn work(&self) -> Vec<u8> {
        let begun = Instant::now();
        while begun.elapsed() < BUSY {
            std::hint::spin_loop();
        }
        format!("{:8}", self.turns).into_bytes()
    }

    fn busy(&self, conn: ConnId, io: &mut Io<Parcel>) {
        let turn = self.work();
        io.out(conn).bytes.extend_from_slice(&turn);
    }

    /// Corks a connection, if it is not, and writes `len` more bytes for it.
    fn write_corked(&mut self, conn: ConnId, len: usize, io: &mut Io<Parcel>) {
        io.cork(conn, true);
        let next = self.written..self.written + len;
        self.written = next.end;
        io.out(conn).bytes.extend(next.map(pattern));
        if !self.corked.contains(&conn) {
            self.corked.push(conn);
        }
    }
}

impl App for Echo {
    type Message = Parcel;

    fn file_done(&mut self, _: FileDone, _: &mut Io<Parcel>) {
        unreachable!("an echo has no files")
    }

    fn admit(&mut self, _: &ConnInfo, connections: usize) -> Result<(), Vec<u8>> {
        if connections < 1000 {
            Ok(())
        } else {
            Err(b"full".to_vec())
        }
    }

    fn opened(&mut self, _: ConnId, _: ConnInfo, _: &mut Io<Parcel>) {}

    fn received(&mut self, conn: ConnId, bytes: &[u8], io: &mut Io<Parcel>) {
        match bytes {
            b"HUGE" => Echo::huge(conn, io),
            b"BYE" => {
                Echo::huge(conn, io);
                io.close_after_flush(conn);
            }
            b"DRAIN" => io.notify_drained(conn),
            b"COUNT" => {
                let text = format!("{:4}", io.connections());
                io.out(conn).bytes.extend_from_slice(text.as_bytes());
            }
            b"TURNS" => {
                let text = format!("{:8}", self.turns);
                io.out(conn).bytes.extend_from_slice(text.as_bytes());
            }
            b"BUSY" => self.busy(conn, io),
            b"BURST" => {
                let next = (io.shard() + 1) % io.shards();
                for _ in 0..BURST {
                    io.post(next, Parcel::Out(conn, b"BUSY".to_vec()));
                }
            }
            b"HELD" => {
                let pending = self.corked.iter().map(|&conn| io.pending_bytes(conn));
                let text = format!("{:8}", pending.sum::<usize>());
                io.out(conn).bytes.extend_from_slice(text.as_bytes());
            }
            b"UNCORK" => {
                for corked in self.corked.drain(..) {
                    io.cork(corked, false);
                }
                io.out(conn).bytes.extend_from_slice(b"uncorked");
            }
            b"CORK BYE" => io.close_after_flush(conn),
            b"CLOSE" => io.close(conn),
            b"HOLD" => {
                io.out(conn).bytes.extend_from_slice(b"held");
                self.released = self.gates;
                self.gates += 1;
                self.holds = true;
            }
            b"GATES" => {
                let text = format!("{:8}", self.gates);
                io.out(conn).bytes.extend_from_slice(text.as_bytes());
                // Whoever asks gets an answer, whatever else this turn holds.
                io.hasten(conn);
            }
            b"GONE" => {
                let text = format!("{:8}", self.committed);
                io.out(conn).bytes.extend_from_slice(text.as_bytes());
            }
            b"RELEASE" => {
                self.released = self.gates;
                io.out(conn).bytes.extend_from_slice(b"released");
            }
            _ if bytes.starts_with(b"CORK ") => {
                let len = String::from_utf8_lossy(&bytes[5..]).parse();
                self.write_corked(conn, len.expect("a length"), io);
            }
            b"PAUSE" => {
                io.out(conn).bytes.extend_from_slice(b"paused");
                io.pause_recv(conn);
                self.paused.push((io.now().mono_ns + PAUSE_NS, conn));
            }
            b"STOP" => io.stop(EXIT_CODE),
            _ if io.shards() == 1 => io.out(conn).bytes.extend_from_slice(bytes),
            _ => {
                let next = (io.shard() + 1) % io.shards();
                io.post(next, Parcel::Out(conn, bytes.to_vec()));
            }
        }
    }

    fn closed(&mut self, _: ConnId, _: CloseReason, _: &mut Io<Parcel>) {
        self.gone += 1;
    }

    fn drained(&mut self, conn: ConnId, io: &mut Io<Parcel>) {
        io.out(conn).bytes.extend_from_slice(b"drained");
    }

    fn is_idle(&self, _: ConnId) -> bool {
        true
    }

    fn waits(&self, _: ConnId) -> bool {
        false
    }

    fn delivered(&mut self, from: usize, parcels: Delivery<'_, Parcel>, io: &mut Io<Parcel>) {
        for parcel in parcels {
            match parcel {
                Parcel::Out(conn, bytes) if bytes == b"BUSY" => {
                    let turn = self.work();
                    io.post(from, Parcel::Back(conn, turn));
                }
                Parcel::Out(conn, bytes) => io.post(from, Parcel::Back(conn, bytes)),
                Parcel::Back(conn, bytes) => io.out(conn).bytes.extend_from_slice(&bytes),
            }
        }
    }

    fn signalled(&mut self, _: Signal, _: &mut Io<Parcel>) {}

    fn turn(&mut self, io: &mut Io<Parcel>) -> bool {
        let now_ns = io.now().mono_ns;
        self.turns += 1;
        self.paused.retain(|&(until_ns, conn)| {
            if until_ns <= now_ns {
                io.resume_recv(conn);
            }
            until_ns > now_ns
        });
        false
    }

    fn commit(&mut self, io: &mut Io<Parcel>) {
        self.committed = self.gone;
        io.release(self.released);
        if std::mem::take(&mut self.holds) {
            io.hold(self.gates);
        }
    }

    fn next_turn(&self, _: &Io<Parcel>) -> NextTurn {
        let next = self.paused.iter().map(|(until_ns, _)| *until_ns).min();
        next.map_or(NextTurn::Idle, NextTurn::At)
    }
}

struct Server {
    path: PathBuf,
    thread: JoinHandle<i32>,
}

impl Server {
    fn start(name: &str, shards: usize) -> Server {
        Server::start_with(name, shards, 0, Gather::Never)
    }

    fn start_with(name: &str, shards: usize, port: u16, gather: Gather) -> Server {
        let file = format!("pinion-runtime-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(file);
        let allowed = cpus::allowed();
        let placement = cpus::place(Some(shards), None, &allowed, None).expect("CPUs");
        let options = Options {
            cpus: placement.cpus,
            scheduling: Scheduling::default(),
            gather,
            // So long that it does not count how fast the machine is.
            gather_longest: Duration::from_secs(2),
            listening: Listening {
                bind: vec!["127.0.0.1".to_owned()],
                port,
                unix_socket: Some(path.clone()),
                unix_mode: 0o600,
                backlog: 511,
                keepalive_s: 300,
            },
        };
        let bound = runtime::bind(options).expect("io_uring and a socket");
        let thread = thread::spawn(move || bound.run(|_| Echo::default()).expect("a clean end"));
        Server { path, thread }
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).expect("connect");
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .expect("a timeout");
        stream
    }

    fn stop(self) {
        self.connect().write_all(b"STOP").expect("write");
        assert_eq!(self.thread.join().expect("the server"), EXIT_CODE);
        assert!(!self.path.exists(), "the socket file is removed");
    }

    /// Waits until `count` connections are open, the asking one among them.
    fn await_connections(&self, count: usize) {
        let mut stream = self.connect();
        for _ in 0..2000 {
            let text = ask(&mut stream, b"COUNT", 4);
            if text.trim_ascii() == count.to_string().as_bytes() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("there are not {count} connections");
    }
}

fn ask(stream: &mut (impl Read + Write), question: &[u8], len: usize) -> Vec<u8> {
    stream.write_all(question).expect("write");
    let mut answer = vec![0; len];
    stream.read_exact(&mut answer).expect("an answer");
    answer
}

fn read_nothing(stream: &mut UnixStream) {
    stream.set_nonblocking(true).expect("a socket");
    let error = stream.read(&mut [0]).expect_err("nothing to read");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    stream.set_nonblocking(false).expect("a socket");
}

/// Also when the signals of other tests interrupt it.
fn read_end(stream: &mut UnixStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the end");
    assert_eq!(rest, b"");
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

#[test]
fn an_idle_connection_is_answered_and_a_stop_ends_all_shards() {
    let _alone = alone();
    for shards in [1, 2, 4] {
        let server = Server::start("echo", shards);
        let mut streams: Vec<_> = (0..8).map(|_| server.connect()).collect();
        for round in 0..50 {
            for (n, stream) in streams.iter_mut().enumerate() {
                let text = format!("{round} from {n}");
                assert_eq!(ask(stream, text.as_bytes(), text.len()), text.as_bytes());
            }
        }
        server.stop();
    }
}

#[test]
fn tcp_connections_are_served() {
    let _alone = alone();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its number").port();
    drop(free);
    let server = Server::start_with("tcp", 2, port, Gather::Never);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    assert_eq!(ask(&mut stream, b"hello", 5), b"hello");
    server.stop();
}

#[test]
fn requests_gather_where_they_may() {
    let _alone = alone();
    let server = Server::start_with("gather", 1, 0, Gather::Always);
    let mut streams: Vec<_> = (0..40).map(|_| server.connect()).collect();
    for stream in &mut streams {
        stream.write_all(b"TURNS").expect("write");
    }
    // Whoever gets an answer asks again at once. Returns the last answer.
    let mut serve = |rounds: u64| {
        let mut turns = 0_u64;
        for _ in 0..rounds {
            for stream in &mut streams {
                let mut answer = [0; 8];
                stream.read_exact(&mut answer).expect("an answer");
                let text = String::from_utf8_lossy(&answer);
                turns = turns.max(text.trim().parse().expect("a number of turns"));
                stream.write_all(b"TURNS").expect("write");
            }
        }
        turns
    };
    // It is seen that so many arrive.
    let before = serve(500);
    let turns = serve(100) - before;
    assert!(turns < 100 * 40 / 8, "{turns} turns for 4000 requests");
    server.stop();
}

/// The numbers of the turns in which something was answered.
fn turns_of(stream: &mut UnixStream, answers: usize) -> Vec<u64> {
    let answer = |_| {
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).expect("an answer");
        let text = String::from_utf8_lossy(&answer);
        text.trim().parse().expect("the number of a turn")
    };
    (0..answers).map(answer).collect()
}

#[test]
fn much_work_that_comes_at_once_takes_several_turns() {
    let _alone = alone();
    let server = Server::start("rounds", 1);
    let mut streams: Vec<_> = (0..20).map(|_| server.connect()).collect();
    // The others come while the first is served.
    for stream in &mut streams {
        stream.write_all(b"BUSY").expect("write");
    }
    let mut turns: Vec<_> = streams.iter_mut().flat_map(|it| turns_of(it, 1)).collect();
    turns.sort_unstable();
    turns.dedup();
    assert_eq!(turns.len(), streams.len());
    server.stop();
}

#[test]
fn mail_that_is_much_work_takes_several_turns_in_its_order() {
    let _alone = alone();
    let server = Server::start("bursts", 2);
    let mut stream = server.connect();
    stream.write_all(b"BURST").expect("write");
    let turns = turns_of(&mut stream, BURST);
    assert!(turns.is_sorted_by(|a, b| a < b), "{turns:?}");
    server.stop();
}

#[test]
fn a_slow_reader_gets_every_byte_of_a_huge_reply() {
    let _alone = alone();
    let server = Server::start("huge", 1);
    for word in ["HUGE", "BYE"] {
        let mut stream = server.connect();
        stream.write_all(word.as_bytes()).expect("write");
        let mut at = 0;
        let mut chunk = [0; 8192];
        const { assert!(HUGE_BYTES.is_multiple_of(8192)) };
        while at < HUGE_BYTES {
            stream.read_exact(&mut chunk).expect("the whole reply");
            for byte in chunk {
                assert_eq!(byte, pattern(at), "{word}: byte {at}");
                at += 1;
            }
        }
        if word == "BYE" {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).expect("the end");
            assert_eq!(rest, b"");
        }
    }
    server.stop();
}

#[test]
fn more_bytes_than_receive_buffers_come_back_in_order() {
    let _alone = alone();
    for shards in [1, 3] {
        let server = Server::start("flood", shards);
        // 400 connections with 96 KiB each: nine times the provided buffers of a shard.
        let mut streams: Vec<_> = (0..400).map(|_| server.connect()).collect();
        let text: Vec<u8> = (0..96 << 10).map(pattern).collect();
        for stream in &mut streams {
            stream.write_all(&text).expect("write");
        }
        for stream in &mut streams {
            let mut answer = vec![0; text.len()];
            stream.read_exact(&mut answer).expect("an answer");
            assert!(answer == text, "bytes are missing or out of order");
        }
        server.stop();
    }
}

#[test]
fn a_peer_that_shuts_down_its_side_gets_its_replies() {
    let _alone = alone();
    let server = Server::start("half", 1);
    let mut stream = server.connect();
    stream.write_all(b"last words").expect("write");
    stream.shutdown(Shutdown::Write).expect("shutdown");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the end");
    assert_eq!(answer, b"last words");
    server.stop();
}

#[test]
fn drained_is_told_even_if_nothing_was_pending() {
    let _alone = alone();
    let server = Server::start("drained", 1);
    assert_eq!(ask(&mut server.connect(), b"DRAIN", 7), b"drained");
    server.stop();
}

#[test]
fn a_paused_connection_is_read_again_after_its_deadline() {
    let _alone = alone();
    let server = Server::start("pause", 1);
    let mut stream = server.connect();
    for _ in 0..5 {
        assert_eq!(ask(&mut stream, b"PAUSE", 6), b"paused");
        assert_eq!(ask(&mut stream, b"later", 5), b"later");
    }
    server.stop();
}

#[test]
fn connections_that_come_and_go_leave_nothing_behind() {
    let _alone = alone();
    let server = Server::start("leak", 2);
    // The answer comes over the other shard, so both have opened what they need.
    assert_eq!(ask(&mut server.connect(), b"hello", 5), b"hello");
    server.await_connections(1);
    let before = descriptors();
    for round in 0..40 {
        let mut streams: Vec<_> = (0..100).map(|_| server.connect()).collect();
        for (n, stream) in streams.iter_mut().enumerate() {
            match (n + round) % 4 {
                0 => drop(ask(stream, b"hello", 5)),
                1 => stream.write_all(b"HUGE").expect("write"),
                2 => stream.write_all(b"hello").expect("write"),
                _ => {}
            }
        }
    }
    server.await_connections(1);
    let after = descriptors();
    assert!(after <= before + 1, "{before} descriptors became {after}");
    server.stop();
}

#[test]
fn a_stop_ends_a_busy_server() {
    let _alone = alone();
    let server = Server::start("busy", 2);
    let floods: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = server.connect();
            thread::spawn(move || {
                let mut answer = [0; 1000];
                while stream.write_all(&[b'x'; 1000]).is_ok()
                    && stream.read_exact(&mut answer).is_ok()
                {}
            })
        })
        .collect();
    server.await_connections(5);
    server.stop();
    for flood in floods {
        flood.join().expect("a flood");
    }
}

/// Bytes of a corked connection that leave without waiting for more.
const CORKED_MAX_BYTES: usize = 16 << 10;

/// A connection of a server with one shard, corked, and another one that asks after it.
struct Corked {
    server: Server,
    stream: UnixStream,
    other: UnixStream,
    /// What was read of all that was written.
    read: usize,
}

impl Corked {
    fn new(name: &str) -> Corked {
        let server = Server::start(name, 1);
        let (stream, other) = (server.connect(), server.connect());
        Corked {
            server,
            stream,
            other,
            read: 0,
        }
    }

    fn write(&mut self, len: usize) {
        let text = format!("CORK {len}");
        self.stream.write_all(text.as_bytes()).expect("write");
    }

    /// Waits until exactly `len` bytes have not left.
    fn await_held(&mut self, len: usize) {
        for _ in 0..4000 {
            if ask(&mut self.other, b"HELD", 8).trim_ascii() == len.to_string().as_bytes() {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("there are never {len} bytes that wait");
    }

    fn uncork(&mut self) {
        assert_eq!(ask(&mut self.other, b"UNCORK", 8), b"uncorked");
    }

    fn read_nothing(&mut self) {
        read_nothing(&mut self.stream);
    }

    fn expect(&mut self, bytes: &[u8]) {
        for (at, &byte) in bytes.iter().enumerate() {
            assert_eq!(byte, pattern(self.read + at), "byte {at} of these");
        }
        self.read += bytes.len();
    }

    fn read(&mut self, len: usize) {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes).expect("what has left");
        self.expect(&bytes);
    }

    fn read_to_end(&mut self, len: usize) {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).expect("the end");
        assert_eq!(bytes.len(), len);
        self.expect(&bytes);
    }
}

#[test]
fn what_is_corked_leaves_once_when_it_is_uncorked() {
    let _alone = alone();
    let mut corked = Corked::new("uncork");
    for len in [1, 1000, CORKED_MAX_BYTES - 1] {
        corked.write(len);
        corked.await_held(len);
        corked.read_nothing();
        corked.uncork();
        corked.read(len);
        // Not a byte more: what follows is the answer to this.
        assert_eq!(ask(&mut corked.stream, b"hello", 5), b"hello");
    }
    corked.server.stop();
}

#[test]
fn many_bytes_leave_though_they_are_corked() {
    let _alone = alone();
    let mut corked = Corked::new("corked");
    corked.write(CORKED_MAX_BYTES - 1);
    corked.await_held(CORKED_MAX_BYTES - 1);
    corked.read_nothing();
    corked.write(1);
    corked.read(CORKED_MAX_BYTES);
    // What follows starts to wait anew, also behind a send that takes long.
    corked.write(HUGE_BYTES);
    let begun = CORKED_MAX_BYTES;
    corked.read(begun);
    corked.write(7);
    corked.read(HUGE_BYTES - begun);
    corked.await_held(7);
    corked.read_nothing();
    corked.uncork();
    corked.read(7);
    assert_eq!(ask(&mut corked.stream, b"hello", 5), b"hello");
    corked.server.stop();
}

#[test]
fn what_is_corked_leaves_before_its_connection_closes() {
    let _alone = alone();
    let mut corked = Corked::new("corked-bye");
    corked.write(100);
    corked.await_held(100);
    corked.stream.write_all(b"CORK BYE").expect("write");
    corked.read_to_end(100);
    corked.server.await_connections(2);
    // A peer that will send no more still gets what it waits for.
    corked.stream = corked.server.connect();
    corked.uncork();
    corked.write(50);
    corked.await_held(50);
    corked.stream.shutdown(Shutdown::Write).expect("shutdown");
    corked.await_held(50);
    corked.read_nothing();
    corked.uncork();
    corked.read_to_end(50);
    corked.server.stop();
}

#[test]
fn the_next_connection_in_its_place_is_not_corked() {
    let _alone = alone();
    let mut corked = Corked::new("corked-gone");
    corked.write(100);
    corked.await_held(100);
    let mut other = corked.server.connect();
    assert_eq!(ask(&mut other, b"hello", 5), b"hello");
    // Gone with bytes unread in its socket: the peer resets it, and nothing can be sent any more.
    other.write_all(b"CORK 200").expect("write");
    corked.await_held(300);
    other.write_all(b"HUGE").expect("write");
    drop(other);
    corked.server.await_connections(3);
    corked.await_held(100);
    for _ in 0..3 {
        let mut next = corked.server.connect();
        assert_eq!(ask(&mut next, b"hello", 5), b"hello");
    }
    corked.uncork();
    corked.read(100);
    corked.server.stop();
}

/// Waits until so many turns have held what they sent, and what others let go has left.
fn await_gates(other: &mut UnixStream, count: usize) {
    for _ in 0..4000 {
        let text = ask(other, b"GATES", 8);
        if text.trim_ascii() == count.to_string().as_bytes() {
            // The turn of this answer may have been that one: its sends left together.
            ask(other, b"GATES", 8);
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("there are never {count} turns that hold");
}

#[test]
fn what_a_turn_holds_does_not_leave_with_what_it_lets_go() {
    let _alone = alone();
    let server = Server::start("gates", 1);
    let (mut stream, mut other) = (server.connect(), server.connect());
    let mut answer = [0; 4];
    for count in 1..=5 {
        stream.write_all(b"HOLD").expect("write");
        await_gates(&mut other, count);
        if count > 1 {
            // That of the one before, though there is always more.
            stream.read_exact(&mut answer).expect("an answer");
            assert_eq!(&answer, b"held");
        }
        read_nothing(&mut stream);
    }
    assert_eq!(ask(&mut other, b"RELEASE", 8), b"released");
    stream.read_exact(&mut answer).expect("the last");
    assert_eq!(&answer, b"held");
    assert_eq!(ask(&mut stream, b"hello", 5), b"hello");
    server.stop();
}

#[test]
fn what_is_held_does_not_leave_with_that_of_who_was_there_before() {
    let _alone = alone();
    let server = Server::start("gates-gone", 1);
    let (mut gone, mut other) = (server.connect(), server.connect());
    gone.write_all(b"HOLD").expect("write");
    await_gates(&mut other, 1);
    gone.write_all(b"CLOSE").expect("write");
    read_end(&mut gone);
    server.await_connections(2);
    let mut next = server.connect();
    next.write_all(b"HOLD").expect("write");
    await_gates(&mut other, 2);
    read_nothing(&mut next);
    assert_eq!(ask(&mut other, b"RELEASE", 8), b"released");
    let mut answer = [0; 4];
    next.read_exact(&mut answer).expect("its answer");
    assert_eq!(&answer, b"held");
    server.stop();
}

#[test]
fn a_turn_is_committed_with_the_ends_of_its_connections() {
    let _alone = alone();
    let server = Server::start("ends", 1);
    let mut other = server.connect();
    for count in 1..=5 {
        let mut stream = server.connect();
        assert_eq!(ask(&mut stream, b"hello", 5), b"hello");
        stream.shutdown(Shutdown::Write).expect("shutdown");
        read_end(&mut stream);
        let committed = ask(&mut other, b"GONE", 8);
        assert_eq!(committed.trim_ascii(), count.to_string().as_bytes());
    }
    server.stop();
}
