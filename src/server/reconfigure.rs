//! CONFIG SET: checked as a whole on shard 0, then installed on every node before the reply.
//!
//! A change of `port` or `bind` also changes where connections are taken. The sockets change first: if
//! they cannot, nothing else does.

use std::sync::Arc;

use super::ask::Requester;
use super::config::{self, Config, SetError};
use super::host::ServerHost;
use super::jobs::write_error;
use super::{log, open_files};
use crate::command::Job;
use crate::resp::{ArgBuf, Args, CmdError, Output};
use crate::runtime::ListenError;
use crate::session::Performed;
use crate::shard::message::SessionKey;

/// A configuration that waits until its sockets are open.
#[derive(Debug)]
pub struct Relisten {
    requester: Requester,
    args: ArgBuf,
    pub config: Config,
}

/// What shard 0 has to do before it is done with CONFIG SET.
#[derive(Debug, Default)]
pub struct Reconfigure {
    pub relisten: Option<Box<Relisten>>,
    /// Those that came meanwhile: each builds upon the one before.
    later: Vec<(Requester, ArgBuf)>,
}

impl ServerHost {
    pub(super) fn config_set(&mut self, requester: Requester, args: &Args) -> Performed {
        if !args.len().is_multiple_of(2) {
            return Performed::Failed(CmdError::Syntax);
        }
        if self.reconfigure.relisten.is_some() {
            self.reconfigure.later.push((requester, args.to_buf()));
            return Performed::Later;
        }
        let word = |i: usize| config::text_of(args.get(i));
        let pairs: Vec<(String, String)> = (2..args.len())
            .step_by(2)
            .map(|i| (word(i), word(i + 1)))
            .collect();
        // Redis: config.c DENY_LOADING_CONFIG.
        let waits = |name: &str| {
            name.eq_ignore_ascii_case("dir") || name.eq_ignore_ascii_case("appendonly")
        };
        let is_loading = self.part.is_any_loading() || self.part.is_loading_beside();
        if is_loading && pairs.iter().any(|(name, _)| waits(name)) {
            return Performed::Failed(CmdError::Loading);
        }
        let config = match self.config.set(&pairs, requester.is_local) {
            Ok(config) => config,
            Err(error) => {
                let why = error.to_string();
                return Performed::Failed(CmdError::quoting(&[&config::bytes_of(&why)]));
            }
        };
        if let Err(error) = open_files::check(&config, &self.config, self.shards) {
            return Performed::Failed(CmdError::owned(error.to_string()));
        }
        let moves = |name: &str| config.text(name) != self.config.text(name);
        let is_replica = self.identity.role.is_replica();
        if (moves("oom-score-adj") || moves("oom-score-adj-values"))
            && let Err(error) = self.oom_score.apply(&config, is_replica)
        {
            // What was in effect before is again.
            let before = self.config.clone();
            drop(self.oom_score.apply(&before, is_replica));
            return Performed::Failed(CmdError::owned(error.to_string()));
        }
        if moves("port") || moves("bind") {
            let args = args.to_buf();
            self.reconfigure.relisten = Some(Box::new(Relisten {
                requester,
                args,
                config,
            }));
            return Performed::Later;
        }
        self.install_everywhere(requester, args.to_buf(), config)
    }

    /// Changes a parameter that follows from what the server does.
    pub(super) fn set_config(&mut self, name: &str, value: &str) {
        let mut config = (*self.config).clone();
        config.replace(name, value);
        // Nobody waits for a reply.
        let requester = Requester {
            shard: self.shard,
            session: SessionKey::MAX,
            client_id: 0,
            proto: Default::default(),
            db: 0,
            is_local: true,
            in_exec: false,
        };
        self.install_everywhere(requester, ArgBuf::default(), config);
    }

    fn install_everywhere(
        &mut self,
        requester: Requester,
        args: ArgBuf,
        config: Config,
    ) -> Performed {
        // Known here at once: a later SET builds upon it even before all have answered.
        let password = config.raw("requirepass");
        if password != self.config.raw("requirepass") {
            let users = self.office.users.with_default_password(&password);
            self.office.users = Arc::new(users);
        }
        self.config = Arc::new(config);
        let extra = Box::new((self.config.clone(), self.office.users.clone()));
        self.ask_all(Job::ConfigSet, requester, args, Some(extra))
    }

    /// The sockets are where the configuration wants them, or could not be.
    pub fn relistened(&mut self, relisten: Relisten, result: Result<(), ListenError>) {
        let Relisten {
            requester,
            args,
            config,
        } = relisten;
        match result {
            Ok(()) => {
                self.install_everywhere(requester, args, config);
            }
            Err(ListenError { address, error }) => {
                log::warning(&format!(
                    "Could not create server TCP listening socket {address}: {error}"
                ));
                let (name, reason) = match config.text("port") != self.config.text("port") {
                    true => ("port", "Unable to listen on this port. Check server logs."),
                    false => ("bind", "Failed to bind to specified addresses."),
                };
                let refused = SetError::Refused {
                    name: name.to_owned(),
                    reason: reason.to_owned(),
                };
                let before = self.config.clone();
                let is_replica = self.identity.role.is_replica();
                drop(self.oom_score.apply(&before, is_replica));
                self.fail(requester, CmdError::owned(refused.to_string()));
            }
        }
        for (requester, args) in std::mem::take(&mut self.reconfigure.later) {
            if let Performed::Failed(error) = self.config_set(requester, &args.as_args()) {
                self.fail(requester, error);
            }
        }
    }

    fn fail(&mut self, requester: Requester, error: CmdError) {
        let mut out = Output::default();
        write_error(&mut out, &requester, &error);
        self.reply(requester, out);
    }
}
