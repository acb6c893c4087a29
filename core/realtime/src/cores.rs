//! The cores of a machine, and the one that is for control.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Cores in rising order, as the kernel writes sets of them: `0-2,5`.
pub fn ranges(cores: impl IntoIterator<Item = usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for core in cores {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == core => *last = core,
            _ => runs.push((core, core)),
        }
    }
    let words: Vec<String> = (runs.into_iter())
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    words.join(",")
}

/// The cores of a set that the kernel wrote; `None` where it is no such set.
pub fn parse(set: &str) -> Option<Vec<usize>> {
    // How some kernels write a set that was never made.
    if matches!(set, "" | "(null)") {
        return Some(Vec::new());
    }
    let mut cores = Vec::new();
    for run in set.split(',') {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= CpuSet::MAX_CPU {
            return None;
        }
        cores.extend(first..=last);
    }
    Some(cores)
}

/// All cores that this process could use, also those that the calling thread keeps off. The kernel
/// tells when it is asked for all of them.
pub fn usable() -> Vec<usize> {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|core| all.set(core));
    let usable = sched_getaffinity(None).and_then(|now| {
        let usable = sched_setaffinity(None, &all).and_then(|()| sched_getaffinity(None));
        sched_setaffinity(None, &now)?;
        usable
    });
    let is_usable = |&core: &usize| usable.as_ref().is_ok_and(|set| set.is_set(core));
    (0..CpuSet::MAX_CPU).filter(is_usable).collect()
}

/// The core for control where none was named: one that the kernel keeps others off, else the last;
/// `None` when there are fewer than three: policy, cameras and log would have to share a single one.
pub fn spare(usable: &[usize], isolated: &[usize]) -> Option<usize> {
    if usable.len() < 3 {
        return None;
    }
    let set_aside = isolated.iter().find(|core| usable.contains(core));
    set_aside.or(usable.last()).copied()
}

/// [`spare`] on this machine.
pub fn spare_here() -> Option<usize> {
    let isolated = std::fs::read_to_string("/sys/devices/system/cpu/isolated");
    let isolated = isolated.ok().and_then(|set| parse(set.trim()));
    spare(&usable(), &isolated.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_and_read_as_the_kernel_does() {
        for (set, cores) in [
            ("", &[][..]),
            ("0-2,5", &[0, 1, 2, 5]),
            ("3,1022-1023", &[3, 1022, 1023]),
        ] {
            assert_eq!(ranges(cores.iter().copied()), set);
            assert_eq!(parse(set).as_deref(), Some(cores));
        }
        assert_eq!(parse("(null)"), Some(vec![]));
        for bad in ["x", "1-", "2-1", "1,,2", "0-99999999999", "0-1024"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_spare_core_is_an_isolated_one_or_the_last_of_three_or_more() {
        assert_eq!(spare(&[0, 1, 2, 3], &[2, 3]), Some(2));
        assert_eq!(spare(&[0, 1, 3], &[2]), Some(3));
        assert_eq!(spare(&[0, 1], &[]), None);
        assert_eq!(spare(&[0], &[0]), None);
        assert_eq!(spare(&[], &[]), None);
    }

    #[test]
    fn asking_for_the_usable_cores_changes_none() {
        std::thread::spawn(|| {
            let mut one = CpuSet::new();
            one.set(usable()[0]);
            sched_setaffinity(None, &one).unwrap();
            assert!(usable().contains(&usable()[0]));
            assert!(sched_getaffinity(None).unwrap() == one);
        })
        .join()
        .unwrap();
    }
}
