//! CQL, Cal-QL, REDQ and RLPD against recorded updates of their references, driven by the files alone.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use common::Golden;
use hilt_learner::agents::{
    Agent, Draws, Figures, Transitions,
    cal_ql::{CalQl, CalQlConfig},
    cql::{Cql, CqlConfig},
    net::Net,
    redq::{Redq, RedqConfig},
    rlpd::{Rlpd, RlpdConfig},
    sac::SoftActorCritic,
};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// |got − want| ≤ atol + rtol·|want|, number by number.
struct Within {
    kind: Kind,
    relative: f64,
    absolute: f64,
}

const EXACT: Within = Within {
    kind: Kind::Double,
    relative: 1e-9,
    absolute: 1e-9,
};
const SINGLE: Within = Within {
    kind: Kind::Float,
    relative: 1e-5,
    absolute: 1e-6,
};

impl Within {
    fn check(&self, what: &str, got: &Tensor, want: &Tensor) {
        let (got, want) = (got.detach().to_kind(Kind::Double), want.view_as(got));
        let most = want.abs() * self.relative + self.absolute;
        let over = ((got - &want).abs() / most).max().double_value(&[]);
        assert!(
            over <= 1.0,
            "{what} in {:?}: {over:.3} times as far off as it may be",
            self.kind
        );
    }

    fn options(&self) -> (Kind, Device) {
        // Such small networks do not gain from threads, which would only wait for each other.
        tch::set_num_threads(1);
        (self.kind, Device::Cpu)
    }
}

/// Hyperparameters that must be there.
struct Given(Value);

impl Given {
    fn number(&self, key: &str) -> f64 {
        self.0[key]
            .as_f64()
            .unwrap_or_else(|| panic!("hyperparameter `{key}`"))
    }

    fn integer(&self, key: &str) -> i64 {
        self.0[key]
            .as_i64()
            .unwrap_or_else(|| panic!("hyperparameter `{key}`"))
    }

    fn flag(&self, key: &str) -> bool {
        self.0[key]
            .as_bool()
            .unwrap_or_else(|| panic!("hyperparameter `{key}`"))
    }

    fn widths(&self, key: &str) -> Vec<i64> {
        let list = self.0[key]
            .as_array()
            .unwrap_or_else(|| panic!("hyperparameter `{key}`"));
        list.iter().map(|width| width.as_i64().unwrap()).collect()
    }
}

/// Draws by what they are for: the test names the file's tensor.
struct Recorded<'a, F: FnMut(&'static str) -> String> {
    golden: &'a Golden,
    kind: Kind,
    place: F,
}

