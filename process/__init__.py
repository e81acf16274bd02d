"""What every process needs: settings, logs, metrics, and an HTTP server for health and metrics."""
