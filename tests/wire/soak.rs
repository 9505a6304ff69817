//! Subscribers and caches that come, stall, and die, beside others that listen and publishers that
//! publish: nothing of them is left behind, and who listens hears everything.
//!
//! ```text
//! PINION_SOAK_SECONDS=60 cargo test --test wire soak
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Client, Got, encode};
use crate::process::{Server, Which};

/// Of each message.
const TEXT_BYTES: usize = 16 * 1024;
/// Messages that a publisher may be ahead of the slowest healthy subscriber. What is under way then
/// stays well below the limit of a subscriber's output.
const AHEAD: usize = 8;
const PUBLISHERS: [&str; 2] = ["a", "b"];
/// What a subscriber has heard of each publisher.
type Heard = [AtomicUsize; PUBLISHERS.len()];
/// However slow the machine is, when nobody has been cut off.
const LENGTH_MAX: Duration = Duration::from_secs(20);
const LISTENERS: usize = 3;
const KEYS: usize = 20;

fn length() -> Duration {
    let seconds = std::env::var("PINION_SOAK_SECONDS");
    let seconds = seconds.map_or(1.0, |text| text.parse().expect("PINION_SOAK_SECONDS"));
    Duration::from_secs_f64(seconds)
}

fn field(info: &str, name: &str) -> String {
    let mut lines = info.split("\\r\\n");
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {name}")).to_string()
}

/// What has to be as it was, by name.
fn figures(client: &mut Client) -> BTreeMap<String, String> {
    let info = client.text("INFO everything");
    let names = [
        "connected_clients",
        "pubsub_clients",
        "pubsub_channels",
        "pubsub_patterns",
        "tracking_clients",
        "tracking_total_keys",
        "tracking_total_items",
        "tracking_total_prefixes",
    ];
    let mut all: BTreeMap<String, String> = names
        .map(|name| (name.to_string(), field(&info, name)))
        .into();
    for line in [
        "PUBSUB NUMPAT",
        "PUBSUB CHANNELS",
        "PUBSUB SHARDCHANNELS",
        "PUBSUB NUMSUB news k",
        "PUBSUB SHARDNUMSUB news k",
    ] {
        all.insert(line.to_string(), client.text(line));
    }
    all
}

fn client_bytes(client: &mut Client) -> i64 {
    let info = client.text("INFO memory");
    let bytes = field(&info, "mem_clients_normal");
    bytes.parse().expect("a number")
}

/// Clients that were too far behind.
fn cut_off(client: &mut Client) -> u64 {
    let info = client.text("INFO stats");
    let count = field(&info, "client_output_buffer_limit_disconnections");
    count.parse().expect("a number")
}

/// A subscriber that reads: checks that of each publisher it hears every message in order, up to its
/// last. Returns how many there were.
fn listen(mut ear: Client, heard: &Heard) -> usize {
    // A machine that is busy with other tests may pause for long.
    ear.set_wait(LENGTH_MAX);
    let mut next: BTreeMap<String, usize> = PUBLISHERS.map(|name| (name.into(), 0)).into();
    let mut ended = 0;
    while ended < PUBLISHERS.len() {
        let message = match ear.reply() {
            Got::Reply(message) => message,
            Got::Closed(_) => panic!("a subscriber that reads was cut off"),
            Got::Silence(_) => panic!("a subscriber hears nothing any more"),
        };
        let text = message.rsplit(|&byte| byte == b'\n').nth(1).expect("lines");
        let text = String::from_utf8_lossy(text);
        let mut words = text.split(':');
        let (name, nth) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let expected = next.get_mut(name).expect("a publisher");
        if nth == "end" {
            ended += 1;
            continue;
        }
        assert_eq!(nth.parse(), Ok(*expected), "of publisher {name}");
        *expected += 1;
        let publisher = PUBLISHERS.iter().position(|one| *one == name);
        heard[publisher.expect("one of them")].store(*expected, Ordering::SeqCst);
    }
    next.values().sum()
}

/// Publishes until it is told to end. Returns how many messages.
fn publish(mut mouth: Client, publisher: usize, heard: &[Heard], over: &AtomicBool) -> usize {
    let name = PUBLISHERS[publisher];
    let filling = "x".repeat(TEXT_BYTES);
    let mut n = 0;
    while !over.load(Ordering::SeqCst) {
        let counts = heard
            .iter()
            .map(|its| its[publisher].load(Ordering::SeqCst));
        let least = counts.min();
        if n > least.unwrap_or(0) + AHEAD {
            std::thread::sleep(Duration::from_micros(100));
            continue;
        }
        let text = format!("{name}:{n}:{filling}");
        let count = mouth.call(&["PUBLISH", "news", &text]).shown();
        let count: usize = count[1..count.len() - 4].parse().expect("a number");
        assert!(count >= LISTENERS, "{count} subscribers");
        n += 1;
    }
    mouth.call(&["PUBLISH", "news", &format!("{name}:end:")]);
    n
}

