//! A machine that stops: what a shard's segment said by then is compared with what its disk has,
//! by the clock. The segment is the server's; the disk takes as long as it likes, and has what was
//! there when a sync began that is over.
//!
//! | `appendfsync` when a turn was done | what it told of is there, once the machine stops |
//! |---|---|
//! | `always` | from the reply on; and all that stood before it |
//! | `everysec` | a second after the reply, and after as long as the sync took that was under way |

use std::io;
use std::sync::{Arc, Mutex};

use pinion::journal::recovery::Census;
use pinion::journal::{Fault, Item, Reader, Tail};
use pinion::keyspace::Effects;
use pinion::runtime::{FileDone, FileOp};
use pinion::server::persist::segment::{Medium, Policy, Segment};
use pinion::server::persist::{Operation, is_old_sync, of_journal};
use pinion::shard::journal::Journal;

/// Longest time between two turns.
const TURN_MS: i64 = 20;

#[derive(Default)]
struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Default)]
struct File(Mutex<Content>);

impl Medium for File {
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let cached = &mut self.0.lock().unwrap().cached;
        let (at, end) = (at as usize, at as usize + bytes.len());
        cached.resize(cached.len().max(end), 0);
        cached[at..end].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Done at once and for good: in a file system's journal it comes before what is written next.
    fn set_len(&self, len: u64) -> io::Result<()> {
        let content = &mut *self.0.lock().unwrap();
        content.cached.truncate(len as usize);
        content.durable.truncate(len as usize);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let content = &mut *self.0.lock().unwrap();
        content.durable.clone_from(&content.cached);
        Ok(())
    }

    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let from = at as usize;
        bytes.copy_from_slice(&self.0.lock().unwrap().cached[from..from + bytes.len()]);
        Ok(())
    }
}

/// How long syncs take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// A few milliseconds.
    Fast,
    /// About the same each time, up to 400 milliseconds.
    Steady(i64),
    /// Sometimes seconds.
    Wild,
}

/// An operation in the kernel.
struct Running {
    operation: Operation<File>,
    is_sync: bool,
    begun_ms: i64,
    ends_ms: i64,
    /// What the file held when a sync began.
    covers: Vec<u8>,
}

/// What leaves when the segment says so.
struct Turn {
    gate: u64,
    /// The last number that it tells of.
    count: u64,
    policy: Policy,
    wrote: bool,
}

struct Acknowledged {
    count: u64,
    at_ms: i64,
    policy: Policy,
    wrote: bool,
}

struct Machine {
    segment: Segment<File>,
    journal: Journal,
    effects: Effects,
    /// The files that the manifest names, and how many numbers the base before them holds.
    files: Vec<Arc<File>>,
    base: u64,
    /// A cut that is becoming a base: its number.
    basing: Option<u64>,
    running: Vec<Running>,
    rng: fastrand::Rng,
    pace: Pace,
    now_ms: i64,
    count: u64,
    waiting: Vec<Turn>,
    /// What the runtime has released: it never takes anything back.
    released: u64,
    told: Vec<Acknowledged>,
    /// How long the last sync took.
    last_took_ms: i64,
    syncs: usize,
    restarts: usize,
    /// Those after which the segment was a new one.
    anew: usize,
}

/// What of a segment is whole: its units, where the last ends, and its number.
fn read(bytes: &[u8]) -> (Vec<Item>, u64, u64) {
    let mut reader = Reader::new(true);
    reader.feed(bytes);
    reader.end_input();
    let mut items = Vec::new();
    loop {
        match reader.next_item() {
            Ok(Some(item)) => items.push(item),
            Ok(None) => return (items, reader.end(), reader.seq()),
            Err(Fault::Torn { valid_to }) => return (items, valid_to, reader.seq()),
            Err(fault) => panic!("{fault:?}"),
        }
    }
}

