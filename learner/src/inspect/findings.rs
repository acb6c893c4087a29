//! What of the figures a person should know before they train on the data: the worst first.

use hilt_show::plot::number;
use serde::Serialize;

use super::figures::{Camera, End, Figures, Group, Met, Number, Place};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// Training suffers from it, or does not begin.
    Fault,
    /// It may be meant.
    Look,
}

/// Something to know.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// What there is.
    pub what: String,
    /// Where it is met first.
    pub places: Vec<Place>,
    /// What can be done.
    pub remedy: String,
}

/// The true rate is the nominal one up to this share of it.
const RATE: f64 = 0.05;
/// So large a share of a camera's frames may be the bytes before, though the arm moved: it may be out of the view.
const STALE: f64 = 0.1;
/// And for so long on end, seconds.
const FROZEN_S: f64 = 5.0;
/// So large a share may be the very capture before.
const SAME_TIME: f64 = 0.02;
/// So many episodes of one length are not so by chance.
const ALIKE: usize = 3;

/// What there is to know, the worst first.
pub fn findings(figures: &Figures) -> Vec<Finding> {
    let mut found = Found(Vec::new());
    whether_it_can_be_read(figures, &mut found);
    whether_numbers_are_right(figures, &mut found);
    whether_actions_follow_what_was_seen(figures, &mut found);
    whether_it_goes_on_in_time(figures, &mut found);
    whether_episodes_are_whole(figures, &mut found);
    whether_rewards_say_something(figures, &mut found);
    let hz = (figures.rig.as_ref()).map_or(0.0, |rig| f64::from(rig.policy_hz));
    for camera in &figures.cameras {
        whether_pictures_go_on(camera, hz, &mut found);
    }
    what_never_changes(figures, &mut found);
    let Found(mut found) = found;
    // Stable: within a weight they stay in this order.
    found.sort_by_key(|finding| finding.weight);
    found
}

struct Found(Vec<Finding>);

impl Found {
    fn add(&mut self, weight: Weight, what: String, places: &[Place], remedy: &str) {
        self.0.push(Finding {
            weight,
            what,
            places: places.to_vec(),
            remedy: remedy.to_owned(),
        });
    }

    /// If it was met.
    fn met(&mut self, weight: Weight, met: &Met, what: impl Fn(&str) -> String, remedy: &str) {
        if met.times > 0 {
            self.add(weight, what(&met.times.to_string()), &met.places, remedy);
        }
    }
}

fn whether_it_can_be_read(figures: &Figures, found: &mut Found) {
    if let Some(why) = &figures.unread {
        let what = format!(
            "only what comes before this can be read ({} steps): {why}",
            figures.steps
        );
        let remedy = "training on it ends with the same words; mend or leave out what they name";
        found.add(Weight::Fault, what, &[], remedy);
    }
    if figures.steps == 0 {
        let what = "there is no step in it".to_owned();
        let remedy = "record some, as with `hilt record`; a run that was just begun has none yet";
        found.add(Weight::Fault, what, &[], remedy);
    }
    for (what, met) in &figures.troubles.misfits {
        let remedy = "it was recorded on another rig, or --spec is that of another; such entries cannot be learned from";
        found.met(
            Weight::Fault,
            met,
            |times| format!("{times} × {what}"),
            remedy,
        );
    }
}

fn whether_numbers_are_right(figures: &Figures, found: &mut Found) {
    for number in &figures.numbers {
        let remedy = "leave these episodes out, and mend what wrote them; training ends at the first of them";
        found.met(
            Weight::Fault,
            &number.not_finite,
            |times| format!("{}: {times} × NaN or infinite", called(number)),
            remedy,
        );
    }
    // One finding for all columns: where one is too large the others often are.
    let beyond = figures.numbers.iter().filter(|n| n.beyond.times > 0);
    let beyond: Vec<&Number> = beyond.collect();
    if let Some(first) = beyond.first() {
        let farthest = (beyond.iter().filter_map(|n| n.spread))
            .map(|of| of.min.abs().max(of.max.abs()))
            .fold(0.0, f64::max);
        let each: Vec<String> = (beyond.iter())
            .map(|n| format!("{} ({} ×)", n.name, n.beyond.times))
            .collect();
        let what = format!(
            "actions outside ±1, up to {}: {}",
            number(farthest),
            some(&each)
        );
        let remedy = "policies act in ±1 and cannot do what was done here: divide the actions by their largest where they \
                      are recorded";
        found.add(Weight::Fault, what, &first.beyond.places, remedy);
    }
}

