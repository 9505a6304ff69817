use std::sync::Mutex;

use super::*;
use crate::journal::{Item, Reader};

/// A file whose writes and syncs fail now and then. What a sync that failed was to make durable
/// is not dirty any more, as in Linux: the next sync succeeds without it.
struct Faulty(Mutex<Content>);

struct Content {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: Vec<bool>,
    rng: fastrand::Rng,
    fails: bool,
    /// Bytes that it may have.
    limit: usize,
}

impl Faulty {
    fn new(seed: u64, fails: bool) -> Arc<Faulty> {
        Arc::new(Faulty(Mutex::new(Content {
            cached: Vec::new(),
            durable: Vec::new(),
            dirty: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
            fails,
            limit: usize::MAX,
        })))
    }
}

impl Medium for Faulty {
    fn read_exact_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        let content = self.0.lock().unwrap();
        let (from, to) = (at as usize, at as usize + bytes.len());
        bytes.copy_from_slice(&content.cached[from..to]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let content = &mut *self.0.lock().unwrap();
        if content.fails && content.rng.u8(..3) == 0 {
            return Err(io::Error::other("I/O error"));
        }
        let len = len as usize;
        content.cached.truncate(len);
        content.durable.truncate(len);
        content.dirty.truncate(len);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let content = &mut *self.0.lock().unwrap();
        let error = content.fails && content.rng.u8(..3) == 0;
        let n = match content.fails {
            true => content.rng.usize(0..=bytes.len()),
            false => bytes.len(),
        };
        if at as usize + n > content.limit {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (at, end) = (at as usize, at as usize + n);
        let len = content.cached.len().max(end);
        content.cached.resize(len, 0);
        content.durable.resize(len, 0);
        content.dirty.resize(len, false);
        content.cached[at..end].copy_from_slice(&bytes[..n]);
        content.dirty[at..end].fill(true);
        if error {
            let kinds = [io::ErrorKind::StorageFull, io::ErrorKind::Other];
            return Err(kinds[content.rng.usize(..2)].into());
        }
        Ok(n)
    }

    fn sync_data(&self) -> io::Result<()> {
        let content = &mut *self.0.lock().unwrap();
        let error = content.fails && content.rng.u8(..3) == 0;
        for at in 0..content.cached.len() {
            let lost = error && content.rng.bool();
            if std::mem::take(&mut content.dirty[at]) && !lost {
                content.durable[at] = content.cached[at];
            }
        }
        match error {
            true => Err(io::Error::other("I/O error")),
            false => Ok(()),
        }
    }
}

/// How many numbers, from 1 on, stand in the files without a gap.
fn readable(files: &[Arc<Faulty>], durable: bool) -> u64 {
    let mut next = 1;
    for file in files {
        let content = file.0.lock().unwrap();
        let mut reader = Reader::new(true);
        reader.feed(match durable {
            true => &content.durable,
            false => &content.cached,
        });
        reader.end_input();
        while let Ok(Some(Item { commands, .. })) = reader.next_item() {
            let text = String::from_utf8(commands).unwrap();
            while text.contains(&format!("\r\n<{next}>\r\n")) {
                next += 1;
            }
        }
    }
    next - 1
}

struct Bench {
    segment: Segment<Faulty>,
    journal: Journal,
    effects: Effects,
    files: Vec<Arc<Faulty>>,
    running: Vec<Operation<Faulty>>,
    rng: fastrand::Rng,
    now_ms: i64,
    count: u64,
    /// What turns wait for, and the last number of each.
    waiting: Vec<(u64, u64)>,
    acknowledged: u64,
}

impl Bench {
    fn new(seed: u64, policy: Policy) -> Bench {
        let file = Faulty::new(seed, true);
        let mut effects = Effects::default();
        effects.recording = true;
        let mut bench = Bench {
            segment: Segment::new(file.clone(), policy, 0),
            journal: Journal::default(),
            effects,
            files: vec![file],
            running: Vec::new(),
            rng: fastrand::Rng::with_seed(seed),
            now_ms: 1_000_000,
            count: 0,
            waiting: Vec::new(),
            acknowledged: 0,
        };
        bench.segment.ahead_bytes = bench.rng.usize(2..500);
        bench
    }

