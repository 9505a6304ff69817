//! The calls of commands in a text.

use super::Word;
use super::names::{Bound, Names, names};
use super::tokens::Token;

/// Ways to `redis.call` without naming it.
const WAYS_AROUND: [&[u8]; 5] = [b"loadstring", b"load", b"_G", b"getfenv", b"setfenv"];
/// What a table of keys may be handed to: they leave it as it is, and keep nothing of it.
const READERS: [&[u8]; 4] = [b"ipairs", b"pairs", b"unpack", b"next"];

pub(super) fn is_name(tokens: &[Token], at: usize, name: &[u8]) -> bool {
    tokens.get(at) == Some(&Token::Name(name))
}

pub(super) fn is_sign(tokens: &[Token], at: usize, sign: &[u8]) -> bool {
    tokens.get(at) == Some(&Token::Sign(sign))
}

fn depth(token: Token) -> isize {
    match token {
        Token::Sign(b"(" | b"[" | b"{") => 1,
        Token::Sign(b")" | b"]" | b"}") => -1,
        _ => 0,
    }
}

/// Where the bracket that opens at `at` closes.
pub(super) fn closing(tokens: &[Token], at: usize) -> Option<usize> {
    let mut open = 0;
    (at..tokens.len()).find(|&at| {
        open += depth(tokens[at]);
        open == 0
    })
}

/// The bracket that is open at `at`, or that closes there.
pub(super) fn opening(tokens: &[Token], at: usize) -> Option<usize> {
    let mut open = match depth(tokens[at]) {
        -1 => 0,
        _ => -1,
    };
    (0..=at).rev().find(|&at| {
        open += depth(tokens[at]);
        open == 0
    })
}

/// A text whose names are known.
pub(super) struct Reading<'t, 'a> {
    tokens: &'t [Token<'a>],
    names: Names<'a>,
    is_library: bool,
}

