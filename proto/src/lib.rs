//! The wire: generated types, and the only place where wire types become core types and back.

/// Generated from `proto/windlass/v1/windlass.proto`.
pub mod v1 {
    tonic::include_proto!("windlass.v1");
}

/// What names [`v1::PlanStatement`] in a Flight SQL command.
pub const PLAN_STATEMENT_TYPE_URL: &str = "type.googleapis.com/windlass.v1.PlanStatement";
