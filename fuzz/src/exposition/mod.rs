mod known_page;
mod pages;
mod round_trip;
mod strict;

pub use known_page::known_page;
pub use pages::{openmetrics, openmetrics2, protobuf, text};
pub use round_trip::{exposition_round_trip, families_round_trip};
pub use strict::openmetrics_strict;