fn whether_actions_follow_what_was_seen(figures: &Figures, found: &mut Found) {
    if figures.seen_late {
        let what = "it has the columns that LeRobot's gym_manipulator writes, which puts what was seen after an action \
                    beside it: every observation may be a step late"
            .to_owned();
        let remedy = "if that program recorded it, move its observations down by a row and leave each episode's first row \
                      out, or record with `hilt record`; lerobot-record has them in their places";
        found.add(Weight::Look, what, &[], remedy);
    }
}

fn whether_it_goes_on_in_time(figures: &Figures, found: &mut Found) {
    let troubles = &figures.troubles;
    let missing = troubles.missing_entries;
    found.met(
        Weight::Fault,
        &troubles.holes,
        |times| {
            let most = if missing == 1 { "entry is" } else { "entries are" };
            format!("{times} × a hole before an entry: {missing} {most} missing by the count")
        },
        "steps across a hole are not learned from; where they were streamed, take the log of the robot's own disk",
    );
    found.met(
        Weight::Fault,
        &troubles.again,
        |times| format!("{times} × entries that come again, or out of order"),
        "is a run in the folder twice? take the copy out",
    );
    found.met(
        Weight::Fault,
        &troubles.backwards,
        |times| format!("{times} × an observation that is not later than the one before"),
        "the arm's state was not read anew, or the clock was set back: look at the driver, and at what stamps the times",
    );
    let Some(rate) = figures.rate else { return };
    if (rate.median_hz / rate.nominal_hz - 1.0).abs() > RATE {
        let what = format!(
            "it goes on at {} Hz, and says {} Hz",
            number(rate.median_hz),
            number(rate.nominal_hz)
        );
        let remedy = "what a policy learns from it is right at the true rate only: set the rig's policy_hz to what the loop \
                      reaches (`hilt top` shows what it waits for), and record again";
        found.add(Weight::Fault, what, &[], remedy);
    }
    found.met(
        Weight::Fault,
        &troubles.gaps,
        |times| {
            format!(
                "{times} of {} periods are gaps, longer than 1.5 × {} ms; the longest {} ms",
                rate.periods,
                number(1e3 / rate.nominal_hz),
                number(rate.max_s * 1e3)
            )
        },
        "the arm went on while nothing was recorded: `hilt doctor` says what the machine lacks, `hilt top` which stage is slow",
    );
}

fn whether_episodes_are_whole(figures: &Figures, found: &mut Found) {
    let troubles = &figures.troubles;
    found.met(
        Weight::Fault,
        &troubles.headless,
        |times| format!("{times} × an episode without its first observation"),
        "its first step cannot be learned from; take the whole run",
    );
    found.met(
        Weight::Fault,
        &troubles.after_end,
        |times| format!("{times} × a step after the end of its episode"),
        "what wrote them says `done` too early, or forgets to begin an episode",
    );
    if figures.unread.is_none() {
        found.met(
            Weight::Look,
            &troubles.open,
            |times| format!("{times} × a run that ends within an episode"),
            "it is still being recorded, or was cut off; the steps that are there are learned from",
        );
    }
    found.met(
        Weight::Look,
        &troubles.cut,
        |times| match figures.rig {
            Some(_) => format!("{times} × an episode without an end, though another follows"),
            None => format!("{times} × an episode without an end: the next row begins elsewhere, or there is none"),
        },
        "taken as if time had run out there; where the task had ended, say so in `terminals`",
    );
    found.met(
        Weight::Look,
        &troubles.empty,
        |times| format!("{times} × an episode without a step"),
        "nothing is lost by it",
    );
    let ended = |wanted| (figures.episodes.iter()).filter(move |episode| episode.end == wanted);
    let longest = figures.episodes.iter().map(|e| e.steps).max().unwrap_or(0);
    let alike: Vec<_> = (ended(End::Terminated))
        .filter(|episode| episode.steps == longest)
        .collect();
    let (terminated, truncated) = (
        ended(End::Terminated).count(),
        ended(End::Truncated).count(),
    );
    if truncated == 0 && longest > 1 && alike.len() >= ALIKE && 2 * alike.len() >= terminated {
        let what = format!(
            "{} of {terminated} episodes that terminated have exactly {longest} steps, as many as the longest, and none ran \
             out of time",
            alike.len()
        );
        let places: Vec<Place> = alike.iter().map(|e| e.place.clone()).collect();
        let remedy = "is that the limit of time? Then these are time-outs (`timeouts`, truncated): as terminals they teach \
                      that what follows is worth nothing";
        found.add(
            Weight::Look,
            what,
            &places[..places.len().min(Met::PLACES)],
            remedy,
        );
    }
}

