//! Findings as text.

use std::fmt::Write;

use super::{Finding, Level};

/// A line for each finding, its remedy below it. `in_colour`: for a terminal.
pub fn report(findings: &[Finding], in_colour: bool) -> String {
    let width = findings.iter().map(|f| f.subject.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let (word, code) = match finding.level {
            Level::Ok => ("ok  ", 32),
            Level::Note => ("note", 33),
            Level::Mend => ("MEND", 31),
        };
        let word = match in_colour {
            true => format!("\x1b[{code}m{word}\x1b[0m"),
            false => word.to_owned(),
        };
        let (subject, says) = (finding.subject, &finding.says);
        let _ = writeln!(text, "{word}  {subject:width$}  {says}");
        if let Some(remedy) = &finding.remedy {
            for (i, line) in remedy.lines().enumerate() {
                let mark = if i == 0 { "→" } else { " " };
                let _ = writeln!(text, "      {:width$}  {mark} {line}", "");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Finding> {
        let remedy = "first\nthen".to_owned();
        vec![
            Finding::ok("kernel", "fine"),
            Finding::note("swap", "is on", remedy).must_be_mended_if(true),
        ]
    }

    #[test]
    fn the_columns_stand_below_each_other() {
        let wanted = "ok    kernel  fine\nMEND  swap    is on\n              → first\n                then\n";
        assert_eq!(report(&two(), false), wanted);
    }

    #[test]
    fn colour_is_only_on_the_words_of_levels() {
        let text = report(&two(), true);
        assert!(text.starts_with("\x1b[32mok  \x1b[0m  kernel  fine\n\x1b[31mMEND\x1b[0m  swap"));
        assert_eq!(text.matches('\x1b').count(), 4);
    }
}
