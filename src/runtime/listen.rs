//! Listening sockets: TCP on every bind address, and a unix socket.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use super::app::Peer;

/// Where to listen, in the words of the configuration.
#[derive(Clone, Debug)]
pub struct Listening {
    /// Addresses as in `bind`: `*`, `::*`, IPv4 or IPv6; a leading `-` makes one optional.
    pub bind: Vec<String>,
    /// 0: no TCP.
    pub port: u16,
    pub unix_socket: Option<PathBuf>,
    /// `unixsocketperm`; 0 leaves what the umask gives.
    pub unix_mode: u32,
    pub backlog: i32,
    /// Seconds; 0 turns probes off.
    pub keepalive_s: u64,
}

/// An address that could not be listened on.
#[derive(Debug)]
pub struct ListenError {
    pub address: String,
    pub error: io::Error,
}

pub(super) struct Listener {
    socket: Socket,
    pub unix: Option<PathBuf>,
    /// Where it listens, unless that is a path.
    address: Option<SocketAddr>,
    /// An accept is under way.
    pub armed: bool,
    /// What its accepts are known by.
    pub id: u32,
}

impl Listener {
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// All listening sockets of the process, on the shard that accepts.
#[derive(Default)]
pub(super) struct Doors {
    pub open: Vec<Listener>,
    /// Closed, with an accept still under way: the kernel must not see their descriptors reused.
    closed: Vec<Listener>,
    next_id: u32,
    pub keepalive_s: u64,
}

impl Doors {
    pub fn new(open: Vec<Listener>, keepalive_s: u64) -> Doors {
        let mut doors = Doors {
            keepalive_s,
            ..Doors::default()
        };
        open.into_iter().for_each(|listener| doors.add(listener));
        doors
    }

    fn add(&mut self, mut listener: Listener) {
        listener.id = self.next_id;
        self.next_id += 1;
        self.open.push(listener);
    }

    /// The place of the listener that an accept was for, which is no longer under way; `None` if that
    /// one is closed.
    pub fn accepted(&mut self, id: u32) -> Option<usize> {
        self.closed.retain(|listener| listener.id != id);
        let at = self.open.iter().position(|listener| listener.id == id)?;
        self.open[at].armed = false;
        Some(at)
    }

    /// Listens no longer: the next server may have these places at once.
    pub fn close(&self) {
        for listener in &self.open {
            drop(listener.socket.shutdown(std::net::Shutdown::Both));
        }
    }

    /// Listens for TCP where `listening` says, and no longer elsewhere; what is open on both sides of
    /// the change stays open. On an error all is as it was.
    pub fn relisten(&mut self, listening: &Listening) -> Result<(), ListenError> {
        let wanted = wanted(listening)?;
        let stays = |listener: &Listener| match listener.address {
            Some(address) => wanted.iter().any(|(_, found)| *found == address),
            None => true,
        };
        let is_open = |address: &SocketAddr| {
            let mut open = self.open.iter();
            open.any(|listener| listener.address == Some(*address))
        };
        let missing: Vec<(String, SocketAddr)> = wanted
            .iter()
            .filter(|(_, address)| !is_open(address))
            .cloned()
            .collect();
        let opened = match open_tcp(&missing, listening) {
            Ok(opened) => opened,
            Err(_) => {
                // What goes may be in the way of what comes: 0.0.0.0 and 127.0.0.1.
                let going = || self.open.iter().filter(|listener| !stays(listener));
                for listener in going() {
                    // One that was not connected says so, and no longer listens.
                    drop(listener.socket.shutdown(std::net::Shutdown::Both));
                }
                let again = open_tcp(&missing, listening);
                if again.is_err() {
                    // They are still bound, so nobody can have taken their places.
                    going().for_each(|listener| drop(listener.socket.listen(listening.backlog)));
                }
                again?
            }
        };
        let (open, going): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.open).into_iter().partition(stays);
        self.open = open;
        for listener in going {
            drop(listener.socket.shutdown(std::net::Shutdown::Both));
            if listener.armed {
                self.closed.push(listener);
            }
        }
        opened.into_iter().for_each(|listener| self.add(listener));
        Ok(())
    }
}

