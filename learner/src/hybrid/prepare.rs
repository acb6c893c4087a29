//! What comes before reinforcement learning: the encoder from imitation or from somebody's weights,
//! the reward classifier from labelled frames; or both from the files of a run that is resumed.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Result;
use hilt_protocol::{Entry, RigSpec};
use tch::{Device, Kind};

use super::HybridOptions;
use crate::{
    dataset::{LabelledFrames, read_all, read_demonstrations},
    encoder::Encoder,
    imitation::train_encoder,
    reward::{
        RewardInput, RewardTraining,
        trained::{TrainedClassifier, WEIGHTS_FILE},
    },
    show::Phase,
    stopped::Stopped,
    trained_on_runs::TrainedOnRuns,
};

/// All that the update loop starts from.
pub(super) struct Prepared {
    /// The rig's spec.
    pub spec: RigSpec,
    /// The demonstrations.
    pub demos: Vec<Entry>,
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
    let (spec, demos) = read_demonstrations(&options.demos, options.rig.as_ref())?;
    let labels = read_labels(options, &spec)?;
    config.encoder.check(&spec.cameras)?;
    let from = (options.from.as_deref())
        .map(|dir| TrainedOnRuns::open(dir, &spec, config, device))
        .transpose()?;
    // A person's words count wherever they were recorded.
    let frames = LabelledFrames::from_entries(&[labels, demos.clone()].concat());
    let given = given_classifier(options, &spec)?;
    let model = config.reward_model(&spec.cameras, device, options.seed)?;
    let encoder_file = options.out.join("encoder.safetensors");
    let classifier_file = options.out.join(WEIGHTS_FILE);
    let resumed = options.resume && encoder_file.exists() && classifier_file.exists();
    if let (Some(from), false) = (&from, resumed) {
        // Before anything is trained: an agent that does not fit leaves nothing behind.
        let map = config.encoder.map_shape();
        from.begin(&mut *config.sight_agent(&spec, map, device, options.seed))?;
    }
    match &given {
        _ if resumed => model.load(&classifier_file)?,
        Some(given) => model.load(&given.weights())?,
        None => {}
    }
    let mut reward = match given {
        Some(_) => RewardTraining::given(model, &frames, &spec.cameras, &config.reward),
        None => RewardTraining::new(model, &frames, &spec.cameras, &config.reward, options.seed)?,
    };
    let encoder = if resumed {
        let encoder = Encoder::new(config.encoder.clone(), Kind::Float, device, options.seed);
        encoder.load(&encoder_file)?;
        check_given(options, &encoder)?;
        encoder
    } else {
        let made = match &from {
            Some(from) => Some(from.encoder().copy()),
            None => config.given_encoder(device, options.seed)?,
        };
        let encoder = train(options, &spec, &demos, made, &mut reward, device, stop)?;
        if let Some(given) = &given {
            given.check_encoder(Some(&encoder))?;
        }
        Stopped::check(stop, "encoder and classifier were trained")?;
        encoder.save(&encoder_file)?;
        reward.model().save(&classifier_file)?;
        encoder
    };
    if config.reward.input == RewardInput::Maps {
        reward.look_at_maps_of(encoder.copy());
    }
    println!("{}", in_words(&frames, &reward, given.as_ref()));
    Ok(Prepared {
        spec,
        demos,
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

/// The runs with labelled frames. A classifier that is trained already can do without.
fn read_labels(options: &HybridOptions, spec: &RigSpec) -> Result<Vec<Entry>> {
    let beside = || {
        // From its components: `demos/` is `demos`.
        let demos: PathBuf = options.demos.components().collect();
        let mut path = demos.into_os_string();
        path.push("-labels");
        PathBuf::from(path)
    };
    let dir = options.labels.clone().unwrap_or_else(beside);
    if options.labels.is_none() && options.classifier.is_some() && !dir.exists() {
        return Ok(Vec::new());
    }
    let (theirs, labels) = read_all(&dir, options.rig.as_ref())?;
    anyhow::ensure!(
        theirs == *spec,
        "{} was recorded on another rig",
        dir.display()
    );
    Ok(labels)
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
    demos: &[Entry],
    made: Option<Encoder>,
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
    let encoder = match made {
        Some(encoder) => encoder,
        None if trained || !on_images => {
            train_encoder(config, spec, demos, (device, options.seed), go_on)?
        }
        // The two share the cores and the time.
        None => {
            return std::thread::scope(|scope| {
                let judging = scope.spawn(|| {
                    tch::set_num_threads(share);
                    reward.train(go_on);
                });
                tch::set_num_threads(share);
                let encoder = train_encoder(config, spec, demos, (device, options.seed), go_on);
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
