//! `hilt-learner classifier` from images on disk to the robot's inference, and on to a training
//! that starts from it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use hilt_learner::{
    config::LearnerConfig, onnx::Weights, presets, reward::model::RewardModel,
    reward::trained::Summary,
};
use hilt_protocol::{Graph, GraphName, Image, Observation, noise::Uniforms};
use hilt_runtime::inference::{Engine, OnnxBrain, PolicyFiles, Provider};
use hilt_tests::{Program, Stage, Untrained, entries_of, learner, one_at_a_time};
use image::{Rgb, RgbImage};
use tch::{Device, Tensor};

/// Small and quick. The networks stay the preset's: a hybrid training has to take them over.
const SMALL: [&str; 4] = [
    "reward.steps=60",
    "reward.batch=16",
    "reward.held_out=0.3",
    "train.threads=1",
];

/// Red where the task succeeded, blue where it did not, and a little noise.
fn picture(success: bool, width: u32, height: u32, random: &mut Uniforms) -> RgbImage {
    let colour = if success {
        [190, 40, 40]
    } else {
        [40, 40, 190]
    };
    RgbImage::from_fn(width, height, |_, _| {
        Rgb(colour.map(|level| level + random.below(32) as u8))
    })
}

/// Images of both cameras: the front's in the classifier's size, the wrist's larger and as JPEG.
fn write_images(dir: &Path, success: bool, moments: usize) {
    let mut random = Uniforms::new(u64::from(success));
    for key in ["front", "wrist"] {
        fs::create_dir_all(dir.join(key)).unwrap();
    }
    for i in 0..moments {
        let save = |image: RgbImage, name: String| image.save(dir.join(name)).unwrap();
        save(
            picture(success, 64, 64, &mut random),
            format!("front/{i:04}.png"),
        );
        save(
            picture(success, 96, 72, &mut random),
            format!("wrist/{i:04}.jpg"),
        );
    }
}

/// A stage with folders `good` and `bad`.
fn stage_with_images() -> Stage {
    let stage = Stage::new();
    write_images(&stage.path("good"), true, 24);
    write_images(&stage.path("bad"), false, 24);
    stage
}

fn classifier(out: PathBuf) -> Command {
    let mut command = learner();
    command.arg("classifier").arg("--out").arg(out);
    for setting in SMALL {
        command.args(["--set", setting]);
    }
    command
}

fn from_folders(stage: &Stage, out: &str) -> Command {
    let mut command = classifier(stage.path(out));
    command
        .arg("--success-dir")
        .arg(stage.path("good"))
        .arg("--failure-dir")
        .arg(stage.path("bad"))
        .args(["--image-keys", "front,wrist"]);
    command
}

fn start(command: &mut Command) -> Program {
    Program::start("hilt-learner classifier", command)
}

fn summary(out: &Path) -> Summary {
    serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap()
}

/// What the learner's own network says of an observation, in libtorch.
fn in_libtorch(out: &Path, rig: &Untrained, seen: &Observation) -> f64 {
    let config = LearnerConfig::resolve(presets::DEFAULT, None, &[]).unwrap();
    let (network, trunk) = (config.reward.network, config.reward.trunk);
    let model = RewardModel::on_images(network, trunk, &rig.spec.cameras, Device::Cpu, 9).unwrap();
    model.load(&out.join("classifier.safetensors")).unwrap();
    let images = seen.images.iter();
    let images: Vec<Tensor> = images
        .map(|image| Tensor::from_slice(&image.rgb).view([1, 64, 64, 3]))
        .collect();
    model.probability(&images).double_value(&[0])
}

