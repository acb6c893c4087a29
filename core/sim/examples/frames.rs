//! Writes each camera's frame of a start as `sim_<camera>.png`, enlarged for looking at.
//!
//! `cargo run -p hilt-sim --example frames -- DIR [SEED [RANGE_M [RIG]]]`, where RIG is a rig's file with
//! the scene to draw; without one it is the default.

use std::{error::Error, path::PathBuf};

use hilt_protocol::settings;
use hilt_sim::{SceneConfig, Simulation};
use serde::Deserialize;

/// The part of a rig's file that is looked at.
#[derive(Deserialize)]
struct Rig {
    scene: SceneConfig,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().unwrap_or_else(|| ".".into()));
    let seed: Option<u64> = arguments.next().map(|s| s.parse()).transpose()?;
    let range_m = arguments.next().map_or(Ok(0.2), |s| s.parse())?;

    let config = match arguments.next() {
        Some(rig) => {
            let text = std::fs::read_to_string(&rig)?;
            settings::parse::<Rig>(&rig, &text, &[])?.scene
        }
        None => SceneConfig::default(),
    };
    let task = config.arm.task();
    let mut simulation = Simulation::new(&config)?;
    simulation
        .reset(&seed.map_or_else(|| task.start(), |seed| task.random_start(range_m, seed)))?;
    for (index, camera) in config.cameras.iter().enumerate() {
        let mut rgb = vec![0; (camera.width * camera.height * 3) as usize];
        simulation.render(index, &mut rgb)?;
        let frame = image::RgbImage::from_raw(camera.width, camera.height, rgb)
            .ok_or("a frame of another size")?;
        let scale = (512 / camera.height).max(1);
        let (width, height) = (camera.width * scale, camera.height * scale);
        let nearest = image::imageops::FilterType::Nearest;
        let path = directory.join(format!("sim_{}.png", camera.name));
        image::imageops::resize(&frame, width, height, nearest).save(&path)?;
        println!("{}", path.display());
    }
    println!("{:?}", simulation.truth());
    Ok(())
}
