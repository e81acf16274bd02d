"""The operator: turns every AvatarAgent into registered workers and says why when it cannot.

handlers (kopf) -> reconcile -> {cluster, desired, policy, fleet} -> agentspec. ``policy`` and ``desired`` are pure.
"""
