//! Which CPUs this process may use, and which executor runs where.
#![allow(unsafe_code)] // sched_getaffinity fills a bit set.

use std::fs;

/// The CPUs of the affinity mask, ascending.
pub fn allowed() -> Vec<usize> {
    // SAFETY: an all-zero set is valid, and the call writes at most its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return vec![0];
        }
        set
    };
    // SAFETY: CPU_ISSET only reads the set, within its size.
    (0..libc::CPU_SETSIZE as usize)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect()
}

/// Whole CPUs that the cgroup's quota allows, if there is one.
pub fn quota() -> Option<usize> {
    let v2 = fs::read_to_string("/sys/fs/cgroup/cpu.max").ok();
    let v1 = || {
        let quota = fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").ok()?;
        let period = fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_period_us").ok()?;
        Some(format!("{} {}", quota.trim(), period.trim()))
    };
    parse_quota(&v2.or_else(v1)?)
}

/// `<quota> <period>` in microseconds, `max` or a negative quota for none.
fn parse_quota(text: &str) -> Option<usize> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.trim().parse().ok()?);
    Some((quota / period.max(1)).max(1) as usize)
}

/// Parses `0,2-4` into CPU numbers, in the order given.
pub fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        match part.split_once('-') {
            None => cpus.push(part.parse().ok()?),
            Some((first, last)) => {
                let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
                if first > last || last >= libc::CPU_SETSIZE as usize {
                    return None;
                }
                cpus.extend(first..=last);
            }
        }
    }
    Some(cpus)
}

/// Parses the lists of redis.conf, `0,2-6:2` with steps, into those CPUs that may be used; `None` if
/// there are none, or the text is no such list. Redis leaves the process where it is then.
/// Source: setcpuaffinity.c.
pub fn parse_redis_list(text: &str, allowed: &[usize]) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (range, step) = part.split_once(':').unwrap_or((part, "1"));
        let step: usize = step.parse().ok().filter(|&step| step > 0)?;
        let named = parse_list(range)?;
        cpus.extend(
            named
                .into_iter()
                .step_by(step)
                .filter(|cpu| allowed.contains(cpu)),
        );
    }
    (!cpus.is_empty()).then_some(cpus)
}

/// Where each of the shards runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// One CPU per shard.
    pub cpus: Vec<usize>,
    /// Several shards share a CPU.
    pub crowded: bool,
}

/// Places shards on CPUs: `shards` of them if asked for, else one for each usable CPU.
/// Fails with the CPU of `list` that the process may not use.
pub fn place(
    shards: Option<usize>,
    list: Option<&[usize]>,
    allowed: &[usize],
    quota: Option<usize>,
) -> Result<Placement, usize> {
    if let Some(&forbidden) = list.and_then(|list| list.iter().find(|cpu| !allowed.contains(cpu))) {
        return Err(forbidden);
    }
    let usable = list.unwrap_or(allowed);
    let default = usable.len().min(quota.unwrap_or(usize::MAX)).max(1);
    let shards = shards.unwrap_or(if list.is_some() {
        usable.len()
    } else {
        default
    });
    let cpus = (0..shards)
        .map(|shard| usable[shard % usable.len()])
        .collect();
    Ok(Placement {
        cpus,
        crowded: shards > usable.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_quotas_parse() {
        assert_eq!(parse_list("0,2-4"), Some(vec![0, 2, 3, 4]));
        assert_eq!(parse_list("4-2"), None);
        assert_eq!(parse_list("x"), None);
        assert_eq!(parse_redis_list("", &[0, 1]), None);
        assert_eq!(parse_redis_list("0-6:2,1", &[0, 1, 4]), Some(vec![0, 4, 1]));
        assert_eq!(parse_redis_list("0-6:0", &[0]), None);
        assert_eq!(parse_redis_list("7", &[0]), None);
        assert_eq!(parse_quota("150000 100000"), Some(1));
        assert_eq!(parse_quota("max 100000"), None);
        assert_eq!(parse_quota("-1 100000"), None);
        assert_eq!(parse_quota("50000 100000\n"), Some(1));
    }

    #[test]
    fn shards_are_placed_on_what_is_allowed() {
        let place = |shards, list: Option<&[usize]>, quota| place(shards, list, &[1, 3], quota);
        assert_eq!(place(None, None, None).unwrap().cpus, [1, 3]);
        assert_eq!(place(None, None, Some(1)).unwrap().cpus, [1]);
        let crowded = place(Some(4), None, None).unwrap();
        assert_eq!((crowded.cpus, crowded.crowded), (vec![1, 3, 1, 3], true));
        assert_eq!(place(None, Some(&[3]), None).unwrap().cpus, [3]);
        assert_eq!(place(None, Some(&[2]), None), Err(2));
    }
}
