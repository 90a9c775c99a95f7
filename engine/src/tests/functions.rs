//! Tests that executors know every function of a session by the name under which it travels.

use super::context;
use super::round_trip::{difference, round_trip};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::Result;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{WindowFrame, WindowFunctionDefinition};
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{col, lit};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::windows::{WindowAggExec, create_window_expr};
use std::sync::Arc;

fn input() -> Arc<EmptyExec> {
    let types = [
        ("i", DataType::Int64),
        ("f", DataType::Float64),
        ("s", DataType::Utf8),
        ("b", DataType::Boolean),
        ("l", DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)))),
    ];
    Arc::new(EmptyExec::new(Arc::new(Schema::new(types.map(|(name, of)| Field::new(name, of, true)).to_vec()))))
}

/// Lists of arguments; every aggregate and window function accepts at least one of them.
fn arguments() -> Vec<Vec<Arc<dyn PhysicalExpr>>> {
    let schema = input().schema();
    let column = |name: &str| col(name, &schema).unwrap();
    let mut all = vec![];
    for first in ["i", "f", "s", "b", "l"] {
        all.push(vec![column(first)]);
        for second in ["i", "f", "s"] {
            all.push(vec![column(first), column(second)]);
        }
        all.push(vec![column(first), lit(2_i64)]);
        all.push(vec![column(first), lit(0.5)]);
        all.push(vec![column(first), lit(",")]);
        all.push(vec![column(first), column(first), lit(0.5)]);
    }
    all.extend([vec![lit(2_i64)], vec![]]);
    all
}

fn assert_same(plan: Arc<dyn ExecutionPlan>, name: &str) {
    let decoded = round_trip(&plan).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(difference(&plan, &decoded), None, "{name}");
}

#[test]
fn scalar_functions() {
    let state = context(0).state();
    let result = Arc::new(Field::new("r", DataType::Utf8, true));
    for (name, function) in state.scalar_functions() {
        let arguments = arguments().remove(2);
        let options = Arc::clone(state.config_options());
        let call = ScalarFunctionExpr::new(name, Arc::clone(function), arguments, Arc::clone(&result), options);
        let expr = ProjectionExpr { expr: Arc::new(call), alias: "r".into() };
        assert_same(Arc::new(ProjectionExec::try_new([expr], input()).unwrap()), name);
    }
}

#[test]
fn aggregate_functions() {
    let schema = input().schema();
    for (name, function) in context(0).state().aggregate_functions() {
        let build = |arguments: Vec<Arc<dyn PhysicalExpr>>| {
            let fields = arguments.iter().map(|argument| argument.return_field(&schema)).collect::<Result<Vec<_>>>()?;
            // Functions rely on checked arguments.
            fields_with_udf(&fields, function.as_ref())?;
            AggregateExprBuilder::new(Arc::clone(function), arguments).schema(Arc::clone(&schema)).alias(name).build()
        };
        // Analysis removes grouping().
        let Some(call) = arguments().into_iter().find_map(|arguments| build(arguments).ok()) else {
            assert_eq!(name, "grouping", "no arguments of this test suit {name}");
            continue;
        };
        let (group, filter) = (PhysicalGroupBy::default(), Some(col("b", &schema).unwrap()));
        let plan = AggregateExec::try_new(
            AggregateMode::Single,
            group,
            vec![Arc::new(call)],
            vec![filter],
            input(),
            Arc::clone(&schema),
        );
        assert_same(Arc::new(plan.unwrap()), name);
    }
}

#[test]
fn window_functions() {
    let schema = input().schema();
    for (name, function) in context(0).state().window_functions() {
        let definition = WindowFunctionDefinition::WindowUDF(Arc::clone(function));
        for ignore_nulls in [false, true] {
            let create = |arguments: Vec<_>| {
                let frame = Arc::new(WindowFrame::new(None));
                let schema = Arc::clone(&schema);
                create_window_expr(
                    &definition,
                    name.clone(),
                    &arguments,
                    &[],
                    &[],
                    frame,
                    schema,
                    ignore_nulls,
                    false,
                    None,
                )
            };
            let call = arguments().into_iter().find_map(|arguments| create(arguments).ok());
            let call = call.unwrap_or_else(|| panic!("no arguments of this test suit {name}"));
            assert_same(Arc::new(WindowAggExec::try_new(vec![call], input(), false).unwrap()), name);
        }
    }
}
