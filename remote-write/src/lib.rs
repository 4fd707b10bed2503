//! A durable Prometheus remote-write sender: spool, encoding, delivery and an exact ledger
