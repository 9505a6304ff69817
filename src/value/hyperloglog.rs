//! HyperLogLogs: estimates of how many different elements were seen, in strings that are byte for
//! byte Redis' (hyperloglog.c).
//!
//! ```text
//! "HYLL" | encoding (0 dense, 1 sparse) | 3 unused | cardinality u64, little-endian; its highest bit: stale
//!
//! dense:   16,384 registers of 6 bits, the first in the lowest bits
//! sparse:  00xxxxxx            1..=64 registers of 0
//!          01xxxxxx xxxxxxxx   1..=16,384 registers of 0
//!          1vvvvvxx            1..=4 registers of the value 1..=32
//! ```
//! The estimator is Ertl's (arXiv 1702.01284), as in Redis since 5.0.

const HEADER: usize = 16;
const ENCODING_AT: usize = 4;
const CARDINALITY_AT: usize = 8;
const STALE: u8 = 1 << 7;
pub const REGISTERS: usize = 1 << 14;
const REGISTER_BITS: usize = 6;
/// Registers that fill whole bytes, and those bytes: what is read and written at once.
const GROUP: usize = 8;
const GROUP_BYTES: usize = GROUP * REGISTER_BITS / 8;
/// Bits of the hash behind the register's index.
const Q: usize = 64 - 14;
const DENSE_BYTES: usize = HEADER + REGISTERS * REGISTER_BITS / 8;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const ZERO_MAX: usize = 64;
const VALUE_MAX: u8 = 32;
const VALUE_RUN_MAX: usize = 4;
/// Redis: hllPatLen.
const SEED: u64 = 0xadc8_3b19;

/// Why a string is no HyperLogLog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// It does not look like one.
    NotOne,
    /// It looks like one, but its registers do not add up.
    Corrupted,
}

/// Registers as bytes: what is merged and counted.
pub struct Registers(Box<[u8; REGISTERS]>);

impl Default for Registers {
    fn default() -> Registers {
        Registers(Box::new([0; REGISTERS]))
    }
}

/// One opcode of the sparse form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    Zeros(usize),
    /// Zeros in the two-byte form.
    ManyZeros(usize),
    Value(u8, usize),
}

impl Run {
    fn read(bytes: &[u8]) -> Option<Run> {
        let &first = bytes.first()?;
        Some(match first >> 6 {
            0 => Run::Zeros(usize::from(first & 0x3f) + 1),
            1 => Run::ManyZeros((usize::from(first & 0x3f) << 8 | usize::from(*bytes.get(1)?)) + 1),
            _ => Run::Value((first >> 2 & 0x1f) + 1, usize::from(first & 3) + 1),
        })
    }

    fn zeros(len: usize) -> Run {
        if len > ZERO_MAX {
            Run::ManyZeros(len)
        } else {
            Run::Zeros(len)
        }
    }

    pub fn len(self) -> usize {
        match self {
            Run::Zeros(len) | Run::ManyZeros(len) | Run::Value(_, len) => len,
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    fn bytes(self) -> usize {
        if matches!(self, Run::ManyZeros(_)) {
            2
        } else {
            1
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Run::Zeros(len) => out.push(len as u8 - 1),
            Run::ManyZeros(len) => {
                out.extend([0x40 | ((len - 1) >> 8) as u8, (len - 1) as u8]);
            }
            Run::Value(value, len) => out.push(0x80 | (value - 1) << 2 | (len as u8 - 1)),
        }
    }
}

/// An empty HyperLogLog.
pub fn empty() -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[..4].copy_from_slice(b"HYLL");
    bytes[ENCODING_AT] = SPARSE;
    Run::ManyZeros(REGISTERS).write(&mut bytes);
    bytes
}

/// Whether a string looks like a HyperLogLog.
pub fn check(bytes: &[u8]) -> Result<(), Invalid> {
    let looks = bytes.len() >= HEADER
        && bytes.starts_with(b"HYLL")
        && bytes[ENCODING_AT] <= SPARSE
        && (bytes[ENCODING_AT] != DENSE || bytes.len() == DENSE_BYTES);
    if looks { Ok(()) } else { Err(Invalid::NotOne) }
}

pub fn is_dense(bytes: &[u8]) -> bool {
    bytes[ENCODING_AT] == DENSE
}

/// The runs of the sparse form.
pub fn runs(bytes: &[u8]) -> impl Iterator<Item = Run> + '_ {
    let mut at = HEADER;
    std::iter::from_fn(move || {
        let run = Run::read(bytes.get(at..)?)?;
        at += run.bytes();
        Some(run)
    })
}