impl<F: FnMut(&'static str) -> String> Recorded<'_, F> {
    fn next(&mut self, name: &'static str) -> &Tensor {
        self.golden.get(&(self.place)(name))
    }
}

impl<F: FnMut(&'static str) -> String> Draws for Recorded<'_, F> {
    fn normal(&mut self, name: &'static str, shape: &[i64]) -> Tensor {
        let kind = self.kind;
        let t = self.next(name);
        assert_eq!(t.size(), shape, "{name}");
        t.to_kind(kind)
    }

    fn uniform(&mut self, name: &'static str, shape: &[i64]) -> Tensor {
        self.normal(name, shape)
    }

    fn members(&mut self, name: &'static str, count: i64, of: i64) -> Tensor {
        let t = self.next(name);
        assert_eq!(t.size(), [count]);
        assert!(t.max().int64_value(&[]) < of);
        t.copy()
    }
}

/// A parameter of ours from the tensors of a file under a prefix: an ensemble's from its members', from
/// `critic<first>` on, and the last layer of a policy from its two heads where there are two.
fn from_file(
    golden: &Golden,
    prefix: &str,
    name: &str,
    size: &[i64],
    first: i64,
) -> Option<Tensor> {
    if let Some(of_member) = name.strip_prefix("critics.") {
        let member = |j: i64| {
            let name = format!("{prefix}critic{}.{of_member}", first + j);
            golden.tensors.get(&name).map(Tensor::shallow_clone)
        };
        let members: Option<Vec<Tensor>> = (0..size[0]).map(member).collect();
        return members.map(|members| Tensor::stack(&members, 0));
    }
    let part = |name: &str| golden.tensors.get(&format!("{prefix}{name}"));
    if let Some(whole) = part(name) {
        return Some(whole.shallow_clone());
    }
    let what = name.rsplit('.').next().unwrap();
    let (mean, log_std) = (
        part(&format!("actor.mean.{what}"))?,
        part(&format!("actor.log_std.{what}"))?,
    );
    Some(Tensor::cat(&[mean, log_std], 0))
}

fn load(golden: &Golden, net: &Net, first: i64, with_target: bool) {
    for name in net.params().names() {
        let size = net.params().get(name).size();
        let get = |prefix: &str| {
            from_file(golden, prefix, name, &size, first)
                .unwrap_or_else(|| panic!("the file has no {prefix}{name}"))
        };
        net.params().set(name, &get("init."));
        if with_target {
            net.target().set(name, &get("init.target_"));
        }
    }
}

fn check_net(golden: &Golden, net: &Net, after: &str, first: i64, with_target: bool) {
    for name in net.params().names() {
        let params = net.params().get(name);
        let get = |prefix: &str| {
            from_file(golden, prefix, name, &params.size(), first)
                .unwrap_or_else(|| panic!("the file has no {prefix}{name}"))
        };
        EXACT.check(&format!("{after}{name}"), params, &get(after));
        if with_target {
            let (target, prefix) = (net.target().get(name), format!("{after}target_"));
            EXACT.check(&format!("{prefix}{name}"), target, &get(&prefix));
        }
    }
}

/// Compares recorded gradients, and says whether there were any.
fn check_gradients(
    golden: &Golden,
    prefix: &str,
    names: &[String],
    first: i64,
    grads: &[Tensor],
    within: &Within,
) -> bool {
    assert_eq!(names.len(), grads.len());
    let mut met = 0;
    for (name, got) in names.iter().zip(grads) {
        if let Some(want) = from_file(golden, prefix, name, &got.size(), first) {
            within.check(&format!("{prefix}{name}"), got, &want);
            met += 1;
        }
    }
    assert!(
        met == 0 || met == names.len(),
        "{prefix}: some of {names:?} are missing"
    );
    met > 0
}

fn check_figure(golden: &Golden, name: &str, got: &Tensor, within: &Within) {
    let want = golden.get(name).mean(Kind::Double);
    within.check(name, &got.detach().view([0i64; 0]), &want);
}

fn figure<'a>(figures: &'a Figures, name: &str) -> &'a Tensor {
    let found = figures.0.iter().find(|(n, _)| *n == name);
    &found.unwrap_or_else(|| panic!("no figure `{name}`")).1
}

fn batch(golden: &Golden, step: usize, kind: Kind) -> Transitions {
    let find = |what: &str| golden.tensors.get(&format!("batch.{step}.{what}"));
    let get = |what: &str| {
        find(what)
            .unwrap_or_else(|| panic!("no {what}"))
            .to_kind(kind)
    };
    Transitions {
        observations: get("observations"),
        actions: get("actions"),
        rewards: get("rewards"),
        next_observations: get("next_observations"),
        masks: match find("masks") {
            Some(masks) => masks.to_kind(kind),
            None => 1.0 - get("dones"),
        },
        returns: find("mc_returns").map(|returns| returns.to_kind(kind)),
    }
}

// --- CQL, Cal-QL ---------------------------------------------------------------------------

fn cql_config(h: &Given) -> CqlConfig {
    // What the agent has one way of only, and the file must have the same.
    assert!(h.flag("use_automatic_entropy_tuning") && h.flag("cql_importance_sample"));
    // CORL's own code for it takes log π of fresh draws.
    assert_eq!(h.integer("bc_steps"), 0);
    assert_eq!(
        (
            h.number("max_action"),
            h.number("log_std_min"),
            h.number("log_std_max")
        ),
        (1.0, -20.0, 2.0)
    );
    let bound = |key: &str, none: f64| h.0[key].as_f64().unwrap_or(none);
    let clip = [
        bound("cql_clip_diff_min", -f64::INFINITY),
        bound("cql_clip_diff_max", f64::INFINITY),
    ];
    CqlConfig {
        discount: h.number("discount"),
        policy_lr: h.number("policy_lr"),
        critic_lr: h.number("qf_lr"),
        target_update_rate: h.number("soft_target_update_rate"),
        target_update_period: h.integer("target_update_period") as u64,
        max_target_backup: h.flag("cql_max_target_backup"),
        target_entropy: Some(h.number("target_entropy")),
        alpha_multiplier: h.number("alpha_multiplier"),
        backup_entropy: h.flag("backup_entropy"),
        sampled_actions: h.integer("cql_n_actions"),
        softness: h.number("cql_temp"),
        weight: h.number("cql_alpha"),
        lagrange_gap: h
            .flag("cql_lagrange")
            .then(|| h.number("cql_target_action_gap")),
        clip: clip.iter().any(|bound| bound.is_finite()).then_some(clip),
        log_std_multiplier: h.number("log_std_multiplier_init"),
        log_std_offset: h.number("log_std_offset_init"),
        actor_hidden: h.widths("actor_hidden"),
        critic_hidden: h.widths("critic_hidden"),
        ..CqlConfig::default()
    }
}

