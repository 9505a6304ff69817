//! Words of rules.

use crate::resp::CmdError;

/// Whether a rule is one of these words, in any case.
pub(super) fn is_word(rule: &[u8], words: &[&str]) -> bool {
    let mut words = words.iter();
    words.any(|word| rule.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether a text could not stand in a list of rules. Redis: acl.c ACLStringHasSpaces.
pub(super) fn has_spaces(text: &[u8]) -> bool {
    let is_space = |byte: &u8| matches!(byte, 0 | b' ' | b'\t'..=b'\r');
    text.iter().any(is_space)
}

/// Whether a user may be called so.
pub fn is_valid_name(name: &[u8]) -> bool {
    !has_spaces(name)
}

/// Puts selectors together that are spread over several arguments; fails with the place of a
/// parenthesis that is never closed. Redis: acl.c ACLMergeSelectorArguments.
pub(super) fn merge_selectors(rules: &[&[u8]]) -> Result<Vec<Vec<u8>>, usize> {
    let mut merged: Vec<Vec<u8>> = Vec::with_capacity(rules.len());
    let mut open: Option<(usize, Vec<u8>)> = None;
    for (at, rule) in rules.iter().enumerate() {
        if rule.first() == Some(&b'(') && rule.last() != Some(&b')') {
            open = Some((at, rule.to_vec()));
        } else if let Some((from, mut text)) = open.take() {
            text.extend([b" ", *rule].concat());
            match rule.last() {
                Some(b')') => merged.push(text),
                _ => open = Some((from, text)),
            }
        } else {
            merged.push(rule.to_vec());
        }
    }
    match open {
        Some((at, _)) => Err(at),
        None => Ok(merged),
    }
}

/// What ACL SETUSER says of such a parenthesis.
pub(super) fn unmatched(rule: &[u8]) -> CmdError {
    CmdError::quoting(&[
        b"ERR Unmatched parenthesis in acl selector starting at '",
        rule,
        b"'.",
    ])
}
