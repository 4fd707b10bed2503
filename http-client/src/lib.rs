//! Prometheus' http_config as one HTTP client: authentication, TLS, proxies, redirects
