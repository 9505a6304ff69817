//! Calls in the last position that keep their caller.
//!
//! `return redis.call(...)` is a tail call: when it fails, Lua has forgotten on which line of which
//! script it stood. In Redis' Lua a function written in C does not take its caller's place; in
//! LuaJIT everything does. In parentheses it is no tail call, and a function that returns one value
//! returns the same: so those calls are put into parentheses before a script is compiled.

/// Tables whose functions return one value; `error` returns none.
const TABLES: [&[u8]; 2] = [b"redis", b"cjson"];

/// The same code with calls of ours in parentheses. Lines keep their numbers.
pub fn keep_callers(code: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(code.len() + 16);
    let (mut at, mut copied) = (0, 0);
    while at < code.len() {
        let end = token(code, at);
        let follows = at.checked_sub(1).map(|before| code[before]);
        let is_return = &code[at..end] == b"return" && !matches!(follows, Some(b'.' | b':'));
        if is_return && let Some(call) = last_call(code, end) {
            kept.extend_from_slice(&code[copied..call.start]);
            kept.push(b'(');
            kept.extend_from_slice(&code[call.clone()]);
            kept.push(b')');
            copied = call.end;
            at = call.end;
        } else {
            at = end;
        }
    }
    kept.extend_from_slice(&code[copied..]);
    kept
}

/// The call behind a `return` that ends at `from`, if it is one of ours and nothing follows it.
fn last_call(code: &[u8], from: usize) -> Option<std::ops::Range<usize>> {
    let start = blank(code, from);
    let name_end = token(code, start);
    let name = &code[start..name_end];
    let mut at = blank(code, name_end);
    if TABLES.contains(&name) {
        if code.get(at) != Some(&b'.') {
            return None;
        }
        at = blank(code, at + 1);
        at = blank(code, token(code, at));
    } else if name != b"error" {
        return None;
    }
    if code.get(at) != Some(&b'(') {
        return None;
    }
    let end = closed(code, at)?;
    let next = blank(code, end);
    let word = &code[next..token(code, next)];
    let ends: [&[u8]; 6] = [b"", b";", b"end", b"else", b"elseif", b"until"];
    ends.contains(&word).then_some(start..end)
}

/// Behind the parenthesis that closes the one at `at`.
fn closed(code: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    while at < code.len() {
        match code[at] {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        at = token(code, at);
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// Behind white space and comments.
fn blank(code: &[u8], mut at: usize) -> usize {
    loop {
        match &code[at..] {
            [byte, ..] if byte.is_ascii_whitespace() => at += 1,
            [b'-', b'-', ..] => at = token(code, at),
            _ => return at,
        }
    }
}

/// Behind the name, number, string, comment or other byte that begins at `at`.
fn token(code: &[u8], at: usize) -> usize {
    let rest = &code[at..];
    let len = match rest {
        [] => 0,
        [b'-', b'-', comment @ ..] => {
            let line = || memchr::memchr(b'\n', comment).unwrap_or(comment.len());
            2 + long(comment).unwrap_or_else(line)
        }
        [b'[', ..] => long(rest).unwrap_or(1),
        [quote @ (b'"' | b'\''), text @ ..] => 1 + quoted(*quote, text),
        [byte, ..] if is_name(*byte) => {
            let other = rest.iter().position(|byte| !is_name(*byte));
            other.unwrap_or(rest.len())
        }
        _ => 1,
    };
    at + len
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Length of `[[...]]` or `[==[...]==]`, if that is what begins here.
fn long(text: &[u8]) -> Option<usize> {
    let level = text.strip_prefix(b"[")?;
    let level = level.iter().take_while(|byte| **byte == b'=').count();
    if text.get(level + 1) != Some(&b'[') {
        return None;
    }
    let mut close = vec![b'='; level + 2];
    close[0] = b']';
    close[level + 1] = b']';
    let body = level + 2;
    let end = memchr::memmem::find(&text[body..], &close);
    Some(end.map_or(text.len(), |end| body + end + close.len()))
}

/// Length of a string behind its opening quote, with the closing one.
fn quoted(quote: u8, text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'\\' => at += 1,
            b'\n' => break,
            _ if byte == quote => break,
            _ => {}
        }
    }
    at.min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_in_the_last_position_are_enclosed() {
        for (code, kept) in [
            (
                "return redis.call('get', 'x')",
                "return (redis.call('get', 'x'))",
            ),
            ("return redis . call (1);", "return (redis . call (1));"),
            (
                "if a then return redis.pcall(f(1)) end",
                "if a then return (redis.pcall(f(1))) end",
            ),
            ("return error('x')", "return (error('x'))"),
            (
                "return cjson.decode(ARGV[1]) -- so",
                "return (cjson.decode(ARGV[1])) -- so",
            ),
            (
                "return redis.call(\")\", '\\')', [[)]])",
                "return (redis.call(\")\", '\\')', [[)]]))",
            ),
            (
                "return redis.call('a', --[[ ) ]] 'b')\nend",
                "return (redis.call('a', --[[ ) ]] 'b'))\nend",
            ),
        ] {
            assert_eq!(
                String::from_utf8_lossy(&keep_callers(code.as_bytes())),
                kept
            );
        }
    }

    #[test]
    fn all_else_stays() {
        for code in [
            "return redis.call('get', 'x') + 1",
            "return redis.call('get', 'x'), 2",
            "return redis.call('x')[1]",
            "return redis",
            "return redis.call",
            "return redis.call('x'",
            "return f(redis.call('x'))",
            "return 'return redis.call(1)'",
            "-- return redis.call(1)",
            "return cmsgpack.unpack(x)",
            "x.return redis.call(1)",
            "return [==[ redis.call(1) ]==]",
            "return",
            "returns redis.call(1)",
            "[[",
            "'\\",
        ] {
            assert_eq!(
                String::from_utf8_lossy(&keep_callers(code.as_bytes())),
                code
            );
        }
    }
}
