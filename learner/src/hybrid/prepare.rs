//! What comes before reinforcement learning: the encoder from imitation or from somebody's weights,
//! the reward classifier from labelled frames; or both from the files of a run that is resumed.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result};
use hilt_protocol::RigSpec;
use hilt_recording::Recording;
use tch::{Device, Kind};

use super::{ENCODER_FILE, HybridOptions};
use crate::{
    dataset::{Demonstrations, LabelledFrames, each_demonstration, each_entry, open_recording},
    encoder::Encoder,
    frames::Frames,
    imitation::train_encoder,
    reward::{
        RewardInput, RewardTraining,
        trained::{TrainedClassifier, WEIGHTS_FILE},
    },
    show::Phase,
    stopped::Stopped,
    trained_on_runs::TrainedOnRuns,
};

/// What Ctrl-C comes before.
const STOPPED: &str = "encoder and classifier were trained";

/// What the encoder of a training that begins comes from.
enum Trunk {
    /// Somebody made it.
    Made(Encoder),
    /// Imitation will make it, of these frames of demonstrations.
    Imitating(Frames),
}

/// All that the update loop starts from.
pub(super) struct Prepared {
    /// The demonstrations, with the rig's spec.
    pub demos: Recording,
    /// Mean and standard deviation of their proprioception, number by number.
    pub proprio: (Vec<f32>, Vec<f32>),
    /// The encoder, frozen from now on.
    pub encoder: Encoder,
    /// The classifier, which a person's words may still correct.
    pub reward: RewardTraining,
    /// The training to go on from.
    pub from: Option<TrainedOnRuns>,
}

/// Trains encoder and classifier, or loads them. When `stop` is set meanwhile it is an error: what is
/// half trained is not kept, for a resumed run would take it for whole.
pub(super) fn prepare(
    options: &HybridOptions,
    device: Device,
    stop: &AtomicBool,
) -> Result<Prepared> {
    let config = &options.config;
    let demos = open_recording(&options.demos, options.rig.as_ref(), (stop, STOPPED))?;
    let spec = demos.spec().clone();
    config.encoder.check(&spec.cameras)?;
    let from = (options.from.as_deref())
        .map(|dir| TrainedOnRuns::open(dir, &spec, config, device))
        .transpose()?;
    let given = given_classifier(options, &spec)?;
    let model = config.reward_model(&spec.cameras, device, options.seed)?;
    let encoder_file = options.out.join(ENCODER_FILE);
    let classifier_file = options.out.join(WEIGHTS_FILE);
    let resumed = options.resume && encoder_file.exists() && classifier_file.exists();
    if let (Some(from), false) = (&from, resumed) {
        // Before anything is trained: an agent that does not fit leaves nothing behind.
        let map = config.encoder.map_shape();
        from.begin(&mut *config.sight_agent(&spec, map, device, options.seed))?;
    }
    let mut trunk = match (resumed, &from) {
        (true, _) => None,
        (false, Some(from)) => Some(Trunk::Made(from.encoder().copy())),
        (false, None) => Some(match config.given_encoder(device, options.seed)? {
            Some(encoder) => Trunk::Made(encoder),
            None => Trunk::Imitating(Frames::begin(&options.out, &spec.cameras)?),
        }),
    };
    // A person's words count wherever they were recorded.
    let mut frames = read_labels(options, &spec, stop)?;
    let mut samples = Demonstrations::of(&spec);
    let read = each_demonstration(&demos, (stop, STOPPED), |entry| {
        frames.take(entry);
        let seen = samples.take(entry);
        if let (Some(seen), Some(Trunk::Imitating(frames))) = (seen, &mut trunk) {
            frames.push(&seen.images)?;
        }
        Ok(())
    });
    read.with_context(|| format!("--demos {}", options.demos.display()))?;
    match &given {
        _ if resumed => model.load(&classifier_file)?,
        Some(given) => model.load(&given.weights())?,
        None => {}
    }
    let mut reward = match given {
        Some(_) => RewardTraining::given(model, &frames, &spec.cameras, &config.reward),
        None => RewardTraining::new(model, &frames, &spec.cameras, &config.reward, options.seed)?,
    };
    let encoder = if let Some(trunk) = trunk {
        let encoder = train(options, &spec, &samples, trunk, &mut reward, device, stop)?;
        if let Some(given) = &given {
            given.check_encoder(Some(&encoder))?;
        }
        Stopped::check(stop, STOPPED)?;
        encoder.save(&encoder_file)?;
        reward.model().save(&classifier_file)?;
        encoder
    } else {
        let encoder = Encoder::new(config.encoder.clone(), Kind::Float, device, options.seed);
        encoder.load(&encoder_file)?;
        check_given(options, &encoder)?;
        encoder
    };
    if config.reward.input == RewardInput::Maps {
        reward.look_at_maps_of(encoder.copy());
    }
    println!("{}", in_words(&frames, &reward, given.as_ref()));
    Ok(Prepared {
        demos,
        proprio: samples.proprio_statistics(),
        encoder,
        reward,
        from,
    })
}