/// Clients that come and go in every way.
fn disturb(server: &Server, rng: &mut fastrand::Rng, over: &AtomicBool) {
    let mut stalled = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let Ok(mut client) = Client::tcp(server.port) else {
            continue;
        };
        match rng.u8(..8) {
            0..3 => {
                client.send(b"SUBSCRIBE news k\r\nPSUBSCRIBE n* k*\r\nSSUBSCRIBE news\r\n");
                if rng.bool() {
                    client.replies(rng.usize(1..12));
                }
                if rng.bool() {
                    stalled.push(client);
                }
            }
            3 => {
                client.send(b"SUBSCRIBE news\r\nPSUBSCRIBE ne*\r\nUNSUBSCRIBE\r\nQUIT\r\n");
                client.until_closed();
            }
            4 => {
                client.send(b"HELLO 3\r\nCLIENT TRACKING ON BCAST PREFIX k PREFIX z\r\n");
                client.replies(rng.usize(..3));
                if rng.bool() {
                    stalled.push(client);
                }
            }
            5 => {
                client.send(b"HELLO 3\r\nCLIENT TRACKING ON\r\n");
                let get = |n| encode(&["GET".to_string(), format!("k{n}")]);
                client.send(&(0..KEYS).map(get).collect::<Vec<_>>().concat());
                client.replies(rng.usize(..KEYS));
            }
            6 => {
                let set = |n| encode(&["SET".to_string(), format!("k{n}"), "v".to_string()]);
                client.send(&(0..KEYS).map(set).collect::<Vec<_>>().concat());
                client.replies(KEYS);
            }
            _ => client.send(b"SUBSCRIBE news\r\nPSUBSCRIBE"),
        }
        std::thread::sleep(Duration::from_millis(1));
        if stalled.len() > 6 {
            stalled.swap_remove(rng.usize(..stalled.len()));
        }
    }
}

fn soak(shards: u32) {
    let limit = ["--client-output-buffer-limit", "pubsub 2mb 0 0"];
    let server = Server::start(Which::Pinion { shards }, &limit);
    let mut control = server.client();
    let before = figures(&mut control);
    let bytes_before = client_bytes(&mut control);
    let over = AtomicBool::new(false);
    let heard: [Heard; LISTENERS] = Default::default();
    // One that never reads, so that some are cut off in any case.
    let mut deaf = server.client();
    std::thread::scope(|scope| {
        let (server, over, heard) = (&server, &over, &heard);
        let listeners: Vec<_> = (0..LISTENERS)
            .map(|n| {
                let mut ear = server.client();
                ear.text(["SUBSCRIBE news", "PSUBSCRIBE n?ws"][n % 2]);
                scope.spawn(move || listen(ear, &heard[n]))
            })
            .collect();
        deaf.text("SUBSCRIBE news");
        let publishers: Vec<_> = (0..PUBLISHERS.len())
            .map(|publisher| {
                let mouth = server.client();
                scope.spawn(move || publish(mouth, publisher, heard, over))
            })
            .collect();
        let seed = u64::from(shards);
        scope.spawn(move || disturb(server, &mut fastrand::Rng::with_seed(seed), over));
        let begun = Instant::now();
        let is_enough = |control: &mut Client| begun.elapsed() > length() && cut_off(control) > 0;
        while !is_enough(&mut control) && begun.elapsed() < LENGTH_MAX.max(length()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        over.store(true, Ordering::SeqCst);
        let sent: usize = publishers
            .into_iter()
            .map(|one| one.join().expect("sent"))
            .sum();
        for listener in listeners {
            assert_eq!(listener.join().expect("heard"), sent);
        }
        assert!(sent > 0, "no message");
    });
    assert!(cut_off(&mut control) > 0, "nobody was cut off");
    drop(deaf);
    // Readers that are gone are noted until what they read changes, as in Redis.
    for n in 0..KEYS {
        control.text(&format!("SET k{n} v"));
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while figures(&mut control) != before {
        let now = figures(&mut control);
        assert!(
            Instant::now() < deadline,
            "{shards} shards: {before:?}\n{now:?}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    let bytes = client_bytes(&mut control);
    assert!(bytes < bytes_before + 64 * 1024, "{bytes_before} {bytes}");
}

#[test]
fn subscribers_that_stall_and_die_leave_nothing_behind() {
    [1, 2, 4].into_iter().for_each(soak);
}
