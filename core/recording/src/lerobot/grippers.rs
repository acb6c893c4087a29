//! How a foreign dataset's grippers are commanded: as LeRobot counts, 0 (close), 1 (stay), 2 (open), or as here, from -1
//! (close) to 1 (open). What was written does not say, and 0 and 1 alone are in both.

/// What a column of commands holds besides 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// 2, which LeRobot alone has.
    two: bool,
    /// -1, which is ours.
    minus_one: bool,
    /// Numbers between, as of a gripper that follows a position.
    between: bool,
}

/// Why it cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unclear {
    /// Which of the columns.
    pub column: usize,
    pub what: String,
}

impl Held {
    /// Takes in a value; whether it is one that a command can be.
    pub fn add(&mut self, value: f32) -> bool {
        match value {
            0.0 | 1.0 => {}
            2.0 => self.two = true,
            -1.0 => self.minus_one = true,
            value if value.abs() < 1.0 => self.between = true,
            _ => return false,
        }
        true
    }

    fn words(self) -> &'static str {
        match self {
            Self { between: true, .. } => "numbers between",
            Self { two: true, .. } => "0, 1 and 2",
            Self {
                minus_one: true, ..
            } => "-1, 0 and 1",
            _ => "0 and 1 alone",
        }
    }
}

/// Whether all columns count from 0.
pub(super) fn count_from_0(columns: &[Held]) -> Result<bool, Unclear> {
    let unclear = |column, what| Err(Unclear { column, what });
    for (column, held) in columns.iter().enumerate() {
        if held.two && (held.minus_one || held.between) {
            return unclear(
                column,
                "holds 2, and also numbers below 0 or between".into(),
            );
        }
        let told = |other: &Held| other.two || other.minus_one || other.between;
        // One program writes all of them alike: 0 and 1 of one column are what another says, but for a position.
        let other = columns[column + 1..].iter().find(|other| {
            held.between != other.between || told(held) && told(other) && held.two != other.two
        });
        if let Some(other) = other {
            let what = format!("holds {}, another {}", held.words(), other.words());
            return unclear(column, what);
        }
    }
    match columns.iter().all(|held| *held == Held::default()) {
        true if !columns.is_empty() => unclear(
            0,
            "holds 0 and 1 alone, which may be close and stay as LeRobot counts, or stay and open"
                .into(),
        ),
        _ => Ok(columns.iter().any(|held| held.two)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(all: &[&[f32]]) -> Result<bool, Unclear> {
        let held = all.iter().map(|values| {
            let mut held = Held::default();
            assert!(values.iter().all(|&value| held.add(value)));
            held
        });
        count_from_0(&held.collect::<Vec<_>>())
    }

    #[test]
    fn what_no_command_can_be_is_refused() {
        for value in [-1.001, 1.5, 3.0, -2.0, 255.0] {
            assert!(!Held::default().add(value), "{value}");
        }
    }

    #[test]
    fn columns_say_which_they_are() {
        let lerobots: [&[&[f32]]; 4] = [
            &[&[0.0, 1.0, 2.0]],
            &[&[2.0]],
            &[&[0.0, 2.0], &[1.0, 2.0]],
            // The other says it.
            &[&[0.0, 1.0], &[1.0, 2.0]],
        ];
        for all in lerobots {
            assert_eq!(columns(all), Ok(true), "{all:?}");
        }
        let ours: [&[&[f32]]; 5] = [
            &[&[-1.0, 0.0, 1.0]],
            &[&[-1.0]],
            &[&[0.0, 0.25, 1.0]],
            &[&[0.5, -1.0], &[-0.5]],
            &[&[1.0], &[-1.0, 1.0]],
        ];
        for all in ours {
            assert_eq!(columns(all), Ok(false), "{all:?}");
        }
        assert_eq!(columns(&[]), Ok(false));
    }

    #[test]
    fn columns_that_do_not_say_it_or_contradict_are_named() {
        let unclear: [(&[&[f32]], usize, &str); 12] = [
            (&[&[0.0, 1.0]], 0, "0 and 1 alone"),
            (&[&[0.0]], 0, "0 and 1 alone"),
            (&[&[1.0], &[0.0, 1.0]], 0, "0 and 1 alone"),
            (&[&[]], 0, "0 and 1 alone"),
            (&[&[2.0, -1.0]], 0, "holds 2"),
            (&[&[2.0], &[0.5, 2.0]], 0, "another numbers between"),
            (&[&[0.0], &[2.0, 0.5]], 0, "another numbers between"),
            (
                &[&[0.0, 2.0], &[0.5]],
                0,
                "0, 1 and 2, another numbers between",
            ),
            (
                &[&[0.0, 1.0], &[0.5]],
                0,
                "0 and 1 alone, another numbers between",
            ),
            (
                &[&[-1.0], &[0.0, 2.0]],
                0,
                "-1, 0 and 1, another 0, 1 and 2",
            ),
            (&[&[-1.0], &[1.0], &[2.0]], 0, "another 0, 1 and 2"),
            (
                &[&[1.0], &[-1.0], &[2.0]],
                1,
                "-1, 0 and 1, another 0, 1 and 2",
            ),
        ];
        for (all, column, what) in unclear {
            let error = columns(all).unwrap_err();
            assert_eq!(error.column, column, "{all:?}");
            assert!(error.what.contains(what), "{all:?}: {}", error.what);
        }
    }
}
