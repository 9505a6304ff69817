//! Last words: which signal killed the process, and where, in the log.
//!
//! A handler may call little: no allocation, no lock, no formatting of the library's. What it needs
//! is prepared by [`arm`].
#![allow(unsafe_code)] // sigaction, and what a handler may call.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// Redis: server.c setupSignalHandlers, and SIGABRT since 6.2.
const DEADLY: [libc::c_int; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGABRT,
];
/// Callers that are shown. Redis: debug.c writeStacktrace shows up to 100.
const FRAMES_MAX: usize = 100;

/// The log's path; null: standard output.
static LOG: AtomicPtr<libc::c_char> = AtomicPtr::new(ptr::null_mut());
/// The report is written, or somebody else has written one.
static SAID: AtomicBool = AtomicBool::new(false);

/// Whoever reports a crash in another way says so: the signal that follows needs no second report.
pub fn told() {
    SAID.store(true, Ordering::Relaxed);
}

/// Has deadly signals reported in the log at this absolute path (`None`: standard output).
pub fn arm(log: Option<&Path>) {
    let path = log.and_then(|path| CString::new(path.as_os_str().as_bytes()).ok());
    // Never freed: a handler may be reading it.
    let path = path.map_or(ptr::null_mut(), CString::into_raw);
    LOG.store(path, Ordering::Relaxed);
    let mut frames = [ptr::null_mut(); 1];
    // SAFETY: the array has room for one frame. The first call loads a library, which a handler may
    // not do.
    unsafe { libc::backtrace(frames.as_mut_ptr(), 1) };
    for signal in DEADLY {
        // SAFETY: all of `sigaction` may be zero; the handler has the signature that SA_SIGINFO
        // asks for and calls only what signal-safety(7) allows, and glibc's backtrace.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = report as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND | libc::SA_ONSTACK;
            libc::sigaction(signal, &action, ptr::null_mut());
        }
    }
}

/// Crashes, for whoever wants to see what happens then.
pub fn segfault() {
    // SAFETY: takes nothing that could be invalid.
    unsafe { libc::raise(libc::SIGSEGV) };
}

/// Writes a number without allocating.
fn number(mut n: u64, base: u64, out: &mut [u8; 20]) -> &[u8] {
    let mut at = out.len();
    loop {
        at -= 1;
        out[at] = b"0123456789abcdef"[(n % base) as usize];
        n /= base;
        if n == 0 {
            return &out[at..];
        }
    }
}

fn put(fd: libc::c_int, bytes: &[u8]) {
    // SAFETY: the pointer and the length are those of a slice. What cannot be written is lost.
    unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) };
}

/// The beginning of a line. Redis: server.c serverLogFromHandler.
fn begin_line(fd: libc::c_int) {
    let mut room = [0; 20];
    // SAFETY: both calls take nothing that could be invalid.
    let (pid, now) = unsafe { (libc::getpid(), libc::time(ptr::null_mut())) };
    put(fd, number(u64::from(pid.unsigned_abs()), 10, &mut room));
    put(fd, b":signal-handler (");
    put(fd, number(now.unsigned_abs(), 10, &mut room));
    put(fd, b") ");
}

extern "C" fn report(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    if !SAID.swap(true, Ordering::Relaxed) {
        let path = LOG.load(Ordering::Relaxed);
        let fd = match path.is_null() {
            true => libc::STDOUT_FILENO,
            // SAFETY: a C string that is never freed.
            false => unsafe {
                libc::open(path, libc::O_APPEND | libc::O_CREAT | libc::O_WRONLY, 0o644)
            },
        };
        let mut room = [0; 20];
        put(
            fd,
            b"\n\n=== PINION BUG REPORT START: Cut & paste starting from here ===\n",
        );
        begin_line(fd);
        put(
            fd,
            concat!("Pinion ", env!("CARGO_PKG_VERSION"), " crashed by signal: ").as_bytes(),
        );
        put(fd, number(u64::from(signal.unsigned_abs()), 10, &mut room));
        // SAFETY: the kernel passes a valid `siginfo_t` to a handler with SA_SIGINFO; the address is
        // read only for signals that have one.
        let (code, at) = unsafe {
            let has_address = matches!(signal, libc::SIGSEGV | libc::SIGBUS);
            let at = if has_address {
                (*info).si_addr() as u64
            } else {
                0
            };
            ((*info).si_code, at)
        };
        put(
            fd,
            if code < 0 {
                b", si_code: -"
            } else {
                b", si_code: "
            },
        );
        put(fd, number(u64::from(code.unsigned_abs()), 10, &mut room));
        put(fd, b"\n");
        if code > 0 && at > 0 {
            begin_line(fd);
            put(fd, b"Accessing address: 0x");
            put(fd, number(at, 16, &mut room));
            put(fd, b"\n");
        }
        put(fd, b"\n------ STACK TRACE ------\n");
        let mut frames = [ptr::null_mut(); FRAMES_MAX];
        // SAFETY: the array has room for that many frames, and of these only the ones that were
        // filled are named.
        unsafe {
            let count = libc::backtrace(frames.as_mut_ptr(), FRAMES_MAX as libc::c_int);
            libc::backtrace_symbols_fd(frames.as_ptr(), count, fd);
        }
        put(fd, b"\n=== PINION BUG REPORT END. ===\n");
    }
    // SAFETY: the handler is reset, so the signal ends the process once this one returns.
    unsafe { libc::raise(signal) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_an_allocator() {
        let mut room = [0; 20];
        assert_eq!(number(0, 10, &mut room), b"0");
        assert_eq!(number(u64::MAX, 10, &mut room), b"18446744073709551615");
        assert_eq!(number(0xdead_beef, 16, &mut room), b"deadbeef");
    }
}
