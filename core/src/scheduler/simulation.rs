//! Defects that the tests plant.

/// A planted defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {}
