//! One pass over the data. What is kept of it does not grow with its steps: a line per episode and per run, running
//! figures, and a few pictures and curves.

use hdrhistogram::Histogram as Periods;
use hilt_protocol::{ActionSource, Entry, Image, Observation, Record, RigSpec, Step};
use hilt_recording::table::Table;

use super::{
    figures::{Camera, End, Episode, Figures, Group, Met, Number, Place, Rate, Run, Troubles},
    film::{Film, Films, Sketch},
    statistics::{Histogram, Running},
};

/// An action this far outside ±1 is outside; less is rounding.
const ROUNDING: f64 = 1e-5;
/// A period of so many nominal ones is a gap.
const GAP: f64 = 1.5;
/// Periods are counted up to here, and longer ones as this long: an hour.
const LONGEST_US: u64 = 3_600_000_000;
/// Digits of a period that are kept: to 10 µs in 100 ms.
const DIGITS: u8 = 4;

/// What is drawn, besides the figures.
pub struct Drawn {
    /// Where a column's numbers lie: of actions and rewards.
    pub histograms: Vec<(Group, String, Histogram)>,
    /// Periods, microseconds.
    pub periods: Option<Periods<u64>>,
    /// The first, a middle and the last episode.
    pub films: Vec<Film>,
}

/// A column in the making.
struct Column {
    group: Group,
    name: String,
    running: Running,
    histogram: Histogram,
    not_finite: Met,
    beyond: Met,
}

impl Column {
    fn new(group: Group, name: String) -> Self {
        Self {
            group,
            name,
            running: Running::default(),
            histogram: Histogram::default(),
            not_finite: Met::default(),
            beyond: Met::default(),
        }
    }

    fn add(&mut self, value: f32, place: impl Fn() -> Place) {
        if !value.is_finite() {
            return self.not_finite.at(place);
        }
        let value = f64::from(value);
        self.running.add(value);
        if self.group != Group::Observation {
            self.histogram.add(value);
        }
        if self.group == Group::Action && value.abs() > 1.0 + ROUNDING {
            self.beyond.at(place);
        }
    }
}

/// What is remembered of the entry before.
struct Last {
    entry: Entry,
    /// Stale frames on end, by camera.
    stale: Vec<u64>,
}

/// Figures in the making.
pub struct Gather {
    figures: Figures,
    observation: Vec<Column>,
    action: Vec<Column>,
    reward: Vec<Column>,
    /// Of a step, nanoseconds; 0 of a table.
    nominal_ns: f64,
    periods: Option<Periods<u64>>,
    open: Option<(Episode, Sketch)>,
    films: Films,
    last: Option<Last>,
    intervening: bool,
}

impl Gather {
    /// For a recording of this rig. Frames and curves are kept only `with_films`.
    pub fn recording(data: String, rig: &RigSpec, with_films: bool) -> Self {
        let mut gather = Self::new(data, with_films);
        gather.observation = columns(Group::Observation, rig.proprio.iter().cloned());
        gather.action = columns(Group::Action, rig.action_names());
        let rewards = ["reward", "grasp penalty"].map(str::to_owned);
        let of_gripper = usize::from(rig.mode.learned_gripper());
        gather.reward = columns(Group::Reward, rewards.into_iter().take(1 + of_gripper));
        gather.nominal_ns = 1e9 / f64::from(rig.policy_hz.max(1));
        let camera = |camera: &hilt_protocol::CameraSpec| Camera {
            name: camera.name.clone(),
            width: camera.width,
            height: camera.height,
            ..Camera::default()
        };
        gather.figures.cameras = rig.cameras.iter().map(camera).collect();
        gather.figures.rig = Some(rig.clone());
        gather
    }

    /// All of a table.
    pub fn table(data: String, table: &Table, with_films: bool) -> Self {
        let mut gather = Self::new(data, with_films);
        let columns_of = table.columns();
        let numbered = |width: usize| (0..width).map(|i| format!("[{i}]"));
        gather.observation = columns(Group::Observation, numbered(columns_of.observation));
        gather.action = columns(Group::Action, numbered(columns_of.action));
        gather.reward = columns(Group::Reward, ["reward".to_owned()]);
        for rows in table.episodes() {
            gather.begin(Place::Row { row: rows.start });
            for (step, row) in rows.enumerate() {
                let place = || Place::Row { row };
                let observed = table.observation(row);
                add_all(&mut gather.observation, observed, place);
                if let Some((_, sketch)) = &mut gather.open {
                    sketch.point(step as f64, observed);
                }
                add_all(&mut gather.action, table.action(row), place);
                let flags = (columns_of.terminals[row], columns_of.timeouts[row]);
                gather.stepped(&[columns_of.rewards[row]], flags, place);
                if table.ends(row) {
                    gather.led_to(table.next_observation(row), place);
                }
            }
            gather.close(false);
        }
        gather
    }

