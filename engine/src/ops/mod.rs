//! The operators that Windlass adds to DataFusion's.

use datafusion::common::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use std::sync::Arc;

/// The methods that are the same for every operator with one input, `$self.input`, and without expressions of its own. `$made` is the operator over another
/// input.
macro_rules! of_one_input {
    (|$self:ident, $input:ident| $made:expr) => {
        fn children(&self) -> Vec<&::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>> {
            vec![&self.input]
        }

        fn apply_expressions(
            &self,
            _: &mut dyn FnMut(
                &::std::sync::Arc<dyn ::datafusion::physical_expr::PhysicalExpr>,
            ) -> ::datafusion::common::Result<::datafusion::common::tree_node::TreeNodeRecursion>,
        ) -> ::datafusion::common::Result<::datafusion::common::tree_node::TreeNodeRecursion> {
            Ok(::datafusion::common::tree_node::TreeNodeRecursion::Continue)
        }

        fn replace_children(
            self: ::std::sync::Arc<Self>,
            mut children: Vec<::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>>,
            _: ::datafusion::physical_plan::execution_plan::ReplaceChildrenOptions,
        ) -> ::datafusion::common::Result<::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>> {
            let ($self, $input) = (self, children.swap_remove(0));
            Ok(::std::sync::Arc::new($made))
        }

        fn with_new_children(
            self: ::std::sync::Arc<Self>,
            mut children: Vec<::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>>,
        ) -> ::datafusion::common::Result<::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>> {
            let ($self, $input) = (self, children.swap_remove(0));
            Ok(::std::sync::Arc::new($made))
        }
    };
}
pub(crate) use of_one_input;

/// The methods that are the same for every operator without inputs and expressions.
macro_rules! of_no_input {
    () => {
        fn children(&self) -> Vec<&::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>> {
            vec![]
        }

        fn apply_expressions(
            &self,
            _: &mut dyn FnMut(
                &::std::sync::Arc<dyn ::datafusion::physical_expr::PhysicalExpr>,
            ) -> ::datafusion::common::Result<::datafusion::common::tree_node::TreeNodeRecursion>,
        ) -> ::datafusion::common::Result<::datafusion::common::tree_node::TreeNodeRecursion> {
            Ok(::datafusion::common::tree_node::TreeNodeRecursion::Continue)
        }

        fn replace_children(
            self: ::std::sync::Arc<Self>,
            _: Vec<::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>>,
            _: ::datafusion::physical_plan::execution_plan::ReplaceChildrenOptions,
        ) -> ::datafusion::common::Result<::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>> {
            Ok(self)
        }

        fn with_new_children(
            self: ::std::sync::Arc<Self>,
            _: Vec<::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>>,
        ) -> ::datafusion::common::Result<::std::sync::Arc<dyn ::datafusion::physical_plan::ExecutionPlan>> {
            Ok(self)
        }
    };
}
pub(crate) use of_no_input;

/// The methods of an expression around another one, `$self.inner`, that has its type and its text. `$made` is the expression around another one.
macro_rules! of_one_expr {
    (|$self:ident, $inner:ident| $made:expr) => {
        fn data_type(
            &self,
            schema: &::arrow::datatypes::Schema,
        ) -> ::datafusion::common::Result<::arrow::datatypes::DataType> {
            self.inner.data_type(schema)
        }

        fn nullable(&self, schema: &::arrow::datatypes::Schema) -> ::datafusion::common::Result<bool> {
            self.inner.nullable(schema)
        }

        fn return_field(
            &self,
            schema: &::arrow::datatypes::Schema,
        ) -> ::datafusion::common::Result<::arrow::datatypes::FieldRef> {
            self.inner.return_field(schema)
        }

        fn children(&self) -> Vec<&::std::sync::Arc<dyn ::datafusion::physical_expr::PhysicalExpr>> {
            vec![&self.inner]
        }

        fn with_new_children(
            self: ::std::sync::Arc<Self>,
            mut children: Vec<::std::sync::Arc<dyn ::datafusion::physical_expr::PhysicalExpr>>,
        ) -> ::datafusion::common::Result<::std::sync::Arc<dyn ::datafusion::physical_expr::PhysicalExpr>> {
            let ($self, $inner) = (self, children.swap_remove(0));
            Ok(::std::sync::Arc::new($made))
        }

        fn fmt_sql(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
            self.inner.fmt_sql(f)
        }
    };
}
pub(crate) use of_one_expr;

mod exchange_read;
mod forget;
mod inserted;
mod mark;
pub(crate) mod range;
mod repeat;

pub(crate) use exchange_read::{ExchangeReadExec, ReadMode};
pub(crate) use forget::ForgetExec;
pub use inserted::interruptible;
pub(crate) use inserted::{InsertedExec, Stop, insert};
pub(crate) use mark::{Mark, MarkExec};
pub(crate) use repeat::RepeatExec;

/// `plan` over other inputs; itself, if they are the same.
pub(crate) fn with_children(
    plan: Arc<dyn ExecutionPlan>,
    children: Vec<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let same = plan.children().iter().zip(&children).all(|(old, new)| Arc::ptr_eq(old, new));
    if same {
        return Ok(plan);
    }
    plan.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}
