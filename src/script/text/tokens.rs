//! The tokens of Lua 5.1.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A name or a keyword.
    Name(&'a [u8]),
    /// What is between the quotes of a string without escapes.
    Text(&'a [u8]),
    /// A string with escapes.
    Escaped,
    Number(&'a [u8]),
    Sign(&'a [u8]),
}

const SIGNS: [&[u8]; 7] = [b"...", b"..", b"==", b"~=", b"<=", b">=", b"::"];

/// All tokens without comments; `None` if the text is cut short.
pub(super) fn tokens(code: &[u8]) -> Option<Vec<Token<'_>>> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(&first) = rest.first() {
        let (token, len) = match first {
            _ if first.is_ascii_whitespace() || first == 0x0b => (None, 1),
            b'-' if rest.starts_with(b"--") => (None, comment(rest)?),
            b'\'' | b'"' => quoted(rest).map(|(token, len)| (Some(token), len))?,
            b'[' if level(rest).is_some() => {
                let (text, len) = bracketed(rest)?;
                (Some(Token::Text(text)), len)
            }
            b'.' if rest.get(1).is_some_and(u8::is_ascii_digit) => number(rest),
            b'0'..=b'9' => number(rest),
            _ if is_of_name(first) => {
                let len = length(rest, is_of_name);
                (Some(Token::Name(&rest[..len])), len)
            }
            _ => {
                let sign = SIGNS.iter().find(|sign| rest.starts_with(sign));
                let len = sign.map_or(1, |sign| sign.len());
                (Some(Token::Sign(&rest[..len])), len)
            }
        };
        found.extend(token);
        rest = &rest[len..];
    }
    Some(found)
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn length(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    let end = text.iter().position(|&byte| !belongs(byte));
    end.unwrap_or(text.len())
}

fn number(text: &[u8]) -> (Option<Token<'_>>, usize) {
    let is_hex = text.len() > 1 && text[1].eq_ignore_ascii_case(&b'x');
    let mut len = 0;
    while let Some(&byte) = text.get(len) {
        let is_exponent = len > 0 && text[len - 1].eq_ignore_ascii_case(&b'e') && !is_hex;
        if !(is_of_name(byte) || byte == b'.' || matches!(byte, b'+' | b'-') && is_exponent) {
            break;
        }
        len += 1;
    }
    (Some(Token::Number(&text[..len])), len)
}

/// A string in quotes and its length with them.
fn quoted(text: &[u8]) -> Option<(Token<'_>, usize)> {
    let mut at = 1;
    let mut is_plain = true;
    while text.get(at)? != &text[0] {
        let is_escape = text[at] == b'\\';
        is_plain &= !is_escape;
        at += 1 + usize::from(is_escape);
    }
    match is_plain {
        true => Some((Token::Text(&text[1..at]), at + 1)),
        false => Some((Token::Escaped, at + 1)),
    }
}

/// How many `=` stand between the brackets of `[==[`.
fn level(text: &[u8]) -> Option<usize> {
    let signs = length(text.get(1..)?, |byte| byte == b'=');
    (text.get(signs + 1) == Some(&b'[')).then_some(signs)
}

/// A string in long brackets and its length with them.
fn bracketed(text: &[u8]) -> Option<(&[u8], usize)> {
    let level = level(text)?;
    let close = [&b"]"[..], &b"=".repeat(level), b"]"].concat();
    let body = &text[level + 2..];
    let end = memchr::memmem::find(body, &close)?;
    let skipped = usize::from(body.first() == Some(&b'\n') && end > 0);
    Some((&body[skipped..end], level + 2 + end + close.len()))
}

/// The length of a comment.
fn comment(text: &[u8]) -> Option<usize> {
    let body = &text[2..];
    if body.first() == Some(&b'[') && level(body).is_some() {
        return Some(2 + bracketed(body)?.1);
    }
    Some(2 + length(body, |byte| byte != b'\n'))
}
