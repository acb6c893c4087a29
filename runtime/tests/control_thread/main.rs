//! The control thread allocates nothing, locks nothing and makes no surprise system call, on any
//! path. A program of its own, without the test harness: it counts all its allocations, and starts
//! itself again for whatever may end in death. `cargo xtask bench proof` runs it for longer.

mod proof;

use proof::Lengths;

fn main() -> anyhow::Result<()> {
    if let Some(part) = proof::part() {
        return part;
    }
    // As other tests do: only if it is meant.
    let mut meant = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'));
    if meant
        .next()
        .is_some_and(|name| !"control_thread".contains(&name))
    {
        return Ok(());
    }
    let lengths = Lengths {
        memory: 100_000,
        pty: 1_500,
    };
    let shown = proof::prove(lengths)?;
    println!(
        "{} ticks, {} of them over a serial port: {} allocations, {} frees, {} kinds of system calls",
        shown.ticks, shown.pty_ticks, shown.allocations, shown.frees, shown.calls
    );
    Ok(())
}
