"""Records gymnasium_*.safetensors: steps of Gymnasium's own tasks, from given places and speeds.

    pip install 'gymnasium[mujoco]==1.4.0' mujoco==3.17.0 safetensors
    python record_gymnasium.py FOLDER

Of E episodes with T steps in all: `qpos`, `qvel` [E, joints] and `first` [E, O] are their starts, `lengths` [E] how
many of the steps are whose, `actions` [T, A], `observations` [T, O], `rewards` [T] and `terminated` [T] the steps.
An episode ends where the task ends it, or after 60 steps.
"""

import json
import sys
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
from safetensors.numpy import save_file

IDS = ["Hopper-v4", "Hopper-v5", "HalfCheetah-v4", "HalfCheetah-v5", "Walker2d-v4", "Walker2d-v5"]
STEPS = 200
LONGEST = 60


def starts(env, draw):
    """From beside the usual start on to farther and faster ones; one is faster than Hopper may be."""
    for far in [0.005, 0.1, 0.02, 0.4, 0.005, 0.05, 0.1, 0.01]:
        qpos = env.init_qpos + far * draw.uniform(-0.5, 0.5, env.model.nq)
        qvel = env.init_qvel + 20 * far * draw.standard_normal(env.model.nv)
        yield qpos, qvel
    while True:
        qvel = env.init_qvel.copy()
        qvel[-1] = 150.0
        yield env.init_qpos.copy(), qvel
        yield env.init_qpos.copy(), env.init_qvel.copy()


def record(id):
    env = gymnasium.make(id, disable_env_checker=True).unwrapped
    draw = np.random.default_rng(sum(id.encode()))
    out = {name: [] for name in
           ["qpos", "qvel", "first", "lengths", "actions", "observations", "rewards", "terminated"]}
    begin = starts(env, draw)
    while len(out["rewards"]) < STEPS:
        qpos, qvel = next(begin)
        mujoco.mj_resetData(env.model, env.data)
        env.set_state(qpos, qvel)
        out["qpos"].append(qpos)
        out["qvel"].append(qvel)
        out["first"].append(env._get_obs())
        length, terminated = 0, False
        while not terminated and length < LONGEST and len(out["rewards"]) < STEPS:
            # Now and then beyond what the motors do.
            action = draw.uniform(-1.1, 1.1, env.model.nu)
            observation, reward, terminated, _, _ = env.step(action)
            out["actions"].append(action)
            out["observations"].append(observation)
            out["rewards"].append(reward)
            out["terminated"].append(terminated)
            length += 1
        out["lengths"].append(length)
    kinds = {"lengths": np.int64, "terminated": np.uint8}
    tensors = {name: np.asarray(rows, kinds.get(name, np.float64)) for name, rows in out.items()}
    hyperparameters = {
        "id": id,
        "observations": int(tensors["first"].shape[1]),
        "actions": int(tensors["actions"].shape[1]),
        "step_s": env.dt,
    }
    metadata = {
        "hyperparameters": json.dumps(hyperparameters),
        "reference": json.dumps([f"gymnasium {gymnasium.__version__}", f"mujoco {mujoco.__version__}"]),
        "notes": __doc__,
    }
    return tensors, metadata


if __name__ == "__main__":
    for id in IDS:
        tensors, metadata = record(id)
        stem = "gymnasium_" + id.lower().replace("-", "_")
        save_file(tensors, Path(sys.argv[1]) / f"{stem}.safetensors", metadata)
