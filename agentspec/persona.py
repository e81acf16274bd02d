"""Who the agent is and what it knows. Short texts stand in the manifest, long ones in ConfigMaps."""

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
            "write either persona.instructions or persona.instructionsRef, not both: remove one of them",
        ),
        (
            "!has(self.greeting) || !has(self.greetingRef)",
            "write either persona.greeting or persona.greetingRef, not both: remove one of them",
        ),
    ),
):
    """Who the agent is."""

    instructions: str | None = Field(
        default=None,
        max_length=16384,
        description=f"What the agent is told about its task. Left out, with instructionsRef: `{DEFAULT_INSTRUCTIONS}`",
    )
    instructions_ref: ConfigMapKeyRef | None = Field(
        default=None,
        description="ConfigMap key that holds the instructions, instead of `instructions`: `{name: NAME, key: KEY}`.",
    )
    greeting: str | None = Field(
        default=None,
        max_length=1024,
        description="Said first, once the caller is in the room. Left out, with greetingRef, or empty: "
        "the agent waits for the caller to speak.",
    )
    greeting_ref: ConfigMapKeyRef | None = Field(
        default=None,
        description="ConfigMap key that holds the greeting, instead of `greeting`: `{name: NAME, key: KEY}`.",
    )


class KnowledgeSource(
    Model,
    json_schema_extra=rules(
        (
            "has(self.configMapRef) != has(self.text)",
            "a source of knowledge is either configMapRef or text with a name: write exactly one of the two",
        ),
        (
            "has(self.text) == has(self.name)",
            "name and text belong together: write both, or neither beside configMapRef",
        ),
    ),
):
    """A text, or several, that the agent answers from."""

    config_map_ref: LocalRef | None = Field(
        default=None, description="ConfigMap whose every key is a text the agent answers from, as `{name: NAME}`."
    )
    name: (
        Annotated[
            str,
            text(
                r"^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$",
                "write a name of letters, digits, '-', '_' and '.', such as opening-hours",
                max_length=128,
            ),
        ]
        | None
    ) = Field(default=None, description="What the text is called in what the model is told.")
    text: str | None = Field(default=None, min_length=1, max_length=8192, description="The text itself.")
