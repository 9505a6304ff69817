//! `pinion check-aof`: redis-check-aof in output and exit codes (Redis: redis-check-aof.c), and
//! beside it the units of our own segments with their checksums.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use super::check_rdb;
use crate::journal::{Fault, Manifest, Reader, manifest, reader};
use crate::server::persist::aof::front;

/// Whose end may be cut off, and how a file came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Valid,
    Empty,
    Truncated,
    /// To a time.
    Shortened(i64),
    Invalid,
}

struct Check<'a, W: Write> {
    out: &'a mut W,
    fix: bool,
    /// What was written after this time, in unix seconds, is cut off.
    until_s: Option<i64>,
    /// Lines read so far, over all files, as redis-check-aof counts them.
    lines: u64,
}

/// Checks a manifest with all its files, or one file. `fix`: offers to cut off a torn end.
pub fn run(
    path: &str,
    fix: bool,
    until_s: Option<i64>,
    out: &mut impl Write,
) -> io::Result<ExitCode> {
    let mut check = Check {
        out,
        fix,
        until_s,
        lines: 1,
    };
    let path = Path::new(path);
    let is_ok = if path.extension().is_some_and(|end| end == "manifest") {
        check.directory(path)?
    } else {
        check.old_style(path)?
    };
    Ok(if is_ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl<W: Write> Check<'_, W> {
    fn directory(&mut self, path: &Path) -> io::Result<bool> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                writeln!(self.out, "Cannot open file {}: {error}", path.display())?;
                return Ok(false);
            }
        };
        let manifest = match Manifest::parse(&text) {
            Ok(manifest) => manifest,
            Err(error) => {
                writeln!(self.out, "*** FATAL AOF MANIFEST FILE ERROR ***")?;
                writeln!(self.out, "{error}")?;
                return Ok(false);
            }
        };
        writeln!(self.out, "Start checking Multi Part AOF")?;
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        // A generation of segments ends as one.
        let begins = |a: &manifest::File, b: &manifest::File| a.shard < b.shard;
        let generations = manifest.incr.chunk_by(begins);
        let last: Vec<String> = match generations.last() {
            Some(files) => files.iter().map(|file| file.name.clone()).collect(),
            None => manifest.files().map(|file| file.name.clone()).collect(),
        };
        for (at, file) in manifest.files().enumerate() {
            let file_path = folder.join(&file.name);
            let is_base = at == 0 && manifest.base.is_some();
            let is_snapshot = reader::is_snapshot(&front(&file_path));
            if is_base {
                let format = if is_snapshot { "RDB" } else { "RESP" };
                writeln!(self.out, "Start to check BASE AOF ({format} format).")?;
            } else if at == usize::from(manifest.base.is_some()) {
                writeln!(self.out, "Start to check INCR files.")?;
            }
            let is_last = last.contains(&file.name);
            let kind = if is_base { "BASE" } else { "INCR" };
            match self.file(&file_path, &file.name, is_last)? {
                Found::Valid => writeln!(self.out, "{kind} AOF {} is valid", file.name)?,
                Found::Empty => writeln!(self.out, "{kind} AOF {} is empty", file.name)?,
                Found::Truncated => {
                    writeln!(self.out, "Successfully truncated AOF {}", file.name)?;
                }
                Found::Shortened(to_s) => {
                    let name = &file.name;
                    writeln!(
                        self.out,
                        "Successfully truncated AOF {name} to timestamp {to_s}"
                    )?;
                }
                Found::Invalid => return Ok(false),
            }
        }
        writeln!(self.out, "All AOF files and manifest are valid")?;
        Ok(true)
    }

    fn old_style(&mut self, path: &Path) -> io::Result<bool> {
        let name = path.display().to_string();
        writeln!(self.out, "Start checking Old-Style AOF")?;
        match self.file(path, &name, true)? {
            Found::Valid => writeln!(self.out, "AOF {name} is valid")?,
            Found::Empty => writeln!(self.out, "AOF {name} is empty")?,
            Found::Truncated => writeln!(self.out, "Successfully truncated AOF {name}")?,
            Found::Shortened(to_s) => writeln!(
                self.out,
                "Successfully truncated AOF {name} to timestamp {to_s}"
            )?,
            Found::Invalid => return Ok(false),
        }
        Ok(true)
    }

    fn file(&mut self, path: &Path, name: &str, is_last: bool) -> io::Result<Found> {
        let mut bytes = Vec::new();
        if let Err(error) = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
            writeln!(self.out, "Cannot open file {name}: {error}, aborting...")?;
            return Ok(Found::Invalid);
        }
        if bytes.is_empty() {
            return Ok(Found::Empty);
        }
        let mut from = 0;
        if reader::is_snapshot(&bytes) {
            let path = path.display().to_string();
            let Some(end) = check_rdb::preamble(&path, self.out)? else {
                writeln!(self.out, "RDB preamble of AOF file is not sane, aborting.")?;
                return Ok(Found::Invalid);
            };
            writeln!(self.out, "RDB preamble is OK, proceeding with AOF tail...")?;
            from = end as usize;
        }
        self.commands(path, name, &bytes, from, is_last)
    }

    /// Checks the commands of a file, which begin at an offset.
    fn commands(
        &mut self,
        path: &Path,
        name: &str,
        bytes: &[u8],
        from: usize,
        is_last: bool,
    ) -> io::Result<Found> {
        let is_framed = reader::is_framed(&bytes[from..]);
        let mut reader = Reader::new(is_framed);
        reader.feed(&bytes[from..]);
        reader.end_input();
        let (mut valid_to, mut units) = (from as u64, 0);
        let fault = loop {
            match reader.next_item() {
                Ok(Some(item)) => {
                    let before = &bytes[valid_to as usize..from + item.at as usize];
                    if self.is_after(before) {
                        return self.shorten(path, valid_to, is_last, is_framed);
                    }
                    valid_to = from as u64 + reader.position();
                    units += u64::from(is_framed);
                }
                Ok(None) => {
                    valid_to = bytes.len() as u64;
                    break None;
                }
                Err(fault) => break Some(fault),
            }
        };
        match &fault {
            Some(Fault::Damaged { at, reason }) => {
                writeln!(self.out, "0x{:16x}: {reason}", from as u64 + at)?;
            }
            Some(Fault::Torn { .. }) => {
                writeln!(self.out, "0x{valid_to:16x}: the file ends too early")?;
            }
            None => {}
        }
        let checked = &bytes[from..valid_to as usize];
        // redis-check-aof does not count comments, of which each unit has one.
        let lines = checked.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.lines += lines.saturating_sub(units);
        let size = bytes.len() as u64;
        let diff = size - valid_to;
        if let (0, Some(until_s)) = (diff, self.until_s) {
            let nothing = format!("Truncate nothing in AOF {name} to timestamp {until_s}");
            writeln!(self.out, "{nothing}")?;
            return Ok(Found::Valid);
        }
        writeln!(
            self.out,
            "AOF analyzed: filename={name}, size={size}, ok_up_to={valid_to}, ok_up_to_line={}, \
             diff={diff}",
            self.lines
        )?;
        if fault.is_none() {
            return Ok(Found::Valid);
        }
        self.mend(path, name, (size, valid_to), is_last || is_framed)
    }

    /// Offers to cut off what cannot be read.
    fn mend(
        &mut self,
        path: &Path,
        name: &str,
        (size, to): (u64, u64),
        may_be_torn: bool,
    ) -> io::Result<Found> {
        if !self.fix {
            writeln!(
                self.out,
                "AOF {name} is not valid. Use the --fix option to try fixing it."
            )?;
            return Ok(Found::Invalid);
        }
        if !may_be_torn {
            writeln!(
                self.out,
                "Failed to truncate AOF {name} because it is not the last file"
            )?;
            return Ok(Found::Invalid);
        }
        self.truncate(path, name, size, to)
    }

    /// Whether comments say that what follows was written too late.
    fn is_after(&self, comments: &[u8]) -> bool {
        let Some(until_s) = self.until_s else {
            return false;
        };
        let text = String::from_utf8_lossy(comments);
        let mut times = text.lines().filter_map(|line| line.strip_prefix("#TS:"));
        times.any(|time| {
            time.trim_end()
                .parse()
                .is_ok_and(|at_s: i64| at_s > until_s)
        })
    }

    /// Cuts off what was written after the time that was asked for.
    fn shorten(
        &mut self,
        path: &Path,
        to: u64,
        is_last: bool,
        is_framed: bool,
    ) -> io::Result<Found> {
        let until_s = self.until_s.unwrap_or_default();
        let shown = path.display();
        // Another shard may have written before.
        if to == 0 && !is_framed {
            let nothing =
                format!("AOF {shown} has nothing before timestamp {until_s}, aborting...");
            writeln!(self.out, "{nothing}")?;
            return Ok(Found::Invalid);
        }
        if !is_last {
            writeln!(
                self.out,
                "Failed to truncate AOF {shown} to timestamp {until_s} to offset {to} because it is \
                 not the last file.\nTake the files behind it out of the manifest, remove them, and \
                 run this again."
            )?;
            return Ok(Found::Invalid);
        }
        let file = OpenOptions::new().write(true).open(path);
        match file.and_then(|file| file.set_len(to)) {
            Ok(()) => Ok(Found::Shortened(until_s)),
            Err(_) => {
                writeln!(
                    self.out,
                    "Failed to truncate AOF {shown} to timestamp {until_s}"
                )?;
                Ok(Found::Invalid)
            }
        }
    }

    fn truncate(&mut self, path: &Path, name: &str, size: u64, to: u64) -> io::Result<Found> {
        writeln!(
            self.out,
            "This will shrink the AOF {name} from {size} bytes, with {} bytes, to {to} bytes",
            size - to
        )?;
        write!(self.out, "Continue? [y/N]: ")?;
        self.out.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        if !answer.trim_start().to_ascii_lowercase().starts_with('y') {
            writeln!(self.out, "Aborting...")?;
            return Ok(Found::Invalid);
        }
        let file = OpenOptions::new().write(true).open(path);
        match file.and_then(|file| file.set_len(to)) {
            Ok(()) => Ok(Found::Truncated),
            Err(_) => {
                writeln!(self.out, "Failed to truncate AOF {name}")?;
                Ok(Found::Invalid)
            }
        }
    }
}
