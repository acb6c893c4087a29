//! The proof that the control thread allocates nothing and makes no surprise system call, over more
//! than a million ticks: `tests/control_thread`, for longer.

#[path = "../tests/control_thread/proof/mod.rs"]
mod proof;

use proof::Lengths;

fn main() -> anyhow::Result<()> {
    if let Some(part) = proof::part() {
        return part;
    }
    let lengths = Lengths {
        memory: 1_000_000,
        pty: 10_000,
    };
    let shown = proof::prove(lengths)?;
    for (name, value, unit) in [
        ("proof.ticks", shown.ticks, "ticks"),
        ("proof.pty_ticks", shown.pty_ticks, "ticks"),
        ("proof.allocations", shown.allocations, ""),
        ("proof.frees", shown.frees, ""),
        ("proof.kinds_of_system_calls", shown.calls as u64, ""),
    ] {
        let row = serde_json::json!({
            "name": name,
            "value": value,
            "unit": unit,
            "peer": null,
            "peer_value": null,
            "ratio": null,
        });
        println!("{row}");
    }
    Ok(())
}
