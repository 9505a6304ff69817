//! The load generator of `perf/`: one thread that never sleeps and never blocks.
//!
//! redis-benchmark is a closed loop: it sends when the last reply is there, so a server that stalls
//! is simply asked less. What needs an open loop or a view from aside is measured here instead:
//!
//! - `open`: requests leave by the clock, whatever the server does; latency counts from the moment
//!   a request was due, so a stall is felt by everyone who should have been served in it.
//! - `stall`: one client sends PING after PING while others fill the server with keys, or while
//!   FLUSHALL ASYNC empties it; what counts is the longest time PING took.
//! - `idle`: opens connections that do nothing and holds them until standard input closes.
//! - `fill`: puts keys of one size into the server.
//!
//! Each prints one line of JSON. The generator notes when it was itself off the CPU: a sample taken
//! over such a gap says nothing about the server and is counted apart.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The generator did not run for so long: what it measured over that time is its own delay.
const OWN_GAP: Duration = Duration::from_micros(300);
/// Commands of one batch when filling: what a client library's pipeline holds, and short enough
/// (some 50 us of a server's time) to leave the probe's latency to the server.
const FILL_BATCH: u64 = 32;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> Outcome {
    let mut words = std::env::args().skip(1);
    let mode = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let mut options = Options(BTreeMap::new());
    for pair in words.chunks(2) {
        let [name, value] = pair else {
            return Err(format!("{} needs a value", pair[0]).into());
        };
        options.0.insert(name.clone(), value.clone());
    }
    match mode.as_str() {
        "open" => open_loop(&options),
        "stall" => stall(&options),
        "idle" => idle(&options),
        "fill" => fill(&options),
        _ => Err("usage: load open|stall|idle|fill --port N ..: see perf/".into()),
    }
}

struct Options(BTreeMap<String, String>);

impl Options {
    fn number(&self, name: &str, default: u64) -> Result<u64, String> {
        match self.0.get(name) {
            Some(text) => text
                .parse()
                .map_err(|_| format!("{name} {text}: no number")),
            None => Ok(default),
        }
    }
}

// ---- connections -----------------------------------------------------------------------------

/// A non-blocking connection that knows how many replies are due. Replies are counted, not read:
/// every request here is answered with one line, or with one bulk string.
struct Wire {
    stream: TcpStream,
    unsent: Vec<u8>,
    /// The bytes of a reply seen so far, at most a header's worth.
    line: Vec<u8>,
    /// Bytes of a bulk string still to skip.
    skip: usize,
}

impl Wire {
    fn connect(port: u64) -> Result<Wire, Box<dyn std::error::Error>> {
        let stream = TcpStream::connect(("127.0.0.1", u16::try_from(port)?))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Wire {
            stream,
            unsent: Vec::new(),
            line: Vec::new(),
            skip: 0,
        })
    }

    /// Queues bytes and sends what the kernel takes.
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.unsent.extend_from_slice(bytes);
        self.flush()
    }

    fn flush(&mut self) -> std::io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there and returns the number of replies that became whole.
    fn replies(&mut self) -> std::io::Result<usize> {
        self.flush()?;
        let mut chunk = [0; 16_384];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(len) => self.count(&chunk[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }

    fn count(&mut self, mut bytes: &[u8]) -> std::io::Result<usize> {
        let mut whole = 0;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                whole += usize::from(self.skip == 0);
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                self.line.extend_from_slice(bytes);
                break;
            };
            self.line.extend_from_slice(&bytes[..=end]);
            bytes = &bytes[end + 1..];
            if self.line[0] == b'-' {
                let text = String::from_utf8_lossy(&self.line).into_owned();
                return Err(std::io::Error::other(text));
            }
            // A null ($-1) has no body and is whole with its line.
            let len: Option<usize> = match self.line[0] {
                b'$' => std::str::from_utf8(&self.line[1..])
                    .ok()
                    .and_then(|digits| digits.trim().parse().ok()),
                _ => None,
            };
            match len {
                Some(len) => self.skip = len + 2,
                None => whole += 1,
            }
            self.line.clear();
        }
        Ok(whole)
    }

    /// Sends one request and waits for its reply.
    fn ask(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.send(bytes)?;
        while self.replies()? == 0 {}
        Ok(())
    }
}

