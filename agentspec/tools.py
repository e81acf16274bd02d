"""Tools of the agent that need no code: HTTP requests, MCP servers, and what an agent can do with its own call."""

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field, WithJsonSchema

from agentspec.fields import SecretKeyRef, rules, text, tool_url
from agentspec.model import Model

KNOWLEDGE_SEARCH: Final = "search_knowledge"
"""Name of the tool with which a realtime model searches a large knowledge base. No other tool may have it."""
MAX_SERVER_TOOLS: Final = 32
"""Most tools of one MCP server that an agent has."""
_TOOL_NAME: Final = r"^[A-Za-z_][A-Za-z0-9_-]*$"

_ToolName = Annotated[
    str,
    text(
        _TOOL_NAME,
        "set a name of letters, digits, '_' and '-', such as order_status: the language model calls the tool by it",
        max_length=64,
    ),
]
_Description = Annotated[str, Field(min_length=1, max_length=1024)]


class SecretHeader(Model):
    """An HTTP header whose value is in a Secret."""

    name: Annotated[
        str,
        text(r"^[A-Za-z0-9-]+$", "set the name of an HTTP header, such as Authorization", max_length=64),
    ] = Field(description="Name of the header.")
    secret_key_ref: SecretKeyRef = Field(
        description="Secret with the whole value, such as `Bearer abc`, as `{name: NAME, key: KEY}`."
    )


_Headers = Annotated[list[SecretHeader], Field(max_length=4)]


class HTTPMethod(StrEnum):
    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"


_JSONSchema = Annotated[
    dict[str, Any],
    Field(max_length=64),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": 64,
            "x-kubernetes-preserve-unknown-fields": True,
            "required": ["type"],
            "properties": {"type": {"type": "string", "enum": ["object"], "description": "Always `object`."}},
        }
    ),
]
"""A JSON Schema of an object. CEL cannot read unknown fields, so its type is a field of the structural schema."""


class HTTPTool(Model):
    """One HTTP request."""

    description: _Description = Field(description="What the tool does and when to use it, for the language model.")
    url: Annotated[str, tool_url()] = Field(
        description="Address. `{NAME}` in its path is replaced by the argument of that name."
    )
    method: HTTPMethod = Field(
        default=HTTPMethod.POST,
        description="Method. GET and DELETE send the arguments in the query, the others as a JSON object.",
    )
    parameters: _JSONSchema = Field(
        default_factory=lambda: {"type": "object", "properties": {}},
        description="JSON Schema of the arguments, an object.",
    )
    headers: _Headers = Field(default_factory=list, description="Headers of the request, whose values are in Secrets.")
    timeout_seconds: int = Field(default=5, ge=1, le=30, description="Longest duration of the request.")


class MCPServer(Model):
    """A server of the Model Context Protocol, by its transport Streamable HTTP."""

    url: Annotated[str, tool_url()] = Field(description="Address of the server, such as `https://crm.example/mcp`.")
    headers: _Headers = Field(default_factory=list, description="Headers of all requests, whose values are in Secrets.")
    allowed_tools: list[_ToolName] = Field(
        default_factory=list,
        max_length=MAX_SERVER_TOOLS,
        description=f"Names of the server's tools that the agent may use. Empty: all, at most {MAX_SERVER_TOOLS}.",
    )
    start_timeout_seconds: int = Field(
        default=5,
        ge=1,
        le=30,
        description="Longest time to connect and to list the tools. A call without the server continues without them.",
    )
    timeout_seconds: int = Field(default=10, ge=1, le=30, description="Longest duration of one use of a tool.")


class EndCallTool(Model):
    """The agent ends the call."""

    description: _Description = Field(
        default="End the call. Use it when the caller says goodbye or wants to hang up.",
        description="When to use it, for the language model.",
    )


class TransferTool(Model):
    """The agent transfers a telephone caller to another number."""

    description: _Description = Field(
        default="Transfer the caller to a person. Use it when the caller asks for a person or you cannot help.",
        description="When to use it, for the language model.",
    )
    to: Annotated[
        str,
        text(
            r"^(tel:\+[0-9]{3,15}|sips?:[A-Za-z0-9+_.-]+@[A-Za-z0-9.-]+(:[0-9]{1,5})?)$",
            "set a telephone number such as tel:+4930123456 or a SIP address such as sip:desk@pbx.example.com",
            max_length=256,
        ),
    ] = Field(description="Where to: `tel:+4930123456` or `sip:desk@pbx.example.com`.")


class SendDTMFTool(Model):
    """The agent presses telephone keys."""

    description: _Description = Field(
        default="Press telephone keys. Use it only when an automatic system asks for a key or a number.",
        description="When to use it, for the language model.",
    )


_KINDS: Final = ("http", "mcp", "endCall", "transfer", "sendDTMF")


class ToolSpec(
    Model,
    json_schema_extra=rules(
        (
            f"[{', '.join(f'has(self.{kind})' for kind in _KINDS)}].exists_one(found, found)",
            f"a tool is one of {', '.join(_KINDS)}: set exactly one of them",
        ),
        (
            f"self.name != '{KNOWLEDGE_SEARCH}'",
            f"{KNOWLEDGE_SEARCH} is the search of a large knowledge base: set another name",
        ),
    ),
):
    """A tool of the agent."""

    name: _ToolName = Field(description="Name of the tool; of an MCP server, a name for logs and messages.")
    http: HTTPTool | None = Field(default=None, description="An HTTP request.")
    mcp: MCPServer | None = Field(default=None, description="All or some tools of an MCP server.")
    end_call: EndCallTool | None = Field(default=None, description="Ends the call; `{}` takes the defaults.")
    transfer: TransferTool | None = Field(default=None, description="Transfers a telephone caller.")
    send_dtmf: SendDTMFTool | None = Field(default=None, description="Presses telephone keys; `{}` takes the defaults.")

    @property
    def headers(self) -> list[SecretHeader]:
        """The headers whose values are in Secrets."""
        source = self.http or self.mcp
        return source.headers if source is not None else []
