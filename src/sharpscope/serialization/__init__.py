"""How values become text and files: canonical JSON and its hash, strict configuration classes, atomic writing.

`canonical_json` and `content_hash` name results, `require_json` refuses what JSON cannot hold; `json_ready` is the
one way in which a NaN or an infinity enters JSON; `seal_json` adds a checksum to a table. `StrictConfig` is the base
of every configuration class, and `explain` turns its refusals into a sentence. `write_whole` and `replacing` put a
file in place so that a reader, or a crash, finds the old file or the new one.
"""

from sharpscope.serialization.files import replacing, sync_folder, sync_tree, write_whole
from sharpscope.serialization.json_text import (
    canonical_json,
    content_hash,
    json_ready,
    readable_json,
    require_json,
    seal_json,
    unseal_json,
)
from sharpscope.serialization.strict_config import StrictConfig, explain

__all__ = [
    "StrictConfig",
    "canonical_json",
    "content_hash",
    "explain",
    "json_ready",
    "readable_json",
    "replacing",
    "require_json",
    "seal_json",
    "sync_folder",
    "sync_tree",
    "unseal_json",
    "write_whole",
]
