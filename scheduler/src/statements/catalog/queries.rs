//! Table functions of connectors: `postgres_query('shop', 'SELECT …')` gives the rows of a query that the other system runs.
//!
//! Which columns a query has is asked before the statement is planned, because the planner does not wait. Then the functions are there for this statement
//! alone, and know the answers.

use super::record::Connected;
use super::{Catalog, SessionCatalogs};
use crate::errors::{QueryError, with_suggestion};
use crate::nearest::nearest;
use crate::statements::parse::walk::look_at;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_datafusion_err};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, ObjectName, TableFactor, Value, Visitor};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use windlass_engine::connector::{ConnectedTable, Connector, Registry, TableRequest, Target};

/// The ending of the functions' names, behind the connector's in lower case.
const ENDING: &str = "_query";
/// How long the other system has to say which columns a query has.
const PATIENCE: Duration = Duration::from_secs(20);

/// A call of such a function in a statement.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    /// As it is written: the planner looks for it by that name.
    function: String,
    /// A catalog of the connector, or a location.
    place: String,
    query: String,
}

/// Whether a name that a statement refers to may be that of such a function.
pub(super) fn may_be_query(table: &str) -> bool {
    table.to_lowercase().ends_with(ENDING)
}

/// The connector whose queries a function runs.
fn connector<'a>(registry: &'a Registry, function: &str) -> Option<(&'a Arc<dyn Connector>, &'static str)> {
    let connector = registry.get(function.to_lowercase().strip_suffix(ENDING)?)?;
    Some((connector, connector.query_option()?))
}

/// Returns the state with which `statement` is planned: with the functions that it calls.
pub(crate) async fn within<'a>(
    state: &'a SessionState,
    statement: &Statement,
) -> Result<Cow<'a, SessionState>, DataFusionError> {
    let registry = Registry::of(state.config());
    let mut calls = Calls { registry: &registry, found: BTreeSet::new() };
    if let Some(error) = look_at(statement, &mut calls) {
        return Err(external(error));
    }
    let Calls { found, .. } = calls;
    let Some(catalogs) = state.catalog_list().downcast_ref::<SessionCatalogs>().filter(|_| !found.is_empty()) else {
        return Ok(Cow::Borrowed(state));
    };
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    for call in found {
        let table = catalogs.cluster().query(&call).await.map_err(external)?;
        known.entry(call.function).or_default().0.insert((call.place, call.query), Arc::new(table));
    }
    let mut state = state.clone();
    known.into_iter().for_each(|(function, known)| state.register_udtf(&function, Arc::new(known)));
    Ok(Cow::Owned(state))
}

/// Wraps our error, with its kind, in the planner's error type.
fn external(error: QueryError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

struct Calls<'a> {
    registry: &'a Registry,
    found: BTreeSet<Call>,
}

impl Calls<'_> {
    fn note(&mut self, name: &ObjectName, args: &[FunctionArg]) -> ControlFlow<QueryError> {
        let [part] = name.0.as_slice() else { return ControlFlow::Continue(()) };
        let function = part.as_ident().map(|ident| ident.value.clone()).unwrap_or_default();
        if connector(self.registry, &function).is_none() {
            return ControlFlow::Continue(());
        }
        let text = |arg: &FunctionArg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Value(value))) => match &value.value {
                Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => Some(text.clone()),
                Value::DollarQuotedString(text) => Some(text.value.clone()),
                _ => None,
            },
            _ => None,
        };
        match args {
            [place, query] if text(place).is_some() && text(query).is_some() => {
                let (place, query) = (text(place).unwrap_or_default(), text(query).unwrap_or_default());
                self.found.insert(Call { function, place, query });
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(QueryError::Invalid(format!(
                "{function}() has two literal texts as its arguments: the name of a catalog, or a location, and a query, as in {function}('shop', \
                 'SELECT …')"
            ))),
        }
    }
}

impl Visitor for Calls<'_> {
    type Break = QueryError;

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<QueryError> {
        match factor {
            TableFactor::Table { name, args: Some(args), .. } => self.note(name, &args.args),
            TableFactor::Function { name, args, .. } => self.note(name, args),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// A function, with the tables that its calls in one statement are, by their arguments.
#[derive(Debug, Default)]
struct Known(BTreeMap<(String, String), Arc<ConnectedTable>>);

impl TableFunctionImpl for Known {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let text = |expr: &Expr| match expr {
            Expr::Literal(ScalarValue::Utf8(text) | ScalarValue::Utf8View(text) | ScalarValue::LargeUtf8(text), _) => {
                text.clone()
            }
            _ => None,
        };
        let known = match args.exprs() {
            [place, query] => text(place).zip(text(query)).and_then(|key| self.0.get(&key)),
            _ => None,
        };
        let known = known.ok_or_else(|| plan_datafusion_err!("the query of another system is to be a literal text"))?;
        Ok(Arc::clone(known) as Arc<dyn TableProvider>)
    }
}

impl Catalog {
    /// Returns the rows of a query as a table.
    async fn query(&self, call: &Call) -> std::result::Result<ConnectedTable, QueryError> {
        let Call { function, place, query } = call;
        let (connector, option) = connector(self.connectors(), function)
            .ok_or_else(|| QueryError::NotFound(format!("table function '{function}' not found")))?;
        let snapshot = self.snapshot();
        let of_catalog = |name: &str| {
            let foreign = snapshot.foreign(name)?;
            (foreign.record.source.connector == connector.name()).then_some(&foreign.record)
        };
        let (id, location, mut options) = match of_catalog(place) {
            Some(record) => {
                let Connected { location, options, .. } = &record.source;
                self.require_opened_source(&record.id, &record.source)?;
                (record.id.as_str(), location.clone(), options.clone())
            }
            None if place.contains("://") => ("", place.clone(), BTreeMap::new()),
            None => {
                let known = snapshot.foreign_catalogs().map(|foreign| foreign.name.as_str());
                let message = format!(
                    "{function}(): there is no catalog '{place}' of {}: name one, or a location with '://'",
                    connector.name()
                );
                return Err(QueryError::NotFound(with_suggestion(message, nearest(place, known))));
            }
        };
        options.insert(option.to_string(), query.clone());
        let id = format!("{id}/query/{}", blake3::hash(format!("{location}\n{query}").as_bytes()).to_hex());
        let lent = self.lent(&options)?;
        let spec = Arc::new(self.connectors().spec(connector.name(), id, location, options, lent)?);
        let request = TableRequest { table: Arc::clone(&spec), columns: None, target: Target::Present };
        let table = match tokio::time::timeout(PATIENCE, connector.table(request)).await {
            Ok(table) => {
                table.map_err(|error| QueryError::Invalid(format!("{function}(): {}", QueryError::from(error))))?
            }
            Err(_) => {
                return Err(QueryError::Invalid(format!(
                    "{function}(): {} did not say within {} s which columns the query has",
                    spec.location,
                    PATIENCE.as_secs()
                )));
            }
        };
        Ok(ConnectedTable::new(spec, table).changing())
    }
}
