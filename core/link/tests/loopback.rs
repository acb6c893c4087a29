//! Both ends over TCP on this machine.

mod common;

use std::{sync::atomic::Ordering, time::Duration};

use common::*;
use hilt_link::{ActorLink, HEADER_BYTES, Header, LearnerLink, LinkError};
use hilt_protocol::{Graph, GraphName, Progress, SpecHash, keys, wire};
use zenoh::Wait;

/// Receives up to `count` entries as a store would, acknowledging every tenth.
fn receive(learner: &LearnerLink, disk: &mut Vec<u64>, count: u64) {
    while (disk.len() as u64) < count {
        let received = learner.recv(LONG).expect("entries come");
        assert_eq!(received, entry(received.sequence));
        disk.push(received.sequence);
        if received.sequence % 10 == 9 {
            assert!(learner.ack(RUN, received.sequence));
        }
    }
}

fn assert_once_in_order(disk: &[u64], count: u64) {
    assert!(disk.iter().copied().eq(0..count), "{disk:?}");
}

#[test]
fn the_actor_starts_first_and_the_learner_is_dropped_in_the_middle() {
    let endpoint = endpoint();
    let log = Log::default();
    let actor = ActorLink::open(actor_config(&endpoint), Box::new(log.clone())).unwrap();
    assert!(!actor.learner().alive);
    // More than the link keeps in memory: the rest must come from the log.
    for sequence in 0..400 {
        actor.notify(log.append(sequence));
    }
    let mut disk = vec![];
    let learner = LearnerLink::open(learner_config(&endpoint, 0)).unwrap();
    receive(&learner, &mut disk, 105);
    until("the learner is seen", || actor.learner().alive);
    drop(learner);
    until("the learner is missed", || !actor.learner().alive);
    for sequence in 400..500 {
        actor.notify(log.append(sequence));
    }
    assert!(!actor.drain(Duration::from_millis(50)));

    // Entries 100 to 104 were written, but the acknowledgement was not sent: no harm.
    assert_eq!(disk.len(), 105);
    let learner = LearnerLink::open(learner_config(&endpoint, 105)).unwrap();
    receive(&learner, &mut disk, 500);
    assert!(learner.ack(RUN, 499));
    assert!(actor.drain(LONG));
    assert_once_in_order(&disk, 500);
    let stats = actor.stats();
    assert_eq!((stats.acked, stats.in_flight), (500, 0));
    assert!(stats.read_back > 0);
    assert_eq!(learner.recv(Duration::from_millis(50)), None);
}

#[test]
fn a_learner_with_an_empty_disk_gets_the_whole_run() {
    let endpoint = endpoint();
    let log = Log::default();
    let learner = LearnerLink::open(learner_config(&endpoint, 0)).unwrap();
    let actor = ActorLink::open(actor_config(&endpoint), Box::new(log.clone())).unwrap();
    for sequence in 0..100 {
        actor.notify(log.append(sequence));
    }
    let mut disk = vec![];
    receive(&learner, &mut disk, 100);
    assert!(actor.drain(LONG));
    drop(learner);

    let mut config = learner_config(&endpoint, 0);
    config.resume.clear();
    let learner = LearnerLink::open(config).unwrap();
    disk.clear();
    receive(&learner, &mut disk, 100);
    assert_once_in_order(&disk, 100);
}

#[test]
fn a_full_queue_loses_nothing() {
    let endpoint = endpoint();
    let log = Log::default();
    let mut config = learner_config(&endpoint, 0);
    config.queue_bytes = 2_000; // a few entries
    let learner = LearnerLink::open(config).unwrap();
    let actor = ActorLink::open(actor_config(&endpoint), Box::new(log.clone())).unwrap();
    for sequence in 0..60 {
        actor.notify(log.append(sequence));
    }
    until("the queue overflows", || learner.stats().refused > 0);
    let mut disk = vec![];
    receive(&learner, &mut disk, 60);
    assert_once_in_order(&disk, 60);
    assert!(actor.drain(LONG));
}

