//! Parameters: TLS.
//!
//! Names, types, bounds and defaults are those of Redis 7.0.15.

use super::param::{Kind, Param};

#[rustfmt::skip] // One row each: a table.
pub const PARAMS: &[Param] = &[
    Param::new("tls-auth-clients", "yes", Kind::Enum(&["no", "yes", "optional"])),
    Param::new("tls-ca-cert-dir", "", Kind::Text),
    Param::new("tls-ca-cert-file", "", Kind::Text),
    Param::new("tls-cert-file", "", Kind::Text),
    Param::new("tls-ciphers", "", Kind::Text),
    Param::new("tls-ciphersuites", "", Kind::Text),
    Param::new("tls-client-cert-file", "", Kind::Text),
    Param::new("tls-client-key-file", "", Kind::Text),
    Param::new("tls-client-key-file-pass", "", Kind::Text),
    Param::new("tls-cluster", "no", Kind::Bool),
    Param::new("tls-dh-params-file", "", Kind::Text),
    Param::new("tls-key-file", "", Kind::Text),
    Param::new("tls-key-file-pass", "", Kind::Text),
    Param::new("tls-port", "0", Kind::Int { min: 0, max: 65535 }),
    Param::new("tls-prefer-server-ciphers", "no", Kind::Bool),
    Param::new("tls-protocols", "", Kind::Text),
    Param::new("tls-replication", "no", Kind::Bool),
    Param::new("tls-session-cache-size", "20480", Kind::Int { min: 0, max: 2147483647 }),
    Param::new("tls-session-cache-timeout", "300", Kind::Int { min: 0, max: 2147483647 }),
    Param::new("tls-session-caching", "yes", Kind::Bool),
];
