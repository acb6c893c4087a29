//! `hilt-learner render`: videos of a trained policy, and of which.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../core/recording/tests/support/ffmpeg.rs"]
mod ffmpeg;

use std::{
    fs,
    path::Path,
    process::Command,
    sync::atomic::AtomicBool,
    time::{Duration, SystemTime},
};

use ffmpeg::has_ffmpeg;
use hilt_learner::{
    config::{Algorithm, DeviceChoice, LearnerConfig},
    evaluation::{
        command::{self, EvaluateOptions, Length},
        render::{self, RenderOptions},
    },
    trained::{self, About},
    trainings::newest,
    vectors::Scaling,
};
use tch::Device;

fn says(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "{word}: {error}");
    }
}

/// What `hilt-learner render` is asked for.
fn filming(run: &Path, out: &Path) -> RenderOptions {
    RenderOptions {
        run: run.to_owned(),
        env: None,
        out: out.to_owned(),
        episodes: 2,
        seed: 5,
        size: [64, 48],
        frames_per_s: 10.0,
        device: DeviceChoice::Cpu,
    }
}

/// A training's folder as it is left: an agent that has learned nothing, in this place of it.
fn trained_folder(dir: &Path, place: &str) {
    tch::set_num_threads(1);
    let sets = ["algorithm=sac", "sac.hidden=[16,16]"].map(str::to_owned);
    let config = LearnerConfig::resolve("lift", None, &sets).unwrap();
    let agent = config.agent(3, 1, Device::Cpu, 5).unwrap();
    let about = About {
        algorithm: Algorithm::Sac,
        observations: 3,
        actions: 1,
        env: Some("Pendulum-v1".into()),
        updates: 0,
        scaling: Scaling::default(),
    };
    fs::create_dir_all(dir.join(place)).unwrap();
    trained::write(&dir.join(place), &*agent, &about, &config).unwrap();
    fs::write(dir.join("training.json"), "{}").unwrap();
}

#[test]
fn videos_are_named_by_episode_and_return() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (run, out) = (dir.path().join("sac"), dir.path().join("videos"));
    trained_folder(&run, "export");
    let options = filming(&run, &out);
    let filmed = render::run(&options, &AtomicBool::new(false)).unwrap();
    // As it is judged from the same seeds.
    let judged = EvaluateOptions {
        policy: run.clone(),
        env: None,
        length: Length::Episodes(2),
        seed: 5,
        stochastic: false,
        log: None,
        video: None,
        device: DeviceChoice::Cpu,
    };
    let judged = command::run(&judged, &AtomicBool::new(false)).unwrap();
    assert_eq!(filmed, judged);
    let mut names: Vec<String> = (fs::read_dir(&out).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let wanted = (1..).zip(&judged.returns);
    let wanted: Vec<String> = wanted
        .map(|(i, sum)| format!("episode_{i}_return_{sum:.1}.mp4"))
        .collect();
    assert_eq!(names, wanted);
    // A second of 20 steps is 10 pictures.
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-of", "csv=p=0", "-show_entries"])
        .arg("stream=width,height,r_frame_rate")
        .arg(out.join(&names[0]))
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(probed.stdout).unwrap().trim(),
        "64,48,10/1"
    );
    let again = render::run(&options, &AtomicBool::new(false)).unwrap_err();
    says(
        &format!("{again:#}"),
        &["--out", "holds videos", "another folder"],
    );
}

#[test]
fn the_training_whose_policy_was_written_last_is_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let none = format!("{:#}", newest(dir.path()).unwrap_err());
    says(
        &none,
        &["training.json", "best/", "hilt-learner render FOLDER"],
    );
    let hours_ago = |path: &Path, hours: u64| {
        let time = SystemTime::now() - Duration::from_secs(3600 * hours);
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    };
    for (name, place, hours) in [
        ("one", "best", 3),
        ("runs/two", "export", 2),
        ("three", "export", 4),
    ] {
        let run = dir.path().join(name);
        trained_folder(&run, place);
        hours_ago(&run.join(place).join("policy.json"), hours);
    }
    // Begun, but without a policy yet; and a policy that nobody trained here.
    fs::create_dir(dir.path().join("begun")).unwrap();
    fs::write(dir.path().join("begun/training.json"), "{}").unwrap();
    trained_folder(&dir.path().join("copied"), "export");
    fs::remove_file(dir.path().join("copied/training.json")).unwrap();
    assert_eq!(newest(dir.path()).unwrap(), dir.path().join("runs/two"));
    hours_ago(&dir.path().join("one/best/policy.json"), 1);
    assert_eq!(newest(dir.path()).unwrap(), dir.path().join("one"));
    // One of a batch; and a file of that name by another program.
    let batch = dir.path().join("runs/batch");
    let seed = batch.join("hopper/seed-2");
    trained_folder(&seed, "best");
    let sources = r#"{"hopper": {"path": "/data/hopper.npz", "env": null}, "gone": {"path": "/gone", "env": null}}"#;
    fs::write(batch.join("batch.json"), sources).unwrap();
    fs::write(dir.path().join("three/batch.json"), "[]").unwrap();
    assert_eq!(newest(dir.path()).unwrap(), seed);
}

#[test]
fn what_cannot_be_filmed_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (run, out) = (dir.path().join("sac"), dir.path().join("videos"));
    trained_folder(&run, "best");
    let error = |change: &dyn Fn(&mut RenderOptions)| {
        let mut options = filming(&run, &out);
        change(&mut options);
        format!(
            "{:#}",
            render::run(&options, &AtomicBool::new(false)).unwrap_err()
        )
    };
    says(&error(&|o| o.size = [65, 48]), &["65×48", "even"]);
    says(&error(&|o| o.episodes = 0), &["--episodes 0"]);
    says(&error(&|o| o.frames_per_s = f64::NAN), &["--fps NaN"]);
    says(
        &error(&|o| o.run = dir.path().join("nowhere")),
        &["nowhere", "policy.json"],
    );
    says(
        &error(&|o| o.env = Some("Hopper".into())),
        &["Hopper", "Pendulum-v1"],
    );
    // Without ffmpeg, as on a computer that lacks it; beside a training, which is found.
    let asked = Command::new(env!("CARGO_BIN_EXE_hilt-learner"))
        .args(["render", "--out", "videos"])
        .current_dir(dir.path())
        .env("PATH", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(asked.stderr).unwrap();
    assert!(!asked.status.success());
    says(&said, &["ffmpeg", "apt install ffmpeg"]);
    let left = fs::read_dir(&out).map_or(0, Iterator::count);
    assert_eq!(left, 0, "nothing half-made is left");
}
