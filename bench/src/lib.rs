//! The farm, the sink and the rivals
