//! Lua: scripts as machines that ask for one command at a time.
//!
//! A script is a coroutine. `redis.call` suspends it; whoever runs it carries out the command, on
//! this shard or on another, and resumes it with the reply. So a script needs no callback into the
//! shard, may wait for other shards in the middle of any function, and can be driven by a test.
//!
//! ```text
//! Engine::begin(script, keys, args) -> Run
//! Engine::resume(run, None)         -> Step::Call   args: the command
//! Engine::resume(run, Some(reply))  -> Step::Call ...
//!                                   -> Step::Paused its time is over: it goes on in the next slice
//!                                   -> Step::Done   the reply of the whole script is written
//! ```
//! This room never touches a key, a socket or a clock, and knows no command: names and arguments
//! are bytes to it, replies are RESP.

mod engine;
pub mod json;
pub mod late;
pub mod library;
pub mod msgpack;
mod native;
pub mod packing;
mod reply;
mod store;
mod tail;
#[cfg(test)]
mod testing;
mod text;

pub use engine::{Engine, LogLine, Manner, Run, Step};
pub use store::{Digest, Script, ScriptFlags, Store, digest};
pub use text::Word;