/// CQL and Cal-QL differ in nothing that a case looks at but in how they are made.
fn cql_case(stem: &str, calibrated: bool, within: &Within) {
    let golden = Golden::read(stem);
    let h = Given(golden.hyperparameters());
    let (config, options) = (cql_config(&h), within.options());
    let (observations, actions) = (h.integer("obs_dim"), h.integer("act_dim"));
    let lagrange = config.lagrange_gap.is_some();
    enum Either {
        Cql(Cql),
        CalQl(CalQl),
    }
    let mut agent = match calibrated {
        false => Either::Cql(Cql::new(config, observations, actions, options)),
        true => {
            let config = CalQlConfig {
                cql: config,
                ..CalQlConfig::default()
            };
            Either::CalQl(CalQl::new(config, observations, actions, options))
        }
    };
    fn cql(agent: &Either) -> &Cql {
        match agent {
            Either::Cql(cql) => cql,
            Either::CalQl(cal_ql) => cal_ql.cql(),
        }
    }
    load(&golden, cql(&agent).actor(), 1, false);
    load(&golden, cql(&agent).critics(), 1, true);
    cql(&agent).log_alpha().set(golden.get("init.log_alpha"));
    cql(&agent)
        .log_alpha_prime()
        .set(golden.get("init.log_alpha_prime"));
    let names = |net: &Net| net.params().names().to_vec();
    let (of_actor, of_critics) = (names(cql(&agent).actor()), names(cql(&agent).critics()));
    let steps = (1..).take_while(|s| golden.tensors.contains_key(&format!("batch.{s}.actions")));
    let (mut last, mut gradients_met, mut checked) = (0, 0, 0);
    for step in steps {
        let mut draws = Recorded {
            golden: &golden,
            kind: within.kind,
            place: |name| format!("noise.{step}.{name}"),
        };
        let prefix = format!("expect.{step}.grad.");
        let mut look = |network: &'static str, grads: &[Tensor]| {
            let own = vec![network.to_owned()];
            let names = match network {
                "actor" => &of_actor,
                "critics" => &of_critics,
                _ => &own,
            };
            gradients_met +=
                usize::from(check_gradients(&golden, &prefix, names, 1, grads, within));
        };
        let batch = batch(&golden, step, within.kind);
        let figures = match &mut agent {
            Either::Cql(cql) => cql.update_with(&batch, &mut draws, &mut look),
            Either::CalQl(cal_ql) => cal_ql.update_with(&batch, &mut draws, &mut look),
        };
        for (kind, end) in [("loss", "_loss"), ("info", "")] {
            let prefix = format!("expect.{step}.{kind}.");
            let recorded: Vec<&str> = golden.under(&prefix).map(|(name, _)| name).collect();
            assert!(recorded.len() > 5);
            for name in recorded {
                let got = figure(&figures, &format!("{name}{end}"));
                check_figure(&golden, &format!("{prefix}{name}"), got, within);
            }
        }
        last = step;
        let after = format!("after{step}.");
        if within.kind == Kind::Double && golden.under(&after).next().is_some() {
            let cql = cql(&agent);
            check_net(&golden, cql.actor(), &after, 1, false);
            check_net(&golden, cql.critics(), &after, 1, true);
            let (alpha, prime) = (cql.log_alpha().value(), cql.log_alpha_prime().value());
            EXACT.check(
                "log_alpha",
                &alpha,
                golden.get(&format!("{after}log_alpha")),
            );
            EXACT.check(
                "log_alpha_prime",
                &prime,
                golden.get(&format!("{after}log_alpha_prime")),
            );
            checked = step;
        }
    }
    assert!(last >= 2);
    assert!(gradients_met >= if lagrange { 4 } else { 3 });
    assert!(within.kind != Kind::Double || checked == last);
}

#[test]
fn golden_cql() {
    cql_case("cql", false, &EXACT);
    cql_case("cql", false, &SINGLE);
}

#[test]
fn golden_cql_lagrange() {
    cql_case("cql_lagrange", false, &EXACT);
    cql_case("cql_lagrange", false, &SINGLE);
}

