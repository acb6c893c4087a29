//! `hilt calibrate joints`: opens the arm's port, leads the person through with live bars of the joints, or
//! with plain lines where there is no terminal; and LeRobot's files.

use std::{
    f64::consts::{PI, TAU},
    io::{self, BufRead, IsTerminal, Write},
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, TryRecvError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use hilt_calibration::joints::{
    Bar, Key, Screen, Subject, View, calibrate, check, lerobot, positive, write,
};
use hilt_drivers::bus::{Maintenance, SerialWire};
use hilt_protocol::calibration::ArmCalibration;
use ratatui::{
    DefaultTerminal, Frame,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
    style::{Color, Modifier, Style, Stylize},
    text::{Line, Span, Text},
    widgets::{Paragraph, Wrap},
};

use crate::rig::{Rig, ServoArmSettings};

/// So often the bars are drawn.
const DRAWN: Duration = Duration::from_millis(50);
/// So often the joints are told in plain lines, while they have to be as a step wants them.
const TOLD: Duration = Duration::from_secs(5);
/// So often its angles are told to whoever turns it by hand.
const LOOKED: Duration = Duration::from_millis(500);
/// Columns of a joint's name, and of its angle.
const NAME_WIDTH: usize = 15;
const ANGLE_WIDTH: usize = 9;
/// Bars are no wider than this.
const WIDEST_BAR: usize = 80;

const GOOD: Style = Style::new().fg(Color::Green);
const WAITS: Style = Style::new().fg(Color::Yellow);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

/// Calibrates the joints of arm number `arm` (or of that leader) with the person at this terminal, at
/// `date` (RFC 3339, UTC). What it gives is kept by the servos already, and has to be put into the file. The
/// arm is limp afterwards if it was let go, whatever came then.
pub fn calibrate_joints(
    rig: &Rig,
    arm: usize,
    of_leader: bool,
    date: &str,
    stop: &AtomicBool,
) -> anyhow::Result<ArmCalibration> {
    let (mut servos, subject) = open(rig, arm, of_leader)?;
    let done = match io::stdin().is_terminal() && io::stdout().is_terminal() {
        true => {
            let mut screen = TerminalScreen::new(stop)?;
            calibrate(&mut servos, subject, arm, date, &mut screen)
        }
        false => {
            let mut screen = PlainScreen::new(io::stdout(), keys_of_stdin(), stop);
            calibrate(&mut servos, subject, arm, date, &mut screen)
        }
    };
    Ok(done?)
}

/// Makes the calibration of arm number `arm` from a file of LeRobot's, whose text this is. Its servos are
/// written to only where they do not keep it already, and must be limp then.
pub fn import_lerobot(
    rig: &Rig,
    arm: usize,
    of_leader: bool,
    text: &str,
    date: &str,
) -> anyhow::Result<ArmCalibration> {
    let (mut servos, subject) = open(rig, arm, of_leader)?;
    let plan = lerobot::import(text, &subject)?;
    Ok(write(&mut servos, &plan, arm, date)?)
}

/// Shows an arm's joints as they are turned by hand, by what was measured of them, until `stop`. Nothing is
/// moved and nothing written; an arm that holds goes on to.
pub fn look(rig: &Rig, arm: usize, of_leader: bool, stop: &AtomicBool) -> anyhow::Result<()> {
    let calibration = rig.calibrated();
    let measured = match of_leader {
        true => calibration.and_then(|c| c.leader(arm)),
        false => calibration.and_then(|c| c.arm(arm)),
    };
    let measured = measured.context("its joints are not calibrated; run: hilt calibrate joints")?;
    let settings = settings(rig, arm, of_leader)?;
    let (mut servos, subject) = open(rig, arm, of_leader)?;
    check(&mut servos, measured)?;
    let zeros = vec![0.0; measured.joints.len()];
    for (place, joint) in measured.joints.iter().enumerate() {
        let grows = positive(subject.chain(), &zeros, place);
        println!("{}: its angle grows so that {grows}", joint.name);
    }
    println!("turn each joint by hand; Ctrl-C ends this");
    while !stop.load(Ordering::Relaxed) {
        let mut words = Vec::new();
        for (joint, servo) in measured.joints.iter().zip(&settings.servos.joints) {
            words.push(match servos.position(servo.id) {
                Ok(counts) => {
                    // Before it is started a servo may count a turn more or less.
                    let turned = (servo.radians(counts) + PI).rem_euclid(TAU) - PI;
                    format!("{} {:.1}°", joint.name, turned.to_degrees())
                }
                Err(error) => format!("{} ({error})", joint.name),
            });
        }
        println!("{}", words.join(", "));
        thread::sleep(LOOKED);
    }
    Ok(())
}

/// What the rig's file says of an arm of servos, or of a leader.
fn settings(rig: &Rig, arm: usize, of_leader: bool) -> anyhow::Result<&ServoArmSettings> {
    let (what, arms): (_, Vec<_>) = match of_leader {
        true => ("leaders", rig.leaders.iter().map(Some).collect()),
        false => ("arms", rig.arms.iter().map(|arm| arm.servos()).collect()),
    };
    match arms.get(arm) {
        Some(Some(settings)) => Ok(settings),
        Some(None) => bail!("arm {arm} of the rig has no servos to calibrate; give another --arm"),
        None => bail!(
            "the rig's file names {} {what}, and none number {arm}",
            arms.len()
        ),
    }
}

/// The servos of an arm of the rig, and what has to be known of it.
fn open(
    rig: &Rig,
    arm: usize,
    of_leader: bool,
) -> anyhow::Result<(Maintenance<SerialWire>, Subject)> {
    let settings = settings(rig, arm, of_leader)?;
    let port = settings.port.display();
    let failed = || format!("the arm at {port}");
    let subject = Subject::new(&settings.servos, settings.chain()?, None).with_context(failed)?;
    let (family, baud) = (settings.servos.family, settings.servos.baud);
    let wire = SerialWire::open(&settings.port.to_string_lossy(), baud).with_context(failed)?;
    Ok((Maintenance::new(wire, family, baud), subject))
}

/// Bars on the whole terminal, which is given back when this is dropped.
struct TerminalScreen<'a> {
    terminal: DefaultTerminal,
    stop: &'a AtomicBool,
    drawn: Option<(Instant, View)>,
}

