//! YAML with positions: parsed into nodes that know where they stand, deserialized with errors that say so.

mod deserialize;
mod mapping;
mod node;
mod node_error;
mod parse;
mod scalar;
mod suggest;

pub(crate) use mapping::Mapping;
pub(crate) use node::{Entry, Node, Span, Value};
pub(crate) use node_error::{NodeError, Segment};
pub(crate) use parse::{Document, parse};
pub(crate) use scalar::{Resolved, Scalar};