/// `key:%012d` is 16 bytes, as in redis-benchmark.
fn key(number: u64) -> String {
    format!("key:{number:012}")
}

fn push_set(out: &mut Vec<u8>, number: u64, value: &str) {
    let text = format!(
        "*3\r\n$3\r\nSET\r\n$16\r\n{}\r\n${}\r\n{value}\r\n",
        key(number),
        value.len()
    );
    out.extend_from_slice(text.as_bytes());
}

fn push_get(out: &mut Vec<u8>, number: u64) {
    let text = format!("*2\r\n$3\r\nGET\r\n$16\r\n{}\r\n", key(number));
    out.extend_from_slice(text.as_bytes());
}

// ---- what is measured ------------------------------------------------------------------------

/// Latencies in nanoseconds, and what the generator itself was late by.
struct Latencies {
    histogram: Histogram<u64>,
    last_turn: Instant,
    last_gap: Instant,
    gaps: u64,
    discarded: u64,
}

impl Latencies {
    fn new() -> Result<Latencies, Box<dyn std::error::Error>> {
        let now = Instant::now();
        Ok(Latencies {
            histogram: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
            last_turn: now,
            last_gap: now,
            gaps: 0,
            discarded: 0,
        })
    }

    /// Called once per turn of the generator's loop.
    fn turn(&mut self, now: Instant) {
        if now - self.last_turn > OWN_GAP {
            self.last_gap = now;
            self.gaps += 1;
        }
        self.last_turn = now;
    }

    /// A sample from `since` to `now`, unless the generator was away in between.
    fn record(&mut self, since: Instant, now: Instant) -> Outcome {
        if since <= self.last_gap {
            self.discarded += 1;
            return Ok(());
        }
        let nanos = u64::try_from((now - since).as_nanos())?.max(1);
        self.histogram.record(nanos)?;
        Ok(())
    }

    fn json(&self) -> String {
        let ms = |quantile: f64| self.histogram.value_at_quantile(quantile) as f64 / 1e6;
        format!(
            "\"samples\":{},\"p50_ms\":{:.4},\"p99_ms\":{:.4},\"p999_ms\":{:.4},\"max_ms\":{:.4},\
             \"own_gaps\":{},\"discarded\":{}",
            self.histogram.len(),
            ms(0.5),
            ms(0.99),
            ms(0.999),
            self.histogram.max() as f64 / 1e6,
            self.gaps,
            self.discarded
        )
    }
}

/// Half GET, half SET over `--keys` keys at `--rate` requests a second for `--seconds`.
fn open_loop(options: &Options) -> Outcome {
    let port = options.number("--port", 6379)?;
    let rate = options.number("--rate", 10_000)?;
    let total = rate * options.number("--seconds", 10)?;
    let keys = options.number("--keys", 100_000)?;
    let connections = options.number("--connections", 50)?;
    let value = "x".repeat(usize::try_from(options.number("--value-bytes", 64)?)?);
    let mut wires = Vec::new();
    for _ in 0..connections {
        wires.push((Wire::connect(port)?, VecDeque::new()));
    }
    let mut random = fastrand::Rng::with_seed(1);
    let mut latencies = Latencies::new()?;
    let start = Instant::now();
    let due = |number: u64| start + Duration::from_nanos(number * 1_000_000_000 / rate);
    let (mut sent, mut answered) = (0, 0);
    let mut request = Vec::new();
    while answered < total {
        let now = Instant::now();
        latencies.turn(now);
        while sent < total && due(sent) <= now {
            request.clear();
            match random.bool() {
                true => push_get(&mut request, random.u64(0..keys)),
                false => push_set(&mut request, random.u64(0..keys), &value),
            }
            let index = usize::try_from(sent % connections)?;
            let (wire, waiting) = &mut wires[index];
            wire.send(&request)?;
            waiting.push_back(due(sent));
            sent += 1;
        }
        for (wire, waiting) in &mut wires {
            if waiting.is_empty() {
                continue;
            }
            let whole = wire.replies()?;
            let now = Instant::now();
            for since in waiting.drain(..whole) {
                latencies.record(since, now)?;
            }
            answered += whole as u64;
        }
    }
    println!("{{{}}}", latencies.json());
    Ok(())
}

