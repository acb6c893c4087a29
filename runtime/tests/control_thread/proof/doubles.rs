//! What stands in for the world on the control thread itself. None of it allocates, locks or calls the
//! system, but for the misdeeds.

use std::{
    ffi::CString,
    fs::File,
    hint,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use hilt_drivers::{
    Arm, ArmError, ArmState,
    bus::{Wire, WireError, sts3215::Register},
    emulated::EmulatedBus,
};
use hilt_kinematics::Chain;
use hilt_protocol::{GripperCommand, JointVector, MAX_ARMS};
use hilt_realtime::{
    Clock, Monotonic,
    wills::{self, Writer},
};
use hilt_runtime::control::Wills;
use ringbuf::{HeapCons, traits::Consumer};

/// What somebody does to a bus.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Pushes a joint there, counts.
    Put { servo: u8, counts: f64 },
    /// Sets a register.
    Poke {
        servo: u8,
        register: Register,
        value: i32,
    },
}

impl Act {
    pub fn on(self, bus: &mut EmulatedBus) {
        match self {
            Self::Put { servo, counts } => bus.put(servo, counts),
            Self::Poke {
                servo,
                register,
                value,
            } => bus.poke(servo, register, value),
        }
    }
}

/// A line with an emulated bus at its other end that nobody else has: no lock. It waits as a real
/// one does, on the monotonic clock.
pub struct OwnWire {
    pub bus: EmulatedBus,
    pub acts: HeapCons<Act>,
}

/// What is nearer than this is waited for awake.
const NEAR_NS: u64 = 20_000;

impl Wire for OwnWire {
    fn now_ns(&self) -> u64 {
        Monotonic.now_ns()
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let now_ns = self.now_ns();
        self.bus.advance(now_ns);
        while let Some(act) = self.acts.try_pop() {
            act.on(&mut self.bus);
        }
        self.bus.hear(now_ns, bytes);
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8], until_ns: u64) -> Result<usize, WireError> {
        loop {
            let now_ns = self.now_ns();
            let count = self.bus.say(now_ns, buffer);
            if count > 0 || now_ns >= until_ns || buffer.is_empty() {
                return Ok(count);
            }
            let wake_ns = match self.bus.under_way_ns() {
                Some((_, last_ns)) => last_ns.min(until_ns),
                None => until_ns,
            };
            match wake_ns - now_ns {
                ..NEAR_NS => hint::spin_loop(),
                _ => Monotonic.sleep_until_ns(wake_ns),
            }
        }
    }

    fn drain(&mut self) -> Result<(), WireError> {
        let now_ns = self.now_ns();
        while self.bus.say(now_ns, &mut [0; 64]) > 0 {}
        Ok(())
    }
}

/// The monotonic clock, which somebody can put ahead or back.
#[derive(Clone, Debug, Default)]
pub struct Jumping(Arc<AtomicI64>);

impl Jumping {
    /// Ahead of the monotonic clock by so much from now on, nanoseconds.
    pub fn set(&self, ahead_ns: i64) {
        self.0.store(ahead_ns, Ordering::SeqCst);
    }

