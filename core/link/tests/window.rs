//! The two state machines against a wire that loses, doubles, reorders and breaks, and a learner
//! that dies or loses its disk.

use std::collections::BTreeMap;

use hilt_link::{Arrival, Receiver, SendWindow, WindowLimits};
use hilt_protocol::RunId;
use proptest::prelude::*;

const RUN: RunId = RunId(3);
const LIMITS: WindowLimits = WindowLimits {
    entries: 5,
    bytes: 400,
    patience_ns: 100,
};

#[derive(Clone, Debug)]
enum Event {
    /// The log grows by so many entries.
    Log(u64),
    /// The sender sends as much as it may.
    Send,
    /// A message on the wire arrives; which one is drawn, so that order is not kept.
    Arrive(prop::sample::Index),
    /// A message on the wire arrives and stays on the wire.
    ArriveAndStay(prop::sample::Index),
    /// A message on the wire is lost.
    Lose(prop::sample::Index),
    /// The learner writes what it has received and acknowledges.
    Write,
    /// An acknowledgement arrives, again in any order.
    AckArrives(prop::sample::Index),
    AckIsLost(prop::sample::Index),
    Time(u64),
    /// Everything on the wire is lost, and the sender is told.
    Reconnect,
    /// The learner dies and comes back with what it had written.
    Restart,
    /// Another learner, with an empty disk.
    Replace,
    /// The sender asks for the position, and the answer comes.
    Align,
}

fn event() -> impl Strategy<Value = Event> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        4 => (1u64..6).prop_map(Event::Log),
        6 => Just(Event::Send),
        8 => index().prop_map(Event::Arrive),
        2 => index().prop_map(Event::ArriveAndStay),
        2 => index().prop_map(Event::Lose),
        4 => Just(Event::Write),
        4 => index().prop_map(Event::AckArrives),
        1 => index().prop_map(Event::AckIsLost),
        2 => (1u64..150).prop_map(Event::Time),
        1 => Just(Event::Reconnect),
        1 => Just(Event::Restart),
        1 => Just(Event::Replace),
        4 => Just(Event::Align),
    ]
}

struct World {
    window: SendWindow,
    receiver: Receiver,
    now_ns: u64,
    logged: u64,
    wire: Vec<u64>,
    acks: Vec<u64>,
    /// Received and not yet written.
    memory: Vec<u64>,
    disk: Vec<u64>,
}

fn size(sequence: u64) -> usize {
    // Some entries are larger than the whole window.
    if sequence % 13 == 7 {
        900
    } else {
        60 + sequence as usize % 90
    }
}

impl World {
    fn new() -> Self {
        Self {
            window: SendWindow::new(LIMITS),
            receiver: Receiver::default(),
            now_ns: 0,
            logged: 0,
            wire: vec![],
            acks: vec![],
            memory: vec![],
            disk: vec![],
        }
    }

    fn send(&mut self) {
        while let Some(room) = self.window.room() {
            assert!(room.entries > 0 && room.bytes > 0);
            assert!(room.first < self.logged, "only what is in the log is sent");
            let before = self.window.in_flight_bytes();
            assert!(before < LIMITS.bytes);
            self.window.sent(size(room.first), self.now_ns);
            self.wire.push(room.first);
            assert!(self.window.in_flight() <= LIMITS.entries);
        }
    }

    fn arrive(&mut self, sequence: u64) {
        if self.receiver.accept(RUN, sequence) == Arrival::New {
            self.memory.push(sequence);
        }
    }

    fn write(&mut self) {
        self.disk.append(&mut self.memory);
        if let Some(&last) = self.disk.last() {
            assert!(self.receiver.durable(RUN, last));
        }
        self.acks.extend(self.receiver.ack(RUN).map(|a| a.sequence));
    }

    fn align(&mut self) {
        if self.window.needs_position() {
            self.window.align(self.receiver.position(RUN), self.now_ns);
        }
    }