impl<'a> TerminalScreen<'a> {
    fn new(stop: &'a AtomicBool) -> anyhow::Result<Self> {
        let terminal = ratatui::try_init().context("this terminal cannot be drawn on")?;
        Ok(Self {
            terminal,
            stop,
            drawn: None,
        })
    }
}

impl Drop for TerminalScreen<'_> {
    fn drop(&mut self) {
        if let Err(error) = ratatui::try_restore() {
            tracing::warn!("the terminal was not restored ({error}); type `reset`");
        }
    }
}

impl Screen for TerminalScreen<'_> {
    fn show(&mut self, view: &View) -> io::Result<()> {
        let is_new = |(at, shown): &(Instant, View)| {
            at.elapsed() >= DRAWN || shown.ask != view.ask || shown.wrong != view.wrong
        };
        if self.drawn.as_ref().is_none_or(is_new) {
            self.terminal.draw(|frame| draw(frame, view))?;
            self.drawn = Some((Instant::now(), view.clone()));
        }
        Ok(())
    }

    fn key(&mut self) -> io::Result<Option<Key>> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(Some(Key::Quit));
        }
        match event::poll(Duration::ZERO)? {
            true => Ok(key_of(&event::read()?)),
            false => Ok(None),
        }
    }
}

/// Enter or space: done; r: again; q, Esc, Ctrl-C: enough.
fn key_of(event: &Event) -> Option<Key> {
    let Event::Key(key) = event else {
        return None;
    };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
        KeyCode::Enter | KeyCode::Char(' ') => Some(Key::Next),
        KeyCode::Char('r' | 'R') => Some(Key::Again),
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => Some(Key::Quit),
        _ => None,
    }
}

/// Lines, where nobody sees bars: what is asked and what is wrong, when it changes.
struct PlainScreen<'a, W> {
    out: W,
    keys: Receiver<Key>,
    stop: &'a AtomicBool,
    shown: Option<View>,
    told: Instant,
}

impl<'a, W: Write> PlainScreen<'a, W> {
    fn new(out: W, keys: Receiver<Key>, stop: &'a AtomicBool) -> Self {
        Self {
            out,
            keys,
            stop,
            shown: None,
            told: Instant::now(),
        }
    }
}

