//! A node's entries turned into columns, which compress to a half of what rows do: an entry differs from
//! the one before in little, but in every element.
//!
//! ```text
//! entries, deleted, fields n, field..., 0          the master entry, as in the listpack
//! width of each column, one byte                   flags, ms, seq, n values, number of elements
//! column...
//!
//! width 0   the elements, one after another        they differ in length
//! width w   the first byte of each, the second byte of each, ...
//! ```
//! Elements are those of the listpack without what tells their length from behind.

use crate::value::listpack::{Builder, Listpack, encoded_len, int_at};

use super::node::{ENTRY_HEAD, SAME_FIELDS, head};

/// Elements of the master entry beside its fields: three numbers before them, one behind.
const MASTER_ELEMENTS: usize = 4;
/// Elements of an entry beside its values.
const ROW_ELEMENTS: usize = ENTRY_HEAD as usize + 1;
/// More fields are not worth it: each may have room for one entry only.
const FIELDS_MAX: usize = 60;
/// Wider elements stay in one piece, whatever their lengths.
const WIDTH_MAX: usize = 32;

fn rows(entries: i64, deleted: i64) -> Option<usize> {
    usize::try_from(entries.checked_add(deleted)?).ok()
}

/// `None` if an entry has fields of its own.
pub fn turn(pack: &Listpack) -> Option<Vec<u8>> {
    let fields = usize::try_from(head(pack, 2)).ok()?;
    let rows = rows(head(pack, 0), head(pack, 1))?;
    let columns = ROW_ELEMENTS + fields;
    if fields > FIELDS_MAX {
        return None;
    }
    let mut elements = pack.encoded();
    let mut turned = Vec::with_capacity(pack.bytes());
    for _ in 0..MASTER_ELEMENTS + fields {
        turned.extend_from_slice(elements.next()?);
    }
    let cells: Vec<&[u8]> = elements.collect();
    let has_same_fields = |row: &[&[u8]]| int_at(row[0]) & SAME_FIELDS != 0;
    if rows.checked_mul(columns) != Some(cells.len())
        || !cells.chunks_exact(columns).all(has_same_fields)
    {
        return None;
    }
    let column = |at: usize| cells.iter().skip(at).step_by(columns);
    let widths: Vec<usize> = (0..columns)
        .map(|at| {
            let width = cells.get(at).map_or(0, |cell| cell.len());
            let is_wide = width > WIDTH_MAX || column(at).any(|cell| cell.len() != width);
            if is_wide { 0 } else { width }
        })
        .collect();
    turned.extend(widths.iter().map(|&width| width as u8));
    for (at, &width) in widths.iter().enumerate() {
        if width == 0 {
            column(at).for_each(|cell| turned.extend_from_slice(cell));
        }
        for byte in 0..width {
            turned.extend(column(at).map(|cell| cell[byte]));
        }
    }
    Some(turned)
}

/// Where the next element of a column is.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    at: usize,
    width: usize,
}

/// Writes the entries of columns that all have a width, column by column: as rows of `stride` bytes.
fn spread(mut columns: &[u8], widths: &[u8], all: &mut [u8], stride: usize) {
    let rows = all.len() / stride;
    let mut to = 0;
    for &width in widths {
        for _ in 0..width {
            let (bytes, rest) = columns.split_at(rows);
            columns = rest;
            for (row, byte) in all.chunks_exact_mut(stride).zip(bytes) {
                row[to] = *byte;
            }
            to += 1;
        }
        // The length from behind is one byte up to 127.
        all.chunks_exact_mut(stride).for_each(|row| row[to] = width);
        to += 1;
    }
}

