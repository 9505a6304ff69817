//! Messages between clients, and what happens to keys as messages.

use std::time::Duration;

use crate::client::{Client, Got, encode};
use crate::compare::{WRITING_CASES, cases_dir};
use crate::process::{Server, Which};
use crate::transcript::{Compare, Replies, Request, Step, parse};

fn everywhere() -> [Which; 4] {
    [
        Which::Reference,
        Which::Pinion { shards: 1 },
        Which::Pinion { shards: 2 },
        Which::Pinion { shards: 4 },
    ]
}

fn tell(client: &mut Client, line: &str) -> String {
    client.words(line).shown()
}

/// Reads what arrives without being asked for.
fn next(client: &mut Client) -> String {
    client.reply().shown()
}

#[test]
fn subscriptions_and_messages_are_those_of_redis() {
    let mut transcripts = Vec::new();
    for which in everywhere() {
        let server = Server::start(which, &[]);
        let mut said = Vec::new();
        for protocol in [2, 3] {
            let (mut ear, mut mouth) = (server.client(), server.client());
            tell(&mut ear, &format!("HELLO {protocol}"));
            tell(&mut mouth, &format!("HELLO {protocol}"));
            for (line, replies) in [
                ("SUBSCRIBE a b a", 3),
                ("PSUBSCRIBE a* ?", 2),
                ("SSUBSCRIBE s a", 2),
                ("PING", 1),
                ("PING text", 1),
                ("GET key", 1),
                ("UNSUBSCRIBE b nothing", 2),
                ("PUNSUBSCRIBE nothing", 1),
            ] {
                said.push(tell(&mut ear, line));
                (1..replies).for_each(|_| said.push(next(&mut ear)));
            }
            for (line, messages) in [
                ("PUBLISH a one", 3),
                ("PUBLISH b two", 1),
                ("PUBLISH ab three", 1),
                ("SPUBLISH a four", 1),
                ("SPUBLISH ab five", 0),
                ("PUBLISH nobody six", 0),
                ("PUBSUB CHANNELS", 0),
                ("PUBSUB CHANNELS x*", 0),
                ("PUBSUB NUMSUB a b", 0),
                ("PUBSUB NUMSUB", 0),
                ("PUBSUB NUMPAT", 0),
                ("PUBSUB SHARDNUMSUB s a b", 0),
                ("PUBSUB CHANNELS a b", 0),
                ("PUBLISH a", 0),
                ("MULTI", 0),
                ("PUBLISH b seven", 0),
                ("PUBLISH ab eight", 0),
                ("EXEC", 2),
            ] {
                said.push(tell(&mut mouth, line));
                let mut heard: Vec<String> = (0..messages).map(|_| next(&mut ear)).collect();
                // Which pattern comes first is a matter of Redis' hash table.
                heard.sort_unstable();
                said.extend(heard);
            }
            said.push(tell(&mut ear, "UNSUBSCRIBE"));
            said.push(tell(&mut ear, "SUNSUBSCRIBE a s"));
            said.push(next(&mut ear));
            said.push(tell(&mut mouth, "PUBLISH a nine"));
            let nine = [next(&mut ear), next(&mut ear)];
            assert!(
                nine.iter().all(|message| message.ends_with("nine\\r\\n")),
                "{which}"
            );
            // Which of two patterns goes first is a matter of Redis' hash table again.
            let gone = [tell(&mut ear, "PUNSUBSCRIBE"), next(&mut ear)];
            said.extend(
                gone.iter()
                    .map(|reply| reply[reply.len() - 6..].to_string()),
            );
            said.push(tell(&mut ear, "GET key"));
            said.push(tell(&mut mouth, "PUBLISH a ten"));
            said.push(tell(&mut ear, "SUBSCRIBE a"));
            said.push(tell(&mut ear, "RESET"));
            said.push(tell(&mut mouth, "PUBLISH a eleven"));
        }
        transcripts.push((which, said));
    }
    let (_, wanted) = &transcripts[0];
    for (which, said) in &transcripts[1..] {
        for (wanted, got) in wanted.iter().zip(said) {
            assert_eq!(got, wanted, "{which}");
        }
        assert_eq!(wanted.len(), said.len());
    }
}