/// What a file's disk has when the machine stops.
fn on_disk(file: &Arc<File>, running: &[Running], rng: &mut fastrand::Rng) -> Vec<u8> {
    const SECTOR_BYTES: usize = 16;
    let content = file.0.lock().unwrap();
    let mut bytes = content.durable.clone();
    // Some of the rest may have come there by itself.
    let rest = &content.cached[bytes.len().min(content.cached.len())..];
    if rng.bool() {
        bytes.extend_from_slice(&rest[..rng.usize(..=rest.len())]);
    }
    for Running { operation, .. } in running {
        if let FileOp::WriteThrough { at, bytes: new } = &operation.op
            && Arc::ptr_eq(&operation.file, file)
            && rng.bool()
        {
            // What is written over comes sector by sector, in any order; then the file grows.
            let at = *at as usize;
            let over = bytes.len().saturating_sub(at).min(new.len());
            for from in (0..over).step_by(SECTOR_BYTES).filter(|_| rng.bool()) {
                let to = over.min(from + SECTOR_BYTES);
                bytes[at + from..at + to].copy_from_slice(&new[from..to]);
            }
            if over < new.len() && bytes.len() == at + over {
                bytes.extend_from_slice(&new[over..rng.usize(over..=new.len())]);
            }
        }
    }
    bytes
}

/// The number that comes after those of a unit, if they follow `next` without a gap.
fn numbers_of(item: &Item, mut next: u64) -> u64 {
    let text = String::from_utf8_lossy(&item.commands);
    while text.contains(&format!("\r\n<{next}>\r\n")) {
        next += 1;
    }
    next
}

impl Machine {
    fn new(seed: u64, policy: Policy, pace: Pace) -> Machine {
        let file = Arc::new(File::default());
        let mut effects = Effects::default();
        effects.recording = true;
        let mut machine = Machine {
            segment: Segment::new(file.clone(), policy, 0),
            journal: Journal::default(),
            effects,
            files: vec![file],
            base: 0,
            basing: None,
            running: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
            pace,
            now_ms: 1_000_000,
            count: 0,
            waiting: Vec::new(),
            released: 0,
            told: Vec::new(),
            last_took_ms: 0,
            syncs: 0,
            restarts: 0,
            anew: 0,
        };
        machine.segment.ahead_bytes = machine.rng.usize(2..2_000);
        machine
    }

    fn record(&mut self) {
        self.count += 1;
        let value = format!("<{}>", self.count);
        let words: [&[u8]; 3] = [b"SET", b"k", value.as_bytes()];
        self.effects.record(0, &words);
    }

    fn sync_ms(&mut self) -> i64 {
        match self.pace {
            Pace::Fast => self.rng.i64(1..20),
            Pace::Steady(ms) => ms + self.rng.i64(0..10),
            Pace::Wild if self.rng.u8(..5) == 0 => self.rng.i64(1_000..8_000),
            Pace::Wild => self.rng.i64(1..900),
        }
    }

    /// Clients read, and write so many numbers.
    fn turn(&mut self, writes: u64) {
        (0..writes).for_each(|_| self.record());
        let wrote = !self.effects.records.is_empty();
        let mut operations = Vec::new();
        let (journal, effects) = (&mut self.journal, &mut self.effects);
        let segment = &mut self.segment;
        segment.mind_saving(self.basing.is_some());
        let verdict = segment.commit(journal, effects, self.now_ms, &mut operations);
        let policy = segment.policy();
        for operation in operations {
            self.begin(operation);
        }
        self.released = self.released.max(verdict.released);
        let (gate, count) = (verdict.gate, self.count);
        let turn = Turn {
            gate,
            count,
            policy,
            wrote,
        };
        self.waiting.push(turn);
        let (released, at_ms) = (self.released, self.now_ms);
        for Turn {
            count,
            policy,
            wrote,
            ..
        } in self.waiting.extract_if(.., |turn| turn.gate <= released)
        {
            self.told.push(Acknowledged {
                count,
                at_ms,
                policy,
                wrote,
            });
        }
    }

    fn begin(&mut self, operation: Operation<File>) {
        let is_sync = !matches!(operation.op, FileOp::Write { .. });
        let takes_ms = match is_sync {
            true => self.sync_ms(),
            // A write waits for the sync beside it, now and then.
            false => self.rng.i64(0..30),
        };
        let covers = operation.file.0.lock().unwrap().cached.clone();
        let ends_ms = self.now_ms + takes_ms;
        let begun_ms = self.now_ms;
        self.running.push(Running {
            operation,
            is_sync,
            begun_ms,
            ends_ms,
            covers,
        });
    }

