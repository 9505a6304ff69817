//! What an operator and their tools see: figures, parameters, the process.

use std::collections::BTreeMap;

use crate::client::{Client, Got};
use crate::process::{Server, Which};

fn pinion() -> Server {
    Server::start(Which::Pinion { shards: 2 }, &[])
}

/// The text of a bulk or verbatim reply.
fn told(client: &mut Client, line: &str) -> String {
    let Got::Reply(bytes) = client.words(line) else {
        panic!("{line}: no reply");
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (_, body) = text.split_once("\r\n").expect("a length");
    body.to_owned()
}

/// INFO's fields by name, each with its section and value.
fn info(client: &mut Client) -> BTreeMap<String, (String, String)> {
    let mut section = String::new();
    let mut fields = BTreeMap::new();
    for line in told(client, "INFO everything").lines() {
        if let Some(title) = line.strip_prefix("# ") {
            section = title.to_owned();
        } else if let Some((name, value)) = line.split_once(':') {
            fields.insert(name.to_owned(), (section.clone(), value.to_owned()));
        }
    }
    fields
}

#[test]
fn info_tells_everything_that_redis_tells() {
    let reference = Server::start(Which::Reference, &["--appendonly", "yes"]);
    let ours = Server::start(Which::Pinion { shards: 2 }, &["--appendonly", "yes"]);
    let (wanted, got) = (info(&mut reference.client()), info(&mut ours.client()));
    assert!(wanted.len() > 150, "{} fields", wanted.len());
    let is_of_a_command = |name: &str| name.starts_with("cmdstat_") || name.contains("_usec_");
    for (name, (section, _)) in wanted.iter().filter(|(name, _)| !is_of_a_command(name)) {
        let ours = got.get(name).map(|(section, _)| section);
        assert_eq!(ours, Some(section), "{name}");
    }
}

#[test]
fn figures_are_true() {
    let server = pinion();
    let mut client = server.client();
    let number = |fields: &BTreeMap<String, (String, String)>, name: &str| -> u64 {
        fields[name].1.parse().unwrap_or_else(|_| panic!("{name}"))
    };
    let before = info(&mut client);
    for name in ["run_id", "master_replid"] {
        let value = &before[name].1;
        assert_eq!(value.len(), 40, "{name}");
        assert!(value.bytes().all(|b| b.is_ascii_hexdigit()), "{name}");
    }
    assert_ne!(before["run_id"].1, before["master_replid"].1);
    client.text("SET big 0");
    client.text("SETRANGE big 3000000 x");
    client.words("GET big");
    client.text("DEL big");
    let after = info(&mut client);
    assert!(number(&after, "total_net_output_bytes") > 3_000_000);
    assert!(number(&after, "total_reads_processed") > 3);
    assert!(number(&after, "total_writes_processed") > 3);
    assert!(number(&after, "used_memory_peak") > number(&after, "used_memory") + 2_000_000);
    assert!(number(&after, "used_memory_startup") > 0);
    assert!(number(&after, "instantaneous_ops_per_sec") > 0);
    assert_eq!(number(&after, "maxclients"), 10_000);
}
