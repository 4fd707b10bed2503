//! Delivery: from the spool to an endpoint.