/// The longest PING while `--keys` keys arrive, then while FLUSHALL ASYNC takes them away.
fn stall(options: &Options) -> Outcome {
    let port = options.number("--port", 6379)?;
    let keys = options.number("--keys", 10_000_000)?;
    let seconds_after = options.number("--seconds-after", 5)?;
    let value = "x".repeat(usize::try_from(options.number("--value-bytes", 64)?)?);
    let mut probe = Probe::new(port)?;
    let mut fillers = Vec::new();
    for _ in 0..4 {
        fillers.push((Wire::connect(port)?, 0));
    }
    let mut latencies = Latencies::new()?;
    let (mut sent, mut answered) = (0, 0);
    let mut batch = Vec::new();
    while answered < keys {
        probe.turn(&mut latencies)?;
        for (wire, waiting) in &mut fillers {
            if *waiting == 0 && sent < keys {
                batch.clear();
                let until = keys.min(sent + FILL_BATCH);
                (sent..until).for_each(|number| push_set(&mut batch, number, &value));
                *waiting = until - sent;
                sent = until;
                wire.send(&batch)?;
            }
            let whole = wire.replies()? as u64;
            *waiting -= whole;
            answered += whole;
        }
    }
    let growing = latencies.json();
    let mut latencies = Latencies::new()?;
    fillers[0].0.send(b"FLUSHALL ASYNC\r\n")?;
    let until = Instant::now() + Duration::from_secs(seconds_after);
    while Instant::now() < until {
        probe.turn(&mut latencies)?;
        fillers[0].0.replies()?;
    }
    let flushing = latencies.json();
    println!("{{\"growing\":{{{growing}}},\"flushing\":{{{flushing}}}}}");
    Ok(())
}

/// One client which sends the next PING as soon as the last was answered.
struct Probe {
    wire: Wire,
    since: Option<Instant>,
}

impl Probe {
    fn new(port: u64) -> Result<Probe, Box<dyn std::error::Error>> {
        Ok(Probe {
            wire: Wire::connect(port)?,
            since: None,
        })
    }

    fn turn(&mut self, latencies: &mut Latencies) -> Outcome {
        let now = Instant::now();
        latencies.turn(now);
        match self.since {
            None => {
                self.since = Some(now);
                self.wire.send(b"*1\r\n$4\r\nPING\r\n")?;
            }
            Some(since) => {
                if self.wire.replies()? > 0 {
                    latencies.record(since, Instant::now())?;
                    self.since = None;
                }
            }
        }
        Ok(())
    }
}

/// Holds `--connections` connections until standard input closes.
fn idle(options: &Options) -> Outcome {
    let port = options.number("--port", 6379)?;
    let count = options.number("--connections", 10_000)?;
    let mut held = Vec::new();
    for _ in 0..count {
        let mut wire = Wire::connect(port)?;
        wire.ask(b"*1\r\n$4\r\nPING\r\n")?;
        held.push(wire.stream);
    }
    println!("{{\"connections\":{}}}", held.len());
    let mut rest = String::new();
    std::io::stdin().read_to_string(&mut rest)?;
    Ok(())
}

/// `--keys` keys of 16 bytes with values of `--value-bytes`.
fn fill(options: &Options) -> Outcome {
    let keys = options.number("--keys", 1_000_000)?;
    let value = "x".repeat(usize::try_from(options.number("--value-bytes", 64)?)?);
    let mut wire = Wire::connect(options.number("--port", 6379)?)?;
    let mut batch = Vec::new();
    for from in (0..keys).step_by(usize::try_from(FILL_BATCH)?) {
        batch.clear();
        let until = keys.min(from + FILL_BATCH);
        (from..until).for_each(|number| push_set(&mut batch, number, &value));
        wire.send(&batch)?;
        let mut answered = 0;
        while answered < until - from {
            answered += wire.replies()? as u64;
        }
    }
    println!("{{\"keys\":{keys}}}");
    Ok(())
}
