//! The page of generated rows: one HTML file that shows them beside the real ones.

use std::fmt::Write;

use hilt_show::{
    html::escape,
    page::{Page, SMALL, Tone, legend},
    plot::{BLUE, GREEN, ORANGE, Plot, number},
};

use super::{
    check::{Distances, Followed},
    look::{Asked, Column, Plane, Shares, median},
};

/// Columns that are drawn at most: the farthest ones.
const DRAWN: usize = 60;
/// Columns of the table at most.
const LISTED: usize = 400;
/// Points of the loss at most.
const POINTS: usize = 1000;

/// Everything that the page shows.
#[derive(Debug)]
pub struct Shown {
    /// What the rows were made of.
    pub title: String,
    /// What they are.
    pub kind: String,
    /// Why the check does not believe them, if it does not.
    pub refused: Option<String>,
    /// What else is to be known of them, by name.
    pub facts: Vec<(&'static str, String)>,
    /// Every column of a row, in order.
    pub columns: Vec<Column>,
    /// Rows in the plane in which real ones vary most.
    pub plane: Option<Plane>,
    /// How well outcomes follow; empty where that was not looked at.
    pub followed: Vec<Followed>,
    /// How far rows lie from the nearest real one.
    pub distances: Distances,
    /// Where relevance counts.
    pub relevance: Option<Asked>,
    /// Step and loss of the diffusion model's training; empty where it was not seen.
    pub losses: Vec<(f64, f64)>,
}

/// The whole file.
pub fn html(shown: &Shown) -> String {
    let mut page = Page::new(&shown.title, &shown.kind);
    match &shown.refused {
        Some(reason) => page.notice(
            Tone::Fault,
            &format!("These rows are not believed: {reason}"),
            "A training leaves such rows out and goes on without. A longer training of the diffusion model \
             (generative_replay.diffusion.updates) or more data may mend it.",
            [],
        ),
        None => page.notice(Tone::Good, "The check believes these rows.", "", []),
    }
    page.facts(
        shown
            .facts
            .iter()
            .map(|(name, value)| (*name, value.clone())),
    );
    page.heading("Rows together");
    together(&mut page, shown);
    if let Some(relevance) = &shown.relevance {
        page.heading("Relevance");
        asked(&mut page, relevance);
    }
    page.heading("Each column");
    let listed = farthest(&shown.columns, LISTED);
    marginals(&mut page, &shown.columns);
    table(&mut page, &listed, shown);
    if shown.losses.len() > 1 {
        page.heading("Training of the diffusion model");
        page.plots([loss(&shown.losses)]);
    }
    page.html()
}

/// So many of the columns that are the farthest from the real ones, with their places, in the order of these.
fn farthest(columns: &[Column], most: usize) -> Vec<(usize, &Column)> {
    let mut all: Vec<(usize, &Column)> = columns.iter().enumerate().collect();
    // What has no distance is no number: the farthest of all.
    let distance = |column: &Column| match column.distance {
        distance if distance.is_nan() => f64::INFINITY,
        distance => distance,
    };
    all.sort_by(|a, b| distance(b.1).total_cmp(&distance(a.1)));
    all.truncate(most);
    all.sort_by_key(|(place, _)| *place);
    all
}

fn real_and_generated() -> String {
    legend([(BLUE, "real"), (ORANGE, "generated")])
}

fn together(page: &mut Page, shown: &Shown) {
    let plane = shown.plane.as_ref().map(|plane| {
        let [x, y] = plane
            .explained
            .map(|share| format!("{:.0} %", share * 100.0));
        let title = format!("principal components: {y} over {x} of the real variance");
        let (real, generated) = (plane.real.iter(), plane.generated.iter());
        Plot::new(&title, "standard deviations")
            .size(540.0, 380.0)
            .dots(BLUE, real.copied())
            .dots(ORANGE, generated.copied())
    });
    let Distances { real, generated } = &shown.distances;
    let most = |of: &[f64]| {
        of.iter()
            .copied()
            .filter(|x| x.is_finite())
            .fold(0.0, f64::max)
    };
    // A few rows far out must not press the others together.
    let far = (4.0 * median(real).max(median(generated))).min(most(real).max(most(generated)));
    let distances = (far > 0.0).then(|| {
        let shares = Shares::of([real, generated], (0.0, far));
        both(
            "distance to the nearest real row",
            "standard deviations per column",
            &shares,
        )
    });
    let followed = (!shown.followed.is_empty()).then(|| errors(&shown.followed));
    page.plots(plane.into_iter().chain(distances).chain(followed));
    page.note(&format!(
        "{}. Real rows in the distances and errors are some that were held out.",
        real_and_generated()
    ));
}

/// Bars of the real ones, and the outline of the generated ones over them.
fn both(title: &str, unit: &str, shares: &Shares<2>) -> Plot {
    Plot::new(title, unit)
        .bars(BLUE, shares.bars(0))
        .line(ORANGE, outline(shares, 1))
}

fn outline<const K: usize>(shares: &Shares<K>, kind: usize) -> Vec<(f64, f64)> {
    (shares.bars(kind))
        .flat_map(|(from, to, share)| [(from, share), (to, share)])
        .collect()
}

/// Errors of the outcomes, side by side.
fn errors(followed: &[Followed]) -> Plot {
    let at = |of: fn(&Followed) -> f64| {
        let of_each = move |f: &Followed| (f.column as f64, of(f));
        followed.iter().take(LISTED).map(of_each)
    };
    let bars = at(|f| f.real).map(|(place, error)| (place - 0.4, place + 0.4, error));
    Plot::new(
        "one-step error of outcomes; grey: what it may be",
        "column of the row",
    )
    .bars(BLUE, bars)
    .dots(GREY, at(|f| f.bound))
    .dots(ORANGE, at(|f| f.generated))
}

const GREY: &str = "#888";

fn asked(page: &mut Page, of: &Asked) {
    let plots = [
        compared(of, "rank among the real rows", (0.0, 1.0), |values| {
            of.ranks(values)
        }),
        values(of),
    ];
    page.plots(plots);
    let mut words = vec![(BLUE, "of the real rows")];
    if of.asked.is_some() {
        words.push((GREEN, "asked for"));
    }
    words.push((ORANGE, "of the generated rows"));
    page.note(&format!("{} ({}).", legend(words), escape(of.name)));
    let middle = |values: &[f64]| number(median(&of.ranks(values)));
    let mut facts = vec![("generated rows' rank, in the middle", middle(&of.generated))];
    if let Some(asked) = &of.asked {
        facts.push(("asked for, in the middle", middle(asked)));
    }
    page.facts(facts);
}

/// Relevances by their values, up to twice the highest that real rows have or that was asked for.
fn values(of: &Asked) -> Plot {
    let known = of.real.iter().chain(of.asked.iter().flatten());
    let known = || known.clone().copied().filter(|x| x.is_finite());
    let low = known().fold(f64::INFINITY, f64::min);
    let high = known().fold(f64::NEG_INFINITY, f64::max);
    let ends = match high > low {
        true => (low, high),
        false => (-1.0, 1.0),
    };
    compared(of, "relevance", ends, <[f64]>::to_vec)
}

fn compared(of: &Asked, title: &str, ends: (f64, f64), made: impl Fn(&[f64]) -> Vec<f64>) -> Plot {
    let kinds = [
        &of.real,
        of.asked.as_ref().unwrap_or(&vec![]),
        &of.generated,
    ]
    .map(|kind| made(kind));
    let shares = Shares::of([&kinds[0], &kinds[1], &kinds[2]], ends);
    let plot = Plot::new(title, "").bars(BLUE, shares.bars(0));
    match of.asked {
        Some(_) => plot.line(GREEN, outline(&shares, 1)),
        None => plot,
    }
    .line(ORANGE, outline(&shares, 2))
}

fn marginals(page: &mut Page, columns: &[Column]) {
    let drawn = farthest(columns, DRAWN);
    let plots = drawn.iter().map(|(_, column)| {
        let (width, height) = SMALL;
        both(&column.name, "", &column.shares).size(width, height)
    });
    page.plots(plots);
    let left_out = columns.len() - drawn.len();
    let words = match left_out {
        0 => String::new(),
        _ => format!(" Drawn are the {DRAWN} farthest columns, {left_out} are left out."),
    };
    page.note(&format!(
        "{}: the share of the rows that lies where.{words} Beyond an axis there may be generated rows: see the table.",
        real_and_generated()
    ));
}

fn table(page: &mut Page, listed: &[(usize, &Column)], shown: &Shown) {
    page.push(format_args!(
        "<table><tr><th></th><th>real</th><th>generated</th><th>distance</th><th>one-step error: real</th>\
         <th>generated</th><th>may be</th><th></th></tr>\n"
    ));
    for (place, column) in listed {
        let mut row = format!("<tr><td>{}</td>", escape(&column.name));
        let spreads = [column.real, column.generated].map(|of| match of {
            Some(of) => format!("{} ± {}", number(of.mean), number(of.std)),
            None => "–".to_owned(),
        });
        let followed = shown.followed.iter().find(|f| f.column as usize == *place);
        let errors = followed.map(|f| [f.real, f.generated, f.bound].map(number));
        let errors = errors.unwrap_or_default();
        for cell in spreads
            .iter()
            .chain([&finite(column.distance)])
            .chain(&errors)
        {
            // A String takes all that it is given.
            let _ = write!(row, "<td class=\"n\">{cell}</td>");
        }
        let mut notes = vec![];
        if column.not_finite > 0 {
            notes.push(format!("{} × NaN or infinite", column.not_finite));
        }
        if column.shares.beyond[1] > 0.0 {
            notes.push(format!(
                "{:.1} % beyond the axis",
                100.0 * column.shares.beyond[1]
            ));
        }
        if followed.is_some_and(|f| f.generated > f.bound) {
            notes.push("does not follow".to_owned());
        }
        page.push(format_args!(
            "{row}<td class=\"out\">{}</td></tr>\n",
            notes.join(", ")
        ));
    }
    page.push(format_args!("</table>\n"));
    let left_out = shown.columns.len() - listed.len();
    if left_out > 0 {
        page.note(&format!("And {left_out} more, which are nearer."));
    }
    page.note(
        "Mean ± standard deviation; how far numbers have to go on average to become those of the real rows \
         (Wasserstein's distance), and how far a regression on real rows is off in telling an outcome, both in standard \
         deviations of the real column.",
    );
}

fn finite(value: f64) -> String {
    match value.is_finite() {
        true => number(value),
        false => "–".to_owned(),
    }
}

fn loss(losses: &[(f64, f64)]) -> Plot {
    let every = losses.len().div_ceil(POINTS);
    Plot::new("loss", "steps")
        .size(540.0, 220.0)
        .line(BLUE, losses.iter().copied().step_by(every))
}

#[cfg(test)]
mod tests {
    use hilt_protocol::noise::Uniforms;
    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::generative::{layout::Layout, look};

