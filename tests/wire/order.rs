//! In which order a replica is told what it is told, while clients write: its replies, its snapshot and
//! the stream come of different shards and at different times, and some of it waits for the disk.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::acks::Follower;
use crate::client::{Client, encode};
use crate::persistence::wait_for;
use crate::process::{Server, Which};

/// Commands of the stream that are looked at each time.
const LOOKED_AT: usize = 200;

fn started(shards: u32, fsync: &str) -> Server {
    let options = ["--repl-diskless-sync-delay", "0", "--appendonly", "yes"];
    let options = [&options[..], &["--appendfsync", fsync]].concat();
    Server::start(Which::Pinion { shards }, &options)
}

/// Whether anybody wants more to be written.
#[derive(Default)]
struct Wanted {
    is_over: AtomicBool,
}

/// Ends it, however the test ends.
struct Guard<'w>(&'w Wanted);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

impl Wanted {
    fn guard(&self) -> Guard<'_> {
        Guard(self)
    }

    fn write_on(&self, mut client: Client, requests: &[Vec<u8>]) {
        while !self.is_over.load(Ordering::Relaxed) {
            client.send(&requests.concat());
            client.replies(requests.len());
        }
    }
}

/// The next value of the counter in the stream.
fn next_count(follower: &mut Follower) -> u64 {
    loop {
        if let [set, key, value] = &follower.command()[..]
            && key == "counter"
        {
            assert_eq!(set.to_lowercase(), "set");
            return value.parse().expect("a number");
        }
    }
}

/// Neither is a replica sent its snapshot before it is told of it, nor anything twice.
#[test]
fn the_stream_goes_on_where_it_was_while_writes_wait_for_the_disk() {
    for (shards, fsync) in [(1, "always"), (2, "always"), (1, "everysec")] {
        let server = started(shards, fsync);
        let wanted = Wanted::default();
        let script = "return redis.call('set', KEYS[1], (redis.call('get', KEYS[1]) or 0) + 1)";
        let count = encode(&["EVAL", script, "1", "counter"]);
        thread::scope(|scope| {
            let _guard = wanted.guard();
            for _ in 0..2 {
                let (client, requests) = (server.client(), [count.clone(), count.clone()]);
                let wanted = &wanted;
                scope.spawn(move || wanted.write_on(client, &requests));
            }
            for _ in 0..3 {
                let mut follower = Follower::of(&server);
                let mut last = next_count(&mut follower);
                for time in 0..10 {
                    for _ in 0..LOOKED_AT {
                        let next = next_count(&mut follower);
                        assert_eq!(next, last + 1, "{shards} shards, {fsync}, time {time}");
                        last = next;
                    }
                    follower.come_back(&server);
                }
            }
        });
    }
}

/// A transaction that waits for what all nodes say takes nothing of what others do meanwhile for its own.
#[test]
fn transactions_of_others_stand_beside_one_that_asks_the_nodes() {
    let server = started(1, "everysec");
    let mut follower = Follower::of(&server);
    let wanted = Wanted::default();
    let mut asking = server.client();
    let ask = [encode(&["MULTI"]), encode(&["INFO"]), encode(&["EXEC"])].concat();
    thread::scope(|scope| {
        let _guard = wanted.guard();
        for name in ["a", "b"] {
            let (client, wanted) = (server.client(), &wanted);
            let requests = [
                encode(&["MSET", name, "1", &format!("{name}2"), "2"]),
                encode(&["INCR", &format!("{name}3")]),
            ];
            scope.spawn(move || wanted.write_on(client, &requests));
        }
        for _ in 0..100 {
            asking.send(&ask);
            asking.replies(3);
        }
        // The others may have been slower.
        wait_for("100 transactions of another", || {
            asking.send(&ask);
            asking.replies(3);
            asking.text("STRLEN a3") == ":3\\r\\n"
        });
    });
    asking.call(&["SET", "end", "1"]);
    let (mut open, mut whole) = (false, 0);
    loop {
        let command = follower.command();
        match &command[0].to_lowercase()[..] {
            "multi" => assert!(!std::mem::replace(&mut open, true), "one in another"),
            "exec" => {
                assert!(std::mem::replace(&mut open, false), "without a beginning");
                whole += 1;
            }
            "set" if command[1] == "end" => break,
            _ => {}
        }
    }
    assert!(whole >= 100, "{whole}");
}
