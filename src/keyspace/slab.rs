//! Numbered places for objects, in segments, so that growing never moves what is there.

const SEGMENT: usize = 1024;

#[derive(Debug)]
pub struct Slab<T> {
    segments: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab {
            segments: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Slab<T> {
    pub fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        if let Some(at) = self.free.pop() {
            self.segments[at as usize / SEGMENT][at as usize % SEGMENT] = Some(value);
            return at;
        }
        if self
            .segments
            .last()
            .is_none_or(|segment| segment.len() == SEGMENT)
        {
            self.segments.push(Vec::new());
        }
        let base = (self.segments.len() - 1) * SEGMENT;
        let segment = self
            .segments
            .last_mut()
            .expect("a segment was pushed above if needed");
        segment.push(Some(value));
        (base + segment.len() - 1) as u32
    }

    /// # Panics
    /// When the place is empty: entries name only places they own.
    pub fn remove(&mut self, at: u32) -> T {
        let place = &mut self.segments[at as usize / SEGMENT][at as usize % SEGMENT];
        let value = place.take().expect("entries own their objects");
        self.len -= 1;
        if self.len == 0 {
            self.segments.clear();
            self.free = Vec::new();
        } else {
            self.free.push(at);
        }
        value
    }

    pub fn get(&self, at: u32) -> &T {
        let place = &self.segments[at as usize / SEGMENT][at as usize % SEGMENT];
        place.as_ref().expect("entries own their objects")
    }

    pub fn get_mut(&mut self, at: u32) -> &mut T {
        let place = &mut self.segments[at as usize / SEGMENT][at as usize % SEGMENT];
        place.as_mut().expect("entries own their objects")
    }

    /// Frees the last segment of a slab that nobody refers to any more. Returns whether there are
    /// more.
    pub fn dismantle(&mut self) -> bool {
        self.segments.pop();
        !self.segments.is_empty()
    }
}
