"""How many workers run, and how calls are distributed among them."""

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
            "mode Fixed needs a number of workers: set scaling.workers, or set mode: Calls",
        ),
        (
            "self.mode != 'Calls' || !has(self.workers)",
            "workers has no effect in mode Calls: set mode: Fixed, or remove scaling.workers and set minWorkers and "
            "maxWorkers",
        ),
    ),
):
    """How many workers run. In mode Calls: enough for the active and pending calls, plus freeSlots."""

    mode: ScalingMode = Field(
        default=ScalingMode.CALLS,
        description="Calls: between minWorkers and maxWorkers, as many as the calls need. Fixed: always `workers`.",
    )
    workers: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="Number of workers in mode Fixed. `kubectl scale` sets it.",
    )
    min_workers: int = Field(default=_MIN_WORKERS, ge=0, le=1000, description="Lowest number of workers in mode Calls.")
    max_workers: int = Field(
        default=_MAX_WORKERS, ge=1, le=1000, description="Highest number of workers in mode Calls."
    )
    free_slots: int = Field(default=4, ge=0, le=1000, description="Slots kept warm for the next callers in mode Calls.")
    scale_down_delay_seconds: int = Field(
        default=300,
        ge=0,
        le=86400,
        description="Seconds for which fewer workers must suffice before the controller removes one.",
    )
    placement: Placement = Field(
        default=Placement.PACKED,
        description="Packed: new calls go to workers that already have calls, so that others become idle and can "
        "terminate. Spread: new calls go to the workers with the fewest calls.",
    )
