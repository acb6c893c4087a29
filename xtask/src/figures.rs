//! What a demo's programs leave behind, read, and put together into one `summary.json`.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Episodes over which a moving rate is taken.
pub const WINDOW: usize = 20;
/// Folder of a second training that is compared with the run's own, in the run's.
pub const COMPARED: &str = "compared";

/// Lower end of Wilson's 95 % interval for `successes` of `trials`; 0 without a trial.
pub fn wilson_lower95(successes: u64, trials: u64) -> f64 {
    if trials == 0 {
        return 0.0;
    }
    const Z: f64 = 1.959_964;
    let n = trials as f64;
    let p = successes as f64 / n;
    let centre = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    ((centre - half) / (1.0 + Z * Z / n)).max(0.0)
}

/// One line of the actor's `episodes.jsonl`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Episode {
    /// Steps taken.
    pub steps: u64,
    /// How the episode was judged.
    pub success: bool,
    /// Steps in which the operator's action replaced the policy's.
    pub intervened_steps: u64,
}

/// Every readable line of a `.jsonl` file; a missing file is empty, a line still being written is
/// left out.
pub fn lines<T: for<'de> Deserialize<'de>>(path: &Path) -> Vec<T> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Share of successful episodes; `None` without an episode.
pub fn success_rate(episodes: &[Episode]) -> Option<f64> {
    let successes = episodes.iter().filter(|e| e.success).count();
    (!episodes.is_empty()).then(|| successes as f64 / episodes.len() as f64)
}

/// Share of steps in which the operator acted; `None` without a step.
pub fn intervention_rate(episodes: &[Episode]) -> Option<f64> {
    let steps: u64 = episodes.iter().map(|e| e.steps).sum();
    let intervened: u64 = episodes.iter().map(|e| e.intervened_steps).sum();
    (steps > 0).then(|| intervened as f64 / steps as f64)
}

/// Share of episodes that succeeded and in which the operator did not act; `None` without an episode.
pub fn unaided_rate(episodes: &[Episode]) -> Option<f64> {
    let unaided = |e: &&Episode| e.success && e.intervened_steps == 0;
    let count = episodes.iter().filter(unaided).count();
    (!episodes.is_empty()).then(|| count as f64 / episodes.len() as f64)
}

/// Steps until of [`WINDOW`] episodes in a row 90 % succeeded unaided; `None`: they never did.
pub fn steps_to_90(episodes: &[Episode]) -> Option<u64> {
    let reached = |window: &&[Episode]| unaided_rate(window).is_some_and(|rate| rate >= 0.9);
    let first = (episodes.windows(WINDOW)).position(|window| reached(&window))?;
    Some(episodes[..first + WINDOW].iter().map(|e| e.steps).sum())
}

/// Generations of generative replay that were believed, and that were refused, of the learner's metrics: lines count
/// those that ended so far, and the refused ones among them.
fn generations(metrics: &[Map<String, Value>]) -> [u64; 2] {
    let newest = |name: &str| {
        let mut counts = metrics
            .iter()
            .rev()
            .filter_map(|line| line.get(name)?.as_f64());
        counts.next().map_or(0, |count| count as u64)
    };
    let (ended, refused) = (
        newest("generative/generation"),
        newest("generative/refused"),
    );
    [ended.saturating_sub(refused), refused]
}

/// The newest [`WINDOW`] episodes.
pub fn newest(episodes: &[Episode]) -> &[Episode] {
    &episodes[episodes.len().saturating_sub(WINDOW)..]
}

/// The run's figures, in the order of its table: key, the folder whose summary has it, its key there.
const FIGURES: [(&str, &str, &str); 15] = [
    ("training_clock", "actor", "clock"),
    ("clock", "eval", "clock"),
    ("success_rate", "eval", "success_rate"),
    ("evaluation_episodes", "eval", "episodes"),
    ("mean_time_to_success_s", "eval", "mean_time_to_success_s"),
    ("imitation_success_rate", "eval-imitation", "success_rate"),
    (
        "imitation_mean_time_to_success_s",
        "eval-imitation",
        "mean_time_to_success_s",
    ),
    (
        "demonstration_mean_time_to_success_s",
        "demos",
        "mean_time_to_success_s",
    ),
    ("training_wall_s", "learner", "training_wall_s"),
    ("updates", "learner", "updates"),
    ("classifier_precision", "actor", "classifier_precision"),
    ("classifier_recall", "actor", "classifier_recall"),
    ("corrected_episodes", "actor", "corrected_episodes"),
    ("env_steps", "actor", "env_steps"),
    ("episodes", "actor", "episodes"),
];