#[test]
fn golden_cal_ql() {
    cql_case("cal_ql", true, &EXACT);
    cql_case("cal_ql", true, &SINGLE);
}

// --- REDQ, RLPD ----------------------------------------------------------------------------

fn load_all(golden: &Golden, networks: &SoftActorCritic, log_alpha: &str) {
    load(golden, &networks.actor, 0, false);
    load(golden, &networks.critics, 0, true);
    networks.log_alpha.set(golden.get(log_alpha));
}

fn check_all(golden: &Golden, networks: &SoftActorCritic, after: &str, log_alpha: &str) {
    check_net(golden, &networks.actor, after, 0, false);
    check_net(golden, &networks.critics, after, 0, true);
    let want = golden.get(&format!("{after}{log_alpha}"));
    EXACT.check(
        log_alpha,
        &networks.log_alpha.value(),
        &want.view([0i64; 0]),
    );
}

fn redq_case(within: &Within) {
    let golden = Golden::read("redq");
    let h = Given(golden.hyperparameters());
    assert!(h.flag("auto_alpha") && h.0["q_target_mode"] == "min" && h.number("act_limit") == 1.0);
    assert_eq!(
        (
            h.number("log_std_min"),
            h.number("log_std_max"),
            h.number("tanh_eps")
        ),
        (-20.0, 2.0, 1e-6)
    );
    let first_temperature = golden.get("init.alpha_in_use").double_value(&[]);
    assert_eq!(first_temperature, h.number("alpha_constructor"));
    let parts = h.integer("utd_ratio");
    let config = RedqConfig {
        critics: h.integer("num_Q"),
        asked: h.integer("num_min"),
        update_to_data: parts,
        policy_delay: h.integer("policy_update_delay"),
        discount: h.number("gamma"),
        lr: h.number("lr"),
        target_update_rate: 1.0 - h.number("polyak"),
        target_entropy: Some(h.number("target_entropy")),
        first_temperature,
        hidden: h.widths("hidden"),
    };
    let mut agent = Redq::new(
        config,
        h.integer("obs_dim"),
        h.integer("act_dim"),
        within.options(),
    );
    load_all(&golden, agent.networks(), "init.log_alpha");
    let of_actor = agent.networks().actor.params().names().to_vec();
    let of_critics = agent.networks().critics.params().names().to_vec();
    let mut gradients_met = 0;
    for train in 1..=h.integer("n_train_calls") {
        let first = (train - 1) * parts;
        // The parts of the batch are the recorded rows of the replay.
        let rows: Vec<Tensor> = (1..=parts)
            .map(|i| {
                golden
                    .get(&format!("noise.{}.batch_idx", first + i))
                    .shallow_clone()
            })
            .collect();
        let rows = Tensor::cat(&rows, 0);
        let get = |what: &str| {
            let all = golden.get(&format!("replay.{what}")).to_kind(within.kind);
            all.index_select(0, &rows)
        };
        let batch = Transitions {
            observations: get("observations"),
            actions: get("actions"),
            rewards: get("rewards"),
            next_observations: get("next_observations"),
            masks: 1.0 - get("dones"),
            returns: None,
        };
        let mut drawn = first;
        let mut draws = Recorded {
            golden: &golden,
            kind: within.kind,
            // A critic update begins with the next action.
            place: |name| {
                drawn += i64::from(name == "next_action");
                format!("noise.{drawn}.{name}")
            },
        };
        let mut seen = first;
        let figures = agent.update_with(&batch, &mut draws, &mut |network, grads| {
            seen += i64::from(network == "critics");
            let own = vec![network.to_owned()];
            let names = match network {
                "actor" => &of_actor,
                "critics" => &of_critics,
                _ => &own,
            };
            let prefix = format!("expect.{seen}.grad.");
            gradients_met +=
                usize::from(check_gradients(&golden, &prefix, names, 0, grads, within));
        });
        assert_eq!(figures.len() as i64, parts);
        for (i, figures) in figures.iter().enumerate() {
            let inner = first + 1 + i as i64;
            let policy = golden
                .tensors
                .contains_key(&format!("noise.{inner}.action"));
            assert_eq!(
                policy,
                figures.0.iter().any(|(name, _)| *name == "actor_loss"),
                "{inner}"
            );
            let check = |theirs: &str, ours: &str| {
                check_figure(
                    &golden,
                    &format!("expect.{inner}.{theirs}"),
                    figure(figures, ours),
                    within,
                );
            };
            check("loss.critic_sum", "critic_loss");
            check("target", "target_q");
        }
        let last = figures.last().unwrap();
        let check = |theirs: &str, got: &Tensor| {
            check_figure(
                &golden,
                &format!("expect.train{train}.{theirs}"),
                got,
                within,
            );
        };
        check("loss.actor", figure(last, "actor_loss"));
        check("loss.alpha", figure(last, "temperature_loss"));
        check(
            "loss.critic_mean",
            &(figure(last, "critic_loss") / h.number("num_Q")),
        );
        check("log_pi", &-figure(last, "entropy"));
        check("alpha_in_use", &agent.temperature());
        if within.kind == Kind::Double {
            check_all(
                &golden,
                agent.networks(),
                &format!("after_train{train}."),
                "log_alpha",
            );
        }
    }
    let recorded = golden
        .tensors
        .keys()
        .filter(|name| name.ends_with(".grad.log_alpha"))
        .count();
    assert!(recorded > 0);
    assert!(gradients_met > 2 * recorded);
    assert_eq!(agent.updates() as i64, h.integer("n_train_calls"));
}

