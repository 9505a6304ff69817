//! A string: nothing but itself.

use bytes::Bytes;

use super::Body;
use crate::rdb::Sink;
use crate::rdb::error::Result;
use crate::rdb::input::Input;
use crate::rdb::string;

impl<S: Sink> Body<'_, S> {
    pub fn string(&mut self, bytes: &[u8]) {
        self.strings.put(self.out, bytes);
    }

    /// The text of an integer.
    pub fn int(&mut self, n: i64) {
        self.strings.put_int(self.out, n);
    }
}

pub fn take(input: &mut Input) -> Result<Bytes> {
    string::take(input)
}
