//! What is said to a master before it sends anything: PING, AUTH, REPLCONF, PSYNC.
//!
//! ```text
//! PING                                    +PONG, or an error that asks for a password
//! AUTH, REPLCONF listening-port,          +OK each; only AUTH has to succeed
//!   ip-address, capa: all at once
//! PSYNC replid offset [FAILOVER]          +FULLRESYNC replid offset, +CONTINUE [replid], an error
//! ```
//! Redis: replication.c syncWithMaster. Nothing here has a socket or a clock.

use std::collections::VecDeque;

use crate::server::log;

/// What this server says of itself.
#[derive(Clone, Debug, Default)]
pub struct Card {
    /// `masteruser` and `masterauth`, if there is a password.
    pub user: Vec<u8>,
    pub password: Vec<u8>,
    pub port: i64,
    /// `replica-announce-ip`, if it is set.
    pub ip: String,
    /// The history, and the first byte of it that is missing here.
    pub past: Option<(String, i64)>,
    /// The master is to step down: FAILOVER has chosen it.
    pub takes_over: bool,
}

/// What is asked, in the order of the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    Ping,
    Auth,
    Port,
    Ip,
    Capa,
    Psync,
}

/// What the master makes of PSYNC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A snapshot comes. Its history and offset; `None` if they make no sense.
    Full(Option<(String, i64)>),
    /// The stream goes on, perhaps under a new name.
    Continue(Option<String>),
    /// It cannot say yet: it is to be asked again.
    Later,
    /// It does not know PSYNC: SYNC was sent, and a snapshot of an unknown history comes.
    Old,
}

/// What comes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Wait,
    Say(Vec<u8>),
    Done(Verdict, Vec<u8>),
    /// The connection is of no use. It was said in the log.
    Fail,
}

/// The conversation so far.
#[derive(Debug)]
pub struct Handshake {
    card: Card,
    open: VecDeque<Question>,
}

/// A command as clients send it.
pub fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

impl Handshake {
    /// The first word, and what follows it.
    pub fn begin(card: Card) -> (Handshake, Vec<u8>) {
        let handshake = Handshake {
            card,
            open: VecDeque::from([Question::Ping]),
        };
        (handshake, encode(&[b"PING"]))
    }

    /// A line of the master, without its end.
    pub fn line(&mut self, line: &[u8]) -> Next {
        let Some(&question) = self.open.front() else {
            return Next::Wait;
        };
        // While it makes up its mind about PSYNC it says that it is still there.
        if line.is_empty() && question == Question::Psync {
            return Next::Wait;
        }
        self.open.pop_front();
        let text = String::from_utf8_lossy(line);
        let is_error = line.first() == Some(&b'-');
        match question {
            Question::Ping => return self.ponged(&text),
            Question::Psync => return judge(&text),
            Question::Auth if is_error => {
                log::warning(&format!("Unable to AUTH to MASTER: {text}"));
                return Next::Fail;
            }
            Question::Auth => {}
            Question::Port | Question::Ip | Question::Capa if is_error => {
                let what = match question {
                    Question::Port => "listening-port",
                    Question::Ip => "ip-address",
                    _ => "capa",
                };
                log::notice(&format!(
                    "(Non critical) Master does not understand REPLCONF {what}: {text}"
                ));
            }
            Question::Port | Question::Ip | Question::Capa => {}
        }
        match self.open.is_empty() {
            true => self.psync(),
            false => Next::Wait,
        }
    }

    fn ponged(&mut self, text: &str) -> Next {
        // Redis: an error that asks for a password shows that there is somebody.
        let asks = ["-NOAUTH", "-NOPERM", "-ERR operation not permitted"];
        if !text.starts_with('+') && !asks.iter().any(|known| text.starts_with(known)) {
            log::warning(&format!("Error reply to PING from master: '{text}'"));
            return Next::Fail;
        }
        log::notice("Master replied to PING, replication can continue...");
        let Card {
            user,
            password,
            port,
            ip,
            ..
        } = &self.card;
        let mut said = Vec::new();
        if !password.is_empty() {
            self.open.push_back(Question::Auth);
            let words: &[&[u8]] = &[b"AUTH", user, password];
            said = match user.is_empty() {
                true => encode(&[words[0], words[2]]),
                false => encode(words),
            };
        }
        self.open.push_back(Question::Port);
        let port = port.to_string();
        said.extend(encode(&[b"REPLCONF", b"listening-port", port.as_bytes()]));
        if !ip.is_empty() {
            self.open.push_back(Question::Ip);
            said.extend(encode(&[b"REPLCONF", b"ip-address", ip.as_bytes()]));
        }
        self.open.push_back(Question::Capa);
        said.extend(encode(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]));
        Next::Say(said)
    }

    fn psync(&mut self) -> Next {
        let (id, offset) = match &self.card.past {
            Some((id, offset)) => {
                log::notice(&format!(
                    "Trying a partial resynchronization (request {id}:{offset})."
                ));
                (id.as_str(), *offset)
            }
            None => {
                log::notice("Partial resynchronization not possible (no cached master)");
                ("?", -1)
            }
        };
        self.open.push_back(Question::Psync);
        let offset = offset.to_string();
        let words: &[&[u8]] = &[b"PSYNC", id.as_bytes(), offset.as_bytes(), b"FAILOVER"];
        Next::Say(match self.card.takes_over {
            true => encode(words),
            false => encode(&words[..3]),
        })
    }
}

