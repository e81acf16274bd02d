"""What the gateway learns from the cluster: AvatarAgents, Secrets, and the free slots."""
