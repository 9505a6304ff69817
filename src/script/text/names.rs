//! What is bound to the names in a text.

use ahash::AHashMap;

use super::calls::{closing, is_name, is_sign, opening};
use super::tokens::Token;

/// What one place binds to a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound<'a> {
    /// `local name = TABLE[...]`, or the values of `ipairs(TABLE)`.
    Element(&'a [u8]),
    /// `local name = redis.call`, where `redis` stands there.
    Call(usize),
    /// The first parameter of a function that is registered; it stands there.
    Keys(usize),
    Other,
}

/// All bindings of all names.
pub(super) type Names<'a> = AHashMap<&'a [u8], Vec<Bound<'a>>>;

pub(super) fn names<'a>(tokens: &[Token<'a>]) -> Option<Names<'a>> {
    let mut found = Found {
        tokens,
        names: Names::default(),
        locals: 0,
    };
    for at in 0..tokens.len() {
        match tokens[at] {
            Token::Name(b"local") if !is_name(tokens, at + 1, b"function") => found.local(at + 1),
            Token::Name(b"function") => found.function(at)?,
            Token::Name(b"for") => found.each(at + 1),
            Token::Sign(b"=") if at >= found.locals => found.assignment(at),
            _ => {}
        }
    }
    Some(found.names)
}

struct Found<'t, 'a> {
    tokens: &'t [Token<'a>],
    names: Names<'a>,
    /// Up to here `=` belongs to what was understood as a whole.
    locals: usize,
}

