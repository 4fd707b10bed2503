//! Prometheus relabelling with Go's regular-expression meaning
