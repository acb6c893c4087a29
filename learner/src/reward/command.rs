//! `hilt-learner classifier`: the reward classifier by itself, from folders of images, from run
//! logs, from HIL-SERL's files, or from all of them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, bail, ensure};
use hilt_protocol::{CameraSpec, RigSpec};
use hilt_recording::hil_serl;
use hilt_show::Show;

use super::{
    Confusion, RewardInput, RewardTraining,
    image_folders::{self, Moment, Picture},
    pickles::Pickles,
    trained::{self, Summary, hash_in_hex},
};
use crate::{
    config::LearnerConfig,
    dataset::{LabelledFrames, each_entry, open_recording},
    show::Phase,
    stopped::Stopped,
};

/// What Ctrl-C came before.
pub(super) const STOPPED: &str = "the classifier was trained";

/// Files that follow one another by name are often frames of one attempt and look alike. So that
/// what is held out is new to the classifier, a folder is cut into so many pieces, and each counts
/// as an episode.
const PIECES: usize = 20;

/// What to train from, and where to.
#[derive(Clone, Debug)]
pub struct ClassifierOptions {
    /// Folder of images that are successes; or of HIL-SERL's files, or such a file.
    pub success_dir: Option<PathBuf>,
    /// Folder of images that are not.
    pub failure_dir: Option<PathBuf>,
    /// Cameras of the images; may be empty where runs or HIL-SERL's files name them.
    pub image_keys: Vec<String>,
    /// Runs with labelled frames, or recordings of other programs.
    pub runs: Vec<PathBuf>,
    /// The rig of a recording that does not say it itself.
    pub rig: Option<RigSpec>,
    /// Folder for what comes out.
    pub out: PathBuf,
    /// Seed of every random draw.
    pub seed: u64,
    /// Hyperparameters; those of the reward and, for one on maps, of the encoder count.
    pub config: LearnerConfig,
}

/// Trains, measures and writes. When `stop` is set meanwhile it is an error, and nothing is written.
pub fn run(options: &ClassifierOptions, stop: &AtomicBool) -> Result<()> {
    let config = &options.config;
    trained::check_free(&options.out)?;
    let on_maps = config.reward.input == RewardInput::Maps;
    ensure!(
        !on_maps || config.encoder_weights.is_some(),
        "reward.input = \"maps\" needs the encoder whose maps the classifier looks at: give its \
         weights by --encoder-weights, or let it learn from the images by --set reward.input=images"
    );
    ensure!(
        !options.runs.is_empty() || options.success_dir.is_some() || options.failure_dir.is_some(),
        "there is nothing to learn from: give --success-dir and --failure-dir, or --runs"
    );
    let (cameras, frames) = gather(options, stop)?;
    // Before the training, which takes a while.
    fs::create_dir_all(&options.out)
        .with_context(|| format!("creating {}", options.out.display()))?;
    if on_maps {
        config.encoder.check(&cameras)?;
    }

    let device = config.device.resolve()?;
    tch::set_num_threads(config.train.sight_threads());
    let encoder = match on_maps {
        true => config.given_encoder(device, options.seed)?,
        false => None,
    };
    let encoder_hash = encoder.as_ref().map(hash_in_hex);
    let model = config.reward_model(&cameras, device, options.seed)?;
    let mut training =
        RewardTraining::new(model, &frames, &cameras, &config.reward, options.seed)
            .context("give images of both kinds by --success-dir and --failure-dir, or runs with both labels by --runs")?;
    if let Some(encoder) = encoder {
        training.look_at_maps_of(encoder);
    }
    println!(
        "classifier: {} frames ({} successes) of {}, {} steps",
        frames.len(),
        frames.positives(),
        (cameras.iter().map(|c| &*c.name))
            .collect::<Vec<_>>()
            .join(", "),
        config.reward.steps
    );
    let mut show = Phase::new("classifier", config.reward.steps);
    training.train(|steps, loss| {
        show.stand(steps, loss);
        !stop.load(Ordering::Relaxed)
    });
    show.end();
    Stopped::check(stop, STOPPED)?;
    let held_out = training.measure();
    print!("{}", table(&held_out, config.reward.threshold));
    let summary = Summary {
        cameras,
        encoder_hash,
        reward: config.reward.clone(),
        seed: options.seed,
        frames: frames.len(),
        successes: frames.positives(),
        steps: training.steps(),
        held_out,
        precision: held_out.precision(),
        recall: held_out.recall(),
    };
    trained::write(&options.out, config, training.model(), &summary)?;
    println!("classifier: written to {}", options.out.display());
    Ok(())
}

