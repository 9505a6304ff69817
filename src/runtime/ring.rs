//! A thin safe layer over this core's io_uring: operations in, completions out.
//!
//! Every operation carries a [`Token`] in its user data. Memory handed to the kernel (what is sent,
//! what a read fills) belongs to the connection or to the driver and stays put until the completion.
#![allow(unsafe_code)] // Submitting to io_uring promises the kernel that memory stays valid.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use socket2::SockAddr;

use super::buffers::{Buffers, GROUP};

/// Submission entries; a turn that needs more submits in between.
const SUBMISSIONS: u32 = 4096;
const COMPLETIONS: u32 = 16384;
/// Bytes of one read or write of a file: what the kernel transfers at most is a little more.
const IO_MAX_BYTES: usize = 1 << 30;

/// What a completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Recv = 1,
    Send = 2,
    Cancel = 3,
    Accept = 4,
    Doorbell = 5,
    Signal = 6,
    Ring = 7,
    File = 8,
    Connect = 9,
    Hangup = 10,
    Wake = 11,
}

/// Operation, connection index (or listener), and the low 24 bits of its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub op: Op,
    pub generation: u32,
    pub index: u32,
}

const GENERATION_MASK: u32 = 0xff_ffff;

impl Token {
    pub fn new(op: Op, index: u32, generation: u32) -> Token {
        Token {
            op,
            generation: generation & GENERATION_MASK,
            index,
        }
    }