/// A training that is resumed stays with its encoder, whose maps are in its replay. Weights that it began with may be
/// gone meanwhile.
fn check_given(options: &HybridOptions, encoder: &Encoder) -> Result<()> {
    let config = &options.config;
    let Some(path) = config.encoder_weights.as_ref().filter(|path| path.exists()) else {
        return Ok(());
    };
    let given = config.given_encoder(encoder.params().flat().device(), options.seed)?;
    anyhow::ensure!(
        given.is_none_or(|given| given.hash() == encoder.hash()),
        "--encoder-weights {}: --out {} holds a training with another encoder; leave --encoder-weights out to go on \
         with that, or choose another folder",
        path.display(),
        options.out.display()
    );
    Ok(())
}

/// The frames that were labelled in runs of their own. A classifier that is trained already can do without.
fn read_labels(
    options: &HybridOptions,
    spec: &RigSpec,
    stop: &AtomicBool,
) -> Result<LabelledFrames> {
    let mut frames = LabelledFrames::default();
    let beside = || {
        // From its components: `demos/` is `demos`.
        let demos: PathBuf = options.demos.components().collect();
        let mut path = demos.into_os_string();
        path.push("-labels");
        PathBuf::from(path)
    };
    let dir = options.labels.clone().unwrap_or_else(beside);
    if options.labels.is_none() && options.classifier.is_some() && !dir.exists() {
        return Ok(frames);
    }
    let labels = open_recording(&dir, options.rig.as_ref(), (stop, STOPPED))?;
    anyhow::ensure!(
        labels.spec() == spec,
        "{} was recorded on another rig",
        dir.display()
    );
    each_entry(&labels, (stop, STOPPED), |entry| {
        frames.take(entry);
        Ok(())
    })?;
    Ok(frames)
}

/// The classifier to start from, if there is one and it fits.
fn given_classifier(options: &HybridOptions, spec: &RigSpec) -> Result<Option<TrainedClassifier>> {
    let Some(dir) = &options.classifier else {
        return Ok(None);
    };
    let given = TrainedClassifier::open(dir)?;
    given.check(&options.config.reward, &spec.cameras)?;
    if options.config.encoder_weights.is_none() && options.from.is_none() {
        given.check_encoder(None)?;
    }
    Ok(Some(given))
}

fn in_words(
    frames: &LabelledFrames,
    reward: &RewardTraining,
    given: Option<&TrainedClassifier>,
) -> String {
    let share = |share: Option<f64>| share.map_or("unknown".to_owned(), |s| format!("{s:.3}"));
    match given {
        Some(given) => {
            let summary = given.summary();
            format!(
                "reward classifier: {}, precision {}, recall {} when it was trained; {} labelled \
                 frames ({} successes) to go beside corrections",
                given.weights().display(),
                share(summary.precision),
                share(summary.recall),
                frames.len(),
                frames.positives(),
            )
        }
        None => {
            let held_out = reward.measure();
            format!(
                "reward classifier: {} frames ({} successes), {} steps; held out: precision {}, \
                 recall {} of {} frames",
                frames.len(),
                frames.positives(),
                reward.steps(),
                share(held_out.precision()),
                share(held_out.recall()),
                held_out.frames()
            )
        }
    }
}

/// Trains what there is not: the classifier, and the encoder where none is made.
fn train(
    options: &HybridOptions,
    spec: &RigSpec,
    demos: &Demonstrations,
    trunk: Trunk,
    reward: &mut RewardTraining,
    device: Device,
    stop: &AtomicBool,
) -> Result<Encoder> {
    let config = &options.config;
    let threads = config.train.sight_threads();
    let share = (threads + 1) / 2;
    let go_on = |_, _| !stop.load(Ordering::Relaxed);
    let judge = |reward: &mut RewardTraining| {
        let mut show = Phase::new("classifier", config.reward.steps);
        reward.train(|steps, loss| {
            show.stand(steps, loss);
            go_on(steps, loss)
        });
        show.end();
    };
    // A classifier with a trunk of its own needs no encoder.
    let on_images = config.reward.input == RewardInput::Images;
    let trained = options.classifier.is_some();
    let imitated = |frames: &Frames| {
        train_encoder(config, spec, (demos, frames), (device, options.seed), go_on)
    };
    let encoder = match &trunk {
        Trunk::Made(encoder) => encoder.copy(),
        Trunk::Imitating(frames) if trained || !on_images => imitated(frames)?,
        // The two share the cores and the time.
        Trunk::Imitating(frames) => {
            return std::thread::scope(|scope| {
                let judging = scope.spawn(|| {
                    tch::set_num_threads(share);
                    reward.train(go_on);
                });
                tch::set_num_threads(share);
                let encoder = imitated(frames);
                tch::set_num_threads(threads);
                match judging.join() {
                    Err(_) => Err(anyhow::anyhow!("the classifier's training panicked")),
                    Ok(()) => Ok(encoder?),
                }
            });
        }
    };
    if !on_images {
        reward.look_at_maps_of(encoder.copy());
    }
    if !trained {
        judge(reward);
    }
    Ok(encoder)
}
