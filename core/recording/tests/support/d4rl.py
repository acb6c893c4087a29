"""h5py's side of `tests/hdf5.rs`: `write DIR` makes files, `read FILE` prints one as JSON."""

import json
import sys

import h5py
import numpy as np

ROWS, OBSERVATION, ACTION = 1000, 3, 2


def columns():
    """The numbers that `hdf5.rs` has too: multiples of 1/8, exact in every type."""
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


def make(path, arrays, packed=False, **how):
    with h5py.File(path, "w", **how) as file:
        for key, array in arrays.items():
            chunked = packed and {
                "chunks": (64, 2)[: array.ndim],
                "compression": "gzip",
                "shuffle": True,
            }
            file.create_dataset(key, data=array, **(chunked or {}))
        # As D4RL has them beside.
        file.create_dataset("infos/qpos", data=np.zeros((ROWS, 5)))
        file.create_dataset("metadata/algorithm", data=np.bytes_("SAC"))
        file.attrs["env"] = "any"


def write(folder):
    double = columns()
    single = {k: v.astype(np.float32) if v.dtype == float else v for k, v in double.items()}
    make(f"{folder}/double.hdf5", double)
    make(f"{folder}/single.hdf5", single)
    make(f"{folder}/packed.h5", single, packed=True)
    make(f"{folder}/newest.h5", single, libver="latest")
    make(f"{folder}/newest-packed.h5", single, packed=True, libver="latest")
    make(f"{folder}/big-endian.h5", {k: v.astype(v.dtype.newbyteorder(">")) for k, v in double.items()})
    names = {
        "obs": single["observations"],
        "action": single["actions"],
        "reward": single["rewards"][:, None],
        "next_obs": single["next_observations"],
        "done": single["terminals"].astype(np.int8),
        "timeouts": single["timeouts"].astype(np.float64),
    }
    make(f"{folder}/other-names.hdf5", names)
    with h5py.File(f"{folder}/growing.hdf5", "w") as file:
        for key, array in single.items():
            # Made longer as it came, as recorders do.
            whole = file.create_dataset(
                key, (0, *array.shape[1:]), array.dtype, maxshape=(None, *array.shape[1:])
            )
            for start in range(0, ROWS, 300):
                rows = array[start : start + 300]
                whole.resize(start + len(rows), 0)
                whole[start:] = rows
    raw = {k: v for k, v in single.items() if k != "next_observations"}
    make(f"{folder}/raw.hdf5", raw, packed=True)
    # What D4RL itself makes of that: `qlearning_dataset`, line by line.
    kept = {"observations": [], "next_observations": [], "rewards": [], "terminals": []}
    for i in range(ROWS - 1):
        if raw["timeouts"][i]:
            continue
        kept["observations"].append(raw["observations"][i].tolist())
        kept["next_observations"].append(raw["observations"][i + 1].tolist())
        kept["rewards"].append(float(raw["rewards"][i]))
        kept["terminals"].append(bool(raw["terminals"][i]))
    print(json.dumps(kept))

    with h5py.File(f"{folder}/liar.hdf5", "w") as file:
        for key, array in single.items():
            # Ten gigabytes are said to be there, and none is.
            shape = (10**9, *array.shape[1:])
            file.create_dataset(key, shape, array.dtype, chunks=(10**6, *array.shape[1:]))
    with h5py.File(f"{folder}/unwritten.hdf5", "w") as file:
        for key, array in single.items():
            file.create_dataset(key, array.shape, array.dtype, chunks=(64, 2)[: array.ndim])
            if key != "rewards":
                file[key][:] = array
            else:
                file[key][:500] = array[:500]
    words = {**single, "actions": np.full((ROWS, ACTION), b"left")}
    make(f"{folder}/words.hdf5", words)
    nan = {**single, "rewards": single["rewards"].copy()}
    nan["rewards"][7] = np.nan
    make(f"{folder}/nan.hdf5", nan)
    make(f"{folder}/short.hdf5", {**single, "rewards": single["rewards"][:-1]})
    make(f"{folder}/half.hdf5", {**single, "terminals": np.full(ROWS, 0.5)})
    make(f"{folder}/without.hdf5", {k: v for k, v in single.items() if k != "actions"})
    make(f"{folder}/empty.hdf5", {k: v[:0] for k, v in single.items()})


def read(path):
    with h5py.File(path, "r") as file:
        arrays = {key: [str(a.dtype), a.shape, a[()].ravel().tolist()] for key, a in file.items()}
    print(json.dumps(arrays))


{"write": write, "read": read}[sys.argv[1]](sys.argv[2])
