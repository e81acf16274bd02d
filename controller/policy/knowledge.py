"""Decides KnowledgeLoaded: every reference leads to text that can be read, and all texts are small enough."""

from collections.abc import Mapping

from agentspec import AvatarAgentSpec, KnowledgeDocument, Reason
from agentspec.fields import ConfigMapKeyRef
from agentspec.persona import DEFAULT_INSTRUCTIONS
from agentspec.wire import WHOLE_KNOWLEDGE_BYTES, knowledge_bytes
from controller.observation import ObservedConfigMap
from controller.policy.reading import unreadable
from controller.policy.verdict import Verdict, false, true
from controller.policy.wording import listed

MAX_TEXT_BYTES = 256 * 1024
"""Limit for all texts of one agent together: the configuration stays well below a ConfigMap's 1 MiB."""
MAX_GREETING_CHARACTERS = 1024
"""The schema's limit for `persona.greeting`: a greeting is spoken without a pause."""

_SAVE_AS_UTF8 = "Save them as UTF-8, or as UTF-16 with a byte order mark, or remove them."

Seen = Mapping[str, ObservedConfigMap]
"""ConfigMaps by name."""


def wanted_config_maps(spec: AvatarAgentSpec) -> list[str]:
    """All ConfigMaps that the manifest names, each once."""
    persona = [ref.name for ref in (spec.persona.instructions_ref, spec.persona.greeting_ref) if ref is not None]
    sources = [source.config_map_ref.name for source in spec.knowledge if source.config_map_ref is not None]
    return list(dict.fromkeys(persona + sources))


def texts(spec: AvatarAgentSpec, seen: Seen) -> tuple[str, str, list[KnowledgeDocument]]:
    """Instructions, greeting and documents. Documents are in the manifest's order, then by key."""
    persona = spec.persona
    instructions = _referred(persona.instructions_ref, seen) if persona.instructions_ref else persona.instructions
    greeting = _referred(persona.greeting_ref, seen) if persona.greeting_ref else persona.greeting
    documents: list[KnowledgeDocument] = []
    for source in spec.knowledge:
        if source.config_map_ref is not None:
            documents += _documents(seen.get(source.config_map_ref.name))
        else:
            documents.append(KnowledgeDocument(name=source.name or "", text=source.text or ""))
    return instructions or DEFAULT_INSTRUCTIONS, greeting or "", documents


def knowledge_loaded(namespace: str, spec: AvatarAgentSpec, seen: Seen) -> Verdict:
    """Whether the agent has all texts that the manifest refers to, within the limits."""
    fault = _persona_fault(namespace, spec, seen) or _sources_fault(namespace, spec, seen)
    if fault is not None:
        return fault
    instructions, greeting, documents = texts(spec, seen)
    if len(greeting) > MAX_GREETING_CHARACTERS:
        return false(
            Reason.KNOWLEDGE_TOO_LARGE,
            f"The greeting (spec.persona.greetingRef) has {len(greeting)} characters; the maximum is "
            f"{MAX_GREETING_CHARACTERS}. Shorten it, or move a part of it to spec.persona.instructions.",
        )
    sizes = [(len(instructions.encode()), "the instructions")]
    sizes += [(len(document.text.encode()), document.name) for document in documents]
    size = sum(length for length, _ in sizes)
    if size > MAX_TEXT_BYTES:
        return false(
            Reason.KNOWLEDGE_TOO_LARGE,
            f"Knowledge and instructions have {size} bytes together; the maximum is {MAX_TEXT_BYTES}. Shorten "
            f"them; the largest is {max(sizes)[1]}.",
        )
    if not spec.knowledge:
        return true(Reason.NO_KNOWLEDGE_DECLARED, "spec.knowledge is empty; the agent has only its instructions.")
    loaded = "1 text is" if len(documents) == 1 else f"{len(documents)} texts are"
    message = f"{loaded} loaded, {size} bytes with the instructions.{_split(documents)}"
    faults = _knowledge_faults(spec, seen)
    if faults:
        unread = "1 key was not read" if len(faults) == 1 else f"{len(faults)} keys were not read"
        warning = f"Warning: {unread}: {_faults_listed(faults)}. {_SAVE_AS_UTF8}"
        return true(Reason.KNOWLEDGE_PARTLY_LOADED, f"{warning} {message}")
    return true(Reason.KNOWLEDGE_LOADED, message)


