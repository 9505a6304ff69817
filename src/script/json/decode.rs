//! JSON as a Lua value.
//!
//! Open arrays and objects are kept in a list, not on the thread's stack. A NUL byte ends the text,
//! as it would in C, so the end needs no case of its own.

use mlua::{Lua, Table, Value};

use super::Settings;
use crate::number;
use crate::script::native::{Failure, message};

/// Arrays and objects inside each other, whatever the script allows: Lua holds each one for us.
pub(super) const DEPTH_MAX: usize = 4000;

/// The value a text stands for.
pub(super) fn decode(lua: &Lua, settings: Settings, text: &[u8]) -> Result<Value, Failure> {
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(message("JSON parser does not support UTF-16 or UTF-32"));
    }
    let tokens = Tokens {
        text,
        at: 0,
        start: 0,
        invalid_numbers: settings.decode_invalid,
        string: Vec::new(),
    };
    let depth_max = usize::try_from(settings.decode_depth_max).unwrap_or(0);
    Decoder {
        lua,
        tokens,
        open: Vec::new(),
        depth_max: depth_max.min(DEPTH_MAX),
    }
    .run()
}

/// A piece of JSON. The bytes of a string are in `Tokens::string`.
#[derive(Clone, Copy, PartialEq)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    String,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

/// An array or object that has not ended yet.
enum Open {
    Array { table: Table, len: usize },
    Object { table: Table, key: Vec<u8> },
}

struct Decoder<'a> {
    lua: &'a Lua,
    tokens: Tokens<'a>,
    open: Vec<Open>,
    depth_max: usize,
}

/// What comes next.
enum Step {
    /// A value that begins with this token.
    Begin(Token),
    /// This value goes where it belongs.
    Place(Value),
    /// All was this value.
    Done(Value),
}

impl Decoder<'_> {
    fn run(mut self) -> Result<Value, Failure> {
        let mut step = Step::Begin(self.tokens.next());
        loop {
            step = match step {
                Step::Begin(token) => self.begin(token)?,
                Step::Place(value) => self.place(value)?,
                Step::Done(value) => return self.finish(value),
            };
        }
    }

    fn begin(&mut self, token: Token) -> Result<Step, Failure> {
        Ok(Step::Place(match token {
            Token::String => Value::String(self.lua.create_string(&self.tokens.string)?),
            Token::Number(value) => Value::Number(value),
            Token::Boolean(value) => Value::Boolean(value),
            Token::Null => Value::NULL,
            Token::ArrayBegin => {
                let table = self.table()?;
                let first = self.tokens.next();
                if first != Token::ArrayEnd {
                    self.open.push(Open::Array { table, len: 0 });
                    return Ok(Step::Begin(first));
                }
                Value::Table(table)
            }
            Token::ObjectBegin => {
                let table = self.table()?;
                let first = self.tokens.next();
                if first != Token::ObjectEnd {
                    let key = self.key(first)?;
                    self.open.push(Open::Object { table, key });
                    return Ok(Step::Begin(self.tokens.next()));
                }
                Value::Table(table)
            }
            other => return Err(self.tokens.unexpected("value", other)),
        }))
    }

    fn table(&mut self) -> Result<Table, Failure> {
        let depth = self.open.len() + 1;
        if depth > self.depth_max {
            let at = self.tokens.at;
            return Err(message(format!(
                "Found too many nested data structures ({depth}) at character {at}"
            )));
        }
        Ok(self.lua.create_table()?)
    }

    /// A key and the colon after it.
    fn key(&mut self, token: Token) -> Result<Vec<u8>, Failure> {
        if token != Token::String {
            return Err(self.tokens.unexpected("object key string", token));
        }
        let key = self.tokens.string.clone();
        match self.tokens.next() {
            Token::Colon => Ok(key),
            other => Err(self.tokens.unexpected("colon", other)),
        }
    }

    fn place(&mut self, value: Value) -> Result<Step, Failure> {
        let table = match self.open.pop() {
            None => return Ok(Step::Done(value)),
            Some(Open::Array { table, mut len }) => {
                len += 1;
                table.raw_set(len, value)?;
                match self.tokens.next() {
                    Token::ArrayEnd => table,
                    Token::Comma => {
                        self.open.push(Open::Array { table, len });
                        return Ok(Step::Begin(self.tokens.next()));
                    }
                    other => return Err(self.tokens.unexpected("comma or array end", other)),
                }
            }
            Some(Open::Object { table, key }) => {
                table.raw_set(self.lua.create_string(&key)?, value)?;
                match self.tokens.next() {
                    Token::ObjectEnd => table,
                    Token::Comma => {
                        let token = self.tokens.next();
                        let key = self.key(token)?;
                        self.open.push(Open::Object { table, key });
                        return Ok(Step::Begin(self.tokens.next()));
                    }
                    other => return Err(self.tokens.unexpected("comma or object end", other)),
                }
            }
        };
        Ok(Step::Place(Value::Table(table)))
    }

    fn finish(&mut self, value: Value) -> Result<Value, Failure> {
        match self.tokens.next() {
            Token::End => Ok(value),
            other => Err(self.tokens.unexpected("the end", other)),
        }
    }
}

struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
    /// Where the last token began, or what was wrong with it.
    start: usize,
    invalid_numbers: bool,
    /// The bytes of the last string.
    string: Vec<u8>,
}

impl Tokens<'_> {
    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    fn rest(&self) -> &[u8] {
        &self.text[self.at.min(self.text.len())..]
    }

    /// What stands instead of what should.
    #[cold]
    fn unexpected(&self, expected: &str, found: Token) -> Failure {
        let found = match found {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Error(text) => text,
        };
        let at = self.start + 1;
        message(format!(
            "Expected {expected} but found {found} at character {at}"
        ))
    }

    fn error(&mut self, text: &'static str) -> Token {
        self.start = self.at;
        Token::Error(text)
    }

    fn next(&mut self) -> Token {
        while matches!(self.byte(self.at), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.start = self.at;
        let byte = self.byte(self.at);
        let token = match byte {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            0 => return Token::End,
            b'"' => return self.next_string(),
            b'-' | b'0'..=b'9' if !self.invalid_numbers && self.is_invalid_number() => {
                return self.error("invalid number");
            }
            b'-' | b'0'..=b'9' => return self.next_number(),
            _ => return self.next_word(),
        };
        self.at += 1;
        token
    }

    fn next_word(&mut self) -> Token {
        for (word, token) in [
            (b"true" as &[u8], Token::Boolean(true)),
            (b"false", Token::Boolean(false)),
            (b"null", Token::Null),
        ] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return token;
            }
        }
        let may_be_number = matches!(self.byte(self.at), b'i' | b'I' | b'n' | b'N' | b'+');
        if may_be_number && self.invalid_numbers && self.is_invalid_number() {
            return self.next_number();
        }
        self.error("invalid token")
    }

    fn next_number(&mut self) -> Token {
        match number::strtod_front(self.rest()) {
            Some((value, len)) => {
                self.at += len;
                Token::Number(value)
            }
            None => self.error("invalid number"),
        }
    }

    /// Whether a number is one that C reads but JSON does not know.
    fn is_invalid_number(&self) -> bool {
        let text = self.rest();
        let digits = match text {
            [b'+', ..] => return true,
            [b'-', digits @ ..] => digits,
            _ => text,
        };
        match digits {
            [b'0', second, ..] => second.is_ascii_digit() || matches!(second, b'x' | b'X'),
            [a, b, c, ..] => {
                let name = [a, b, c].map(u8::to_ascii_lowercase);
                name == *b"inf" || name == *b"nan"
            }
            _ => false,
        }
    }

    fn next_string(&mut self) -> Token {
        self.at += 1;
        self.string.clear();
        loop {
            let rest = &self.text[self.at.min(self.text.len())..];
            let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0);
            let plain = rest.iter().position(special).unwrap_or(rest.len());
            self.string.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.byte(self.at) {
                b'"' => break,
                0 => return self.error("unexpected end of string"),
                _ => {}
            }
            let letter = match self.byte(self.at + 1) {
                byte @ (b'"' | b'\\' | b'/') => byte,
                b'b' => 0x08,
                b't' => b'\t',
                b'n' => b'\n',
                b'f' => 0x0c,
                b'r' => b'\r',
                b'u' => match self.unicode_escape() {
                    Some(len) => {
                        self.at += len;
                        continue;
                    }
                    None => return self.error("invalid unicode escape code"),
                },
                _ => return self.error("invalid escape code"),
            };
            self.string.push(letter);
            self.at += 2;
        }
        self.at += 1;
        Token::String
    }

    /// Appends what `\uXXXX` or a pair of them stands for; the length of the text.
    fn unicode_escape(&mut self) -> Option<usize> {
        let unit = self.hex4(self.at + 2)?;
        let (point, len) = match unit {
            0xd800..=0xdbff => {
                if self.byte(self.at + 6) != b'\\' || self.byte(self.at + 7) != b'u' {
                    return None;
                }
                let low = self.hex4(self.at + 8)?;
                if !(0xdc00..=0xdfff).contains(&low) {
                    return None;
                }
                (0x10000 + ((unit & 0x3ff) << 10 | (low & 0x3ff)), 12)
            }
            _ => (unit, 6),
        };
        // A low half alone is no character.
        let text = char::from_u32(point)?;
        let mut bytes = [0; 4];
        let bytes = text.encode_utf8(&mut bytes).as_bytes();
        self.string.extend_from_slice(bytes);
        Some(len)
    }

    fn hex4(&self, at: usize) -> Option<u32> {
        let mut value = 0;
        for at in at..at + 4 {
            value = value * 16 + char::from(self.byte(at)).to_digit(16)?;
        }
        Some(value)
    }
}
