"""Does with a dataset what LeRobot does: fills its replay buffer, then records one more episode into it."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from lerobot.rl.buffer import ReplayBuffer

path = Path(sys.argv[1])
dataset = LeRobotDataset("local/dataset", root=path)
keys = ["observation.state", *dataset.meta.camera_keys]
buffer = ReplayBuffer.from_lerobot_dataset(
    dataset, device="cpu", state_keys=keys, use_drq=False, optimize_memory=False
)
sampled = buffer.sample(4)
frames = len(dataset)

for t in range(3):
    frame = {"task": "another"}
    for key, feature in dataset.features.items():
        shape = tuple(feature["shape"])
        if feature["dtype"] == "video":
            frame[key] = np.full(shape, 40 * t, np.uint8)
        elif key.startswith(("observation", "action", "next", "complementary")):
            frame[key] = np.full(shape, t, np.dtype(feature["dtype"]))
    dataset.add_frame(frame)
dataset.save_episode()
dataset.finalize()
longer = LeRobotDataset("local/dataset", root=path)
last = longer[len(longer) - 1]
schemas = [pq.read_schema(file) for file in sorted(path.glob("meta/episodes/*/*.parquet"))]
types = [{name: str(schema.field(name).type) for name in schema.names} for schema in schemas]

print(
    json.dumps(
        {
            "size": buffer.size,
            "rewards": buffer.rewards[: buffer.size].tolist(),
            "dones": buffer.dones[: buffer.size].tolist(),
            "info": {key: value[: buffer.size].tolist() for key, value in buffer.complementary_info.items()},
            "sampled": {key: list(value.shape) for key, value in sampled["state"].items()},
            "longer": [longer.num_episodes, len(longer) - frames, last["task"]],
            "other_types": [
                [name, types[0].get(name), kind] for name, kind in types[-1].items() if types[0].get(name) != kind
            ],
        }
    )
)
