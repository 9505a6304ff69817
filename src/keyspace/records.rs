//! Changes as commands that repeat them: one behind another in one buffer, since every write of a
//! server with an append-only file adds to it.

/// One change as a RESP command that repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub db: u32,
    pub command: &'a [u8],
}

/// What stands around the records of a transaction, as for Redis.
pub const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
pub const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// Who is to repeat a change: the append-only file, the replicas, both, or nobody. A script chooses:
/// redis.set_repl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audience(u8);

impl Audience {
    pub const FILE: Audience = Audience(1);
    pub const REPLICAS: Audience = Audience(2);
    pub const ALL: Audience = Audience(3);

    /// As Redis numbers them: redis.REPL_AOF and its like.
    pub fn from_bits(bits: u8) -> Audience {
        Audience(bits & Audience::ALL.0)
    }

    pub fn is_nobody(self) -> bool {
        self.0 == 0
    }

    fn meets(self, other: Audience) -> bool {
        self.0 & other.0 != 0
    }

    /// Those who are in both.
    pub(super) fn and(self, other: Audience) -> Audience {
        Audience(self.0 & other.0)
    }
}

impl Default for Audience {
    fn default() -> Audience {
        Audience::ALL
    }
}

/// One record's place.
#[derive(Clone, Copy, Debug)]
struct Place {
    db: u32,
    audience: Audience,
    /// Where in the bytes it ends.
    end: usize,
}

/// Records in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// For whom those are that are added.
    audience: Audience,
}

impl Records {
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All of them, one behind another.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets all, and keeps the memory that a busy turn needs.
    pub fn clear(&mut self) {
        const KEPT_BYTES: usize = 64 * 1024;
        self.places.clear();
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
    }

    fn placed(&self) -> impl Iterator<Item = (Record<'_>, Audience)> {
        let begins = std::iter::once(0).chain(self.places.iter().map(|place| place.end));
        begins.zip(&self.places).map(|(begin, place)| {
            let record = Record {
                db: place.db,
                command: &self.bytes[begin..place.end],
            };
            (record, place.audience)
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.placed().map(|(record, _)| record)
    }

    /// Those for an audience.
    pub fn iter_for(&self, audience: Audience) -> impl Iterator<Item = Record<'_>> {
        let placed = self.placed();
        placed.filter_map(move |(record, whose)| whose.meets(audience).then_some(record))
    }

    /// What is added from now on is for these; for whom it was before.
    pub fn set_audience(&mut self, audience: Audience) -> Audience {
        std::mem::replace(&mut self.audience, audience)
    }

    /// For whom is what is added now.
    pub fn audience(&self) -> Audience {
        self.audience
    }

    fn end_record(&mut self, db: u32) {
        self.places.push(Place {
            db,
            audience: self.audience,
            end: self.bytes.len(),
        });
    }

    /// Adds one that is encoded already.
    pub fn push(&mut self, db: u32, command: &[u8]) {
        self.bytes.extend_from_slice(command);
        self.end_record(db);
    }

    /// Adds all of another's, for whom they are.
    pub fn append(&mut self, other: &Records) {
        let own = self.audience;
        for (record, audience) in other.placed() {
            self.audience = audience;
            self.push(record.db, record.command);
        }
        self.audience = own;
    }

    /// Takes those from an index on.
    pub fn split_off(&mut self, from: usize) -> Records {
        let mut taken = Records::default();
        if from >= self.places.len() {
            return taken;
        }
        for (record, audience) in self.placed().skip(from) {
            taken.audience = audience;
            taken.push(record.db, record.command);
        }
        taken.audience = Audience::ALL;
        self.places.truncate(from);
        let end = self.places.last().map_or(0, |place| place.end);
        self.bytes.truncate(end);
        taken
    }

    /// Makes those from an index on one transaction, unless there is only one or none.
    pub fn wrap(&mut self, from: usize) {
        if self.places.len() < from + 2 {
            return;
        }
        let db = self.places[from].db;
        let begin = from
            .checked_sub(1)
            .map_or(0, |before| self.places[before].end);
        self.bytes.splice(begin..begin, MULTI.iter().copied());
        for place in &mut self.places[from..] {
            place.end += MULTI.len();
        }
        let head = Place {
            db,
            audience: self.audience,
            end: begin + MULTI.len(),
        };
        self.places.insert(from, head);
        self.push(db, EXEC);
    }

    /// Encodes one of `count` arguments.
    pub fn encode<'k>(&mut self, db: u32, count: usize, args: impl Iterator<Item = &'k [u8]>) {
        self.header(b'*', count);
        for arg in args {
            self.header(b'$', arg.len());
            self.bytes.extend_from_slice(arg);
            self.bytes.extend_from_slice(b"\r\n");
        }
        self.end_record(db);
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
    fn records_reach_their_audience_alone() {
        let mut records = Records::default();
        for (name, audience) in [
            ("a", Audience::ALL),
            ("f", Audience::FILE),
            ("r", Audience::REPLICAS),
        ] {
            records.set_audience(audience);
            records.push(0, name.as_bytes());
        }
        records.set_audience(Audience::ALL);
        let taken = records.split_off(1);
        records.append(&taken);
        let names = |audience| -> Vec<u8> {
            let chosen = records.iter_for(audience);
            chosen.flat_map(|record| record.command.to_vec()).collect()
        };
        assert_eq!(names(Audience::ALL), b"afr");
        assert_eq!(names(Audience::FILE), b"af");
        assert_eq!(names(Audience::REPLICAS), b"ar");
        assert_eq!(records.audience(), Audience::ALL);
        assert!(Audience::from_bits(4).is_nobody());
    }

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

    #[test]
    fn several_records_become_one_transaction() {
        for count in 0..4 {
            let mut records = Records::default();
            records.push(3, b"before");
            for n in 0..count {
                records.push(n + 1, b"SET");
            }
            records.wrap(1);
            let mut expected: Vec<(u32, &[u8])> = vec![(3, b"before")];
            expected.extend((0..count).map(|n| (n + 1, &b"SET"[..])));
            if count > 1 {
                expected.insert(1, (1, MULTI));
                expected.push((1, EXEC));
            }
            let shown = records.iter().map(|r| (r.db, r.command));
            assert_eq!(shown.collect::<Vec<_>>(), expected);
        }
    }
}
