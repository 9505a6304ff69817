//! Users: who may authenticate, and what each of them may do.
//!
//! A user has flags, password digests and selectors; a selector says which commands, keys and channels
//! it allows. A request is allowed if one selector allows all of it. All users of a moment are one
//! [`Users`], which never changes: every core has the same one, and a change is another.
//!
//! Nothing here knows a connection, a file or a clock. Passwords are kept as SHA-256 digests and are
//! compared in constant time.

mod catalog;
mod describe;
mod error;
mod file;
mod log;
mod rules;
mod selector;
#[cfg(test)]
mod tests;
mod user;
mod users;

pub use catalog::Catalog;
pub use error::RuleError;
pub use log::{Context, Denial, Log};
pub use rules::is_valid_name;
pub use selector::{Denied, Reason, Selector};
pub use user::User;
pub use users::Users;

/// The user that connections begin as.
pub const DEFAULT_USER: &[u8] = b"default";