impl<'t, 'a> Reading<'t, 'a> {
    pub(super) fn new(tokens: &'t [Token<'a>], is_library: bool) -> Option<Reading<'t, 'a>> {
        let names = names(tokens)?;
        Some(Reading {
            tokens,
            names,
            is_library,
        })
    }

    /// The calls, if nothing but these can ask for a command.
    pub(super) fn calls(&self) -> Option<Vec<Vec<Word>>> {
        let mut calls = Vec::new();
        for (at, token) in self.tokens.iter().enumerate() {
            let Token::Name(name) = *token else {
                continue;
            };
            if at > 0 && matches!(self.tokens[at - 1], Token::Sign(b"." | b":")) {
                continue;
            }
            let open = match name {
                _ if WAYS_AROUND.contains(&name) => return None,
                b"redis" => self.after_redis(at)?,
                _ if self.is_keys(name) => {
                    self.is_harmless(name, at).then_some(())?;
                    None
                }
                _ => self.after_alias(name, at)?,
            };
            if let Some(open) = open {
                calls.push(self.words(open)?);
            }
        }
        Some(calls)
    }

    fn bound(&self, name: &[u8]) -> &[Bound<'a>] {
        self.names.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a name stands for the table of the keys that the script is called with.
    fn is_keys(&self, name: &[u8]) -> bool {
        let bound = self.bound(name);
        match self.is_library {
            true => !bound.is_empty() && bound.iter().all(|it| matches!(it, Bound::Keys(_))),
            false => name == b"KEYS" && bound.is_empty(),
        }
    }

    /// Whether a name stands for one of those keys.
    fn is_key(&self, name: &[u8]) -> bool {
        let of_keys = |bound: &Bound| matches!(bound, Bound::Element(of) if self.is_keys(of));
        let bound = self.bound(name);
        !bound.is_empty() && bound.iter().all(of_keys)
    }

    /// After `redis`: the bracket where a call opens. `None`: it may be anything.
    fn after_redis(&self, at: usize) -> Option<Option<usize>> {
        if !self.bound(b"redis").is_empty() || !is_sign(self.tokens, at + 1, b".") {
            return None;
        }
        let Some(Token::Name(field)) = self.tokens.get(at + 2) else {
            return None;
        };
        if !matches!(*field, b"call" | b"pcall") {
            return Some(None);
        }
        if is_sign(self.tokens, at + 3, b"(") {
            return Some(Some(at + 3));
        }
        let is_here = |bound: &Bound| *bound == Bound::Call(at);
        let mut all = self.names.values();
        let alias = all.find(|bound| bound.iter().any(is_here))?;
        let is_call = |bound: &Bound| matches!(bound, Bound::Call(_));
        alias.iter().all(is_call).then_some(None)
    }

    /// The same after any other name.
    fn after_alias(&self, name: &[u8], at: usize) -> Option<Option<usize>> {
        let bound = self.bound(name);
        if !bound.iter().any(|it| matches!(it, Bound::Call(_))) {
            return Some(None);
        }
        if is_sign(self.tokens, at + 1, b"(") {
            return Some(Some(at + 1));
        }
        // Where it is bound: `local name =`, or in a list.
        let before = at.checked_sub(1)?;
        let is_bound = is_name(self.tokens, before, b"local")
            || is_sign(self.tokens, before, b",") && self.is_in_local(before);
        is_bound.then_some(None)
    }

    /// Whether the comma here is between the names of `local a, b`.
    fn is_in_local(&self, mut at: usize) -> bool {
        while at >= 2 && is_sign(self.tokens, at, b",") {
            at -= 2;
            if is_name(self.tokens, at, b"local") {
                return matches!(self.tokens[at + 1], Token::Name(_));
            }
        }
        false
    }

    /// Whether a table of keys is only looked at here.
    fn is_harmless(&self, name: &[u8], at: usize) -> bool {
        let tokens = self.tokens;
        if is_sign(tokens, at + 1, b"[") || self.bound(name).contains(&Bound::Keys(at)) {
            return true;
        }
        let Some(before) = at.checked_sub(1) else {
            return false;
        };
        let reader = before.checked_sub(1).map(|at| tokens[at]);
        is_sign(tokens, before, b"#")
            || is_sign(tokens, before, b"(")
                && matches!(reader, Some(Token::Name(name))
                    if READERS.contains(&name) && self.bound(name).is_empty())
    }

    /// What stands between these brackets.
    fn words(&self, open: usize) -> Option<Vec<Word>> {
        let close = closing(self.tokens, open)?;
        let mut words = Vec::new();
        let (mut from, mut level) = (open + 1, 0);
        for at in open + 1..=close {
            if is_name(self.tokens, at, b"function") {
                return None;
            }
            let is_last = at == close;
            if is_last || level == 0 && is_sign(self.tokens, at, b",") {
                words.push(self.word(&self.tokens[from..at], is_last));
                from = at + 1;
            }
            level += depth(self.tokens[at]);
        }
        Some(words)
    }

    fn word(&self, tokens: &[Token], is_last: bool) -> Word {
        let ends = |open: usize| closing(tokens, open) == Some(tokens.len() - 1);
        match *tokens {
            [Token::Text(text) | Token::Number(text)] => Word::Literal(text.into()),
            [Token::Name(name)] if self.is_key(name) => Word::Key,
            [Token::Name(name), Token::Sign(b"["), ..] if self.is_keys(name) && ends(1) => {
                Word::Key
            }
            [
                Token::Name(b"unpack"),
                Token::Sign(b"("),
                Token::Name(name),
                ..,
            ] if is_last
                && self.is_keys(name)
                && self.bound(b"unpack").is_empty()
                && (is_sign(tokens, 3, b")") || is_sign(tokens, 3, b","))
                && ends(1) =>
            {
                Word::Keys
            }
            [.., Token::Sign(b")" | b"...")] if is_last => Word::Many,
            _ => Word::One,
        }
    }
}
