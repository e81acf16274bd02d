"""What every process needs: settings, logs, and an HTTP server for health and metrics."""