impl<W: Write> Screen for PlainScreen<'_, W> {
    fn show(&mut self, view: &View) -> io::Result<()> {
        let asks = self
            .shown
            .as_ref()
            .is_none_or(|shown| shown.ask != view.ask);
        let is_wrong = self.shown.as_ref().map(|shown| &shown.wrong) != Some(&view.wrong);
        if asks {
            writeln!(self.out, "step {} of {}", view.step.0, view.step.1)?;
            view.ask
                .iter()
                .try_for_each(|line| writeln!(self.out, "{line}"))?;
            writeln!(
                self.out,
                "then press enter (r and enter: again, q and enter: quit)"
            )?;
        }
        if is_wrong {
            view.wrong
                .iter()
                .try_for_each(|line| writeln!(self.out, "! {line}"))?;
        }
        if self.told.elapsed() >= TOLD && view.bars.iter().any(|bar| bar.good == Some(false)) {
            self.told = Instant::now();
            let waits = view.bars.iter().filter(|bar| bar.good == Some(false));
            let waits: Vec<_> = waits
                .map(|bar| format!("{} at {}", bar.name, angle(bar)))
                .collect();
            writeln!(self.out, "still: {}", waits.join(", "))?;
        }
        if asks || is_wrong {
            self.shown = Some(view.clone());
            self.out.flush()?;
        }
        Ok(())
    }

    fn key(&mut self) -> io::Result<Option<Key>> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(Some(Key::Quit));
        }
        match self.keys.try_recv() {
            Ok(key) => Ok(Some(key)),
            Err(TryRecvError::Empty) => Ok(None),
            // Nobody is there any more.
            Err(TryRecvError::Disconnected) => Ok(Some(Key::Quit)),
        }
    }
}

/// Reads lines until there are no more: the thread ends with them, or with the process.
fn keys_of_stdin() -> Receiver<Key> {
    let (sender, keys) = mpsc::sync_channel(16);
    let read = move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            let key = match line.trim() {
                "" => Key::Next,
                "r" | "R" => Key::Again,
                "q" | "Q" => Key::Quit,
                _ => continue,
            };
            if sender.send(key).is_err() {
                return;
            }
        }
    };
    // Without it there are no keys, and that is an end.
    let _ = thread::Builder::new().name("keys".into()).spawn(read);
    keys
}

/// Fills `frame` with what the person shall see. Pure.
pub fn draw(frame: &mut Frame, view: &View) {
    let width = usize::from(frame.area().width);
    let (step, steps) = view.step;
    let mut lines = vec![
        Line::from(format!("calibrate joints, step {step} of {steps}").bold()),
        Line::default(),
    ];
    lines.extend(view.ask.iter().cloned().map(Line::raw));
    lines.push(Line::default());
    lines.extend(view.bars.iter().map(|bar| bar_line(bar, width)));
    lines.push(Line::default());
    lines.extend(
        view.wrong
            .iter()
            .map(|words| Line::styled(words.clone(), BAD)),
    );
    lines.push(Line::from(
        "enter or space: go on   r: again   q: quit".dim(),
    ));
    let page = Paragraph::new(Text::from(lines)).wrap(Wrap { trim: false });
    frame.render_widget(page, frame.area());
}

fn bar_line(bar: &Bar, width: usize) -> Line<'static> {
    let style = match bar.good {
        Some(true) => GOOD,
        Some(false) => WAITS,
        None => Style::new().add_modifier(Modifier::DIM),
    };
    let name = format!("{:<NAME_WIDTH$}", bar.name);
    let room = width
        .saturating_sub(NAME_WIDTH + ANGLE_WIDTH + 1)
        .min(WIDEST_BAR);
    Line::from(vec![
        Span::raw(name),
        Span::styled(format!("{:>ANGLE_WIDTH$} ", angle(bar)), style),
        Span::styled(columns(bar, room), style),
    ])
}

fn angle(bar: &Bar) -> String {
    bar.now_deg
        .map_or("?".to_owned(), |now| format!("{now:.1}°"))
}

