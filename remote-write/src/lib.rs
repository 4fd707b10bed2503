//! A durable Prometheus remote-write sender: give it samples, it delivers them.

pub mod delivery;
pub mod encode;
mod fragment;
mod options;
mod sink;
pub mod spool;
pub mod wire;

pub use fragment::{Compression, Counts, Fragment, Lane, LaneSet, Protocol};
pub use sink::{Commit, Endpoint, EndpointStatus, RemoteWrite, RemoteWriteTarget, Shared, StartError};
pub use options::{ConfigError, MetadataConfig, ProtobufMessage, QueueConfig, RemoteWriteConfig};
