"""The models of the simulated OpenAI, by endpoint."""

from __future__ import annotations

from typing import Any

from devkit.providers.openai.errors import reject

MODELS: dict[str, frozenset[str]] = {
    "transcriptions": frozenset({"whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe"}),
    "chat": frozenset({"gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-5-mini"}),
    "speech": frozenset({"tts-1", "tts-1-hd", "gpt-4o-mini-tts"}),
    "realtime": frozenset({"gpt-realtime", "gpt-realtime-mini"}),
}

_CREATED = 1_677_610_602


def require_model(endpoint: str, model: object) -> str:
    """Return `model` if it serves `endpoint`; otherwise reject it as OpenAI does, with 404 if it does not exist."""
    if not isinstance(model, str) or not model:
        reject("you must provide a model parameter", param="model")
    if model in MODELS[endpoint]:
        return model
    if any(model in names for names in MODELS.values()):
        reject(f"The model `{model}` does not support this endpoint.", param="model", code="unsupported_model")
    message = f"The model `{model}` does not exist or you do not have access to it."
    reject(message, param="model", code="model_not_found", status=404)


def describe(model: str) -> dict[str, Any]:
    """Return the model object of `model`."""
    return {"id": model, "object": "model", "created": _CREATED, "owned_by": "simulated"}


def list_all() -> dict[str, Any]:
    """Return the answer to `GET /v1/models`."""
    return {"object": "list", "data": [describe(m) for names in MODELS.values() for m in sorted(names)]}
