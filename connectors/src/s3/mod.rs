//! Buckets of S3: their settings, and what `object_store` does not do with them.

#[cfg(feature = "s3")]
mod bucket;
#[cfg(feature = "s3")]
mod explain;
#[cfg(feature = "s3")]
mod listing;
mod pace;
#[cfg(feature = "s3")]
mod role;
mod settings;

#[cfg(feature = "s3")]
pub(crate) use bucket::Bucket;
#[cfg(feature = "s3")]
pub(crate) use explain::Explaining;
pub(crate) use pace::{Pace, Paced};
#[cfg(feature = "s3")]
pub(crate) use role::Assumed;
pub(crate) use settings::{AWS_PREFIX, Settings, shown};