    fn ahead_ns(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Clock for Jumping {
    fn now_ns(&self) -> u64 {
        Monotonic.now_ns().saturating_add_signed(self.ahead_ns())
    }

    fn sleep_until_ns(&self, deadline_ns: u64) {
        Monotonic.sleep_until_ns(deadline_ns.saturating_add_signed(-self.ahead_ns()));
    }
}

/// An arm that is stopped once when it is told to, behind the loop's back: a mistake in hilt.
pub struct Stoppable {
    pub arm: Box<dyn Arm + Send>,
    pub hooks: Arc<Hooks>,
}

impl Arm for Stoppable {
    fn chain(&self) -> &Chain {
        self.arm.chain()
    }

    fn read_state(&mut self, now_ns: u64, until_ns: u64) -> Result<ArmState, ArmError> {
        self.arm.read_state(now_ns, until_ns)
    }

    fn write(&mut self, joints: &JointVector, gripper: GripperCommand) -> Result<(), ArmError> {
        if self.hooks.stops_an_arm.swap(false, Ordering::Relaxed) {
            self.arm.stop()?;
        }
        self.arm.write(joints, gripper)
    }

    fn start(&mut self) -> Result<(), ArmError> {
        self.arm.start()
    }

    fn stop(&mut self) -> Result<(), ArmError> {
        self.arm.stop()
    }

    fn sent(&self) -> &[u8] {
        self.arm.sent()
    }

    fn will(&self) -> &[u8] {
        self.arm.will()
    }
}

/// What the control thread must not do; done once, to show that it does not go unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// Allocates and frees in Rust.
    Boxes,
    /// Allocates and frees in C.
    CopiesAString,
    /// Allocates more than the allocator has at hand.
    MapsMemory,
    /// Waits for a lock that somebody has.
    WaitsForALock,
    /// Opens a file.
    OpensAFile,
    /// Writes to what is no bus.
    WritesElsewhere,
}

impl Misdeed {
    /// Those that the counters see, which are allowed no fence: it would see them first.
    pub const COUNTED: [Self; 2] = [Self::Boxes, Self::CopiesAString];
    /// Those that the fence sees.
    pub const FENCED: [Self; 4] = [
        Self::MapsMemory,
        Self::WaitsForALock,
        Self::OpensAFile,
        Self::WritesElsewhere,
    ];
}

/// At which beat a misdeed is done.
const MISDEED_AT: u64 = 50;

/// What the script does to the loop past its cells.
#[derive(Default)]
pub struct Hooks {
    pub overtaken: AtomicBool,
    /// The next beat takes so long, nanoseconds.
    pub stall_ns: AtomicU64,
    pub stops_an_arm: AtomicBool,
    /// Held by the script, for [`Misdeed::WaitsForALock`].
    pub lock: Mutex<()>,
}

/// Leaves the wills as for a supervisor, and stalls or does evil when it is told to.
pub struct Supervisor {
    hooks: Arc<Hooks>,
    wills: Writer<Arc<[AtomicU64]>>,
    beats: u64,
    misdeed: Option<Misdeed>,
    words: CString,
}

impl Supervisor {
    pub fn new(hooks: Arc<Hooks>, misdeed: Option<Misdeed>) -> Self {
        let memory = (0..wills::words(MAX_ARMS)).map(|_| AtomicU64::new(0));
        Self {
            hooks,
            wills: Writer::new(memory.collect()),
            beats: 0,
            misdeed,
            words: CString::from(c"copied"),
        }
    }
}

impl Wills for Supervisor {
    fn beat(&mut self, armed: bool, wills: &[&[u8]]) {
        let left = self.wills.beat(armed, wills.iter().copied());
        left.expect("there is room for the wills of as many arms as there can be");
        self.beats += 1;
        let until_ns = Monotonic.now_ns() + self.hooks.stall_ns.swap(0, Ordering::Relaxed);
        while Monotonic.now_ns() < until_ns {
            hint::spin_loop();
        }
        if self.beats == MISDEED_AT
            && let Some(misdeed) = self.misdeed
        {
            self.commit(misdeed);
        }
    }

    fn overtaken(&self) -> bool {
        self.hooks.overtaken.load(Ordering::Relaxed)
    }
}

impl Supervisor {
    fn commit(&self, misdeed: Misdeed) {
        match misdeed {
            Misdeed::Boxes => drop(hint::black_box(Box::new(self.beats))),
            Misdeed::CopiesAString => {
                // SAFETY: `words` ends with a zero.
                let copy = unsafe { libc::strdup(self.words.as_ptr()) };
                // The compiler knows both functions, and would leave out what has no effect.
                // SAFETY: it is freed once.
                unsafe { libc::free(hint::black_box(copy).cast()) }
            }
            Misdeed::MapsMemory => drop(hint::black_box(vec![1_u8; 256 << 20])),
            Misdeed::WaitsForALock => {
                drop(
                    self.hooks
                        .lock
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner),
                );
            }
            Misdeed::OpensAFile => drop(File::open("/dev/null")),
            // Standard error is open, and no bus.
            Misdeed::WritesElsewhere => eprintln!("the control thread writes"),
        }
    }
}
