//! One message for many clients, encoded once in each protocol that they speak.

use crate::resp::{CmdResult, Output, Proto, Writer};

/// What clients are told without having asked.
pub trait Told {
    fn write(&self, out: &mut Writer) -> CmdResult;
}

pub struct Frames<M> {
    pub message: M,
    encoded: [Option<Vec<u8>>; 2],
}

impl<M: Told> Frames<M> {
    pub fn new(message: M) -> Frames<M> {
        Frames {
            message,
            encoded: [None, None],
        }
    }

    pub fn of(&mut self, proto: Proto) -> &[u8] {
        let message = &self.message;
        self.encoded[usize::from(proto == Proto::Resp3)].get_or_insert_with(|| {
            let mut out = Output::default();
            let written = message.write(&mut Writer::new(&mut out, proto));
            debug_assert!(written.is_ok(), "a growing buffer takes everything");
            out.bytes
        })
    }
}