    /// Time passes, and what is over by then is reported.
    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        self.running.sort_by_key(|it| it.ends_ms);
        while self
            .running
            .first()
            .is_some_and(|it| it.ends_ms <= self.now_ms)
        {
            let Running {
                operation,
                begun_ms,
                covers,
                ..
            } = self.running.remove(0);
            let Operation { file, tag, op } = operation;
            let bytes = match op {
                FileOp::Write { at, bytes } => {
                    file.write_at(&bytes, at).unwrap();
                    bytes
                }
                FileOp::WriteThrough { at, bytes } => {
                    file.write_at(&bytes, at).unwrap();
                    self.last_took_ms = self.now_ms - begun_ms;
                    self.syncs += 1;
                    let content = &mut *file.0.lock().unwrap();
                    let (at, end) = (at as usize, at as usize + bytes.len());
                    let len = content.durable.len();
                    assert!(len >= at, "what stands before was synced");
                    content.durable.resize(len.max(end), 0);
                    content.durable[at..end].copy_from_slice(&bytes);
                    bytes
                }
                _ => {
                    let durable = &mut file.0.lock().unwrap().durable;
                    if covers.len() > durable.len() {
                        *durable = covers;
                    }
                    Vec::new()
                }
            };
            let result = Ok(bytes.len());
            let done = FileDone { tag, result, bytes };
            match of_journal(tag) {
                Some(is_write) => {
                    if !is_write {
                        self.last_took_ms = self.now_ms - begun_ms;
                        self.syncs += 1;
                    }
                    self.segment.file_done(done, is_write, self.now_ms);
                }
                None if is_old_sync(tag) => self.segment.old_synced(&done.result, self.now_ms),
                None => unreachable!("segments ask for nothing else"),
            }
        }
    }

    /// A rewrite begins.
    fn cut(&mut self) {
        let file = Arc::new(File::default());
        self.segment.next = Some(file.clone());
        self.files.push(file);
        self.basing = Some(self.count);
        self.journal.begin_segment(&mut self.effects);
        self.turn(0);
    }

    /// The base is durable: the files before it are not needed.
    fn end_rewrite(&mut self) {
        if let Some(base) = self.basing.take() {
            self.base = base;
            self.files.drain(..self.files.len() - 1);
            self.segment.mend();
        }
    }

    /// How many numbers, from 1 on, the next server finds without a gap.
    fn survivors(&mut self) -> u64 {
        let mut next = self.base + 1;
        for file in &self.files {
            let bytes = on_disk(file, &self.running, &mut self.rng);
            for item in &read(&bytes).0 {
                next = numbers_of(item, next);
            }
        }
        next - 1
    }

    /// The server ends, with the machine or without it, and the next one goes on with the last
    /// segment; after a gap, with a new one.
    fn restart(&mut self, power_cut: bool, about: &str) {
        let there = match power_cut {
            true => self.cut_power(),
            false => self.end_process(),
        };
        let told = |told: &Acknowledged| told.count > there && told.policy == Policy::Always;
        assert!(!self.told.iter().any(told), "{about}: restarted at {there}");
        // What was lost was allowed to be: nobody asks for it again.
        self.told.retain(|told| told.count <= there);
        let policy = self.segment.policy();
        let (mut census, mut tail) = (Census::new(false), Tail::default());
        for (number, file) in self.files.iter().enumerate() {
            let content = &mut *file.0.lock().unwrap();
            let (items, at, seq) = read(&content.cached);
            items.iter().for_each(|item| census.note(number, 0, item));
            tail = census.tail(number, 0, seq, at);
            content.cached.truncate(at as usize);
            content.durable.clone_from(&content.cached);
        }
        if !census.is_whole() {
            self.files.push(Arc::default());
            tail = Tail::default();
            self.anew += 1;
        }
        let file = self.files.last().unwrap().clone();
        let kept_max_bytes = self.segment.kept_max_bytes;
        let rests = self.segment.rests;
        let ahead_bytes = self.segment.ahead_bytes;
        self.segment = Segment::new(file, policy, 0);
        self.segment.resume(tail.at);
        self.segment.kept_max_bytes = kept_max_bytes;
        self.segment.rests = rests;
        self.segment.ahead_bytes = ahead_bytes;
        self.journal = Journal::resume(&tail);
        self.effects.records.clear();
        self.running.clear();
        self.waiting.clear();
        (self.basing, self.released, self.count) = (None, 0, there);
        self.restarts += 1;
    }

    /// The machine stops: all files are what their disks have of them. Returns the last number.
    fn cut_power(&mut self) -> u64 {
        for file in &self.files {
            let bytes = on_disk(file, &self.running, &mut self.rng);
            let content = &mut *file.0.lock().unwrap();
            content.cached.clone_from(&bytes);
            content.durable = bytes;
        }
        self.running.clear();
        self.survivors()
    }

    /// The process is killed; what the kernel has been asked to write, it writes or not.
    fn end_process(&mut self) -> u64 {
        for Running { operation, .. } in self.running.drain(..) {
            if let FileOp::Write { at, bytes } | FileOp::WriteThrough { at, bytes } = operation.op {
                let len = self.rng.usize(..=bytes.len());
                operation.file.write_at(&bytes[..len], at).unwrap();
            }
        }
        // The next server has all of it synced before it serves.
        for file in &self.files {
            let content = &mut *file.0.lock().unwrap();
            content.durable.clone_from(&content.cached);
        }
        let there = self.survivors();
        let lost = self
            .told
            .iter()
            .find(|told| told.count > there && told.wrote);
        let lost = lost.map(|told| told.count);
        assert_eq!(lost, None, "a killed process has {there}");
        there
    }

    /// Something at random.
    fn step(&mut self, policies: &[Policy]) {
        let ms = self.rng.i64(0..TURN_MS);
        self.pass(ms);
        match self.rng.u16(..400) {
            0..200 => {
                let writes = self.rng.u64(1..4);
                self.turn(writes);
            }
            200..204 if self.files.len() < 9 && self.basing.is_none() => self.cut(),
            204..210 => self.end_rewrite(),
            210..216 => {
                let policy = policies[self.rng.usize(..policies.len())];
                self.segment.set_policy(policy);
                self.turn(0);
            }
            _ => self.turn(0),
        }
    }

    /// The machine stops now. Returns how many turns' replies told of something that is lost.
    fn stop(&mut self, about: &str) -> usize {
        let there = self.survivors();
        let grace_ms = match self.pace {
            Pace::Wild => {
                // Of the current file, or of the one before.
                let syncs = self.running.iter().filter(|it| it.is_sync);
                let begun_ms = syncs.map(|it| it.begun_ms).min();
                let under_way_ms = self.now_ms - begun_ms.unwrap_or(self.now_ms);
                self.last_took_ms.max(1_000) + under_way_ms + 2 * TURN_MS
            }
            Pace::Fast | Pace::Steady(_) => 1_000,
        };
        let mut lost = 0;
        for told in &self.told {
            if told.count <= there {
                continue;
            }
            let age_ms = self.now_ms - told.at_ms;
            match told.policy {
                Policy::Always => panic!("{about}: told of {}, {there} are there", told.count),
                Policy::EverySec if told.wrote && age_ms > grace_ms => panic!(
                    "{about}: told of {} {age_ms} ms ago, {there} are there, at most {grace_ms} ms",
                    told.count
                ),
                _ => lost += usize::from(told.wrote),
            }
        }
        lost
    }
}