    fn pack(self) -> u64 {
        (self.op as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    fn unpack(word: u64) -> Option<Token> {
        let op = match word >> 56 {
            1 => Op::Recv,
            2 => Op::Send,
            3 => Op::Cancel,
            4 => Op::Accept,
            5 => Op::Doorbell,
            6 => Op::Signal,
            7 => Op::Ring,
            8 => Op::File,
            9 => Op::Connect,
            10 => Op::Hangup,
            11 => Op::Wake,
            _ => return None,
        };
        Some(Token {
            op,
            generation: (word >> 32) as u32 & GENERATION_MASK,
            index: word as u32,
        })
    }

    pub fn is_generation(self, generation: u32) -> bool {
        self.generation == generation & GENERATION_MASK
    }
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub token: Token,
    /// The operation's result, or a negated errno.
    pub result: i32,
    /// The buffer a receive filled.
    pub buffer: Option<u16>,
    /// A multishot operation stays armed.
    pub more: bool,
}

pub(super) struct Ring {
    ring: IoUring,
    pub buffers: Buffers,
    /// Sends not handed to the kernel yet. Nearly all complete as they are.
    new_sends: usize,
}

impl Ring {
    /// A ring for this thread alone, whose completions are produced when it asks for them.
    pub fn new() -> io::Result<Ring> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let buffers = Buffers::register(&ring)?;
        Ok(Ring {
            ring,
            buffers,
            new_sends: 0,
        })
    }

    /// The file descriptor that other cores ring.
    pub fn fd(&self) -> RawFd {
        use std::os::fd::AsRawFd;
        self.ring.as_raw_fd()
    }

    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: the callers below promise what their operations need.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            // The queue is full: hand it to the kernel, which takes all of it.
            if let Err(error) = self.ring.submit() {
                assert!(
                    matches!(
                        error.raw_os_error(),
                        Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)
                    ),
                    "io_uring refuses submissions: {error}"
                );
            }
        }
    }

    /// Arms a multishot receive into the provided buffers.
    pub fn recv(&mut self, fd: RawFd, token: Token) {
        let entry = opcode::RecvMulti::new(types::Fd(fd), GROUP)
            .build()
            .user_data(token.pack());
        self.push(&entry);
    }

    /// Completes once the peer of a socket sends nothing more.
    pub fn watch_hangup(&mut self, fd: RawFd, token: Token) {
        let entry = opcode::PollAdd::new(types::Fd(fd), libc::POLLRDHUP as u32)
            .build()
            .user_data(token.pack());
        self.push(&entry);
    }

    /// Sends `bytes`, which must stay in place until the completion.
    pub fn send(&mut self, fd: RawFd, bytes: &[u8], token: Token) {
        let entry = opcode::Send::new(types::Fd(fd), bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(token.pack());
        self.new_sends += 1;
        self.push(&entry);
    }

    /// Sends a message whose header, vector and bytes must stay in place until the completion.
    pub fn send_vectored(&mut self, fd: RawFd, message: *const libc::msghdr, token: Token) {
        let entry = opcode::SendMsg::new(types::Fd(fd), message)
            .flags((libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32)
            .build()
            .user_data(token.pack());
        self.new_sends += 1;
        self.push(&entry);
    }

    pub fn accept(&mut self, fd: RawFd, token: Token) {
        let null = std::ptr::null_mut();
        let entry = opcode::Accept::new(types::Fd(fd), null, null.cast())
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(token.pack());
        self.push(&entry);
    }

    /// Connects to `address`, which must stay in place until the completion.
    pub fn connect(&mut self, fd: RawFd, address: &SockAddr, token: Token) {
        let entry = opcode::Connect::new(types::Fd(fd), address.as_ptr().cast(), address.len())
            .build()
            .user_data(token.pack());
        self.push(&entry);
    }

    /// Reads into `buffer`, which must stay in place until the completion.
    pub fn read(&mut self, fd: RawFd, buffer: &mut [u8], token: Token) {
        let entry = opcode::Read::new(types::Fd(fd), buffer.as_mut_ptr(), buffer.len() as u32)
            .build()
            .user_data(token.pack());
        self.push(&entry);
    }

    /// Reads from a file into `buffer`, which must stay in place until the completion.
    pub fn read_at(&mut self, fd: RawFd, buffer: &mut [u8], at: u64, token: Token) {
        let len = buffer.len().min(IO_MAX_BYTES) as u32;
        let entry = opcode::Read::new(types::Fd(fd), buffer.as_mut_ptr(), len)
            .offset(at)
            .build()
            .user_data(token.pack());
        self.push(&entry);
    }

    /// Writes `bytes`, which must stay in place until the completion, to a file.
    pub fn write_at(&mut self, fd: RawFd, bytes: &[u8], at: u64, through: bool, token: Token) {
        let len = bytes.len().min(IO_MAX_BYTES) as u32;
        let flags = if through { libc::RWF_DSYNC } else { 0 };
        let entry = opcode::Write::new(types::Fd(fd), bytes.as_ptr(), len)
            .offset(at)
            .rw_flags(flags)
            .build()
            .user_data(token.pack());
        self.push(&entry);
    }

    /// Makes durable what was written to a file and has completed.
    pub fn sync(&mut self, fd: RawFd, data_only: bool, token: Token) {
        let flags = if data_only {
            types::FsyncFlags::DATASYNC
        } else {
            types::FsyncFlags::empty()
        };
        let entry = opcode::Fsync::new(types::Fd(fd))
            .flags(flags)
            .build()
            .user_data(token.pack());
        self.push(&entry);
    }

    /// Completes once `time` has passed.
    pub fn wake_after(&mut self, time: &'static types::Timespec) {
        let entry = opcode::Timeout::new(time)
            .build()
            .user_data(Token::new(Op::Wake, 0, 0).pack());
        self.push(&entry);
    }

    /// Cancels the operation with this token.
    pub fn cancel(&mut self, target: Token) {
        let token = Token {
            op: Op::Cancel,
            ..target
        };
        let entry = opcode::AsyncCancel::new(target.pack())
            .build()
            .user_data(token.pack());
        self.push(&entry);
    }

    /// Posts a doorbell completion to another core's ring.
    pub fn ring_doorbell(&mut self, peer_ring: RawFd) {
        let bell = Token::new(Op::Doorbell, 0, 0);
        let entry = opcode::MsgRingData::new(types::Fd(peer_ring), 0, bell.pack(), None)
            .build()
            .user_data(Token::new(Op::Ring, 0, 0).pack());
        self.push(&entry);
    }

    /// Submits everything and waits for a completion, at most `timeout` (`None`: for ever).
    pub fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.new_sends = 0;
        let result = match timeout {
            None => self.ring.submit_and_wait(1),
            // Only what is there: deferred work runs and posts its completions in this call.
            Some(Duration::ZERO) => self.enter_without_waiting(),
            Some(timeout) => self.enter_for(1, timeout),
        };
        Ring::entered(result)
    }

    /// Submits everything and waits for `arrivals` more completions than there are sends to submit,
    /// at most `longest`.
    pub fn gather(&mut self, arrivals: usize, longest: Duration) -> io::Result<()> {
        let sends = std::mem::take(&mut self.new_sends);
        let result = self.enter_for(sends + arrivals, longest);
        Ring::entered(result)
    }

    fn enter_for(&self, completions: usize, timeout: Duration) -> io::Result<usize> {
        let timespec = types::Timespec::from(timeout);
        let args = types::SubmitArgs::new().timespec(&timespec);
        self.ring.submitter().submit_with_args(completions, &args)
    }

    fn entered(result: io::Result<usize>) -> io::Result<()> {
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn enter_without_waiting(&mut self) -> io::Result<usize> {
        const GETEVENTS: u32 = 1; // IORING_ENTER_GETEVENTS of linux/io_uring.h
        let to_submit = self.ring.submission().len() as u32;
        // SAFETY: what the entries need was promised when they were pushed; there is no argument.
        unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(to_submit, 0, GETEVENTS, None)
        }
    }

    /// Whether there are completions to be taken.
    pub fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Moves all completions that are there into `into`.
    pub fn completions(&mut self, into: &mut VecDeque<Completion>) {
        into.extend(self.ring.completion().filter_map(|entry| {
            let flags = entry.flags();
            Some(Completion {
                token: Token::unpack(entry.user_data())?,
                result: entry.result(),
                buffer: cqueue::buffer_select(flags),
                more: cqueue::more(flags),
            })
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for op in [
            Op::Recv,
            Op::Send,
            Op::Cancel,
            Op::Accept,
            Op::Doorbell,
            Op::Signal,
            Op::Ring,
            Op::File,
            Op::Connect,
            Op::Hangup,
            Op::Wake,
        ] {
            let token = Token::new(op, 0xffff_fffe, 0x1234_5678);
            assert_eq!(Token::unpack(token.pack()), Some(token));
            assert!(token.is_generation(0x1234_5678));
            assert!(!token.is_generation(0x1234_5679));
        }
        assert_eq!(Token::unpack(0), None);
    }
}