/// The run's figures, and which of them no program has left (null in the map).
pub fn merge(out: &Path, seed: u64) -> Result<(Map<String, Value>, Vec<String>)> {
    let mut merged = Map::new();
    let mut missing = Vec::new();
    merged.insert("seed".into(), seed.into());
    merged.insert("operator".into(), "scripted, in place of a person".into());
    for (key, folder, source_key) in FIGURES {
        let value = summary(&out.join(folder))?.remove(source_key);
        if value.is_none() {
            missing.push(format!("{key} ({folder}/summary.json: {source_key})"));
        }
        merged.insert(key.into(), value.unwrap_or(Value::Null));
    }
    // Of a rig that was trained in lockstep and evaluated in real time.
    let lockstep = summary(&out.join("eval-lockstep"))?.remove("success_rate");
    if let Some(rate) = lockstep {
        merged.insert("lockstep_success_rate".into(), rate);
    }
    let rate = merged["success_rate"].as_f64();
    let trials = merged["evaluation_episodes"].as_u64();
    let lower = rate.zip(trials).map(|(rate, trials)| {
        let successes = (rate * trials as f64).round() as u64;
        wilson_lower95(successes, trials)
    });
    merged.insert("success_lower95".into(), lower.into());
    let episodes: Vec<Episode> = lines(&out.join("actor/episodes.jsonl"));
    if episodes.is_empty() {
        missing.push("intervention rates (actor/episodes.jsonl)".into());
    }
    let first = &episodes[..episodes.len().min(WINDOW)];
    let rates = [
        ("intervention_rate_first", first),
        ("intervention_rate_last", newest(&episodes)),
    ];
    for (key, episodes) in rates {
        merged.insert(key.into(), intervention_rate(episodes).into());
    }
    for (prefix, place) in [("", out.to_owned()), ("compared_", out.join(COMPARED))] {
        let episodes: Vec<Episode> = lines(&place.join("actor/episodes.jsonl"));
        if episodes.is_empty() {
            continue;
        }
        let steps = steps_to_90(&episodes).map_or("not reached".into(), Value::from);
        merged.insert(format!("{prefix}env_steps_to_90_percent_unaided"), steps);
        let metrics: Vec<Map<String, Value>> = lines(&place.join("learner/metrics.jsonl"));
        let [believed, refused] = generations(&metrics);
        if believed + refused > 0 {
            merged.insert(format!("{prefix}generations_believed"), believed.into());
            merged.insert(format!("{prefix}generations_refused"), refused.into());
        }
    }
    Ok((merged, missing))
}

