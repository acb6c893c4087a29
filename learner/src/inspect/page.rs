//! The page of data: one HTML file that holds all it shows.

use std::io;

use hilt_show::{
    html::{base64, escape},
    page::{Page, SMALL, Tone, legend},
    plot::{BLUE, GREEN, ORANGE, Plot, RED, number},
};

use super::{
    figures::{End, Episode, Figures, Group, Number},
    film::{CURVES, Film},
    findings::{Finding, Weight},
    gather::Drawn,
    summary::{facts, group_name, grouped, what_it_is},
};

/// Episodes are drawn one by one up to here; of more every n-th.
const DOTS: usize = 600;
/// And their mean in so many parts.
const PARTS: usize = 40;
/// Bars of periods: so many that the nominal one lies within a bar.
const BARS: u32 = 51;
/// Columns whose numbers are drawn at most.
const HISTOGRAMS: usize = 40;
/// Films by colour: the first, a middle and the last.
const OF_FILMS: [&str; 3] = [BLUE, ORANGE, GREEN];
const STYLE: &str = ".film{display:flex;align-items:flex-start;margin-bottom:.4em}\
.film b{font-weight:normal;color:#666;width:5.5em;flex:none;overflow-wrap:anywhere}\
.film figure{margin:0 4px 0 0}.film img{width:106px;display:block;image-rendering:pixelated}.film figcaption{font-size:.75em;color:#888}";

/// The whole file.
///
/// # Errors
/// If a picture cannot be compressed.
pub fn html(figures: &Figures, findings: &[Finding], drawn: &Drawn) -> io::Result<String> {
    let mut page = Page::new(&figures.data, &what_it_is(figures)).styled(STYLE);
    notices(&mut page, findings);
    page.heading("Figures");
    page.facts(facts(figures));
    page.heading("Episodes");
    episodes(&mut page, figures, drawn);
    films(&mut page, figures, &drawn.films)?;
    curves(&mut page, figures, &drawn.films);
    histograms(&mut page, drawn);
    page.heading("Every number");
    numbers(&mut page, &figures.numbers);
    Ok(page.html())
}

fn notices(page: &mut Page, findings: &[Finding]) {
    if findings.is_empty() {
        let text = "Nothing was found that would hurt a training.";
        page.notice(Tone::Good, text, "", []);
    }
    for finding in findings {
        let tone = match finding.weight {
            Weight::Fault => Tone::Fault,
            Weight::Look => Tone::Look,
        };
        let places = finding.places.iter().map(ToString::to_string);
        page.notice(tone, &finding.what, &finding.remedy, places);
    }
}

fn episodes(page: &mut Page, figures: &Figures, drawn: &Drawn) {
    let episodes = &figures.episodes;
    let mut plots = vec![
        over_episodes(episodes, "steps of an episode", |e| f64::from(e.steps)).y_range(0.0, 0.0),
        over_episodes(episodes, "return", |e| e.sum),
    ];
    if (1..figures.steps).contains(&figures.intervened_steps) {
        let share = |e: &Episode| f64::from(e.intervened_steps) / f64::from(e.steps.max(1));
        let title = "share of steps intervened";
        plots.push(over_episodes(episodes, title, share).y_range(0.0, 1.0));
    }
    let periods = figures.rate.map(|rate| rate.nominal_hz);
    if let Some((hz, periods)) = periods.zip(drawn.periods.as_ref()) {
        plots.push(of_periods(periods, hz));
    }
    page.plots(plots);
    let every = episodes.len().div_ceil(DOTS).max(1);
    let every = match every {
        1 => "A dot is an episode".to_owned(),
        _ => format!("A dot is one of {every} episodes"),
    };
    let colours = legend([
        (GREEN, "terminated"),
        (ORANGE, "truncated"),
        (RED, "without an end"),
    ]);
    page.note(&format!(
        "{every}:{colours}. The line is the mean of those around it."
    ));
}

