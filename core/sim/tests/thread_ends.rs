//! Alone in its process, because it counts the process's threads.

use hilt_sim::{SceneConfig, SimThread};

fn sim_threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .expect("Linux lists a process's threads")
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.trim_end() == "sim")
        .count()
}

#[test]
fn the_thread_ends_with_its_last_handle() {
    // Without cameras: a renderer's own workers carry its name until they have taken theirs.
    let config = SceneConfig {
        cameras: Vec::new(),
        ..SceneConfig::default()
    };
    let sim = SimThread::spawn(config).unwrap();
    sim.run_realtime(true).unwrap();
    assert_eq!(sim_threads(), 1);
    let clone = sim.clone();
    drop(sim);
    assert_eq!(sim_threads(), 1);
    let other = std::thread::spawn(move || clone.truth().map(|t| t.lifted));
    assert_eq!(other.join().unwrap(), Ok(false));
    assert_eq!(sim_threads(), 0);
}
