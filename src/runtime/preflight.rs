//! Whether this process can run at all: io_uring, its operations, and the resource limits.
#![allow(unsafe_code)] // setrlimit, prctl.

use std::fmt;
use std::fs;
use std::io;

use io_uring::{IoUring, Probe, opcode};

use super::listen::ListenError;

/// Why the server cannot start; `Display` says in one sentence what is wrong and what to do.
#[derive(Debug)]
pub enum StartError {
    /// `kernel.io_uring_disabled` is set to this.
    Disabled(u8),
    /// The system call is filtered, as containers do by default.
    Filtered,
    /// The kernel has no io_uring, or lacks what is named.
    OldKernel(&'static str),
    /// RLIMIT_MEMLOCK, bytes.
    Memlock(u64),
    Ring(io::Error),
    Listen(ListenError),
    /// `--cpus` names a CPU outside the affinity mask.
    ForbiddenCpu(usize),
    Executor(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Disabled(value) => write!(
                f,
                "io_uring is switched off by the sysctl kernel.io_uring_disabled={value}: set it \
                 to 0 (sysctl -w kernel.io_uring_disabled=0), or to 1 and run Pinion in the group \
                 of kernel.io_uring_group."
            ),
            StartError::Filtered => f.write_str(
                "io_uring is forbidden for this process, most likely by the seccomp profile of \
                 its container: allow io_uring_setup, io_uring_enter and io_uring_register (for \
                 Docker: --security-opt seccomp=unconfined, or a profile that lists them).",
            ),
            StartError::OldKernel(missing) => write!(
                f,
                "this kernel's io_uring lacks {missing}: Pinion needs Linux 6.1 or newer."
            ),
            StartError::Memlock(bytes) => write!(
                f,
                "the limit on locked memory (RLIMIT_MEMLOCK, {bytes} bytes) is too low for \
                 io_uring: raise it to 8 MiB or more (ulimit -l 8192, LimitMEMLOCK= of systemd)."
            ),
            StartError::Ring(error) => write!(f, "io_uring could not be set up: {error}."),
            StartError::Listen(ListenError { address, error }) => write!(
                f,
                "Could not create server listening socket {address}: bind: {}",
                os_text(error)
            ),
            StartError::ForbiddenCpu(cpu) => write!(
                f,
                "CPU {cpu} of --cpus is outside the CPUs this process may use: change the list or \
                 the affinity (taskset, cpuset)."
            ),
            StartError::Executor(text) => write!(f, "an executor could not start: {text}."),
        }
    }
}

impl std::error::Error for StartError {}

/// The system's text for an error, without Rust's suffix.
fn os_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// What glommio asks for below this limit, per executor.
const MEMLOCK_MIN_BYTES: u64 = 512 * 1024;

/// Raises the soft limits to the hard ones and checks that io_uring does what is needed.
pub fn check() -> Result<(), StartError> {
    open_files();
    let memlock = raise_limit(libc::RLIMIT_MEMLOCK);
    let ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(8)
        .map_err(|error| explain(error, memlock))?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| explain(error, memlock))?;
    let needed = [
        (opcode::Recv::CODE, "receiving"),
        (opcode::Send::CODE, "sending"),
        (opcode::SendMsg::CODE, "vectored sending"),
        (opcode::Accept::CODE, "accepting"),
        (opcode::AsyncCancel::CODE, "cancelling"),
        (opcode::MsgRingData::CODE, "messages between rings"),
    ];
    if let Some((_, missing)) = needed.iter().find(|(code, _)| !probe.is_supported(*code)) {
        return Err(StartError::OldKernel(missing));
    }
    if memlock < MEMLOCK_MIN_BYTES {
        return Err(StartError::Memlock(memlock));
    }
    Ok(())
}

fn explain(error: io::Error, memlock: u64) -> StartError {
    let sysctl = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
    let disabled = sysctl
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    classify(error, disabled, memlock)
}

/// What an errno of io_uring_setup means, given the sysctl and the memlock limit.
fn classify(error: io::Error, disabled: u8, memlock: u64) -> StartError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if disabled > 0 => StartError::Disabled(disabled),
        Some(libc::EPERM | libc::EACCES) => StartError::Filtered,
        Some(libc::ENOSYS) => StartError::OldKernel("everything (or it is compiled out)"),
        Some(libc::EINVAL) => StartError::OldKernel("deferred task work"),
        Some(libc::ENOMEM) => StartError::Memlock(memlock),
        _ => StartError::Ring(error),
    }
}

/// Keeps transparent huge pages away from this process; returns whether the kernel agreed.
///
/// The allocator asks for them where the system offers them on request. Clearing one takes a command
/// that happens to need memory several milliseconds: the p99 of pipelined LPUSH was 4.9 ms with them
/// and is 0.5 ms without, at a quarter less CPU.
pub fn disable_huge_pages() -> bool {
    // SAFETY: this option reads its arguments as numbers only.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0 }
}

/// Has this process open as many files as it may; how many.
pub fn open_files() -> u64 {
    raise_limit(libc::RLIMIT_NOFILE)
}

/// Raises a soft limit to its hard limit; returns what it is now.
fn raise_limit(resource: libc::__rlimit_resource_t) -> u64 {
    // SAFETY: both calls read and write only this structure.
    unsafe {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        if libc::getrlimit(resource, &mut limit) != 0 {
            return u64::MAX;
        }
        if limit.rlim_cur < limit.rlim_max {
            let raised = libc::rlimit {
                rlim_cur: limit.rlim_max,
                ..limit
            };
            if libc::setrlimit(resource, &raised) == 0 {
                return raised.rlim_cur;
            }
        }
        limit.rlim_cur
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(errno: i32, disabled: u8) -> String {
        classify(io::Error::from_raw_os_error(errno), disabled, 65536).to_string()
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        assert!(text(libc::EPERM, 2).contains("kernel.io_uring_disabled=2"));
        assert!(text(libc::EPERM, 0).contains("seccomp"));
        assert!(text(libc::ENOSYS, 0).contains("Linux 6.1"));
        assert!(text(libc::ENOMEM, 0).contains("RLIMIT_MEMLOCK, 65536 bytes"));
        for errno in [
            libc::EPERM,
            libc::ENOSYS,
            libc::ENOMEM,
            libc::EINVAL,
            libc::EMFILE,
        ] {
            let text = text(errno, 0);
            assert!(text.ends_with('.') && !text.contains('\n'), "{text}");
        }
    }
}
