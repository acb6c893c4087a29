//! What became of the generations of a training: told as they end, in lines of figures, and when it is over.

use std::fmt;

use anyhow::{Context, Result};
use serde::Serialize;
use tch::Tensor;

use crate::course::{State, named};

/// Names of what a checkpoint has of it.
const COUNTS: &str = "generative.counts";
const REFUSAL: &str = "generative.last_refusal";

/// The generations of a training, those of processes before this one included.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Account {
    /// Begun, and the step at which the last one was.
    #[serde(skip)]
    begun: u64,
    #[serde(skip)]
    begun_at: u64,
    /// Ended, and how many of them were left out.
    #[serde(rename = "generations")]
    ended: u64,
    refused: u64,
    /// Which of those that ended was believed last, from 1; 0: none.
    #[serde(skip)]
    believed: u64,
    /// Why the last that was left out was.
    last_refusal: Option<String>,
    /// Figures of the newest that ended, until they are told.
    #[serde(skip)]
    figures: Option<Vec<(&'static str, f64)>>,
    /// What nobody has said yet.
    #[serde(skip)]
    news: Vec<String>,
}

impl Account {
    /// Those begun: the number of the newest.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// The step at which the newest began.
    pub fn begun_at(&self) -> u64 {
        self.begun_at
    }

    /// Which of those that ended was believed last, from 1; 0: none.
    pub fn believed(&self) -> u64 {
        self.believed
    }

    /// Whether that was the last of all.
    pub fn is_last_believed(&self) -> bool {
        self.believed == self.ended
    }

    /// Whether the next one is to begin after so many steps, where one does once in `every`. On a robot's stream many
    /// steps can have come since it was asked last.
    pub fn is_due(&self, steps: u64, every: u64) -> bool {
        steps / every > self.begun_at / every
    }

    /// One begins after so many steps.
    pub fn begin(&mut self, steps: u64) {
        (self.begun, self.begun_at) = (self.begun + 1, steps);
    }

    /// The one that began last is used from here on.
    pub fn believe(&mut self, figures: Vec<(&'static str, f64)>, rows: i64) {
        self.ended += 1;
        self.believed = self.ended;
        self.figures = Some(figures);
        self.tell(format!(
            "generation {} is used from here on: {rows} rows",
            self.begun
        ));
    }

    /// The one that began last is left out, and learning goes on.
    pub fn refuse(&mut self, figures: Vec<(&'static str, f64)>, reason: String) {
        (self.ended, self.refused) = (self.ended + 1, self.refused + 1);
        self.figures = Some(figures);
        self.tell(format!(
            "generation {} is left out, and learning goes on: {reason}",
            self.begun
        ));
        self.last_refusal = Some(reason);
    }

    /// Somebody will say it.
    pub fn tell(&mut self, words: String) {
        self.news.push(words);
    }

    /// What is to be said since it was last asked.
    pub fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    /// If one ended since it was last asked: how it went, and how many did until then, for there can have been others.
    pub fn told(&mut self) -> Vec<(&'static str, f64)> {
        let Some(mut figures) = self.figures.take() else {
            return vec![];
        };
        figures.push(("generative/generation", self.ended as f64));
        figures.push(("generative/refused", self.refused as f64));
        figures
    }

    /// What a checkpoint keeps of it.
    pub fn kept(&self) -> Vec<(String, Tensor)> {
        let counts = [
            self.begun,
            self.begun_at,
            self.ended,
            self.refused,
            self.believed,
        ];
        let counts = Tensor::from_slice(&counts.map(|count| count as i64));
        let mut kept = vec![(COUNTS.to_owned(), counts)];
        let reason = self.last_refusal.as_ref();
        kept.extend(
            reason.map(|reason| (REFUSAL.to_owned(), Tensor::from_slice(reason.as_bytes()))),
        );
        kept
    }

    /// What [`Account::kept`] gave, found among other tensors.
    ///
    /// # Errors
    /// If it is not there, or another number of counts.
    pub fn restored(kept: &State) -> Result<Self> {
        let counts = Vec::<i64>::try_from(named(kept, COUNTS)?)?;
        let counts = Vec::from_iter(counts.into_iter().map(|count| count as u64));
        let [begun, begun_at, ended, refused, believed] = counts[..] else {
            anyhow::bail!("`{COUNTS}` has {} numbers of 5", counts.len());
        };
        let last_refusal = match named(kept, REFUSAL) {
            Err(_) => None,
            Ok(bytes) => {
                let bytes = Vec::<u8>::try_from(bytes)?;
                Some(String::from_utf8(bytes).with_context(|| format!("`{REFUSAL}`"))?)
            }
        };
        Ok(Self {
            begun,
            begun_at,
            ended,
            refused,
            believed,
            last_refusal,
            ..Self::default()
        })
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.ended {
            0 => write!(f, "no generation has ended"),
            1 => write!(f, "1 generation"),
            ended => write!(f, "{ended} generations"),
        }?;
        match &self.last_refusal {
            None => Ok(()),
            Some(reason) => write!(f, ", {} left out, the last for: {reason}", self.refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_that_ends_before_a_line_of_figures_does_not_hide_the_one_before_it() {
        let mut account = Account::default();
        assert_eq!(account.told(), []);
        account.begin(100);
        account.refuse(vec![("generative/loss", 0.9)], "too near".into());
        account.begin(200);
        account.believe(vec![("generative/loss", 0.4)], 50);
        let counted = [("generative/generation", 2.0), ("generative/refused", 1.0)];
        assert_eq!(
            account.told(),
            [&[("generative/loss", 0.4)][..], &counted].concat()
        );
        assert_eq!(account.told(), []);
        assert_eq!(
            account.news(),
            [
                "generation 1 is left out, and learning goes on: too near",
                "generation 2 is used from here on: 50 rows"
            ]
        );
        assert_eq!(account.news(), Vec::<String>::new());
    }

    #[test]
    fn it_is_told_in_words_and_goes_on_from_what_was_kept() {
        let mut account = Account::default();
        assert_eq!(account.to_string(), "no generation has ended");
        account.begin(100);
        account.believe(vec![], 50);
        assert_eq!(account.to_string(), "1 generation");
        account.begin(200);
        account.refuse(vec![], "§ too near".into());
        let mut again = Account::restored(&account.kept()).unwrap();
        assert_eq!(again.told(), [], "what was told is not told again");
        assert_eq!(again.kept(), account.kept());
        assert_eq!((again.believed(), again.is_last_believed()), (1, false));
        assert_eq!(
            again.to_string(),
            "2 generations, 1 left out, the last for: § too near"
        );
        let summary = serde_json::to_value(&again).unwrap();
        let wanted =
            serde_json::json!({"generations": 2, "refused": 1, "last_refusal": "§ too near"});
        assert_eq!(summary, wanted);
        assert!(!again.is_due(299, 100) && again.is_due(300, 100));
        assert!(Account::restored(&[]).is_err());
    }
}
