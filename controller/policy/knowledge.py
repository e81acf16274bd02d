"""Decides KnowledgeLoaded: every knowledge reference leads to text, and all of it together is small enough."""

from collections.abc import Sequence

from agentspec import KnowledgeDocument, Reason
from controller.observation import KnowledgeSeen
from controller.policy.verdict import Verdict, false, true

MAX_KNOWLEDGE_BYTES = 256 * 1024
"""All texts of one agent together, so that the configuration stays well below a ConfigMap's 1 MiB."""


def documents(seen: Sequence[KnowledgeSeen]) -> list[KnowledgeDocument]:
    """The texts, in the manifest's order, then by key."""
    return [
        KnowledgeDocument(name=f"{source.name}/{key}", text=text)
        for source in seen
        for key, text in sorted((source.texts or {}).items())
    ]


def knowledge(namespace: str, seen: Sequence[KnowledgeSeen]) -> Verdict:
    """Whether the agent has everything it should answer from."""
    if not seen:
        return true(Reason.NO_KNOWLEDGE_DECLARED, "The manifest names no knowledge.")
    for index, source in enumerate(seen):
        field = f"spec.knowledge[{index}].configMapRef"
        if source.texts is None:
            return false(
                Reason.CONFIG_MAP_NOT_FOUND,
                f"ConfigMap {source.name!r} ({field}) does not exist in namespace {namespace!r}. Create it: "
                f"kubectl -n {namespace} create configmap {source.name} --from-file=knowledge.md",
            )
        if not any(text.strip() for text in source.texts.values()):
            return false(
                Reason.KNOWLEDGE_EMPTY,
                f"ConfigMap {source.name!r} ({field}) holds no text. Give it at least one key with text, "
                f"or remove it from spec.knowledge: kubectl -n {namespace} edit configmap {source.name}",
            )
    texts = documents(seen)
    size = sum(len(document.text.encode()) for document in texts)
    if size > MAX_KNOWLEDGE_BYTES:
        return false(
            Reason.KNOWLEDGE_TOO_LARGE,
            f"The knowledge is {size} bytes; at most {MAX_KNOWLEDGE_BYTES} fit. Shorten the texts of "
            f"{', '.join(source.name for source in seen)} or name fewer of them.",
        )
    return true(Reason.KNOWLEDGE_READ, f"{len(texts)} texts, {size} bytes.")