    /// What an episode's last row led to is no other row's observation. Numbers that are none are met there too.
    fn led_to(&mut self, observed: &[f32], place: impl Fn() -> Place + Copy) {
        for (column, value) in self.observation.iter_mut().zip(observed) {
            if !value.is_finite() {
                column.not_finite.at(place);
            }
        }
    }

    fn new(data: String, with_films: bool) -> Self {
        Self {
            figures: Figures {
                data,
                ..Figures::default()
            },
            observation: Vec::new(),
            action: Vec::new(),
            reward: Vec::new(),
            nominal_ns: 0.0,
            // Of these bounds it is never refused.
            periods: Periods::new_with_bounds(1, LONGEST_US, DIGITS).ok(),
            open: None,
            films: Films::new(with_films),
            last: None,
            intervening: false,
        }
    }

    /// The next entry of a recording.
    pub fn entry(&mut self, entry: Entry) {
        let place = || Place::of(&entry);
        let before = self.last.take();
        let mut before = before.filter(|last| last.entry.run == entry.run);
        if before.is_none() {
            self.close(true);
            self.begin_run(&entry);
        }
        if let Some(run) = self.figures.runs.last_mut() {
            run.entries += 1;
        }
        let follows = follows(&mut self.figures.troubles, before.as_ref(), &entry);
        let same_episode = |last: &Last| last.entry.episode == entry.episode;
        match &entry.record {
            Record::Reset(_) => {
                self.close(false);
                self.begin(place());
            }
            Record::Step(_)
                if self.open.is_none() || !before.as_ref().is_some_and(same_episode) =>
            {
                self.close(false);
                self.begin(place());
                self.figures.troubles.headless.at(place);
            }
            Record::Step(_) => {}
        }
        if let Record::Step(step) = &entry.record {
            self.step(step, place);
        }
        let stale = match (&mut before, &entry.record) {
            (Some(last), Record::Step(_)) if follows => self.compare(last, &entry),
            _ => vec![0; self.figures.cameras.len()],
        };
        self.observe(&entry);
        self.last = Some(Last { entry, stale });
    }

    fn begin_run(&mut self, entry: &Entry) {
        let run = entry.run.to_string();
        if self.figures.runs.iter().any(|other| other.run == run) {
            self.figures.troubles.again.at(|| Place::of(entry));
        }
        self.figures.runs.push(Run { run, entries: 0 });
    }

    fn step(&mut self, step: &Step, place: impl Fn() -> Place + Copy) {
        match step.action.len() == self.action.len() {
            true => add_all(&mut self.action, &step.action, place),
            false => {
                let what = format!("an action that has not {} numbers", self.action.len());
                self.misfit(what, place);
            }
        }
        let rewards = [step.reward, step.grasp_penalty];
        let rewards = &rewards[..self.reward.len().min(2)];
        *(self.figures.sources)
            .entry(named(step.source))
            .or_default() += 1;
        let intervenes = step.source.is_intervention();
        self.figures.intervened_steps += u64::from(intervenes);
        self.figures.interventions += u64::from(intervenes && !self.intervening);
        self.intervening = intervenes;
        match step.label {
            Some(true) => self.figures.labelled_success += 1,
            Some(false) => self.figures.labelled_failure += 1,
            None => {}
        }
        if let Some((episode, _)) = &mut self.open {
            if episode.end != End::Cut {
                self.figures.troubles.after_end.at(place);
            }
            episode.intervened_steps += u32::from(intervenes);
            episode.label = step.label;
        }
        self.stepped(rewards, (step.terminated, step.truncated), place);
    }

