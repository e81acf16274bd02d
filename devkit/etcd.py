"""etcd's HTTP API, inside an instance's network: `python -m devkit.etcd` compacts the etcd on loopback.

The API is described in https://etcd.io/docs/v3.6/dev-guide/api_grpc_gateway/.
"""

import json
import sys
import urllib.request

from devkit.commands import run
from devkit.instance import Record
from devkit.network import netns_name

CLIENT_URL = "http://127.0.0.1:2379"
_TIMEOUT = 10.0


def compact(record: Record) -> None:
    """Remove all revisions but the latest from an instance's etcd."""
    run(["nsenter", f"--net=/run/netns/{netns_name(record.name)}", "--", sys.executable, "-m", "devkit.etcd"])


def _compact_here() -> None:
    revision = _post("/v3/kv/range", {"key": "AA==", "limit": 1})["header"]["revision"]
    _post("/v3/kv/compaction", {"revision": revision, "physical": True})


def _post(path: str, body: dict[str, object]) -> dict[str, dict[str, object]]:
    with urllib.request.urlopen(CLIENT_URL + path, json.dumps(body).encode(), timeout=_TIMEOUT) as response:
        document: dict[str, dict[str, object]] = json.load(response)
        return document


if __name__ == "__main__":
    _compact_here()