fn films(page: &mut Page, figures: &Figures, films: &[Film]) -> io::Result<()> {
    if films.iter().all(|film| film.frames.is_empty()) {
        return Ok(());
    }
    page.heading("What the cameras saw");
    for film in films {
        page.push(format_args!("<h3>{}</h3>\n", escape(&title(film, figures))));
        for (number, camera) in figures.cameras.iter().enumerate() {
            let name = escape(&camera.name);
            page.push(format_args!("<div class=\"film\"><b>{name}</b>"));
            for (index, frames) in &film.frames {
                let Some(frame) = frames.get(number) else {
                    continue;
                };
                let png = base64(&frame.png()?);
                page.push(format_args!(
                    "<figure><img alt=\"\" src=\"data:image/png;base64,{png}\"><figcaption>{index}</figcaption></figure>"
                ));
            }
            page.push(format_args!("</div>\n"));
        }
    }
    Ok(())
}

fn curves(page: &mut Page, figures: &Figures, films: &[Film]) {
    if films.is_empty() {
        return;
    }
    page.heading("What was observed, over time");
    let titles: Vec<String> = films.iter().map(|film| title(film, figures)).collect();
    page.note(&legend(
        OF_FILMS
            .into_iter()
            .zip(titles.iter().map(|title| &**title)),
    ));
    let observed: Vec<&Number> = (figures.numbers.iter())
        .filter(|n| n.group == Group::Observation)
        .collect();
    let time = match figures.rig {
        Some(_) => "s",
        None => "steps",
    };
    let plots = observed.iter().take(CURVES).enumerate().map(|(i, column)| {
        let (width, height) = SMALL;
        let name = match figures.rig {
            Some(_) => column.name.clone(),
            None => format!("observation {}", column.name),
        };
        let mut plot = Plot::new(&name, time).size(width, height);
        for (film, colour) in films.iter().zip(OF_FILMS) {
            let at = |(at, numbers): &(f64, Vec<f32>)| (*at, value(numbers, i));
            plot = plot.line(colour, film.curve.iter().map(at));
        }
        plot
    });
    page.plots(plots);
    left_out(page, observed.len(), CURVES);
}

fn histograms(page: &mut Page, drawn: &Drawn) {
    page.heading("Actions and rewards");
    let plots = drawn.histograms.iter().take(HISTOGRAMS);
    let plots = plots.map(|(group, name, histogram)| {
        let name = match group {
            Group::Action => format!("action {name}"),
            Group::Observation | Group::Reward => name.clone(),
        };
        let (width, height) = SMALL;
        let inside =
            |bar: &(f64, f64, u64)| *group != Group::Action || (bar.1 > -1.0 && bar.0 <= 1.0);
        let drawn = |bar: (f64, f64, u64)| (bar.0, bar.1, bar.2 as f64);
        let (inner, outer): (Vec<_>, Vec<_>) = histogram.bins().partition(inside);
        let plot = Plot::new(&name, "")
            .size(width, height)
            .bars(BLUE, inner.into_iter().map(drawn))
            .bars(RED, outer.into_iter().map(drawn));
        match group {
            Group::Action => plot.x_range(-1.0, 1.0).mark(-1.0).mark(1.0),
            Group::Observation | Group::Reward => plot,
        }
    });
    page.plots(plots);
    left_out(page, drawn.histograms.len(), HISTOGRAMS);
    page.note("How many steps have which value; red is outside ±1.");
}

fn left_out(page: &mut Page, all: usize, drawn: usize) {
    if all > drawn {
        page.note(&format!(
            "And {} more, which are in the table below.",
            all - drawn
        ));
    }
}

