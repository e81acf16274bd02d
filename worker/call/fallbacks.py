"""Counts, logs and reports in a call when a provider becomes unavailable and a fallback takes over."""

from worker import provider_availability
from worker.call import metrics
from worker.call.voice import Stages
from worker.provider_availability import ProviderAvailability


def follow(stages: Stages) -> None:
    """Follow the providers of all stages with fallbacks."""
    stages.on_availability = _on_availability


def _on_availability(found: ProviderAvailability) -> None:
    if not found.available:
        metrics.PROVIDER_FALLBACKS.labels(found.stage).inc()
    provider_availability.report(found)