fn dense_get(bytes: &[u8], index: usize) -> u8 {
    let bit = index * REGISTER_BITS;
    let (at, shift) = (HEADER + bit / 8, bit % 8);
    let low = bytes[at] >> shift;
    let high = if shift > 2 {
        bytes[at + 1] << (8 - shift)
    } else {
        0
    };
    (low | high) & 0x3f
}

fn dense_set(bytes: &mut [u8], index: usize, value: u8) {
    let bit = index * REGISTER_BITS;
    let (at, shift) = (HEADER + bit / 8, bit % 8);
    bytes[at] = bytes[at] & !(0x3f << shift) | value << shift;
    if shift > 2 {
        let back = 8 - shift;
        bytes[at + 1] = bytes[at + 1] & !(0x3f >> back) | value >> back;
    }
}

/// A group of dense registers, one per byte: halves, quarters and eighths move apart in turn.
#[inline]
fn unpack(group: [u8; GROUP_BYTES]) -> [u8; GROUP] {
    let [a, b, c, d, e, f] = group;
    let bits = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
    let halves = bits & 0xff_ffff | (bits & 0xff_ffff << 24) << 8;
    let quarters = halves & 0xfff_0000_0fff | (halves & 0xff_f000_00ff_f000) << 4;
    let eighths = quarters & 0x3f_003f_003f_003f | (quarters & 0xfc0_0fc0_0fc0_0fc0) << 2;
    eighths.to_le_bytes()
}

/// What [`unpack`] takes apart.
#[inline]
fn pack(registers: [u8; GROUP]) -> [u8; GROUP_BYTES] {
    let eighths = u64::from_le_bytes(registers);
    let quarters = eighths & 0x3f_003f_003f_003f | (eighths >> 2) & 0xfc0_0fc0_0fc0_0fc0;
    let halves = quarters & 0xfff_0000_0fff | (quarters >> 4) & 0xff_f000_00ff_f000;
    let bits = halves & 0xff_ffff | (halves >> 8) & 0xff_ffff << 24;
    let [a, b, c, d, e, f, _, _] = bits.to_le_bytes();
    [a, b, c, d, e, f]
}

