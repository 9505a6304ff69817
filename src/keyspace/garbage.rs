//! What a flush left behind, freed in slices so that nobody waits for it.

use super::Object;
use super::arena::Arena;
use super::dict::Dict;
use super::slab::Slab;

/// Entries of these buckets are freed one by one: some tens of microseconds.
pub const BUCKETS_PER_SLICE: usize = 64;
/// Whole pages: an munmap each at worst.
const PAGES_PER_SLICE: usize = 16;

#[derive(Debug)]
pub enum Garbage {
    /// Everything a shard held: nothing in it is looked at any more.
    Whole {
        arena: Arena,
        objects: Slab<Object>,
        dict: Dict,
    },
    /// One database of several, whose entries share the arena with living ones.
    Entries(Dict),
}

/// Frees a slice of a whole keyspace. Returns whether there is more.
pub fn free_whole(arena: &mut Arena, objects: &mut Slab<Object>, dict: &mut Dict) -> bool {
    if arena.dismantle(PAGES_PER_SLICE) > 0 {
        return true;
    }
    objects.dismantle() || dict.drop_segment()
}
