//! Lists.
//!
//! ```text
//! written (18):   nodes  (1  string | 2  listpack in a string) ...
//! before 7 (14):  nodes  (ziplist in a string) ...
//! before 3.2:     ziplist in a string (10)  |  elements  string ... (1)
//! ```

use bytes::Bytes;

use super::{Body, take_packed};
use crate::rdb::Sink;
use crate::rdb::error::{Error, Fault, Result};
use crate::rdb::input::Input;
use crate::rdb::{length, packed, string};

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
}

pub fn take_quicklist_2(input: &mut Input) -> Result<Vec<Bytes>> {
    let nodes = length::take(input)?;
    let mut elements = Vec::new();
    for _ in 0..nodes {
        let start = input.position();
        match length::take(input)? {
            PLAIN => {
                let element = string::take(input)?;
                // Redis: an empty string is never too large for a listpack.
                if element.is_empty() {
                    return Err(Error::new(start, Fault::Packed("Quicklist")));
                }
                elements.push(element);
            }
            PACKED => elements.append(&mut take_packed(input, "Listpack", packed::listpack)?),
            _ => return Err(Error::new(start, Fault::Packed("Quicklist"))),
        }
    }
    Ok(elements)
}

pub fn take_quicklist(input: &mut Input) -> Result<Vec<Bytes>> {
    let nodes = length::take(input)?;
    let mut elements = Vec::new();
    for _ in 0..nodes {
        elements.append(&mut take_packed(input, "Ziplist", packed::ziplist)?);
    }
    Ok(elements)
}

pub fn take_ziplist(input: &mut Input) -> Result<Vec<Bytes>> {
    take_packed(input, "List ziplist", packed::ziplist)
}

pub fn take(input: &mut Input) -> Result<Vec<Bytes>> {
    let len = length::take(input)?;
    let mut elements = Vec::with_capacity(input.capacity(len));
    for _ in 0..len {
        elements.push(string::take(input)?);
    }
    Ok(elements)
}
