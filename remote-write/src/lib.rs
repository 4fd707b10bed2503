//! A durable Prometheus remote-write sender: give it samples, it delivers them.

pub mod delivery;
pub mod encode;
mod fragment;
mod options;
pub mod spool;
pub mod wire;

pub use fragment::{Compression, Counts, Fragment, Lane, LaneSet, Protocol};
pub use options::{ConfigError, MetadataConfig, ProtobufMessage, QueueConfig, RemoteWriteConfig};
