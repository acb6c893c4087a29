//! A [`Status`] as a person reads it: coloured lines for `hilt top`, the same as plain text for logs,
//! and the accounts alone for the end of a run. Pure.

use std::fmt::Write;

use ratatui::{
    Frame,
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span, Text},
    widgets::{Paragraph, Wrap},
};

use crate::{
    rig::ClockKind,
    status::{StageFigures, Status, StatusError, Timing},
    tick::Outcome,
};

/// A run writes its status a few times a second; one that is older than this is no news.
pub const STALE_S: f64 = 3.0;

/// Columns of plain text.
const TEXT_WIDTH: usize = 80;
/// Of an outcome's name with its indent, of its count, and of its share.
const OUTCOME_WIDTH: usize = 20;
const TICKS_WIDTH: usize = 11;
const SHARE_WIDTH: usize = 9;
/// Of a stage's name with its indent, and of a column of the stages' table.
const STAGE_WIDTH: usize = 15;
const COLUMN_WIDTH: usize = 9;
const GOOD: Style = Style::new().fg(Color::Green);
const WARN: Style = Style::new().fg(Color::Yellow);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

/// Fills `frame` with what was read last, at the time `unix_s` (seconds since 1970).
pub fn draw(frame: &mut Frame, read: &Result<Status, StatusError>, unix_s: f64) {
    let width = usize::from(frame.area().width);
    let lines = match read {
        Ok(status) => lines(status, unix_s, width),
        Err(error) => vec![Line::styled(error.to_string(), BAD)],
    };
    let page = Paragraph::new(Text::from(lines)).wrap(Wrap { trim: false });
    frame.render_widget(page, frame.area());
}

/// Everything, as plain text.
pub fn text(status: &Status, unix_s: f64) -> String {
    plain(lines(status, unix_s, TEXT_WIDTH))
}

/// The accounts alone, as plain text: for the end of a run and for its report.
pub fn report_text(status: &Status) -> String {
    let mut lines = ticks(&status.timing, TEXT_WIDTH);
    lines.push(Line::default());
    lines.extend(stages(&status.timing, TEXT_WIDTH));
    lines.extend(faults(status));
    lines.extend(losses(status));
    plain(lines)
}

/// Without colours, and without blanks at the ends of lines.
fn plain(lines: Vec<Line>) -> String {
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{}", line.to_string().trim_end());
        text
    })
}

/// Everything, in the order of its urgency, as the bottom is cut off where there is no room.
fn lines(status: &Status, unix_s: f64, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    lines.extend(news(status, unix_s));
    lines.push(mode(status));
    lines.push(Line::raw(format!(
        "run {}  {}  {}",
        status.run,
        status.rig,
        clock(status.timing.clock)
    )));
    lines.push(Line::raw(format!(
        "policy {}, {} swaps; {} episodes, {} steps",
        status.policy_version, status.swaps, status.episodes, status.env_steps
    )));
    lines.push(learner(status));
    lines.extend(faults(status));
    lines.extend(losses(status));
    lines.push(Line::default());
    lines.extend(stages(&status.timing, width));
    lines.push(Line::default());
    lines.extend(ticks(&status.timing, width));
    lines.push(Line::default());
    lines.extend(inputs(status, width));
    lines
}

/// Whether these figures are of now.
fn news(status: &Status, unix_s: f64) -> Option<Line<'static>> {
    if status.ended {
        return Some(Line::styled("the run has ended; its last figures:", WARN));
    }
    let age_s = unix_s - status.unix_s;
    (age_s > STALE_S).then(|| {
        let words = format!("no news for {age_s:.0} s: the process has ended or hangs");
        Line::styled(words, BAD)
    })
}

fn mode(status: &Status) -> Line<'static> {
    let name = status.mode.to_uppercase();
    match &status.fault {
        None => Line::from(name.bold()),
        Some(fault) => Line::styled(format!("{name}: {fault}"), BAD),
    }
}

fn clock(clock: ClockKind) -> &'static str {
    match clock {
        ClockKind::Monotonic => "monotonic clock",
        ClockKind::Simulated => "simulated clock (lockstep)",
    }
}

fn learner(status: &Status) -> Line<'static> {
    let (words, style) = match status.learner_alive {
        None => return Line::raw(format!("no learner; {} entries", status.entries)),
        Some(true) => ("answers", GOOD),
        Some(false) => ("does not answer", WARN),
    };
    Line::from(vec![
        Span::raw("learner "),
        Span::styled(words, style),
        Span::raw(format!(
            "; it has {} of {} entries",
            status.acknowledged, status.entries
        )),
    ])
}

