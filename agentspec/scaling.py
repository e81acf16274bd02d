"""How many workers run, and how calls spread over them."""

from enum import StrEnum

from pydantic import Field

from agentspec.fields import rules
from agentspec.model import Model

_MIN_WORKERS = 1
_MAX_WORKERS = 20


class ScalingMode(StrEnum):
    CALLS = "Calls"
    FIXED = "Fixed"


class Placement(StrEnum):
    PACKED = "Packed"
    SPREAD = "Spread"


class ScalingSpec(
    Model,
    json_schema_extra=rules(
        (
            "self.mode != 'Calls' || self.minWorkers <= self.maxWorkers",
            "minWorkers must not exceed maxWorkers: lower minWorkers or raise maxWorkers "
            f"(by default {_MIN_WORKERS} and {_MAX_WORKERS})",
        ),
        (
            "self.mode != 'Fixed' || has(self.workers)",
            "mode Fixed needs a number: write scaling.workers, or mode: Calls to follow the calls",
        ),
        (
            "self.mode != 'Calls' || !has(self.workers)",
            "workers only counts in mode Fixed: write mode: Fixed, or remove scaling.workers and set minWorkers and "
            "maxWorkers",
        ),
    ),
):
    """How many workers run. In mode Calls: enough for the calls active and pending, and freeSlots more."""

    mode: ScalingMode = Field(
        default=ScalingMode.CALLS,
        description="Calls: between minWorkers and maxWorkers, as calls need. Fixed: always `workers`.",
    )
    workers: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="Workers in mode Fixed; `kubectl scale` sets it.",
    )
    min_workers: int = Field(default=_MIN_WORKERS, ge=0, le=1000, description="Never fewer workers, in mode Calls.")
    max_workers: int = Field(default=_MAX_WORKERS, ge=1, le=1000, description="Never more workers, in mode Calls.")
    free_slots: int = Field(
        default=4, ge=0, le=1000, description="Slots kept warm and unused for the next callers, in mode Calls."
    )
    scale_down_delay_seconds: int = Field(
        default=300, ge=0, le=86400, description="Seconds that fewer workers must have sufficed before one leaves."
    )
    placement: Placement = Field(
        default=Placement.PACKED,
        description="Packed: new calls go to workers that have some, so that others become idle and can leave. "
        "Spread: to the workers with the fewest.",
    )