    /// Of so many observation columns, any numbers.
    fn shown(observations: i64) -> Shown {
        tch::set_num_threads(1);
        tch::manual_seed(1);
        let layout = Layout {
            observations,
            actions: 2,
        };
        let rows = || Tensor::randn([200, layout.width()], (Kind::Float, Device::Cpu));
        let (real, generated) = (rows(), rows());
        let mut random = Uniforms::new(4);
        let mut numbers = |count| (0..count).map(|_| random.normal()).collect::<Vec<_>>();
        Shown {
            title: "a <table>".into(),
            kind: "200 rows of 200 & more".into(),
            refused: None,
            facts: vec![("rows", "20 < 30".into())],
            columns: look::columns(layout, &real, &generated),
            plane: Plane::of(&real, &generated),
            followed: layout
                .outcomes()
                .map(|column| Followed {
                    column,
                    generated: 0.2,
                    real: 0.1,
                    bound: 0.3,
                })
                .collect(),
            distances: Distances {
                generated: numbers(50),
                real: numbers(50),
            },
            relevance: Some(Asked {
                name: "curiosity",
                real: numbers(200),
                asked: Some(numbers(200)),
                generated: numbers(200),
            }),
            losses: (0..5000)
                .map(|i| (f64::from(i), 1.0 / f64::from(i + 1)))
                .collect(),
        }
    }

