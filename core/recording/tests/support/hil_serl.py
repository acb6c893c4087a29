"""Python's side of `hil_serl.rs`: `write DIR` pickles transitions as HIL-SERL does and as others may, `read FILE` prints
what a file holds as JSON."""

import copy
import io
import json
import pickle
import pickletools
import sys
import warnings
from collections import OrderedDict

import numpy as np

CAMERAS = {"wrist": (16, 24), "front": (16, 16)}
STEPS = (3, 2)
STATE = 19


def image(frame, name):
    shape = (*CAMERAS[name], 3)
    numbers = np.arange(np.prod(shape)) + 7 * frame + len(name)
    return (numbers % 251).astype(np.uint8).reshape(shape)


def state(frame):
    return (frame + np.arange(STATE) / 8).astype(np.float32)


def observation(frame):
    """As the environments of HIL-SERL give it, through their wrapper for chunks of one frame."""
    return {"state": state(frame)[None], **{name: image(frame, name)[None] for name in CAMERAS}}


def transitions():
    """The first episode succeeds, the second runs out of time: both are done, which is all that HIL-SERL says."""
    rows, frame = [], 0
    for episode, steps in enumerate(STEPS):
        for step in range(steps):
            done = step == steps - 1
            reward = int(done and episode == 0)
            action = (np.arange(7) + frame) % 16 / 8 - 1
            action[6] = (-0.95, 0.0, 0.93)[frame % 3]
            row = {
                "observations": observation(frame),
                "actions": action,
                "next_observations": observation(frame + 1),
                "rewards": reward,
                "masks": 1.0 - done,
                "dones": done,
                "infos": {
                    "succeed": bool(reward),
                    "left": False,
                    "right": np.bool_(False),
                    "intervene_action": action,
                    "grasp_penalty": -0.02 if frame % 2 else 0.0,
                    "nothing": None,
                },
            }
            rows.append(copy.deepcopy(row))
            frame += 1
        frame += 1
    return rows


def other(row):
    """The same transition, said otherwise."""
    row = OrderedDict(row)
    for key in ("observations", "next_observations"):
        seen = {name: np.asfortranarray(row[key][name][0]) for name in CAMERAS}
        numbers = row[key]["state"][0].astype(np.float64)
        parts = {
            "tcp_vel": numbers[13:],
            "gripper_pose": numbers[:1],
            "tcp_torque": numbers[10:13],
            "tcp_pose": numbers[4:10],
            "tcp_force": list(numbers[1:4]),
        }
        row[key] = {**seen, "state": parts}
    row["grasp_penalty"] = np.float32(row["infos"]["grasp_penalty"])
    row["actions"] = tuple(float(number) for number in row["actions"])
    row["rewards"] = np.float64(row["rewards"])
    row["dones"] = np.array([row["dones"]])
    row["infos"] = ("a", 10**15, -(2**40), b"bytes", 1e-300, ["list", {}])
    del row["masks"]
    return row


def stacked(row):
    """Several frames, of which the last is the newest."""
    for key in ("observations", "next_observations"):
        row[key] = {k: np.concatenate([0 * v, v // 2, v]) for k, v in row[key].items()}
    return row


def write(folder):
    def dump(name, rows, protocol=4):
        with open(f"{folder}/{name}.pkl", "wb") as file:
            pickle.dump(rows, file, protocol)

    for protocol in range(6):
        dump(f"protocol-{protocol}", transitions(), protocol)
        dump(f"other-{protocol}", [other(row) for row in transitions()], protocol)
    dump("stacked", [stacked(row) for row in transitions()])
    dump("fragments", [transitions()[i] for i in (0, 2, 3)])
    labelled = [{"observations": r["observations"], "labels": i % 2} for i, r in enumerate(transitions())]
    dump("labels", labelled)
    dump("task_200_success_images", transitions()[2:3])
    dump("task_failure_images", transitions()[:2])
    states = transitions()
    for row in states:
        for key in ("observations", "next_observations"):
            row[key] = {"state": row[key]["state"]}
    dump("states", states)
    # A class of one's own, and a call.
    dump("class", [{"observations": io.StringIO("text")}])
    dump("range", [{"observations": range(3)}])


def plain(value):
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "shape": value.shape, "numbers": value.ravel().tolist()}
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value


def read(path):
    with open(path, "rb") as file:
        rows = pickle.load(file)
    # The unpickler in Python says what the one in C lets pass.
    with open(path, "rb") as file:
        again = pickle._Unpickler(file).load()
    assert plain(rows) == plain(again)
    with open(path, "rb") as file:
        pickletools.dis(file, io.StringIO())
    for before, after in zip(rows, rows[1:]):
        if not before["dones"]:
            for key, led_to in before["next_observations"].items():
                assert after["observations"][key] is led_to, f"{key} is there twice"
    rows[0]["observations"]["state"][0] = 0  # It is the reader's to change.
    print(json.dumps(plain(rows[1:])))


warnings.simplefilter("error")
{"write": write, "read": read}[sys.argv[1]](sys.argv[2])
