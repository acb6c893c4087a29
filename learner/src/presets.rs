//! Configurations by name: TOML texts, each over the programs' defaults, each of which says where
//! its numbers come from. A configuration file and `--set` change single keys of them.

/// The one that is taken where none is named.
pub const DEFAULT: &str = "lift";
/// The one that generates a table's rows where none is named.
pub const GENERATE: &str = "pgr-cpu";

/// Names and texts.
pub const PRESETS: [(&str, &str); 17] = [
    ("lift", include_str!("../presets/lift.toml")),
    ("hil-serl", include_str!("../presets/hil-serl.toml")),
    ("pytorch-serl", include_str!("../presets/pytorch-serl.toml")),
    ("bc", include_str!("../presets/bc.toml")),
    ("td3-bc", include_str!("../presets/td3-bc.toml")),
    ("iql", include_str!("../presets/iql.toml")),
    ("iql-antmaze", include_str!("../presets/iql-antmaze.toml")),
    ("awac", include_str!("../presets/awac.toml")),
    ("cql", include_str!("../presets/cql.toml")),
    ("cql-antmaze", include_str!("../presets/cql-antmaze.toml")),
    ("cal-ql", include_str!("../presets/cal-ql.toml")),
    ("sac", include_str!("../presets/sac.toml")),
    ("redq", include_str!("../presets/redq.toml")),
    ("rlpd", include_str!("../presets/rlpd.toml")),
    ("pgr", include_str!("../presets/pgr.toml")),
    ("pgr-guide", include_str!("../presets/pgr-guide.toml")),
    ("pgr-cpu", include_str!("../presets/pgr-cpu.toml")),
];

/// There is no preset of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--preset {0}: there are {known}", known = known())]
pub struct UnknownPreset(pub String);

fn known() -> String {
    PRESETS.map(|(name, _)| name).join(", ")
}

/// The text of a preset.
pub fn text(name: &str) -> Result<&'static str, UnknownPreset> {
    let preset = PRESETS.iter().find(|(known, _)| *known == name);
    preset
        .map(|&(_, text)| text)
        .ok_or_else(|| UnknownPreset(name.to_owned()))
}
