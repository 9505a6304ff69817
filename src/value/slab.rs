//! Numbered places for what must not move: objects, wheel nodes.
//!
//! Places stand in segments, so growing neither moves nor copies what is there, and freed places
//! form a list through themselves. A slab that has become empty gives its segments back one per
//! operation: emptying ten million places never ends in one long free.

use super::fetch::fetch;

const SEGMENT: usize = 1024;
/// End of the list of freed places.
const NONE: u32 = u32::MAX;

#[derive(Clone, Debug)]
enum Place<T> {
    Used(T),
    /// The next freed place.
    Free(u32),
}

#[derive(Clone, Debug)]
pub struct Slab<T> {
    segments: Vec<Vec<Place<T>>>,
    /// First freed place.
    free: u32,
    /// Places handed out so far; those beyond are leftovers of before the slab was empty.
    fresh: usize,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            segments: Vec::new(),
            free: NONE,
            fresh: 0,
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the places in use.
    pub fn used_bytes(&self) -> usize {
        self.len * size_of::<Place<T>>()
    }

    pub fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if self.free != NONE {
            let at = self.free;
            let place = self.place_mut(at);
            if let Place::Free(next) = *place {
                *place = Place::Used(value);
                self.free = next;
                return at;
            }
            unreachable!("the list of freed places holds only freed places");
        }
        let at = self.fresh;
        self.fresh += 1;
        if at / SEGMENT == self.segments.len() {
            // The first segment starts small: most databases hold little.
            let capacity = if at == 0 { 4 } else { SEGMENT };
            self.segments.push(Vec::with_capacity(capacity));
        }
        let segment = &mut self.segments[at / SEGMENT];
        match segment.get_mut(at % SEGMENT) {
            Some(place) => *place = Place::Used(value),
            None => segment.push(Place::Used(value)),
        }
        at as u32
    }

    /// # Panics
    /// When the place is empty: who names a place owns it.
    pub fn remove(&mut self, at: u32) -> T {
        let free = Place::Free(self.free);
        let Place::Used(value) = std::mem::replace(self.place_mut(at), free) else {
            unreachable!("place {at} was freed before");
        };
        self.free = at;
        self.len -= 1;
        if self.len == 0 {
            self.free = NONE;
            self.fresh = 0;
        }
        if self.segments.len() > self.fresh.div_ceil(SEGMENT) + 1 {
            self.segments.pop();
        }
        value
    }

    fn place_mut(&mut self, at: u32) -> &mut Place<T> {
        &mut self.segments[at as usize / SEGMENT][at as usize % SEGMENT]
    }

    /// Asks memory for a place.
    pub fn fetch(&self, at: u32) {
        fetch(&self.segments[at as usize / SEGMENT][at as usize % SEGMENT]);
    }

    #[inline]
    pub fn get(&self, at: u32) -> &T {
        match &self.segments[at as usize / SEGMENT][at as usize % SEGMENT] {
            Place::Used(value) => value,
            Place::Free(_) => unreachable!("place {at} was freed before"),
        }
    }

    #[inline]
    pub fn get_mut(&mut self, at: u32) -> &mut T {
        match self.place_mut(at) {
            Place::Used(value) => value,
            Place::Free(_) => unreachable!("place {at} was freed before"),
        }
    }

    /// A random one of the values that are `wanted`, each with nearly the same probability; `None` also
    /// when luck is against it where hardly any place holds one.
    pub fn random(&self, rng: &mut fastrand::Rng, wanted: impl Fn(&T) -> bool) -> Option<&T> {
        /// Finds something with 98 % certainty in a slab of which one eighth is wanted.
        const TRIES: usize = 32;
        /// Places that are looked at one after the other when that fails: some 100 us.
        const LOOKED_AT_MAX: usize = 1 << 16;
        if self.len == 0 {
            return None;
        }
        let value = |at: usize| match &self.segments[at / SEGMENT][at % SEGMENT] {
            Place::Used(value) => Some(value).filter(|value| wanted(value)),
            Place::Free(_) => None,
        };
        let found = (0..TRIES).find_map(|_| value(rng.usize(..self.fresh)));
        found.or_else(|| {
            let begin = rng.usize(..self.fresh);
            let places = (begin..self.fresh).chain(0..begin);
            places.take(LOOKED_AT_MAX).find_map(value)
        })
    }

    /// All values.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let places = self.segments.iter().flatten().take(self.fresh);
        places.filter_map(|place| match place {
            Place::Used(value) => Some(value),
            Place::Free(_) => None,
        })
    }

    /// Frees the last segment of a slab that nobody refers to any more. Returns whether there are
    /// more.
    pub fn dismantle(&mut self) -> bool {
        self.segments.pop();
        !self.segments.is_empty()
    }

    /// Takes values out of the last segment of a slab that nobody refers to any more, for as long as
    /// `goes_on` says of them. Returns whether there are more.
    pub fn dismantle_with(&mut self, mut goes_on: impl FnMut(T) -> bool) -> bool {
        if let Some(last) = self.segments.last_mut() {
            while let Some(place) = last.pop() {
                if let Place::Used(value) = place
                    && !goes_on(value)
                {
                    return true;
                }
            }
            self.segments.pop();
        }
        !self.segments.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn places_keep_their_values_and_are_used_again() {
        let seed = 21;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut slab = Slab::default();
        for _ in 0..3 {
            let mut model: HashMap<u32, u64> = HashMap::new();
            for round in 0..20_000u64 {
                if rng.u8(..) < 170 || model.is_empty() {
                    let at = slab.insert(round);
                    assert!(model.insert(at, round).is_none(), "seed {seed}: {at} twice");
                } else {
                    let at = *model.keys().next().unwrap();
                    assert_eq!(Some(slab.remove(at)), model.remove(&at), "seed {seed}");
                }
            }
            assert!(model.iter().all(|(&at, n)| slab.get(at) == n));
            model.into_keys().for_each(|at| {
                slab.remove(at);
            });
            assert_eq!(slab.len(), 0);
        }
    }

    #[test]
    fn an_emptied_slab_gives_back_a_segment_per_operation() {
        let mut slab = Slab::default();
        let all: Vec<u32> = (0..10 * SEGMENT).map(|n| slab.insert(n)).collect();
        all.into_iter().for_each(|at| {
            slab.remove(at);
        });
        for left in (1..10).rev() {
            assert_eq!(slab.segments.len(), left);
            let at = slab.insert(7);
            slab.remove(at);
        }
    }
}
