//! Lists.
//!
//! ```text
//! written (18):   nodes  (1  string | 2  listpack in a string) ...
//! before 7 (14):  nodes  (ziplist in a string) ...
//! before 3.2:     ziplist in a string (10)  |  elements  string ... (1)
//! ```

use bytes::Bytes;

use super::{Body, take_packed};
use crate::number::parse_i64;
use crate::rdb::Sink;
use crate::rdb::error::{Error, Fault, Result};
use crate::rdb::input::Input;
use crate::rdb::{length, packed, string};
use crate::value::listpack::{Item, Listpack};

const PLAIN: u64 = 1;
const PACKED: u64 = 2;

impl<S: Sink> Body<'_, S> {
    /// Begins a list; that many nodes follow.
    pub fn list(&mut self, nodes: u64) {
        self.len(nodes);
    }

    /// A node of one element, which is too large for a listpack.
    pub fn plain_node(&mut self, element: &[u8]) {
        self.len(PLAIN);
        self.text(element);
    }

    /// A node of elements in a listpack.
    pub fn packed_node(&mut self, listpack: &[u8]) {
        self.len(PACKED);
        self.text(listpack);
    }

    /// The same for a listpack of so many bytes that is compressed already. Redis: whatever
    /// `rdbcompression` says.
    pub fn compressed_node(&mut self, lzf: &[u8], bytes: usize) {
        self.len(PACKED);
        string::put_lzf(self.out, lzf, bytes);
    }
}

/// A part of a list. Nodes are kept as they were, so that a value saved again is the same bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum ListPart {
    /// An element that belongs to no node yet.
    Element(Bytes),
    /// A node of one element without a listpack.
    Plain(Bytes),
    /// A node, which is not empty.
    Packed(Listpack),
}

impl ListPart {
    pub fn len(&self) -> usize {
        match self {
            ListPart::Element(_) | ListPart::Plain(_) => 1,
            ListPart::Packed(pack) => pack.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn for_each(&self, mut visit: impl FnMut(&[u8])) {
        match self {
            ListPart::Element(element) | ListPart::Plain(element) => visit(element),
            ListPart::Packed(pack) => {
                let mut scratch = itoa::Buffer::new();
                pack.iter().for_each(|item| visit(item.bytes(&mut scratch)));
            }
        }
    }
}

/// The listpack of a node; `None` if it is not one in every detail.
fn node(packed: &Bytes) -> Option<Listpack> {
    let pack = Listpack::from_bytes_checked(packed.to_vec())?;
    // Redis finds an integer also where it is spelt out; none is ever written so.
    let spelt = |item: Item| matches!(item, Item::Str(text) if parse_i64(text).is_some());
    if !pack.iter().any(spelt) {
        return Some(pack);
    }
    let mut canonical = Listpack::with_capacity(pack.bytes());
    let mut scratch = itoa::Buffer::new();
    pack.iter()
        .for_each(|item| canonical.push(item.bytes(&mut scratch)));
    Some(canonical)
}

pub fn take_quicklist_2(input: &mut Input) -> Result<Vec<ListPart>> {
    let nodes = length::take(input)?;
    let mut parts = Vec::new();
    for _ in 0..nodes {
        let start = input.position();
        match length::take(input)? {
            PLAIN => {
                let element = string::take(input)?;
                // Redis: an empty string is never too large for a listpack.
                if element.is_empty() {
                    return Err(Error::new(start, Fault::Packed("Quicklist")));
                }
                parts.push(ListPart::Plain(element));
            }
            PACKED => {
                let pack = take_packed(input, "Listpack", node)?;
                if !pack.is_empty() {
                    parts.push(ListPart::Packed(pack));
                }
            }
            _ => return Err(Error::new(start, Fault::Packed("Quicklist"))),
        }
    }
    Ok(parts)
}

pub fn take_quicklist(input: &mut Input) -> Result<Vec<ListPart>> {
    let nodes = length::take(input)?;
    let mut parts = Vec::new();
    for _ in 0..nodes {
        let elements = take_packed(input, "Ziplist", packed::ziplist)?;
        if !elements.is_empty() {
            let mut pack = Listpack::new();
            elements.iter().for_each(|element| pack.push(element));
            pack.shrink();
            parts.push(ListPart::Packed(pack));
        }
    }
    Ok(parts)
}

/// Redis: the elements are filled into nodes anew.
pub fn take_ziplist(input: &mut Input) -> Result<Vec<ListPart>> {
    let elements = take_packed(input, "List ziplist", packed::ziplist)?;
    Ok(elements.into_iter().map(ListPart::Element).collect())
}

pub fn take(input: &mut Input) -> Result<Vec<ListPart>> {
    let len = length::take(input)?;
    let mut parts = Vec::with_capacity(input.capacity(len));
    for _ in 0..len {
        parts.push(ListPart::Element(string::take(input)?));
    }
    Ok(parts)
}