fn whether_rewards_say_something(figures: &Figures, found: &mut Found) {
    let mut rewards = figures.numbers.iter().filter(|n| n.group == Group::Reward);
    let reward = rewards.next();
    if let Some(reward) = reward.filter(|reward| reward.is_constant()) {
        let value = reward.spread.map_or(0.0, |of| of.min);
        let what = format!("every reward is {}", number(value));
        let remedy = "imitation (`bc`) can learn from it, reinforcement learning cannot: say which episodes succeeded, or let a \
                      classifier judge them";
        found.add(Weight::Fault, what, &[], remedy);
    }
}

fn whether_pictures_go_on(camera: &Camera, hz: f64, found: &mut Found) {
    let Camera {
        name,
        frames,
        repeated,
        stale,
        longest_stale,
        same_time,
        ..
    } = camera;
    let share = |of: u64| of as f64 / (*frames).max(1) as f64;
    let hung = share(stale.times) > STALE
        || share(*same_time) > SAME_TIME
        || *longest_stale as f64 > FROZEN_S * hz;
    let (weight, remedy) = match hung {
        true => (
            Weight::Fault,
            "the camera hung or is slower than the policy: look at its cable, its exposure and `fps`; a policy that learns \
             from it acts on the past",
        ),
        false => (
            Weight::Look,
            "a camera that hung, or a simulated one in whose view nothing moved; so few do little harm",
        ),
    };
    found.met(
        weight,
        stale,
        |times| {
            format!(
                "camera {name}: {times} of {frames} frames are the one before, while the arm's state changed; \
                 up to {longest_stale} on end, {same_time} of all the very same capture"
            )
        },
        remedy,
    );
    if stale.times == 0 {
        found.met(
            Weight::Look,
            repeated,
            |times| {
                format!(
                    "camera {name}: {times} of {frames} frames are the one before; the arm stood still too"
                )
            },
            "a simulated scene at rest looks like that; a real camera's noise does not, there the recording stood",
        );
    }
}

fn what_never_changes(figures: &Figures, found: &mut Found) {
    let groups = [
        (
            Group::Action,
            "action",
            "nobody moved it: a policy will not learn to; leave the axis out if the task does without",
        ),
        (
            Group::Observation,
            "observation",
            "is it a sensor that is not read? Else nothing is lost by it",
        ),
    ];
    for (group, called, remedy) in groups {
        let constant = (figures.numbers.iter()).filter(|n| n.group == group && n.is_constant());
        let named = constant.map(|n| {
            let value = n.spread.map_or(0.0, |of| of.min);
            format!("{} ({})", n.name, number(value))
        });
        let named: Vec<String> = named.collect();
        if !named.is_empty() {
            let what = format!("{called}: never changes: {}", some(&named));
            found.add(Weight::Look, what, &[], remedy);
        }
    }
}

fn called(number: &Number) -> String {
    let group = match number.group {
        Group::Observation => "observation",
        Group::Action => "action",
        Group::Reward => return number.name.clone(),
    };
    format!("{group} {}", number.name)
}

/// The first few of many.
fn some(names: &[String]) -> String {
    const MOST: usize = 6;
    let first = names[..names.len().min(MOST)].join(", ");
    match names.len().saturating_sub(MOST) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