#[test]
fn all_subscribers_of_all_shards_see_one_order() {
    const MESSAGES: usize = 400;
    let server = Server::start(Which::Pinion { shards: 4 }, &[]);
    let mut ears: Vec<Client> = (0..8).map(|_| server.client()).collect();
    for (n, ear) in ears.iter_mut().enumerate() {
        let line = if n % 2 == 0 {
            "SUBSCRIBE news"
        } else {
            "PSUBSCRIBE n*"
        };
        tell(ear, line);
    }
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let server = &server;
            scope.spawn(move || {
                let mut mouth = server.client();
                for n in 0..MESSAGES {
                    let count = tell(&mut mouth, &format!("PUBLISH news {name}:{n}"));
                    assert_eq!(count, ":8\\r\\n");
                }
            });
        }
    });
    let heard: Vec<Vec<String>> = ears
        .iter_mut()
        .map(|ear| {
            let texts = (0..4 * MESSAGES).map(|_| {
                let message = next(ear);
                let words: Vec<&str> = message.split("\\r\\n").collect();
                words[words.len() - 2].to_string()
            });
            texts.collect()
        })
        .collect();
    assert!(heard.iter().all(|order| *order == heard[0]));
    for name in ["a", "b", "c", "d"] {
        let own: Vec<&String> = heard[0]
            .iter()
            .filter(|text| text.starts_with(name))
            .collect();
        let sent: Vec<String> = (0..MESSAGES).map(|n| format!("{name}:{n}")).collect();
        assert!(
            own.into_iter().eq(sent.iter()),
            "the order of publisher {name}"
        );
    }
}

#[test]
fn keys_that_are_missed_are_told_in_the_order_of_redis() {
    const READS: [&str; 5] = [
        "XREAD STREAMS a b s c d 0 0 5 0 0",
        "XREAD COUNT 1 BLOCK 5 STREAMS d c s b a a $ $ $ 0 0 0",
        "TTL a",
        "SINTER a b c d",
        "MGET d c b a",
    ];
    let told = everywhere().map(|which| {
        let server = Server::start(which, &["--notify-keyspace-events", "EAm"]);
        let (mut ear, mut client) = (server.client(), server.client());
        tell(&mut client, "XADD s 5-1 f v");
        tell(&mut client, "XGROUP CREATE s g 0");
        tell(&mut ear, "PSUBSCRIBE *");
        for read in READS {
            tell(&mut client, read);
            tell(&mut client, "PUBLISH end end");
        }
        let mut heard = Vec::new();
        let mut ends = 0;
        while ends < READS.len() {
            heard.push(next(&mut ear));
            ends += usize::from(
                heard
                    .last()
                    .is_some_and(|message| message.ends_with("end\\r\\n")),
            );
        }
        heard
    });
    let [wanted, ours @ ..] = told;
    assert!(wanted.len() > 25, "{wanted:?}");
    for got in ours {
        assert_eq!(got, wanted);
    }
}

/// Publishers of the test below, each a client that also changes keys.
const AUTHORS: usize = 3;

/// What one author does and its one subscriber to everything hears of it, in order.
fn author(server: &Server, name: usize, rng: &mut fastrand::Rng) -> Vec<String> {
    let mut clients = [server.client(), server.client()];
    let mut heard = Vec::new();
    for round in 0..60 {
        let mut requests = Vec::new();
        let count = 2 + rng.usize(..6);
        let is_exec = rng.bool();
        for n in 0..count {
            let id = format!("{name}:{round}:{n}:{}", rng.u16(..));
            let is_scripted = rng.u8(..4) == 0;
            let words = match rng.bool() {
                true => ["SET".to_string(), id.clone(), "v".into()],
                false => [
                    "PUBLISH".to_string(),
                    format!("c{}", rng.u8(..8)),
                    id.clone(),
                ],
            };
            requests.push(if is_scripted {
                let call = "return redis.call(ARGV[1], ARGV[2], ARGV[3])".to_string();
                let script = ["EVAL".to_string(), call, "0".into()];
                crate::client::encode(&[&script[..], &words[..]].concat())
            } else {
                crate::client::encode(&words)
            });
            heard.push(id);
        }
        let mut replies = count;
        if is_exec {
            requests.insert(0, crate::client::encode(&["MULTI"]));
            requests.push(crate::client::encode(&["EXEC"]));
            replies += 2;
        }
        // The next round may be another client's: it begins when the replies are there.
        let client = &mut clients[rng.usize(..2)];
        client.send(&requests.concat());
        for got in client.replies(replies) {
            let said = got.shown();
            assert!(
                matches!(got, Got::Reply(_)) && !said.starts_with('-'),
                "{said}"
            );
        }
    }
    heard
}

