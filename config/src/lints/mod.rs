//! What can be read and is likely to go wrong all the same.

mod endpoint;
mod files;

pub(crate) use endpoint::{signing_fault, url_faults};
pub(crate) use files::unreadable_files;