#[test]
fn a_log_that_cannot_be_read_is_named_and_tried_again() {
    let endpoint = endpoint();
    let log = Log::default();
    log.broken.store(true, Ordering::Relaxed);
    let actor = ActorLink::open(actor_config(&endpoint), Box::new(log.clone())).unwrap();
    log.append(0);
    // The link is told of the second entry only.
    actor.notify(log.append(1));
    let learner = LearnerLink::open(learner_config(&endpoint, 0)).unwrap();
    until("the log is named", || {
        let error = actor.stats().last_error.unwrap_or_default();
        error.contains("run log") && error.contains("holiday")
    });
    log.broken.store(false, Ordering::Relaxed);
    let mut disk = vec![];
    receive(&learner, &mut disk, 2);
    assert_once_in_order(&disk, 2);
}

#[test]
fn a_late_joiner_gets_the_newest_of_everything() {
    let endpoint = endpoint();
    let learner = LearnerLink::open(learner_config(&endpoint, 0)).unwrap();
    let progress = |updates| Progress {
        learner_run: 5,
        updates,
        entries: 7,
        allowed_steps: updates * 2,
        finished: false,
    };
    for version in 1..4 {
        learner.publish_snapshot(&snapshot(GraphName::Policy, version));
    }
    learner.publish_snapshot(&snapshot(GraphName::Classifier, 8));
    learner.publish_progress(progress(3));

    let actor = ActorLink::open(actor_config(&endpoint), Box::new(Log::default())).unwrap();
    let newest = |graph| actor.next_snapshot(graph, LONG).map(|s| s.version);
    assert_eq!(newest(GraphName::Policy), Some(3));
    assert_eq!(newest(GraphName::Classifier), Some(8));
    let known = actor.wait_progress(LONG, |_| true);
    assert_eq!(known, Some(progress(3)));

    // And what comes later, once each, the newest only.
    until("all three arrived", || {
        learner.publish_snapshot(&snapshot(GraphName::Policy, 4));
        learner.publish_snapshot(&snapshot(GraphName::Policy, 5));
        newest(GraphName::Policy) == Some(5)
    });
    learner.publish_progress(progress(9));
    let known = actor.wait_progress(LONG, |p| p.updates == 9);
    assert_eq!(known, Some(progress(9)));
    let none = actor.next_snapshot(GraphName::Encoder, Duration::from_millis(20));
    assert_eq!(none, None);
}

#[test]
fn a_new_learner_may_count_its_snapshots_from_the_beginning() {
    let endpoint = endpoint();
    let actor = ActorLink::open(actor_config(&endpoint), Box::new(Log::default())).unwrap();
    for version in [50, 1] {
        let learner = LearnerLink::open(learner_config(&endpoint, 0)).unwrap();
        learner.publish_snapshot(&snapshot(GraphName::Policy, version));
        let got = actor.next_snapshot(GraphName::Policy, LONG);
        assert_eq!(got, Some(snapshot(GraphName::Policy, version)));
    }
}

#[test]
fn graphs_are_fetched_and_waited_for() {
    let endpoint = endpoint();
    let actor = ActorLink::open(actor_config(&endpoint), Box::new(Log::default())).unwrap();
    let nobody = actor.fetch_graph(GraphName::Policy, Duration::from_millis(50));
    assert!(matches!(nobody, Err(LinkError::NoAnswer { .. })));

    let graph = Graph {
        name: GraphName::Encoder,
        spec: SpecHash([4; 32]),
        onnx: (0..3_000_000u32).map(|i| i as u8).collect(),
    };
    std::thread::scope(|scope| {
        let fetched = scope.spawn(|| actor.fetch_graph(GraphName::Encoder, LONG));
        let learner = LearnerLink::open(learner_config(&endpoint, 0)).unwrap();
        learner.serve_graph(&graph);
        let fetched = fetched.join().unwrap().unwrap();
        assert!(fetched == graph);
        let other = actor.fetch_graph(GraphName::Policy, Duration::from_millis(50));
        assert!(matches!(other, Err(LinkError::NoAnswer { .. })));
    });
}

