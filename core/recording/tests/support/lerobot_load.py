"""Loads datasets with LeRobot itself, goes through every frame as its loaders do, and says what it saw.

lerobot_load.py FOLDER DATASET...: pictures go to FOLDER, raw, a file for each dataset and camera. What LeRobot makes of
pictures before they become a video it says of those in FOLDER/DATASET-CAMERA.seen.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from lerobot.datasets.compute_stats import get_feature_stats
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.utils import dataset_to_policy_features, load_nested_dataset


def numbers(stats):
    return {name: np.asarray(value).tolist() for name, value in stats.items()}


def look(place, path):
    dataset = LeRobotDataset("local/dataset", root=path)
    frames = []
    files = {key: open(place / f"{path.name}-{key}.rgb", "wb") for key in dataset.meta.camera_keys}
    for batch in torch.utils.data.DataLoader(dataset, batch_size=8):
        for i in range(len(batch["index"])):
            frame = {}
            for key, value in batch.items():
                if key in files:
                    picture = (value[i] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous()
                    files[key].write(picture.numpy().tobytes())
                else:
                    frame[key] = value[i] if isinstance(value[i], str) else value[i].tolist()
            frames.append(frame)
    for file in files.values():
        file.close()
    episodes = []
    rows = dataset.hf_dataset.with_format("numpy")
    for episode in load_nested_dataset(path / "meta" / "episodes").select(range(dataset.num_episodes)):
        first, end = episode["dataset_from_index"], episode["dataset_to_index"]
        part = rows[first:end]
        theirs = {}
        for key in rows.features:
            column = np.asarray(part[key])
            theirs[key] = numbers(get_feature_stats(column, axis=0, keepdims=column.ndim == 1))
        for key in files:
            seen = place / f"{path.name}-{key}.seen"
            if seen.exists():
                seen = np.fromfile(seen, np.uint8).reshape(-1, *dataset.features[key]["shape"])
                # Not of bytes: their squares would wrap around.
                seen = seen[first:end].transpose(0, 3, 1, 2) / 255
                stats = get_feature_stats(seen, axis=(0, 2, 3), keepdims=True)
                theirs[key] = numbers({k: v if k == "count" else v[0] for k, v in stats.items()})
        episodes.append({"episode": episode, "stats": theirs})
    return {
        "frames": frames,
        "episodes": episodes,
        "stats": {key: numbers(stats) for key, stats in dataset.meta.stats.items()},
        "fps": dataset.fps,
        "total": [dataset.num_episodes, dataset.num_frames, len(dataset)],
        "policy": {key: list(f.shape) for key, f in dataset_to_policy_features(dataset.features).items()},
    }


place = Path(sys.argv[1])
print(json.dumps([look(place, Path(path)) for path in sys.argv[2:]]))
