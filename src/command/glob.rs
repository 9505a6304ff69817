//! Glob patterns as KEYS, SCAN, PSUBSCRIBE and CONFIG GET understand them.
//!
//! `*`, `?`, `[abc]`, `[a-z]`, `[^a]`, and `\` before anything taken literally. Matching goes back
//! only to the last `*`, so its time is at most the product of both lengths (CVE-2022-36021).

/// Whether `text` as a whole matches `pattern`.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, false)
}

/// The same, letters of both cases being equal.
pub fn matches_nocase(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, true)
}

/// Stars in a row count once. Redis: util.c stringmatchlen_impl gives up at this depth.
const STARS_MAX: usize = 1000;

fn run(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut stars = 0;
    // Where to go on after a mismatch: behind the last star, with one more byte given to it.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            while pattern.get(p) == Some(&b'*') {
                p += 1;
            }
            if p == pattern.len() {
                return true;
            }
            stars += 1;
            if stars > STARS_MAX {
                return false;
            }
            star = Some((p, t));
            continue;
        }
        match one(&pattern[p..], text[t], nocase) {
            Some(used) => (p, t) = (p + used, t + 1),
            None => match star {
                None => return false,
                Some((after, from)) => {
                    star = Some((after, from + 1));
                    (p, t) = (after, from + 1);
                }
            },
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

fn fold(byte: u8, nocase: bool) -> u8 {
    if nocase {
        byte.to_ascii_lowercase()
    } else {
        byte
    }
}

/// Matches one byte against the first element of `pattern`; returns the element's length.
fn one(pattern: &[u8], byte: u8, nocase: bool) -> Option<usize> {
    let byte = fold(byte, nocase);
    match pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ..] => class(pattern, byte, nocase),
        [b'\\', literal, ..] => (fold(*literal, nocase) == byte).then_some(2),
        [literal, ..] => (fold(*literal, nocase) == byte).then_some(1),
    }
}

/// Matches a bracket expression. One that does not close ends with the pattern, as in Redis.
fn class(pattern: &[u8], byte: u8, nocase: bool) -> Option<usize> {
    let negated = pattern.get(1) == Some(&b'^');
    let mut at = if negated { 2 } else { 1 };
    let mut found = false;
    let length = loop {
        match pattern[at..] {
            [] => break at,
            [b']', ..] => break at + 1,
            [b'\\', literal, ..] => {
                found |= fold(literal, nocase) == byte;
                at += 2;
            }
            [first, b'-', last, ..] => {
                let (first, last) = (fold(first, nocase), fold(last, nocase));
                found |= (first.min(last)..=first.max(last)).contains(&byte);
                at += 3;
            }
            [literal, ..] => {
                found |= fold(literal, nocase) == byte;
                at += 1;
            }
        }
    };
    (found != negated).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, without regard to time.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.first(), text.first()) {
            (None, None) => true,
            (Some(b'*'), _) => {
                naive(&pattern[1..], text) || (!text.is_empty() && naive(pattern, &text[1..]))
            }
            (Some(_), Some(&byte)) => {
                one(pattern, byte, false).is_some_and(|n| naive(&pattern[n..], &text[1..]))
            }
            _ => false,
        }
    }

    #[test]
    fn agrees_with_the_definition() {
        let seed = 9;
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut word = |alphabet: &[u8], max: usize| -> Vec<u8> {
            let len = rng.usize(..max);
            (0..len)
                .map(|_| alphabet[rng.usize(..alphabet.len())])
                .collect()
        };
        for _ in 0..50_000 {
            let (pattern, text) = (word(b"ab*?[]^-\\", 8), word(b"ab-]", 8));
            assert_eq!(
                matches(&pattern, &text),
                naive(&pattern, &text),
                "{pattern:?} {text:?}"
            );
        }
    }

    #[test]
    fn known_patterns() {
        assert!(matches(b"h[a-c]llo*", b"hbllo world"));
        assert!(matches(b"h[^e]llo", b"hallo") && !matches(b"h[^e]llo", b"hello"));
        assert!(matches(b"a\\*b", b"a*b") && !matches(b"a\\*b", b"axb"));
        assert!(matches_nocase(b"MaX*", b"maxmemory"));
        let text = vec![b'a'; 10_000];
        assert!(
            !matches(b"a*a*a*a*a*a*a*a*a*a*a*b", &text),
            "in linear time per star"
        );
    }
}
