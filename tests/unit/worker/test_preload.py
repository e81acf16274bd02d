"""Modules that the fork server imports, so that no call imports them while its caller waits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agentspec.wire import WHOLE_KNOWLEDGE_BYTES, render
from tests.ports import free_port
from tests.unit.worker.builders import make_config

SCRIPT = """
import asyncio, json, sys
import worker.call.job, worker.call.preload
from openai import APIConnectionError
from agentspec import VoiceSpec
from worker.call import voice

async def main():
    openai = {"baseURL": sys.argv[1], "credentialsSecretRef": {"name": "openai"}}
    client = voice.make_client(VoiceSpec.model_validate({"openai": openai}), "key")
    before = set(sys.modules)
    failures = 0
    for request in (
        client.audio.speech.create(model="m", voice="v", input="x"),
        client.audio.transcriptions.create(model="m", file=b"x"),
        client.chat.completions.create(model="m", messages=[], stream=True),
    ):
        try:
            await request
        except APIConnectionError:
            failures += 1
    print(json.dumps([failures, sorted(set(sys.modules) - before)]))

asyncio.run(main())
"""


def test_first_requests_to_the_provider_import_nothing() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"  # refuses connections
    done = subprocess.run([sys.executable, "-c", SCRIPT, url], capture_output=True, text=True, check=True, timeout=100)
    assert json.loads(done.stdout) == [3, []]


def test_main_process_imports_no_series_of_call_processes() -> None:
    """They would be created in memory, and every call process would count in vain."""
    script = "import sys, worker.call.preload; print('worker.call.metrics' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100)
    assert done.stdout.strip() == "False"


FIRST_USE_SCRIPT = """
import asyncio, inspect, json, sys
from livekit.agents import Agent, tokenize
from livekit.agents.tokenize import _basic_hyphenator
from agentspec import VoiceSpec
from worker.call import preload, voice

if sys.argv[1] == "prepared":
    preload.CALL_MODULES = ("worker.call.job",)
    preload.prepare_call_processes()

copies = []
parse = inspect._signature_fromstr
def count(cls, obj, text, *rest):
    copies.append(text)
    return parse(cls, obj, text, *rest)
inspect._signature_fromstr = count

async def main():
    declared = VoiceSpec.model_validate({"openai": {"credentialsSecretRef": {"name": "openai"}}})
    stages = voice.Stages(declared, voice.make_client(declared, "key"))
    session = voice.make_session(stages, "en")
    before = set(sys.modules)
    await session.start(Agent(instructions="x"), record=False)
    built = _basic_hyphenator._get_hyphenator.cache_info().misses
    tokenize.basic.hyphenate_word("word")
    built = _basic_hyphenator._get_hyphenator.cache_info().misses - built
    print(json.dumps([len(copies), built, sorted(set(sys.modules) - before)]))
    await session.aclose()
    await stages.aclose()

asyncio.run(main())
"""


@pytest.mark.parametrize(("state", "copies", "trees"), [("fresh", 1, 1), ("prepared", 0, 0)])
def test_fork_server_does_what_first_uses_do(tmp_path: Path, state: str, copies: int, trees: int) -> None:
    """Copies of `sys.modules`, trees of syllables and imports while a session starts; a fresh process makes them."""
    config = tmp_path / "agent.json"
    config.write_text(render(make_config()))
    keys = ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "OPENAI_API_KEY")
    done = subprocess.run(
        [sys.executable, "-c", FIRST_USE_SCRIPT, state],
        env={"AVATAR_AGENT_CONFIG": str(config), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)} | dict.fromkeys(keys, "k"),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert json.loads(done.stdout) == [copies, trees, []]


INDEX_SCRIPT = """
import json, sys
from worker.call import conversation, preload
from worker.config import load_settings
preload.CALL_MODULES = ()
preload.prepare_call_processes()
built = conversation._build_index.cache_info().misses
index = conversation.index_of(load_settings().config)
print(json.dumps([index is not None, conversation._build_index.cache_info().misses - built, "bm25s" in sys.modules]))
"""


@pytest.mark.parametrize(("size", "is_large"), [(WHOLE_KNOWLEDGE_BYTES, False), (WHOLE_KNOWLEDGE_BYTES + 1, True)])
def test_fork_server_indexes_a_large_knowledge_base_for_all_calls(tmp_path: Path, size: int, is_large: bool) -> None:
    config = tmp_path / "agent.json"
    config.write_text(render(make_config(knowledge=[{"name": "all", "text": ("word " * size)[:size]}])))
    keys = ("LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "OPENAI_API_KEY")
    environment = {"AVATAR_AGENT_CONFIG": str(config), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", INDEX_SCRIPT],
        env=environment | dict.fromkeys(keys, "key"),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert json.loads(done.stdout) == [is_large, 0, is_large], "a call builds nothing, and a small one loads nothing"
