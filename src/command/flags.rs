//! Command flags and ACL categories, with the names COMMAND INFO gives them.

/// A set of the flag constants below.
pub type Flags = u32;

pub const WRITE: Flags = 1 << 0;
pub const READONLY: Flags = 1 << 1;
pub const DENYOOM: Flags = 1 << 2;
pub const ADMIN: Flags = 1 << 3;
pub const PUBSUB: Flags = 1 << 4;
pub const NOSCRIPT: Flags = 1 << 5;
pub const BLOCKING: Flags = 1 << 6;
pub const LOADING: Flags = 1 << 7;
pub const STALE: Flags = 1 << 8;
pub const SKIP_MONITOR: Flags = 1 << 9;
pub const SKIP_SLOWLOG: Flags = 1 << 10;
pub const ASKING: Flags = 1 << 11;
pub const FAST: Flags = 1 << 12;
pub const NO_AUTH: Flags = 1 << 13;
pub const MAY_REPLICATE: Flags = 1 << 14;
pub const MOVABLEKEYS: Flags = 1 << 15;
pub const NO_ASYNC_LOADING: Flags = 1 << 16;
pub const NO_MULTI: Flags = 1 << 17;
pub const ALLOW_BUSY: Flags = 1 << 18;
pub const NO_MANDATORY_KEYS: Flags = 1 << 19;

/// Names in the order in which COMMAND INFO lists them; `MAY_REPLICATE` is not told.
/// Redis: server.c addReplyFlagsForCommand.
pub const FLAG_NAMES: &[(Flags, &str)] = &[
    (WRITE, "write"),
    (READONLY, "readonly"),
    (DENYOOM, "denyoom"),
    (ADMIN, "admin"),
    (PUBSUB, "pubsub"),
    (NOSCRIPT, "noscript"),
    (BLOCKING, "blocking"),
    (LOADING, "loading"),
    (STALE, "stale"),
    (SKIP_MONITOR, "skip_monitor"),
    (SKIP_SLOWLOG, "skip_slowlog"),
    (ASKING, "asking"),
    (FAST, "fast"),
    (NO_AUTH, "no_auth"),
    (MOVABLEKEYS, "movablekeys"),
    (NO_ASYNC_LOADING, "no_async_loading"),
    (NO_MULTI, "no_multi"),
    (ALLOW_BUSY, "allow_busy"),
    (NO_MANDATORY_KEYS, "no_mandatory_keys"),
];

/// A set of the category constants below.
pub type Categories = u32;

pub const KEYSPACE: Categories = 1 << 0;
pub const READ: Categories = 1 << 1;
pub const WRITES: Categories = 1 << 2;
pub const SET: Categories = 1 << 3;
pub const SORTEDSET: Categories = 1 << 4;
pub const LIST: Categories = 1 << 5;
pub const HASH: Categories = 1 << 6;
pub const STRING: Categories = 1 << 7;
pub const BITMAP: Categories = 1 << 8;
pub const HYPERLOGLOG: Categories = 1 << 9;
pub const GEO: Categories = 1 << 10;
pub const STREAM: Categories = 1 << 11;
pub const PUBSUBS: Categories = 1 << 12;
pub const ADMINS: Categories = 1 << 13;
pub const FASTS: Categories = 1 << 14;
pub const SLOW: Categories = 1 << 15;
pub const BLOCKINGS: Categories = 1 << 16;
pub const DANGEROUS: Categories = 1 << 17;
pub const CONNECTION: Categories = 1 << 18;
pub const TRANSACTION: Categories = 1 << 19;
pub const SCRIPTING: Categories = 1 << 20;

/// Names in the order in which ACL CAT and COMMAND INFO list them.
pub const CATEGORY_NAMES: &[(Categories, &str)] = &[
    (KEYSPACE, "keyspace"),
    (READ, "read"),
    (WRITES, "write"),
    (SET, "set"),
    (SORTEDSET, "sortedset"),
    (LIST, "list"),
    (HASH, "hash"),
    (STRING, "string"),
    (BITMAP, "bitmap"),
    (HYPERLOGLOG, "hyperloglog"),
    (GEO, "geo"),
    (STREAM, "stream"),
    (PUBSUBS, "pubsub"),
    (ADMINS, "admin"),
    (FASTS, "fast"),
    (SLOW, "slow"),
    (BLOCKINGS, "blocking"),
    (DANGEROUS, "dangerous"),
    (CONNECTION, "connection"),
    (TRANSACTION, "transaction"),
    (SCRIPTING, "scripting"),
];

/// The categories that follow from flags, as Redis derives them at start.
/// Redis: server.c setImplicitACLCategories.
pub const fn implied_categories(flags: Flags) -> Categories {
    let mut all = 0;
    if flags & WRITE != 0 {
        all |= WRITES;
    }
    if flags & READONLY != 0 {
        all |= READ;
    }
    if flags & ADMIN != 0 {
        all |= ADMINS | DANGEROUS;
    }
    if flags & PUBSUB != 0 {
        all |= PUBSUBS;
    }
    if flags & BLOCKING != 0 {
        all |= BLOCKINGS;
    }
    all | if flags & FAST != 0 { FASTS } else { SLOW }
}