/// Runs machines with these policies. Returns how much was told of and lost within what is allowed,
/// and how many syncs there were.
fn stop_machines(seeds: u64, paces: &[Pace], policies: &[Policy]) -> (usize, usize) {
    let (mut lost, mut syncs) = (0, 0);
    for seed in 0..seeds {
        let pace = paces[seed as usize % paces.len()];
        let mut machine = Machine::new(seed, policies[0], pace);
        if seed % 3 == 0 {
            machine.segment.kept_max_bytes = seed;
        }
        machine.segment.rests = policies.len() > 1 && seed % 2 == 0;
        for _ in 0..machine.rng.usize(20..2_000) {
            machine.step(policies);
        }
        let about = format!("seed {seed}, {pace:?}, {policies:?}");
        lost += machine.stop(&about);
        syncs += machine.syncs;
        // Nothing waits for ever.
        let told = machine.told.len() + machine.waiting.len();
        for _ in 0..2_000 {
            machine.pass(TURN_MS);
            machine.turn(0);
        }
        assert!(machine.waiting.is_empty(), "{about}");
        assert_eq!(machine.told.len(), told + 2_000, "{about}");
        machine.stop(&about);
        let is_synced = machine.segment.policy() != Policy::No;
        assert!(
            !is_synced || machine.survivors() == machine.count,
            "{about}"
        );
    }
    (lost, syncs)
}

