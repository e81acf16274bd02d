"""Pictures of the dashboards, without Grafana.

``panels`` reads a dashboard's JSON, and ``prometheus`` runs its queries. ``picture`` turns the answers into what the
page in ``web/`` draws with uPlot. ``browser`` saves the page as PNG, and ``cli`` has the command.
"""