#[test]
fn malformed_messages_are_counted_and_named() {
    let endpoint = endpoint();
    let learner = LearnerLink::open(learner_config(&endpoint, 0)).unwrap();
    let actor = ActorLink::open(actor_config(&endpoint), Box::new(Log::default())).unwrap();
    let mut config = zenoh::Config::default();
    for (key, value) in [
        ("connect/endpoints", format!("[\"{endpoint}\"]")),
        ("listen/endpoints", "[]".to_owned()),
        ("scouting/multicast/enabled", "false".to_owned()),
    ] {
        config.insert_json5(key, &value).unwrap();
    }
    let stranger = zenoh::open(config).wait().unwrap();
    let key = keys::entries("test");
    let framed = |sequence: u64, body: &[u8]| {
        let header = Header {
            run: RUN,
            sequence,
            length: body.len() as u32,
        };
        [&header.to_bytes(), body].concat()
    };
    let put = |payload: Vec<u8>| stranger.put(&key, payload).wait().unwrap();
    let malformed = || learner.stats().malformed;

    // Cut in the header, and in the entry. (Repeated until the stranger is connected.)
    until("a message is refused", || {
        put(vec![1; HEADER_BYTES - 1]);
        malformed() > 0
    });
    let before = malformed();
    put(framed(0, b"entry")[..HEADER_BYTES + 2].to_vec());
    until("a cut entry is refused", || malformed() > before);
    let error = learner.stats().last_error.unwrap();
    assert!(error.contains("ends within an entry"), "{error}");

    // A good frame around a bad entry, and around an entry that is another one.
    assert_eq!(learner.stats().waiting, 0);
    put(framed(0, b"not an entry"));
    until("it arrived", || learner.stats().waiting == 1);
    assert_eq!(learner.recv(Duration::from_millis(1)), None);
    let error = learner.stats().last_error.unwrap();
    assert!(error.starts_with("entry 0 of run"), "{error}");
    put(framed(0, &wire::encode_entry(&entry(5))));
    until("it arrived", || learner.stats().waiting == 1);
    assert_eq!(learner.recv(Duration::from_millis(1)), None);
    let error = learner.stats().last_error.unwrap();
    assert!(error.contains("another run or sequence"), "{error}");

    // It was not counted as received, so a good one is still welcome ...
    let stats = learner.stats();
    assert_eq!(stats.given_up, 0);
    put(framed(0, &wire::encode_entry(&entry(0))));
    assert_eq!(learner.recv(LONG), Some(entry(0)));
    // ... but one that is bad again and again is given up, or the run would stop there for good.
    for tries in 1..=3 {
        put(framed(1, b"bad"));
        until("it arrived", || learner.stats().waiting == 1);
        assert_eq!(learner.recv(Duration::from_millis(1)), None);
        assert_eq!(learner.stats().given_up, u64::from(tries == 3));
    }
    put(framed(2, &wire::encode_entry(&entry(2))));
    assert_eq!(learner.recv(LONG), Some(entry(2)));

    // The other direction: from a learner that speaks another language.
    drop(stranger);
    drop(learner);
    let mut config = zenoh::Config::default();
    for (key, value) in [
        ("listen/endpoints", format!("[\"{endpoint}\"]")),
        ("scouting/multicast/enabled", "false".to_owned()),
    ] {
        config.insert_json5(key, &value).unwrap();
    }
    let stranger = zenoh::open(config).wait().unwrap();
    let keys = [
        keys::acks("test"),
        keys::progress("test"),
        keys::snapshots("test", GraphName::Policy),
    ];
    for key in keys {
        until("the actor names the key", || {
            stranger.put(&key, "gibberish").wait().unwrap();
            let error = actor.stats().last_error.unwrap_or_default();
            error.starts_with(&key)
        });
    }
    assert!(actor.stats().malformed >= 3);
    assert_eq!(actor.progress(), None);
}

#[test]
fn bad_names_and_endpoints_are_refused_with_a_remedy() {
    let source = || Box::new(Log::default());
    for name in ["", "a/b", "*", "a b"] {
        let mut config = actor_config("tcp/127.0.0.1:1");
        config.session = name.to_owned();
        let error = ActorLink::open(config, source()).err().unwrap();
        assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
    }
    for endpoint in ["127.0.0.1:7447", "tcp/", "carrier-pigeon/roof"] {
        let error = LearnerLink::open(learner_config(endpoint, 0));
        let error = error.err().unwrap().to_string();
        assert!(error.contains(endpoint), "{error}");
        assert!(error.contains("tcp/<host>:<port>"), "{error}");
    }
}
