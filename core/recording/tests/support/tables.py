"""numpy's side of `tests/numpy.rs`: `write DIR` makes archives, `read FILE` prints one as JSON."""

import json
import sys

import numpy as np

ROWS, OBSERVATION, ACTION = 1000, 3, 2


def columns():
    """The numbers that `numpy.rs` has too: multiples of 1/8, exact in every type."""
    wide = np.arange(ROWS * OBSERVATION).reshape(ROWS, OBSERVATION) / 8
    flags = np.arange(ROWS)
    return {
        "observations": wide,
        "actions": np.arange(ROWS * ACTION).reshape(ROWS, ACTION) % 16 / 8 - 1,
        "rewards": np.arange(ROWS) / 8 - 50,
        "next_observations": wide + OBSERVATION / 8,
        "terminals": flags % 70 == 69,
        "timeouts": flags % 100 == 99,
    }


def write(folder):
    double = columns()
    single = {k: v.astype(np.float32) if v.dtype == float else v for k, v in double.items()}
    np.savez(f"{folder}/double.npz", **double)
    np.savez(f"{folder}/single.npz", **single)
    np.savez_compressed(f"{folder}/compressed.npz", **single)
    fortran = {k: np.asfortranarray(v) for k, v in single.items()}
    assert not fortran["observations"].flags.c_contiguous
    np.savez(f"{folder}/fortran.npz", **fortran)
    names = {
        "obs": single["observations"],
        "action": single["actions"],
        "reward": single["rewards"][:, None],
        "next_obs": single["next_observations"],
        "done": single["terminals"].astype(np.float32),
        "timeouts": single["timeouts"].astype(np.int64),
        "infos": np.array([{"any": "thing"}]),
    }
    np.savez(f"{folder}/other-names.npz", **names)


def read(path):
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: [str(a.dtype), a.shape, a.ravel().tolist()] for key, a in archive.items()}
    print(json.dumps(arrays))


{"write": write, "read": read}[sys.argv[1]](sys.argv[2])
