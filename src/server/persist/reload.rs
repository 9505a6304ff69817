//! A load of everything that a client asked for while the server runs.

use super::{Mail, Message, Persistence, reply};
use crate::resp::CmdError;
use crate::server::ask::Requester;

/// DEBUG RELOAD or DEBUG LOADAOF.
#[derive(Debug)]
pub struct Reload {
    /// Who waits for it, if somebody does.
    pub requester: Option<Requester>,
    pub source: Source,
    pub stage: Stage,
}

/// What is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `dbfilename`, perhaps saved for it; perhaps beside what is there.
    Snapshot {
        saves: bool,
        flush: bool,
        merges: bool,
    },
    /// The append-only file.
    Journal,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// So many nodes may still have something under way.
    Freezing { nodes: usize },
    /// Its snapshot is being written.
    Saving,
    /// So many nodes are not empty yet.
    Emptying { nodes: usize },
    /// What is there is a part of what will be.
    Loading,
}

impl Persistence {
    pub fn reload_is(&mut self, stage: Stage) {
        if let Some(reload) = &mut self.reload {
            reload.stage = stage;
        }
    }

    /// A node has nothing under way, and lets nobody begin anything.
    pub fn node_is_frozen(&mut self) {
        if let Some(reload) = &mut self.reload
            && let Stage::Freezing { nodes } = &mut reload.stage
        {
            *nodes -= 1;
        }
    }

    /// Whether the keys that are there are some of those that are read again.
    pub fn is_reading_again(&self) -> bool {
        let reload = self.reload.as_ref();
        reload.is_some_and(|it| matches!(it.stage, Stage::Emptying { .. } | Stage::Loading))
    }

    /// It is over: everybody goes on.
    pub fn end_reload(&mut self, result: Result<(), CmdError>, mail: &mut Mail) {
        let Some(reload) = self.reload.take() else {
            return;
        };
        self.tell_all(mail, || Message::Thaw);
        if let Some(requester) = reload.requester {
            reply(mail, requester, result);
        }
    }
}