/// All labelled frames, and the cameras that they are from.
fn gather(
    options: &ClassifierOptions,
    stop: &AtomicBool,
) -> Result<(Vec<CameraSpec>, LabelledFrames)> {
    let mut frames = LabelledFrames::default();
    let (mut folders, mut pickles) = (Vec::new(), Vec::new());
    for (dir, label) in [(&options.success_dir, true), (&options.failure_dir, false)] {
        let Some(dir) = dir else { continue };
        match hil_serl::is_there(dir) {
            true => pickles.push(Pickles::open(dir, Some(label))?),
            false => folders.push((dir, label)),
        }
    }
    let mut rig: Option<(&Path, Vec<CameraSpec>)> = None;
    for dir in &options.runs {
        if hil_serl::is_there(dir) {
            pickles.push(Pickles::open(dir, None)?);
            continue;
        }
        let recording = open_recording(dir, options.rig.as_ref(), (stop, STOPPED))?;
        let theirs = &recording.spec().cameras;
        match &rig {
            Some((first, cameras)) => ensure!(
                cameras == theirs,
                "--runs {} was recorded with other cameras than {}",
                dir.display(),
                first.display()
            ),
            None => rig = Some((dir, theirs.clone())),
        }
        let mut labelled = LabelledFrames::default();
        each_entry(&recording, (stop, STOPPED), |entry| {
            labelled.take(entry);
            Ok(())
        })?;
        frames.append(labelled);
    }
    let cameras = match (rig, pickles.first()) {
        (Some((dir, cameras)), _) => {
            check_keys(&options.image_keys, &cameras, dir)?;
            cameras
        }
        (None, Some(first)) if options.image_keys.is_empty() => {
            cameras_of(&first.keys(), image_side(&options.config)?)?
        }
        _ => cameras_of(&options.image_keys, image_side(&options.config)?)?,
    };
    for (dir, label) in folders {
        frames.append(read_folder(dir, label, &cameras, stop)?);
    }
    for pickles in pickles {
        let mut resized = Resized::default();
        let note = |k, picture: &Picture| resized.note(k, picture, &cameras[k]);
        frames.append(pickles.read(&cameras, PIECES, stop, note)?);
        resized.tell(pickles.path(), &cameras);
    }
    Ok((cameras, frames))
}

/// Images per camera and size in the file, of those that were resized.
#[derive(Default)]
struct Resized(BTreeMap<(usize, (u32, u32)), usize>);

impl Resized {
    fn note(&mut self, k: usize, picture: &Picture, camera: &CameraSpec) {
        if picture.in_file != (camera.width, camera.height) {
            *self.0.entry((k, picture.in_file)).or_default() += 1;
        }
    }

    fn tell(self, from: &Path, cameras: &[CameraSpec]) {
        for ((k, (width, height)), count) in self.0 {
            let CameraSpec {
                name,
                height: to_height,
                width: to_width,
            } = &cameras[k];
            println!(
                "{}: {count} images of {name} are resized from {width}×{height} to {to_width}×{to_height} pixels",
                from.display()
            );
        }
    }
}

