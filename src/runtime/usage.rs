//! What this process takes of the machine, as the kernel counts it.
//!
//! INFO tells it. Its files below /proc were a third of the time that INFO took: the kernel prints all
//! that it knows of the process for the few numbers that are wanted. One call has the times to the
//! microsecond, where the file has ticks of 10 ms.

/// Microseconds of CPU time.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    pub user_us: u64,
    pub system_us: u64,
}

/// That of the whole process.
pub fn of_process() -> CpuTime {
    used(libc::RUSAGE_SELF)
}

/// That of the thread that asks.
pub fn of_thread() -> CpuTime {
    used(libc::RUSAGE_THREAD)
}

/// Bytes of a page of memory.
#[allow(unsafe_code)]
pub fn page_bytes() -> usize {
    // SAFETY: it takes and returns a number.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).unwrap_or(4096)
}

#[allow(unsafe_code)]
fn used(whose: libc::c_int) -> CpuTime {
    let us = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    // SAFETY: numbers alone, of which all zeroes are some; the kernel writes into them alone. It cannot
    // fail: every Linux counts both.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(whose, &raw mut usage);
        usage
    };
    CpuTime {
        user_us: us(usage.ru_utime),
        system_us: us(usage.ru_stime),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPU time of this thread by the kernel's file, in ticks of 10 ms: the safe twin.
    fn told_us() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("a thread has it");
        // The name before it may hold blanks and brackets.
        let fields = stat.rsplit(')').next().unwrap_or("");
        let times = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = times.map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum();
        ticks * 10_000
    }

    #[test]
    fn times_are_those_of_the_file() {
        let mut sum = 0u64;
        while told_us() < 30_000 {
            sum = (0..100_000).fold(sum, |sum, n| sum.rotate_left(1) ^ n);
        }
        std::hint::black_box(sum);
        let least = told_us();
        let thread = of_thread();
        let most = told_us() + 20_000;
        let all = thread.user_us + thread.system_us;
        assert!((least.saturating_sub(20_000)..=most).contains(&all));
        let process = of_process();
        assert!(process.user_us + process.system_us >= all);
    }
}