    #[test]
    fn every_column_is_named_and_what_is_known_is_drawn() {
        let shown = shown(3);
        let html = html(&shown);
        for column in &shown.columns {
            // In a plot, and in the table.
            assert!(html.matches(&column.name).count() >= 2, "{}", column.name);
        }
        for part in [
            "<h1>a &lt;table&gt;</h1>",
            "200 rows of 200 &amp; more",
            "<td>20 &lt; 30</td>",
            "The check believes these rows.",
            "principal components",
            "distance to the nearest real row",
            "one-step error of outcomes",
            "rank among the real rows",
            "asked for",
            ">loss</text>",
        ] {
            assert!(html.contains(part), "{part} is missing");
        }
        for bad in ["NaN", "inf", "<script", "http"] {
            assert!(!html.contains(bad), "{bad}");
        }
    }

    #[test]
    fn what_is_not_believed_says_so_first_and_is_escaped() {
        let shown = Shown {
            refused: Some("`action 0` <lies>".into()),
            ..shown(3)
        };
        let html = html(&shown);
        let first = html.find("class=\"notice").unwrap();
        let reason = "These rows are not believed: `action 0` &lt;lies&gt;";
        assert!(html[first..].starts_with(&format!("class=\"notice fault\"><b>{reason}")));
        assert!(!html.contains("believes these rows"));
    }

    #[test]
    fn of_many_columns_the_farthest_are_shown() {
        let mut shown = shown(600);
        let far = shown.columns.len() - 2;
        shown.columns[far].distance = 1e6;
        let name = shown.columns[far].name.clone();
        let html = html(&shown);
        assert!(
            html.contains(&format!(">{name}</text>")) && html.contains(&format!("<td>{name}</td>"))
        );
        assert_eq!(html.matches("<tr><td>").count(), LISTED);
        assert!(html.contains("And 804 more, which are nearer."));
        assert!(html.len() < 2_000_000, "{}", html.len());
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let mut shown = shown(3);
        shown.plane = None;
        shown.followed.clear();
        shown.distances = Distances::default();
        shown.relevance = None;
        shown.losses.clear();
        (shown.columns[1].generated, shown.columns[1].distance) = (None, f64::NAN);
        shown.columns[1].not_finite = 200;
        let html = html(&shown);
        for absent in [
            "principal components",
            "Relevance",
            "loss",
            "nearest real row</text>",
            "NaN,",
        ] {
            assert!(!html.contains(absent), "{absent}");
        }
        assert!(html.contains("200 × NaN or infinite"));
    }
}
