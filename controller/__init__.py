"""The operator: turns every AvatarAgent into registered workers, and reports why when it cannot.

The packages, from the process down to the data: ``runtime`` (process, leader election, queue), ``reconcile`` with
``apply`` and ``report``, ``inputs``, ``fleet`` and ``cluster`` (everything outside), ``policy`` and ``desired`` (pure
decisions and documents), ``observation``. pyproject.toml declares these layers.
"""