/// What is missing in log and accounts, if anything is.
fn losses(status: &Status) -> Option<Line<'static>> {
    let timing = &status.timing;
    let losses = [
        (status.log_losses, "entries of the log"),
        (timing.lost_ticks, "ticks' times"),
        (timing.lost_policy, "times of the policy"),
    ];
    let losses: Vec<String> = (losses.iter())
        .filter(|(n, _)| *n > 0)
        .map(|(n, what)| format!("{n} {what}"))
        .collect();
    (!losses.is_empty()).then(|| Line::styled(format!("lost: {}", losses.join(", ")), WARN))
}

/// What went wrong so far.
fn faults(status: &Status) -> Option<Line<'static>> {
    let faults: Vec<String> = (status.faults.iter())
        .map(|(words, times)| format!("{times} × {words}"))
        .collect();
    (!faults.is_empty()).then(|| Line::styled(format!("faults: {}", faults.join(", ")), WARN))
}

/// Outcomes with their shares.
fn ticks(timing: &Timing, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::from(
        format!("{:<OUTCOME_WIDTH$}{:>TICKS_WIDTH$}", "ticks", timing.ticks).bold(),
    )];
    for row in &timing.outcomes {
        let name = format!("  {}", row.outcome.name());
        let Some(ticks) = row.ticks else {
            lines.push(Line::raw(format!("{name:<OUTCOME_WIDTH$}not measured")));
            continue;
        };
        let share = ticks as f64 / timing.ticks.max(1) as f64;
        let count = format!("{name:<OUTCOME_WIDTH$}{ticks:>TICKS_WIDTH$}");
        let room = width.saturating_sub(OUTCOME_WIDTH + TICKS_WIDTH);
        let percent = format!("{:>SHARE_WIDTH$}  ", percent(share));
        let bar = bar(share, room.saturating_sub(SHARE_WIDTH + 2).min(40));
        let words = match room {
            ..SHARE_WIDTH => count,
            _ => count + &percent + &bar,
        };
        let style = match row.outcome {
            _ if ticks == 0 => Style::new().add_modifier(Modifier::DIM),
            Outcome::OnTime => GOOD,
            Outcome::Missed | Outcome::Stopped => BAD,
            _ => WARN,
        };
        lines.push(Line::styled(words, style));
    }
    lines
}

/// Rounded down below all and up above nothing: one tick of a million is not 0 %, and 100 % is all.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0 %".into(),
        100.0 => "100 %".into(),
        _ if percent < 0.01 => "<0.01 %".into(),
        _ => format!("{:.2} %", (percent * 100.0).floor() / 100.0),
    }
}

/// `share` of `room` columns; anything above nothing is seen.
fn bar(share: f64, room: usize) -> String {
    match (share * room as f64).round() as usize {
        0 if share > 0.0 && room > 0 => "▏".into(),
        columns => "█".repeat(columns),
    }
}

/// A column of the stages' table. What is dropped first on a narrow terminal has the highest `rank`.
struct Column {
    name: &'static str,
    rank: usize,
    cell: fn(&StageFigures) -> Span<'static>,
}

const COLUMNS: [Column; 7] = [
    Column {
        name: "budget",
        rank: 3,
        cell: |row| Span::raw(us(Some(row.budget_us))),
    },
    Column {
        name: "p50",
        rank: 4,
        cell: |row| against_budget(row.p50_us, row),
    },
    Column {
        name: "p99",
        rank: 0,
        cell: |row| against_budget(row.p99_us, row),
    },
    Column {
        name: "p99.9",
        rank: 5,
        cell: |row| against_budget(row.p999_us, row),
    },
    Column {
        name: "max",
        rank: 1,
        cell: |row| against_budget(row.max_us, row),
    },
    Column {
        name: "over",
        rank: 2,
        cell: |row| {
            let style = if row.over_budget > 0 { BAD } else { GOOD };
            Span::styled(row.over_budget.to_string(), style)
        },
    },
    Column {
        name: "count",
        rank: 6,
        cell: |row| Span::raw(row.count.to_string()),
    },
];

/// Stages against their budgets, in as many columns as there is room for.
fn stages(timing: &Timing, width: usize) -> Vec<Line<'static>> {
    let Some(stages) = &timing.stages else {
        return vec![Line::raw(
            "stages: not measured, as in lockstep there are no deadlines",
        )];
    };
    let room = width.saturating_sub(STAGE_WIDTH) / COLUMN_WIDTH;
    let columns = || COLUMNS.iter().filter(|column| column.rank < room);
    let cell = |text: Span<'static>| {
        let padded = format!("{:>COLUMN_WIDTH$}", text.content);
        Span::styled(padded, text.style)
    };
    let name = |name: &str| Span::raw(format!("{name:<STAGE_WIDTH$}"));
    let heads = columns().map(|column| cell(Span::raw(column.name)).bold());
    let mut lines = vec![Line::from_iter(
        std::iter::once(name("stage, µs").bold()).chain(heads),
    )];
    for row in stages {
        let title = name(&format!("  {}", row.stage.name()));
        let cells = columns().map(|column| cell((column.cell)(row)));
        lines.push(Line::from_iter(std::iter::once(title).chain(cells)));
    }
    lines
}

