"""One reconcile: gather, decide, apply, report. Idempotent and level-based."""

from collections.abc import Iterable
from dataclasses import dataclass

from controller.apply import Applier
from controller.gather import Gatherer
from controller.observation import Key
from controller.policy.decide import conclude, decide
from controller.policy.snapshot import ObservedAgent
from controller.report import Reporter


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a reconcile that ended without an error."""

    requeue_after: float | None
    """Seconds until the agent is due again; None for never."""
    rejected: bool = False
    """The API server rejected what the manifest asks for; the status says why."""


class Reconciler:
    """Reconciles AvatarAgents; the work queue never runs two reconciles of one key at once."""

    def __init__(self, gatherer: Gatherer, applier: Applier, reporter: Reporter, default_image: str) -> None:
        """`default_image`: the image of workers whose spec names none."""
        self._gatherer = gatherer
        self._applier = applier
        self._reporter = reporter
        self._default_image = default_image

    async def sync(self, agents: Iterable[ObservedAgent]) -> None:
        """Hear the workers of all agents once before the first decision."""
        await self._gatherer.sync(agents)

    async def reconcile(self, key: Key) -> Result:
        """Reconcile one agent. Raises ApiError."""
        snapshot = await self._gatherer.gather(key)
        decision = decide(snapshot, self._default_image)
        outcome = await self._applier.apply(decision)
        requeue_after = await self._reporter.report(conclude(decision, outcome))
        if outcome.error is not None:
            raise outcome.error
        return Result(requeue_after, rejected=not outcome.applied and outcome.cause is not None)
