"""This machine as a platform: the real cluster, LiveKit, images, simulated providers and the demo."""