    fn record(&mut self) {
        self.count += 1;
        let value = format!("<{}>", self.count);
        let words: [&[u8]; 3] = [b"SET", b"k", value.as_bytes()];
        self.effects.record(0, &words);
    }

    fn turn(&mut self, writes: u64) {
        (0..writes).for_each(|_| self.record());
        let wrote = !self.effects.records.is_empty() || self.segment.next.is_some();
        let (journal, effects) = (&mut self.journal, &mut self.effects);
        let verdict = self
            .segment
            .commit(journal, effects, self.now_ms, &mut self.running);
        // Whoever has written nothing is not promised what others wrote.
        if wrote {
            self.waiting.push((verdict.gate, self.count));
        }
        let acknowledged = &mut self.acknowledged;
        self.waiting.retain(|&(gate, last)| {
            if gate <= verdict.released {
                *acknowledged = last.max(*acknowledged);
            }
            gate > verdict.released
        });
    }

    fn cut(&mut self, fails: bool) {
        self.begin_cut(fails);
        self.turn(0);
    }

    /// A cut in the midst of what a turn does.
    fn begin_cut(&mut self, fails: bool) {
        let file = Faulty::new(self.rng.u64(..), fails);
        self.segment.next = Some(file.clone());
        self.files.push(file);
        self.record();
        self.journal.begin_segment(&mut self.effects);
    }