/// MurmurHash64A (Austin Appleby, public domain), of which HyperLogLogs are made.
fn murmur64a(data: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mix = |word: u64| {
        let word = word.wrapping_mul(M);
        (word ^ word >> 47).wrapping_mul(M)
    };
    let mut hash = seed ^ (data.len() as u64).wrapping_mul(M);
    let (words, rest) = data.as_chunks::<8>();
    for &word in words {
        hash = (hash ^ mix(u64::from_le_bytes(word))).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(M);
    hash ^ hash >> 47
}

/// The register of an element, and what it is raised to.
pub fn register_of(element: &[u8]) -> (usize, u8) {
    let hash = murmur64a(element, SEED);
    let rest = hash >> 14 | 1 << Q;
    (
        hash as usize & (REGISTERS - 1),
        rest.trailing_zeros() as u8 + 1,
    )
}

/// Raises a register of a dense one; returns whether it was lower.
pub fn raise_dense(bytes: &mut [u8], index: usize, value: u8) -> bool {
    let lower = dense_get(bytes, index) < value;
    if lower {
        dense_set(bytes, index, value);
    }
    lower
}

/// Raises a register; returns whether it was lower. The sparse form becomes dense when it would
/// exceed `sparse_max_bytes`, or with a value it cannot hold.
pub fn raise(
    bytes: &mut Vec<u8>,
    index: usize,
    value: u8,
    sparse_max_bytes: usize,
) -> Result<bool, Invalid> {
    if is_dense(bytes) {
        return Ok(raise_dense(bytes, index, value));
    }
    let promote = |bytes: &mut Vec<u8>| {
        to_dense(bytes)?;
        Ok(raise_dense(bytes, index, value))
    };
    if value > VALUE_MAX {
        return promote(bytes);
    }
    let (mut at, mut first, mut previous) = (HEADER, 0, None);
    let run = loop {
        let run = bytes
            .get(at..)
            .and_then(Run::read)
            .ok_or(Invalid::Corrupted)?;
        if index < first + run.len() {
            break run;
        }
        previous = Some(at);
        at += run.bytes();
        first += run.len();
    };
    if matches!(run, Run::Value(old, _) if old >= value) {
        return Ok(false);
    }
    let mut parts = Vec::with_capacity(5);
    let part = |len| match run {
        Run::Value(old, _) => Run::Value(old, len),
        _ => Run::zeros(len),
    };
    if index > first {
        part(index - first).write(&mut parts);
    }
    Run::Value(value, 1).write(&mut parts);
    let behind = first + run.len() - 1 - index;
    if behind > 0 {
        part(behind).write(&mut parts);
    }
    let grows = parts.len() > run.bytes();
    if grows && bytes.len() + parts.len() - run.bytes() > sparse_max_bytes {
        return promote(bytes);
    }
    bytes.splice(at..at + run.bytes(), parts);
    merge_values(bytes, previous.unwrap_or(HEADER));
    bytes[CARDINALITY_AT + 7] |= STALE;
    Ok(true)
}

/// Raises every register to its value in `values`, as [`raise`] does with one. The values are those of
/// registers.
pub fn raise_all(
    bytes: &mut Vec<u8>,
    values: &[u8],
    sparse_max_bytes: usize,
) -> Result<(), Invalid> {
    for (index, &value) in values.iter().enumerate().filter(|(_, value)| **value > 0) {
        if is_dense(bytes) {
            raise_all_dense(bytes, values);
            return Ok(());
        }
        raise(bytes, index, value, sparse_max_bytes)?;
    }
    Ok(())
}

fn raise_all_dense(bytes: &mut [u8], values: &[u8]) {
    let (groups, _) = bytes[HEADER..].as_chunks_mut::<GROUP_BYTES>();
    for (group, values) in groups.iter_mut().zip(values.as_chunks().0) {
        let mut registers = unpack(*group);
        raise_group(&mut registers, values);
        *group = pack(registers);
    }
}

#[inline]
fn raise_group(registers: &mut [u8; GROUP], values: &[u8; GROUP]) {
    for (register, &value) in registers.iter_mut().zip(values) {
        *register = (*register).max(value);
    }
}

/// Merges neighbouring runs of one value, looking at five opcodes as Redis does.
fn merge_values(bytes: &mut Vec<u8>, from: usize) {
    let mut at = from;
    for _ in 0..5 {
        let Some(run) = bytes.get(at..).and_then(Run::read) else {
            return;
        };
        let next = bytes.get(at + run.bytes()..).and_then(Run::read);
        if let (Run::Value(a, len), Some(Run::Value(b, more))) = (run, next)
            && a == b
            && len + more <= VALUE_RUN_MAX
        {
            bytes.remove(at);
            let mut merged = Vec::with_capacity(1);
            Run::Value(a, len + more).write(&mut merged);
            bytes[at] = merged[0];
            continue;
        }
        at += run.bytes();
    }
}

/// Brings a HyperLogLog into the dense form.
pub fn to_dense(bytes: &mut Vec<u8>) -> Result<(), Invalid> {
    if is_dense(bytes) {
        return Ok(());
    }
    let mut registers = Registers::default();
    registers.merge(bytes)?;
    let mut dense = vec![0; DENSE_BYTES];
    dense[..HEADER].copy_from_slice(&bytes[..HEADER]);
    dense[ENCODING_AT] = DENSE;
    raise_all_dense(&mut dense, &*registers.0);
    *bytes = dense;
    Ok(())
}

/// The cardinality that was computed before and still holds.
pub fn cached(bytes: &[u8]) -> Option<u64> {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[CARDINALITY_AT..HEADER]);
    (word[7] & STALE == 0).then_some(u64::from_le_bytes(word))
}

pub fn set_cached(bytes: &mut [u8], cardinality: u64) {
    bytes[CARDINALITY_AT..HEADER].copy_from_slice(&cardinality.to_le_bytes());
}

/// Notes that the cardinality has to be computed again.
pub fn make_stale(bytes: &mut [u8]) {
    bytes[CARDINALITY_AT + 7] |= STALE;
}

