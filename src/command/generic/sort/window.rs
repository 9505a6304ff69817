//! Sorting only what is shown. Elements that compare equal come out in the order in which Redis
//! leaves them (pqsort.c: the quicksort of Bentley and McIlroy, "Engineering a Sort Function",
//! 1993), which is no order that could be told otherwise.

use std::cmp::Ordering;
use std::ops::Range;

/// Fewer are sorted by insertion.
const FEW: usize = 7;
/// More choose their pivot among nine.
const MANY: usize = 40;

/// Brings into `window` what would be there if all were sorted; what is outside stays in any order.
pub fn sort_window<T>(all: &mut [T], window: Range<usize>, order: impl Fn(&T, &T) -> Ordering) {
    let mut parts = vec![(0, all.len())];
    while let Some((start, end)) = parts.pop() {
        let is_seen = start < window.end && window.start < end;
        if end - start < 2 || !is_seen {
            continue;
        }
        let (below, above) = partition(&mut all[start..end], &order);
        parts.push((end - above, end));
        parts.push((start, start + below));
    }
}

/// Parts what is less than an element, at the front, from what is greater, at the end; returns how
/// many they are. None, if all is sorted by now.
fn partition<T>(all: &mut [T], order: &impl Fn(&T, &T) -> Ordering) -> (usize, usize) {
    let len = all.len();
    if len < FEW {
        for next in 1..len {
            let mut at = next;
            while at > 0 && order(&all[at - 1], &all[at]).is_gt() {
                all.swap(at, at - 1);
                at -= 1;
            }
        }
        return (0, 0);
    }
    all.swap(0, pivot(all, order));
    // equal | less | not seen yet | greater | equal
    let (mut equal_below, mut from) = (1, 1);
    let (mut equal_above, mut to) = (len - 1, len - 1);
    loop {
        while from <= to {
            match order(&all[from], &all[0]) {
                Ordering::Greater => break,
                Ordering::Less => {}
                Ordering::Equal => {
                    all.swap(equal_below, from);
                    equal_below += 1;
                }
            }
            from += 1;
        }
        while from <= to {
            match order(&all[to], &all[0]) {
                Ordering::Less => break,
                Ordering::Greater => {}
                Ordering::Equal => {
                    all.swap(to, equal_above);
                    equal_above -= 1;
                }
            }
            to -= 1;
        }
        if from > to {
            break;
        }
        all.swap(from, to);
        from += 1;
        to -= 1;
    }
    // What is equal goes between the two.
    let (below, above) = (from - equal_below, equal_above - to);
    let moved = equal_below.min(below);
    (0..moved).for_each(|at| all.swap(at, from - moved + at));
    let moved = above.min(len - 1 - equal_above);
    (0..moved).for_each(|at| all.swap(from + at, len - moved + at));
    (below, above)
}

fn pivot<T>(all: &[T], order: &impl Fn(&T, &T) -> Ordering) -> usize {
    let len = all.len();
    let (mut low, mut middle, mut high) = (0, len / 2, len - 1);
    if len == FEW {
        return middle;
    }
    let median = |a: usize, b: usize, c: usize| {
        let order = |a: usize, b: usize| order(&all[a], &all[b]);
        match (order(a, b).is_lt(), order(b, c)) {
            (true, Ordering::Less) | (false, Ordering::Greater) => b,
            (true, _) if order(a, c).is_lt() => c,
            (true, _) => a,
            (false, _) if order(a, c).is_lt() => a,
            (false, _) => c,
        }
    };
    if len > MANY {
        let step = len / 8;
        low = median(low, low + step, low + 2 * step);
        middle = median(middle - step, middle, middle + step);
        high = median(high - 2 * step, high - step, high);
    }
    median(low, middle, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_what_sorting_all_would_show() {
        let mut rng = fastrand::Rng::with_seed(5);
        for round in 0..3000 {
            let len = rng.usize(..[6, 9, 60, 400][round % 4]);
            let values = [2, 10, 1000][round % 3];
            let all: Vec<u32> = (0..len).map(|_| rng.u32(..values)).collect();
            let start = rng.usize(..=len);
            let window = start..rng.usize(start..=len);
            let mut sorted = all.clone();
            sorted.sort_unstable();
            let mut shown = all.clone();
            sort_window(&mut shown, window.clone(), u32::cmp);
            assert_eq!(shown[window.clone()], sorted[window]);
            shown.sort_unstable();
            assert_eq!(shown, sorted, "nothing is lost");
        }
    }
}
