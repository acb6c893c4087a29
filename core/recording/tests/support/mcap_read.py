"""Reads MCAP files with the mcap package, by the schemas that are in them, and says what is in them.

mcap_read.py FILE...: for each file its messages in order of time. Pictures are given as the SHA-256 of their pixels.
"""

import hashlib
import io
import json
import sys

from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory
from PIL import Image


def plain(message):
    """Every field of a message, those with defaults too; an optional one that is absent is None."""
    out = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.is_repeated:
            out[field.name] = [plain(v) for v in value] if field.message_type else list(value)
        elif field.has_presence and not message.HasField(field.name):
            out[field.name] = None
        elif field.message_type:
            out[field.name] = plain(value)
        elif isinstance(value, bytes):
            out[field.name] = pixels(message, value)
        elif field.enum_type:
            out[field.name] = field.enum_type.values_by_number[value].name
        else:
            out[field.name] = value
    return out


def pixels(message, data):
    if message.DESCRIPTOR.full_name == "foxglove.CompressedImage":
        image = Image.open(io.BytesIO(data), formats=[message.format])
        assert image.mode == "RGB", image.mode
        data = image.tobytes()
    return hashlib.sha256(data).hexdigest()


def read(path):
    with open(path, "rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        summary = reader.get_summary()
        messages = [
            {
                "topic": channel.topic,
                "schema": schema.name,
                "sequence": message.sequence,
                "log_time": message.log_time,
                "message": plain(decoded),
            }
            for schema, channel, message, decoded in reader.iter_decoded_messages()
        ]
    # The index at the end says as many as there are.
    assert summary.statistics.message_count == len(messages)
    return messages


print(json.dumps([read(path) for path in sys.argv[1:]]))
