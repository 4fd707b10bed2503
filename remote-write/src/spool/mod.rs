//! The queue on disk: segments of fragments, a cursor for each lane and endpoint.
