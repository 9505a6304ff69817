//! Which members a range names: by rank, score or bytes.

use crate::number::strtod;
use crate::resp::{Args, CmdError};
use crate::value::listpack::Item;
use crate::value::zset::Zset;

/// One end of a range of scores.
#[derive(Clone, Copy, Debug)]
pub struct ScoreBound {
    score: f64,
    exclusive: bool,
}

impl ScoreBound {
    fn parse(text: &[u8]) -> Result<ScoreBound, CmdError> {
        const NOT_A_FLOAT: CmdError = CmdError::Text("ERR min or max is not a float");
        let exclusive = text.first() == Some(&b'(');
        // Redis: zslParseRange leaves it to strtod, which is less strict than ZADD is.
        let (score, _) = strtod(&text[usize::from(exclusive)..]).ok_or(NOT_A_FLOAT)?;
        Ok(ScoreBound { score, exclusive })
    }

    fn admits_from_below(self, score: f64) -> bool {
        score > self.score || (!self.exclusive && score == self.score)
    }

    fn admits_from_above(self, score: f64) -> bool {
        score < self.score || (!self.exclusive && score == self.score)
    }
}

/// One end of a range of bytes: `-`, `+`, `[text`, `(text`.
#[derive(Clone, Debug)]
pub enum LexBound {
    Least,
    Greatest,
    Inclusive(Vec<u8>),
    Exclusive(Vec<u8>),
}

impl LexBound {
    fn parse(text: &[u8]) -> Result<LexBound, CmdError> {
        match text {
            b"-" => Ok(LexBound::Least),
            b"+" => Ok(LexBound::Greatest),
            [b'[', rest @ ..] => Ok(LexBound::Inclusive(rest.to_vec())),
            [b'(', rest @ ..] => Ok(LexBound::Exclusive(rest.to_vec())),
            _ => Err(CmdError::Text("ERR min or max not valid string range item")),
        }
    }

    fn admits_from_below(&self, name: Item) -> bool {
        match self {
            LexBound::Least => true,
            LexBound::Greatest => false,
            LexBound::Inclusive(text) => name.cmp_bytes(text).is_ge(),
            LexBound::Exclusive(text) => name.cmp_bytes(text).is_gt(),
        }
    }

    fn admits_from_above(&self, name: Item) -> bool {
        match self {
            LexBound::Least => false,
            LexBound::Greatest => true,
            LexBound::Inclusive(text) => name.cmp_bytes(text).is_le(),
            LexBound::Exclusive(text) => name.cmp_bytes(text).is_lt(),
        }
    }
}

/// By what a range is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Rank,
    Score,
    Lex,
}

/// A range of members.
#[derive(Clone, Debug)]
pub enum Range {
    /// First and last rank, negative ones counting from the end; from the other end if reversed.
    Rank(i64, i64),
    Score(ScoreBound, ScoreBound),
    Lex(LexBound, LexBound),
}

impl Range {
    /// The range between arguments `min` and `max`.
    pub fn parse(args: &Args, by: By, min: usize, max: usize) -> Result<Range, CmdError> {
        Ok(match by {
            By::Rank => Range::Rank(args.int(min)?, args.int(max)?),
            By::Score => Range::Score(
                ScoreBound::parse(args.get(min))?,
                ScoreBound::parse(args.get(max))?,
            ),
            By::Lex => Range::Lex(
                LexBound::parse(args.get(min))?,
                LexBound::parse(args.get(max))?,
            ),
        })
    }

    /// The ranks it covers, from inclusive to exclusive, in ascending order.
    pub fn ranks(&self, set: &Zset, reverse: bool) -> (usize, usize) {
        let (start, end) = match self {
            Range::Rank(first, last) => {
                let len = set.len() as i64;
                let from_end = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
                let first = from_end(*first).max(0);
                let last = from_end(*last).min(len - 1);
                if first > last {
                    return (0, 0);
                }
                if reverse {
                    ((len - 1 - last) as usize, (len - first) as usize)
                } else {
                    (first as usize, last as usize + 1)
                }
            }
            Range::Score(min, max) => (
                set.partition_point(|_, score| !min.admits_from_below(score)),
                set.partition_point(|_, score| max.admits_from_above(score)),
            ),
            Range::Lex(min, max) => (
                set.partition_point(|name, _| !min.admits_from_below(name)),
                set.partition_point(|name, _| max.admits_from_above(name)),
            ),
        };
        (start, end.max(start))
    }
}

/// OFFSET and COUNT of LIMIT.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub offset: i64,
    /// Negative: all.
    pub count: i64,
}

impl Limit {
    /// Narrows ranks that are walked from the start, or from the end.
    pub fn narrow(self, (start, end): (usize, usize), reverse: bool) -> (usize, usize) {
        let len = end - start;
        // Redis: a negative offset runs past every element.
        let skip = usize::try_from(self.offset).unwrap_or(len).min(len);
        let take = usize::try_from(self.count).unwrap_or(len).min(len - skip);
        if reverse {
            (end - skip - take, end - skip)
        } else {
            (start + skip, start + skip + take)
        }
    }
}
