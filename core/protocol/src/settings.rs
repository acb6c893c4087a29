//! Configuration files: one TOML file, overrides from the command line, one typed result.
//!
//! Errors name the file, the line and the field (or the override). Types are expected to deny
//! unknown fields.

use serde::{Serialize, de::DeserializeOwned};
use toml::de::{DeTable, DeValue};

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The file does not have the form that is asked for.
    #[error("{origin}:{line}: {message}")]
    File {
        /// The file's name.
        origin: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong there, with the field's name.
        message: String,
    },
    /// An override is not of the form `a.b=value`.
    #[error("--set {0}: write it as key.subkey=value")]
    OverrideForm(String),
    /// An override leads to something that does not fit.
    #[error("--set {setting}: {message}")]
    Override {
        /// The override as given.
        setting: String,
        /// What is wrong with it.
        message: String,
    },
}

/// Reads `text` (of the file called `origin`) and applies `overrides` (`a.b=value`; a value that is
/// not TOML is taken as a string).
pub fn parse<T: DeserializeOwned>(
    origin: &str,
    text: &str,
    overrides: &[String],
) -> Result<T, SettingsError> {
    // Typed straight from the text first: only this way do errors know their line.
    let typed: T = toml::from_str(text).map_err(|e| in_file(origin, text, &e))?;
    let tree = toml::from_str(text).map_err(|e| in_file(origin, text, &e))?;
    apply(typed, tree, overrides)
}

/// Reads texts (with their files' names), each over those before it and all over `base`, then
/// applies `overrides`. A table goes into the table below it, anything else replaces what was there.
pub fn parse_layers<T: Serialize + DeserializeOwned>(
    base: &T,
    layers: &[(&str, &str)],
    overrides: &[String],
) -> Result<T, SettingsError> {
    let whole = |origin: &str, message: &str| SettingsError::File {
        origin: origin.to_owned(),
        line: 1,
        message: message.to_owned(),
    };
    let mut tree =
        toml::Table::try_from(base).map_err(|e| whole("the defaults", &e.to_string()))?;
    let typed = |tree: &toml::Table| tree.clone().try_into::<T>();
    for (origin, text) in layers {
        let layer = toml::from_str(text).map_err(|e| in_file(origin, text, &e))?;
        merge(&mut tree, layer);
        if let Err(together) = typed(&tree) {
            // Only the text alone knows its lines.
            let alone = toml::from_str::<T>(text).err();
            return Err(match alone {
                Some(e) => in_file(origin, text, &e),
                None => whole(origin, together.message()),
            });
        }
    }
    let config = typed(&tree).map_err(|e| whole("the defaults", e.message()))?;
    apply(config, tree, overrides)
}

fn merge(below: &mut toml::Table, above: toml::Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

fn in_file(origin: &str, text: &str, e: &toml::de::Error) -> SettingsError {
    let at = e.span().map_or(0, |span| span.start).min(text.len());
    let line = text.as_bytes()[..at]
        .iter()
        .filter(|&&b| b == b'\n')
        .count()
        + 1;
    SettingsError::File {
        origin: origin.to_owned(),
        line,
        message: describe(e, text),
    }
}

/// `typed` is what `tree` says before the overrides.
fn apply<T: DeserializeOwned>(
    typed: T,
    mut tree: toml::Table,
    overrides: &[String],
) -> Result<T, SettingsError> {
    let mut result = typed;
    for setting in overrides {
        let (path, value) = setting
            .split_once('=')
            .ok_or_else(|| SettingsError::OverrideForm(setting.clone()))?;
        insert(&mut tree, path.trim(), value_of(value.trim())).map_err(|message| {
            SettingsError::Override {
                setting: setting.clone(),
                message,
            }
        })?;
        // One at a time, so that a bad one is named.
        result = tree
            .clone()
            .try_into()
            .map_err(|e: toml::de::Error| SettingsError::Override {
                setting: setting.clone(),
                message: e.message().to_owned(),
            })?;
    }
    Ok(result)
}

/// Where the value of `field` (`a.b[2].c`) comes from: the override that gave it, or file and line.
pub fn place_of(origin: &str, text: &str, overrides: &[String], field: &str) -> String {
    let gives = |setting: &&String| {
        setting
            .split_once('=')
            .is_some_and(|(key, _)| field.starts_with(key.trim()))
    };
    match overrides.iter().rev().find(gives) {
        Some(setting) => format!("--set {setting}"),
        None => format!("{origin}:{}", line_of(text, field)),
    }
}

/// The line (from 1) of `field` (`a.b[2].c`) in a TOML text: of its value, or of the nearest table
/// around it that is there.
fn line_of(text: &str, field: &str) -> usize {
    let Ok(root) = DeTable::parse(text) else {
        return 1;
    };
    let mut at = 0;
    let mut table = Some(root.get_ref());
    for part in field.split('.') {
        let (name, index) = match part.split_once('[') {
            Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
            None => (part, None),
        };
        let Some((key, value)) =
            table.and_then(|t| t.iter().find(|(key, _)| key.get_ref().as_ref() == name))
        else {
            break;
        };
        at = key.span().start;
        let value = match index.and_then(|i| value.get_ref().get(i)) {
            Some(element) => {
                at = element.span().start;
                element.get_ref()
            }
            None => value.get_ref(),
        };
        table = match value {
            DeValue::Table(table) => Some(table),
            _ => None,
        };
    }
    text.as_bytes()[..at.min(text.len())]
        .iter()
        .filter(|&&b| b == b'\n')
        .count()
        + 1
}

/// The library's message, and the offending line's own text, which holds the field's name.
fn describe(e: &toml::de::Error, text: &str) -> String {
    let at = e.span().map_or(0, |span| span.start).min(text.len());
    let line_start = text[..at].rfind('\n').map_or(0, |i| i + 1);
    let line = text[line_start..].lines().next().unwrap_or("").trim();
    // What is missing at the top is on no line.
    if line.is_empty() || line.starts_with('#') {
        e.message().to_owned()
    } else {
        format!("{} (at `{line}`)", e.message())
    }
}

fn value_of(text: &str) -> toml::Value {
    toml::from_str::<toml::Table>(&format!("v = {text}"))
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| toml::Value::String(text.to_owned()))
}