/// A folder's `summary.json`; empty where there is none.
fn summary(folder: &Path) -> Result<Map<String, Value>> {
    let path = folder.join("summary.json");
    match fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
        Ok(bytes) => {
            serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn episode(steps: u64, success: bool, intervened_steps: u64) -> Episode {
        Episode {
            steps,
            success,
            intervened_steps,
        }
    }

    #[test]
    fn wilson_bound_at_known_points() {
        // Wilson 1927; values from the closed form worked out by hand.
        for (successes, trials, expected) in [
            (180, 200, 0.8506),
            (190, 200, 0.9104),
            (200, 200, 0.9812),
            (5, 10, 0.2366),
            (0, 10, 0.0),
        ] {
            let bound = wilson_lower95(successes, trials);
            assert!(
                (bound - expected).abs() < 5e-4,
                "{successes}/{trials}: {bound}"
            );
        }
        assert_eq!(wilson_lower95(0, 0), 0.0);
    }

    #[test]
    fn rates_weigh_episodes_and_steps() {
        assert_eq!(success_rate(&[]), None);
        assert_eq!(intervention_rate(&[]), None);
        let episodes = [episode(30, true, 30), episode(10, false, 0)];
        assert_eq!(success_rate(&episodes), Some(0.5));
        assert_eq!(intervention_rate(&episodes), Some(0.75));
    }

    #[test]
    fn ninety_percent_are_reached_where_so_many_in_a_row_were_lifted_without_help() {
        let (alone, helped, failed) = (
            episode(10, true, 0),
            episode(20, true, 1),
            episode(40, false, 0),
        );
        let of = |all: &[(usize, &Episode)]| {
            let all: Vec<Episode> = (all.iter())
                .flat_map(|(count, episode)| vec![(*episode).clone(); *count])
                .collect();
            steps_to_90(&all)
        };
        assert_eq!(of(&[(19, &alone)]), None, "too few to say so");
        assert_eq!(of(&[(30, &helped)]), None);
        // Two of 20 may fail or be helped, three may not.
        assert_eq!(of(&[(1, &helped), (1, &failed), (18, &alone)]), Some(240));
        assert_eq!(of(&[(2, &helped), (1, &failed), (17, &alone)]), None);
        assert_eq!(
            of(&[(9, &failed), (18, &alone), (90, &failed)]),
            Some(360 + 180)
        );
    }

    #[test]
    fn what_a_second_training_came_to_stands_beside_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let line = |alone: u64| {
            format!("{{\"steps\":10,\"success\":true,\"intervened_steps\":{alone}}}\n")
        };
        write("actor/episodes.jsonl", &line(1).repeat(30));
        write("compared/actor/episodes.jsonl", &line(0).repeat(30));
        let ended = |number, refused| {
            format!("{{\"generative/generation\":{number},\"generative/refused\":{refused}}}\n")
        };
        let metrics = ended(1, 1.0) + "{}\n" + &ended(3, 1.0) + "{}\n";
        write("compared/learner/metrics.jsonl", &metrics);
        let (merged, _) = merge(dir.path(), 7).unwrap();
        assert_eq!(merged["env_steps_to_90_percent_unaided"], "not reached");
        assert_eq!(merged["compared_env_steps_to_90_percent_unaided"], 200);
        assert_eq!(merged["compared_generations_believed"], 2);
        assert_eq!(merged["compared_generations_refused"], 1);
        assert!(
            !merged.contains_key("generations_believed"),
            "there was no generative replay"
        );
    }

    #[test]
    fn a_line_being_written_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("episodes.jsonl");
        assert_eq!(lines::<Episode>(&path), []);
        let text = "{\"steps\":3,\"success\":true,\"intervened_steps\":1,\"more\":0}\n{\"steps\":4";
        fs::write(&path, text).unwrap();
        assert_eq!(lines::<Episode>(&path), [episode(3, true, 1)]);
    }

    #[test]
    fn summaries_are_merged_and_absent_figures_named() {
        let dir = tempfile::tempdir().unwrap();
        let write = |folder: &str, file: &str, text: &str| {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            fs::write(dir.path().join(folder).join(file), text).unwrap();
        };
        write(
            "eval",
            "summary.json",
            r#"{"clock":"simulated","success_rate":0.9,"episodes":200,"mean_time_to_success_s":1.5}"#,
        );
        write(
            "learner",
            "summary.json",
            r#"{"training_wall_s":500,"updates":9000}"#,
        );
        write("actor", "summary.json", r#"{"classifier_precision":1.0}"#);
        let mut log = String::new();
        for i in 0..50 {
            let acted = if i < WINDOW { 10 } else { 1 };
            log += &format!("{{\"steps\":10,\"success\":true,\"intervened_steps\":{acted}}}\n");
        }
        write("actor", "episodes.jsonl", &log);
        let (merged, missing) = merge(dir.path(), 7).unwrap();
        assert_eq!(merged["seed"], 7);
        assert_eq!(merged["updates"], 9000);
        assert_eq!(merged["intervention_rate_first"], 1.0);
        assert_eq!(merged["intervention_rate_last"], 0.1);
        assert!((merged["success_lower95"].as_f64().unwrap() - 0.8506).abs() < 1e-3);
        assert!(missing.iter().any(|m| m.starts_with("classifier_recall")));
        assert!(!missing.iter().any(|m| m.starts_with("updates")));
        assert!(merged["classifier_recall"].is_null());
    }

    #[test]
    fn a_broken_summary_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("eval")).unwrap();
        fs::write(dir.path().join("eval/summary.json"), "{").unwrap();
        let error = format!("{:#}", merge(dir.path(), 1).unwrap_err());
        assert!(error.contains("eval/summary.json"), "{error}");
    }
}
