"""The objects in the cluster: cached AvatarAgents and children, Events, and writes to children."""
