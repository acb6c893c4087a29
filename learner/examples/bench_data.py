"""Goes through a dataset with LeRobot itself, and says how many frames a second that is.

bench_data.py DATASET
"""

import json
import os
import sys
import time
from importlib.metadata import version

from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.datasets.video_utils import get_safe_default_codec
from lerobot.rl.buffer import ReplayBuffer
from torch.utils.data import DataLoader


def rate(pieces, frames):
    """Over the whole dataset, or ten seconds of it."""
    start, done = time.perf_counter(), 0
    for piece in pieces:
        done += frames(piece)
        if time.perf_counter() - start > 10:
            break
    return done / (time.perf_counter() - start)


dataset = LeRobotDataset("local/dataset", root=sys.argv[1])


def batches(workers):
    loader = DataLoader(dataset, batch_size=64, num_workers=workers)
    return rate(loader, lambda batch: len(batch["index"]))


# First the processes: they would share the files that this one has opened, and the places in them.
by_workers = batches(os.cpu_count())
one_by_one = rate((dataset[i] for i in range(len(dataset))), lambda frame: 1)
# An episode of them: they are kept as floats.
episode = LeRobotDataset("local/dataset", root=sys.argv[1], episodes=[0])
keys = ["observation.state", *dataset.meta.camera_keys]
start = time.perf_counter()
ReplayBuffer.from_lerobot_dataset(episode, device="cpu", state_keys=keys, use_drq=False, optimize_memory=True)
into_replay = len(episode) / (time.perf_counter() - start)
print(
    json.dumps(
        {
            "version": version("lerobot"),
            "decoder": get_safe_default_codec(),
            "frame_by_frame": one_by_one,
            "batches": batches(0),
            "batches_by_workers": by_workers,
            "into_its_replay": into_replay,
        }
    )
)