/// The bar itself: `·` where the shape goes, `━` where the joint was, `●` where it is.
fn columns(bar: &Bar, room: usize) -> String {
    let Some(now) = bar.now_deg.filter(|_| room > 1) else {
        return String::new();
    };
    // A turn, where nothing says what to show.
    let (from, to) = match (bar.shape_deg, bar.range_deg) {
        (Some(shape), range) => {
            let reached = range.unwrap_or(shape);
            (shape.0.min(reached.0) - 10.0, shape.1.max(reached.1) + 10.0)
        }
        (None, range) => {
            let reached = range.unwrap_or((now, now));
            (reached.0.min(-180.0), reached.1.max(180.0))
        }
    };
    let last = room - 1;
    let column = |angle: f64| {
        let share = ((angle - from) / (to - from)).clamp(0.0, 1.0);
        (share * last as f64).round() as usize
    };
    let mut marks = vec![' '; room];
    for (extent, mark) in [(bar.shape_deg, '·'), (bar.range_deg, '━')] {
        if let Some((a, b)) = extent {
            marks[column(a)..=column(b)].fill(mark);
        }
    }
    marks[column(now)] = '●';
    marks.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend, crossterm::event::KeyEvent};

    use super::*;

    fn bar(now: f64) -> Bar {
        Bar {
            name: "elbow_flex".into(),
            now_deg: Some(now),
            range_deg: Some((-50.0, 20.0)),
            shape_deg: Some((-90.0, 90.0)),
            good: Some(false),
        }
    }

    fn view(wrong: &[&str]) -> View {
        View {
            step: (4, 7),
            ask: vec!["Move every joint.".into()],
            wrong: wrong.iter().map(|words| (*words).to_owned()).collect(),
            bars: vec![bar(10.0)],
        }
    }

    #[test]
    fn a_bar_shows_the_shape_the_range_and_where_the_joint_is() {
        // 200° in 21 columns: ten degrees each.
        assert_eq!(columns(&bar(10.0), 21), " ····━━━━━━●━······· ");
        assert_eq!(columns(&bar(-50.0), 21), " ····●━━━━━━━······· ");
        // Beyond the shape the whole is wider.
        let beyond = Bar {
            range_deg: Some((-50.0, 190.0)),
            ..bar(190.0)
        };
        assert_eq!(columns(&beyond, 31), " ····━━━━━━━━━━━━━━━━━━━━━━━━● ");
        let unknown = Bar {
            now_deg: None,
            ..bar(0.0)
        };
        assert_eq!(
            (columns(&unknown, 21).as_str(), angle(&unknown).as_str()),
            ("", "?")
        );
        for room in 0..3 {
            assert!(columns(&bar(0.0), room).chars().count() <= room);
        }
    }

    #[test]
    fn all_is_on_the_page() {
        let mut terminal = Terminal::new(TestBackend::new(60, 12)).unwrap();
        let view = view(&["elbow_flex was moved over 70° of about 180°"]);
        terminal.draw(|frame| draw(frame, &view)).unwrap();
        let page = terminal.backend().to_string();
        for words in [
            "step 4 of 7",
            "Move every joint.",
            "elbow_flex         10.0° ",
            "━●",
            "of about 180°",
            "q: quit",
        ] {
            assert!(page.contains(words), "{page}");
        }
        let mut narrow = Terminal::new(TestBackend::new(4, 3)).unwrap();
        narrow.draw(|frame| draw(frame, &view)).unwrap();
    }

    #[test]
    fn plain_lines_say_each_thing_once() {
        let (sender, keys) = mpsc::sync_channel(4);
        let stop = AtomicBool::new(false);
        let mut out = Vec::new();
        let mut screen = PlainScreen::new(&mut out, keys, &stop);
        for _ in 0..3 {
            screen.show(&view(&[])).unwrap();
        }
        for _ in 0..3 {
            screen.show(&view(&["it moves"])).unwrap();
        }
        assert_eq!(screen.key().unwrap(), None);
        sender.send(Key::Next).unwrap();
        assert_eq!(screen.key().unwrap(), Some(Key::Next));
        drop(sender);
        assert_eq!(screen.key().unwrap(), Some(Key::Quit), "no more lines come");
        let text = String::from_utf8(out).unwrap();
        let expected = "step 4 of 7\nMove every joint.\n\
                        then press enter (r and enter: again, q and enter: quit)\n! it moves\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn ctrl_c_ends_it() {
        let stop = AtomicBool::new(true);
        let (_sender, keys) = mpsc::sync_channel(1);
        let mut screen = PlainScreen::new(Vec::new(), keys, &stop);
        assert_eq!(screen.key().unwrap(), Some(Key::Quit));
        let key = |code, modifiers| key_of(&Event::Key(KeyEvent::new(code, modifiers)));
        let none = KeyModifiers::NONE;
        assert_eq!(
            key(KeyCode::Char('c'), KeyModifiers::CONTROL),
            Some(Key::Quit)
        );
        assert_eq!(key(KeyCode::Char('c'), none), None);
        assert_eq!(key(KeyCode::Char(' '), none), Some(Key::Next));
        assert_eq!(key(KeyCode::Enter, none), Some(Key::Next));
        assert_eq!(key(KeyCode::Char('r'), none), Some(Key::Again));
        assert_eq!(key(KeyCode::Esc, none), Some(Key::Quit));
    }
}