    /// What a step came to; `flags` say whether it terminated and whether time ran out.
    fn stepped(&mut self, rewards: &[f32], flags: (bool, bool), place: impl Fn() -> Place + Copy) {
        add_all(&mut self.reward, rewards, place);
        self.figures.steps += 1;
        if let Some((episode, _)) = &mut self.open {
            episode.steps += 1;
            episode.sum += rewards.first().map_or(0.0, |&reward| f64::from(reward));
            episode.end = match flags {
                (true, _) => End::Terminated,
                (false, true) => End::Truncated,
                (false, false) => episode.end,
            };
        }
    }

    /// Compares an observation with the one before it in its episode. How many stale frames there are on end now, by
    /// camera.
    fn compare(&mut self, last: &mut Last, entry: &Entry) -> Vec<u64> {
        let place = || Place::of(entry);
        let (before, now) = (last.entry.observation(), entry.observation());
        match now.captured_ns.checked_sub(before.captured_ns) {
            None | Some(0) => self.figures.troubles.backwards.at(place),
            Some(period_ns) => {
                if let Some(periods) = &mut self.periods {
                    periods.saturating_record(period_ns / 1000);
                }
                if period_ns as f64 > GAP * self.nominal_ns {
                    self.figures.troubles.gaps.at(place);
                }
            }
        }
        let moved = !alike(&before.proprio, &now.proprio);
        let mut stale = std::mem::take(&mut last.stale);
        if !moved && is_last(entry) && is_again(before, now) {
            return stale;
        }
        let images = before.images.iter().zip(&now.images);
        for ((camera, stale), (before, now)) in
            self.figures.cameras.iter_mut().zip(&mut stale).zip(images)
        {
            let same_time = before.captured_ns == now.captured_ns;
            let repeated = same_time || before.rgb == now.rgb;
            if repeated {
                camera.repeated.at(place);
                camera.same_time += u64::from(same_time);
            }
            *stale = if repeated && moved { *stale + 1 } else { 0 };
            if *stale > 0 {
                camera.stale.at(place);
                camera.longest_stale = camera.longest_stale.max(*stale);
            }
        }
        stale
    }

    fn observe(&mut self, entry: &Entry) {
        let place = || Place::of(entry);
        let observation = entry.observation();
        let wide = self.observation.len();
        match observation.proprio.len() == wide {
            true => add_all(&mut self.observation, &observation.proprio, place),
            false => self.misfit(format!("an observation that has not {wide} numbers"), place),
        }
        let (cameras, images) = (&mut self.figures.cameras, &observation.images);
        let mut odd = None;
        for (camera, image) in cameras.iter_mut().zip(images) {
            camera.frames += 1;
            let (width, height, name) = (camera.width, camera.height, &camera.name);
            if !is_whole(image) || (image.width, image.height) != (width, height) {
                odd = Some(format!("a frame of `{name}` that is not {width}×{height}"));
            }
        }
        if cameras.len() != images.len() {
            odd = Some(format!(
                "an observation that has not {} frames",
                cameras.len()
            ));
        }
        let fits = odd.is_none();
        if let Some(what) = odd {
            self.misfit(what, place);
        }
        if let Some((_, sketch)) = &mut self.open {
            sketch.see(observation, entry.index, fits);
        }
    }

    fn misfit(&mut self, what: String, place: impl FnOnce() -> Place) {
        let misfits = &mut self.figures.troubles.misfits;
        misfits.entry(what).or_default().at(place);
    }

    fn begin(&mut self, place: Place) {
        self.intervening = false;
        let episode = Episode {
            place,
            steps: 0,
            sum: 0.0,
            end: End::Cut,
            intervened_steps: 0,
            label: None,
        };
        self.open = Some((episode, self.films.sketch()));
    }

    /// The episode is over; perhaps because its run is.
    fn close(&mut self, with_its_run: bool) {
        let Some((episode, sketch)) = self.open.take() else {
            return;
        };
        let Troubles {
            cut, open, empty, ..
        } = &mut self.figures.troubles;
        let place = || episode.place.clone();
        match (episode.end, episode.steps, with_its_run) {
            (End::Cut, _, true) => open.at(place),
            (End::Cut, 0, false) => empty.at(place),
            (End::Cut, _, false) => cut.at(place),
            (End::Terminated | End::Truncated, ..) => {}
        }
        // An observation that nothing came of is no episode.
        if episode.steps > 0 {
            self.films.take(sketch, &episode);
            self.figures.episodes.push(episode);
        }
    }

