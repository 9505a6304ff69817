//! Names of hosts, looked up beside the cores: the system's resolver blocks for seconds.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, TryRecvError};

/// A name that is being looked up, or was.
#[derive(Debug)]
pub struct Lookup {
    known: Option<SocketAddr>,
    answer: Option<Receiver<io::Result<SocketAddr>>>,
}

impl Lookup {
    /// Begins to look up a name; an address is its own answer.
    pub fn begin(name: &str, port: u16) -> Lookup {
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Lookup {
                known: Some(SocketAddr::new(ip, port)),
                answer: None,
            };
        }
        let (sender, answer) = mpsc::channel();
        let name = name.to_owned();
        let looker = std::thread::Builder::new().name("pinion-resolve".into());
        let begun = looker.spawn(move || {
            let found = (name.as_str(), port).to_socket_addrs();
            let first = found
                .and_then(|mut found| found.next().ok_or_else(|| io::ErrorKind::NotFound.into()));
            // Who asked may have lost interest.
            sender.send(first).ok();
        });
        // Without a thread nobody sends, which is an answer as well.
        drop(begun);
        Lookup {
            known: None,
            answer: Some(answer),
        }
    }

    /// The answer, once it is there.
    pub fn poll(&mut self) -> Option<io::Result<SocketAddr>> {
        if let Some(known) = self.known {
            return Some(Ok(known));
        }
        match self.answer.as_ref()?.try_recv() {
            Ok(answer) => Some(answer),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(io::ErrorKind::NotFound.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_lookup_and_names_get_one() {
        let known = Lookup::begin("::1", 7).poll().unwrap().unwrap();
        assert_eq!(known, "[::1]:7".parse().unwrap());
        let mut lookup = Lookup::begin("localhost", 9);
        let found = loop {
            match lookup.poll() {
                Some(found) => break found.unwrap(),
                None => std::thread::yield_now(),
            }
        };
        assert!(found.ip().is_loopback() && found.port() == 9);
    }
}
