//! One node of a list, and how much it may hold.

use bytes::Bytes;

use crate::value::closed::Closed;
use crate::value::limits::Limits;
use crate::value::listpack::{Item, Listpack};

/// Nodes limited by a number of elements are limited to this size, too. Redis: SIZE_SAFETY_LIMIT.
pub(super) const SAFETY_BYTES: usize = 8192;
/// What one element adds to a node beside its bytes, estimated. Redis: SIZE_ESTIMATE_OVERHEAD.
pub(super) const ELEMENT_OVERHEAD: usize = 8;
/// Header and terminator of a listpack that go away when two are merged, as Redis estimates.
const MERGE_SAVES_BYTES: usize = 11;
/// What a listpack of one long element has beside its bytes.
const PACK_OVERHEAD: usize = 17;
/// Smaller nodes are not compressed. Redis: MIN_COMPRESS_BYTES.
const COMPRESSED_MIN_BYTES: usize = 48;
/// Compressing must save more than that. Redis: MIN_COMPRESS_IMPROVE.
const COMPRESSED_SAVES_BYTES: usize = 8;

/// How much a node may hold: `list-max-listpack-size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fill(pub(super) i64);

impl Fill {
    pub(super) fn of(limits: &Limits) -> Fill {
        Fill(limits.list_max_listpack_size)
    }

    pub(super) fn bytes_max(self) -> Option<usize> {
        const LEVELS: [usize; 5] = [4096, 8192, 16384, 32768, 65536];
        let level = usize::try_from(-self.0 - 1).ok()?;
        Some(LEVELS[level.min(LEVELS.len() - 1)])
    }

    pub(super) fn allows(self, bytes: usize, elements: usize) -> bool {
        match self.bytes_max() {
            Some(max) => bytes <= max,
            None => bytes <= SAFETY_BYTES && elements as i64 <= self.0,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Pack(Listpack),
    /// One element that no other may join. Behind a pointer, so that the nodes of short lists are
    /// small.
    Plain(Box<Plain>),
    Closed(Closed),
}

const _: () = assert!(size_of::<Node>() == size_of::<Vec<u8>>());

#[derive(Clone, Debug)]
pub(super) struct Plain {
    pub(super) bytes: Bytes,
    /// It came as a node without a listpack and is written as one.
    pub(super) bare: bool,
}

impl Plain {
    fn to_pack(&self) -> Listpack {
        let mut pack = Listpack::with_capacity(self.bytes.len() + PACK_OVERHEAD);
        pack.push(&self.bytes);
        pack
    }

    fn pack_bytes(&self) -> usize {
        Listpack::EMPTY_BYTES + Item::Str(&self.bytes).entry_len()
    }
}

/// `None` if it is too small or nothing much is saved.
fn compressed(pack: &Listpack) -> Option<Closed> {
    let bytes = pack.bytes();
    if bytes < COMPRESSED_MIN_BYTES {
        return None;
    }
    Closed::of(pack.as_bytes(), pack.len(), bytes - COMPRESSED_SAVES_BYTES)
}

fn unpacked(closed: &Closed) -> Listpack {
    Listpack::from_own_bytes(closed.unpack())
}

/// A node as it is saved.
pub enum SavedNode<'a> {
    Pack(&'a Listpack),
    /// An element without a listpack.
    Plain(&'a [u8]),
    /// A listpack of one element that is kept without.
    Large(Listpack),
    /// A listpack of so many bytes, compressed.
    Lzf(&'a [u8], usize),
}

/// A node as it is read: what is compressed is unpacked for the reader.
pub(super) enum Reading<'a> {
    Pack(&'a Listpack),
    Plain(&'a [u8]),
    Unpacked(Listpack),
}

impl Reading<'_> {
    /// Visits up to `count` elements from one on, in either direction.
    pub(super) fn try_each<E>(
        &self,
        at: usize,
        count: usize,
        back: bool,
        visit: &mut impl FnMut(Item) -> Result<(), E>,
    ) -> Result<(), E> {
        let pack = match self {
            Reading::Pack(pack) => pack,
            Reading::Unpacked(pack) => pack,
            Reading::Plain(bytes) if count > 0 => return visit(Item::Str(bytes)),
            Reading::Plain(_) => return Ok(()),
        };
        let Some(pos) = pack.seek(at as isize) else {
            return Ok(());
        };
        if back {
            pack.iter_back_from(pos).take(count).try_for_each(visit)
        } else {
            pack.iter_from(pos).take(count).try_for_each(visit)
        }
    }
}

impl Node {
    /// A node of one element. `shared` is the same bytes if they may be kept without a copy.
    pub(super) fn new(value: &[u8], shared: Option<&Bytes>, fill: Fill) -> Node {
        if fill.allows(value.len() + ELEMENT_OVERHEAD + 7, 1) || value.len() < SAFETY_BYTES {
            let mut pack = Listpack::with_capacity(value.len() + PACK_OVERHEAD);
            pack.push(value);
            return Node::Pack(pack);
        }
        let bytes = match shared {
            Some(shared) => shared.clone(),
            None => Bytes::copy_from_slice(value),
        };
        Node::Plain(Box::new(Plain { bytes, bare: false }))
    }

    pub(super) fn bare(bytes: Bytes) -> Node {
        Node::Plain(Box::new(Plain { bytes, bare: true }))
    }

    pub(super) fn is_bare(&self) -> bool {
        matches!(self, Node::Plain(plain) if plain.bare)
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Node::Pack(pack) => pack.len(),
            Node::Plain(_) => 1,
            Node::Closed(closed) => closed.count(),
        }
    }

    /// Bytes as a listpack, or as what it is saved as.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Node::Pack(pack) => pack.bytes(),
            Node::Plain(plain) if plain.bare => plain.bytes.len(),
            Node::Plain(plain) => plain.pack_bytes(),
            Node::Closed(closed) => closed.bytes(),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Node::Pack(pack) => pack.memory_bytes(),
            Node::Plain(plain) => size_of::<Plain>() + plain.bytes.len(),
            Node::Closed(closed) => closed.memory_bytes(),
        }
    }

    pub(super) fn admits(&self, value: &[u8], fill: Fill) -> bool {
        let more = value.len() + ELEMENT_OVERHEAD;
        match self {
            Node::Pack(pack) => fill.allows(pack.bytes() + more, pack.len() + 1),
            Node::Plain(_) => false,
            Node::Closed(closed) => fill.allows(closed.bytes() + more, closed.count() + 1),
        }
    }

    /// Whether the value may take the place of an element.
    pub(super) fn may_take(&self, value: &[u8]) -> bool {
        match self {
            Node::Pack(pack) => pack.len() == 1 || pack.may_take(value.len()),
            Node::Plain(_) | Node::Closed(_) => true,
        }
    }

    pub(super) fn merges_with(&self, other: &Node, fill: Fill) -> bool {
        let bytes = self.bytes() + other.bytes();
        !self.is_bare()
            && !other.is_bare()
            && fill.allows(bytes - MERGE_SAVES_BYTES, self.len() + other.len())
    }

    pub(super) fn reading(&self) -> Reading<'_> {
        match self {
            Node::Pack(pack) => Reading::Pack(pack),
            Node::Plain(plain) => Reading::Plain(&plain.bytes),
            Node::Closed(closed) => Reading::Unpacked(unpacked(closed)),
        }
    }

