//! Reads and writes the Prometheus text, OpenMetrics and protobuf exposition formats without allocating
