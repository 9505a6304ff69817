//! What `ps` shows of this process: its title, and its session.
//!
//! The kernel shows the memory that held the arguments, and goes on into the environment behind it
//! once the arguments' last NUL is overwritten. So the environment is copied elsewhere first, and the
//! place is written through `/proc/self/mem`: no pointer into it is needed.
#![allow(unsafe_code)] // The environment is made to stand elsewhere; setsid is a bare system call.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::OnceLock;

/// Where arguments and environment stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    start: u64,
    len: usize,
}

static ROOM: OnceLock<Option<Room>> = OnceLock::new();

/// Bytes 0-based: fields 48 to 51 of proc(5)'s `/proc/[pid]/stat`: arg_start, arg_end, env_start,
/// env_end. The name in field 2 may have spaces and parentheses.
fn room_of(stat: &str) -> Option<Room> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // The first one behind the name is field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let (start, args_end) = (field(48)?, field(49)?);
    let (env_start, env_end) = (field(50)?, field(51)?);
    let end = if env_start == args_end {
        env_end
    } else {
        args_end
    };
    let len = usize::try_from(end.checked_sub(start)?).ok()?;
    (start > 0 && len > 0).then_some(Room { start, len })
}

/// Makes room for a title. Call it before there are other threads, when the arguments have been read.
pub fn prepare() {
    ROOM.get_or_init(|| {
        let room = room_of(&std::fs::read_to_string("/proc/self/stat").ok()?)?;
        for (name, value) in std::env::vars_os().collect::<Vec<_>>() {
            // SAFETY: no other thread runs that could read the environment meanwhile.
            unsafe { std::env::set_var(name, value) };
        }
        Some(room)
    });
}

/// Leaves the session of whoever started this process: its terminal's signals do not reach it.
pub fn lead_session() -> std::io::Result<()> {
    // SAFETY: setsid takes nothing and touches no memory of this process.
    match unsafe { libc::setsid() } {
        -1 => Err(std::io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Shows this title, or as much of it as there is room for. Nothing depends on it: a kernel that does
/// not let a process write so keeps showing the arguments.
pub fn set(title: &str) -> std::io::Result<()> {
    let Some(room) = ROOM.get().copied().flatten() else {
        return Ok(());
    };
    let mut bytes = title.as_bytes()[..title.len().min(room.len - 1)].to_vec();
    bytes.resize(room.len, 0);
    let mut memory = File::options().write(true).open("/proc/self/mem")?;
    memory.seek(SeekFrom::Start(room.start))?;
    memory.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_that_of_arguments_and_environment() {
        let before = "77 (a (b) c) S".to_string() + &" 1".repeat(44);
        let stat = format!("{before} 100 120 120 200 0\n");
        let room = room_of(&stat);
        assert_eq!(
            room,
            Some(Room {
                start: 100,
                len: 100
            })
        );
        // Not side by side: only the arguments.
        let apart = format!("{before} 100 120 300 400 0\n");
        assert_eq!(room_of(&apart).map(|room| room.len), Some(20));
        assert_eq!(room_of("77 (a) S 1 2"), None);
    }
}