#[test]
fn colours_are_learned_from_folders_and_the_robot_says_the_same() {
    let _turn = one_at_a_time();
    let stage = stage_with_images();
    let out = stage.path("classifier");
    let said = start(&mut from_folders(&stage, "classifier")).ends_well();
    for words in [
        "24 images of wrist are resized from 96×72 to 64×64 pixels",
        "48 frames (24 successes) of front, wrist, 60 steps",
        "precision 1.000, recall 1.000",
    ] {
        assert!(said.contains(words), "`{words}` is not in:\n{said}");
    }
    assert!(!said.contains("images of front are resized"), "{said}");
    let made = summary(&out);
    assert_eq!((made.precision, made.recall), (Some(1.0), Some(1.0)));
    assert_eq!(
        (made.frames, made.successes, made.steps, made.seed),
        (48, 24, 60, 1)
    );
    assert!(made.held_out.true_positives > 0 && made.held_out.true_negatives > 0);
    let config = fs::read_to_string(out.join("config.toml")).unwrap();
    assert!(config.contains("steps = 60"), "{config}");

    let rig = Untrained::new(1).unwrap();
    let policy = rig.graphs(Weights::Baked);
    let files = PolicyFiles {
        classifier: Some(Graph {
            name: GraphName::Classifier,
            spec: rig.spec.hash(),
            onnx: fs::read(out.join("classifier.onnx")).unwrap(),
        }),
        ..policy
    };
    let engine = Engine::open(&[Provider::Cpu], 1).unwrap();
    let mut brain = OnnxBrain::load(&engine, &rig.spec, &files, |_| None).unwrap();
    let mut random = Uniforms::new(77);
    for success in [true, false, true, false] {
        let image = |_| Image {
            captured_ns: 0,
            height: 64,
            width: 64,
            rgb: picture(success, 64, 64, &mut random)
                .into_raw()
                .into_iter()
                .collect::<Arc<[u8]>>(),
        };
        let seen = Observation {
            captured_ns: 0,
            proprio: vec![0.0; rig.spec.proprio_dim()],
            images: (0..2).map(image).collect(),
        };
        let robot = f64::from(brain.judge(&seen).unwrap().unwrap());
        assert!((robot - in_libtorch(&out, &rig, &seen)).abs() < 1e-4);
        assert_eq!(robot > 0.75, success, "{robot}");
    }
}

#[test]
fn labelled_frames_of_runs_are_enough_and_go_together_with_folders() {
    let _turn = one_at_a_time();
    let stage = stage_with_images();
    let runs = stage.path("demos-labels");
    let labelled = (entries_of(&runs).iter())
        .filter(
            |entry| matches!(&entry.record, hilt_protocol::Record::Step(s) if s.label.is_some()),
        )
        .count();
    let out = stage.path("from-runs");
    start(classifier(out.clone()).arg("--runs").arg(&runs)).ends_well();
    assert_eq!(summary(&out).frames, labelled);
    assert!(out.join("classifier.onnx").exists());

    let mut both = from_folders(&stage, "from-both");
    start(both.arg("--runs").arg(&runs)).ends_well();
    assert_eq!(summary(&stage.path("from-both")).frames, labelled + 48);
}

/// It must be refused, with all of these words, and nothing may be written.
fn refused(command: &mut Command, out: &Path, words: &[&str]) {
    let said = start(command).ends_with(1);
    for word in words {
        assert!(said.contains(word), "`{word}` is not in:\n{said}");
    }
    assert!(!out.join("classifier.safetensors").exists());
    assert!(!out.join("summary.json").exists());
}

#[test]
fn what_cannot_be_learned_from_is_refused_with_the_remedy() {
    let _turn = one_at_a_time();
    let stage = stage_with_images();
    let out = stage.path("refused");
    let folders = || from_folders(&stage, "refused");
    refused(&mut classifier(out.clone()), &out, &["--success-dir"]);
    refused(
        folders().args(["--preset", "hil-serl"]),
        &out,
        &["maps", "--encoder-weights"],
    );
    refused(
        classifier(out.clone())
            .args(["--image-keys", "front", "--success-dir"])
            .arg(stage.path("good")),
        &out,
        &["no frame is labelled a failure", "--failure-dir"],
    );
    refused(
        folders()
            .args(["--image-keys", "side", "--runs"])
            .arg(stage.path("demos-labels")),
        &out,
        &["are front,wrist"],
    );
    refused(
        folders()
            .args(["--set", "reward.trunk.image_size=32", "--runs"])
            .arg(stage.path("demos-labels")),
        &out,
        &["front", "64×64", "reward.trunk.image_size"],
    );
    // It would change nothing: the classifier has a trunk of its own.
    refused(
        folders()
            .arg("--encoder-weights")
            .arg(stage.path("good/front/0000.png")),
        &out,
        &["--encoder-weights", "reward.input=maps"],
    );
    let broken = stage.path("bad").join("wrist/0007.jpg");
    let whole = fs::read(&broken).unwrap();
    fs::write(&broken, &whole[..whole.len() / 2]).unwrap();
    refused(
        &mut folders(),
        &out,
        &["bad/wrist/0007.jpg", "cut off", "save it anew"],
    );
    fs::remove_file(&broken).unwrap();
    refused(
        &mut folders(),
        &out,
        &["bad/front/0007.png", "put 0007.png or 0007.jpg"],
    );
}

