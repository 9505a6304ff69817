//! stub
use bytes::Bytes;
use std::collections::HashMap;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event(pub &'static str);
impl Event {
    pub const SET: Event = Event("set");
    pub const DEL: Event = Event("del");
    pub const RENAME_FROM: Event = Event("rename_from");
    pub const RENAME_TO: Event = Event("rename_to");
    pub const COPY_TO: Event = Event("copy_to");
}
pub enum NewStr<'a> {
    Int(i64),
    Bytes(&'a [u8]),
    Shared(Bytes),
}
#[derive(Clone, Copy, Debug)]
pub enum Ttl {
    Keep,
    Clear,
    At(i64),
}
#[derive(Clone, Debug)]
pub struct Taken {
    pub value: Bytes,
    pub expire_at: Option<i64>,
}
pub struct WrongType;
impl From<WrongType> for crate::resp::CmdError {
    fn from(_: WrongType) -> Self {
        crate::resp::CmdError::WrongType
    }
}
#[derive(Default)]
pub struct Keyspace {
    m: HashMap<Vec<u8>, Taken>,
}
pub struct Tx<'a> {
    k: &'a mut Keyspace,
    now: i64,
    db: u32,
}
pub struct Rec;
impl Rec {
    pub fn cmd(&mut self, _: &[&[u8]]) {}
}
impl Keyspace {
    pub fn tx(&mut self, db: u32, now: i64, _touch: bool) -> Tx<'_> {
        Tx { k: self, now, db }
    }
    pub fn pulse(&mut self, _n: i64, _b: usize, _h: impl Fn(u32, &[u8]) -> bool) -> bool {
        false
    }
}
impl<'a> Tx<'a> {
    pub fn finish(self) {}
    pub fn select(&mut self, db: u32) {
        self.db = db
    }
    pub fn now_ms(&self) -> i64 {
        self.now
    }
    pub fn databases(&self) -> u32 {
        16
    }
    pub fn remove(&mut self, k: &[u8]) -> bool {
        self.k.m.remove(k).is_some()
    }
    pub fn wrote(&mut self, _k: &[u8], _e: Event, _f: impl FnOnce(&mut Rec)) {}
    pub fn wrote_state(&mut self, _k: &[u8], _e: Event) {}
    pub fn set_string(&mut self, k: &[u8], v: NewStr, _t: Ttl) {
        let v = match v {
            NewStr::Int(i) => Bytes::from(i.to_string()),
            NewStr::Bytes(b) => Bytes::copy_from_slice(b),
            NewStr::Shared(b) => b,
        };
        self.k.m.insert(
            k.to_vec(),
            Taken {
                value: v,
                expire_at: None,
            },
        );
    }
    pub fn string(&mut self, k: &[u8]) -> Result<Option<Bytes>, WrongType> {
        Ok(self.k.m.get(k).map(|t| t.value.clone()))
    }
    pub fn take(&mut self, k: &[u8]) -> Option<Taken> {
        self.k.m.remove(k)
    }
    pub fn put(&mut self, k: &[u8], t: Taken) {
        self.k.m.insert(k.to_vec(), t);
    }
}
