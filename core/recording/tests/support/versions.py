"""Imports what the other scripts import, and says which versions they are."""

import json
from importlib.metadata import version

import h5py  # noqa: F401
import mcap_protobuf.decoder  # noqa: F401
import torchcodec.decoders  # noqa: F401
from lerobot.datasets.lerobot_dataset import CODEBASE_VERSION
from lerobot.rl.buffer import ReplayBuffer  # noqa: F401

print(json.dumps({"lerobot": version("lerobot"), "codebase": CODEBASE_VERSION}))
