//! Refuses by name the words that the parser accepts and the planner ignores, so that users do not rely on them.
//!
//! DataFusion's planner reads some fields of the syntax tree and ignores others: `for update` locks nothing, `lower(x) over ()` is
//! `lower(x)`, and a primary key accepts duplicate keys. Forms that [`super::dialect`] rewrites have a meaning, and are not refused
//! here.

use super::walk::look_at;
use crate::errors::QueryError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, ColumnDef, ColumnOption, ConstraintCharacteristics, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentClause, FunctionArguments, HiveDistributionStyle, JoinOperator, NullTreatment,
    ObjectName, ObjectType, Query, SchemaName, Select, SelectFlavor, TableConstraint, TableFactor, Visitor,
};
use std::ops::ControlFlow;

/// Aggregates and window functions that distinguish IGNORE NULLS from RESPECT NULLS.
const MIND_NULLS: [&str; 6] = ["first_value", "last_value", "nth_value", "lead", "lag", "array_agg"];

type Found = ControlFlow<QueryError>;

/// Refuses `statement` if the planner would ignore a part of it.
pub(super) fn refuse(state: &SessionState, statement: &Statement) -> Result<(), QueryError> {
    let mut words = Words { state };
    let found = match statement {
        Statement::Explain(explain) => return refuse(state, &explain.statement),
        Statement::CreateExternalTable(create) => of_table(&create.columns, &create.constraints).break_value(),
        statement => look_at(statement, &mut words),
    };
    found.map_or(Ok(()), Err)
}

struct Words<'a> {
    state: &'a SessionState,
}