#[test]
fn a_training_cut_short_leaves_nothing_and_a_finished_one_stays() {
    let _turn = one_at_a_time();
    let stage = stage_with_images();
    let out = stage.path("classifier");
    let mut endless = from_folders(&stage, "classifier");
    endless.args(["--set", "reward.steps=1000000"]);
    let mut program = start(&mut endless);
    program.says("1000000 steps");
    program.interrupt();
    let said = program.ends_with(130);
    assert!(
        said.contains("stopped before the classifier was trained"),
        "{said}"
    );
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);

    start(&mut from_folders(&stage, "classifier")).ends_well();
    let weights = fs::read(out.join("classifier.safetensors")).unwrap();
    let said = start(from_folders(&stage, "classifier").args(["--seed", "2"])).ends_with(1);
    assert!(said.contains("choose another folder"), "{said}");
    assert_eq!(
        fs::read(out.join("classifier.safetensors")).unwrap(),
        weights
    );
    let names = fs::read_dir(&out).unwrap();
    let partial = |name: &std::ffi::OsString| name.to_string_lossy().ends_with("partial");
    assert!(
        !names
            .map(|name| name.unwrap().file_name())
            .any(|n| partial(&n))
    );
}

#[test]
fn a_hybrid_training_starts_from_it_without_a_folder_of_labels() {
    let _turn = one_at_a_time();
    let stage = stage_with_images();
    start(&mut from_folders(&stage, "classifier")).ends_well();
    fs::remove_dir_all(stage.path("demos-labels")).unwrap();
    let given = stage.path("classifier");
    let given = given.to_str().unwrap();

    let other = ["--classifier", given, "--set", "reward.network.hidden=32"];
    let said = stage.start_learner(&other).ends_with(1);
    assert!(said.contains("--set 'reward.network.hidden=64'"), "{said}");

    let its_folder = &mut stage.hybrid("classifier");
    let said = Program::start("the learner", its_folder).ends_with(1);
    assert!(said.contains("choose another folder"), "{said}");

    let mut learner = stage.start_learner(&["--classifier", given]);
    let mut actor = stage.start_actor();
    hilt_tests::until("updates", &mut [&mut learner, &mut actor], || {
        stage.policy_of_actor().1 > 0
    });
    learner.interrupt();
    let said = learner.ends_well();
    actor.ends_well();
    assert!(
        said.contains("precision 1.000, recall 1.000 when it was trained"),
        "{said}"
    );
    // Nobody has corrected it: it is what was given.
    let judge = |folder: &str| stage.path(folder).join("classifier.safetensors");
    let weights = |path: PathBuf| {
        let mut tensors = Tensor::read_safetensors(path).unwrap();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        tensors
    };
    let (own, of_training) = (weights(judge("classifier")), weights(judge("learner")));
    assert_eq!(own.len(), of_training.len());
    for ((name, a), (other, b)) in own.iter().zip(&of_training) {
        assert!(name == other && a == b, "{name}");
    }
    assert!(stage.path("learner/export/classifier.onnx").exists());
}

#[test]
fn a_classifier_on_maps_goes_with_its_own_encoder_only() {
    let _turn = one_at_a_time();
    let stage = stage_with_images();
    let encoders = [1, 2].map(|seed| {
        let path = stage.path(&format!("encoder-{seed}.safetensors"));
        Untrained::new(seed).unwrap().encoder.save(&path).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let on_maps = |encoder| ["--set", "reward.input=maps", "--encoder-weights", encoder];
    let out = stage.path("classifier");
    start(from_folders(&stage, "classifier").args(on_maps(&encoders[0]))).ends_well();
    let made = summary(&out);
    assert_eq!((made.precision, made.recall), (Some(1.0), Some(1.0)));
    assert_eq!(made.cameras, Untrained::new(1).unwrap().spec.cameras);

    let given = ["--classifier", out.to_str().unwrap()];
    let start_learner = |arguments: &[&str]| stage.start_learner(&[&given, arguments].concat());
    let said = start_learner(&[]).ends_with(1);
    assert!(said.contains("--set 'reward.input=maps'"), "{said}");
    for unfit in [&on_maps(&encoders[1])[..], &["--set", "reward.input=maps"]] {
        let said = start_learner(unfit).ends_with(1);
        assert!(said.contains("maps of another encoder"), "{said}");
    }
    let mut learner = start_learner(&on_maps(&encoders[0]));
    learner.says("when it was trained");
    learner.says("replay: ");
    learner.interrupt();
    learner.ends_well();
}
