//! Commands that run a rig.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use anyhow::bail;
use hilt_protocol::Image;
use hilt_runtime::{
    actor::{self, ActorOptions, Standing, Watch},
    books::RunBooks,
    cell::Cell as Devices,
    evaluate::{self, EvaluateOptions},
    inference::Engine,
    operator::{self, Operator},
    pace::Pace,
    picture,
    record::{self, RecordOptions},
    replay::{self, Episode, Stood},
    rig::Rig,
    teleoperate::{self, View},
    view,
};
use hilt_show::Show;

/// Opens the rig for what is not recorded, shows how it goes, and gives the accounts at the end.
fn drive<T>(
    rig: &Rig,
    name: &'static str,
    length: Option<u64>,
    go: impl FnOnce(&mut Devices, &mut Show) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let mut cell = Devices::open(rig)?;
    let books = RunBooks::unrecorded(rig, name, &mut cell)?;
    let mut show = Show::new(name, length);
    let gone = go(&mut cell, &mut show)?;
    show.end();
    let last = cell.end();
    let books = books.finish(last)?;
    if last.is_some() {
        println!("{}", view::report_text(&books));
    }
    Ok(gone)
}

pub fn teleoperate(rig: &Rig, seed: u64, stop: &AtomicBool) -> anyhow::Result<()> {
    let steps = drive(rig, "teleoperate", None, |cell, show| {
        let (mut teleop, help) = operator::hands(operator::person(rig), rig, false)?;
        show.say(&help);
        let mut pace = Pace::of(rig, true);
        let see = |view: &View| {
            show.stand(view.steps, || {
                format!("{}\n{}", view.words(), picture(&view.images))
            });
        };
        let steps = teleoperate::teleoperate(rig, cell, &mut *teleop, &mut pace, seed, stop, see)?;
        Ok(steps)
    })?;
    println!("{steps} steps driven");
    Ok(())
}

pub fn replay(rig: &Rig, episode: &Episode, stop: &AtomicBool) -> anyhow::Result<()> {
    let length = episode.steps() as u64;
    let replayed = drive(rig, "replay", Some(length), |cell, show| {
        let mut pace = Pace::of(rig, true);
        let see = |stood: &Stood| show.stand(stood.step as u64, || picture(&stood.images));
        Ok(replay::replay(rig, cell, episode, &mut pace, stop, see)?)
    })?;
    println!(
        "{} of {} steps driven; the tool was {:.1} mm from where it had been on average, {:.1} mm at most",
        replayed.steps,
        replayed.of,
        1e3 * replayed.mean_off_m,
        1e3 * replayed.most_off_m
    );
    if replayed.steps < replayed.of {
        bail!("stopped before the episode's end");
    }
    Ok(())
}

pub fn record(rig: &Rig, options: &RecordOptions, stop: &AtomicBool) -> anyhow::Result<()> {
    if options.demonstrator == Operator::Scripted {
        println!("a scripted operator demonstrates; it stands in for a person");
    }
    let length = Some(u64::from(options.episodes));
    let show = RefCell::new(Show::new("demonstrations", length));
    let kept = Cell::new(0);
    let say = |so_far, words: &str| {
        kept.set(u64::from(so_far));
        if options.demonstrator.is_person() {
            show.borrow().say(words);
        }
        show.borrow_mut().stand(kept.get(), || words.to_owned());
    };
    let see = |images: &[Image]| {
        let picture = || format!("\n{}", picture(images));
        show.borrow_mut().stand(kept.get(), picture);
    };
    let summary = record::record(rig, options, stop, say, see)?;
    show.into_inner().end();
    println!(
        "{} demonstrations of {} tried, {:.1} s each on average; labelled frames: {} success, {} not",
        summary.episodes,
        summary.attempts,
        summary.mean_time_to_success_s,
        summary.labelled_success,
        summary.labelled_failure
    );
    if stop.load(Ordering::Relaxed) {
        bail!("stopped before the recording was complete; what there is can be used");
    }
    Ok(())
}

fn engine(rig: &Rig) -> anyhow::Result<Engine> {
    let engine = Engine::open(&rig.providers, rig.inference_threads)?;
    println!("the networks run on {}", engine.provider().name());
    Ok(engine)
}

/// What the cameras see, as large as the terminal has room for below a few lines.
pub fn picture(images: &[Image]) -> String {
    const LINES: u16 = 8;
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) => {
            let rows = size.ws_row.saturating_sub(LINES);
            picture::draw(images, usize::from(size.ws_col), usize::from(rows))
        }
        Err(_) => String::new(),
    }
}

struct Screen {
    show: Show,
    /// What a person sees.
    images: Vec<Image>,
}

impl Watch for Screen {
    fn say(&mut self, words: &str) {
        self.show.say(words);
    }

    fn stand(&mut self, standing: &Standing) {
        let images = &self.images;
        self.show.stand(standing.env_steps, || {
            let (steps, words) = (standing.env_steps, standing.words());
            match images.is_empty() {
                true => format!("{steps} steps, {words}"),
                false => format!("{steps} steps, {words}\n{}", picture(images)),
            }
        });
    }

    fn see(&mut self, images: &[Image]) {
        self.images = images.to_vec();
    }
}

pub fn act(rig: &Rig, options: &ActorOptions, stop: &AtomicBool) -> anyhow::Result<()> {
    if options.operator == Some(Operator::Scripted) {
        println!(
            "a scripted operator takes over when the policy is stuck; it stands in for a person"
        );
    }
    let engine = engine(rig)?;
    let mut screen = Screen {
        show: Show::new("actor", None),
        images: Vec::new(),
    };
    let summary = actor::run(rig, &engine, options, stop, &mut screen)?;
    screen.show.end();
    println!(
        "{} episodes, {} steps in {:.0} s ({:.0} s of them waiting for the learner); log and results in {}",
        summary.episodes,
        summary.env_steps,
        summary.wall_s,
        summary.waited_s,
        options.out.display()
    );
    Ok(())
}

pub fn evaluate(rig: &Rig, options: &EvaluateOptions, stop: &AtomicBool) -> anyhow::Result<()> {
    let engine = engine(rig)?;
    let show = Mutex::new(Show::new("evaluation", Some(u64::from(options.episodes))));
    let began = Instant::now();
    let summary = evaluate::evaluate(rig, &engine, options, stop, |so_far| {
        let mut show = show.lock().unwrap_or_else(PoisonError::into_inner);
        show.stand(u64::from(so_far.episodes), || so_far.words(began.elapsed()));
    })?;
    show.into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .end();
    let time = summary
        .mean_time_to_success_s
        .map_or("–".to_owned(), |s| format!("{s:.1} s"));
    println!(
        "success {:.1} % of {} episodes (95 % lower bound {:.1} %), mean time to success {time}",
        summary.success_rate * 100.0,
        summary.episodes,
        summary.success_lower95 * 100.0
    );
    if summary.episodes < options.episodes {
        bail!("stopped before all {} episodes", options.episodes);
    }
    Ok(())
}
