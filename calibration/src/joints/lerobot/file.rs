//! The file's text: a JSON object with an object for each motor.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

/// What LeRobot keeps of one motor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Motor {
    /// Its id on the bus.
    pub id: u8,
    /// 1: its counts grow the other way, 0: they do not.
    pub drive_mode: u8,
    /// What its register of the position's correction holds, counts.
    pub homing_offset: i32,
    /// The least position of its range, counts.
    pub range_min: i32,
    /// The greatest.
    pub range_max: i32,
}

/// Motors by their names, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Motors(pub Vec<(String, Motor)>);

/// Why a text is no such file.
#[derive(Debug, thiserror::Error)]
#[error(
    "is no calibration of LeRobot: {0}; it has for each motor its id, drive_mode, homing_offset, range_min and range_max"
)]
pub struct FormError(#[from] serde_json::Error);

/// Reads the text of a file. The numbers are as they stand there.
pub fn parse(text: &str) -> Result<Motors, FormError> {
    Ok(serde_json::from_str(text)?)
}

/// Writes the text as LeRobot does: four blanks for each level.
pub fn text(motors: &Motors) -> String {
    let motors = motors.0.iter().map(|(name, motor)| {
        let name = serde_json::Value::from(name.as_str());
        let Motor {
            id,
            drive_mode,
            homing_offset,
            range_min,
            range_max,
        } = motor;
        format!(
            "    {name}: {{\n        \"id\": {id},\n        \"drive_mode\": {drive_mode},\n        \
             \"homing_offset\": {homing_offset},\n        \"range_min\": {range_min},\n        \
             \"range_max\": {range_max}\n    }}"
        )
    });
    let motors: Vec<_> = motors.collect();
    match motors.is_empty() {
        true => "{}".to_owned(),
        false => format!("{{\n{}\n}}", motors.join(",\n")),
    }
}

impl<'de> Deserialize<'de> for Motors {
    /// A name that is there twice is refused: which of the two was meant, nobody knows.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Motors;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with an object for each motor")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Motors, M::Error> {
                let mut motors: Vec<(String, Motor)> = Vec::new();
                while let Some((name, motor)) = map.next_entry::<String, Motor>()? {
                    if motors.iter().any(|(other, _)| *other == name) {
                        return Err(M::Error::custom(format!("`{name}` is there twice")));
                    }
                    motors.push((name, motor));
                }
                Ok(Motors(motors))
            }
        }

        deserializer.deserialize_map(Each)
    }
}
