//! What a control thread asks of the system, and what is missing of it.
//!
//! Nothing here is needed to run: what the system does not grant is [`Missing`], to be said once,
//! with its remedy, and the loop runs on as punctual as it can be.

use std::{fmt, num::NonZeroU64};

use rustix::{
    io::Errno,
    mm::{MlockAllFlags, mlockall},
    process::{Resource, getrlimit},
    thread::{
        CapabilitySet, CpuSet, capabilities, sched_getaffinity, sched_setaffinity,
        set_current_timer_slack,
    },
};

use crate::cores;

/// So much of its stack a thread with locked memory can use without a page fault.
pub const TOUCHED_STACK_BYTES: usize = 256 * 1024;

/// What a thread with deadlines wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// To run on this core and no other.
    pub core: Option<usize>,
    /// `SCHED_FIFO` with this priority, 1 to 99: to run as soon as it wakes.
    pub priority: Option<u8>,
    /// The whole process's memory, also what it gets later, stays in RAM.
    pub lock_memory: bool,
}

/// What the system did not grant. Shown, it says what, why, and how to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// This process may not use the core, or there is none of that number.
    Core {
        /// The core that was wanted.
        core: usize,
        /// The cores that there are for it, as `0-2,5`.
        usable: String,
    },
    /// There is no other core for the other threads.
    OtherCores {
        /// The core that they were to stay off.
        core: usize,
    },
    /// `SCHED_FIFO` is beyond this user's limit.
    Priority {
        /// The priority that was wanted.
        priority: u8,
        /// `RLIMIT_RTPRIO`.
        limit: u64,
    },
    /// `SCHED_FIFO` is within the limits, and the kernel refuses it all the same.
    PriorityRefused {
        /// The priority that was wanted.
        priority: u8,
        /// The kernel's word.
        error: Errno,
    },
    /// With a limit on locked memory, what the process needs later would be refused instead of
    /// granted unlocked: an allocation anywhere in it would fail. So nothing was locked.
    MemoryLimit {
        /// `RLIMIT_MEMLOCK`, bytes.
        limit_bytes: u64,
    },
    /// The memory may be locked, and the kernel refuses it all the same.
    MemoryRefused {
        /// The kernel's word.
        error: Errno,
    },
    /// The cores of a thread could not be read or set, for no reason known here.
    Affinity {
        /// The kernel's word.
        error: Errno,
    },
    /// Idle cores may sleep as deeply as they like.
    Awake {
        /// The kernel's word.
        error: Errno,
    },
}

impl Missing {
    /// What is missing, and why.
    pub fn what(&self) -> String {
        match self {
            Self::Core { core, usable } => {
                format!("core {core} is not among those that this process may use ({usable})")
            }
            Self::OtherCores { core } => {
                format!("core {core} is the only one: other threads run on it too")
            }
            Self::Priority { priority, limit } => format!(
                "real-time priority (SCHED_FIFO {priority}) is not allowed; the limit is {limit}"
            ),
            Self::PriorityRefused { priority, error } => {
                format!("real-time priority (SCHED_FIFO {priority}) was refused: {error}")
            }
            Self::MemoryLimit { limit_bytes } => format!(
                "memory was not locked: with a limit of {} KiB later allocations would fail",
                limit_bytes / 1024
            ),
            Self::MemoryRefused { error } => format!("memory could not be locked: {error}"),
            Self::Affinity { error } => format!("the cores of a thread cannot be set: {error}"),
            Self::Awake { error } => format!(
                "idle cores may sleep deeply, and take long to wake: /dev/cpu_dma_latency: {error}"
            ),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Core { usable, .. } => format!("name one of {usable}"),
            Self::OtherCores { .. } => {
                "use a machine with more cores, or start without taskset or cpuset".into()
            }
            Self::Priority { priority, .. } => granted("rtprio", &priority.to_string(), "RTPRIO"),
            Self::PriorityRefused {
                error: Errno::INVAL,
                ..
            } => "choose a priority from 1 to 99".into(),
            Self::PriorityRefused { .. } => {
                "give its control group real-time time (cpu.rt_runtime_us), or start it outside \
                 of the container"
                    .into()
            }
            Self::MemoryLimit { .. } => granted("memlock", "unlimited", "MEMLOCK"),
            Self::MemoryRefused { .. } => "free memory, or give its control group more".into(),
            Self::Affinity { .. } => "allow sched_setaffinity in its sandbox".into(),
            Self::Awake { .. } => {
                "echo 'KERNEL==\"cpu_dma_latency\", GROUP=\"dialout\", MODE=\"0660\"' | sudo tee \
                 /etc/udev/rules.d/99-hilt-awake.rules, then sudo udevadm trigger \
                 --sysname-match=cpu_dma_latency"
                    .into()
            }
        }
    }
}

