//! Commands that look at machine and devices, or at what a run left.

use std::{
    io::{IsTerminal, Write},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, bail};
use hilt_recording::{convert::Conversion, read_spec};
use hilt_runtime::{
    doctor::{self, Level, Needs},
    inference::Engine,
    rerun::{self, Target, recorded},
    rig::Rig,
    verify::{self, Recheck},
};
use hilt_show::Show;

pub fn doctor(needs: &Needs) -> anyhow::Result<()> {
    let folder = std::env::current_dir().context("the working folder cannot be found")?;
    let (facts, lateness) = doctor::examine(&folder, needs)?;
    let findings = doctor::findings(&facts, needs);
    print!(
        "{}",
        doctor::report(&findings, std::io::stdout().is_terminal())
    );
    println!("\na thread with what is granted above wakes late by {lateness}");
    if findings.iter().any(|finding| finding.level == Level::Mend) {
        bail!("the rig does not run before what is marked MEND is done");
    }
    Ok(())
}

pub fn examine_hardware(rig: &Rig, yes: bool) -> anyhow::Result<()> {
    println!("\n{}", doctor::WARNING);
    if !yes && !agreed("type yes to go on: ")? {
        bail!("the arms were left alone");
    }
    let findings = doctor::hardware(rig)?;
    print!(
        "{}",
        doctor::report(&findings, std::io::stdout().is_terminal())
    );
    if findings.iter().any(|finding| finding.level == Level::Mend) {
        bail!("a device does not do what it must");
    }
    Ok(())
}

/// Asks whoever started this program.
fn agreed(question: &str) -> std::io::Result<bool> {
    print!("{question}");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Writes a run in another form.
pub fn export(conversion: &Conversion, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut show = Show::new("export", None);
    let done = conversion.run(|count| {
        show.stand(count, || format!("{count} observations"));
        !stop.load(Ordering::Relaxed)
    });
    show.end();
    println!("{}", done?);
    Ok(())
}

/// Shows recorded data in Rerun.
pub fn view(
    data: &Path,
    spec: Option<&Path>,
    to: &Target,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    let told = spec.map(read_spec).transpose()?;
    let mut screen = rerun::open(to)?;
    let mut show = Show::new("view", None);
    let count = recorded::view(data, told.as_ref(), &mut *screen, |count| {
        show.stand(count, || "observations".into());
        !stop.load(Ordering::Relaxed)
    })?;
    screen.end()?;
    show.end();
    match to {
        Target::File(file) => println!("{count} observations in {}", file.display()),
        Target::Viewer(_) => println!("{count} observations shown"),
    }
    Ok(())
}

/// Ends the program with the verdict as its status.
pub fn verify(dir: &Path) -> ! {
    let status = match verify::verify(dir) {
        Ok(verdict) => {
            print!("{verdict}");
            match verify_inference(dir) {
                Ok(recheck) => {
                    print!("{recheck}");
                    if recheck.off > 0 { 1 } else { verdict.status() }
                }
                Err(error) => {
                    println!("inference was not rechecked: {error}");
                    verdict.status()
                }
            }
        }
        Err(error) => {
            eprintln!("{error}");
            2
        }
    };
    std::process::exit(status)
}

fn verify_inference(dir: &Path) -> anyhow::Result<Recheck> {
    let rig = Rig::read(&dir.join("rig.toml"), &[])?;
    let engine = Engine::open(&rig.providers, rig.inference_threads)?;
    Ok(verify::recheck(dir, &engine)?)
}