/// Side of the images that the configured classifier looks at, pixels.
fn image_side(config: &LearnerConfig) -> Result<u32> {
    let (key, side) = match config.reward.input {
        RewardInput::Images => ("reward.trunk.image_size", config.reward.trunk.image_size),
        RewardInput::Maps => ("encoder.image_size", config.encoder.image_size),
    };
    match u32::try_from(side) {
        Ok(side @ 16..=4096) => Ok(side),
        _ => bail!("{key} is {side}; it must be 16 to 4096"),
    }
}

/// Image keys as cameras; without a rig they are all that is known of one.
fn cameras_of(keys: &[String], side: u32) -> Result<Vec<CameraSpec>> {
    ensure!(
        !keys.is_empty(),
        "--image-keys is missing: it names the cameras of the images, as --image-keys front,wrist"
    );
    for (i, key) in keys.iter().enumerate() {
        ensure!(!key.is_empty(), "--image-keys has an empty name");
        ensure!(!keys[..i].contains(key), "--image-keys names {key} twice");
    }
    let camera = |key: &String| CameraSpec {
        name: key.clone(),
        height: side,
        width: side,
    };
    Ok(keys.iter().map(camera).collect())
}

/// Keys that are given besides runs must be the runs' cameras.
fn check_keys(keys: &[String], cameras: &[CameraSpec], runs: &Path) -> Result<()> {
    let mut given: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut theirs: Vec<&str> = cameras.iter().map(|c| &*c.name).collect();
    let named = theirs.join(",");
    given.sort_unstable();
    theirs.sort_unstable();
    ensure!(
        given.is_empty() || given == theirs,
        "--image-keys {}: the cameras of --runs {} are {named}; give these, or leave it out",
        keys.join(","),
        runs.display()
    );
    Ok(())
}

/// Reads the images of a folder, all of one label.
fn read_folder(
    dir: &Path,
    label: bool,
    cameras: &[CameraSpec],
    stop: &AtomicBool,
) -> Result<LabelledFrames> {
    let keys: Vec<String> = cameras.iter().map(|c| c.name.clone()).collect();
    let moments = image_folders::moments(dir, &keys)?;
    let mut show = Show::new("images", Some(moments.len() as u64));
    let mut frames = LabelledFrames::default();
    let mut resized = Resized::default();
    for (i, moment) in moments.iter().enumerate() {
        show.stand(i as u64, || format!("images of {}", dir.display()));
        Stopped::check(stop, STOPPED)?;
        let images = read_moment(moment, cameras, &mut resized)?;
        frames.push(images, label, (i * PIECES / moments.len()) as u64);
    }
    show.end();
    resized.tell(dir, cameras);
    Ok(frames)
}

fn read_moment(
    moment: &Moment,
    cameras: &[CameraSpec],
    resized: &mut Resized,
) -> Result<Vec<std::sync::Arc<[u8]>>> {
    let mut images = Vec::new();
    for (k, (path, camera)) in moment.iter().zip(cameras).enumerate() {
        let picture = image_folders::read(path, camera.width, camera.height)?;
        resized.note(k, &picture, camera);
        images.push(picture.rgb);
    }
    Ok(images)
}