const STEADY: [Pace; 6] = [
    Pace::Fast,
    Pace::Steady(30),
    Pace::Steady(100),
    Pace::Steady(200),
    Pace::Steady(300),
    Pace::Steady(400),
];

#[test]
fn everysec_loses_nothing_that_is_older_than_a_second() {
    let (lost, syncs) = stop_machines(300, &STEADY, &[Policy::EverySec]);
    assert!(lost > 300, "{lost} were lost");
    assert!(syncs > 2_000, "{syncs} syncs");
}

#[test]
fn a_slow_sync_prolongs_the_second_by_what_it_takes() {
    let (lost, _) = stop_machines(300, &[Pace::Wild], &[Policy::EverySec]);
    assert!(lost > 300, "{lost} were lost");
}

#[test]
fn always_loses_nothing_that_was_heard_of() {
    let paces = [Pace::Fast, Pace::Steady(100), Pace::Wild];
    let (lost, syncs) = stop_machines(150, &paces, &[Policy::Always]);
    assert_eq!(lost, 0);
    assert!(syncs > 2_000, "{syncs} syncs");
}

/// Under a policy that has just come nothing leaves that an older one left in the air.
#[test]
fn a_policy_that_changes_breaks_no_promise() {
    let mut lost = 0;
    for policies in [
        &[Policy::EverySec, Policy::Always][..],
        &[Policy::No, Policy::Always],
        &[Policy::EverySec, Policy::No],
        &[Policy::Always, Policy::EverySec, Policy::No],
    ] {
        lost += stop_machines(150, &[Pace::Wild, Pace::Fast, Pace::Steady(200)], policies).0;
    }
    assert!(lost > 300, "{lost} were lost");
}

/// A server that starts goes on with the last segment: what it tells of then stands behind what was
/// there, and none of the promises of the servers before is broken.
#[test]
fn servers_that_go_on_with_a_segment_break_no_promise() {
    let paces = [Pace::Fast, Pace::Steady(100), Pace::Wild];
    let (mut restarts, mut anew) = (0, 0);
    for policies in [
        &[Policy::Always][..],
        &[Policy::EverySec],
        &[Policy::EverySec, Policy::Always, Policy::No],
    ] {
        for seed in 0..150 {
            let mut machine = Machine::new(seed, policies[0], paces[seed as usize % 3]);
            let about = format!("seed {seed}, {policies:?}");
            for _ in 0..machine.rng.usize(2..8) {
                for _ in 0..machine.rng.usize(5..300) {
                    machine.step(policies);
                }
                let power_cut = machine.rng.bool();
                machine.restart(power_cut, &about);
            }
            for _ in 0..machine.rng.usize(5..300) {
                machine.step(policies);
            }
            machine.stop(&about);
            restarts += machine.restarts;
            anew += machine.anew;
        }
    }
    assert!(restarts > 1_000, "{restarts} restarts");
    assert!(anew > 10 && anew < restarts / 2, "{anew} with new segments");
}

/// However long the disk stands still: little is told of meanwhile.
#[test]
fn a_disk_that_stands_still_is_waited_for() {
    let mut machine = Machine::new(1, Policy::EverySec, Pace::Steady(60_000));
    machine.turn(1);
    for _ in 0..100 {
        machine.pass(100);
        machine.turn(1);
    }
    let told = machine.told.iter().filter(|told| told.wrote);
    let last_ms = told.map(|told| told.at_ms).max().unwrap();
    assert_eq!(last_ms - 1_000_000, 2_000);
    assert_eq!(machine.segment.delayed_syncs, 1);
    machine.pass(60_000);
    machine.turn(0);
    assert!(machine.waiting.is_empty());
}
