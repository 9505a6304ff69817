//! What the kernel tells of itself and of this process in small files.

use std::fs::File;
use std::io::Read;

/// A file below /proc; as much of it as any that is read here has, and nothing if there is none. One
/// read gets it: such a file does not tell its length, and asking for more and more of it takes longer.
pub fn read(name: &str) -> String {
    const BYTES: usize = 8 * 1024;
    let mut bytes = vec![0; BYTES];
    let len = File::open(format!("/proc/{name}"))
        .and_then(|mut file| file.read(&mut bytes))
        .unwrap_or(0);
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

/// The bytes that a line `name: number kB` of such a file tells; 0 without it.
pub fn bytes_of(text: &str, name: &str) -> usize {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let rest = line.and_then(|rest| rest.strip_prefix(':'));
    let kib = rest.and_then(|rest| rest.trim().split(' ').next()?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_read() {
        let status = read("self/status");
        assert!(bytes_of(&status, "VmRSS") > 1 << 20, "{status}");
        assert_eq!(bytes_of(&status, "VmR") + bytes_of("", "VmRSS"), 0);
        assert_eq!(read("no/such/file"), "");
    }
}
