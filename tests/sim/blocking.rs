//! Waiting clients: each element goes to exactly one of them, first come first served.

use std::collections::BTreeSet;

use crate::world::{Typist, World};

fn text(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).replace("\r\n", "|")
}

fn clients(world: &mut World, shards: usize, count: usize) -> Vec<Typist> {
    (0..count).map(|n| world.connect(n % shards)).collect()
}

#[test]
fn clients_are_served_in_the_order_in_which_they_came() {
    for shards in [1, 2, 4] {
        let mut world = World::new(shards, 1);
        let waiting = clients(&mut world, shards, 5);
        let pusher = world.connect(0);
        for &client in &waiting {
            world.send_line(client, &["BLPOP", "a", "b", "0"]);
            world.settle();
        }
        world.ask(pusher, &["RPUSH", "b", "1", "2"]);
        world.ask(pusher, &["RPUSH", "a", "3"]);
        let replies: Vec<String> = waiting.iter().map(|&c| text(&world.received(c))).collect();
        let expected = ["*2|$1|b|$1|1|", "*2|$1|b|$1|2|", "*2|$1|a|$1|3|", "", ""];
        assert_eq!(replies, expected, "{shards} shards");
        assert_eq!(text(&world.ask(pusher, &["EXISTS", "a", "b"])), ":0|");
        waiting[3..]
            .iter()
            .for_each(|&client| world.disconnect(client));
        world.settle();
        world.assert_quiet();
    }
}

/// Who is seen to wait stands before those who come then, wherever they come from.
#[test]
fn who_is_known_to_wait_is_served_before_others() {
    for (shards, seed) in [2, 4]
        .into_iter()
        .flat_map(|n| (0..40).map(move |s| (n, s)))
    {
        let mut world = World::new(shards, seed);
        let home = world.home("a");
        let first = world.connect((home + 1) % shards);
        let (second, pusher) = (world.connect(home), world.connect(home));
        world.send_line(first, &["BLPOP", "a", "b", "c", "0"]);
        while world.blocked_count() == 0 {
            assert!(world.step(), "it waits: {shards} shards, seed {seed}");
        }
        world.send_line(second, &["BLPOP", "a", "0"]);
        world.settle();
        world.ask(pusher, &["RPUSH", "a", "1"]);
        let served = text(&world.received(first));
        assert_eq!(served, "*2|$1|a|$1|1|", "{shards} shards, seed {seed}");
        world.disconnect(second);
        world.settle();
        world.assert_quiet();
    }
}

#[test]
fn waits_end_in_time_and_leave_nothing_behind() {
    for shards in [1, 2, 4] {
        let mut world = World::new(shards, 2);
        let waiting = clients(&mut world, shards, 3);
        for (client, seconds) in waiting.iter().zip(["0.05", "0.2", "0"]) {
            world.send_line(*client, &["BZPOPMIN", "a", "b", "c", seconds]);
            world.settle();
        }
        // The millisecond in which it began may have been nearly over.
        world.advance_ms(50);
        world.settle();
        assert_eq!(text(&world.received(waiting[0])), "");
        world.advance_ms(1);
        world.settle();
        assert_eq!(text(&world.received(waiting[0])), "*-1|");
        let adder = world.connect(0);
        world.ask(adder, &["ZADD", "c", "5", "m"]);
        assert_eq!(text(&world.received(waiting[1])), "*3|$1|c|$1|m|$1|5|");
        world.disconnect(waiting[2]);
        world.settle();
        world.ask(adder, &["ZADD", "c", "5", "m"]);
        assert_eq!(text(&world.ask(adder, &["ZCARD", "c"])), ":1|");
        world.assert_quiet();
    }
}

/// A client whose time is up while its homes still look hears nothing before what they found is told.
#[test]
fn no_wait_ends_before_it_began() {
    for (shards, seed) in [2, 4]
        .into_iter()
        .flat_map(|n| (0..40).map(move |seed| (n, seed)))
    {
        let mut world = World::new(shards, seed);
        world.listen_for_misses();
        let client = world.connect(0);
        let names = ["a", "b", "c", "d"];
        let read = [
            "XREAD", "BLOCK", "1", "STREAMS", "a", "b", "c", "d", "0", "0", "0", "0",
        ];
        world.send_line(client, &read);
        for _ in 0..seed {
            world.step();
        }
        world.advance_ms(5);
        while world.received(client).is_empty() {
            assert!(world.step(), "no reply: {shards} shards, seed {seed}");
        }
        let missed: BTreeSet<&str> = world.announced.iter().map(|(_, key)| &**key).collect();
        assert_eq!(
            missed,
            BTreeSet::from(names),
            "{shards} shards, seed {seed}"
        );
        world.settle();
        world.assert_quiet();
    }
}

