//! The figures for a terminal.

use std::fmt::{self, Display, Write};

use hilt_show::{percent, plot::number};

use super::{
    figures::{End, Figures, Group, Number},
    findings::{Finding, Weight},
    statistics::Spread,
};

/// Figures and findings, to be displayed.
pub struct Summary<'a> {
    /// What was counted.
    pub figures: &'a Figures,
    /// What is to be known first.
    pub findings: &'a [Finding],
}

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figures, findings } = self;
        writeln!(f, "{}: {}", figures.data, what_it_is(figures))?;
        for finding in *findings {
            let sign = match finding.weight {
                Weight::Fault => '✗',
                Weight::Look => '·',
            };
            writeln!(f, "\n{sign} {}", finding.what)?;
            for place in &finding.places {
                writeln!(f, "    {place}")?;
            }
            writeln!(f, "  → {}", finding.remedy)?;
        }
        if findings.is_empty() {
            writeln!(f, "\n✓ nothing was found that would hurt a training")?;
        }
        writeln!(f)?;
        for (name, value) in facts(figures) {
            writeln!(f, "{name:16} {value}")?;
        }
        let (group, name) = ("", "");
        writeln!(
            f,
            "\n{group:12}{name:20}{:>12}{:>12}{:>12}{:>12}",
            "min", "mean", "std", "max"
        )?;
        for n in &figures.numbers {
            writeln!(f, "{:12}{:20}{}", group_name(n.group), n.name, row(n))?;
        }
        Ok(())
    }
}

fn row(of: &Number) -> String {
    let mut row = String::new();
    let Some(Spread {
        min,
        mean,
        std,
        max,
    }) = of.spread
    else {
        return format!("{:>12}", "no number");
    };
    for value in [min, mean, std, max] {
        // A String takes all that it is given.
        let _ = write!(row, "{:>12}", number(value));
    }
    if of.is_constant() {
        row.push_str("  never changes");
    }
    row
}

/// The name of a group.
pub fn group_name(group: Group) -> &'static str {
    match group {
        Group::Observation => "observation",
        Group::Action => "action",
        Group::Reward => "reward",
    }
}

/// In a line.
pub fn what_it_is(figures: &Figures) -> String {
    let (steps, episodes) = (figures.steps, figures.episodes.len());
    let of = |n: usize, one: &str| format!("{} {one}{}", grouped(n as u64), plural(n as u64));
    let kind = match figures.rig {
        Some(_) => format!("a recording of {}", of(figures.runs.len(), "run")),
        None => "a table of transitions".to_owned(),
    };
    let steps = format!("{} step{}", grouped(steps), plural(steps));
    format!("{kind}: {}, {steps}", of(episodes, "episode"))
}

fn plural(n: u64) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// With a comma between thousands.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The figures of the whole, by name.
pub fn facts(figures: &Figures) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let width = |group| {
        (figures.numbers.iter())
            .filter(|n| n.group == group)
            .count()
    };
    let (observed, done) = (width(Group::Observation), width(Group::Action));
    facts.push((
        "shapes",
        format!("observation {observed}, action {done}{}", cameras(figures)),
    ));
    if let Some(rig) = &figures.rig {
        let axes: Vec<&str> = rig.controlled_axes.iter().map(|axis| axis.name()).collect();
        facts.push(("rig", format!("{}, axes {}", rig.mode, axes.join(" "))));
    }
    let spread = |of: Option<Spread>| {
        of.map_or("–".to_owned(), |of| {
            format!(
                "{} ± {} (mean ± standard deviation), {} to {}",
                number(of.mean),
                number(of.std),
                number(of.min),
                number(of.max)
            )
        })
    };
    facts.push(("episode length", spread(figures.lengths)));
    facts.push(("return", spread(figures.returns)));
    let ended = |end| (figures.episodes.iter()).filter(|e| e.end == end).count();
    facts.push((
        "ended",
        format!(
            "{} terminated, {} truncated (out of time), {} without an end",
            ended(End::Terminated),
            ended(End::Truncated),
            ended(End::Cut)
        ),
    ));
    if figures.rig.is_some() {
        facts.push(("labels", labels(figures)));
        facts.push(("actions by", sources(figures)));
        facts.push(("interventions", interventions(figures)));
    }
    if let Some(rate) = figures.rate {
        facts.push((
            "rate",
            format!(
                "{} Hz, nominal {} Hz; period {:.1} ms median, {:.1} ms p99, {:.1} ms at most",
                number(rate.median_hz),
                number(rate.nominal_hz),
                rate.median_s * 1e3,
                rate.p99_s * 1e3,
                rate.max_s * 1e3
            ),
        ));
    }
    for camera in &figures.cameras {
        let repeated = camera.repeated.times;
        let value = format!(
            "{} frames, {repeated} of them the one before",
            grouped(camera.frames)
        );
        facts.push(("camera", format!("{}: {value}", camera.name)));
    }
    facts
}

fn cameras(figures: &Figures) -> String {
    let size = |camera: &super::figures::Camera| {
        let (height, width) = (camera.height, camera.width);
        format!("; {} {height}×{width}×3", camera.name)
    };
    figures.cameras.iter().map(size).collect()
}

fn labels(figures: &Figures) -> String {
    let said = |word| (figures.episodes.iter()).filter(move |e| e.label == Some(word));
    let (yes, no) = (said(true).count(), said(false).count());
    let (success, failure) = (figures.labelled_success, figures.labelled_failure);
    if success + failure == 0 {
        return "none".to_owned();
    }
    let last = match yes + no {
        0 => "no episode's last frame has one".to_owned(),
        1 => format!("the last frame of 1 episode has one: {yes} succeeded"),
        n => format!("the last frames of {n} episodes have one: {yes} succeeded"),
    };
    let (success, failure) = (grouped(success), grouped(failure));
    format!("{success} frames a success, {failure} none; {last}")
}

fn sources(figures: &Figures) -> String {
    let share =
        |steps: u64| percent((figures.steps > 0).then(|| steps as f64 / figures.steps as f64));
    let each = |(name, steps): (&&str, &u64)| format!("{name} {}", share(*steps));
    let all: Vec<String> = figures.sources.iter().map(each).collect();
    all.join(", ")
}

fn interventions(figures: &Figures) -> String {
    let share = (figures.steps > 0).then(|| figures.intervened_steps as f64 / figures.steps as f64);
    let touched = (figures.episodes.iter())
        .filter(|e| e.intervened_steps > 0)
        .count();
    format!(
        "{} of steps, in {} stretches; {touched} of {} episodes",
        percent(share),
        grouped(figures.interventions),
        grouped(figures.episodes.len() as u64)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12345678, "12,345,678"),
        ] {
            assert_eq!(grouped(n), text);
        }
    }

    #[test]
    fn of_nothing_there_is_a_summary_too() {
        let figures = Figures {
            data: "nothing".into(),
            ..Figures::default()
        };
        let summary = Summary {
            figures: &figures,
            findings: &[],
        };
        let text = summary.to_string();
        assert!(
            text.starts_with("nothing: a table of transitions: 0 episodes, 0 steps"),
            "{text}"
        );
        assert!(!text.contains("NaN"), "{text}");
    }
}
