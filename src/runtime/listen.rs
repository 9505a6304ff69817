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
    socket: OwnedFd,
    pub unix: Option<PathBuf>,
    /// An accept is under way.
    pub armed: bool,
}

impl Listener {
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Opens all listeners, or none.
pub(super) fn open(listening: &Listening) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::new();
    if listening.port != 0 {
        for name in &listening.bind {
            let (optional, name) = match name.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, name.as_str()),
            };
            match bind_tcp(name, listening) {
                Ok(socket) => listeners.push(Listener {
                    socket: socket.into(),
                    unix: None,
                    armed: false,
                }),
                Err(error) if optional && is_unavailable(&error) => {}
                Err(error) => {
                    return Err(ListenError {
                        address: format!("{name}:{}", listening.port),
                        error,
                    });
                }
            }
        }
    }
    if let Some(path) = &listening.unix_socket {
        let socket = bind_unix(path, listening).map_err(|error| ListenError {
            address: path.display().to_string(),
            error,
        })?;
        listeners.push(Listener {
            socket: socket.into(),
            unix: Some(path.clone()),
            armed: false,
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

fn bind_tcp(name: &str, listening: &Listening) -> io::Result<Socket> {
    let ip: IpAddr = match name {
        "*" => Ipv4Addr::UNSPECIFIED.into(),
        "::*" => Ipv6Addr::UNSPECIFIED.into(),
        _ => match name.parse() {
            Ok(ip) => ip,
            Err(_) => resolve(name)?,
        },
    };
    let address = SocketAddr::new(ip, listening.port);
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