/// Length of a history's name.
const REPLID_LEN: usize = 40;

fn judge(text: &str) -> Next {
    if let Some(rest) = text.strip_prefix("+FULLRESYNC") {
        let mut words = rest.split_ascii_whitespace();
        let known = match (words.next(), words.next()) {
            (Some(id), Some(offset)) if id.len() == REPLID_LEN => {
                let offset = offset.parse::<i64>().unwrap_or(0);
                log::notice(&format!("Full resync from master: {id}:{offset}"));
                Some((id.to_owned(), offset))
            }
            _ => {
                log::warning("Master replied with wrong +FULLRESYNC syntax.");
                None
            }
        };
        return Next::Done(Verdict::Full(known), Vec::new());
    }
    if let Some(rest) = text.strip_prefix("+CONTINUE") {
        log::notice("Successful partial resynchronization with master.");
        let id = rest.trim();
        let id = (id.len() == REPLID_LEN).then(|| id.to_owned());
        return Next::Done(Verdict::Continue(id), Vec::new());
    }
    if text.starts_with("-NOMASTERLINK") || text.starts_with("-LOADING") {
        log::notice(&format!(
            "Master is currently unable to PSYNC but should be in the future: {text}"
        ));
        return Next::Done(Verdict::Later, Vec::new());
    }
    if text.starts_with("-ERR") {
        log::notice(&format!(
            "Master does not support PSYNC or is in error state (reply: {text})"
        ));
    } else {
        log::warning(&format!("Unexpected reply to PSYNC from master: {text}"));
    }
    log::notice("Retrying with SYNC...");
    Next::Done(Verdict::Old, b"SYNC\r\n".to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(next: Next) -> String {
        let bytes = match next {
            Next::Say(bytes) => bytes,
            other => return format!("{other:?}"),
        };
        let text = String::from_utf8(bytes).unwrap();
        let words = text.split("\r\n").filter(|word| !word.starts_with('$'));
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        words.join(" ")
    }

    #[test]
    fn everything_is_said_in_turn_and_only_the_password_must_be_right() {
        let card = Card {
            user: "repl".into(),
            password: "secret".into(),
            port: 7001,
            ip: "10.0.0.9".into(),
            past: Some(("a".repeat(40), 12)),
            takes_over: false,
        };
        let (mut talk, first) = Handshake::begin(card.clone());
        assert_eq!(first, b"*1\r\n$4\r\nPING\r\n");
        assert_eq!(
            words(talk.line(b"-NOAUTH Authentication required.")),
            "*3 AUTH repl secret *3 REPLCONF listening-port 7001 *3 REPLCONF ip-address 10.0.0.9 \
             *5 REPLCONF capa eof capa psync2"
        );
        for _ in 0..3 {
            assert_eq!(talk.line(b"+OK"), Next::Wait);
        }
        let psync = format!("*3 PSYNC {} 12", "a".repeat(40));
        assert_eq!(words(talk.line(b"-ERR what?")), psync);
        assert_eq!(talk.line(b""), Next::Wait);
        let id = "b".repeat(40);
        let full = Verdict::Full(Some((id.clone(), 99)));
        let reply = format!("+FULLRESYNC {id} 99");
        assert_eq!(talk.line(reply.as_bytes()), Next::Done(full, Vec::new()));

        let (mut talk, _) = Handshake::begin(card);
        talk.line(b"+PONG");
        assert_eq!(talk.line(b"-WRONGPASS no"), Next::Fail);
    }

    #[test]
    fn what_a_master_may_say_to_psync() {
        let id = "c".repeat(40);
        let done = |verdict| Next::Done(verdict, Vec::new());
        assert_eq!(judge("+CONTINUE"), done(Verdict::Continue(None)));
        let renamed = done(Verdict::Continue(Some(id.clone())));
        assert_eq!(judge(&format!("+CONTINUE {id}")), renamed);
        assert_eq!(judge("+FULLRESYNC x"), done(Verdict::Full(None)));
        assert_eq!(judge("-LOADING wait"), done(Verdict::Later));
        assert_eq!(judge("-NOMASTERLINK wait"), done(Verdict::Later));
        let old = Next::Done(Verdict::Old, b"SYNC\r\n".to_vec());
        assert_eq!(judge("-ERR unknown command"), old);
    }
}