/// How a user is granted a limit: with a file for what they log in to, or in a service's unit.
fn granted(item: &str, value: &str, unit: &str) -> String {
    let service = if value == "unlimited" {
        "infinity"
    } else {
        value
    };
    format!(
        "echo \"$USER - {item} {value}\" | sudo tee /etc/security/limits.d/hilt-{item}.conf, then \
         log in again; in a service: Limit{unit}={service}"
    )
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; remedy: {}", self.what(), self.remedy())
    }
}

impl std::error::Error for Missing {}

impl Wanted {
    /// Asks for all of it, for the calling thread (the memory: for the process), and returns what
    /// was not granted. To be called on the thread itself, before its first deadline. Where memory
    /// is to be locked, it needs a stack larger than [`TOUCHED_STACK_BYTES`].
    pub fn apply(&self) -> Vec<Missing> {
        // Without real-time priority a wake-up may be put off by 50 µs, to go with others. To have
        // that off takes no privilege; a kernel that does not know it has no such delay.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
        let mut missing = Vec::new();
        let mut note = |result: Result<(), Missing>| missing.extend(result.err());
        if let Some(core) = self.core {
            note(pin(core));
        }
        // Before the priority: it takes long, and others should not have to wait for it.
        if self.lock_memory {
            note(lock_memory());
            touch_stack();
        }
        if let Some(priority) = self.priority {
            note(set_fifo(priority));
        }
        missing
    }
}

/// Keeps the calling thread off `core`, and with it every thread that it starts from here on: they
/// inherit it. Called first in `main`, it leaves `core` to the thread that [`Wanted`] puts there.
pub fn keep_off(core: usize) -> Result<(), Missing> {
    let affinity = |error| Missing::Affinity { error };
    let mut cores = sched_getaffinity(None).map_err(affinity)?;
    if core >= CpuSet::MAX_CPU || !cores.is_set(core) {
        return Ok(());
    }
    cores.unset(core);
    if cores.count() == 0 {
        return Err(Missing::OtherCores { core });
    }
    sched_setaffinity(None, &cores).map_err(affinity)
}

fn pin(core: usize) -> Result<(), Missing> {
    let refused = || Missing::Core {
        core,
        usable: cores::ranges(cores::usable()),
    };
    if core >= CpuSet::MAX_CPU {
        return Err(refused());
    }
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).map_err(|error| match error {
        Errno::INVAL => refused(),
        error => Missing::Affinity { error },
    })
}

fn set_fifo(priority: u8) -> Result<(), Missing> {
    let param = libc::sched_param {
        sched_priority: i32::from(priority),
    };
    // What this thread starts does not inherit its priority.
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 is the calling thread, and `param` lives through the call, which only reads it.
    if unsafe { libc::sched_setscheduler(0, policy, &param) } == 0 {
        return Ok(());
    }
    let error = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::PERM);
    let limit = getrlimit(Resource::Rtprio).current;
    match limit {
        Some(limit)
            if error == Errno::PERM
                && limit < u64::from(priority)
                && !is_capable(CapabilitySet::SYS_NICE) =>
        {
            Err(Missing::Priority { priority, limit })
        }
        _ => Err(Missing::PriorityRefused { priority, error }),
    }
}

fn lock_memory() -> Result<(), Missing> {
    let limit_bytes = getrlimit(Resource::Memlock).current;
    can_lock_memory(limit_bytes, is_capable(CapabilitySet::IPC_LOCK))?;
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
        .map_err(|error| Missing::MemoryRefused { error })
}

/// Whether all memory that the process will ever map can be locked. A large limit is no better than
/// a small one: mappings count with their whole length, and reservations are longer than any RAM.
fn can_lock_memory(limit_bytes: Option<u64>, is_exempt: bool) -> Result<(), Missing> {
    match limit_bytes {
        Some(limit_bytes) if !is_exempt => Err(Missing::MemoryLimit { limit_bytes }),
        _ => Ok(()),
    }
}

