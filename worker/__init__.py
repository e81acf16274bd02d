"""The agent that listens, thinks, speaks and shows a face: a livekit-agents worker configured by one document."""