impl Visitor for Words<'_> {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &Query) -> Found {
        let with_fill = query.order_by.iter().any(|order| match &order.kind {
            ast::OrderByKind::Expressions(keys) => keys.iter().any(|key| key.with_fill.is_some()),
            ast::OrderByKind::All(_) => false,
        });
        refuse_all(&[
            (
                !query.locks.is_empty(),
                "FOR UPDATE and FOR SHARE",
                "a statement reads what was committed when it began, and locks nothing",
            ),
            (query.for_clause.is_some(), "FOR XML and FOR JSON", "rows are rows: use a format of COPY"),
            (query.settings.is_some(), "SETTINGS", "use SET before the statement"),
            (query.format_clause.is_some(), "FORMAT", "rows are rows: use a format of COPY"),
            (with_fill, "WITH FILL", "join with generate_series"),
        ])
    }

    fn pre_visit_select(&mut self, select: &Select) -> Found {
        let joins = || select.from.iter().flat_map(|from| &from.joins).map(|join| &join.join_operator);
        refuse_all(&[
            (select.prewhere.is_some(), "PREWHERE", "use WHERE"),
            (select.top.is_some(), "this TOP", "use LIMIT"),
            (!select.lateral_views.is_empty(), "LATERAL VIEW", "use CROSS JOIN unnest(array) AS t(x)"),
            (
                joins().any(|join| matches!(join, JoinOperator::CrossApply | JoinOperator::OuterApply)),
                "APPLY",
                "use CROSS JOIN LATERAL or LEFT JOIN LATERAL",
            ),
            (
                joins().any(|join| matches!(join, JoinOperator::AsOf { .. })),
                "ASOF JOIN",
                "join with the condition, and take the nearest row by row_number()",
            ),
            (!select.connect_by.is_empty(), "CONNECT BY", "use WITH RECURSIVE"),
            (select.value_table_mode.is_some(), "SELECT AS STRUCT and AS VALUE", "use struct()"),
            (select.exclude.is_some(), "EXCLUDE after the columns", "write it after the star: * EXCLUDE (…)"),
            (
                select.select_modifiers.as_ref().is_some_and(|modifiers| modifiers.sql_calc_found_rows),
                "SQL_CALC_FOUND_ROWS",
                "use count(*)",
            ),
            // The dialect adds a select list.
            (select.flavor == SelectFlavor::FromFirstNoSelect, "FROM without SELECT", "write SELECT *"),
        ])
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Found {
        match factor {
            TableFactor::Table {
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
                ..
            } => {
                let settings = args.as_ref().is_some_and(|args| args.settings.is_some());
                refuse_all(&[
                    (sample.is_some(), "this TABLESAMPLE", "sample a table by BERNOULLI (percent) or SYSTEM (percent)"),
                    (version.is_some(), "a version or time of a table", "tables are read as they are"),
                    (*with_ordinality, "WITH ORDINALITY", "use row_number()"),
                    (!partitions.is_empty(), "PARTITION of a table", "filter by the partition's column"),
                    (!with_hints.is_empty() || !index_hints.is_empty(), "a hint at a table", "leave it out"),
                    (json_path.is_some(), "a path into a table", "use functions of JSON"),
                    (settings, "SETTINGS of a table function", "leave them out"),
                ])?;
                of_alias(alias.as_ref())
            }
            TableFactor::Derived { sample, alias, .. } => {
                refuse_all(&[(
                    sample.is_some(),
                    "this TABLESAMPLE",
                    "sample by BERNOULLI (percent) or SYSTEM (percent)",
                )])?;
                of_alias(alias.as_ref())
            }
            TableFactor::Pivot { .. } => refuse_all(&[(
                true,
                "PIVOT",
                "write an aggregate for each column, as in sum(x) FILTER (WHERE kind = 'a') AS a",
            )]),
            TableFactor::Unpivot { .. } => {
                refuse_all(&[(true, "UNPIVOT", "write a SELECT for each column, and UNION ALL between them")])
            }
            TableFactor::MatchRecognize { .. } => {
                refuse_all(&[(true, "MATCH_RECOGNIZE", "compare rows by lag() and lead()")])
            }
            TableFactor::Function { with_ordinality, args, alias, .. } => {
                let named = args.iter().any(|arg| !matches!(arg, FunctionArg::Unnamed(_)));
                refuse_all(&[
                    (*with_ordinality, "WITH ORDINALITY", "use row_number()"),
                    (named, "a named argument of a table function", "give arguments by their position"),
                ])?;
                of_alias(alias.as_ref())
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Found {
        match expr {
            Expr::Function(function) => self.of_function(function),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_statement(&mut self, statement: &ast::Statement) -> Found {
        match statement {
            ast::Statement::CreateTable(create) => {
                of_table(&create.columns, &create.constraints)?;
                let has_format = create.hive_formats.as_ref().is_some_and(|of| {
                    of.storage.is_some()
                        || of.row_format.is_some()
                        || of.serde_properties.is_some()
                        || of.location.is_some()
                });
                refuse_all(&[
                    (
                        has_format,
                        "STORED AS, LOCATION or ROW FORMAT of a table of its own",
                        "use CREATE EXTERNAL TABLE, and COPY … TO … STORED AS to write files",
                    ),
                    (
                        create.hive_distribution != HiveDistributionStyle::NONE,
                        "PARTITIONED BY of a table of its own",
                        "use CREATE EXTERNAL TABLE … STORED AS … LOCATION … PARTITIONED BY",
                    ),
                ])
            }
            ast::Statement::CreateView(create) => refuse_all(&[
                (create.or_alter, "OR ALTER", "use CREATE OR REPLACE VIEW"),
                (create.secure, "SECURE", "leave it out"),
                (create.params.is_some(), "ALGORITHM, DEFINER and SQL SECURITY of a view", "leave them out"),
                (
                    create.columns.iter().any(|column| column.data_type.is_some()),
                    "a type of a view's column",
                    "cast it in the view's query",
                ),
            ]),
            ast::Statement::CreateSchema { schema_name, with, options, default_collate_spec, clone, .. } => {
                refuse_all(&[
                    (!matches!(schema_name, SchemaName::Simple(_)), "AUTHORIZATION", "leave it out"),
                    (with.is_some() || options.is_some(), "options of a schema", "leave them out"),
                    (default_collate_spec.is_some(), "COLLATE", "leave it out"),
                    (clone.is_some(), "CLONE", "create the tables of the new schema one by one"),
                ])
            }
            ast::Statement::CreateDatabase { location, managed_location, or_replace, transient, clone, .. } => {
                refuse_all(&[
                    (*or_replace, "OR REPLACE of a database", "leave it out"),
                    (location.is_some() || managed_location.is_some(), "LOCATION of a database", "leave it out"),
                    (*transient, "TRANSIENT", "leave it out"),
                    (clone.is_some(), "CLONE", "leave it out"),
                ])
            }
            ast::Statement::Drop { object_type, cascade, purge, temporary, .. } => refuse_all(&[
                (
                    *cascade && *object_type != ObjectType::Schema,
                    "CASCADE of a table or view",
                    "drop the views that read it by their names",
                ),
                (*purge, "PURGE", "leave it out: files go when no statement reads them any more"),
                (*temporary, "DROP TEMPORARY", "a session's temporary table comes before others: use DROP TABLE"),
            ]),
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Words<'_> {
    fn of_function(&self, function: &Function) -> Found {
        let name = name_of(&function.name);
        if let FunctionArguments::List(list) = &function.args {
            let is_star = |arg: &FunctionArgExpr| matches!(arg, FunctionArgExpr::Wildcard);
            let is_row = |arg: &FunctionArgExpr| matches!(arg, FunctionArgExpr::QualifiedWildcard(_));
            let any = |is: &dyn Fn(&FunctionArgExpr) -> bool| {
                list.args.iter().any(|arg| matches!(arg, FunctionArg::Unnamed(arg) if is(arg)))
            };
            let is_distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
            refuse_all(&[
                (
                    any(&is_row),
                    &format!("a row as the argument of {name}()"),
                    "count rows with count(*), those of one side of an outer join with a column that is never NULL, and distinct ones in a subquery",
                ),
                (
                    any(&is_star) && is_distinct,
                    &format!("{name}(DISTINCT *)"),
                    "count the rows of a subquery: SELECT count(*) FROM (SELECT DISTINCT * FROM …)",
                ),
            ])?;
        }
        let (distinct, clauses) = match &function.args {
            FunctionArguments::List(list) => (list.duplicate_treatment.is_some(), list.clauses.as_slice()),
            _ => (false, [].as_slice()),
        };
        refuse_all(&[(
            !matches!(function.parameters, FunctionArguments::None),
            &format!("a second list of arguments of {name}()"),
            "give one",
        )])?;
        let in_clauses = clauses.iter().find_map(|clause| match clause {
            FunctionArgumentClause::IgnoreOrRespectNulls(nulls) => Some(*nulls),
            _ => None,
        });
        let nulls = function.null_treatment.or(in_clauses);
        let is_scalar = self.state.udf(&name).is_ok() || self.state.higher_order_function(&name).is_ok();
        if is_scalar {
            let why = format!("{name}() is a function of one row, and neither an aggregate nor a window function");
            return refuse_all(&[
                (function.over.is_some(), &format!("OVER after {name}()"), &why),
                (function.filter.is_some(), &format!("FILTER after {name}()"), &why),
                (distinct, &format!("DISTINCT and ALL in {name}()"), &why),
                (!function.within_group.is_empty(), &format!("WITHIN GROUP after {name}()"), &why),
                (
                    nulls.is_some() || !clauses.is_empty(),
                    &format!("ORDER BY, IGNORE NULLS and the like in {name}()"),
                    &why,
                ),
            ]);
        }
        let respected = nulls == Some(NullTreatment::RespectNulls) && !MIND_NULLS.contains(&name.as_str());
        refuse_all(&[(
            respected && function.over.is_none(),
            &format!("RESPECT NULLS of {name}()"),
            "it does not look at NULLs",
        )])
    }
}

fn name_of(name: &ObjectName) -> String {
    match name.0.as_slice() {
        [one] => one.as_ident().map_or_else(String::new, |ident| match ident.quote_style {
            None => ident.value.to_lowercase(),
            Some(_) => ident.value.clone(),
        }),
        _ => name.to_string(),
    }
}

fn of_alias(alias: Option<&ast::TableAlias>) -> Found {
    let Some(alias) = alias else { return ControlFlow::Continue(()) };
    refuse_all(&[
        (
            alias.columns.iter().any(|column| column.data_type.is_some()),
            "a type in an alias of a table",
            "cast the column",
        ),
        (alias.at.is_some(), "AT in an alias of a table", "use row_number()"),
    ])
}

fn of_table(columns: &[ColumnDef], constraints: &[TableConstraint]) -> Found {
    for constraint in constraints {
        match constraint {
            TableConstraint::PrimaryKey(key) => of_key("PRIMARY KEY", key.characteristics.as_ref())?,
            TableConstraint::Unique(key) => of_key("UNIQUE", key.characteristics.as_ref())?,
            // The planner refuses the others by name.
            _ => {}
        }
    }
    for (column, option) in columns.iter().flat_map(|column| column.options.iter().map(move |option| (column, option)))
    {
        let name = match &option.option {
            ColumnOption::PrimaryKey(key) => {
                of_key("PRIMARY KEY", key.characteristics.as_ref())?;
                continue;
            }
            ColumnOption::Unique(key) => {
                of_key("UNIQUE", key.characteristics.as_ref())?;
                continue;
            }
            // The option takes effect, or the planner refuses it.
            ColumnOption::Null
            | ColumnOption::NotNull
            | ColumnOption::Default(_)
            | ColumnOption::ForeignKey(_)
            | ColumnOption::Check(_) => continue,
            other => other.to_string(),
        };
        refuse_all(&[(true, &format!("'{name}' of column '{}'", column.name.value), "leave it out")])?;
    }
    ControlFlow::Continue(())
}

/// Refuses a key, unless it is declared as not enforced. The optimizer relies on declared keys.
fn of_key(what: &str, characteristics: Option<&ConstraintCharacteristics>) -> Found {
    let declared = characteristics.is_some_and(|characteristics| characteristics.enforced == Some(false));
    refuse_all(&[(
        !declared,
        what,
        "keys are not checked when rows are written. Leave it out, or write NOT ENFORCED behind it if you see to it yourself: plans \
         then rely on it",
    )])
}

fn refuse_all(words: &[(bool, &str, &str)]) -> Found {
    match words.iter().find(|(is_there, _, _)| *is_there) {
        Some((_, what, instead)) => {
            ControlFlow::Break(QueryError::Unsupported(format!("{what} is not supported: {instead}")))
        }
        None => ControlFlow::Continue(()),
    }
}
