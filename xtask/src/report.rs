//! `report.html`: one file without links, to be opened anywhere and kept.

use std::{fmt::Write, fs, io, path::Path};

use anyhow::{Context, Result};
use hilt_show::{
    html::{base64, escape},
    plot::{BLUE, ORANGE, Plot, number},
};
use serde_json::{Map, Value};

use crate::{
    figures::{self, Episode},
    timing,
};

/// Points that a chart draws at most; more are averaged.
const POINTS: usize = 300;

/// The page for the run in `out`.
pub fn page(out: &Path, summary: &Map<String, Value>) -> Result<String> {
    let episodes: Vec<Episode> = figures::lines(&out.join("actor/episodes.jsonl"));
    let metrics: Vec<Map<String, Value>> = figures::lines(&out.join("learner/metrics.jsonl"));
    let compared: Vec<Episode> =
        figures::lines(&out.join(figures::COMPARED).join("actor/episodes.jsonl"));
    let mut charts = Vec::from_iter(unaided_chart(&episodes, &compared));
    charts.extend(episode_charts(&episodes));
    charts.extend(metric_charts(&metrics));
    let pictures = pictures(out)?;
    let timing = timing::section(&out.join("actor/timing.json"))?;
    let mut rows = String::new();
    for (key, value) in summary {
        let value = shown(value);
        let _ = write!(
            rows,
            "<tr><th>{}</th><td>{}</td></tr>",
            escape(key),
            escape(&value)
        );
    }
    let clock = |key: &str| summary.get(key).and_then(Value::as_str);
    let clock = match (clock("training_clock"), clock("clock")) {
        (Some("simulated"), Some("monotonic")) => {
            " It was trained in lockstep, on a simulated clock, and evaluated in real time, over the arm's bus."
        }
        (_, Some("simulated")) => " The clock was simulated: deadlines were not measured.",
        _ => "",
    };
    let charts = match charts.is_empty() {
        true => "<p>No curves were left.</p>".into(),
        false => charts.concat(),
    };
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>hilt: lift</title>\n\
<style>body{{font:15px/1.5 sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#222}}\
th{{text-align:left;font-weight:normal;padding-right:2em}}td{{font-variant-numeric:tabular-nums}}\
img{{max-width:100%}}figure{{display:inline-block;margin:0 1em 1em 0}}\
.film{{width:26em;image-rendering:pixelated}}.note{{background:#fff3d6;padding:.6em 1em}}</style>\n\
<h1>A simulated arm learns to lift a cube</h1>\n\
<p class=\"note\">A <b>scripted operator</b> that sees the simulator's state stood in for a person: it gave the \
demonstrations, took over during training, and said of some episodes how they ended, which corrected the learned \
reward. It was absent in the evaluation, where the policy saw only \
camera images and the arm's own state, and the simulator's truth was the judge.{clock}</p>\n\
<h2>Figures</h2>\n<table>{rows}</table>\n<h2>Evaluation</h2>\n{pictures}\n<h2>Learning</h2>\n{charts}\n{timing}</html>\n"
    ))
}

/// Films and strips of the evaluation episodes: file, what it shows, and its CSS class.
const PICTURES: [(&str, &str, &str); 3] = [
    ("eval/episodes.gif", "The policy.", "film"),
    (
        "eval-imitation/episodes.gif",
        "Imitation alone, from the same starts.",
        "film",
    ),
    ("eval/filmstrip.png", "The policy, frame by frame.", ""),
];
/// Larger pictures are left beside the page, which is to be kept and sent around.
const PICTURE_BYTES: usize = 1_000_000;

/// The pictures that are there, in the page itself.
fn pictures(out: &Path) -> Result<String> {
    let mut html = String::new();
    for (file, shows, class) in PICTURES {
        let bytes = match fs::read(out.join(file)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e).with_context(|| format!("reading {file}")),
        };
        if bytes.len() > PICTURE_BYTES {
            let _ = write!(html, "<p>{shows} Too large for this page: {file}</p>");
            continue;
        }
        let kind = file.rsplit('.').next().unwrap_or_default();
        let data = base64(&bytes);
        let _ = writeln!(
            html,
            "<figure><img class=\"{class}\" alt=\"{shows}\" src=\"data:image/{kind};base64,{data}\">\
<figcaption>{shows}</figcaption></figure>"
        );
    }
    if html.is_empty() {
        html.push_str("<p>No pictures were left.</p>");
    }
    Ok(html)
}

/// A rate of the newest episodes, against the steps taken.
fn moving(episodes: &[Episode], rate: fn(&[Episode]) -> Option<f64>) -> Vec<(f64, f64)> {
    let mut steps = 0;
    let until = |end: usize| {
        steps += episodes[end - 1].steps;
        Some((steps as f64, rate(figures::newest(&episodes[..end]))?))
    };
    (1..=episodes.len()).filter_map(until).collect()
}

/// Success without the operator; beside it that of the training that is compared, where there is one.
fn unaided_chart(episodes: &[Episode], compared: &[Episode]) -> Option<String> {
    let window = figures::WINDOW;
    let title = format!("success without the operator, last {window} episodes");
    let title = match compared {
        [] => title,
        _ => title + "; orange: with the settings to compare",
    };
    let [own, other] = [episodes, compared].map(|of| thin(&moving(of, figures::unaided_rate)));
    let plot = Plot::new(&title, "steps").y_range(0.0, 1.0);
    let svg = plot.line(BLUE, own).line(ORANGE, other).svg()?;
    Some(format!("<figure>{svg}</figure>\n"))
}

/// Success and interventions over the newest episodes, against the steps taken.
fn episode_charts(episodes: &[Episode]) -> Vec<String> {
    let window = figures::WINDOW;
    [
        (
            format!("success, last {window} episodes"),
            moving(episodes, figures::success_rate),
        ),
        (
            format!("operator's share of steps, last {window} episodes"),
            moving(episodes, figures::intervention_rate),
        ),
    ]
    .into_iter()
    .filter_map(|(title, points)| chart(&title, "steps", &points, Some((0.0, 1.0))))
    .collect()
}

/// One chart for each figure of the learner, against its updates.
fn metric_charts(metrics: &[Map<String, Value>]) -> Vec<String> {
    const X: &str = "updates";
    let mut names: Vec<&String> = Vec::new();
    for name in metrics.iter().flat_map(|line| line.keys()) {
        if name != X && !names.contains(&name) {
            names.push(name);
        }
    }
    names
        .into_iter()
        .filter_map(|name| {
            let points: Vec<(f64, f64)> = metrics
                .iter()
                .filter_map(|line| Some((line.get(X)?.as_f64()?, line.get(name)?.as_f64()?)))
                .collect();
            chart(name, X, &points, None)
        })
        .collect()
}

/// A line chart; `None` with fewer than two finite points. `range` fixes the y axis.
fn chart(
    title: &str,
    x_name: &str,
    points: &[(f64, f64)],
    range: Option<(f64, f64)>,
) -> Option<String> {
    let finite: Vec<_> = points
        .iter()
        .copied()
        .filter(|p| p.0.is_finite() && p.1.is_finite())
        .collect();
    if finite.len() < 2 {
        return None;
    }
    let plot = Plot::new(title, x_name).line(BLUE, thin(&finite));
    let plot = match range {
        Some((low, high)) => plot.y_range(low, high),
        None => plot,
    };
    Some(format!("<figure>{}</figure>\n", plot.svg()?))
}

/// At most [`POINTS`] points, each the mean of its neighbours.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points
        .chunks(points.len().div_ceil(POINTS).max(1))
        .map(|chunk| {
            let n = chunk.len() as f64;
            let sum = chunk
                .iter()
                .fold((0.0, 0.0), |(x, y), p| (x + p.0, y + p.1));
            (sum.0 / n, sum.1 / n)
        })
        .collect()
}