/// What it says of the frames that it was not trained on.
fn table(held_out: &Confusion, threshold: f64) -> String {
    if held_out.frames() == 0 {
        return "held out: nothing, so precision and recall are not known; give more images or \
                episodes, or a larger reward.held_out\n"
            .to_owned();
    }
    let share = |share: Option<f64>| share.map_or("unknown".to_owned(), |s| format!("{s:.3}"));
    format!(
        "held out: {} frames\n\
         {:24}{:>12}{:>12}\n\
         {:24}{:>12}{:>12}\n\
         {:24}{:>12}{:>12}\n\
         precision {}, recall {} at a threshold of {threshold}\n",
        held_out.frames(),
        "",
        "are success",
        "are not",
        "  called success",
        held_out.true_positives,
        held_out.false_positives,
        "  not called so",
        held_out.false_negatives,
        held_out.true_negatives,
        share(held_out.precision()),
        share(held_out.recall()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|&key| key.to_owned()).collect()
    }

    #[test]
    fn keys_become_cameras_and_bad_ones_are_refused() {
        let cameras = cameras_of(&keys(&["wrist", "front"]), 64).unwrap();
        assert_eq!((&*cameras[0].name, cameras[1].width), ("wrist", 64));
        for (bad, word) in [
            (&[][..], "--image-keys front,wrist"),
            (&["a", "b", "a"], "a twice"),
            (&["a", ""], "empty"),
        ] {
            let error = cameras_of(&keys(bad), 64).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let runs = Path::new("demos");
        for good in [&[][..], &["front", "wrist"], &["wrist", "front"]] {
            assert!(check_keys(&keys(good), &cameras, runs).is_ok());
        }
        let error = check_keys(&keys(&["front"]), &cameras, runs).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("demos are wrist,front"), "{error}");
    }

    /// Six rows of each kind, named as `record_success_fail.py` leaves them.
    #[test]
    fn hil_serl_s_files_are_gathered_by_their_names_or_as_they_are_given() {
        let dir = tempfile::tempdir().unwrap();
        let (good, bad) = ("task_6_success_images.pkl", "task_failure_images.pkl");
        for name in [good, bad] {
            crate::reward::pickles::tests::write(&dir.path().join(name));
        }
        let mut options = ClassifierOptions {
            success_dir: None,
            failure_dir: None,
            image_keys: vec![],
            runs: vec![dir.path().to_owned()],
            rig: None,
            out: dir.path().join("out"),
            seed: 1,
            config: LearnerConfig::resolve("lift", None, &[]).unwrap(),
        };
        let stop = AtomicBool::new(false);
        let (cameras, frames) = gather(&options, &stop).unwrap();
        let side = image_side(&options.config).unwrap();
        let seen: Vec<_> = (cameras.iter())
            .map(|c| (&*c.name, c.height, c.width))
            .collect();
        assert_eq!(seen, [("front", side, side), ("wrist", side, side)]);
        assert_eq!((frames.len(), frames.positives()), (12, 6));
        assert_eq!(frames.images[0][1].len(), (side * side * 3) as usize);

        options.runs.clear();
        options.success_dir = Some(dir.path().join(good));
        options.failure_dir = Some(dir.path().join(bad));
        options.image_keys = keys(&["wrist"]);
        let (cameras, frames) = gather(&options, &stop).unwrap();
        assert_eq!(
            (cameras.len(), frames.len(), frames.positives()),
            (1, 12, 6)
        );
        // What is held out of one file says nothing of the other.
        assert!(
            frames.episode[..6]
                .iter()
                .all(|e| !frames.episode[6..].contains(e))
        );

        options.failure_dir = Some(dir.path().join(good));
        let error = gather(&options, &stop).err().unwrap().to_string();
        assert!(
            error.contains(good) && error.contains("the other kind"),
            "{error}"
        );
    }

    #[test]
    fn the_table_tells_all_four_kinds_and_what_is_not_known() {
        let confusion = Confusion {
            true_positives: 12,
            false_positives: 4,
            false_negatives: 0,
            true_negatives: 17,
        };
        let text = table(&confusion, 0.75);
        let wanted = "held out: 33 frames\n\
            \x20                        are success     are not\n\
            \x20 called success                  12           4\n\
            \x20 not called so                    0          17\n\
            precision 0.750, recall 1.000 at a threshold of 0.75\n";
        assert_eq!(text, wanted);
        let one_kind = Confusion {
            true_negatives: 3,
            ..Confusion::default()
        };
        assert!(table(&one_kind, 0.5).contains("precision unknown, recall unknown"));
        assert!(table(&Confusion::default(), 0.5).contains("nothing"));
    }
}
