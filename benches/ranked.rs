//! The order of sorted sets: inserts in random and in ascending order, ranks, walks and removals.
//!
//! `cargo bench --bench ranked` runs with a million members; `cargo test` with ten thousand. The
//! last line is a hash of the answers: it changes only with behaviour.

use std::cmp::Ordering;
use std::hint::black_box;
use std::time::Instant;

use pinion::value::ranked::Ranked;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MEMBERS_MAX: u32 = 1_000_000;
const MEMBERS_SMALL: u32 = 10_000;
/// Elements of a range read.
const PAGE: usize = 100;

fn measure(what: &str, times: u32, mut op: impl FnMut(u32)) {
    let begun = Instant::now();
    (0..times).for_each(&mut op);
    report(what, times, begun);
}

fn report(what: &str, times: u32, begun: Instant) {
    let ns = begun.elapsed().as_nanos() as f64 / f64::from(times);
    println!("{what:<36} {ns:8.1} ns");
}

fn memory(what: &str, tree: &Ranked) {
    let bytes = tree.memory_bytes() as f64 / tree.len() as f64;
    println!("{what:<36} {bytes:8.1} bytes per element");
}

/// The members' bytes, apart from the tree as in a sorted set.
struct Members(Vec<[u8; 16]>);

impl Members {
    fn by(&self, id: u32) -> impl Fn(u32) -> Ordering {
        move |other| self.0[id as usize].cmp(&self.0[other as usize])
    }
}

fn fill(what: &str, members: &Members, score: impl Fn(u32) -> f64) -> Ranked {
    let mut tree = Ranked::default();
    let count = members.0.len() as u32;
    measure(what, count, |id| {
        tree.insert(score(id), id, members.by(id));
    });
    memory(what, &tree);
    tree
}

fn main() {
    let count = if std::env::args().any(|arg| arg == "--bench") {
        MEMBERS_MAX
    } else {
        MEMBERS_SMALL
    };
    let mut rng = fastrand::Rng::with_seed(1);
    let members = (0..count).map(|_| rng.u128(..).to_be_bytes()).collect();
    let members = Members(members);
    let scores: Vec<f64> = (0..count).map(|_| rng.f64()).collect();
    let mut hash = 0u64;
    let mut mix = |n: u64| hash = hash.wrapping_mul(31).wrapping_add(n);

    let ascending = fill("insert, ascending", &members, f64::from);
    drop(fill("insert, a score of a thousand", &members, |id| {
        (scores[id as usize] * 1000.0).floor()
    }));
    let mut tree = fill("insert, random", &members, |id| scores[id as usize]);
    measure("rank", count, |n| {
        let id = (u64::from(n) * 7919 % u64::from(count)) as u32;
        mix(tree.rank(scores[id as usize], members.by(id)) as u64);
    });
    measure("get", count, |n| {
        let rank = (u64::from(n) * 7919 % u64::from(count)) as usize;
        mix(tree.get(rank).map_or(0, |(_, id)| u64::from(id)));
    });
    measure("partition point", count, |n| {
        let least = scores[n as usize];
        mix(tree.partition_point(|score, _| score < least) as u64);
    });
    measure("page of 100 up", count / 10, |n| {
        let page = tree.iter_from(n as usize * 10).take(PAGE);
        black_box(page.map(|(_, id)| u64::from(id)).sum::<u64>());
    });
    measure("page of 100 down", count / 10, |n| {
        let page = tree.iter_back_from(n as usize * 10).take(PAGE);
        black_box(page.map(|(_, id)| u64::from(id)).sum::<u64>());
    });
    measure("move to another score", count, |id| {
        let score = scores[id as usize];
        assert!(tree.rescore(score, id, score + 0.5, members.by(id)));
    });
    memory("after the moves", &tree);
    let begun = Instant::now();
    let built = Ranked::from_sorted(tree.iter_from(0).collect::<Vec<_>>().into_iter());
    report("copy out and build", count, begun);
    memory("built", &built);
    measure("remove the first", count / 2, |_| {
        tree.remove_range(0, 1, |_, id| mix(u64::from(id)));
    });
    measure("remove", count / 4, |id| {
        let removed = tree.remove(scores[id as usize] + 0.5, id, members.by(id));
        mix(u64::from(removed));
    });
    memory("after the removals", &tree);
    let begun = Instant::now();
    let left = tree.len() as u32;
    tree.remove_range(10, left as usize - 10, |_, id| mix(u64::from(id)));
    report("remove a range, each element", left, begun);
    assert_eq!(tree.len(), 20);
    let begun = Instant::now();
    let mut thrown_away = ascending;
    while thrown_away.free_slice(1000) {}
    report("free in slices, each element", count, begun);
    println!("result {hash:016x}");
}