#[test]
fn elements_travel_along_chains_of_waiting_moves() {
    for shards in [1, 2, 4] {
        for seed in 0..8 {
            let mut world = World::new(shards, seed);
            let movers = clients(&mut world, shards, 3);
            let last = world.connect(shards - 1);
            for (client, (from, to)) in movers.iter().zip([("a", "b"), ("b", "c"), ("c", "d")]) {
                world.send_line(*client, &["BLMOVE", from, to, "LEFT", "RIGHT", "0"]);
            }
            world.send_line(last, &["BRPOP", "d", "0"]);
            world.settle();
            let pusher = world.connect(0);
            world.ask(pusher, &["RPUSH", "a", "x"]);
            assert_eq!(text(&world.received(last)), "*2|$1|d|$1|x|", "seed {seed}");
            for client in movers {
                assert_eq!(text(&world.received(client)), "$1|x|", "seed {seed}");
            }
            assert_eq!(text(&world.ask(pusher, &["DBSIZE"])), ":0|");
            world.assert_quiet();
        }
    }
}

/// Many clients push, pop, wait and move at once, in every order of delivery: no element is lost and
/// none is seen twice.
#[test]
fn every_element_goes_to_exactly_one_client() {
    for shards in [1, 2, 4] {
        for seed in 0..20 {
            let mut world = World::new(shards, seed);
            let waiting = clients(&mut world, shards, 6);
            let pushers = clients(&mut world, shards, 3);
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut pushed, mut got) = (0, Vec::new());
            for _ in 0..120 {
                let key = |rng: &mut fastrand::Rng| format!("k{}", rng.u8(..4));
                let client = waiting[rng.usize(..waiting.len())];
                match rng.u8(..4) {
                    0 => {
                        let words = ["BLPOP", &key(&mut rng), &key(&mut rng), "0.5"];
                        world.send_line(client, &words);
                    }
                    1 => {
                        let words = [
                            "BLMPOP",
                            "0.3",
                            "2",
                            &key(&mut rng),
                            &key(&mut rng),
                            "RIGHT",
                        ];
                        world.send_line(client, &words);
                    }
                    2 => {
                        let (from, to) = (key(&mut rng), key(&mut rng));
                        world
                            .send_line(pushers[0], &["BLMOVE", &from, &to, "LEFT", "RIGHT", "0.1"]);
                    }
                    _ => {
                        pushed += 1;
                        let pusher = pushers[1 + rng.usize(..2)];
                        world.send_line(pusher, &["RPUSH", &key(&mut rng), &format!("e{pushed}")]);
                    }
                }
                for _ in 0..rng.usize(..6) {
                    world.step();
                }
                if rng.u8(..8) == 0 {
                    world.advance_ms(rng.i64(1..200));
                }
            }
            for _ in 0..400 {
                world.settle();
                world.advance_ms(600);
            }
            world.settle();
            for &client in &waiting {
                let reply = text(&world.received(client));
                got.extend(
                    reply
                        .split('|')
                        .filter(|word| word.starts_with('e'))
                        .map(str::to_owned),
                );
            }
            let reader = world.connect(0);
            for n in 0..4 {
                let key = format!("k{n}");
                let left = text(&world.ask(reader, &["LRANGE", &key, "0", "-1"]));
                got.extend(
                    left.split('|')
                        .filter(|word| word.starts_with('e'))
                        .map(str::to_owned),
                );
            }
            got.sort();
            let mut expected: Vec<String> = (1..=pushed).map(|n| format!("e{n}")).collect();
            expected.sort();
            assert_eq!(got, expected, "{shards} shards, seed {seed}");
            world.assert_quiet();
        }
    }
}