impl Registers {
    /// Raises registers to those of a HyperLogLog.
    pub fn merge(&mut self, bytes: &[u8]) -> Result<(), Invalid> {
        if is_dense(bytes) {
            let (groups, _) = bytes[HEADER..].as_chunks::<GROUP_BYTES>();
            for (registers, group) in self.0.as_chunks_mut().0.iter_mut().zip(groups) {
                raise_group(registers, &unpack(*group));
            }
            return Ok(());
        }
        let (mut index, mut used) = (0, HEADER);
        for run in runs(bytes) {
            let end = index + run.len();
            let covered = self.0.get_mut(index..end).ok_or(Invalid::Corrupted)?;
            if let Run::Value(value, _) = run {
                covered
                    .iter_mut()
                    .for_each(|register| *register = (*register).max(value));
            }
            index = end;
            used += run.bytes();
        }
        if index == REGISTERS && used == bytes.len() {
            Ok(())
        } else {
            Err(Invalid::Corrupted)
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = u8> + '_ {
        self.0.iter().copied()
    }

    /// One byte for each register.
    pub fn as_bytes(&self) -> &[u8] {
        &*self.0
    }

    /// The estimate. Redis: hllCount.
    pub fn count(&self) -> u64 {
        const ALPHA: f64 = 0.721_347_520_444_481_7;
        // Neighbours are often alike: counted in one place, each would wait for the one before.
        let mut histograms = [[0u32; 64]; 4];
        for values in self.0.as_chunks::<4>().0 {
            for (histogram, &value) in histograms.iter_mut().zip(values) {
                histogram[usize::from(value)] += 1;
            }
        }
        let histogram: [u32; 64] =
            std::array::from_fn(|value| histograms.iter().map(|counts| counts[value]).sum());
        let m = REGISTERS as f64;
        let mut z = m * tau((m - f64::from(histogram[Q + 1])) / m);
        for &count in histogram[1..=Q].iter().rev() {
            z = (z + f64::from(count)) * 0.5;
        }
        z += m * sigma(f64::from(histogram[0]) / m);
        (ALPHA * m * m / z).round() as u64
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(bytes: &[u8]) -> Vec<u8> {
        let mut registers = Registers::default();
        registers.merge(bytes).expect("whole");
        registers.iter().collect()
    }

    #[test]
    fn both_forms_hold_the_same_registers() {
        let (mut sparse, mut dense) = (empty(), empty());
        to_dense(&mut dense).expect("whole");
        let mut model = vec![0; REGISTERS];
        for n in 0..3000 {
            let (index, value) = register_of(format!("element:{n}").as_bytes());
            let lower = model[index] < value;
            model[index] = model[index].max(value);
            assert_eq!(raise(&mut sparse, index, value, 3000), Ok(lower), "{n}");
            assert_eq!(raise_dense(&mut dense, index, value), lower, "{n}");
            if n % 100 == 0 {
                assert_eq!(registers(&sparse), model, "{n}");
            }
        }
        assert!(is_dense(&sparse), "3,000 elements exceed 3,000 bytes");
        assert_eq!(registers(&dense), model);
    }

    #[test]
    fn groups_are_the_registers_that_stand_in_them() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut dense = empty();
        to_dense(&mut dense).expect("whole");
        rng.fill(&mut dense[HEADER..]);
        for (at, group) in dense[HEADER..].as_chunks().0.iter().enumerate() {
            let registers = unpack(*group);
            assert_eq!(
                registers,
                std::array::from_fn(|i| dense_get(&dense, at * GROUP + i))
            );
            assert_eq!(pack(registers), *group);
        }
    }

    #[test]
    fn raising_all_registers_is_raising_each() {
        let mut rng = fastrand::Rng::with_seed(2);
        for (count, max) in [(10, 3000), (3000, 500), (20_000, 3000), (20_000, 0)] {
            let mut values = vec![0; REGISTERS];
            for _ in 0..count {
                values[rng.usize(..REGISTERS)] = rng.u8(1..=51);
            }
            let mut all = empty();
            for n in 0..count / 10 {
                let (index, value) = register_of(n.to_string().as_bytes());
                raise(&mut all, index, value, max).expect("whole");
            }
            let mut each = all.clone();
            raise_all(&mut all, &values, max).expect("whole");
            for (index, &value) in values.iter().enumerate().filter(|(_, value)| **value > 0) {
                raise(&mut each, index, value, max).expect("whole");
            }
            make_stale(&mut all);
            make_stale(&mut each);
            assert!(all == each, "{count} {max}");
        }
    }

    #[test]
    fn estimates_are_close() {
        let mut registers = empty();
        to_dense(&mut registers).expect("whole");
        for n in 1..=100_000u64 {
            let (index, value) = register_of(n.to_string().as_bytes());
            raise_dense(&mut registers, index, value);
            if [10, 1000, 100_000].contains(&n) {
                let mut all = Registers::default();
                all.merge(&registers).expect("whole");
                let error = all.count().abs_diff(n) as f64 / n as f64;
                assert!(error < 0.03, "{n}: {}", all.count());
            }
        }
    }

    #[test]
    fn damaged_ones_are_refused() {
        assert_eq!(check(b"HYLL"), Err(Invalid::NotOne));
        let mut short = empty();
        short.pop();
        assert_eq!(check(&short), Ok(()));
        assert_eq!(Registers::default().merge(&short), Err(Invalid::Corrupted));
        let mut long = empty();
        long.push(0);
        assert_eq!(Registers::default().merge(&long), Err(Invalid::Corrupted));
    }
}
