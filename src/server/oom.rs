//! `oom-score-adj`: how willing the kernel is to kill this process when memory runs out.
//!
//! The score the process began with is remembered when it is first changed, and put back when the
//! parameter is turned off.

use super::config::{Config, SetError};
use super::log;

const FILE: &str = "/proc/self/oom_score_adj";
/// What the kernel takes, either way.
const SCORE_MAX: i64 = 1000;
/// Position in `oom-score-adj-values`.
const MASTER: usize = 0;
const REPLICA: usize = 1;

/// What this process has done to its score; shard 0 alone does.
#[derive(Debug, Default)]
pub struct OomScore {
    /// The score before the first change.
    base: Option<i64>,
}

impl OomScore {
    /// Puts what `config` says into effect. The error names the parameter that is refused.
    pub fn apply(&mut self, config: &Config, is_replica: bool) -> Result<(), SetError> {
        let result = self.wanted(config, is_replica).and_then(|wanted| {
            let Some(score) = wanted else { return Ok(()) };
            std::fs::write(FILE, format!("{score}\n"))
        });
        if config.text("oom-score-adj") == "no" {
            self.base = None;
        }
        result.map_err(|error| {
            log::warning(&format!("Unable to write oom_score_adj: {error}"));
            SetError::Refused {
                name: "oom-score-adj".into(),
                reason: "Failed to apply new oom_score_adj configuration, check server logs."
                    .into(),
            }
        })
    }

    /// The score to be set, if any is.
    fn wanted(&mut self, config: &Config, is_replica: bool) -> std::io::Result<Option<i64>> {
        let way = config.text("oom-score-adj");
        if way == "no" {
            return Ok(self.base);
        }
        let base = match self.base {
            Some(base) => base,
            None => {
                let text = std::fs::read_to_string(FILE)?;
                *self.base.insert(text.trim().parse().unwrap_or(0))
            }
        };
        let class = if is_replica { REPLICA } else { MASTER };
        let values = config.text("oom-score-adj-values");
        Ok(Some(score(way, values, class, base)))
    }
}

fn score(way: &str, values: &str, class: usize, base: i64) -> i64 {
    let value = values.split(' ').nth(class).and_then(|n| n.parse().ok());
    let value: i64 = value.unwrap_or(0);
    let score = if way == "absolute" {
        value
    } else {
        value.saturating_add(base)
    };
    score.clamp(-SCORE_MAX, SCORE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_relative_unless_absolute_and_bounded() {
        for (way, class, base, wanted) in [
            ("relative", MASTER, 5, 15),
            ("yes", REPLICA, 5, 205),
            ("absolute", MASTER, 5, 10),
            ("absolute", REPLICA, 5, 200),
            ("yes", REPLICA, 900, 1000),
        ] {
            assert_eq!(score(way, "10 200 800", class, base), wanted, "{way}");
        }
        assert_eq!(score("yes", "-2000 0 0", MASTER, 0), -1000);
    }
}
