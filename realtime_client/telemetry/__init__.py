"""Live figures: Prometheus text over HTTP, and OpenTelemetry spans."""