fn against_budget(value_us: Option<f64>, row: &StageFigures) -> Span<'static> {
    let style = match value_us {
        None => Style::new(),
        Some(value_us) if value_us > row.budget_us => BAD,
        Some(_) => GOOD,
    };
    Span::styled(us(value_us), style)
}

/// Microseconds to three digits or to one; `–`: not measured.
fn us(value_us: Option<f64>) -> String {
    match value_us {
        None => "–".into(),
        Some(value) if value < 99.95 => format!("{value:.1}"),
        Some(value) => format!("{value:.0}"),
    }
}

/// Ages of the newest inputs, as many on a line as there is room for.
fn inputs(status: &Status, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![String::from("input ages")];
    let mut first = true;
    for (name, age_ms) in &status.inputs_ms {
        let age = age_ms.map_or("never seen".into(), |ms| format!("{ms:.0} ms"));
        let item = format!("  {name} {age}");
        let last = lines.last().map_or(0, |line| line.chars().count());
        match lines.last_mut() {
            Some(line) if !first && last + item.chars().count() <= width => line.push_str(&item),
            _ => lines.push(item),
        }
        first = false;
    }
    let mut lines: Vec<Line> = lines.into_iter().map(Line::raw).collect();
    if status.inputs_ms.is_empty() {
        return Vec::new();
    }
    lines[0] = std::mem::take(&mut lines[0]).bold();
    lines
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};

    use super::*;
    use crate::status::tests::example;

    const NOW_S: f64 = 1000.5;

    fn screen(read: Result<Status, StatusError>, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, &read, NOW_S)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn rows(buffer: &Buffer) -> Vec<String> {
        let width = usize::from(buffer.area.width);
        (buffer.content.chunks(width))
            .map(|row| row.iter().map(|cell| cell.symbol()).collect())
            .map(|row: String| row.trim_end().to_owned())
            .collect()
    }

    /// Colour of the first cell that shows `words`, in the row that begins with `row`.
    fn colour(buffer: &Buffer, row: &str, words: &str) -> Color {
        let rows = rows(buffer);
        let y = rows.iter().position(|r| r.trim_start().starts_with(row));
        let y = y.unwrap_or_else(|| panic!("no row {row} in {rows:#?}"));
        let at = rows[y].find(words).unwrap();
        let x = rows[y][..at].chars().count();
        buffer[(x as u16, y as u16)].fg
    }

    #[test]
    fn the_whole_view() {
        let shown = screen(Ok(example()), 80, 32);
        let expected = "\
RUNNING
run 0123456789abcdef  rigs/so101.toml  monotonic clock
policy 12, 11 swaps; 7 episodes, 420 steps
learner answers; it has 400 of 427 entries

stage, µs         budget      p50      p99    p99.9      max     over    count
  wake               200     30.0     30.0      900      900        1      100
  state read        1000      600      600      600      600        0      100
  safety             200     20.0     20.0     20.0     20.0        0      100
  command write      500      280      280      280      280        0      100
  frame age       100000        –        –        –        –        0        0
  encode           60000    12000    12000    12000    12000        0        1
  head             20000        –        –        –        –        0        0
  publish          10000        –        –        –        –        0        0

ticks                       101
  on time                    99  98.01 %  █████████████████████████████████████
  late                        1   0.99 %  ▏
  missed                      1   0.99 %  ▏
  idle                        0      0 %
  refused late                0      0 %
  refused incomplete          0      0 %
  held                        0      0 %
  stopping                    0      0 %
  stopped                     0      0 %

input ages
  camera wrist 18 ms  teleop never seen";
        assert_eq!(rows(&shown).join("\n").trim_end(), expected);
        assert_eq!(text(&example(), NOW_S).trim_end(), expected);
        assert_eq!(colour(&shown, "wake", "30.0"), Color::Green);
        assert_eq!(colour(&shown, "wake", "900"), Color::Red);
        assert_eq!(colour(&shown, "state read", "600"), Color::Green);
        assert_eq!(colour(&shown, "head", "–"), Color::Reset);
        assert_eq!(colour(&shown, "on time", "99"), Color::Green);
        assert_eq!(colour(&shown, "late", "▏"), Color::Yellow);
        assert_eq!(colour(&shown, "missed", "1"), Color::Red);
        assert_eq!(colour(&shown, "held", "0"), Color::Reset);
        assert_eq!(colour(&shown, "learner", "answers"), Color::Green);
    }

    #[test]
    fn a_narrow_terminal_keeps_what_matters_most() {
        let shown = rows(&screen(Ok(example()), 36, 40));
        let stages = shown.iter().position(|row| row.starts_with("stage"));
        let stages = &shown[stages.unwrap()..];
        assert_eq!(stages[0], "stage, µs            p99      max");
        assert_eq!(stages[1], "  wake              30.0      900");
        assert!(shown.contains(&"  late                        1".to_owned()));
        assert!(shown.contains(&"  camera wrist 18 ms".to_owned()));
        assert!(shown.contains(&"  teleop never seen".to_owned()));
        // Nothing panics however little room there is, and what is urgent comes first.
        for (width, height) in [(1, 1), (3, 40), (10, 2), (16, 5), (500, 1)] {
            screen(Ok(example()), width, height);
        }
        assert_eq!(rows(&screen(Ok(example()), 12, 1)), ["RUNNING"]);
    }

    #[test]
    fn old_figures_say_that_they_are_old() {
        let mut status = example();
        status.unix_s = NOW_S - STALE_S;
        assert_eq!(rows(&screen(Ok(status.clone()), 80, 32))[0], "RUNNING");
        status.unix_s = NOW_S - 12.2;
        let shown = screen(Ok(status.clone()), 80, 32);
        let words = "no news for 12 s: the process has ended or hangs";
        assert_eq!(rows(&shown)[0], words);
        assert_eq!(colour(&shown, "no news", "12"), Color::Red);
        status.ended = true;
        let shown = rows(&screen(Ok(status), 80, 32));
        assert_eq!(shown[0], "the run has ended; its last figures:");
        assert_eq!(shown[1], "RUNNING");
    }

    #[test]
    fn a_fault_is_named_with_its_remedy_also_on_a_narrow_terminal() {
        let mut status = example();
        status.mode = "fault".into();
        status.fault = Some("servo 3 of arm 0 is silent; check its cable".into());
        let shown = screen(Ok(status.clone()), 80, 32);
        let words = "FAULT: servo 3 of arm 0 is silent; check its cable";
        assert_eq!(rows(&shown)[0], words);
        assert_eq!(colour(&shown, "FAULT", "servo"), Color::Red);
        let shown = rows(&screen(Ok(status), 20, 32));
        assert_eq!(shown[..3].join(" "), words);
    }

    #[test]
    fn what_was_lost_and_a_learner_that_is_gone_are_told() {
        let mut status = example();
        assert!(!text(&status, NOW_S).contains("lost"));
        status.learner_alive = Some(false);
        status.log_losses = 3;
        status.timing.lost_ticks = 4;
        let shown = screen(Ok(status.clone()), 80, 32);
        assert_eq!(colour(&shown, "learner", "does not answer"), Color::Yellow);
        assert_eq!(colour(&shown, "lost: 3 entries", "4 ticks"), Color::Yellow);
        status.timing.lost_policy = 5;
        assert!(report_text(&status).contains("5 times of the policy"));
        status.learner_alive = None;
        assert!(text(&status, NOW_S).contains("no learner; 427 entries"));
        status.faults = [("a camera gives no new frames".to_owned(), 2)].into();
        assert!(report_text(&status).contains("faults: 2 × a camera gives no new frames"));
    }

    #[test]
    fn in_lockstep_no_figure_stands_for_what_was_not_measured() {
        let mut status = example();
        status.timing.clock = ClockKind::Simulated;
        status.timing.stages = None;
        for row in &mut status.timing.outcomes {
            if matches!(row.outcome, Outcome::Late | Outcome::Missed) {
                row.ticks = None;
            }
        }
        let shown = text(&status, NOW_S);
        for words in [
            "simulated clock (lockstep)",
            "stages: not measured",
            "  late              not measured\n",
            "  missed            not measured\n",
        ] {
            assert!(shown.contains(words), "{words} is not in {shown}");
        }
        assert!(!shown.contains("wake"), "{shown}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_shown_as_that() {
        let dir = tempfile::tempdir().unwrap();
        let shown = screen(Status::read(dir.path()), 200, 5);
        assert!(rows(&shown)[0].contains("status.json"));
    }

    #[test]
    fn shares_are_not_rounded_to_nothing_or_to_all() {
        for (share, words) in [
            (0.0, "0 %"),
            (1e-6, "<0.01 %"),
            (0.0123, "1.23 %"),
            (0.999_999, "99.99 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(percent(share), words);
        }
        assert_eq!(bar(1e-6, 40), "▏");
        assert_eq!(bar(1e-6, 0), "");
        assert_eq!(bar(0.5, 40).chars().count(), 20);
    }

    #[test]
    fn the_report_is_the_accounts_alone() {
        let report = report_text(&example());
        assert!(report.starts_with("ticks                       101\n  on time"));
        assert!(report.contains("  wake               200     30.0"));
        assert!(!report.contains("policy 12") && !report.contains("camera"));
    }
}
