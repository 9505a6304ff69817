//! The list of files that make up an append-only file (Redis: aof.c, manifest).
//!
//! ```text
//! file appendonly.aof.1.base.rdb seq 1 type b
//! file appendonly.aof.1.incr.aof seq 1 type i shard 0
//! ```
//! Redis ignores pairs that it does not know, and so do we.

use std::fmt::{self, Write};

use crate::resp::split_quoted;

/// Longest line. Redis: MANIFEST_MAX_LINE.
const LINE_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Base,
    /// Not needed any more, and to be deleted.
    History,
    Incr,
}

impl Kind {
    const fn letter(self) -> char {
        match self {
            Kind::Base => 'b',
            Kind::History => 'h',
            Kind::Incr => 'i',
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub seq: u64,
    pub kind: Kind,
    /// The shard whose records it holds; `None` in files of Redis.
    pub shard: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub base: Option<File>,
    pub history: Vec<File>,
    pub incr: Vec<File>,
}

/// Why a manifest is refused, and on which line (from 1; 0: the whole).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub line: usize,
    pub reason: &'static str,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (line {})", self.reason, self.line)
    }
}

impl Manifest {
    pub fn parse(text: &str) -> Result<Manifest, Error> {
        let mut manifest = Manifest::default();
        let mut seen = 0;
        for (at, line) in text.split_inclusive('\n').enumerate() {
            let fail = |reason| Error {
                line: at + 1,
                reason,
            };
            if line.len() > LINE_MAX || !line.ends_with('\n') {
                return Err(fail("The AOF manifest file contains too long line"));
            }
            seen += 1;
            let line = line.trim_matches(|c: char| c.is_ascii_whitespace());
            if line.starts_with('#') {
                continue;
            }
            manifest
                .add(parse_line(line).map_err(fail)?)
                .map_err(fail)?;
        }
        if seen == 0 {
            let reason = "Found an empty AOF manifest";
            return Err(Error { line: 0, reason });
        }
        Ok(manifest)
    }

    fn add(&mut self, file: File) -> Result<(), &'static str> {
        match file.kind {
            Kind::Base if self.base.is_some() => {
                return Err("Found duplicate base file information");
            }
            Kind::Base => self.base = Some(file),
            Kind::History => self.history.push(file),
            Kind::Incr => {
                if self.incr.last().is_some_and(|last| last.seq >= file.seq) {
                    return Err("Found a non-monotonic sequence number");
                }
                self.incr.push(file);
            }
        }
        Ok(())
    }

    /// The sequence number of the next base.
    pub fn next_base_seq(&self) -> u64 {
        let of = |file: &File| if file.kind == Kind::Base { file.seq } else { 0 };
        self.base.as_ref().map_or(0, of) + 1
    }

    /// The sequence number of the next segment.
    pub fn next_incr_seq(&self) -> u64 {
        // A base that is history has a number of another kind.
        let is_base = |file: &&File| {
            let name = &file.name;
            name.ends_with(".base.rdb") || name.ends_with(".base.aof")
        };
        let history = self.history.iter().filter(|file| !is_base(file));
        let incr = self.incr.iter().chain(history);
        incr.map(|file| file.seq).max().unwrap_or(0) + 1
    }

    /// All files that hold data, in the order in which they are read.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.base.iter().chain(&self.incr)
    }
}

/// `appendonly.aof.1.base.rdb`, or `.aof` if it holds commands.
pub fn base_name(prefix: &str, seq: u64, is_snapshot: bool) -> String {
    let suffix = if is_snapshot { "rdb" } else { "aof" };
    format!("{prefix}.{seq}.base.{suffix}")
}

/// `appendonly.aof.1.incr.aof`
pub fn incr_name(prefix: &str, seq: u64) -> String {
    format!("{prefix}.{seq}.incr.aof")
}

/// `appendonly.aof.manifest`
pub fn manifest_name(prefix: &str) -> String {
    format!("{prefix}.manifest")
}

