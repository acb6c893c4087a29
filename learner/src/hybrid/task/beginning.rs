//! What a training on a task stands on, when it begins and when it goes on.

use std::{
    fs,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context, Result};
use hilt_recording::table::Table;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tch::{Device, Kind};

use super::TaskOptions;
use crate::{
    agents::{Agent, guard::check_state},
    config::LearnerConfig,
    course::folder::{Facts, Folder},
    dataset::read_table,
    tasks::{Task, fits},
    trained::{self, Trained},
    vectors::{Normalizer, Scaling, VectorData, summary::sha256},
};

/// Facts in `training.json` that a resumed training takes from there.
const FROM: &str = "from.sha256";
const SCALING: &str = "scaling";

/// Whether the training in a folder went on from another one's agent.
pub(super) fn went_on(folder: &Folder) -> bool {
    fact(folder, FROM).is_some()
}

fn fact<'a>(folder: &'a Folder, name: &str) -> Option<&'a Value> {
    let value = folder.begun()?.get(name)?;
    (!value.is_null()).then_some(value)
}

/// What there is before the first step of this process.
pub(super) struct Beginning {
    /// Fresh, or that of another folder; a checkpoint is not in it yet.
    pub agent: Box<dyn Agent>,
    /// What observations and rewards go through, of the task and of recorded data alike.
    pub scaling: Scaling,
    pub recorded: Option<VectorData>,
    /// What a resumed training is compared with.
    pub facts: Facts,
}

impl Beginning {
    /// Reads what the options name. A training that is resumed has its scaling from its own folder, and what it
    /// went on from needs to be named again only if it was killed before its first checkpoint.
    pub fn open(
        options: &TaskOptions,
        folder: &Folder,
        task: &dyn Task,
        device: Device,
    ) -> Result<Self> {
        let config = &options.config;
        let (o, a) = (task.observations(), task.actions());
        let mut agent = (config.agent(o as i64, a as i64, device, options.seed))
            .with_context(|| format!("{} is none on vectors", config.algorithm.name()))?;
        let mut from = fact(folder, FROM).cloned().unwrap_or(Value::Null);
        let mut scaling = None;
        if let Some(dir) = &options.from {
            let trained = open(dir, config, task, &*agent, device)?;
            from = sha256_of_file(&dir.join(trained::AGENT_FILE))
                .with_context(|| format!("--from {}", dir.display()))?
                .into();
            agent.restore(&trained.agent.state(), trained.agent.updates());
            scaling = Some(trained.about.scaling);
        }
        agent.go_online();
        let table = match &options.demos {
            None => None,
            Some(path) => Some((table(path, task)?, path)),
        };
        let begun = fact(folder, SCALING).cloned();
        let found = match (begun, scaling, &table) {
            (Some(begun), _, _) => begun,
            (None, Some(scaling), _) => json!(scaling),
            (None, None, Some((table, path))) => {
                json!(found_on(table, config).with_context(|| path.display().to_string())?)
            }
            (None, None, None) => json!(without_data(config)?),
        };
        // As it is read when the training is resumed, to the last digit.
        let scaling: Scaling = serde_json::from_str(&found.to_string())
            .with_context(|| folder.file("training.json").display().to_string())?;
        let (mut recorded, mut demos) = (None, Value::Null);
        if let Some((table, path)) = &table {
            let named = || format!("--demos {}", path.display());
            let data = VectorData::whole(table, &scaling, (Kind::Float, device));
            recorded = Some(data.with_context(named)?);
            demos = sha256(table).into();
        }
        let facts = [
            ("algorithm", config.algorithm.name().into()),
            ("env", task.id().into()),
            ("seed", options.seed.into()),
            ("demos.sha256", demos),
            (FROM, from),
            (SCALING, found),
        ];
        Ok(Self {
            agent,
            scaling,
            recorded,
            facts: facts
                .map(|(name, value)| (name.to_owned(), value))
                .into_iter()
                .chain(config.generative_replay.facts())
                .collect(),
        })
    }
}

/// The agent of another folder, if it is one that `agent` can become.
fn open(
    dir: &Path,
    config: &LearnerConfig,
    task: &dyn Task,
    agent: &dyn Agent,
    device: Device,
) -> Result<Trained> {
    let trained = Trained::open(dir, device)?;
    let (about, shown) = (&trained.about, dir.display());
    let sizes = (about.observations, about.actions);
    fits(
        &format!("--from {shown}"),
        task,
        about.env.as_deref(),
        sizes,
    )?;
    anyhow::ensure!(
        about.algorithm == config.algorithm,
        "--from {shown} is of {}, but algorithm = \"{}\": leave the preset out, or choose that of the folder",
        about.algorithm.name(),
        config.algorithm.name()
    );
    check_state(&agent.state(), &trained.agent.state())
        .with_context(|| format!("--from {shown} was trained with other settings"))?;
    Ok(trained)
}

/// A table of recorded steps of the task.
fn table(path: &Path, task: &dyn Task) -> Result<Table> {
    let table = read_table(path)?;
    let sizes = (table.columns().observation, table.columns().action);
    fits(&path.display().to_string(), task, None, sizes)?;
    Ok(table)
}

/// What a fresh agent's observations and rewards go through, as `[offline]` has it for the data.
fn found_on(table: &Table, config: &LearnerConfig) -> Result<Scaling> {
    let episodes: Vec<_> = table.episodes().collect();
    let normalize = config.offline.normalize_observations;
    Ok(Scaling {
        observations: normalize.then(|| Normalizer::over(table, &episodes)),
        rewards: config.offline.rewards.resolve(table)?,
    })
}

/// Without recorded data there is nothing to find a scaling on.
fn without_data(config: &LearnerConfig) -> Result<Scaling> {
    anyhow::ensure!(
        config.offline.rewards == Default::default(),
        "offline.rewards scales rewards as recorded data says, and there is none: give a table by --demos, or leave \
         offline.rewards out"
    );
    if config.offline.normalize_observations {
        println!(
            "observations stay as the task gives them: offline.normalize_observations is found on recorded data, and \
             there is none"
        );
    }
    Ok(Scaling::default())
}

/// The hash of a file, in hexadecimal.
fn sha256_of_file(path: &Path) -> io::Result<String> {
    let (mut file, mut hash) = (fs::File::open(path)?, Sha256::new());
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(format!("{:x}", hash.finalize())),
            bytes => hash.update(&piece[..bytes]),
        }
    }
}
