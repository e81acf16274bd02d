"""Who the agent is and what it knows. Short texts are in the manifest, long ones in ConfigMaps."""

from typing import Annotated

from pydantic import Field

from agentspec.fields import ConfigMapKeyRef, LocalRef, rules, text
from agentspec.model import Model

DEFAULT_INSTRUCTIONS = "You are a helpful voice assistant. Answer briefly."


class PersonaSpec(
    Model,
    json_schema_extra=rules(
        (
            "!has(self.instructions) || !has(self.instructionsRef)",
            "set either persona.instructions or persona.instructionsRef: remove one of them",
        ),
        (
            "!has(self.greeting) || !has(self.greetingRef)",
            "set either persona.greeting or persona.greetingRef: remove one of them",
        ),
    ),
):
    """Who the agent is."""

    instructions: str | None = Field(
        default=None,
        max_length=16384,
        description="The task, for the language model. Without instructions and instructionsRef: "
        f"`{DEFAULT_INSTRUCTIONS}`",
    )
    instructions_ref: ConfigMapKeyRef | None = Field(
        default=None,
        description="ConfigMap key with the instructions, instead of `instructions`: `{name: NAME, key: KEY}`.",
    )
    greeting: str | None = Field(
        default=None,
        max_length=1024,
        description="What the agent says first, when the caller has joined the room. Without a greeting the agent "
        "waits for the caller to speak.",
    )
    greeting_ref: ConfigMapKeyRef | None = Field(
        default=None,
        description="ConfigMap key with the greeting, instead of `greeting`: `{name: NAME, key: KEY}`.",
    )
    greetings: dict[str, Annotated[str, Field(max_length=1024)]] = Field(
        default_factory=dict,
        max_length=8,
        description="Greetings in the other languages of `spec.languages`: `{fr: Bonjour}`.",
    )


class KnowledgeSource(
    Model,
    json_schema_extra=rules(
        (
            "has(self.configMapRef) != has(self.text)",
            "a source of knowledge is either configMapRef, or text with a name: set exactly one of the two",
        ),
        (
            "has(self.text) == has(self.name)",
            "name and text belong together: set both, or set configMapRef alone",
        ),
    ),
):
    """One or more texts that the agent answers from."""

    config_map_ref: LocalRef | None = Field(
        default=None, description="ConfigMap in which every key is a text, as `{name: NAME}`."
    )
    name: (
        Annotated[
            str,
            text(
                r"^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$",
                "set a name of letters, digits, '-', '_' and '.', such as opening-hours",
                max_length=128,
            ),
        ]
        | None
    ) = Field(default=None, description="Name of the text for the language model.")
    text: str | None = Field(default=None, min_length=1, max_length=8192, description="The text itself.")
