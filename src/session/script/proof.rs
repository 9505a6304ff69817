//! Whether the text of a script proves that it keeps to the keys that it is called with.

use crate::command::keys::{Begin, Find, KeySpec};
use crate::command::{Job, Lookup, Run, Table};
use crate::resp::ArgBuf;
use crate::script::Word;

/// Words that stand for one that may be any number: as many as a command wants at least.
const MANY_MAX: usize = 4;

/// Whether all these calls touch keys, and nothing but keys, that the script is called with.
pub(super) fn keep_to_keys(table: &Table, calls: &[Vec<Word>]) -> bool {
    calls.iter().all(|words| keeps_to_keys(table, words))
}

fn keeps_to_keys(table: &Table, words: &[Word]) -> bool {
    let mut args = ArgBuf::default();
    for word in words {
        match word {
            Word::Literal(text) => args.push(text),
            _ if args.is_empty() => return false,
            _ => args.push(b"?"),
        }
    }
    let more = match words.last() {
        Some(Word::Keys | Word::Many) => MANY_MAX,
        _ => 0,
    };
    let found = (0..=more).find_map(|_| match table.lookup(&args.as_args()) {
        Lookup::Found(entry) => Some(entry.command),
        Lookup::Error(_) => {
            args.push(b"?");
            None
        }
    });
    let Some(command) = found else {
        return false;
    };
    match command.run {
        Run::Client(_) | Run::Job(Job::Time) => true,
        Run::Gather(gather) if gather.more.is_some() => false,
        Run::Key(_)
        | Run::Each(_)
        | Run::Sum(_)
        | Run::Every(_)
        | Run::Gather(_)
        | Run::First(_) => command.keys.iter().all(|spec| is_within(spec, words)),
        _ => false,
    }
}

/// Whether a specification finds nothing but keys that the script is called with.
fn is_within(spec: &KeySpec, words: &[Word]) -> bool {
    let Begin::Index(begin) = spec.begin else {
        return false;
    };
    if spec.begins.is_some() {
        return false;
    }
    let number = |at: usize| match words.get(at) {
        Some(Word::Literal(text)) => std::str::from_utf8(text).ok()?.parse::<usize>().ok(),
        _ => None,
    };
    let is_open = matches!(words.last(), Some(Word::Keys | Word::Many));
    let (first, end, step) = match spec.find {
        Find::Range { last, step, limit } if limit <= 1 => match usize::try_from(last) {
            Ok(last) => (begin, begin + last + 1, step),
            Err(_) if is_open && (last != -1 || step != 1) => return false,
            Err(_) => {
                let left_out = last.unsigned_abs() as usize - 1;
                (begin, words.len().saturating_sub(left_out), step)
            }
        },
        Find::Count { count, first, step } => match number(begin + count) {
            Some(count) => (begin + first, begin + first + count * step, step),
            None => return false,
        },
        Find::Range { .. } => return false,
    };
    let mut at = first;
    while at < end {
        match words.get(at) {
            Some(Word::Key) => {}
            Some(Word::Keys) => return step == 1,
            Some(_) => return false,
            // A request that is cut short finds no more keys, unless more words follow.
            None => return !is_open,
        }
        at += step;
    }
    true
}
