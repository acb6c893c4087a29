//! OpenCV, asked through Python: the functions of `opencv.py` beside this file, by name.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use hilt_calibration::{
    board::{Board, Pattern},
    picture::Gray,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

/// A board, as the functions of `opencv.py` want it.
pub fn board(board: &Board) -> serde_json::Value {
    let marker_m = match board.pattern {
        Pattern::Checkerboard => None,
        Pattern::Charuco { marker_m } => Some(marker_m),
    };
    json!({
        "columns": board.columns,
        "rows": board.rows,
        "square_m": board.square_m,
        "marker_m": marker_m,
    })
}

/// Calls a function of `opencv.py` with a request and pictures, both as it sees them, and gives its
/// answer. It is fetched by `cargo xtask setup` and
/// `cargo xtask test`.
pub fn ask<A: DeserializeOwned>(function: &str, request: impl Serialize, pictures: &[Gray]) -> A {
    let dir = tempfile::tempdir().unwrap();
    let files = pictures.iter().enumerate().map(|(i, picture)| {
        let path = dir.path().join(format!("{i}.pgm"));
        let mut pgm = format!("P5 {} {} 255\n", picture.width_px(), picture.height_px());
        pgm.reserve(picture.pixels().len());
        let bytes = [pgm.as_bytes(), picture.pixels()].concat();
        fs::write(&path, bytes).unwrap();
        path
    });
    let files: Vec<_> = files.collect();
    let request = json!({ "function": function, "request": request, "pictures": files });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/opencv.py");
    // Set by `.cargo/config.toml`, for the build and for what cargo runs.
    let opencv = std::env::var_os("OPENCV_PYTHONPATH").expect("run the tests with cargo");
    let mut python = Command::new("python3")
        .arg(script)
        .env("PYTHONPATH", opencv)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("OPENBLAS_NUM_THREADS", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is missing");
    let mut stdin = python.stdin.take().unwrap();
    stdin.write_all(request.to_string().as_bytes()).unwrap();
    drop(stdin);
    let out = python.wait_with_output().unwrap();
    assert!(
        out.status.success(),
        "opencv.py {function} failed; if cv2 is missing, fetch it once with: cargo xtask setup"
    );
    serde_json::from_slice(&out.stdout).unwrap()
}
