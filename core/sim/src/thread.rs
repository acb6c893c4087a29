//! The thread that owns the physics, the one that draws its pictures, and handles to them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hilt_kinematics::Chain;
use hilt_protocol::{Image, JointVector};

use crate::{
    ArmState, SceneConfig, Servos, SimError, Simulation, Start, Truth,
    painter::{Moment, Painter},
};

/// Requests that may wait; the next one blocks its sender until the thread has caught up.
const QUEUE: usize = 16;
/// In real time physics follows the clock in steps of about this length.
const CHUNK: Duration = Duration::from_millis(2);
/// Further behind than this, real time starts anew from the present instead of racing after it.
const LARGEST_LAG: Duration = Duration::from_millis(200);

type Reply<T> = SyncSender<T>;

/// What a camera is to see, and when that was: on the simulation's clock, and by the machine's.
struct Seen {
    moment: Moment,
    time_ns: u64,
    at: Instant,
}

/// A picture that is wanted, of camera number …
struct Drawing(usize, Seen, Reply<Result<Image, SimError>>);

enum Request {
    Reset(Start, Reply<Result<(), SimError>>),
    PutCube(Start, Reply<Result<(), SimError>>),
    Home(Start, Reply<Result<JointVector, SimError>>),
    Command(Vec<f64>, bool, Reply<Result<(), SimError>>),
    Advance(u64, Reply<u64>),
    State(Reply<ArmState>),
    Look(usize, Reply<Result<Seen, SimError>>),
    Truth(Reply<Truth>),
    Realtime(bool, Reply<()>),
}

/// Starts the threads of a simulation.
pub struct SimThread;

impl SimThread {
    /// Builds the scene on threads of its own and waits until it stands. The clock stands still
    /// until [`SimHandle::advance_ns`] or [`SimHandle::run_realtime`].
    ///
    /// # Errors
    /// As [`Simulation::new`].
    pub fn spawn(config: SceneConfig) -> Result<SimHandle, SimError> {
        Self::start(config, None)
    }

    /// As [`Self::spawn`], with the joints driven by `servos`.
    ///
    /// # Errors
    /// As [`Simulation::new`] and [`Simulation::couple`].
    pub fn spawn_with(config: SceneConfig, servos: Box<dyn Servos>) -> Result<SimHandle, SimError> {
        Self::start(config, Some(servos))
    }

    fn start(config: SceneConfig, servos: Option<Box<dyn Servos>>) -> Result<SimHandle, SimError> {
        let pictures = config.clone();
        let (drawings, wanted) = sync_channel(QUEUE);
        let (painter, ()) = spawn("sim pictures", move || {
            let painter = Painter::new(&pictures)?;
            Ok(((), move || paint(painter, &pictures, &wanted)))
        })?;
        let (requests, inbox) = sync_channel(QUEUE);
        let (physics, chain) = spawn("sim", move || {
            let simulation = build(&config, servos)?;
            let chain = simulation.chain().clone();
            let server = Server {
                simulation,
                realtime: None,
            };
            Ok((chain, move || server.serve(&inbox)))
        })?;
        Ok(SimHandle(Arc::new(Shared {
            queues: Some((requests, drawings)),
            threads: Mutex::new(vec![physics, painter]),
            chain,
        })))
    }
}

/// Starts a thread that builds what it runs, and waits until that stands: gives what it says of it.
fn spawn<T: Send + 'static, R: FnOnce()>(
    name: &str,
    build: impl FnOnce() -> Result<(T, R), SimError> + Send + 'static,
) -> Result<(JoinHandle<()>, T), SimError> {
    let (ready, built) = sync_channel(1);
    let thread = std::thread::Builder::new().name(name.into());
    let thread = thread.spawn(move || match build() {
        Ok((words, run)) => {
            // The spawner waits for this; if it is gone, so are its requests.
            let _ = ready.send(Ok(words));
            run();
        }
        Err(error) => {
            let _ = ready.send(Err(error));
        }
    });
    let thread = thread.map_err(|_| SimError::Ended)?;
    let words = built.recv().map_err(|_| SimError::Ended)??;
    Ok((thread, words))
}

