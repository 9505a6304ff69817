//! A blocking RESP2 and RESP3 client that keeps replies as the bytes they came in.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Long enough for a 20 MB value through an unoptimised build on a busy machine.
const REPLY_WAIT: Duration = Duration::from_secs(30);

/// What came back for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// One whole reply, byte for byte.
    Reply(Vec<u8>),
    /// The server closed the connection; what it sent before that was no whole reply.
    Closed(Vec<u8>),
    /// Nothing whole arrived in time.
    Silence(Vec<u8>),
}

impl Got {
    /// For messages: escaped, and short enough to read.
    pub fn shown(&self) -> String {
        let (bytes, note) = match self {
            Got::Reply(bytes) => (bytes, ""),
            Got::Closed(bytes) => (bytes, " <closed>"),
            Got::Silence(bytes) => (bytes, " <silence>"),
        };
        format!("{}{note}", shown(bytes))
    }
}

/// Bytes for a message: escaped, the middle of long ones left out.
pub fn shown(bytes: &[u8]) -> String {
    if bytes.len() <= 600 {
        return bytes.escape_ascii().to_string();
    }
    let (head, tail) = (&bytes[..400], &bytes[bytes.len() - 100..]);
    format!(
        "{}..{} bytes..{}",
        head.escape_ascii(),
        bytes.len() - 500,
        tail.escape_ascii()
    )
}

trait Stream: Read + Write + Send {
    fn set_wait(&self, wait: Duration);
}

impl Stream for TcpStream {
    fn set_wait(&self, wait: Duration) {
        self.set_read_timeout(Some(wait)).expect("set a timeout");
        self.set_write_timeout(Some(wait)).expect("set a timeout");
    }
}

impl Stream for UnixStream {
    fn set_wait(&self, wait: Duration) {
        self.set_read_timeout(Some(wait)).expect("set a timeout");
        self.set_write_timeout(Some(wait)).expect("set a timeout");
    }
}

pub struct Client {
    stream: Box<dyn Stream>,
    received: Vec<u8>,
}

impl Client {
    pub fn tcp(port: u16) -> std::io::Result<Client> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Client::over(stream))
    }

    pub fn unix(path: &Path) -> std::io::Result<Client> {
        Ok(Client::over(UnixStream::connect(path)?))
    }

    fn over(stream: impl Stream + 'static) -> Client {
        stream.set_wait(REPLY_WAIT);
        Client {
            stream: Box::new(stream),
            received: Vec::new(),
        }
    }

    pub fn set_wait(&mut self, wait: Duration) {
        self.stream.set_wait(wait);
    }

    /// Sends bytes as they are. A peer that has closed is noticed by the read that follows.
    pub fn send(&mut self, bytes: &[u8]) {
        let _: std::io::Result<()> = self.stream.write_all(bytes);
    }

    /// Sends one command and returns its reply.
    pub fn call<A: AsRef<[u8]>>(&mut self, args: &[A]) -> Got {
        self.send(&encode(args));
        self.reply()
    }

    /// The same from words, for commands without spaces in their arguments.
    pub fn words(&mut self, line: &str) -> Got {
        let args: Vec<&str> = line.split_whitespace().collect();
        self.call(&args)
    }

    /// The reply as text, escapes and all; panics when there is none.
    pub fn text(&mut self, line: &str) -> String {
        match self.words(line) {
            Got::Reply(bytes) => bytes.escape_ascii().to_string(),
            other => panic!("{line}: {}", other.shown()),
        }
    }

    /// The next whole reply.
    pub fn reply(&mut self) -> Got {
        loop {
            if let Some(end) = reply_end(&self.received, 0) {
                let rest = self.received.split_off(end);
                return Got::Reply(std::mem::replace(&mut self.received, rest));
            }
            match self.read_more() {
                Ok(0) => return Got::Closed(std::mem::take(&mut self.received)),
                Ok(_) => {}
                Err(error) => return self.ended(error.kind()),
            }
        }
    }

    /// The next whole replies, one after another, up to the first that fails to come.
    pub fn replies(&mut self, count: usize) -> Vec<Got> {
        let (mut replies, mut at) = (Vec::with_capacity(count), 0);
        while replies.len() < count {
            let Some(end) = reply_end(&self.received, at) else {
                self.received.drain(..at);
                at = 0;
                match self.read_more() {
                    Ok(read) if read > 0 => continue,
                    Ok(_) => replies.push(Got::Closed(std::mem::take(&mut self.received))),
                    Err(error) => replies.push(self.ended(error.kind())),
                }
                return replies;
            };
            replies.push(Got::Reply(self.received[at..end].to_vec()));
            at = end;
        }
        self.received.drain(..at);
        replies
    }

    /// Everything up to the end of the connection.
    pub fn until_closed(&mut self) -> Got {
        loop {
            match self.read_more() {
                Ok(0) => return Got::Closed(std::mem::take(&mut self.received)),
                Ok(_) => {}
                Err(error) => return self.ended(error.kind()),
            }
        }
    }

    fn ended(&mut self, kind: ErrorKind) -> Got {
        let received = std::mem::take(&mut self.received);
        match kind {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Got::Silence(received),
            // A reset is how a kernel says "closed" when unread bytes were left behind.
            _ => Got::Closed(received),
        }
    }

    fn read_more(&mut self) -> std::io::Result<usize> {
        let mut chunk = [0; 65_536];
        let len = self.stream.read(&mut chunk)?;
        self.received.extend_from_slice(&chunk[..len]);
        Ok(len)
    }
}

/// A command as an array of bulk strings.
pub fn encode<A: AsRef<[u8]>>(args: &[A]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        let arg = arg.as_ref();
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Where the reply that starts at `at` ends, once it is there as a whole.
pub fn reply_end(bytes: &[u8], at: usize) -> Option<usize> {
    let line = line_end(bytes, at)?;
    let count = || -> Option<i64> {
        std::str::from_utf8(&bytes[at + 1..line - 2])
            .ok()?
            .parse()
            .ok()
    };
    match bytes[at] {
        b'$' | b'=' | b'!' => match usize::try_from(count()?) {
            Ok(len) => (bytes.len() >= line + len + 2).then_some(line + len + 2),
            Err(_) => Some(line),
        },
        kind @ (b'*' | b'~' | b'>' | b'%' | b'|') => {
            let doubled = 1 + i64::from(matches!(kind, b'%' | b'|'));
            // An attribute is followed by the reply it belongs to.
            let items = count()?.max(0) * doubled + i64::from(kind == b'|');
            let mut end = line;
            for _ in 0..items {
                end = reply_end(bytes, end)?;
            }
            Some(end)
        }
        _ => Some(line),
    }
}

/// Just behind the next CRLF.
pub fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let crlf = rest.windows(2).position(|pair| pair == b"\r\n")?;
    Some(at + crlf + 2)
}

#[test]
fn replies_end_where_they_should() {
    let whole: &[&[u8]] = &[
        b"+OK\r\n",
        b"$-1\r\n",
        b"$3\r\na\r\n\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b"*2\r\n:1\r\n*1\r\n$0\r\n\r\n",
        b"%1\r\n+k\r\n~2\r\n#t\r\n_\r\n",
        b"|1\r\n+ttl\r\n:9\r\n$1\r\nx\r\n",
        b"=5\r\ntxt:a\r\n",
    ];
    for bytes in whole {
        assert_eq!(reply_end(bytes, 0), Some(bytes.len()), "{}", shown(bytes));
        for cut in 0..bytes.len() {
            assert_eq!(reply_end(&bytes[..cut], 0), None, "{}", shown(bytes));
        }
    }
}
