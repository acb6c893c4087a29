"""Writes datasets with LeRobot, and beside each what LeRobot itself reads of it: numbers as JSON on the standard output,
pictures as bytes in NAME.rgb, frame by frame, camera by camera in the order of their names."""

import json
import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

HEIGHT, WIDTH, RATE = 48, 64, 10
NUMBER = {"dtype": "float32", "shape": (1,), "names": None}
FLAG = {"dtype": "bool", "shape": (1,), "names": None}


def features(kind, more):
    found = {
        "action": {"dtype": "float32", "shape": (4,), "names": ["x", "y", "z", "gripper"]},
        "observation.state": {"dtype": "float32", "shape": (3,), "names": {"motors": ["a", "b", "c"]}},
        "next.reward": NUMBER,
        "next.done": FLAG,
        **more,
    }
    if kind:
        # Both orders of the sides: LeRobot's own programs write the one for robots, the other for HIL-SERL.
        found["observation.images.wrist"] = {
            "dtype": kind,
            "shape": (HEIGHT, WIDTH, 3),
            "names": ["height", "width", "channels"],
        }
        found["observation.images.front"] = {
            "dtype": kind,
            "shape": (3, HEIGHT, WIDTH),
            "names": ["channels", "height", "width"],
        }
    return found


def picture(episode, frame, camera):
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    red = 60 + 2 * x + 5 * camera
    green = 40 * episode + 3 * y + 4 * frame
    blue = 16 * frame + x + y
    return np.stack([red, green, blue], -1).clip(0, 255).astype(np.uint8)


def write(folder, name, kind, lengths, more={}, limits=None):
    root = Path(folder) / name
    dataset = LeRobotDataset.create(
        "test/" + name, RATE, features(kind, more), root=root, use_videos=kind == "video"
    )
    if limits:
        dataset.meta.update_chunk_settings(**limits)
    random = np.random.default_rng(7)
    for episode, length in enumerate(lengths):
        for frame in range(length):
            last = frame == length - 1
            success = last and episode % 2 == 0
            row = {
                "action": np.r_[random.uniform(-1, 1, 3), random.integers(0, 3)].astype(np.float32),
                "observation.state": random.normal(size=3).astype(np.float32),
                "next.reward": np.array([success], np.float32),
                "next.done": np.array([last]),
                "task": "lift" if episode % 2 else "put",
            }
            if "complementary_info.discrete_penalty" in more:
                row["complementary_info.discrete_penalty"] = np.array([-0.02 * (frame % 2)], np.float32)
            if "complementary_info.is_intervention" in more:
                row["complementary_info.is_intervention"] = np.array([frame % 3 == 0])
            if "next.truncated" in more:
                row["next.truncated"] = np.array([last and episode % 3 == 0])
            if "observation.environment_state" in more:
                row["observation.environment_state"] = np.array([episode, frame], np.float32)
            if "observation.force" in more:
                row["observation.force"] = random.normal(size=6).astype(np.float32)
            if kind:
                row["observation.images.wrist"] = picture(episode, frame, 1)
                row["observation.images.front"] = picture(episode, frame, 0).transpose(2, 0, 1)
            dataset.add_frame(row)
        dataset.save_episode()
    dataset.finalize()
    return read(folder, name)


def read(folder, name):
    dataset = LeRobotDataset("test/" + name, root=Path(folder) / name)
    rows = []
    with open(Path(folder) / (name + ".rgb"), "wb") as pictures:
        for index in range(len(dataset)):
            item = dataset[index]
            row = {}
            for key, value in item.items():
                if key.startswith("observation.images."):
                    continue
                row[key] = value if isinstance(value, str) else value.tolist()
            rows.append(row)
            for key in sorted(dataset.meta.camera_keys):
                levels = (item[key] * 255).round().byte()
                pictures.write(levels.permute(1, 2, 0).contiguous().numpy().tobytes())
    return rows


if __name__ == "__main__":
    folder = sys.argv[1]
    written = {
        "video": write(folder, "video", "video", [5, 4, 1, 3], {"complementary_info.discrete_penalty": NUMBER}),
        # Files of their own for nearly every episode.
        "many-files": write(
            folder,
            "many-files",
            "video",
            [3, 3, 3],
            {"complementary_info.is_intervention": FLAG, "observation.force": {**NUMBER, "shape": (6,)}},
            {"data_files_size_in_mb": 0.001, "video_files_size_in_mb": 0.001},
        ),
        "image": write(folder, "image", "image", [4, 2], {"next.truncated": FLAG}),
        "states": write(
            folder,
            "states",
            None,
            [3, 2, 4],
            {"observation.environment_state": {**NUMBER, "shape": (2,)}},
        ),
    }
    json.dump(written, sys.stdout)
