//! The wire: generated types, and the only place where wire types become core types and back.

/// Generated from `proto/windlass/v1/windlass.proto`.
pub mod v1 {
    tonic::include_proto!("windlass.v1");
}
