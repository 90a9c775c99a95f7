//! What object_store does not know of S3: archived objects.

mod bucket;
mod explain;

pub(crate) use bucket::Bucket;
pub(crate) use explain::Explaining;