    /// What it came to.
    pub fn finish(mut self) -> (Figures, Drawn) {
        self.close(true);
        let columns = [self.observation, self.action, self.reward].into_iter();
        let (mut numbers, mut histograms) = (Vec::new(), Vec::new());
        for column in columns.flatten() {
            numbers.push(Number {
                group: column.group,
                name: column.name.clone(),
                count: column.running.count(),
                spread: column.running.spread(),
                not_finite: column.not_finite,
                beyond: column.beyond,
            });
            if column.group != Group::Observation {
                histograms.push((column.group, column.name, column.histogram));
            }
        }
        let mut figures = self.figures;
        figures.numbers = numbers;
        let (mut lengths, mut returns) = (Running::default(), Running::default());
        for episode in &figures.episodes {
            lengths.add(f64::from(episode.steps));
            if episode.sum.is_finite() {
                returns.add(episode.sum);
            }
        }
        (figures.lengths, figures.returns) = (lengths.spread(), returns.spread());
        let periods = self.periods.filter(|periods| !periods.is_empty());
        figures.rate = periods.as_ref().map(|periods| {
            let at = |share| periods.value_at_quantile(share) as f64 * 1e-6;
            Rate {
                nominal_hz: 1e9 / self.nominal_ns,
                median_hz: 1.0 / at(0.5),
                median_s: at(0.5),
                p99_s: at(0.99),
                max_s: periods.max() as f64 * 1e-6,
                periods: periods.len(),
            }
        });
        let drawn = Drawn {
            histograms,
            periods,
            films: self.films.finish(),
        };
        (figures, drawn)
    }
}

fn columns(group: Group, names: impl IntoIterator<Item = String>) -> Vec<Column> {
    let names = names.into_iter();
    names.map(|name| Column::new(group, name)).collect()
}

fn add_all(columns: &mut [Column], values: &[f32], place: impl Fn() -> Place + Copy) {
    for (column, &value) in columns.iter_mut().zip(values) {
        column.add(value, place);
    }
}

/// Whether an entry comes right after the one before it in the same run; if not, what is wrong is counted.
fn follows(troubles: &mut Troubles, before: Option<&Last>, entry: &Entry) -> bool {
    let place = || Place::of(entry);
    let wanted = before.map_or(0, |last| last.entry.sequence.saturating_add(1));
    if entry.sequence < wanted {
        troubles.again.at(place);
        return false;
    }
    if entry.sequence > wanted {
        troubles.holes.at(place);
        troubles.missing(entry.sequence - wanted);
        return false;
    }
    let Some(Last { entry: last, .. }) = before else {
        return true;
    };
    let is_next = last.episode == entry.episode && last.index.checked_add(1) == Some(entry.index);
    let begins = matches!(entry.record, Record::Reset(_)) && entry.index == 0;
    if !is_next && !begins {
        troubles.holes.at(place);
        if last.episode == entry.episode && entry.index > last.index {
            troubles.missing(u64::from(entry.index - last.index - 1));
        }
    }
    is_next || begins
}

fn is_last(entry: &Entry) -> bool {
    matches!(&entry.record, Record::Step(step) if step.terminated || step.truncated)
}

/// Whether numbers are the same; what is none in both is.
fn alike(before: &[f32], now: &[f32]) -> bool {
    let same = |(a, b): (&f32, &f32)| a == b || (a.is_nan() && b.is_nan());
    before.len() == now.len() && before.iter().zip(now).all(same)
}

/// Whether an observation is the one before over again. At the end of an episode it stands for one that a format does
/// not keep, as LeRobot's.
fn is_again(before: &Observation, now: &Observation) -> bool {
    let mut images = before.images.iter().zip(&now.images);
    images.all(|(before, now)| before.rgb == now.rgb)
}

fn is_whole(image: &Image) -> bool {
    let pixels = u64::from(image.width) * u64::from(image.height);
    image.rgb.len() as u64 == 3 * pixels
}

fn named(source: ActionSource) -> &'static str {
    match source {
        ActionSource::Policy => "policy",
        ActionSource::Human => "human",
        ActionSource::ScriptedOperator => "scripted operator",
        ActionSource::Random => "random",
    }
}
