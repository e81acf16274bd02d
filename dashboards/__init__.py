"""The Grafana dashboards, as code: Fleet, Calls and Operator.

``python -m dashboards`` writes the JSON into ``dashboards/generated/`` and into the chart; ``--check`` fails
when a file is stale. The modules ``fleet``, ``calls`` and ``operator`` describe one dashboard each; ``panels`` and
``queries`` contain what they share.
"""
