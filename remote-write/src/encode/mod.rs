//! Turns admitted series and their samples into fragments, and fragments into requests.
