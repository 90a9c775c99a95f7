//! Parameters of statements: `?` by position, `$1` by number, `$name` by name.

use super::parse::walk::everywhere;
use crate::errors::QueryError;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{ParamValues, Result, ScalarValue, plan_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, Values};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Expr as SqlExpr, Value, VisitorMut};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use windlass_engine::cast_value;

/// The names of a statement's parameters without the `$`, in the order in which values are bound to them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParameterNames(Vec<String>);

/// Values for one execution.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameters {
    Positional(Vec<ScalarValue>),
    /// By name, without the `$`.
    Named(BTreeMap<String, ScalarValue>),
}

impl ParameterNames {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn require_none(&self) -> Result<(), QueryError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = self.0.iter().map(|name| format!("${name}")).collect();
        Err(QueryError::Invalid(format!(
            "the statement has parameters ({}), and no values were given",
            names.join(", ")
        )))
    }

    /// Returns the parameters' fields for the client. A parameter whose type the planner could not infer is text.
    pub(super) fn fields(&self, types: &HashMap<String, Option<DataType>>) -> Vec<Field> {
        let inferred = |name: &String| types.get(&format!("${name}")).cloned().flatten();
        self.0.iter().map(|name| Field::new(name, inferred(name).unwrap_or(DataType::Utf8), true)).collect()
    }

    fn are_numbers(&self) -> bool {
        self.0.iter().all(|name| name.parse::<usize>().is_ok())
    }
}

impl Parameters {
    /// Returns one set of values for each row of `batch`. Columns match parameters by name if both have the same names, and by position
    /// otherwise.
    pub fn rows(batch: &RecordBatch, names: &ParameterNames) -> Result<Vec<Parameters>, QueryError> {
        let schema = batch.schema();
        let by_name = !names.are_numbers() && names.0.iter().all(|name| schema.column_with_name(name).is_some());
        let row = |row: usize| -> Result<Parameters> {
            let values = batch.columns().iter().map(|column| ScalarValue::try_from_array(column, row));
            let values = values.collect::<Result<Vec<_>>>()?;
            if by_name {
                let columns = schema.fields().iter().map(|field| field.name().clone());
                return Ok(Parameters::Named(columns.zip(values).collect()));
            }
            Ok(Parameters::Positional(values))
        };
        Ok((0..batch.num_rows()).map(row).collect::<Result<_>>()?)
    }

    /// Replaces the plan's parameters by values, in a session with this time zone.
    pub(super) fn bind(&self, plan: LogicalPlan, names: &ParameterNames, zone: Option<&str>) -> Result<LogicalPlan> {
        if names.is_empty() {
            return Ok(plan);
        }
        let wanted = Wanted { types: types_of(&plan)?, writes: matches!(plan, LogicalPlan::Dml(_)), zone };
        plan.with_param_values(self.values(names, &wanted)?)
    }

    fn values(&self, names: &ParameterNames, wanted: &Wanted<'_>) -> Result<ParamValues> {
        let values: Vec<&ScalarValue> = match self {
            Parameters::Positional(values) if values.len() != names.0.len() => {
                return plan_err!(
                    "the statement has {} parameters, and {} values were given",
                    names.0.len(),
                    values.len()
                );
            }
            Parameters::Positional(values) => values.iter().collect(),
            Parameters::Named(values) => {
                let value = |name: &String| match values.get(name) {
                    Some(value) => Ok(value),
                    None => plan_err!("no value was given for the parameter ${name}"),
                };
                names.0.iter().map(value).collect::<Result<_>>()?
            }
        };
        let values = names.0.iter().zip(values).map(|(name, value)| Ok((name.clone(), wanted.of_type(name, value)?)));
        // Numbers may have gaps where values have names.
        Ok(match names.are_numbers() && matches!(self, Parameters::Positional(_)) {
            true => ParamValues::from(values.map(|value| Ok(value?.1)).collect::<Result<Vec<_>>>()?),
            false => ParamValues::from(values.collect::<Result<HashMap<_, _>>>()?),
        })
    }
}

/// The types that a statement expects for its parameters.
struct Wanted<'a> {
    types: HashMap<String, Option<DataType>>,
    /// Whether values go into columns. Then a value of another type is converted like a literal.
    writes: bool,
    zone: Option<&'a str>,
}

impl Wanted<'_> {
    /// Converts the value to the type that the statement expects, if that does not change it: 1.5 beside an integer stays 1.5. So does 2.0, for
    /// which 7 / 2.0 is 3.5.
    fn of_type(&self, name: &str, value: &ScalarValue) -> Result<ScalarValue> {
        let Some(Some(wanted)) = self.types.get(&format!("${name}")) else { return Ok(value.clone()) };
        if value.is_null() {
            return ScalarValue::try_from(wanted);
        }
        let of = value.data_type();
        if of == *wanted {
            return Ok(value.clone());
        }
        refuse_foreign(name, &of, wanted)?;
        if !self.writes && (of.is_floating() || of.is_decimal()) && wanted.is_integer() {
            return Ok(value.clone());
        }
        match cast_value(value, wanted, self.zone) {
            Err(error) if self.writes => plan_err!(
                "the value {value} of the parameter ${name} is of type {of}, and no {wanted}: {}",
                error.strip_backtrace()
            ),
            Ok(cast) if self.writes || cast_value(&cast, &of, self.zone).is_ok_and(|back| back == *value) => Ok(cast),
            _ => Ok(value.clone()),
        }
    }
}

