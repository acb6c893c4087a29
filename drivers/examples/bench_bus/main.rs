//! What the drivers cost, one JSON row per figure: `cargo xtask bench bus`.

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
    servos::measure()
}