#[test]
fn messages_and_events_of_keys_come_in_the_order_of_their_author() {
    for shards in [2, 4] {
        let options = ["--notify-keyspace-events", "E$"];
        let server = Server::start(Which::Pinion { shards }, &options);
        let mut ears: Vec<Client> = (0..shards).map(|_| server.client()).collect();
        for ear in &mut ears {
            tell(ear, "PSUBSCRIBE *");
        }
        let wanted: Vec<Vec<String>> = std::thread::scope(|scope| {
            let run = |name: usize| {
                let mut rng = fastrand::Rng::with_seed(u64::from(shards) * 100 + name as u64);
                let server = &server;
                scope.spawn(move || author(server, name, &mut rng))
            };
            let running: Vec<_> = (0..AUTHORS).map(run).collect();
            running
                .into_iter()
                .map(|run| run.join().expect("an author"))
                .collect()
        });
        let total: usize = wanted.iter().map(Vec::len).sum();
        for ear in &mut ears {
            let texts = (0..total).map(|_| {
                let message = next(ear);
                let words: Vec<&str> = message.split("\\r\\n").collect();
                words[words.len() - 2].to_string()
            });
            let texts: Vec<String> = texts.collect();
            for (name, wanted) in wanted.iter().enumerate() {
                let prefix = format!("{name}:");
                let own = texts.iter().filter(|text| text.starts_with(&prefix));
                let differs = own
                    .clone()
                    .zip(wanted)
                    .position(|(got, wanted)| got != wanted);
                assert_eq!(differs, None, "author {name}, {shards} shards");
                assert_eq!(own.count(), wanted.len());
            }
        }
    }
}

#[test]
fn a_subscriber_that_does_not_read_is_cut_off() {
    for which in everywhere() {
        let limit = ["--client-output-buffer-limit", "pubsub 200kb 100kb 60"];
        let server = Server::start(which, &limit);
        let (mut ear, mut mouth) = (server.client(), server.client());
        tell(&mut ear, "SUBSCRIBE flood");
        let text = "x".repeat(100_000);
        let mut published = 0;
        while tell(&mut mouth, &format!("PUBLISH flood {text}")) == ":1\\r\\n" {
            published += 1;
            assert!(published < 1000, "{which}: nobody is cut off");
        }
        assert!(published > 1, "{which}");
        ear.set_wait(Duration::from_secs(5));
        assert!(matches!(ear.until_closed(), Got::Closed(_)), "{which}");
        let text = "scheduled to be closed ASAP for overcoming of output buffer limits.";
        assert_eq!(server.log().matches(text).count(), 1, "{which}");
    }
}

#[test]
fn an_expired_event_leaves_at_the_deadline() {
    for shards in [1, 2] {
        let options = ["--notify-keyspace-events", "Ex"];
        let server = Server::start(Which::Pinion { shards }, &options);
        let (mut ear, mut client) = (server.client(), server.client());
        tell(&mut ear, "SUBSCRIBE __keyevent@0__:expired");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let begin_ms = now.expect("after 1970").as_millis() as u64 + 500;
        for n in 0..100 {
            let at_ms = begin_ms + 2 * (100 - n);
            tell(&mut client, &format!("SET key:{n} value PXAT {at_ms}"));
        }
        let heard: Vec<String> = (0..100).map(|_| next(&mut ear)).collect();
        let mut order: Vec<u64> = heard
            .iter()
            .map(|message| {
                let name = message.trim_end_matches("\\r\\n").rsplit(':').next();
                name.expect("a key").parse().expect("a number")
            })
            .collect();
        if shards > 1 {
            // Each shard goes by its own deadlines.
            order.sort_unstable_by(|a, b| b.cmp(a));
        }
        assert!(order.into_iter().eq((0..100).rev()), "{heard:?}");
        assert_eq!(tell(&mut client, "DBSIZE"), ":0\\r\\n");
        let lags = tell(&mut client, "LATENCY HISTOGRAM expire-lag");
        assert!(lags.contains("calls\\r\\n:100\\r\\n"), "{lags}");
        let info = client.text("INFO stats");
        assert!(info.contains("expire_lag_usec_p99:"), "{info}");
    }
}

/// What Redis announces when it comes by, and Pinion at the deadline.
fn is_timed(message: &str) -> bool {
    message.contains("expired")
}