    pub(super) fn saved(&self) -> SavedNode<'_> {
        match self {
            Node::Pack(pack) => SavedNode::Pack(pack),
            Node::Plain(plain) if plain.bare => SavedNode::Plain(&plain.bytes),
            Node::Plain(plain) => SavedNode::Large(plain.to_pack()),
            Node::Closed(closed) => SavedNode::Lzf(closed.lzf(), closed.bytes()),
        }
    }

    /// The first or last element of a node that is not compressed.
    pub(super) fn edge(&self, last: bool) -> Option<Item<'_>> {
        match self {
            Node::Pack(pack) if last => pack.last().map(|pos| pack.get(pos)),
            Node::Pack(pack) => pack.first().map(|pos| pack.get(pos)),
            Node::Plain(plain) => Some(Item::Str(&plain.bytes)),
            Node::Closed(_) => None,
        }
    }

    /// As a listpack that can be changed.
    pub(super) fn pack(&mut self) -> &mut Listpack {
        match self {
            Node::Pack(_) => {}
            Node::Plain(plain) => *self = Node::Pack(plain.to_pack()),
            Node::Closed(closed) => *self = Node::Pack(unpacked(closed)),
        }
        match self {
            Node::Pack(pack) => pack,
            _ => unreachable!("all others became listpacks above"),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Node::Closed(_))
    }

    /// Compresses what is worth it.
    pub(super) fn close(&mut self) {
        let closed = match self {
            Node::Pack(pack) => compressed(pack),
            // What came without a listpack stays as it is.
            Node::Plain(plain) if !plain.bare => compressed(&plain.to_pack()),
            Node::Plain(_) | Node::Closed(_) => None,
        };
        if let Some(closed) = closed {
            *self = Node::Closed(closed);
        }
    }
}