    /// An operation is over.
    fn finish(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let Operation { file, tag, op } = self.running.remove(0);
        let (result, bytes) = match op {
            FileOp::Write { at, bytes } => {
                let result = file.write_all_at(&bytes, at);
                (result.map(|()| bytes.len()), bytes)
            }
            FileOp::WriteThrough { at, bytes } => {
                let written = file.write_all_at(&bytes, at);
                let result = written.and_then(|()| file.sync_data());
                (result.map(|()| bytes.len()), bytes)
            }
            _ => (file.sync_data().map(|()| 0), Vec::new()),
        };
        let done = FileDone { tag, result, bytes };
        match super::super::of_journal(tag) {
            Some(is_write) => self.segment.file_done(done, is_write, self.now_ms),
            None => self.segment.old_synced(&done.result, self.now_ms),
        }
    }
}

/// Faults at random; then the disk is well again.
fn run(seed: u64, policy: Policy) -> (u64, bool) {
    let mut bench = Bench::new(seed, policy);
    let is_always = policy == Policy::Always;
    let mut failed = false;
    for _ in 0..150 {
        match bench.rng.u8(..20) {
            0..8 => bench.finish(),
            8 if bench.files.len() < 4 => bench.cut(true),
            _ => {
                let writes = bench.rng.u64(..3);
                bench.turn(writes);
            }
        }
        bench.now_ms += bench.rng.i64(0..200);
        failed |= bench.segment.failure().is_some();
        let there = readable(&bench.files, is_always);
        let promised = bench.acknowledged;
        assert!(
            there >= promised,
            "{policy:?}, seed {seed}: {promised} were acknowledged, {there} are there"
        );
    }
    for file in &bench.files {
        file.0.lock().unwrap().fails = false;
    }
    for _ in 0..30 {
        bench.now_ms += 300;
        bench.finish();
        bench.turn(0);
    }
    // Under the other policies what is lost is made up for by a base.
    if bench.segment.sync_failed {
        assert!(!is_always, "seed {seed}: nothing was to be lost");
        bench.cut(false);
        for _ in 0..10 {
            bench.turn(0);
            bench.finish();
        }
        assert!(bench.segment.mend(), "seed {seed}");
    }
    assert_eq!(
        bench.segment.failure(),
        None,
        "{policy:?}, seed {seed} did not recover"
    );
    assert!(bench.waiting.is_empty(), "{policy:?}, seed {seed}");
    assert_eq!(readable(&bench.files, is_always), bench.count);
    (bench.count, failed)
}

#[test]
fn nothing_is_acknowledged_that_a_failing_disk_has_not_got() {
    for policy in [Policy::Always, Policy::EverySec, Policy::No] {
        let runs: Vec<_> = (0..150).map(|seed| run(seed, policy)).collect();
        let failed = runs.iter().filter(|(_, failed)| *failed).count();
        assert!(failed > 100, "{failed} runs saw a fault");
        assert!(runs.iter().all(|(count, _)| *count > 20));
    }
}

#[test]
fn a_disk_without_room_ahead_takes_what_it_has_room_for() {
    let mut bench = Bench::new(1, Policy::Always);
    bench.segment.ahead_bytes = 2_000;
    {
        let mut content = bench.files[0].0.lock().unwrap();
        (content.fails, content.limit) = (false, 1_000);
    }
    for count in 1..=8 {
        bench.turn(1);
        for _ in 0..2 {
            bench.finish();
            bench.turn(0);
        }
        assert_eq!(bench.segment.failure(), None);
        assert_eq!(bench.acknowledged, count);
        // Room is tried again now and then.
        bench.now_ms += 120;
    }
    (0..80).for_each(|_| bench.turn(1));
    bench.finish();
    bench.turn(0);
    bench.finish();
    assert!(bench.segment.failure().is_some(), "the disk is full");
}

#[test]
fn what_is_too_much_to_keep_is_synced_before_always_promises_anything() {
    let mut failed = 0;
    for seed in 0..30 {
        let mut bench = Bench::new(seed, Policy::EverySec);
        bench.files[0].0.lock().unwrap().fails = false;
        (0..50).for_each(|_| bench.turn(1));
        bench.segment.kept_max_bytes = 1;
        bench.files[0].0.lock().unwrap().fails = true;
        bench.segment.set_policy(Policy::Always);
        let content = bench.files[0].0.lock().unwrap();
        // Either all of it is there, or writes are refused until a base is.
        match bench.segment.failure() {
            Some(_) => failed += 1,
            None => assert_eq!(content.durable, content.cached, "seed {seed}"),
        }
    }
    assert!(failed > 3 && failed < 27, "{failed} of 30 failed");
}

#[test]
fn the_end_of_a_segment_is_complete_whatever_was_under_way() {
    for seed in 0..100 {
        for policy in [Policy::Always, Policy::EverySec] {
            let mut bench = Bench::new(seed, policy);
            bench.files[0].0.lock().unwrap().fails = false;
            for _ in 0..30 {
                match bench.rng.u8(..10) {
                    0..3 => bench.finish(),
                    3 if bench.files.len() < 4 => bench.cut(false),
                    _ => bench.turn(1),
                }
                bench.now_ms += bench.rng.i64(0..600);
            }
            while bench.segment.is_busy() {
                bench.finish();
            }
            // All that the last turn does belongs to it, and is in no file yet.
            bench.record();
            if bench.rng.bool() {
                bench.begin_cut(false);
                bench.record();
            }
            let (journal, effects) = (&mut bench.journal, &mut bench.effects);
            bench.segment.close(journal, effects).unwrap();
            // What is under way now, the end of the process may take back.
            bench.running.clear();
            assert_eq!(readable(&bench.files, true), bench.count, "seed {seed}");
        }
    }
}

#[test]
fn who_waits_for_a_unit_waits_for_no_more() {
    let mut bench = Bench::new(1, Policy::No);
    bench.segment = Segment::new(Faulty::new(1, false), Policy::No, 0);
    let waiter = |id, hurries| Waiter {
        node: 0,
        id,
        hurries,
    };
    let over = |bench: &mut Bench| -> Vec<u64> {
        let over = bench.segment.take_synced();
        over.iter().map(|waiter| waiter.id).collect()
    };
    let turns = |bench: &mut Bench| {
        for _ in 0..8 {
            bench.turn(0);
            bench.finish();
        }
    };
    bench.turn(1);
    let own = bench.effects.units;
    bench.segment.when_synced(waiter(1, false), own);
    turns(&mut bench);
    assert!(over(&mut bench).is_empty() && !bench.segment.has_synced(own));
    bench.segment.when_synced(waiter(2, true), own);
    turns(&mut bench);
    assert!(bench.segment.has_synced(own));
    assert_eq!(over(&mut bench), [1, 2]);
    // What came since is not waited for.
    bench.turn(1);
    bench.segment.when_synced(waiter(3, true), own);
    assert_eq!(over(&mut bench), [3]);
    bench.turn(0);
    assert!(bench.running.is_empty());
    assert!(!bench.segment.has_synced(bench.effects.units));
}