    fn step(&mut self, event: &Event) {
        match event {
            Event::Log(n) => {
                self.logged += n;
                self.window.logged_up_to(self.logged - 1);
            }
            Event::Send => self.send(),
            Event::Arrive(_) | Event::ArriveAndStay(_) | Event::Lose(_) if self.wire.is_empty() => {
            }
            Event::Arrive(i) => {
                let sequence = self.wire.remove(i.index(self.wire.len()));
                self.arrive(sequence);
            }
            Event::ArriveAndStay(i) => self.arrive(*i.get(&self.wire)),
            Event::Lose(i) => {
                self.wire.remove(i.index(self.wire.len()));
            }
            Event::Write => self.write(),
            Event::AckArrives(_) | Event::AckIsLost(_) if self.acks.is_empty() => {}
            Event::AckArrives(i) => {
                let sequence = self.acks.remove(i.index(self.acks.len()));
                self.window.ack(sequence, self.now_ns);
            }
            Event::AckIsLost(i) => {
                self.acks.remove(i.index(self.acks.len()));
            }
            Event::Time(ns) => {
                self.now_ns += ns;
                self.window.check_silence(self.now_ns);
            }
            Event::Reconnect => {
                self.wire.clear();
                self.acks.clear();
                self.window.lost();
            }
            Event::Restart => {
                let next = self.disk.len() as u64;
                self.receiver = Receiver::restore(&BTreeMap::from([(RUN, next)]));
                self.memory.clear();
                self.window.lost();
            }
            Event::Replace => {
                self.receiver = Receiver::default();
                self.memory.clear();
                self.disk.clear();
                self.window.lost();
            }
            Event::Align => self.align(),
        }
        assert!(
            self.disk.iter().copied().eq(0..self.disk.len() as u64),
            "on disk exactly once and in order: {:?}",
            self.disk
        );
        assert!(self.window.acked() <= self.window.next());
        assert!(self.window.next() <= self.logged);
    }

    /// From here on the wire is good; nothing but silence may be needed to notice what went before.
    fn settle(&mut self) {
        for _ in 0..2 * self.logged + 10 {
            self.align();
            self.send();
            for sequence in std::mem::take(&mut self.wire) {
                self.arrive(sequence);
            }
            self.write();
            for sequence in std::mem::take(&mut self.acks) {
                self.window.ack(sequence, self.now_ns);
            }
            self.now_ns += LIMITS.patience_ns;
            self.window.check_silence(self.now_ns);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_entry_reaches_the_disk_once(events in prop::collection::vec(event(), 0..200)) {
        let mut world = World::new();
        for event in &events {
            world.step(event);
        }
        world.settle();
        prop_assert_eq!(world.disk.len() as u64, world.logged);
        prop_assert!(world.disk.iter().copied().eq(0..world.logged));
        prop_assert_eq!(world.window.acked(), world.logged);
        prop_assert_eq!(world.window.in_flight(), 0);
        prop_assert_eq!(world.window.in_flight_bytes(), 0);
    }

    #[test]
    fn a_good_wire_carries_each_entry_once(bursts in prop::collection::vec(1u64..9, 1..40)) {
        let mut world = World::new();
        world.align();
        let mut sent = 0;
        for burst in bursts {
            world.step(&Event::Log(burst));
            while world.window.acked() < world.logged {
                world.send();
                sent += world.wire.len() as u64;
                for sequence in std::mem::take(&mut world.wire) {
                    world.arrive(sequence);
                }
                world.write();
                for sequence in std::mem::take(&mut world.acks) {
                    world.window.ack(sequence, world.now_ns);
                }
                world.now_ns += LIMITS.patience_ns / 2;
                world.window.check_silence(world.now_ns);
                prop_assert!(!world.window.needs_position(), "nobody was silent");
            }
        }
        prop_assert_eq!(sent, world.logged);
    }
}

#[test]
fn silence_makes_the_sender_ask_but_only_while_something_is_on_its_way() {
    let mut window = SendWindow::new(LIMITS);
    window.logged_up_to(1);
    assert_eq!(
        window.room(),
        None,
        "the learner has not said where it stands"
    );
    window.align(Default::default(), 0);
    window.check_silence(1_000);
    assert!(!window.needs_position());
    window.sent(10, 1_000);
    window.sent(10, 1_050);
    window.check_silence(1_099);
    assert!(!window.needs_position());
    assert!(window.ack(0, 1_099));
    window.check_silence(1_198);
    assert!(!window.needs_position());
    assert_eq!(window.silent_at(), Some(1_199));
    window.check_silence(1_199);
    assert!(window.needs_position());
    assert_eq!(window.room(), None);
}

#[test]
fn acknowledgements_of_the_past_and_of_the_future_change_nothing() {
    let mut window = SendWindow::new(LIMITS);
    window.logged_up_to(9);
    window.align(Default::default(), 0);
    for _ in 0..3 {
        window.sent(10, 0);
    }
    assert!(!window.ack(3, 0));
    assert!(window.ack(1, 0));
    assert!(!window.ack(0, 0));
    assert!(!window.ack(u64::MAX, 0));
    assert_eq!((window.acked(), window.next()), (2, 3));
    assert_eq!(window.in_flight_bytes(), 10);
}
