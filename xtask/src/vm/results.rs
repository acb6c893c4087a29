//! What the program in the machine says about its cases, held against what it was meant to run.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// How one case went.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CaseResult {
    /// The case.
    pub case: String,
    /// Whether it passed.
    pub passed: bool,
    /// How long it took on the machine's clock, which is not ours.
    pub took_ms: u64,
    /// Its figures, or why it failed.
    pub says: String,
}

impl CaseResult {
    /// A line from the machine.
    pub fn parse(line: &str) -> Result<Self> {
        serde_json::from_str(line).with_context(|| format!("the machine says {line:?}"))
    }

    /// For people: one line, and below it what a failure says.
    pub fn line(&self) -> String {
        let verdict = if self.passed { "ok" } else { "FAILED" };
        let says = match self.passed {
            true => self.says.clone(),
            false => format!("\n    {}", self.says.trim().replace('\n', "\n    ")),
        };
        let seconds = self.took_ms as f64 / 1000.0;
        format!("{verdict:6} {:42} {seconds:5.1} s  {says}", self.case)
    }
}

/// The last line: how many of the `planned` cases ran and passed.
///
/// It is an error when any failed, did not run, ran twice, or was not planned.
pub fn verdict(planned: &[String], results: &[CaseResult]) -> Result<String> {
    if planned.is_empty() {
        bail!("vm: no case was planned, so nothing was tested");
    }
    let passed = results.iter().filter(|result| result.passed).count();
    let mut line = format!("vm: {} cases ran, {passed} passed", results.len());
    let runs = |case: &String| results.iter().filter(|r| r.case == *case).count();
    let ran = results.iter();
    let complaints: [(&str, Vec<&String>); 4] = [
        (
            "failed",
            ran.clone().filter(|r| !r.passed).map(|r| &r.case).collect(),
        ),
        (
            "did not run",
            planned.iter().filter(|case| runs(case) == 0).collect(),
        ),
        (
            "ran twice",
            planned.iter().filter(|case| runs(case) > 1).collect(),
        ),
        (
            "were not planned",
            ran.map(|r| &r.case)
                .filter(|case| !planned.contains(case))
                .collect(),
        ),
    ];
    let mut bad = false;
    for (what, cases) in complaints.iter().filter(|(_, cases)| !cases.is_empty()) {
        bad = true;
        let cases: Vec<&str> = cases.iter().map(|case| case.as_str()).collect();
        line += &format!("; {what}: {}", cases.join(", "));
    }
    if bad {
        bail!(line);
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(case: &str, passed: bool) -> CaseResult {
        let json = format!(r#"{{"case":"{case}","passed":{passed},"took_ms":1200,"says":"a\nb"}}"#);
        CaseResult::parse(&json).unwrap()
    }

    #[test]
    fn a_line_is_read_and_written_for_people() {
        let result = result("serial/bytes", false);
        assert_eq!(result.took_ms, 1200);
        let line = result.line();
        assert!(line.starts_with("FAILED serial/bytes"), "{line}");
        assert!(
            line.contains("1.2 s") && line.ends_with("\n    a\n    b"),
            "{line}"
        );
        assert!(CaseResult::parse("[    2.1] random: crng init done").is_err());
    }

    #[test]
    fn less_than_was_meant_is_a_failure() {
        let planned = ["a".to_owned(), "b".to_owned()];
        let both = [result("a", true), result("b", true)];
        assert_eq!(
            verdict(&planned, &both).unwrap(),
            "vm: 2 cases ran, 2 passed"
        );
        let said = |results: &[CaseResult]| verdict(&planned, results).unwrap_err().to_string();
        assert!(said(&both[..1]).ends_with("did not run: b"));
        assert!(said(&[result("a", true), result("b", false)]).ends_with("failed: b"));
        let twice = [both[0].clone(), both[0].clone(), both[1].clone()];
        assert!(said(&twice).ends_with("ran twice: a"));
        let stray = [both[0].clone(), both[1].clone(), result("c", true)];
        assert!(said(&stray).ends_with("were not planned: c"));
        assert!(verdict(&[], &[]).is_err());
    }
}