/// Redis: blocked.c handleClientsBlockedOnLists looks a key up for its waiters, whose time may have
/// come in another database.
#[test]
fn what_is_due_and_swapped_to_a_waiting_client_goes() {
    for shards in [1, 2, 4] {
        for pop in [
            &["BLPOP", "a", "b", "0"][..],
            &["BZPOPMIN", "b", "0"],
            &["XREAD", "BLOCK", "0", "STREAMS", "b", "$"],
        ] {
            let mut world = World::new(shards, 3);
            let (waiting, other) = (world.connect(0), world.connect(shards - 1));
            world.ask(waiting, &["SELECT", "1"]);
            world.send_line(waiting, pop);
            world.settle();
            world.ask(other, &["RPUSH", "b", "x"]);
            world.ask(other, &["RPUSH", "c", "x"]);
            world.ask(other, &["PEXPIRE", "b", "10"]);
            world.ask(other, &["PEXPIRE", "c", "10"]);
            world.tick_ms(20);
            assert_eq!(text(&world.ask(other, &["SWAPDB", "0", "1"])), "+OK|");
            assert_eq!(world.expired(), 1, "{shards} shards: {pop:?}");
            assert_eq!(text(&world.received(waiting)), "");
            world.disconnect(waiting);
            world.settle();
            world.assert_quiet();
        }
    }
}

/// What nobody acknowledges goes to who waits to claim it, as soon as it has been pending for long
/// enough; until then to nobody.
#[test]
fn who_waits_for_what_others_do_not_acknowledge_is_served_in_time() {
    for shards in [1, 2, 4] {
        let mut world = World::new(shards, 3);
        let (reader, claims) = (world.connect(0), world.connect(shards - 1));
        for key in ["a", "b", "c"] {
            world.ask(reader, &["XGROUP", "CREATE", key, "g", "0", "MKSTREAM"]);
        }
        let read = ["XREADGROUP", "GROUP", "g", "r", "STREAMS", "b", ">"];
        let claim = [
            "XREADGROUP",
            "GROUP",
            "g",
            "w",
            "BLOCK",
            "0",
            "CLAIM",
            "100",
            "STREAMS",
            "a",
            "b",
            "c",
            ">",
            ">",
            ">",
        ];
        world.ask(reader, &["XADD", "b", "1-0", "f", "v"]);
        world.ask(reader, &read);
        world.advance_ms(40);
        world.send_line(claims, &claim);
        world.settle();
        world.advance_ms(59);
        world.settle();
        assert_eq!(text(&world.received(claims)), "", "{shards} shards");
        world.advance_ms(1);
        world.settle();
        let entry = |idle: u32, times: u32| {
            format!("*1|*2|$1|b|*1|*4|$3|1-0|*2|$1|f|$1|v|:{idle}|:{times}|")
        };
        assert_eq!(
            text(&world.received(claims)),
            entry(100, 1),
            "{shards} shards"
        );
        // What comes into being while it waits is noticed as well, and what goes is not missed.
        world.ask(reader, &["XACK", "b", "g", "1-0"]);
        world.send_line(claims, &claim);
        world.settle();
        let mut forced: Vec<&str> = "XCLAIM b g r 0 1-0 FORCE JUSTID".split(' ').collect();
        world.ask(reader, &forced);
        world.advance_ms(90);
        forced.pop();
        world.ask(reader, &forced);
        world.advance_ms(90);
        world.settle();
        assert_eq!(text(&world.received(claims)), "", "{shards} shards");
        world.advance_ms(10);
        world.settle();
        assert_eq!(
            text(&world.received(claims)),
            entry(100, 2),
            "{shards} shards"
        );
        world.send_line(claims, &claim);
        world.settle();
        world.disconnect(claims);
        world.settle();
        world.advance_ms(1000);
        world.settle();
        world.assert_quiet();
    }
}

/// Of those who wait for one stream, each takes what is there for it when its turn comes.
#[test]
fn who_claims_later_gets_what_who_came_first_did_not_acknowledge() {
    let mut world = World::new(2, 4);
    let producer = world.connect(0);
    let (first, second) = (world.connect(0), world.connect(1));
    world.ask(producer, &["XGROUP", "CREATE", "s", "g", "0", "MKSTREAM"]);
    let words = |line: &'static str| line.split(' ').collect::<Vec<_>>();
    world.send_line(first, &words("XREADGROUP GROUP g one BLOCK 0 STREAMS s >"));
    world.settle();
    world.send_line(
        second,
        &words("XREADGROUP GROUP g two BLOCK 0 CLAIM 100 STREAMS s >"),
    );
    world.settle();
    world.ask(producer, &words("XADD s 1-0 f v"));
    let fields = "$3|1-0|*2|$1|f|$1|v|";
    assert_eq!(
        text(&world.received(first)),
        format!("*1|*2|$1|s|*1|*2|{fields}")
    );
    assert_eq!(text(&world.received(second)), "");
    world.advance_ms(100);
    world.settle();
    let claimed = format!("*1|*2|$1|s|*1|*4|{fields}:100|:1|");
    assert_eq!(text(&world.received(second)), claimed);
    world.assert_quiet();
}