fn build(config: &SceneConfig, servos: Option<Box<dyn Servos>>) -> Result<Simulation, SimError> {
    let mut simulation = Simulation::unseen(config)?;
    if let Some(servos) = servos {
        simulation.couple(servos)?;
    }
    Ok(simulation)
}

/// Talks to a simulation's threads; each call waits for its reply. When the last clone is dropped
/// the threads end.
#[derive(Clone)]
pub struct SimHandle(Arc<Shared>);

struct Shared {
    /// To the physics and to the painter; `None` only while dropping.
    queues: Option<(SyncSender<Request>, SyncSender<Drawing>)>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    chain: Chain,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Without senders the threads' loops end; joined, so that their GL contexts are gone before
        // the process is.
        self.queues = None;
        let threads = self.threads.get_mut();
        for thread in threads.unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = thread.join();
        }
    }
}

impl SimHandle {
    /// The arm's kinematic chain.
    pub fn chain(&self) -> &Chain {
        &self.0.chain
    }

    /// See [`Simulation::reset`].
    ///
    /// # Errors
    /// [`SimError::Start`]; [`SimError::Ended`] when the thread is gone, as of all calls.
    pub fn reset(&self, start: Start) -> Result<(), SimError> {
        self.ask(|reply| Request::Reset(start, reply))?
    }

    /// See [`Simulation::put_cube`].
    ///
    /// # Errors
    /// [`SimError::Start`], [`SimError::Ended`].
    pub fn put_cube(&self, start: Start) -> Result<(), SimError> {
        self.ask(|reply| Request::PutCube(start, reply))?
    }

    /// See [`Simulation::home`].
    ///
    /// # Errors
    /// [`SimError::Start`], [`SimError::Ended`].
    pub fn home(&self, start: Start) -> Result<JointVector, SimError> {
        self.ask(|reply| Request::Home(start, reply))?
    }

    /// See [`Simulation::set_command`].
    ///
    /// # Errors
    /// [`SimError::Command`], [`SimError::Ended`].
    pub fn command(&self, joints: &[f64], gripper_closed: bool) -> Result<(), SimError> {
        let joints = joints.to_vec();
        self.ask(|reply| Request::Command(joints, gripper_closed, reply))?
    }

    /// Advances simulated time and gives the time it is then, nanoseconds.
    ///
    /// # Errors
    /// [`SimError::Ended`].
    pub fn advance_ns(&self, duration_ns: u64) -> Result<u64, SimError> {
        self.ask(|reply| Request::Advance(duration_ns, reply))
    }

    /// What the arm reports.
    ///
    /// # Errors
    /// [`SimError::Ended`].
    pub fn state(&self) -> Result<ArmState, SimError> {
        self.ask(Request::State)
    }

    /// A frame of camera `camera`, counted in their order, stamped with the simulation's time.
    ///
    /// # Errors
    /// What the renderer says, [`SimError::Ended`].
    pub fn render(&self, camera: usize) -> Result<Image, SimError> {
        self.render_live(camera).map(|(image, _)| image)
    }

    /// As [`Self::render`], and when that was: in real time the scene stood at that moment as it is drawn,
    /// or for a camera with a latency so much earlier. Drawing it takes longer.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_live(&self, camera: usize) -> Result<(Image, Instant), SimError> {
        let seen = self.ask(|reply| Request::Look(camera, reply))??;
        let at = seen.at;
        let (reply, picture) = sync_channel(1);
        let (_, painter) = self.0.queues.as_ref().ok_or(SimError::Ended)?;
        let sent = painter.send(Drawing(camera, seen, reply));
        sent.map_err(|_| SimError::Ended)?;
        Ok((picture.recv().map_err(|_| SimError::Ended)??, at))
    }

    /// What only a simulator knows.
    ///
    /// # Errors
    /// [`SimError::Ended`].
    pub fn truth(&self) -> Result<Truth, SimError> {
        self.ask(Request::Truth)
    }

    /// Lets simulated time follow the monotonic clock, or stand still between
    /// [`Self::advance_ns`].
    ///
    /// # Errors
    /// [`SimError::Ended`].
    pub fn run_realtime(&self, on: bool) -> Result<(), SimError> {
        self.ask(|reply| Request::Realtime(on, reply))
    }

    fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, SimError> {
        let (reply, answer) = sync_channel(1);
        let (physics, _) = self.0.queues.as_ref().ok_or(SimError::Ended)?;
        physics.send(request(reply)).map_err(|_| SimError::Ended)?;
        answer.recv().map_err(|_| SimError::Ended)
    }
}