/// The addresses to listen on, as `bind` names them. Names that are optional and unknown are left out.
fn wanted(listening: &Listening) -> Result<Vec<(String, SocketAddr)>, ListenError> {
    let mut wanted = Vec::new();
    if listening.port == 0 {
        return Ok(wanted);
    }
    for name in &listening.bind {
        match address(name.trim_start_matches('-'), listening.port) {
            Ok(address) => wanted.push((name.clone(), address)),
            Err(_) if name.starts_with('-') => {}
            Err(error) => return Err(listen_error(name, listening.port, error)),
        }
    }
    Ok(wanted)
}

fn listen_error(name: &str, port: u16, error: io::Error) -> ListenError {
    ListenError {
        address: format!("{}:{port}", name.trim_start_matches('-')),
        error,
    }
}

fn open_tcp(
    wanted: &[(String, SocketAddr)],
    listening: &Listening,
) -> Result<Vec<Listener>, ListenError> {
    let mut opened = Vec::new();
    for (name, address) in wanted {
        match bind_tcp(*address, listening) {
            Ok(socket) => opened.push(Listener {
                socket,
                unix: None,
                address: Some(*address),
                armed: false,
                id: 0,
            }),
            Err(error) if name.starts_with('-') && is_unavailable(&error) => {}
            Err(error) => return Err(listen_error(name, listening.port, error)),
        }
    }
    Ok(opened)
}

/// Opens all listeners, or none.
///
/// A place that is taken may be that of a server which has just ended: the kernel takes its rings
/// down behind its back, and only then lets go of the sockets on which they accepted.
pub(super) fn open(listening: &Listening) -> Result<Vec<Listener>, ListenError> {
    const WAIT: Duration = Duration::from_millis(20);
    const WAITS: usize = 25;
    let wanted = wanted(listening)?;
    let mut waits = 0;
    let mut listeners = loop {
        match open_tcp(&wanted, listening) {
            Err(failed) if failed.error.kind() == io::ErrorKind::AddrInUse && waits < WAITS => {
                waits += 1;
                std::thread::sleep(WAIT);
            }
            other => break other?,
        }
    };
    if let Some(path) = &listening.unix_socket {
        let socket = bind_unix(path, listening).map_err(|error| ListenError {
            address: path.display().to_string(),
            error,
        })?;
        listeners.push(Listener {
            socket,
            unix: Some(path.clone()),
            address: None,
            armed: false,
            id: 0,
        });
    }
    Ok(listeners)
}

/// An optional address is skipped when the host lacks it, not when somebody else uses it.
fn is_unavailable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EADDRNOTAVAIL
                | libc::EAFNOSUPPORT
                | libc::ENOPROTOOPT
                | libc::EPFNOSUPPORT
                | libc::EPROTONOSUPPORT
                | libc::ESOCKTNOSUPPORT
        )
    )
}

fn address(name: &str, port: u16) -> io::Result<SocketAddr> {
    let ip: IpAddr = match name {
        "*" => Ipv4Addr::UNSPECIFIED.into(),
        "::*" => Ipv6Addr::UNSPECIFIED.into(),
        _ => match name.parse() {
            Ok(ip) => ip,
            Err(_) => resolve(name)?,
        },
    };
    Ok(SocketAddr::new(ip, port))
}

fn bind_tcp(address: SocketAddr, listening: &Listening) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(listening.backlog)?;
    Ok(socket)
}

