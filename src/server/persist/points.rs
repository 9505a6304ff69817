//! Save points: after how many changes and seconds a snapshot is due (`save 3600 1 300 100`).

/// Time after a failed snapshot before the next is tried. Redis: CONFIG_BGSAVE_RETRY_DELAY.
const RETRY_MS: i64 = 5_000;
/// How often the number of changes is looked at while there are any.
const PERIOD_MS: i64 = 1_000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SavePoints {
    /// Seconds and changes.
    points: Vec<(i64, u64)>,
    /// Some key has changed since the last save.
    armed: bool,
    looked_ms: i64,
}

impl SavePoints {
    /// Takes the value of `save`: pairs of seconds and changes.
    pub fn configure(&mut self, text: &str) {
        let numbers: Vec<i64> = text
            .split(' ')
            .filter_map(|word| word.parse().ok())
            .collect();
        let pairs = numbers.chunks_exact(2);
        self.points = pairs.map(|pair| (pair[0], pair[1].max(0) as u64)).collect();
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// There are changes.
    pub fn arm(&mut self) {
        self.armed = true;
    }

    /// There are none any more.
    pub fn disarm(&mut self) {
        self.armed = false;
    }

    /// When to look, unix milliseconds; `None` while nothing can be due.
    pub fn next_look_ms(&self) -> Option<i64> {
        (self.armed && !self.points.is_empty()).then_some(self.looked_ms + PERIOD_MS)
    }

    /// The point that is due: its changes and seconds.
    pub fn due(
        &mut self,
        changes: u64,
        now_ms: i64,
        last_save_s: i64,
        last_try: (i64, bool),
    ) -> Option<(u64, i64)> {
        self.looked_ms = now_ms;
        let (last_try_ms, last_ok) = last_try;
        let may_try = last_ok || now_ms - last_try_ms > RETRY_MS;
        let elapsed_s = now_ms / 1000 - last_save_s;
        let is_due = |point: &&(i64, u64)| changes >= point.1 && elapsed_s > point.0 && may_try;
        let (seconds, changes) = self.points.iter().find(is_due)?;
        Some((*changes, *seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_due_after_its_time_and_changes() {
        let mut points = SavePoints::default();
        points.configure("900 1 60 10");
        assert_eq!(points.next_look_ms(), None, "nothing has changed");
        points.arm();
        assert_eq!(points.next_look_ms(), Some(1000));
        let mut due = |changes, now_s: i64, tried| points.due(changes, now_s * 1000, 1000, tried);
        assert_eq!(due(0, 5000, (0, true)), None);
        assert_eq!(due(9, 1100, (0, true)), None);
        assert_eq!(due(10, 1060, (0, true)), None);
        assert_eq!(due(10, 1061, (0, true)), Some((10, 60)));
        assert_eq!(due(1, 1901, (0, true)), Some((1, 900)));
        assert_eq!(
            due(1, 1901, (1_900_000, false)),
            None,
            "too soon after a failure"
        );
        assert_eq!(due(1, 1906, (1_900_000, false)), Some((1, 900)));
        points.configure("");
        assert!(points.is_empty() && points.next_look_ms().is_none());
    }
}
