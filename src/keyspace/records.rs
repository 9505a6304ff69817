//! Changes as commands that repeat them: one behind another in one buffer, since every write of a
//! server with an append-only file adds to it.

/// One change as a RESP command that repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub db: u32,
    pub command: &'a [u8],
}

/// Records in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    /// Each one's database, and where in `bytes` it ends.
    ends: Vec<(u32, usize)>,
}

impl Records {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All of them, one behind another.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets all, and keeps the memory that a busy turn needs.
    pub fn clear(&mut self) {
        const KEPT_BYTES: usize = 64 * 1024;
        self.ends.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
    }

    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        let ends = begins.zip(&self.ends);
        ends.map(|(begin, &(db, end))| Record {
            db,
            command: &self.bytes[begin..end],
        })
    }

    /// Adds one that is encoded already.
    pub fn push(&mut self, db: u32, command: &[u8]) {
        self.bytes.extend_from_slice(command);
        self.ends.push((db, self.bytes.len()));
    }

    /// Adds all of another's.
    pub fn append(&mut self, other: &Records) {
        other
            .iter()
            .for_each(|record| self.push(record.db, record.command));
    }

    /// Takes those from an index on.
    pub fn split_off(&mut self, from: usize) -> Records {
        let mut taken = Records::default();
        if from >= self.ends.len() {
            return taken;
        }
        self.iter()
            .skip(from)
            .for_each(|record| taken.push(record.db, record.command));
        self.ends.truncate(from);
        let end = self.ends.last().map_or(0, |(_, end)| *end);
        self.bytes.truncate(end);
        taken
    }

    /// Encodes one of `count` arguments.
    pub fn encode<'k>(&mut self, db: u32, count: usize, args: impl Iterator<Item = &'k [u8]>) {
        self.header(b'*', count);
        for arg in args {
            self.header(b'$', arg.len());
            self.bytes.extend_from_slice(arg);
            self.bytes.extend_from_slice(b"\r\n");
        }
        self.ends.push((db, self.bytes.len()));
    }

    fn header(&mut self, mark: u8, n: usize) {
        self.bytes.push(mark);
        let mut text = itoa::Buffer::new();
        self.bytes.extend_from_slice(text.format(n).as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_taken_as_they_were_added() {
        let mut records = Records::default();
        records.encode(3, 2, [&b"DEL"[..], b"key"].into_iter());
        records.push(1, b"x");
        records.push(2, b"yz");
        let tail = records.split_off(1);
        let shown = |records: &Records| -> Vec<(u32, Vec<u8>)> {
            records.iter().map(|r| (r.db, r.command.to_vec())).collect()
        };
        assert_eq!(
            shown(&records),
            [(3, b"*2\r\n$3\r\nDEL\r\n$3\r\nkey\r\n".to_vec())]
        );
        assert_eq!(shown(&tail), [(1, b"x".to_vec()), (2, b"yz".to_vec())]);
        assert!(records.split_off(1).is_empty());
        records.append(&tail);
        assert_eq!(records.len(), 3);
        records.clear();
        assert!(records.is_empty());
    }
}
