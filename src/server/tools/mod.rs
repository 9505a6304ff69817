//! What the program does beside serving: it looks into files.

mod check_aof;
mod check_rdb;
mod dump_rdb;

use std::fs::File;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use bytes::{Bytes, BytesMut};

use super::config::cli::Tool;
use crate::rdb;
use crate::rdb::file::{Event, Reader};

/// Read at once: large enough for the disk, small enough to hold twice.
const PIECE_BYTES: usize = 1 << 20;

/// Runs a tool on a file. The exit code is 0 if there is nothing to complain about.
pub fn run(tool: Tool, path: &str) -> ExitCode {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let ran = match tool {
        Tool::CheckAof { fix, until_s } => check_aof::run(path, fix, until_s, &mut out),
        Tool::CheckRdb => check_rdb::run(path, &mut out),
        Tool::DumpRdb => dump_rdb::run(path, &mut out),
    };
    match ran.and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => code,
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("pinion: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn complain(text: &str) {
    // If standard error is gone there is nobody left to tell.
    let _unwritten = writeln!(io::stderr(), "{text}");
}

/// Why a file was not read to its end.
enum Failure {
    /// The file could not be read.
    Input(io::Error),
    /// What was found could not be written.
    Output(io::Error),
    Damage {
        error: rdb::Error,
        /// Key and type, if it is in a value.
        entry: Option<(Bytes, u8)>,
    },
}

/// Calls `visit` with everything in an RDB file and where it ends.
fn read_rdb(
    path: &str,
    mut visit: impl FnMut(u64, Event) -> io::Result<()>,
) -> Result<(), Failure> {
    let mut file = File::open(path).map_err(Failure::Input)?;
    let metadata = file.metadata().map_err(Failure::Input)?;
    // Pipes have no size.
    let size_bytes = metadata.is_file().then_some(metadata.len());
    let mut reader = Reader::new(true, size_bytes);
    loop {
        match reader.next_event() {
            Ok(Some(event)) => visit(reader.position(), event).map_err(Failure::Output)?,
            Ok(None) if reader.has_ended() => return Ok(()),
            Ok(None) => {
                let mut piece = BytesMut::zeroed(PIECE_BYTES);
                let len = file.read(&mut piece).map_err(Failure::Input)?;
                piece.truncate(len);
                match len {
                    0 => reader.end_input(),
                    _ => reader.feed(piece.freeze()),
                }
            }
            Err(error) => {
                let entry = reader.failed_entry();
                return Err(Failure::Damage { error, entry });
            }
        }
    }
}