/// Real time: at `since`, the simulation's clock stood at `sim_ns`.
struct Anchor {
    since: Instant,
    sim_ns: u64,
}

impl Anchor {
    fn now(simulation: &Simulation) -> Self {
        Self {
            since: Instant::now(),
            sim_ns: simulation.time_ns(),
        }
    }
}

/// What the thread runs.
struct Server {
    simulation: Simulation,
    realtime: Option<Anchor>,
}

impl Server {
    fn serve(mut self, inbox: &Receiver<Request>) {
        loop {
            let request = if self.realtime.is_some() {
                inbox.recv_timeout(CHUNK)
            } else {
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            self.follow_clock();
            match request {
                Ok(request) => self.answer(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// In real time, brings simulated time up to the clock.
    fn follow_clock(&mut self) {
        let Some(anchor) = &self.realtime else { return };
        let elapsed_ns = u64::try_from(anchor.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // An explicit `advance_ns` may have run ahead of the clock: then it waits.
        let behind_ns = anchor
            .sim_ns
            .saturating_add(elapsed_ns)
            .saturating_sub(self.simulation.time_ns());
        if u128::from(behind_ns) > LARGEST_LAG.as_nanos() {
            tracing::warn!(
                behind_ns,
                "the simulation fell behind the clock; time was skipped"
            );
            self.realtime = Some(Anchor::now(&self.simulation));
        } else {
            self.simulation.advance_ns(behind_ns);
        }
    }

    /// A reply that nobody waits for any more is dropped.
    fn answer(&mut self, request: Request) {
        let simulation = &mut self.simulation;
        match request {
            Request::Reset(start, reply) => drop(reply.send(simulation.reset(&start))),
            Request::PutCube(start, reply) => drop(reply.send(simulation.put_cube(&start))),
            Request::Home(start, reply) => drop(reply.send(simulation.home(&start))),
            Request::Command(joints, closed, reply) => {
                drop(reply.send(simulation.set_command(&joints, closed)));
            }
            Request::Advance(duration_ns, reply) => {
                simulation.advance_ns(duration_ns);
                let _ = reply.send(simulation.time_ns());
            }
            Request::State(reply) => drop(reply.send(simulation.arm_state())),
            Request::Look(camera, reply) => {
                let seen = simulation.moment(camera).map(|moment| Seen {
                    moment,
                    time_ns: simulation.time_ns(),
                    // The clock was followed just now.
                    at: Instant::now(),
                });
                let _ = reply.send(seen);
            }
            Request::Truth(reply) => drop(reply.send(simulation.truth())),
            Request::Realtime(on, reply) => {
                self.realtime = on.then(|| Anchor::now(simulation));
                let _ = reply.send(());
            }
        }
    }
}

/// What the painter's thread runs.
fn paint(mut painter: Painter, config: &SceneConfig, wanted: &Receiver<Drawing>) {
    for Drawing(camera, seen, reply) in wanted {
        let size = config.cameras.get(camera);
        let (height, width) = size.map_or((0, 0), |camera| (camera.height, camera.width));
        let mut rgb = vec![0; height as usize * width as usize * 3];
        let drawn = painter.draw(camera, &seen.moment, &mut rgb);
        // A picture that nobody waits for any more is dropped.
        let _ = reply.send(drawn.map(|()| Image {
            captured_ns: seen.time_ns,
            height,
            width,
            rgb: rgb.into(),
        }));
    }
}
