"""Start the simulated OpenAI: `python -m devkit.providers.openai --host H --port 9100 --api-key-file F`."""

from __future__ import annotations

import functools
import sys

from devkit.providers.openai.app import make_app
from devkit.providers.recognition import Recogniser
from devkit.providers.serve import arguments, run
from devkit.providers.simulator import Settings


def main() -> int:
    """Serve until SIGINT or SIGTERM."""
    parser = arguments("openai", 9100)
    parser.add_argument(
        "--whisper-model",
        default="base",
        help="speech recognition model: base (offline) or any model name or folder that faster-whisper takes",
    )
    options = parser.parse_args()
    return run(
        options, Settings, functools.partial(make_app, recogniser=functools.partial(Recogniser, options.whisper_model))
    )


if __name__ == "__main__":
    sys.exit(main())
