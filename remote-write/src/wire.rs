//! The protobuf messages of remote write 1.0 and 2.0, for receivers and tests.
