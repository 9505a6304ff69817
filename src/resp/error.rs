//! Every error a client can be told, in Redis' own words.

use std::fmt;

use super::Args;

/// What a command returns: its reply is in the writer, or it failed with an error reply.
pub type CmdResult = Result<(), CmdError>;

/// An error reply. `Display` is the exact text after the `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CmdError {
    WrongType,
    Syntax,
    NotInteger,
    NotFloat,
    OutOfRange,
    /// The one 64-bit number that has no positive counterpart.
    BeyondLong,
    /// A value is outside `min..=max`: `value is out of range, must be positive` and its like.
    MustBePositive,
    NoSuchKey,
    IndexOutOfRange,
    Overflow,
    NanOrInfinity,
    SameObject,
    DbIndexOutOfRange,
    StringTooLong,
    /// `invalid expire time in '<command>' command`
    InvalidExpire(Box<str>),
    /// `wrong number of arguments for '<command>' command`
    Arity(Box<str>),
    NoAuth,
    WrongPass,
    NoPerm(Box<str>),
    NoProto,
    Oom,
    Loading,
    /// A fixed text that only one command uses.
    Text(&'static str),
    /// A text that quotes something of the request, byte for byte.
    Owned(Box<[u8]>),
}

impl CmdError {
    /// A one-off error whose text depends on the request, with its prefix (`ERR ...`).
    pub fn owned(text: impl Into<String>) -> CmdError {
        CmdError::Owned(text.into().into_bytes().into_boxed_slice())
    }

    /// The same of a text in pieces, some of which are what a client sent: whatever bytes they are,
    /// up to a NUL. Redis: addReplyErrorFormat takes C strings.
    pub fn quoting(pieces: &[&[u8]]) -> CmdError {
        let ends = |byte: &u8| *byte == 0;
        let whole = pieces
            .iter()
            .flat_map(|piece| piece.split(ends).next().unwrap_or_default());
        CmdError::Owned(whole.copied().collect())
    }

    /// A subcommand that is known, but not in this form.
    pub fn subcommand(args: &Args) -> CmdError {
        const QUOTED_MAX_BYTES: usize = 128;
        let sub = args.get(1);
        CmdError::quoting(&[
            b"ERR unknown subcommand or wrong number of arguments for '",
            &sub[..sub.len().min(QUOTED_MAX_BYTES)],
            b"'. Try ",
            &args.name().to_ascii_uppercase(),
            b" HELP.",
        ])
    }

    /// The text after the `-`.
    pub fn text(&self) -> Vec<u8> {
        match self {
            CmdError::Owned(text) => text.to_vec(),
            other => other.to_string().into_bytes(),
        }
    }

    pub fn arity(command: &str) -> CmdError {
        CmdError::Arity(command.into())
    }

    pub fn invalid_expire(name: &str) -> CmdError {
        CmdError::InvalidExpire(name.into())
    }
}

impl fmt::Display for CmdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use CmdError::*;
        f.write_str(match self {
            WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            Syntax => "ERR syntax error",
            NotInteger => "ERR value is not an integer or out of range",
            NotFloat => "ERR value is not a valid float",
            OutOfRange => "ERR value is out of range",
            BeyondLong => {
                "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807"
            }
            MustBePositive => "ERR value is out of range, must be positive",
            NoSuchKey => "ERR no such key",
            IndexOutOfRange => "ERR index out of range",
            Overflow => "ERR increment or decrement would overflow",
            NanOrInfinity => "ERR increment would produce NaN or Infinity",
            SameObject => "ERR source and destination objects are the same",
            DbIndexOutOfRange => "ERR DB index is out of range",
            StringTooLong => "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            InvalidExpire(name) => {
                return write!(f, "ERR invalid expire time in '{name}' command");
            }
            Arity(name) => {
                return write!(f, "ERR wrong number of arguments for '{name}' command");
            }
            NoAuth => "NOAUTH Authentication required.",
            WrongPass => "WRONGPASS invalid username-password pair or user is disabled.",
            NoProto => "NOPROTO unsupported protocol version",
            Oom => "OOM command not allowed when used memory > 'maxmemory'.",
            Loading => "LOADING Redis is loading the dataset in memory",
            Owned(text) => return f.write_str(&String::from_utf8_lossy(text)),
            NoPerm(text) => text,
            Text(text) => text,
        })
    }
}

impl std::error::Error for CmdError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_the_command() {
        assert_eq!(
            CmdError::invalid_expire("setex").to_string(),
            "ERR invalid expire time in 'setex' command"
        );
        assert_eq!(
            CmdError::arity("get").to_string(),
            "ERR wrong number of arguments for 'get' command"
        );
    }

    #[test]
    fn what_is_quoted_keeps_its_bytes_up_to_a_nul() {
        let error = CmdError::quoting(&[b"ERR no '", b"\xff\r\0rest", b"'"]);
        assert_eq!(error.text(), b"ERR no '\xff\r'");
        assert_eq!(CmdError::Syntax.text(), b"ERR syntax error");
    }
}