#[test]
fn golden_redq() {
    redq_case(&EXACT);
    redq_case(&SINGLE);
}

fn rlpd_case(within: &Within) {
    let golden = Golden::read("rlpd_sac");
    let h = Given(golden.hyperparameters());
    assert_eq!(
        (h.number("log_std_min"), h.number("log_std_max")),
        (-20.0, 2.0)
    );
    let layer_norm = h.flag("critic_layer_norm");
    assert!(!layer_norm || h.number("layer_norm_eps") == 1e-6);
    let parts = h.integer("utd_ratio");
    let config = RlpdConfig {
        critics: h.integer("num_qs"),
        asked: h.0["num_min_qs"].as_i64(),
        update_to_data: parts,
        discount: h.number("discount"),
        actor_lr: h.number("actor_lr"),
        critic_lr: h.number("critic_lr"),
        temperature_lr: h.number("temp_lr"),
        critic_weight_decay: h.0["critic_weight_decay"].as_f64(),
        critic_layer_norm: layer_norm,
        target_update_rate: h.number("tau"),
        target_entropy: h.0["target_entropy"].as_f64(),
        initial_temperature: h.number("init_temperature"),
        backup_entropy: h.flag("backup_entropy"),
        hidden: h.widths("hidden"),
    };
    let mut agent = Rlpd::new(
        config,
        h.integer("obs_dim"),
        h.integer("act_dim"),
        within.options(),
    );
    load_all(&golden, agent.networks(), "init.log_temp");
    let mut critic_updates = 0;
    for call in 1..=h.integer("calls") {
        let first = critic_updates;
        let mut draws = Recorded {
            golden: &golden,
            kind: within.kind,
            place: |name| {
                critic_updates += i64::from(name == "next_action");
                match name {
                    "next_action" => format!("noise.critic_update{critic_updates}.normal"),
                    "action" => format!("noise.actor_update{call}.normal"),
                    _ => format!("noise.critic_update{critic_updates}.{name}"),
                }
            },
        };
        let batch = batch(&golden, call as usize, within.kind);
        let (critics, figures) = agent.update_with(&batch, &mut draws);
        assert_eq!(critics.len() as i64, parts);
        for (i, metrics) in critics.iter().enumerate() {
            let name = |what: &str| format!("expect.critic_update{}.{what}", first + 1 + i as i64);
            check_figure(&golden, &name("critic_loss"), &metrics.loss, within);
            check_figure(&golden, &name("q_mean"), &metrics.q, within);
        }
        for (theirs, ours) in [
            (
                format!("expect.actor_update{call}.actor_loss"),
                "actor_loss",
            ),
            (format!("expect.actor_update{call}.entropy"), "entropy"),
            (format!("expect.call{call}.temperature"), "temperature"),
            (
                format!("expect.call{call}.temperature_loss"),
                "temperature_loss",
            ),
        ] {
            check_figure(&golden, &theirs, figure(&figures, ours), within);
        }
        if within.kind == Kind::Double {
            check_all(
                &golden,
                agent.networks(),
                &format!("after_call{call}."),
                "log_temp",
            );
        }
    }
    assert_eq!(agent.updates() as i64, h.integer("calls"));
}

#[test]
fn golden_rlpd_sac() {
    rlpd_case(&EXACT);
    rlpd_case(&SINGLE);
}
