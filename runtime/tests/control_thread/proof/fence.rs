//! The system calls that the control thread may make. The kernel ends the process at any other.

use std::{collections::BTreeMap, os::fd::RawFd};

use anyhow::{Context, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// A system call on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// To an absolute deadline on the monotonic clock.
    Sleep,
    /// Of the monotonic clock. A kernel that shares its clock with programs is not called for it.
    Time,
    /// For one descriptor.
    Poll,
    /// From a bus.
    Read,
    /// To a bus.
    Write,
    /// Not made by the program: how the kernel goes on with it after a signal.
    EndOfSignal,
}

impl Call {
    pub const ALL: [Self; 6] = [
        Self::Sleep,
        Self::Time,
        Self::Poll,
        Self::Read,
        Self::Write,
        Self::EndOfSignal,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sleep => "clock_nanosleep",
            Self::Time => "clock_gettime",
            Self::Poll => "ppoll",
            Self::Read => "read",
            Self::Write => "write",
            Self::EndOfSignal => "rt_sigreturn",
        }
    }

    fn number(self) -> i64 {
        match self {
            Self::Sleep => libc::SYS_clock_nanosleep,
            Self::Time => libc::SYS_clock_gettime,
            Self::Poll => libc::SYS_ppoll,
            Self::Read => libc::SYS_read,
            Self::Write => libc::SYS_write,
            Self::EndOfSignal => libc::SYS_rt_sigreturn,
        }
    }

    /// With which arguments, one line for each way; `None`: not at all.
    fn rules(self, buses: &[RawFd]) -> Result<Option<Vec<SeccompRule>>> {
        let monotonic = is(0, libc::CLOCK_MONOTONIC)?;
        let each = match self {
            Self::Sleep => vec![vec![monotonic, is(1, libc::TIMER_ABSTIME)?]],
            Self::Time => vec![vec![monotonic]],
            // What it polls lies in memory, where a filter does not look. It only waits.
            Self::Poll if !buses.is_empty() => vec![vec![is(1, 1)?]],
            Self::Read | Self::Write => {
                let bus = |fd: &RawFd| Ok(vec![is(0, *fd)?]);
                buses.iter().map(bus).collect::<Result<_>>()?
            }
            Self::EndOfSignal => return Ok(Some(Vec::new())),
            Self::Poll => Vec::new(),
        };
        let rules = each.into_iter().map(SeccompRule::new);
        let rules: Vec<_> = rules.collect::<Result<_, _>>()?;
        Ok((!rules.is_empty()).then_some(rules))
    }
}

fn is(argument: u8, value: i32) -> Result<SeccompCondition> {
    let length = SeccompCmpArgLen::Dword;
    Ok(SeccompCondition::new(
        argument,
        length,
        SeccompCmpOp::Eq,
        value as u64,
    )?)
}

/// The list, ready for the kernel.
pub struct Fence(BpfProgram);

impl Fence {
    /// With these buses; `without` one of the calls.
    pub fn new(buses: &[RawFd], without: Option<Call>) -> Result<Self> {
        let mut rules = BTreeMap::new();
        for call in Call::ALL.into_iter().filter(|call| Some(*call) != without) {
            if let Some(ways) = call.rules(buses)? {
                rules.insert(call.number(), ways);
            }
        }
        let filter = SeccompFilter::new(
            rules,
            SeccompAction::KillProcess,
            SeccompAction::Allow,
            std::env::consts::ARCH.try_into()?,
        )?;
        Ok(Self(filter.try_into()?))
    }

    /// From here on, for the calling thread and for good.
    pub fn close(&self) -> Result<()> {
        apply_filter(&self.0).context(
            "the kernel takes no seccomp filter, so that nothing can be said about system calls; \
             it needs CONFIG_SECCOMP_FILTER, and a container must not forbid it",
        )
    }
}