fn numbers(page: &mut Page, numbers: &[Number]) {
    page.push(format_args!(
        "<table><tr><th></th><th></th><th>min</th><th>mean</th><th>std</th><th>max</th><th></th></tr>\n"
    ));
    for n in numbers {
        let (group, name) = (group_name(n.group), escape(&n.name));
        page.push(format_args!("<tr><th>{group}</th><td>{name}</td>"));
        let cells = n.spread.map(|of| [of.min, of.mean, of.std, of.max]);
        for cell in cells.map_or([const { None }; 4], |cells| cells.map(Some)) {
            let text = cell.map_or("–".to_owned(), number);
            page.push(format_args!("<td class=\"n\">{text}</td>"));
        }
        let mut notes = Vec::new();
        if n.is_constant() {
            notes.push("never changes".to_owned());
        }
        if n.not_finite.times > 0 {
            notes.push(format!("{} × NaN or infinite", grouped(n.not_finite.times)));
        }
        if n.beyond.times > 0 {
            notes.push(format!("{} × outside ±1", grouped(n.beyond.times)));
        }
        let notes = notes.join(", ");
        page.push(format_args!("<td class=\"out\">{notes}</td></tr>\n"));
    }
    page.push(format_args!("</table>\n"));
}

fn value(numbers: &[f32], place: usize) -> f64 {
    numbers.get(place).map_or(f64::NAN, |&value| value.into())
}

fn title(film: &Film, figures: &Figures) -> String {
    let episode = &film.episode;
    let end = match episode.end {
        End::Terminated => "terminated",
        End::Truncated => "truncated",
        End::Cut => "without an end",
    };
    format!(
        "episode {} of {}: {} steps, return {}, {end}",
        grouped(film.ordinal + 1),
        grouped(figures.episodes.len() as u64),
        episode.steps,
        number(episode.sum)
    )
}

/// Something of every episode: dots by how it ended, and a line of means.
fn over_episodes(episodes: &[Episode], title: &str, of: impl Fn(&Episode) -> f64) -> Plot {
    let of = &of;
    let point = |(i, episode): (usize, &Episode)| (i as f64 + 1.0, of(episode));
    let stride = episodes.len().div_ceil(DOTS).max(1);
    let dots = |end| {
        let all = episodes.iter().enumerate().step_by(stride);
        all.filter(move |(_, episode)| episode.end == end)
    };
    let mut plot = Plot::new(title, "episode").x_range(0.0, episodes.len() as f64 + 1.0);
    for (end, colour) in [
        (End::Terminated, GREEN),
        (End::Truncated, ORANGE),
        (End::Cut, RED),
    ] {
        plot = plot.dots(colour, dots(end).map(point));
    }
    let part = episodes.len().div_ceil(PARTS).max(5);
    let means = episodes.chunks(part).enumerate().map(|(i, chunk)| {
        let middle = (i * part) as f64 + (chunk.len() as f64 + 1.0) / 2.0;
        let mean = chunk.iter().map(of).sum::<f64>() / chunk.len() as f64;
        (middle, mean)
    });
    match episodes.len() >= 2 * part {
        true => plot.line(BLUE, means.collect::<Vec<_>>()),
        false => plot,
    }
}

/// How long periods were, up to 2.5 nominal ones; a last bar in red is of longer ones.
fn of_periods(periods: &hdrhistogram::Histogram<u64>, nominal_hz: f64) -> Plot {
    let farthest_ms = 2.5e3 / nominal_hz;
    let width_ms = farthest_ms / f64::from(BARS);
    let mut bars = vec![0u64; BARS as usize + 1];
    for value in periods.iter_recorded() {
        let place = value.value_iterated_to() as f64 * 1e-3 / width_ms;
        bars[(place as usize).min(BARS as usize)] += value.count_since_last_iteration();
    }
    let bar = |(i, count): (usize, &u64)| {
        let from = i as f64 * width_ms;
        (from, from + width_ms, *count as f64)
    };
    let (shorter, longer) = bars.split_at(BARS as usize);
    let longer = longer.iter().filter(|count| **count > 0);
    Plot::new("periods; nominal dashed; red: longer", "ms")
        .bars(BLUE, shorter.iter().enumerate().map(bar))
        .bars(RED, longer.map(|count| bar((BARS as usize, count))))
        .mark(1e3 / nominal_hz)
}