fn parse_line(line: &str) -> Result<File, &'static str> {
    const FORMAT: &str = "Invalid AOF manifest file format";
    let text = |word| String::from_utf8(word).ok();
    let words = split_quoted(line.as_bytes()).ok_or(FORMAT)?;
    let words: Option<Vec<String>> = words.into_iter().map(text).collect();
    let words = words.ok_or(FORMAT)?;
    if words.len() < 6 || !words.len().is_multiple_of(2) {
        return Err(FORMAT);
    }
    let (mut name, mut seq, mut kind, mut shard) = (None, 0, None, None);
    for pair in words.chunks_exact(2) {
        let value = &pair[1];
        match pair[0].to_ascii_lowercase().as_str() {
            "file" if value.is_empty() || value.contains('/') || value.contains('\\') => {
                return Err("File can't be a path, just a filename");
            }
            "file" => name = Some(value.clone()),
            "seq" => seq = value.parse().unwrap_or(0),
            "type" => {
                kind = match value.as_str() {
                    "b" => Some(Kind::Base),
                    "h" => Some(Kind::History),
                    "i" => Some(Kind::Incr),
                    _ => return Err("Unknown AOF file type"),
                }
            }
            "shard" => shard = value.parse().ok(),
            _ => {}
        }
    }
    match (name, kind) {
        (Some(name), Some(kind)) if seq > 0 => Ok(File {
            name,
            seq,
            kind,
            shard,
        }),
        _ => Err(FORMAT),
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.base.iter().chain(&self.history).chain(&self.incr);
        for file in files {
            f.write_str("file ")?;
            put_name(f, &file.name)?;
            write!(f, " seq {} type {}", file.seq, file.kind.letter())?;
            if let Some(shard) = file.shard {
                write!(f, " shard {shard}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// A name as one word. Redis: sdsneedsrepr and sdscatrepr; but Redis cannot read back what it writes
/// for a name with a single quote.
fn put_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    if !name.is_empty() && name.bytes().all(is_plain) {
        return f.write_str(name);
    }
    f.write_char('"')?;
    for byte in name.bytes() {
        match byte {
            b'"' | b'\\' => write!(f, "\\{}", char::from(byte))?,
            b'\n' => f.write_str("\\n")?,
            b'\r' => f.write_str("\\r")?,
            b'\t' => f.write_str("\\t")?,
            7 => f.write_str("\\a")?,
            8 => f.write_str("\\b")?,
            b' '..=b'~' => f.write_char(char::from(byte))?,
            _ => write!(f, "\\x{byte:02x}")?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_reads_back_as_written() {
        let text = "file appendonly.aof.2.base.rdb seq 2 type b\n\
                    file \"old one.aof\" seq 1 type h\n\
                    file appendonly.aof.4.incr.aof seq 4 type i shard 0\n\
                    file appendonly.aof.5.incr.aof seq 5 type i shard 1\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.to_string(), text);
        assert_eq!(manifest.incr[1].shard, Some(1));
        assert_eq!((manifest.next_base_seq(), manifest.next_incr_seq()), (3, 6));
        let redis = "# a comment\nfile a.aof seq 1 type i startoffset 5 unknown pair\n";
        let manifest = Manifest::parse(redis).unwrap();
        assert_eq!(manifest.to_string(), "file a.aof seq 1 type i\n");
        assert_eq!(manifest.next_base_seq(), 1);
        let kept = "file a.aof.9.base.rdb seq 9 type b\n\
                    file a.aof.2.incr.aof seq 2 type h\n\
                    file a.aof.8.base.rdb seq 8 type h\n";
        assert_eq!(Manifest::parse(kept).unwrap().next_incr_seq(), 3);
    }

    #[test]
    fn odd_names_are_quoted_as_redis_does() {
        for (name, quoted) in [
            ("plain-1.aof", "plain-1.aof"),
            ("two words", r#""two words""#),
            (r#"a"b"#, r#""a\"b""#),
            ("a\nb\r\t\u{7}\u{8}", r#""a\nb\r\t\a\b""#),
            ("it's", "\"it's\""),
            ("é\u{1}", r#""\xc3\xa9\x01""#),
        ] {
            let file = File {
                name: name.to_owned(),
                seq: 1,
                kind: Kind::Incr,
                shard: None,
            };
            let incr = vec![file];
            let manifest = Manifest {
                incr,
                ..Manifest::default()
            };
            let text = manifest.to_string();
            assert_eq!(text, format!("file {quoted} seq 1 type i\n"));
            assert_eq!(Manifest::parse(&text), Ok(manifest), "{name:?}");
        }
    }

    /// Whatever the text, it is refused or says what it can say again.
    #[test]
    fn any_text_is_refused_or_read() {
        let mut rng = fastrand::Rng::with_seed(12);
        let good = "file \"a b.aof\" seq 1 type b\nfile c seq 2 type i shard 1\n";
        let mut read = 0;
        for _ in 0..5_000 {
            let mut bytes = good.as_bytes().to_vec();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..bytes.len());
                match rng.u8(..3) {
                    0 => bytes[at] = rng.u8(..128),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"\"'\\ \n#x7"[rng.usize(..8)]),
                }
            }
            let text = String::from_utf8(bytes).unwrap();
            if let Ok(manifest) = Manifest::parse(&text)
                && let Ok(again) = Manifest::parse(&manifest.to_string())
            {
                assert_eq!(again, manifest, "{text:?}");
                read += 1;
            }
        }
        assert!(read > 500, "{read} were read");
    }

    #[test]
    fn what_redis_refuses_is_refused() {
        for (text, line, reason) in [
            ("", 0, "Found an empty AOF manifest"),
            (
                "file a seq 1 type i",
                1,
                "The AOF manifest file contains too long line",
            ),
            ("file a seq 1\n", 1, "Invalid AOF manifest file format"),
            ("file a seq 1 type\n", 1, "Invalid AOF manifest file format"),
            (
                "file a seq 0 type i\n",
                1,
                "Invalid AOF manifest file format",
            ),
            (
                "file a/b seq 1 type i\n",
                1,
                "File can't be a path, just a filename",
            ),
            ("file a seq 1 type x\n", 1, "Unknown AOF file type"),
            (
                "file a seq 1 type b\nfile b seq 2 type b\n",
                2,
                "Found duplicate base file information",
            ),
            (
                "file a seq 2 type i\nfile b seq 2 type i\n",
                2,
                "Found a non-monotonic sequence number",
            ),
        ] {
            assert_eq!(
                Manifest::parse(text),
                Err(Error { line, reason }),
                "{text:?}"
            );
        }
    }
}
