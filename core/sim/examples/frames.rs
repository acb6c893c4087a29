//! Writes each camera's frame of a start as `sim_<camera>.png`, enlarged for looking at.
//!
//! `cargo run -p hilt-sim --example frames -- DIR [SEED [RANGE_M]]`

use std::{error::Error, path::PathBuf};

use hilt_sim::{SceneConfig, Simulation, Start, random_start};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().unwrap_or_else(|| ".".into()));
    let seed: Option<u64> = arguments.next().map(|s| s.parse()).transpose()?;
    let range_m = arguments.next().map_or(Ok(0.2), |s| s.parse())?;

    let config = SceneConfig::default();
    let mut simulation = Simulation::new(&config)?;
    simulation.reset(&seed.map_or_else(Start::default, |seed| random_start(range_m, seed)))?;
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