fn is_capable(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// A locked stack is there only as far as it has grown, so it is made to grow here.
#[inline(never)]
fn touch_stack() {
    std::hint::black_box(&mut [0_u8; TOUCHED_STACK_BYTES]);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustix::thread::{CapabilitySets, set_capabilities};

    use super::*;

    /// On a thread of its own: what it does to itself ends with it.
    fn apart<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
        thread::spawn(test).join().unwrap()
    }

    /// Whether the calling thread is under `SCHED_FIFO`, and with which priority.
    fn fifo_priority() -> Option<i32> {
        let mut param = libc::sched_param { sched_priority: 0 };
        // SAFETY: 0 is the calling thread, and `param` is there to be written.
        let policy = unsafe {
            assert_eq!(libc::sched_getparam(0, &mut param), 0);
            libc::sched_getscheduler(0)
        };
        (policy & !libc::SCHED_RESET_ON_FORK == libc::SCHED_FIFO).then_some(param.sched_priority)
    }

    fn give_up_privileges() {
        let none = CapabilitySet::empty();
        let sets = CapabilitySets {
            effective: none,
            permitted: none,
            inheritable: none,
        };
        set_capabilities(None, sets).unwrap();
    }

    fn cores() -> Vec<usize> {
        let set = sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU)
            .filter(|&core| set.is_set(core))
            .collect()
    }

    #[test]
    fn the_priority_is_there_or_reported_missing() {
        apart(|| {
            let missing = Wanted {
                priority: Some(7),
                ..Wanted::default()
            }
            .apply();
            match missing.as_slice() {
                [] => assert_eq!(fifo_priority(), Some(7)),
                [Missing::Priority { priority: 7, .. } | Missing::PriorityRefused { .. }] => {
                    assert_eq!(fifo_priority(), None);
                }
                other => panic!("{other:?}"),
            }
            // A thread that it starts is a normal one in either case.
            assert_eq!(apart(fifo_priority), None);
        });
    }

    #[test]
    fn without_privilege_the_limits_are_named_and_nothing_is_locked_or_set() {
        apart(|| {
            give_up_privileges();
            let missing = Wanted {
                core: None,
                priority: Some(99),
                lock_memory: true,
            }
            .apply();
            let limit = getrlimit(Resource::Rtprio).current.unwrap();
            let priority = Missing::Priority {
                priority: 99,
                limit,
            };
            assert_eq!(missing.contains(&priority), limit < 99, "{missing:?}");
            assert_eq!(
                fifo_priority().is_none(),
                missing.iter().any(|m| matches!(
                    m,
                    Missing::Priority { .. } | Missing::PriorityRefused { .. }
                ))
            );
            if let Some(limit_bytes) = getrlimit(Resource::Memlock).current {
                assert!(missing.contains(&Missing::MemoryLimit { limit_bytes }));
            }
        });
    }

    #[test]
    fn a_priority_that_cannot_be_is_refused_with_the_range() {
        let missing = apart(|| {
            Wanted {
                priority: Some(100),
                ..Wanted::default()
            }
            .apply()
        });
        assert!(missing[0].to_string().contains("1 to 99"), "{missing:?}");
    }

    #[test]
    fn a_thread_is_pinned_to_its_core_also_where_its_parent_keeps_off() {
        apart(|| {
            let all = cores();
            let core = all[0];
            match keep_off(core) {
                Ok(()) => assert_eq!(cores(), all[1..]),
                Err(missing) => {
                    assert_eq!((missing, all.len()), (Missing::OtherCores { core }, 1));
                    assert_eq!(cores(), all);
                }
            }
            let kept = cores();
            assert_eq!(apart(cores), kept, "what it starts inherits it");
            let wanted = Wanted {
                core: Some(core),
                ..Wanted::default()
            };
            let pinned = apart(move || (wanted.apply(), cores()));
            assert_eq!(pinned, (vec![], vec![core]));
            assert_eq!(cores(), kept);
        });
    }

    #[test]
    fn a_core_is_never_taken_from_a_thread_that_has_no_other() {
        apart(|| {
            let core = cores()[0];
            pin(core).unwrap();
            assert_eq!(keep_off(core), Err(Missing::OtherCores { core }));
            assert_eq!(cores(), [core]);
        });
    }

    #[test]
    fn a_core_that_is_not_there_is_named_with_those_that_are() {
        apart(|| {
            let before = cores();
            for core in [CpuSet::MAX_CPU - 1, CpuSet::MAX_CPU, usize::MAX] {
                let refused = pin(core).unwrap_err();
                let Missing::Core {
                    core: named,
                    usable,
                } = &refused
                else {
                    panic!("{refused:?}");
                };
                assert_eq!(*named, core);
                assert!(refused.to_string().ends_with(&format!("one of {usable}")));
                assert!(usable.starts_with(|c: char| c.is_ascii_digit()), "{usable}");
                assert_eq!(cores(), before);
                keep_off(core).unwrap();
            }
        });
    }

    #[test]
    fn memory_is_locked_only_where_no_limit_can_be_met_later() {
        let limited = Missing::MemoryLimit {
            limit_bytes: 8 << 20,
        };
        assert_eq!(can_lock_memory(Some(8 << 20), false), Err(limited.clone()));
        assert_eq!(can_lock_memory(Some(8 << 20), true), Ok(()));
        assert_eq!(can_lock_memory(None, false), Ok(()));
        let words = limited.to_string();
        assert!(words.contains("8192 KiB"), "{words}");
        assert!(words.contains("memlock unlimited"), "{words}");
    }
}
