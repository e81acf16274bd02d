"""The providers of the stages: what a manifest declares, as the SDK's own stages with the limits of a call."""