fn insert(tree: &mut toml::Table, path: &str, value: toml::Value) -> Result<(), String> {
    match path.split_once('.') {
        None if path.is_empty() => Err("the key is empty".to_owned()),
        None => {
            // `1` given for a field that the file writes as `1.0` is meant as a float.
            let value = match (tree.get(path), value) {
                (Some(toml::Value::Float(_)), toml::Value::Integer(i)) => {
                    toml::Value::Float(i as f64)
                }
                (_, value) => value,
            };
            tree.insert(path.to_owned(), value);
            Ok(())
        }
        Some((head, rest)) => {
            let child = tree
                .entry(head)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            match child {
                toml::Value::Table(table) => insert(table, rest, value),
                _ => Err(format!("`{head}` is not a table")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        name: String,
        inner: Inner,
    }

    #[derive(Debug, Deserialize, Serialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        rate_hz: f64,
    }

    const TEXT: &str = "name = \"a\"\n\n[inner]\nrate_hz = 10.0\n";

    #[test]
    fn overrides_reach_nested_keys() {
        let sets = ["inner.rate_hz=5".to_owned(), "name=b c".to_owned()];
        let outer: Outer = parse("rig.toml", TEXT, &sets).unwrap();
        assert_eq!(
            outer,
            Outer {
                name: "b c".into(),
                inner: Inner { rate_hz: 5.0 }
            }
        );
    }

    #[test]
    fn errors_name_file_line_and_field() {
        for (text, line, word) in [
            (
                "name = \"a\"\n[inner]\nrate_hz = 10.0\nspeed = 1\n",
                4,
                "speed",
            ),
            ("name = \"a\"\n[inner]\nrate_hz = \"fast\"\n", 3, "rate_hz"),
            ("name = \"a\"\nname = 3\n", 2, "name"),
        ] {
            let error = parse::<Outer>("rig.toml", text, &[])
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(&format!("rig.toml:{line}: ")), "{error}");
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_bad_override_is_named() {
        let error = |set: &str| {
            parse::<Outer>("rig.toml", TEXT, &[set.to_owned()])
                .unwrap_err()
                .to_string()
        };
        assert!(error("inner.speed=1").contains("inner.speed=1"));
        assert!(error("inner.rate_hz=fast").contains("inner.rate_hz=fast"));
        assert!(error("name.x=1").contains("not a table"));
        assert!(error("name").contains("key.subkey=value"));
    }

    #[derive(Debug, Default, Deserialize, Serialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Tree {
        depth: f64,
        leaf: Option<u32>,
        branch: Branch,
    }

    #[derive(Debug, Default, Deserialize, Serialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Branch {
        a: u32,
        b: u32,
    }

    #[test]
    fn layers_lie_over_each_other_key_by_key() {
        let layers = [
            ("one", "leaf = 1\n[branch]\na = 1\nb = 1\n"),
            ("two", "depth = 2.0\n[branch]\nb = 2\n"),
        ];
        let sets = ["branch.a=3".to_owned()];
        let tree: Tree = parse_layers(&Tree::default(), &layers, &sets).unwrap();
        let want = Tree {
            depth: 2.0,
            leaf: Some(1),
            branch: Branch { a: 3, b: 2 },
        };
        assert_eq!(tree, want);
    }

    #[test]
    fn an_error_names_the_layer_and_its_line() {
        let layers = [("one", "leaf = 1\n"), ("two", "\n[branch]\nc = 2\n")];
        let error = parse_layers(&Tree::default(), &layers, &[]).unwrap_err();
        assert!(error.to_string().starts_with("two:3: "), "{error}");
        let layers = [("one", "branch = 1\n")];
        let error = parse_layers(&Tree::default(), &layers, &[]).unwrap_err();
        assert!(error.to_string().starts_with("one:1: "), "{error}");
    }
}
