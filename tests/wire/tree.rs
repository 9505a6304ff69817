//! A reply as a tree, for tests that look inside.

use crate::client::line_end;

/// RESP2: arrays, and everything else as text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tree {
    Leaf(String),
    Branch(Vec<Tree>),
}

impl Tree {
    pub fn parse(bytes: &[u8], at: &mut usize) -> Tree {
        let end = line_end(bytes, *at).expect("a line");
        let line = String::from_utf8_lossy(&bytes[*at..end - 2]).into_owned();
        *at = end;
        let count = || line[1..].parse::<i64>().expect("a count");
        match line.as_bytes()[0] {
            b'$' if count() >= 0 => {
                let from = *at;
                *at += count() as usize + 2;
                Tree::Leaf(String::from_utf8_lossy(&bytes[from..*at - 2]).into_owned())
            }
            b'*' => Tree::Branch((0..count()).map(|_| Tree::parse(bytes, at)).collect()),
            _ => Tree::Leaf(line),
        }
    }

    pub fn branch(&self) -> &[Tree] {
        match self {
            Tree::Branch(parts) => parts,
            Tree::Leaf(_) => panic!("no array: {self:?}"),
        }
    }

    /// Sets have no order.
    pub fn sorted(&self) -> Tree {
        let mut parts = self.branch().to_vec();
        parts.sort();
        Tree::Branch(parts)
    }
}