def _split(documents: list[KnowledgeDocument]) -> str:
    size = knowledge_bytes(documents)
    if size <= WHOLE_KNOWLEDGE_BYTES:
        return ""
    return (
        f" The knowledge has {size} bytes; above {WHOLE_KNOWLEDGE_BYTES // 1024} KiB the worker sends the language "
        "model only the passages that a question needs."
    )


def _persona_fault(namespace: str, spec: AvatarAgentSpec, seen: Seen) -> Verdict | None:
    references = {
        "spec.persona.instructionsRef": spec.persona.instructions_ref,
        "spec.persona.greetingRef": spec.persona.greeting_ref,
    }
    for field, reference in references.items():
        if reference is None:
            continue
        held = seen[reference.name].texts
        if held is None:
            return _missing(namespace, seen[reference.name], field, reference.key)
        if not held.get(reference.key, "").strip():
            found = listed(key for key, text in held.items() if text.strip())
            fault = seen[reference.name].faults.get(reference.key)
            cause = f": the value is {fault}. {_SAVE_AS_UTF8}" if fault else "."
            return false(
                Reason.CONFIG_MAP_KEY_MISSING,
                f"ConfigMap {reference.name!r} ({field}) has no text for key {reference.key!r}{cause} Keys with text: "
                f"{found}. Set the reference to one of them, or add the key: "
                f"kubectl -n {namespace} edit configmap {reference.name}",
            )
    return None


def _sources_fault(namespace: str, spec: AvatarAgentSpec, seen: Seen) -> Verdict | None:
    for index, source in enumerate(spec.knowledge):
        if source.config_map_ref is None:
            continue
        name, field = source.config_map_ref.name, f"spec.knowledge[{index}].configMapRef"
        held = seen[name].texts
        if held is None:
            return _missing(namespace, seen[name], field, "knowledge.md")
        if not any(text.strip() for text in held.values()):
            faults = {f"{name}/{key}": fault for key, fault in seen[name].faults.items()}
            unread = f" Not read: {_faults_listed(faults)}. {_SAVE_AS_UTF8}" if faults else ""
            return false(
                Reason.KNOWLEDGE_EMPTY,
                f"ConfigMap {name!r} ({field}) contains no text.{unread} Add at least one key with text: "
                f"kubectl -n {namespace} edit configmap {name}. Or remove the ConfigMap from spec.knowledge.",
            )
    return None


def _knowledge_faults(spec: AvatarAgentSpec, seen: Seen) -> dict[str, str]:
    """Every key of knowledge that was not read, as ``<ConfigMap>/<key>``, with the reason."""
    names = dict.fromkeys(source.config_map_ref.name for source in spec.knowledge if source.config_map_ref is not None)
    return {f"{name}/{key}": fault for name in names for key, fault in seen[name].faults.items()}


def _faults_listed(faults: Mapping[str, str]) -> str:
    return listed(f"{key} ({fault})" for key, fault in faults.items())


def _missing(namespace: str, seen: ObservedConfigMap, field: str, key: str) -> Verdict:
    if seen.read_failure is not None:
        names = {"field": field, "namespace": namespace}
        return unreadable(Reason.CONFIG_MAP_UNREADABLE, "ConfigMap", seen.name, **names, failure=seen.read_failure)
    return false(
        Reason.CONFIG_MAP_NOT_FOUND,
        f"ConfigMap {seen.name!r} ({field}) does not exist in namespace {namespace!r}. Correct the "
        f"name, or create the ConfigMap: "
        f"kubectl -n {namespace} create configmap {seen.name} --from-file={key}",
    )


def _referred(reference: ConfigMapKeyRef, seen: Seen) -> str:
    held = seen.get(reference.name)
    return ((held.texts if held else None) or {}).get(reference.key, "").strip()


def _documents(source: ObservedConfigMap | None) -> list[KnowledgeDocument]:
    held = sorted((source.texts or {}).items()) if source is not None else []
    return [KnowledgeDocument(name=f"{source.name}/{key}", text=text) for key, text in held if source is not None]
