//! A configuration file with any text in it, and any `--set`, gives values or a message.
#![no_main]

use hilt_protocol::settings;
use libfuzzer_sys::fuzz_target;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only parsed")]
struct Config {
    a: Option<u8>,
    b: Option<Inner>,
    list: Option<Vec<Inner>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(dead_code, reason = "only parsed")]
struct Inner {
    c: f64,
    d: Option<String>,
}

fuzz_target!(|text: &str| {
    let (file, set) = text.split_once('\0').unwrap_or((text, ""));
    let sets: Vec<String> = set
        .split('\0')
        .map(str::to_owned)
        .filter(|s| !s.is_empty())
        .collect();
    if let Err(error) = settings::parse::<Config>("fuzz.toml", file, &sets) {
        assert!(!error.to_string().is_empty());
    }
});
