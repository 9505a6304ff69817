//! The notation in which a command's row states its arguments, and the tree that COMMAND DOCS makes
//! of it. It reads like the usage lines of the manual, with what clients want to know beside them:
//!
//! ```text
//! key value                  arguments by name; names in USUAL have their type, others are strings
//! min:double                 a name with its type
//! COUNT count                an argument behind a token; a token alone is an argument of its own
//! '~'  change=CH  id='*'     tokens of signs are quoted; label= gives an argument another name
//! (longitude latitude)       several in order, named `longitude_latitude` unless labelled
//! unit=(M|KM|FT|MI)          one of several
//! [GET]  [min max|ALL]       optional, with the parentheses left out
//! field ...                  one or more
//! GET... pattern             one or more, the token again before each
//! [GET @6.2.0]               since this version; @-6.2.0 deprecated since
//! destination#2              which of the row's key specifications finds it; otherwise the n-th key is
//!                            found by the n-th specification
//! ```

/// The type of an argument. Redis: src/commands/README.md, ARG_TYPE_*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Integer => "integer",
            Kind::Double => "double",
            Kind::Key => "key",
            Kind::Pattern => "pattern",
            Kind::UnixTime => "unix-time",
            Kind::PureToken => "pure-token",
            Kind::OneOf => "oneof",
            Kind::Block => "block",
        }
    }
}

/// Types behind a colon.
const KINDS: &[(&str, Kind)] = &[
    ("string", Kind::String),
    ("int", Kind::Integer),
    ("double", Kind::Double),
    ("key", Kind::Key),
    ("pattern", Kind::Pattern),
    ("time", Kind::UnixTime),
];

/// Names that tell their type.
const USUAL: &[(Kind, &[&str])] = &[
    (
        Kind::Key,
        &["destination", "destkey", "key", "newkey", "source"],
    ),
    (
        Kind::Double,
        &[
            "height",
            "latitude",
            "longitude",
            "radius",
            "timeout",
            "width",
        ],
    ),
    (
        Kind::Integer,
        &[
            "client-id",
            "count",
            "cursor",
            "destination-db",
            "end",
            "end-slot",
            "entries_read",
            "frequency",
            "increment",
            "index",
            "len",
            "limit",
            "milliseconds",
            "numfields",
            "numkeys",
            "offset",
            "port",
            "seconds",
            "slot",
            "start",
            "start-slot",
            "stop",
            "ttl",
            "weight",
        ],
    ),
    (Kind::Pattern, &["pattern"]),
    (
        Kind::UnixTime,
        &["unix-time-milliseconds", "unix-time-seconds"],
    ),
];

fn usual_kind(name: &str) -> Kind {
    let known = USUAL.iter().find(|(_, names)| names.contains(&name));
    known.map_or(Kind::String, |(kind, _)| *kind)
}

/// One argument, with those it consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument<'s> {
    pub name: String,
    pub kind: Kind,
    pub key_spec: Option<u8>,
    pub token: Option<&'s str>,
    pub since: Option<&'s str>,
    pub deprecated_since: Option<&'s str>,
    pub optional: bool,
    pub multiple: bool,
    pub multiple_token: bool,
    /// Of [`Kind::OneOf`] and [`Kind::Block`].
    pub parts: Vec<Argument<'s>>,
}

impl<'s> Argument<'s> {
    fn new(name: &str, kind: Kind) -> Argument<'s> {
        Argument {
            name: name.to_owned(),
            kind,
            key_spec: None,
            token: None,
            since: None,
            deprecated_since: None,
            optional: false,
            multiple: false,
            multiple_token: false,
            parts: Vec::new(),
        }
    }

    fn group(kind: Kind, label: Option<&str>, parts: Vec<Argument<'s>>) -> Argument<'s> {
        let names = || parts.iter().map(|part| &*part.name).collect::<Vec<_>>();
        let name = label.map_or_else(|| names().join("_"), str::to_owned);
        Argument {
            parts,
            ..Argument::new(&name, kind)
        }
    }
}

/// Where a notation cannot be read, in bytes.
pub type BadAt = usize;

/// The arguments that `syntax` states.
pub fn parse(syntax: &str) -> Result<Vec<Argument<'_>>, BadAt> {
    let mut parser = Parser {
        text: syntax,
        at: 0,
        keys: 0,
    };
    let arguments = parser.sequence()?;
    match parser.rest().is_empty() {
        true => Ok(arguments),
        false => Err(parser.at),
    }
}