/// Refuses a number for a date, time or boolean, and the reverse. A cast would reinterpret the bits.
fn refuse_foreign(name: &str, of: &DataType, wanted: &DataType) -> Result<()> {
    let is_other = |of: &DataType| of.is_temporal() || *of == DataType::Boolean;
    if of.is_numeric() && is_other(wanted) || is_other(of) && wanted.is_numeric() {
        return plan_err!("the parameter ${name} is of type {wanted} but its value is of type {of}: write a CAST");
    }
    Ok(())
}

/// Returns the types of a plan's parameters by their names with the `$`, where their positions determine them.
pub(super) fn types_of(plan: &LogicalPlan) -> Result<HashMap<String, Option<DataType>>> {
    let mut types = plan.get_parameter_types()?;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Limit(limit) = node {
            for rows in [&limit.skip, &limit.fetch].into_iter().flatten() {
                if let Expr::Placeholder(placeholder) = rows.as_ref() {
                    types.insert(placeholder.id.clone(), Some(DataType::Int64));
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(types)
}

/// Renames each `?` to `$1`, `$2`, … in the order of the text. Returns the parameters.
pub(super) fn number_placeholders(statement: &mut Statement) -> Result<ParameterNames, QueryError> {
    let mut found = Vec::new();
    visit_placeholders(statement, &mut |name, line, column| found.push((line, column, name.clone())));
    found.sort();
    let marks = found.iter().filter(|(_, _, name)| name == "?").count();
    if marks == 0 {
        let mut names: Vec<String> = Vec::new();
        for (_, _, name) in found {
            let name = name.trim_start_matches(['$', ':', '@']).to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if names.iter().all(|name| name.parse::<usize>().is_ok()) {
            names.sort_by_key(|name| name.parse::<usize>().unwrap_or_default());
        }
        return Ok(ParameterNames(names));
    }
    if marks < found.len() {
        return Err(QueryError::Invalid("the statement mixes '?' and '$' parameters: use one kind".to_string()));
    }
    let numbers: BTreeMap<(u64, u64), usize> =
        found.iter().enumerate().map(|(index, (line, column, _))| ((*line, *column), index + 1)).collect();
    visit_placeholders(statement, &mut |name, line, column| {
        if let Some(number) = numbers.get(&(line, column)) {
            *name = format!("${number}");
        }
    });
    Ok(ParameterNames((1..=marks).map(|number| number.to_string()).collect()))
}

fn visit_placeholders(statement: &mut Statement, visit: &mut impl FnMut(&mut String, u64, u64)) {
    struct Placeholders<F>(F);
    impl<F: FnMut(&mut String, u64, u64)> VisitorMut for Placeholders<F> {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<()> {
            if let SqlExpr::Value(value) = expr {
                let start = value.span.start;
                if let Value::Placeholder(name) = &mut value.value {
                    (self.0)(name, start.line, start.column);
                }
            }
            ControlFlow::Continue(())
        }
    }
    // No visit breaks off.
    let _: Option<()> = everywhere(statement, &mut Placeholders(visit));
}

/// Returns one statement that runs `INSERT INTO t VALUES ($1, $2)` over all rows in one job, instead of one for each row. `None`: the
/// statement is of another kind.
pub(super) fn all_rows(
    plan: &LogicalPlan,
    names: &ParameterNames,
    rows: &[Parameters],
    zone: Option<&str>,
) -> Result<Option<LogicalPlan>, QueryError> {
    let LogicalPlan::Dml(dml) = plan else { return Ok(None) };
    let Some(template) = only_values(&dml.input) else { return Ok(None) };
    let wanted = Wanted { types: types_of(plan)?, writes: true, zone };
    let mut all = Vec::with_capacity(rows.len() * template.values.len());
    for row in rows {
        let values = row.values(names, &wanted)?;
        for exprs in &template.values {
            let bound = exprs.iter().map(|expr| substitute(expr.clone(), &values)).collect::<Result<Vec<_>>>()?;
            all.push(bound);
        }
    }
    let filled = LogicalPlan::Values(Values { schema: Arc::clone(&template.schema), values: all });
    let input = Arc::unwrap_or_clone(Arc::clone(&dml.input)).transform_up(|node| {
        Ok(match node {
            LogicalPlan::Values(_) => Transformed::yes(filled.clone()),
            node => Transformed::no(node),
        })
    })?;
    let (table, target) = (dml.table_name.clone(), Arc::clone(&dml.target));
    Ok(Some(LogicalPlan::Dml(DmlStatement::new(table, target, dml.op.clone(), Arc::new(input.data)))))
}

/// Returns the literal rows that `plan` only projects, if all its parameters are in them.
fn only_values(plan: &LogicalPlan) -> Option<&Values> {
    match plan {
        LogicalPlan::Values(values) => Some(values),
        LogicalPlan::Projection(projection) => {
            let has_parameter = |expr: &Expr| expr.exists(|e| Ok(matches!(e, Expr::Placeholder(_)))).unwrap_or(true);
            if projection.expr.iter().any(has_parameter) { None } else { only_values(&projection.input) }
        }
        LogicalPlan::SubqueryAlias(alias) => only_values(&alias.input),
        _ => None,
    }
}

fn substitute(expr: Expr, values: &ParamValues) -> Result<Expr> {
    let replaced = expr.transform_up(|expr| match expr {
        Expr::Placeholder(Placeholder { id, field }) => {
            let value = values.get_placeholders_with_values(&id)?.value;
            let value = match field {
                Some(field) if !value.is_null() => value.cast_to(field.data_type())?,
                Some(field) => ScalarValue::try_from(field.data_type())?,
                None => value,
            };
            Ok(Transformed::yes(Expr::Literal(value, None)))
        }
        expr => Ok(Transformed::no(expr)),
    })?;
    Ok(replaced.data)
}

/// Whether PREPARE declares the types of the parameters.
pub(super) fn are_declared(prepare: &Statement) -> bool {
    let Statement::Statement(statement) = prepare else { return false };
    matches!(statement.as_ref(), ast::Statement::Prepare { data_types, .. } if !data_types.is_empty())
}

/// Returns the plan of a prepared statement with the arguments of EXECUTE. `declared`: PREPARE declared the parameters' types.
/// Otherwise their positions determine them.
pub(super) fn bind_execute(
    state: &SessionState,
    plan: LogicalPlan,
    fields: &[FieldRef],
    declared: bool,
    arguments: Vec<Expr>,
) -> Result<LogicalPlan> {
    // There are no fields if types are neither declared nor determined by the statement.
    let wanted = fields.len().max(plan.get_parameter_names()?.len());
    if arguments.len() != wanted {
        return plan_err!("the prepared statement has {wanted} parameters, and EXECUTE gives {}", arguments.len());
    }
    let context = SimplifyContext::builder().with_config_options(Arc::clone(state.config_options())).build();
    let simplifier = ExprSimplifier::new(context);
    let empty = datafusion::common::DFSchema::empty();
    let zone = state.config_options().execution.time_zone.as_deref();
    let writes = matches!(plan, LogicalPlan::Dml(_));
    let places = Wanted { types: types_of(&plan)?, writes, zone };
    let mut values = Vec::new();
    for (at, argument) in arguments.into_iter().enumerate() {
        let simplified = simplifier.simplify(simplifier.coerce(argument, &empty)?)?;
        let Expr::Literal(value, _) = simplified else {
            return plan_err!("EXECUTE takes literal values, not '{simplified}'");
        };
        values.push(match fields.get(at) {
            Some(field) if declared => {
                refuse_foreign(&(at + 1).to_string(), &value.data_type(), field.data_type())?;
                cast_value(&value, field.data_type(), zone).map_err(|e| e.context("casting an argument"))?
            }
            _ => places.of_type(&(at + 1).to_string(), &value)?,
        });
    }
    if values.is_empty() {
        return Ok(plan);
    }
    plan.with_param_values(ParamValues::from(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::parser::DFParser;

    fn numbered(sql: &str) -> Result<(String, Vec<String>), QueryError> {
        let mut statement = DFParser::parse_sql(sql).unwrap().pop_front().unwrap();
        let names = number_placeholders(&mut statement)?;
        Ok((statement.to_string(), names.0))
    }

    #[test]
    fn question_marks_are_numbered_in_the_order_of_the_text() {
        let (sql, names) =
            numbered("select ? as a, case when x > ? then ? end from t where y in (?, ?) limit ?").unwrap();
        assert_eq!(sql, "SELECT $1 AS a, CASE WHEN x > $2 THEN $3 END FROM t WHERE y IN ($4, $5) LIMIT $6");
        assert_eq!(names, ["1", "2", "3", "4", "5", "6"]);
        assert_eq!(numbered("explain select ? + ?").unwrap().1.len(), 2);
    }

    #[test]
    fn named_and_numbered_parameters_keep_their_names() {
        assert_eq!(numbered("select $to, $from, $to").unwrap().1, ["to", "from"]);
        assert_eq!(numbered("select $2, $1, $2").unwrap().1, ["1", "2"]);
        assert!(numbered("select ?, $1").is_err());
        assert!(numbered("select 1").unwrap().1.is_empty());
    }
}