impl<'a> Found<'_, 'a> {
    fn bind(&mut self, name: &'a [u8], bound: Bound<'a>) {
        self.names.entry(name).or_default().push(bound);
    }

    /// The names in a list, and where it ends.
    fn list(&self, mut at: usize) -> (Vec<&'a [u8]>, usize) {
        let mut list = Vec::new();
        while let Some(&Token::Name(name)) = self.tokens.get(at) {
            list.push(name);
            at += 1;
            if !is_sign(self.tokens, at, b",") {
                break;
            }
            at += 1;
        }
        (list, at)
    }

    /// `local a, b = ...`.
    fn local(&mut self, at: usize) {
        let (list, end) = self.list(at);
        let mut from = is_sign(self.tokens, end, b"=").then_some(end + 1);
        self.locals = end + 1;
        for name in list {
            let value = from.and_then(|from| self.value(from));
            self.bind(name, value.map_or(Bound::Other, |(bound, _)| bound));
            from = value.and_then(|(_, end)| is_sign(self.tokens, end, b",").then_some(end + 1));
        }
    }

    /// A value that is understood, and where it ends.
    fn value(&self, at: usize) -> Option<(Bound<'a>, usize)> {
        let tokens = self.tokens;
        let (bound, end) = match *tokens.get(at)? {
            Token::Name(b"function" | b"not" | b"nil") => return None,
            Token::Name(b"redis") if is_sign(tokens, at + 1, b".") => {
                match is_name(tokens, at + 2, b"call") || is_name(tokens, at + 2, b"pcall") {
                    true => (Bound::Call(at), at + 3),
                    false => return None,
                }
            }
            Token::Name(name) if is_sign(tokens, at + 1, b"[") => {
                (Bound::Element(name), closing(tokens, at + 1)? + 1)
            }
            Token::Name(_) | Token::Text(_) | Token::Number(_) => (Bound::Other, at + 1),
            _ => return None,
        };
        let is_whole = match tokens.get(end) {
            None | Some(Token::Sign(b"," | b";")) => true,
            Some(Token::Name(name)) => !matches!(*name, b"and" | b"or"),
            _ => false,
        };
        is_whole.then_some((bound, end))
    }

    /// `for a, b in ipairs(KEYS) do`.
    fn each(&mut self, at: usize) {
        let tokens = self.tokens;
        let (list, end) = self.list(at);
        self.locals = end + 1;
        let is_plain = is_name(tokens, end, b"in")
            && (is_name(tokens, end + 1, b"ipairs") || is_name(tokens, end + 1, b"pairs"))
            && is_sign(tokens, end + 2, b"(")
            && is_sign(tokens, end + 4, b")")
            && is_name(tokens, end + 5, b"do");
        let of = match tokens.get(end + 3) {
            Some(&Token::Name(name)) if is_plain => Bound::Element(name),
            _ => Bound::Other,
        };
        for (nth, name) in list.into_iter().enumerate() {
            self.bind(name, if nth == 1 { of } else { Bound::Other });
        }
    }

    /// The parameters of a function, and its name.
    fn function(&mut self, at: usize) -> Option<()> {
        let tokens = self.tokens;
        let open = (at..tokens.len()).find(|&at| is_sign(tokens, at, b"("))?;
        let mut is_registered = self.is_registered(at);
        if let Some(&Token::Name(name)) = tokens.get(at + 1) {
            self.bind(name, Bound::Other);
            is_registered = open == at + 2 && self.is_only_registered(name);
        }
        let (list, _) = self.list(open + 1);
        for (nth, name) in list.into_iter().enumerate() {
            let is_first = nth == 0 && is_registered;
            let bound = is_first.then_some(Bound::Keys(open + 1));
            self.bind(name, bound.unwrap_or(Bound::Other));
        }
        Some(())
    }

    /// Whether the value here is what `redis.register_function` gets as the function.
    fn is_registered(&self, at: usize) -> bool {
        let tokens = self.tokens;
        let registers = |at: Option<usize>| {
            at.is_some_and(|at| at >= 2 && is_name(tokens, at, b"register_function"))
        };
        let Some(before) = at.checked_sub(1) else {
            return false;
        };
        if is_sign(tokens, before, b",") {
            let named = before.checked_sub(1).map(|at| tokens[at]);
            let open = before.checked_sub(2);
            return matches!(named, Some(Token::Text(_)))
                && open.is_some_and(|open| is_sign(tokens, open, b"("))
                && registers(before.checked_sub(3));
        }
        if !is_sign(tokens, before, b"=") || before < 1 || !is_name(tokens, before - 1, b"callback")
        {
            return false;
        }
        let Some(open) = opening(tokens, before - 1) else {
            return false;
        };
        let before = open.checked_sub(1);
        let is_call = before.is_some_and(|at| is_sign(tokens, at, b"("));
        is_sign(tokens, open, b"{") && registers(open.checked_sub(1 + usize::from(is_call)))
    }

    /// Whether a function with this name is called by nobody here.
    fn is_only_registered(&self, name: &[u8]) -> bool {
        let mentions = (0..self.tokens.len()).filter(|&at| is_name(self.tokens, at, name));
        let (registered, others): (Vec<usize>, Vec<usize>) = mentions.partition(|&at| {
            let ends = [&b")"[..], b",", b"}"];
            self.is_registered(at) && ends.iter().any(|end| is_sign(self.tokens, at + 1, end))
        });
        !registered.is_empty() && others.len() == 1
    }

    /// `a, b.c, d[1] = ...`: `a`, and what `b` and `d` are the beginning of.
    fn assignment(&mut self, at: usize) {
        let tokens = self.tokens;
        let mut end = at.checked_sub(1);
        while let Some(mut at) = end {
            loop {
                if is_sign(tokens, at, b"]") {
                    match opening(tokens, at) {
                        Some(open) if open > 0 => at = open - 1,
                        _ => return,
                    }
                } else if at >= 2 && is_sign(tokens, at - 1, b".") {
                    at -= 2;
                } else {
                    break;
                }
            }
            let Token::Name(name) = tokens[at] else {
                return;
            };
            self.bind(name, Bound::Other);
            let is_list = at >= 2 && is_sign(tokens, at - 1, b",");
            end = is_list.then(|| at - 2);
        }
    }
}
