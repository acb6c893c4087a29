//! Steps per second from actor to learner over TCP on this machine: two 128×128 images each
//! (98,304 bytes), decoded, compared byte by byte and acknowledged at the learner's end. Prints one line of JSON.
//!
//! The peer's figure is LeRobot 0.4.4's for one transition as it sends them, as float32; sent as
//! uint8, which it does not, it reaches 1143/s.

use std::{
    net::TcpListener,
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use hilt_link::{
    ActorConfig, ActorLink, EntrySource, LearnerConfig, LearnerLink, SourceError, WindowLimits,
};
use hilt_protocol::{
    ActionSource, Entry, Image, Observation, Record, RunId, Step, noise::Uniforms,
};

const PEER_STEPS_PER_S: f64 = 494.0;
const MEASURED: Duration = Duration::from_secs(3);
/// How far the producer may be ahead of the acknowledgements, so that the stream is measured and
/// not the reading of a log.
const AHEAD: u64 = 200;
const RUN: RunId = RunId(1);

/// Distinct frames, more than the processor's caches hold (48 MiB).
const FRAMES: u64 = 1024;

/// Every step of the bench is made up: any of them can be read back, or compared with.
struct Endless(Vec<Arc<[u8]>>);

impl Endless {
    fn new() -> Self {
        let frame = |seed| {
            let mut stream = Uniforms::new(seed);
            let words = (0..128 * 128 * 3 / 8).flat_map(|_| stream.bits().to_le_bytes());
            words.collect::<Arc<[u8]>>()
        };
        Self((0..FRAMES).map(frame).collect())
    }

    fn entry(&self, sequence: u64) -> Entry {
        let image = |number: u64| Image {
            captured_ns: sequence,
            height: 128,
            width: 128,
            rgb: self.0[(number % FRAMES) as usize].clone(),
        };
        Entry {
            run: RUN,
            sequence,
            episode: 0,
            index: sequence as u32,
            record: Record::Step(Step {
                action: vec![0.1; 7],
                source: ActionSource::Policy,
                reward: 0.0,
                grasp_penalty: 0.0,
                terminated: false,
                truncated: false,
                label: None,
                policy_version: 1,
                noise_seed: sequence,
                next: Observation {
                    captured_ns: sequence,
                    proprio: vec![0.2; 19],
                    images: vec![image(2 * sequence), image(2 * sequence + 1)],
                },
            }),
        }
    }
}

impl EntrySource for &'static Endless {
    fn read_from(
        &mut self,
        wanted: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, SourceError> {
        let count = (max_bytes / 100_000).max(1);
        Ok(wanted.take(count).map(|s| self.entry(s)).collect())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let endpoint = vec![format!("tcp/{address}")];
    let learner = LearnerLink::open(LearnerConfig {
        session: "bench".to_owned(),
        listen: endpoint.clone(),
        queue_bytes: LearnerConfig::QUEUE_BYTES,
        resume: Default::default(),
    })?;
    let made: &'static Endless = Box::leak(Box::new(Endless::new()));
    let actor = ActorLink::open(
        ActorConfig {
            session: "bench".to_owned(),
            connect: endpoint,
            run: RUN,
            window: WindowLimits::default(),
        },
        Box::new(made),
    )?;
    let steps_per_s = std::thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(&learner, made));
        let mut sequence = 0;
        while !receiving.is_finished() {
            if sequence < actor.stats().acked + AHEAD {
                actor.notify(made.entry(sequence));
                sequence += 1;
            } else {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        receiving.join()
    });
    let Ok(Some(value)) = steps_per_s else {
        return Err("no entry arrived".into());
    };
    let ratio = value / PEER_STEPS_PER_S;
    println!(
        "{{\"name\":\"stream.steps_per_s\",\"value\":{value:.0},\"unit\":\"1/s\",\
         \"peer\":\"LeRobot 0.4.4 (cited)\",\"peer_value\":{PEER_STEPS_PER_S},\"ratio\":{ratio:.2}}}"
    );
    let (sent, got) = (actor.stats(), learner.stats());
    eprintln!("{sent:?}\n{got:?}");
    Ok(())
}

/// Steps per second between the first entry and the end of the measured time.
fn receive(learner: &LearnerLink, made: &Endless) -> Option<f64> {
    let first = learner.recv(Duration::from_secs(10))?;
    let start = Instant::now();
    let mut last = first.sequence;
    while start.elapsed() < MEASURED {
        let entry = learner.recv(Duration::from_secs(10))?;
        last += 1;
        assert!(entry == made.entry(last), "step {last} came back changed");
        if last.is_multiple_of(16) {
            learner.ack(entry.run, last);
        }
    }
    Some((last - first.sequence) as f64 / start.elapsed().as_secs_f64())
}
