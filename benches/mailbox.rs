//! Mail between two cores, through the runtime: a round trip, and messages by the batch.
//!
//! `cargo bench --bench mailbox` sends a million messages a round; `cargo test` two thousand. The last
//! line is a sum of what arrived: it changes only with behaviour. Two shards on one CPU measure the
//! scheduler instead.

use std::time::{Duration, Instant};

use pinion::runtime::{
    self, App, CloseReason, ConnId, ConnInfo, Delivery, FileDone, Gather, Io, Listening, NextTurn,
    Options, Scheduling, Signal, cpus,
};

const MESSAGES_MAX: u64 = 1_000_000;
const MESSAGES_SMALL: u64 = 2_000;
/// Messages of one turn, one round after the other.
const BATCHES: [u64; 4] = [1, 4, 16, 128];

/// Shard 0 sends batches and waits for their echo; shard 1 echoes.
struct Player {
    messages: u64,
    round: usize,
    begun: Instant,
    /// Sent in this round, and heard of all.
    sent: u64,
    /// What is back of a batch.
    back: u64,
    sum: u64,
    started: bool,
}

impl Player {
    fn new(messages: u64) -> Player {
        Player {
            messages,
            round: 0,
            begun: Instant::now(),
            sent: 0,
            back: 0,
            sum: 0,
            started: false,
        }
    }

    fn send_batch(&mut self, io: &mut Io<u64>) {
        for _ in 0..BATCHES[self.round] {
            self.sent += 1;
            io.post(1, self.sent);
        }
    }

    /// The whole batch is back.
    fn returned(&mut self, io: &mut Io<u64>) {
        if self.sent >= self.messages {
            let ns = self.begun.elapsed().as_nanos() as f64 / self.sent as f64;
            let batch = BATCHES[self.round];
            println!("{batch:>4} a turn, per message there and back {ns:10.1} ns");
            self.round += 1;
            self.sent = 0;
            self.begun = Instant::now();
            if self.round == BATCHES.len() {
                println!("result {:016x}", self.sum);
                return io.stop(0);
            }
        }
        self.send_batch(io);
    }
}

impl App for Player {
    type Message = u64;

    fn admit(&mut self, _: &ConnInfo, _: usize) -> Result<(), Vec<u8>> {
        Err(Vec::new())
    }
    fn opened(&mut self, _: ConnId, _: ConnInfo, _: &mut Io<u64>) {}
    fn received(&mut self, _: ConnId, _: &[u8], _: &mut Io<u64>) {}
    fn closed(&mut self, _: ConnId, _: CloseReason, _: &mut Io<u64>) {}
    fn drained(&mut self, _: ConnId, _: &mut Io<u64>) {}
    fn is_idle(&self, _: ConnId) -> bool {
        true
    }

    fn waits(&self, _: ConnId) -> bool {
        false
    }

    fn delivered(&mut self, from: usize, messages: Delivery<'_, u64>, io: &mut Io<u64>) {
        if io.shard() == 1 {
            messages.for_each(|n| io.post(from, n));
            return;
        }
        let sums = messages.fold((0, 0), |(n, sum), it| (n + 1, sum + it));
        (self.back, self.sum) = (self.back + sums.0, self.sum + sums.1);
        if self.back == BATCHES[self.round] {
            self.back = 0;
            self.returned(io);
        }
    }

    fn file_done(&mut self, _: FileDone, _: &mut Io<u64>) {}
    fn signalled(&mut self, _: Signal, io: &mut Io<u64>) {
        io.stop(1);
    }

    fn turn(&mut self, io: &mut Io<u64>) -> bool {
        if io.shard() == 0 && !std::mem::replace(&mut self.started, true) {
            self.send_batch(io);
        }
        false
    }

    fn commit(&mut self, _: &mut Io<u64>) {}
    fn next_turn(&self, _: &Io<u64>) -> NextTurn {
        NextTurn::Idle
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let messages = if is_bench {
        MESSAGES_MAX
    } else {
        MESSAGES_SMALL
    };
    let placement = cpus::place(Some(2), None, &cpus::allowed(), None)
        .map_err(|cpu| format!("CPU {cpu} may not be used"))?;
    let path = std::env::temp_dir().join(format!("pinion-mailbox-{}", std::process::id()));
    let options = Options {
        cpus: placement.cpus,
        scheduling: Scheduling::default(),
        gather: Gather::Never,
        gather_longest: Duration::ZERO,
        listening: Listening {
            bind: Vec::new(),
            port: 0,
            unix_socket: Some(path),
            unix_mode: 0o600,
            backlog: 1,
            keepalive_s: 0,
        },
    };
    let code = runtime::bind(options)?.run(move |_| Player::new(messages))?;
    assert_eq!(code, 0, "the last round ended");
    Ok(())
}