/// The events of every request of a case file, as they were announced.
fn events(which: Which, file: &str) -> Vec<(String, Vec<String>)> {
    let server = Server::start(which, &["--notify-keyspace-events", "KEAmn"]);
    let text = std::fs::read_to_string(cases_dir().join(file)).expect("the case file");
    let sections = parse(file, &text);
    let (mut ear, mut fence) = (server.client(), server.client());
    tell(&mut ear, "PSUBSCRIBE __key*");
    let mut all = Vec::new();
    let mut take = |fence: &mut Client| {
        tell(fence, "PUBLISH __key-fence here");
        let mut heard = Vec::new();
        loop {
            let message = next(&mut ear);
            if message.contains("__key-fence") {
                return heard;
            }
            if !is_timed(&message) {
                let words: Vec<&str> = message.split("\\r\\n").collect();
                heard.push(format!("{} {}", words[6], words[8]));
            }
        }
    };
    for section in &sections {
        let mut clients = std::collections::BTreeMap::new();
        tell(&mut fence, "FLUSHALL");
        take(&mut fence);
        for step in &section.steps {
            let request = match step {
                Step::Sleep(wait) => {
                    std::thread::sleep(*wait);
                    continue;
                }
                Step::Send(request) => request,
            };
            if !is_comparable(request) {
                continue;
            }
            let client = clients
                .entry(request.connection)
                .or_insert_with(|| server.client());
            client.send(&request.bytes);
            let Replies::Count(count) = request.replies else {
                continue;
            };
            (0..count).for_each(|_| drop(client.reply()));
            let line = format!("{file}:{} {}", request.line_number, request.line);
            let mut heard = take(&mut fence);
            if request.line.starts_with("SORT") {
                // In which order SORT looks at what its patterns name differs.
                heard.retain(|event| !event.contains("keymiss"));
            }
            all.push((line, heard));
        }
    }
    all
}

/// What both servers know, and what leaves the connections as they are. Who only listens may wait for what
/// one of them alone does.
fn is_comparable(request: &Request) -> bool {
    const DISTURBING: [&str; 7] = [
        "CONFIG",
        "CLIENT",
        "DEBUG",
        "SHUTDOWN",
        "RESET",
        "HELLO",
        "SUBSCRIBE",
    ];
    let line = request.line.to_ascii_uppercase();
    let is_asked = !request.bytes.trim_ascii().is_empty();
    is_asked
        && matches!(request.replies, Replies::Count(_))
        && !matches!(request.compare, Compare::New | Compare::ReferenceOnly)
        && !DISTURBING.iter().any(|word| line.contains(word))
}

#[test]
fn every_write_is_announced_as_redis_announces_it() {
    let (mut compared, mut complaints) = (0, Vec::new());
    for file in WRITING_CASES {
        let file = format!("{file}.txt");
        let wanted = events(Which::Reference, &file);
        for shards in [1, 2, 4] {
            let got = events(Which::Pinion { shards }, &file);
            assert_eq!(wanted.len(), got.len());
            for ((line, wanted), (_, got)) in wanted.iter().zip(&got) {
                compared += wanted.len();
                if wanted != got {
                    complaints.push(format!(
                        "{shards} {line}\n  want {wanted:?}\n  got  {got:?}"
                    ));
                }
            }
        }
    }
    assert!(compared > 3_000, "{compared} events");
    let shown = complaints.iter().take(30).cloned().collect::<Vec<_>>();
    assert!(
        complaints.is_empty(),
        "{}\n{} in all",
        shown.join("\n"),
        complaints.len()
    );
}

/// A client may publish to somebody whose SUBSCRIBE is still unanswered: who is counted gets it, after
/// the answer.
#[test]
fn what_a_publish_has_counted_arrives() {
    for shards in [2, 4] {
        let server = Server::start(Which::Pinion { shards }, &[]);
        std::thread::scope(|scope| {
            for one in 0..3 {
                let server = &server;
                scope.spawn(move || {
                    let (mut ear, mut mouth) = (server.client(), server.client());
                    for round in 0..400 {
                        let channel = format!("channel:{one}:{round}x");
                        let (word, name) = match round % 2 {
                            0 => ("SUBSCRIBE", channel.clone()),
                            _ => ("PSUBSCRIBE", format!("channel:{one}:{round}?")),
                        };
                        ear.send(&encode(&[word, &name]));
                        let publish = format!("PUBLISH {channel} text");
                        while mouth.text(&publish) == ":0\\r\\n" {}
                        assert!(next(&mut ear).contains("subscribe"));
                        let message = next(&mut ear);
                        assert!(message.contains("text"), "{shards} {channel}: {message}");
                    }
                });
            }
        });
    }
}
