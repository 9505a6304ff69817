//! What the text of a script tells of the keys that it will touch.
//!
//! A script may ask for anything at any time, but most are plain: every command and every key stands
//! there, as `redis.call('SET', KEYS[1], ...)`, perhaps by way of `local key = KEYS[1]`. The calls
//! of such a script are told, word by word. Of one that could do anything else (compute the name of
//! a key or of a command, hand `redis.call` to somebody) nothing is.
//!
//! The text is read as tokens, not parsed; when in doubt, nothing is told. A name is looked at as if
//! the whole text were one scope: whatever is bound to it anywhere must be a key.

mod calls;
mod names;
mod tokens;

use calls::Reading;

/// An argument of `redis.call`, as far as the text tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// A string or a number.
    Literal(Box<[u8]>),
    /// One of the keys that the script is called with, or nil.
    Key,
    /// The last: any number of these keys.
    Keys,
    /// A value.
    One,
    /// The last: any number of values.
    Many,
}

/// All calls of commands in the text of a script, if they can be told. `is_library`: the keys are
/// the first parameter of functions that the text registers, and not `KEYS`.
pub fn calls(code: &[u8], is_library: bool) -> Option<Vec<Vec<Word>>> {
    let tokens = tokens::tokens(code)?;
    Reading::new(&tokens, is_library)?.calls()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One word of a call, written shortly: `=text`, `k`, `K*`, `1`, `*`.
    fn shown(calls: Option<Vec<Vec<Word>>>) -> String {
        let Some(calls) = calls else {
            return "?".into();
        };
        let word = |word: &Word| match word {
            Word::Literal(text) => format!("={}", String::from_utf8_lossy(text)),
            Word::Key => "k".into(),
            Word::Keys => "K*".into(),
            Word::One => "1".into(),
            Word::Many => "*".into(),
        };
        let call = |call: &Vec<Word>| call.iter().map(word).collect::<Vec<_>>().join(" ");
        calls.iter().map(call).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn plain_scripts_are_told() {
        for (text, expected) in [
            ("return 1", ""),
            ("return redis.call('get', KEYS[1])", "=get k"),
            (
                "-- redis.call(x)\nlocal k, v = KEYS[1], ARGV[1]\nif redis.pcall(\"get\", k) == v \
                 then return redis.call([[del]], k) end",
                "=get k; =del k",
            ),
            (
                "local call = redis.call for _, key in ipairs(KEYS) do call('incrby', key, 2) end",
                "=incrby k =2",
            ),
            (
                "return redis.call('sadd', KEYS[#KEYS], unpack(ARGV))",
                "=sadd k *",
            ),
            ("return redis.call('mget', unpack(KEYS, 2))", "=mget K*"),
            (
                "redis.call('set', KEYS[tonumber(ARGV[1])], ARGV[2] .. 'x', 'EX', 10)",
                "=set k 1 =EX =10",
            ),
            (
                "redis.log(redis.LOG_NOTICE, 'x') return {redis.call('time')[1], 0x1f, 1e-3}",
                "=time",
            ),
            ("local t = {} t.key = KEYS[1] return t", ""),
            ("--[==[ x ]] ]==] redis.call('get', KEYS[1])", "=get k"),
        ] {
            assert_eq!(shown(calls(text.as_bytes(), false)), expected, "{text}");
        }
    }

    #[test]
    fn computed_keys_are_seen() {
        for (text, expected) in [
            ("redis.call('get', KEYS[1] .. ':lock')", "=get 1"),
            ("redis.call('get', ARGV[1])", "=get 1"),
            ("local k = KEYS[1] .. 'x' redis.call('get', k)", "=get 1"),
            (
                "local k = KEYS[1] k = k .. 'x' redis.call('get', k)",
                "=get 1",
            ),
            ("local k = KEYS[1] or 'x' redis.call('get', k)", "=get 1"),
            (
                "local k, j = KEYS[1] j, k = 1, 2 redis.call('get', k)",
                "=get 1",
            ),
            ("for k in f(KEYS) do end", "?"),
            (
                "local function f(k) redis.call('get', k) end local k = KEYS[1] f('x')",
                "=get 1",
            ),
            ("redis.call(ARGV[1], KEYS[1])", "1 k"),
            ("KEYS[1] = 'x' redis.call('get', KEYS[1])", "=get 1"),
            ("KEYS = {'x'} redis.call('get', KEYS[1])", "=get 1"),
        ] {
            assert_eq!(shown(calls(text.as_bytes(), false)), expected, "{text}");
        }
    }

    #[test]
    fn nothing_is_told_of_what_could_do_anything() {
        for text in [
            "local r = redis r.call('get', 'x')",
            "redis['call']('get', 'x')",
            "return pcall(redis.call, 'get', 'x')",
            "local c = redis.call return pcall(c, 'get', 'x')",
            "_G['red' .. 'is'].call('get', 'x')",
            "loadstring('return 1')()",
            "local t = KEYS t[1] = 'x' redis.call('get', KEYS[1])",
            "table.insert(KEYS, 'x') redis.call('get', KEYS[1])",
            "local function ipairs(t) t[1] = 'x' end ipairs(KEYS) redis.call('get', KEYS[1])",
            "redis.call 'get'",
            "redis.call(('get'):rep(1), (function() return 'x' end)())",
            "redis.call('get', 'x",
            "--[[ redis.call('get', KEYS[1])",
        ] {
            assert_eq!(shown(calls(text.as_bytes(), false)), "?", "{text}");
        }
    }

    #[test]
    fn keys_of_functions_are_what_they_are_registered_with() {
        for (text, expected) in [
            (
                "redis.register_function('f', function(keys, args) \
                 return redis.call('get', keys[1]) end)",
                "=get k",
            ),
            (
                "local function f(ks) local k = ks[1] return redis.call('set', k, 1) end \
                 local function g(ks) local k = ks[2] return redis.call('get', k) end \
                 redis.register_function('f', f) \
                 redis.register_function{function_name='g', callback=g, flags={'no-writes'}}",
                "=set k =1; =get k",
            ),
            (
                "local function f(ks) return redis.call('get', ks[1]) end \
                 redis.register_function('f', function(keys) return f({'x'}) end)",
                "=get 1",
            ),
            (
                "local t = {callback = function(ks) return redis.call('get', ks[1]) end}",
                "=get 1",
            ),
            ("redis.call('get', KEYS[1])", "=get 1"),
        ] {
            assert_eq!(shown(calls(text.as_bytes(), true)), expected, "{text}");
        }
    }
}
