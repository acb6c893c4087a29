//! Snapshots that are no good: each is refused by name, the policy in force stays, the actor goes
//! on. The graphs and the good weights are a real learner's; then the test takes its place.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, ops::Range, time::Duration};

use hilt_link::{
    ActorConfig, ActorLink, EntrySource, LearnerConfig, LearnerLink, SourceError, WindowLimits,
};
use hilt_protocol::{Entry, Graph, GraphName, ModelSnapshot, Progress, RunId, SpecHash};
use hilt_tests::{Program, Stage, one_at_a_time, until};

/// For whatever comes from a running program.
const LONG: Duration = Duration::from_secs(240);

struct NoLog;

impl EntrySource for NoLog {
    fn read_from(&mut self, _: Range<u64>, _: usize) -> Result<Vec<Entry>, SourceError> {
        Ok(Vec::new())
    }
}

/// What a learner gives to a robot that connects.
struct Given {
    graphs: Vec<Graph>,
    policy: ModelSnapshot,
    classifier: ModelSnapshot,
}

fn from_a_real_learner(stage: &Stage) -> Given {
    let learner = stage.start_learner(&[]);
    let config = ActorConfig {
        session: "default".to_owned(),
        connect: vec![stage.endpoint().to_owned()],
        run: RunId(1),
        window: WindowLimits::default(),
    };
    let link = ActorLink::open(config, Box::new(NoLog)).unwrap();
    let graphs = GraphName::ALL.map(|name| link.fetch_graph(name, LONG).unwrap());
    let given = Given {
        graphs: graphs.into(),
        policy: link.next_snapshot(GraphName::Policy, LONG).unwrap(),
        classifier: link.next_snapshot(GraphName::Classifier, LONG).unwrap(),
    };
    learner.kill();
    given
}

/// A change, and the words that refuse what comes out.
type Spoiled = (&'static str, fn(&mut ModelSnapshot));

const SPOILED: [Spoiled; 8] = [
    ("was made for spec", |s| s.spec = SpecHash([7; 32])),
    ("belongs to another policy graph", |s| s.graph_hash[0] ^= 1),
    ("has no tensor", |s| {
        s.weights.pop();
    }),
    ("has no tensor", |s| {
        s.weights[0].shape.push(1);
    }),
    // Cut: it holds less than it says.
    ("left out", |s| {
        s.weights[0].data.pop();
    }),
    ("not finite", |s| s.weights[1].data[0] = f32::NAN),
    ("failed its probe", |s| s.probe.output.data[0] += 0.5),
    ("failed its probe: off by NaN", |s| {
        s.probe.output.data[0] = f32::NAN;
        s.probe.tolerance = f32::NAN;
    }),
];

#[test]
fn each_is_refused_by_name_and_the_old_policy_stays() {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let given = from_a_real_learner(&stage);
    let config = LearnerConfig {
        session: "default".to_owned(),
        listen: vec![stage.endpoint().to_owned()],
        queue_bytes: LearnerConfig::QUEUE_BYTES,
        resume: BTreeMap::new(),
    };
    let link = LearnerLink::open(config).unwrap();
    given
        .graphs
        .iter()
        .for_each(|graph| link.serve_graph(graph));
    link.publish_progress(Progress {
        learner_run: 1,
        updates: 0,
        entries: 0,
        allowed_steps: u64::MAX,
        finished: false,
    });
    link.publish_snapshot(&given.classifier);
    link.publish_snapshot(&given.policy);
    let first = given.policy.version;

    let mut actor = stage.start_actor();
    let acts_by = |actor: &mut Program, version: u64| {
        until("acting", &mut [actor], || {
            // As a learner does, so that the actor can end soon.
            while let Some(entry) = link.recv(Duration::ZERO) {
                link.ack(entry.run, entry.sequence);
            }
            stage.policy_of_actor().0 == version
        });
    };
    acts_by(&mut actor, first);
    for (i, (words, spoil)) in SPOILED.into_iter().enumerate() {
        let mut snapshot = given.policy.clone();
        snapshot.version = first + 1 + i as u64;
        spoil(&mut snapshot);
        let said_before = actor.times_said(words);
        link.publish_snapshot(&snapshot);
        actor.says_again(words, said_before);
        let log = stage.log_bytes();
        until("the actor goes on", &mut [&mut actor], || {
            stage.log_bytes() > log + Stage::bytes_of_steps(25)
        });
        // 25 steps are two episodes at least.
        assert_eq!(stage.policy_of_actor().0, first, "{words}");
    }
    let mut classifier = given.classifier.clone();
    classifier.version += 1;
    classifier.weights[0].data[0] = f32::INFINITY;
    let said_before = actor.times_said("not finite");
    link.publish_snapshot(&classifier);
    actor.says_again("not finite", said_before);

    // The next good one is taken.
    let mut good = given.policy.clone();
    good.version = first + 100;
    link.publish_snapshot(&good);
    acts_by(&mut actor, first + 100);
    actor.interrupt();
    actor.ends_well();
}

/// A learner that starts anew where another one was has another encoder: its weights must not meet
/// the graphs that the actor has from the first. What the robot does reaches it all the same.
#[test]
fn weights_of_another_training_are_refused() {
    let _turn = one_at_a_time();
    let stage = Stage::new();
    let mut learner = stage.start_learner(&[]);
    let mut actor = stage.start_actor();
    until("updates", &mut [&mut learner, &mut actor], || {
        stage.policy_of_actor().1 > 0
    });
    learner.kill();
    let mut other = Program::start("the other learner", &mut stage.hybrid("other"));
    actor.says("belongs to another policy graph; restart the actor");
    let (log, version) = (stage.log_bytes(), stage.policy_of_actor().0);
    until("the actor goes on", &mut [&mut actor, &mut other], || {
        stage.log_bytes() > log + Stage::bytes_of_steps(50)
    });
    assert_eq!(stage.policy_of_actor().0, version);
    actor.interrupt();
    actor.ends_well();
    assert!(other.runs());
    other.interrupt();
    other.ends_well();
    let run = stage.path("actor");
    hilt_tests::assert_delivered(&stage.path("other"), &stage.path("demos"), &[&run]);
}
