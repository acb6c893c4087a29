//! What a training on state vectors was fed, as its folder has it: the steps that it took or its table, and the newest generation that
//! it believed. Nothing is trained or changed, and nobody waits for a training that is under way.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use tch::{Device, Kind};

use super::{
    account::Account,
    layout::Layout,
    replay::{GenerativeReplay, Synthetic},
};
use crate::{
    agents::{Agent, Transitions, guard::check_state},
    checkpoint::read_tensors,
    config::LearnerConfig,
    course::{
        State,
        folder::{CHECKPOINT_FILE, FACTS_FILE},
    },
    dataset::read_table,
    hybrid::task,
    vectors::{Scaling, VectorData, prepare, summary::sha256},
};

/// It.
pub struct Fed {
    /// What observations and rewards went through before it saw them.
    pub scaling: Scaling,
    /// What it experienced, as it saw it.
    pub real: Transitions,
    /// What it generated, and what judges relevance.
    pub replay: GenerativeReplay,
    /// As it thought then.
    pub agent: Box<dyn Agent>,
}

/// What is read of a training in `dir` that has this configuration; `data` is the table that it learns from, which
/// its folder does not hold.
///
/// # Errors
/// If there is no such training, or nothing that it was fed.
pub fn open(
    dir: &Path,
    data: Option<&Path>,
    config: &LearnerConfig,
    device: Device,
) -> Result<Fed> {
    let shown = dir.display();
    let facts = facts(dir)?;
    anyhow::ensure!(config.generative_replay.enabled, "--run {shown}: {WITHOUT}");
    let path = dir.join(CHECKPOINT_FILE);
    let state = read_tensors(&path)
        .context("--run: there is nothing to see before its first checkpoint")?;
    let fed = (|| match facts.get("data.sha256") {
        Some(hash) => of_table(data, hash, &facts, config, device),
        None => {
            anyhow::ensure!(
                data.is_none(),
                "--data: it learns from its task's steps, which it has; leave --data out"
            );
            of_task(dir, &facts, &state, device)
        }
    })();
    let (real, scaling) = fed.with_context(|| format!("--run {shown}"))?;
    let (o, a) = (real.observations.size()[1], real.actions.size()[1]);
    let mut agent = config
        .agent(o, a, device, 0)
        .context("it has no agent on state vectors")?;
    let layout = Layout {
        observations: o,
        actions: a,
    };
    let (generative, discount) = (&config.generative_replay, config.discount());
    let replay = GenerativeReplay::new(generative, layout, discount, 0, device);
    let mut replay = replay.context("it was trained without generated experience")?;
    let restored = check_state(&agent.state(), &state)
        .map_err(anyhow::Error::from)
        .and_then(|()| {
            // How many updates made it says nothing about what it thinks.
            agent.restore(&state, 0);
            replay.restore(&state)
        });
    restored.with_context(|| path.display().to_string())?;
    anyhow::ensure!(
        replay.rows().is_some(),
        nothing_believed(dir, replay.account())
    );
    Ok(Fed {
        scaling,
        real,
        replay,
        agent,
    })
}

/// Nothing is generated for it.
pub(super) const WITHOUT: &str = "it was trained without generated experience, which is had by --set generative_replay.enabled=true";

/// Nothing of what was generated for it is there.
pub(super) fn nothing_believed(dir: &Path, account: &Account) -> String {
    format!(
        "--run {}: no generation of it has been believed yet: {account}",
        dir.display()
    )
}

fn facts(dir: &Path) -> Result<Map<String, Value>> {
    let path = dir.join(FACTS_FILE);
    let text = fs::read(&path).with_context(|| {
        format!(
            "--run: {} says of a training what it stands on; give the folder of one",
            path.display()
        )
    })?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// The part of a table that is trained on.
fn of_table(
    data: Option<&Path>,
    hash: &Value,
    facts: &Map<String, Value>,
    config: &LearnerConfig,
    device: Device,
) -> Result<(Transitions, Scaling)> {
    let data =
        data.context("it learns from a table, which is not in it: name that once more, by --data")?;
    let table = read_table(data)?;
    let ours = sha256(&table);
    anyhow::ensure!(
        *hash == ours,
        "--data {}: it is another table than the one that it learns from",
        data.display()
    );
    let seed = facts
        .get("seed")
        .and_then(Value::as_u64)
        .context("its facts have no seed")?;
    let preparation = config.offline.preparation(seed);
    let data = prepare(&table, &preparation, (Kind::Float, device))?;
    let all = data.train.slice(0, data.train.rows());
    Ok((all, data.scaling))
}

/// The steps that a training took in its task.
fn of_task(
    dir: &Path,
    facts: &Map<String, Value>,
    state: &State,
    device: Device,
) -> Result<(Transitions, Scaling)> {
    let scaling: Scaling =
        serde_json::from_value(facts.get("scaling").cloned().unwrap_or_default())
            .with_context(|| dir.join(FACTS_FILE).display().to_string())?;
    let env = facts
        .get("env")
        .and_then(Value::as_str)
        .context("its facts name no task")?;
    let table = task::steps(dir, env, state)?.context("it has taken no step yet")?;
    let data = VectorData::whole(&table, &scaling, (Kind::Float, device))?;
    let all = data.slice(0, data.rows());
    Ok((all, scaling))
}
