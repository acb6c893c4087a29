//! What the drivers cost, one JSON row per figure: `cargo xtask bench bus`.

mod camera;
mod servos;

use std::error::Error;

/// One figure, with what it is compared to.
fn row(name: &str, value: f64, unit: &str, peer: Option<(&str, f64)>) {
    let row = serde_json::json!({
        "name": name,
        "value": value,
        "unit": unit,
        "peer": peer.map(|(name, _)| name),
        "peer_value": peer.map(|(_, value)| value),
        "ratio": peer.map(|(_, peer)| value / peer),
    });
    println!("{row}");
}

fn main() -> Result<(), Box<dyn Error>> {
    servos::measure()?;
    let [yuyv, mjpeg] = camera::measure()?;
    for (name, frame) in [("YUYV", yuyv), ("MJPEG", mjpeg)] {
        eprintln!(
            "a frame of 640x480 {name} to the tensor: {:.0} us, {} copies of its own size, {} of the image's",
            frame.median_us, frame.frame_copies, frame.image_copies
        );
    }
    row("camera.to_tensor_us", yuyv.median_us, "us", None);
    Ok(())
}