fn resolve(name: &str) -> io::Result<IpAddr> {
    use std::net::ToSocketAddrs;
    let mut found = (name, 0).to_socket_addrs()?;
    found
        .next()
        .map(|address| address.ip())
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Binds under a name nobody knows, sets the permissions, and only then takes the real name: at no
/// moment can somebody connect whom the permissions exclude (CVE-2023-45145).
fn bind_unix(path: &Path, listening: &Listening) -> io::Result<Socket> {
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        fs::remove_file(path)?;
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!(".{}.tmp", std::process::id()));
    let hidden = PathBuf::from(hidden);
    let bound = socket.bind(&SockAddr::unix(&hidden)?);
    let placed = bound.and_then(|()| {
        if listening.unix_mode != 0 {
            fs::set_permissions(&hidden, fs::Permissions::from_mode(listening.unix_mode))?;
        }
        socket.listen(listening.backlog)?;
        fs::rename(&hidden, path)
    });
    if placed.is_err() {
        // Best effort: the error that matters is the one below.
        drop(fs::remove_file(&hidden));
    }
    placed.map(|()| socket)
}

/// Both ends of an accepted connection, which gets its options here.
pub(super) fn greet(fd: &OwnedFd, listener: &Listener, keepalive_s: u64) -> io::Result<Peer> {
    if let Some(path) = &listener.unix {
        return Ok(Peer::Unix(path.clone()));
    }
    let socket = SockRef::from(fd);
    let peer = socket.peer_addr()?.as_socket();
    let local = socket.local_addr()?.as_socket();
    let (Some(peer), Some(local)) = (peer, local) else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    socket.set_tcp_nodelay(true)?;
    if keepalive_s > 0 {
        // Redis: anet.c anetKeepAlive: three probes within a further period.
        let probe = Duration::from_secs((keepalive_s / 3).max(1));
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(keepalive_s))
            .with_interval(probe)
            .with_retries(3);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    Ok(Peer::Tcp { peer, local })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn listening(bind: &[&str], port: u16) -> Listening {
        Listening {
            bind: bind.iter().map(|name| (*name).to_owned()).collect(),
            port,
            unix_socket: None,
            unix_mode: 0,
            backlog: 16,
            keepalive_s: 0,
        }
    }

    fn free_port() -> u16 {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        taken.local_addr().unwrap().port()
    }

    fn answers(ip: &str, port: u16) -> bool {
        TcpStream::connect((ip, port)).is_ok()
    }

    #[test]
    fn places_change_or_stay_as_they_were() {
        let (first, second) = (free_port(), free_port());
        let mut doors = Doors::new(open(&listening(&["127.0.0.1"], first)).unwrap(), 0);
        let fd = doors.open[0].fd();
        doors
            .relisten(&listening(&["127.0.0.1", "127.0.0.2"], first))
            .unwrap();
        assert_eq!(doors.open[0].fd(), fd);
        assert!(answers("127.0.0.2", first));
        doors.relisten(&listening(&["127.0.0.1"], second)).unwrap();
        assert!(answers("127.0.0.1", second) && !answers("127.0.0.1", first));
        // The new place contains the old one.
        doors.relisten(&listening(&["*"], second)).unwrap();
        assert!(answers("127.0.0.3", second));
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let refused = doors.relisten(&listening(&["127.0.0.2", "127.0.0.1"], port));
        assert!(refused.is_err());
        assert!(answers("127.0.0.3", second) && !answers("127.0.0.2", port));
        doors.relisten(&listening(&["127.0.0.1"], 0)).unwrap();
        assert!(doors.open.is_empty());
    }

    #[test]
    fn what_waits_for_the_kernel_is_kept() {
        let port = free_port();
        let mut doors = Doors::new(open(&listening(&["127.0.0.1"], port)).unwrap(), 0);
        doors.open[0].armed = true;
        doors
            .relisten(&listening(&["127.0.0.1"], free_port()))
            .unwrap();
        assert_eq!((doors.open.len(), doors.closed.len()), (1, 1));
        assert_eq!(doors.accepted(0), None);
        assert!(doors.closed.is_empty());
        assert_eq!(doors.accepted(1), Some(0));
    }
}