/// A figure as it stands in a table.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "not measured".into(),
        Value::String(text) => text.clone(),
        Value::Number(n) if n.is_f64() => number(n.as_f64().unwrap_or(f64::NAN)),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn thinning_keeps_the_mean_and_the_bound() {
        let points: Vec<_> = (0..1000)
            .map(|i| (f64::from(i), f64::from(i % 2)))
            .collect();
        let thinned = thin(&points);
        assert!(thinned.len() <= POINTS);
        let mean = thinned.iter().map(|p| p.1).sum::<f64>() / thinned.len() as f64;
        assert!((mean - 0.5).abs() < 0.01);
        assert_eq!(thin(&points[..5]), points[..5]);
    }

    #[test]
    fn a_chart_of_nothing_is_none_and_of_nan_stays_readable() {
        assert!(chart("t", "x", &[(0.0, 1.0)], None).is_none());
        let svg = chart("a<b", "x", &[(0.0, 1.0), (1.0, f64::NAN), (2.0, 1.0)], None).unwrap();
        assert!(svg.contains("a&lt;b") && !svg.contains("NaN"));
    }

    #[test]
    fn the_page_is_self_contained() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["actor", "learner", "eval"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let episode = "{\"steps\":9,\"success\":true,\"intervened_steps\":3}\n";
        fs::write(dir.path().join("actor/episodes.jsonl"), episode.repeat(3)).unwrap();
        let metrics = "{\"updates\":1,\"critic_loss\":2.0}\n{\"updates\":2,\"critic_loss\":1.0}\n";
        fs::write(dir.path().join("learner/metrics.jsonl"), metrics).unwrap();
        fs::create_dir(dir.path().join("eval-imitation")).unwrap();
        fs::write(dir.path().join("eval/filmstrip.png"), "foobar").unwrap();
        fs::write(dir.path().join("eval/episodes.gif"), "fooba").unwrap();
        let film = dir.path().join("eval-imitation/episodes.gif");
        fs::write(film, vec![0; PICTURE_BYTES + 1]).unwrap();
        let timing = json!({"ticks": 9, "outcomes": [], "lost_ticks": 0, "lost_policy": 0});
        fs::write(dir.path().join("actor/timing.json"), timing.to_string()).unwrap();
        let summary = json!({"success_rate": 0.95, "clock": "simulated"});
        let summary = summary.as_object().unwrap();
        let page = page(dir.path(), summary).unwrap();
        for part in [
            "scripted operator",
            "deadlines were not measured",
            "data:image/png;base64,Zm9vYmFy\"",
            "data:image/gif;base64,Zm9vYmE=\"",
            "Too large for this page: eval-imitation/episodes.gif",
            "critic_loss",
            "0.95",
            "<polyline",
            "<h2>Control loop</h2>",
        ] {
            assert!(page.contains(part), "{part} is missing");
        }
        assert!(!page.contains("http"), "nothing is fetched from elsewhere");
    }
}
