//! What a user sees while a program runs, and how they end it.
//!
//! [`Show`] is one piece of work: a bar on a terminal, and where standard error is no terminal (a
//! file, a pipe, a service) a plain line now and then, so that a log can be read afterwards.
//! [`Rate`] makes rates from counts. [`on_ctrl_c`] tells a wish to end from an order to.
//! [`page`], [`html`] and [`plot`] are for the pages that it leaves.
#![deny(missing_docs)]

mod ctrl_c;
pub mod html;
pub mod page;
pub mod plot;
mod rate;

use std::{
    io::Write,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

pub use ctrl_c::{Request, exit_at_once, on_ctrl_c};
pub use rate::Rate;

/// A bar is given new words so often: as often as it is drawn.
const DRAWN: Duration = Duration::from_millis(100);
/// A plain line comes so often.
const TOLD: Duration = Duration::from_secs(30);

/// A piece of work that the user watches.
#[derive(Debug)]
pub struct Show {
    title: String,
    bar: ProgressBar,
    last: Instant,
}

impl Show {
    /// Work that is `length` long, or that has no end of its own.
    pub fn new(title: &str, length: Option<u64>) -> Self {
        let bar = match length {
            Some(length) => ProgressBar::new(length).with_style(style(true)),
            None => ProgressBar::no_length().with_style(style(false)),
        };
        bar.set_prefix(title.to_owned());
        bar.tick();
        Self {
            title: title.to_owned(),
            bar,
            last: Instant::now(),
        }
    }

    /// A sentence that stays: above the bar, or a line of its own.
    pub fn say(&self, words: &str) {
        if self.bar.is_hidden() {
            line(words);
        } else {
            self.bar.println(words);
        }
    }

    /// How far the work is; `words` is asked only when they are about to be shown.
    pub fn stand(&mut self, position: u64, words: impl FnOnce() -> String) {
        let hidden = self.bar.is_hidden();
        if self.last.elapsed() < if hidden { TOLD } else { DRAWN } {
            return;
        }
        self.last = Instant::now();
        self.show(position, &words());
    }

    fn show(&self, position: u64, words: &str) {
        if !self.bar.is_hidden() {
            self.bar.set_position(position);
            self.bar.set_message(words.to_owned());
            return;
        }
        match self.bar.length() {
            Some(length) => line(&format!("{}: {position}/{length}  {words}", self.title)),
            None => line(&format!("{}: {words}", self.title)),
        }
    }

    /// The work is over: the bar goes.
    pub fn end(self) {
        self.bar.finish_and_clear();
    }
}

/// A line to standard output. Nobody may be reading it any more, which must not end the work.
fn line(words: &str) {
    let _ = writeln!(std::io::stdout(), "{words}");
}

fn template(with_bar: bool) -> &'static str {
    if with_bar {
        "{prefix} {bar:20} {pos}/{len}  {msg}"
    } else {
        "{prefix}  {msg}"
    }
}

fn style(with_bar: bool) -> ProgressStyle {
    ProgressStyle::with_template(template(with_bar))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█▉ ")
}

/// A share in percent; a dash for none.
pub fn percent(share: Option<f64>) -> String {
    share.map_or("–".to_owned(), |share| format!("{:.0} %", share * 100.0))
}

/// A rate with one decimal; a dash for none.
pub fn per_s(rate: Option<f64>) -> String {
    rate.map_or("–".to_owned(), |rate| format!("{rate:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_right() {
        for with_bar in [true, false] {
            assert!(ProgressStyle::with_template(template(with_bar)).is_ok());
        }
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        assert_eq!((percent(None), per_s(None)), ("–".into(), "–".into()));
        assert_eq!(percent(Some(0.456)), "46 %");
        assert_eq!(per_s(Some(12.34)), "12.3");
    }
}