/// The listpack of what [`turn`] returned.
pub fn turn_back(turned: &[u8]) -> Listpack {
    let mut pack = Builder::with_capacity(turned.len() * 2);
    let mut at = 0;
    let mut numbers = [0; 3];
    let mut elements = MASTER_ELEMENTS;
    let mut seen = 0;
    while seen < elements {
        let element = &turned[at..];
        let element = &element[..encoded_len(element)];
        if let Some(number) = numbers.get_mut(seen) {
            *number = int_at(element);
            elements = MASTER_ELEMENTS + numbers[2] as usize;
        }
        pack.push(element);
        at += element.len();
        seen += 1;
    }
    let [entries, deleted, fields] = numbers;
    let rows = rows(entries, deleted).expect("turned by `turn`");
    let columns = ROW_ELEMENTS + fields as usize;
    let widths = &turned[at..at + columns];
    at += columns;
    if widths.iter().all(|&width| width > 0) {
        let stride: usize = widths.iter().map(|&width| usize::from(width) + 1).sum();
        let all = pack.extend(rows * columns, rows * stride);
        spread(&turned[at..], widths, all, stride);
        return pack.finish();
    }
    let mut cursors: Vec<Cursor> = Vec::with_capacity(columns);
    for &width in widths {
        let width = usize::from(width);
        cursors.push(Cursor { at, width });
        at += width * rows;
        for _ in 0..if width == 0 { rows } else { 0 } {
            at += encoded_len(&turned[at..]);
        }
    }
    let mut cell = [0; WIDTH_MAX];
    for _ in 0..rows {
        for Cursor { at, width } in &mut cursors {
            if *width == 0 {
                let element = &turned[*at..];
                let element = &element[..encoded_len(element)];
                pack.push(element);
                *at += element.len();
                continue;
            }
            let bytes = turned[*at..].iter().step_by(rows);
            cell[..*width]
                .iter_mut()
                .zip(bytes)
                .for_each(|(to, from)| *to = *from);
            pack.push(&cell[..*width]);
            *at += 1;
        }
    }
    pack.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::stream::{EntryId, Node};

    #[test]
    fn elements_of_one_width_become_the_bytes_of_columns() {
        let id = |ms| EntryId { ms, seq: 0 };
        let mut node = Node::new(id(1), &[b"a", b"10"]);
        for n in 2..=100 {
            node.append(id(1), id(n), &[b"a", (n + 9).to_string().as_bytes()]);
        }
        let pack = node.open();
        let turned = turn(pack).expect("all have the same field");
        let head = 1 + 1 + 1 + 2 + 1;
        assert_eq!(turned[head..head + 5], [1; 5], "the widths");
        let values = head + 5 + 3 * 100;
        assert!(turned[values..values + 100].iter().copied().eq(10..110));
        assert_eq!(turn_back(&turned), *pack);
    }

    #[test]
    fn what_is_turned_turns_back() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let fields = rng.usize(1..5);
            let own = rng.u8(..4) == 0;
            let id = |n: u64| EntryId {
                ms: 1_700_000_000_000 + n * n,
                seq: n % 3,
            };
            let long = rng.usize(1..5000);
            let row = |rng: &mut fastrand::Rng, n: u64| -> Vec<Vec<u8>> {
                (0..fields)
                    .flat_map(|field| {
                        let value = match field {
                            0 => n.to_string().into_bytes(),
                            1 => vec![b'x'; rng.usize(..long)],
                            2 => rng.i64(..).to_string().into_bytes(),
                            _ => format!("{:040}", rng.u32(..)).into_bytes(),
                        };
                        [format!("field{field}").into_bytes(), value]
                    })
                    .collect()
            };
            let texts = row(&mut rng, 0);
            let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            let mut node = Node::new(id(0), &texts);
            for n in 1..rng.u64(2..120) {
                let mut texts = row(&mut rng, n);
                if own && n == 1 {
                    texts[0] = b"other".to_vec();
                }
                let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
                node.append(id(0), id(n), &texts);
                if rng.u8(..20) == 0 {
                    node.remove(id(0), id(n));
                }
            }
            let pack = node.open();
            match turn(pack) {
                Some(turned) => assert_eq!(turn_back(&turned), *pack, "seed {seed}"),
                None => assert!(own, "seed {seed}"),
            }
        }
    }
}
