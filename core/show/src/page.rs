//! The page that a program leaves of what it found: one HTML file that holds all it shows.
//!
//! ```
//! # use hilt_show::page::{Page, Tone};
//! let mut page = Page::new("log.npz", "a table of 2 episodes");
//! page.notice(Tone::Fault, "reward: NaN in row 3", "leave it out", []);
//! page.heading("Figures");
//! page.facts([("steps", "400".to_owned())]);
//! assert!(page.html().ends_with("</html>\n"));
//! ```

use std::fmt::{Arguments, Write};

use crate::{html::escape, plot::Plot};

const STYLE: &str = "body{font:15px/1.45 sans-serif;max-width:1110px;margin:2em auto;padding:0 1em;color:#222}\
h1{font-size:1.5em;margin-bottom:0}h2{font-size:1.15em;margin:1.8em 0 .4em}h3{font-size:1em;font-weight:normal;margin:1em 0 .3em}\
.kind{color:#666;margin:.2em 0 1em}.notice{padding:.5em 1em;border-left:6px solid;margin:.5em 0}\
.fault{background:#fdeeec;border-color:#c83c32}.look{background:#fff6e0;border-color:#e0a030}\
.good{background:#e9f6ec;border-color:#28a03c}.place{color:#666;font-size:.85em;font-family:monospace}\
table{border-collapse:collapse}th,td{text-align:left;padding:.15em .9em .15em 0;vertical-align:top;font-weight:normal}\
th{color:#666}td.n{text-align:right;font-variant-numeric:tabular-nums}.out{color:#b03020}\
p.note{color:#666;font-size:.9em;margin:.2em 0 .8em}.plots svg{margin:0 .6em .6em 0;background:#fff}\
i{display:inline-block;width:.7em;height:.7em;border-radius:50%;margin:0 .3em 0 .9em}";

/// Plots are this large where there are many, pixels.
pub const SMALL: (f64, f64) = (262.0, 150.0);

/// How grave a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing is wrong.
    Good,
    /// Somebody should look.
    Look,
    /// Something is wrong.
    Fault,
}

/// A page in the making.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    kind: String,
    style: &'static str,
    body: String,
}

impl Page {
    /// With nothing but a title and what that is.
    pub fn new(title: &str, kind: &str) -> Self {
        Self {
            title: title.to_owned(),
            kind: kind.to_owned(),
            style: "",
            body: String::new(),
        }
    }

    /// With rules for what it alone has.
    pub fn styled(self, style: &'static str) -> Self {
        Self { style, ..self }
    }

    /// Anything, as it stands there.
    pub fn push(&mut self, html: Arguments) {
        // A String takes all that it is given.
        let _ = self.body.write_fmt(html);
    }

    /// The heading of a section.
    pub fn heading(&mut self, text: &str) {
        self.push(format_args!("<h2>{}</h2>\n", escape(text)));
    }

    /// Small print; `html` stands there as it is.
    pub fn note(&mut self, html: &str) {
        self.push(format_args!("<p class=\"note\">{html}</p>\n"));
    }

    /// Something to be known first: what it is, what to do about it, and where it is.
    pub fn notice(
        &mut self,
        tone: Tone,
        what: &str,
        remedy: &str,
        places: impl IntoIterator<Item = String>,
    ) {
        let class = match tone {
            Tone::Good => "good",
            Tone::Look => "look",
            Tone::Fault => "fault",
        };
        let (what, remedy) = (escape(what), escape(remedy));
        self.push(format_args!("<div class=\"notice {class}\"><b>{what}</b>"));
        if !remedy.is_empty() {
            self.push(format_args!("<br>{remedy}"));
        }
        for place in places {
            let place = escape(&place);
            self.push(format_args!("<br><span class=\"place\">{place}</span>"));
        }
        self.push(format_args!("</div>\n"));
    }

    /// A table of what it is called and what it is.
    pub fn facts<'a>(&mut self, facts: impl IntoIterator<Item = (&'a str, String)>) {
        self.push(format_args!("<table>\n"));
        for (name, value) in facts {
            let (name, value) = (escape(name), escape(&value));
            self.push(format_args!("<tr><th>{name}</th><td>{value}</td></tr>\n"));
        }
        self.push(format_args!("</table>\n"));
    }

    /// The plots in a row, as far as there is anything to draw.
    pub fn plots(&mut self, plots: impl IntoIterator<Item = Plot>) {
        self.push(format_args!("<div class=\"plots\">"));
        for svg in plots.into_iter().filter_map(|plot| plot.svg()) {
            self.push(format_args!("{svg}\n"));
        }
        self.push(format_args!("</div>\n"));
    }

    /// The whole file.
    pub fn html(&self) -> String {
        let (title, kind) = (escape(&self.title), escape(&self.kind));
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
             <style>{STYLE}{}</style></head>\n<body><h1>{title}</h1>\n<p class=\"kind\">{kind}</p>\n{}</body></html>\n",
            self.style, self.body
        )
    }
}

/// What colours mean, for a [`Page::note`].
pub fn legend<'a>(colours: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let one = |(colour, name)| format!("<i style=\"background:{colour}\"></i>{}", escape(name));
    colours.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_what_it_is_told_is_taken_for_the_page() {
        let bad = "<b>\"&";
        let mut page = Page::new(bad, bad);
        page.heading(bad);
        page.notice(Tone::Look, bad, bad, [bad.to_owned()]);
        page.facts([(bad, bad.to_owned())]);
        page.note(&legend([("#fff", bad)]));
        let html = page.html();
        assert_eq!(html.matches("&lt;b&gt;&quot;&amp;").count(), 10);
        assert!(!html.contains(bad));
    }

    #[test]
    fn what_has_no_remedy_and_no_place_is_one_line() {
        let mut page = Page::new("a", "b");
        page.notice(Tone::Good, "nothing was found", "", []);
        let html = page.html();
        assert!(html.contains("<div class=\"notice good\"><b>nothing was found</b></div>"));
    }
}