struct Parser<'s> {
    text: &'s str,
    at: BadAt,
    /// Keys so far.
    keys: u8,
}

/// What ends a word beside a blank.
const ENDS: &[char] = &[' ', '(', ')', '[', ']', '|', '\'', '='];

fn is_token(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_uppercase())
        && !word.contains(|c: char| c.is_ascii_lowercase() || c == ':')
}

impl<'s> Parser<'s> {
    fn rest(&self) -> &'s str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start_matches(' ').len();
    }

    fn takes(&mut self, wanted: &str) -> bool {
        let found = self.rest().starts_with(wanted);
        self.at += if found { wanted.len() } else { 0 };
        found
    }

    fn peek_word(&self) -> &'s str {
        let rest = self.rest();
        let word = &rest[..rest.find(ENDS).unwrap_or(rest.len())];
        word.strip_suffix("...").unwrap_or(word)
    }

    /// `label=`
    fn label(&mut self) -> Option<&'s str> {
        let word = self.peek_word();
        let is_label = !word.is_empty() && self.rest()[word.len()..].starts_with('=');
        self.at += if is_label { word.len() + 1 } else { 0 };
        is_label.then_some(word)
    }

    fn token(&mut self) -> Result<Option<&'s str>, BadAt> {
        if self.takes("'") {
            let rest = self.rest();
            let end = rest.find('\'').ok_or(self.at)?;
            self.at += end + 1;
            return Ok(Some(&rest[..end]));
        }
        let word = self.peek_word();
        let found = is_token(word);
        self.at += if found { word.len() } else { 0 };
        Ok(found.then_some(word))
    }

    fn sequence(&mut self) -> Result<Vec<Argument<'s>>, BadAt> {
        let mut arguments = Vec::new();
        loop {
            self.skip_blanks();
            if self.rest().is_empty() || self.rest().starts_with([')', ']', '|']) {
                return Ok(arguments);
            }
            arguments.push(self.argument()?);
        }
    }

    fn argument(&mut self) -> Result<Argument<'s>, BadAt> {
        if self.takes("[") {
            let label = self.label();
            let (kind, mut parts) = self.inside("]")?;
            let mut argument = match (kind, parts.len()) {
                (Kind::Block, 1) => parts.swap_remove(0),
                _ => Argument::group(kind, None, parts),
            };
            if let Some(label) = label {
                label.clone_into(&mut argument.name);
            }
            argument.optional = true;
            return Ok(argument);
        }
        let label = self.label();
        let argument = match self.token()? {
            Some(token) => self.behind(token, label)?,
            None => self.operand(label)?,
        };
        self.suffixed(argument)
    }

    /// What stands behind a token, or the token alone.
    fn behind(&mut self, token: &'s str, label: Option<&str>) -> Result<Argument<'s>, BadAt> {
        let again = self.takes("...");
        let before = self.at;
        self.skip_blanks();
        let has_operand = self.rest().starts_with('(')
            || !matches!(self.peek_word(), "" | "...")
                && !is_token(self.peek_word())
                && !self.rest().starts_with('@');
        if label.is_none() && has_operand {
            let label = self.label();
            return Ok(Argument {
                token: Some(token),
                multiple: again,
                multiple_token: again,
                ..self.operand(label)?
            });
        }
        self.at = before;
        let name = label.map_or_else(|| token.to_ascii_lowercase(), str::to_owned);
        Ok(Argument {
            token: Some(token),
            ..Argument::new(&name, Kind::PureToken)
        })
    }

    /// A name or a group.
    fn operand(&mut self, label: Option<&str>) -> Result<Argument<'s>, BadAt> {
        if self.takes("(") {
            let (kind, parts) = self.inside(")")?;
            return Ok(Argument::group(kind, label, parts));
        }
        let word = self.peek_word();
        if word.is_empty() || label.is_some() {
            return Err(self.at);
        }
        let (name, spec) = match word.split_once('#') {
            Some((name, digits)) => (name, Some(digits.parse().map_err(|_| self.at)?)),
            None => (word, None),
        };
        let told = KINDS
            .iter()
            .find_map(|(text, kind)| Some((name.strip_suffix(text)?.strip_suffix(':')?, *kind)));
        let (name, kind) = told.unwrap_or_else(|| (name, usual_kind(name)));
        self.at += word.len();
        let mut argument = Argument::new(name, kind);
        argument.key_spec = spec.or((kind == Kind::Key).then_some(self.keys));
        self.keys += u8::from(kind == Kind::Key);
        Ok(argument)
    }

    fn suffixed(&mut self, mut argument: Argument<'s>) -> Result<Argument<'s>, BadAt> {
        loop {
            let before = self.at;
            self.skip_blanks();
            if self.takes("...") {
                argument.multiple = true;
            } else if self.takes("@-") {
                argument.deprecated_since = Some(self.version()?);
            } else if self.takes("@") {
                argument.since = Some(self.version()?);
            } else {
                self.at = before;
                return Ok(argument);
            }
        }
    }

    fn version(&mut self) -> Result<&'s str, BadAt> {
        let word = self.peek_word();
        self.at += word.len();
        match word.starts_with(|first: char| first.is_ascii_digit()) {
            true => Ok(word),
            false => Err(self.at),
        }
    }

    /// What stands before `end`: a sequence ([`Kind::Block`]) or alternatives ([`Kind::OneOf`]).
    fn inside(&mut self, end: &str) -> Result<(Kind, Vec<Argument<'s>>), BadAt> {
        let mut alternatives = vec![self.sequence()?];
        while self.takes("|") {
            alternatives.push(self.sequence()?);
        }
        if !self.takes(end) || alternatives.iter().any(Vec::is_empty) {
            return Err(self.at);
        }
        if alternatives.len() == 1 {
            return Ok((Kind::Block, alternatives.swap_remove(0)));
        }
        let one = |mut parts: Vec<_>| match parts.len() {
            1 => parts.swap_remove(0),
            _ => Argument::group(Kind::Block, None, parts),
        };
        Ok((Kind::OneOf, alternatives.into_iter().map(one).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in a form that says everything.
    fn shown(arguments: &[Argument]) -> String {
        let one = |argument: &Argument| {
            let mut text = format!("{}:{}", argument.name, argument.kind.name());
            let told = [
                argument.token.map(|token| format!("'{token}'")),
                argument.key_spec.map(|spec| format!("#{spec}")),
                argument.since.map(|since| format!("@{since}")),
                argument.deprecated_since.map(|since| format!("@-{since}")),
                argument.optional.then(|| "?".to_owned()),
                argument.multiple.then(|| "*".to_owned()),
                argument.multiple_token.then(|| "+".to_owned()),
            ];
            told.into_iter().flatten().for_each(|more| text += &more);
            match argument.parts.is_empty() {
                true => text,
                false => format!("{text}({})", shown(&argument.parts)),
            }
        };
        arguments.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_sign_of_the_notation_is_read() {
        let rows = [
            ("", ""),
            ("key value", "key:key#0 value:string"),
            (
                "source destination#2 [key]",
                "source:key#0 destination:key#2 key:key#2?",
            ),
            ("min:double ip:port", "min:double ip:port:string"),
            ("id ...", "id:string*"),
            ("[key ...] [arg ...]", "key:key#0?* arg:string?*"),
            ("[COUNT count]", "count:integer'COUNT'?"),
            ("[GET... pattern#1]", "pattern:pattern'GET'#1?*+"),
            ("[GET @6.2.0]", "get:pure-token'GET'@6.2.0?"),
            ("[change=CH @6.2.0]", "change:pure-token'CH'@6.2.0?"),
            ("ip:port @-2.8.12", "ip:port:string@-2.8.12"),
            (
                "[LIMIT (offset count)]",
                "offset_count:block'LIMIT'?(offset:integer count:integer)",
            ),
            (
                "[count=COUNT count [ANY]]",
                "count:block?(count:integer'COUNT' any:pure-token'ANY'?)",
            ),
            (
                "[NOSAVE|SAVE]",
                "nosave_save:oneof?(nosave:pure-token'NOSAVE' save:pure-token'SAVE')",
            ),
            (
                "no-one=(NO ONE)",
                "no-one:block(no:pure-token'NO' one:pure-token'ONE')",
            ),
            (
                "id=(id|new_id='$')",
                "id:oneof(id:string new_id:pure-token'$')",
            ),
            (
                "FULL full=([COUNT count])",
                "full:block'FULL'(count:integer'COUNT'?)",
            ),
            (
                "(a b|(c d) ...)",
                "a_b_c_d:oneof(a_b:block(a:string b:string) c_d:block*(c:string d:string))",
            ),
        ];
        for (syntax, tree) in rows {
            let parsed = parse(syntax).map(|arguments| shown(&arguments));
            assert_eq!(parsed.as_deref(), Ok(tree), "{syntax}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for syntax in ["(a", "a)", "[]", "(a||b)", "'m", "key#x", "a @b", "x=y"] {
            assert!(parse(syntax).is_err(), "{syntax}");
        }
    }
}
