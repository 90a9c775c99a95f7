//! Text functions as in PostgreSQL, built on DataFusion's.
//!
//! | function | result |
//! | --- | --- |
//! | `text ~ '.*'` | NULL for NULL ([`Patterns`]) |
//! | `windlass_like_pattern(pattern, escape)` | a pattern of LIKE with a backslash for its escape |
//! | `windlass_similar_pattern(pattern, escape)` | a pattern of SIMILAR TO as a regular expression |
//! | `regexp_replace` | in the replacement `\1` and `\&` are the matches, and `$` is a dollar sign |

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::functions::regex;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Documentation, Expr, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit, when,
};
use datafusion::optimizer::AnalyzerRule;
use std::iter::Peekable;
use std::str::Chars;
use std::sync::Arc;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(LikePattern { signature: Signature::any(2, Volatility::Immutable) }.into()),
        Arc::new(SimilarPattern { signature: Signature::variadic_any(Volatility::Immutable) }.into()),
        Arc::new(Replace(regex::regexp_replace()).into()),
    ]
}

/// Keeps DataFusion from taking `text ~ '.*'` for `text IS NOT NULL`, which is false for NULL.
#[derive(Debug)]
pub(super) struct Patterns;

impl AnalyzerRule for Patterns {
    fn name(&self) -> &str {
        "patterns"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| {
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                if !expr.exists(|expr| Ok(matched(expr).is_some()))? {
                    return Ok(Transformed::no(expr));
                }
                let name = names.save(&expr);
                let expr = expr.transform_up(matching)?;
                Ok(expr.update_data(|expr| name.restore(expr)))
            })
        })
        .data()
    }
}

/// The text and the constant pattern that it is matched against.
fn matched(expr: &Expr) -> Option<(&Expr, &Expr)> {
    use Operator::{RegexIMatch, RegexMatch, RegexNotIMatch, RegexNotMatch};
    let (text, pattern) = match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: RegexMatch | RegexIMatch | RegexNotMatch | RegexNotIMatch, right }) => {
            (left.as_ref(), right.as_ref())
        }
        Expr::ScalarFunction(call) if call.func.name() == "regexp_like" => (call.args.first()?, call.args.get(1)?),
        _ => return None,
    };
    let is_similar = matches!(pattern, Expr::ScalarFunction(call) if call.func.name() == SIMILAR_PATTERN);
    let is_constant = !pattern.any_column_refs() && !pattern.contains_outer() && !is_similar;
    is_constant.then_some((text, pattern))
}

fn matching(mut expr: Expr) -> Result<Transformed<Expr>> {
    let Some((text, pattern)) = matched(&expr) else { return Ok(Transformed::no(expr)) };
    let Expr::Literal(value, _) = pattern else {
        // The pattern may turn out to be `.*`.
        let is_null = text.clone().is_null();
        return Ok(Transformed::yes(when(is_null, lit(ScalarValue::Boolean(None))).otherwise(expr)?));
    };
    if value.try_as_str().flatten() != Some(".*") {
        return Ok(Transformed::no(expr));
    }
    // The empty pattern also matches everything.
    let all = lit(ScalarValue::from("").cast_to(&value.data_type())?);
    match &mut expr {
        Expr::BinaryExpr(binary) => *binary.right = all,
        Expr::ScalarFunction(call) => call.args[1] = all,
        _ => {}
    }
    Ok(Transformed::yes(expr))
}

/// The value after ESCAPE.
#[derive(Clone, Copy)]
enum Escape {
    /// NULL, for which the result is NULL.
    Unknown,
    /// The empty text: no character escapes.
    Nothing,
    By(char),
}

impl Escape {
    /// `word`: the condition that it belongs to.
    fn of(value: &ColumnarValue, word: &str) -> Result<Self> {
        let ColumnarValue::Scalar(value) = value else {
            return exec_err!("the escape of {word} is a constant");
        };
        if value.is_null() {
            return Ok(Self::Unknown);
        }
        let mut letters = value.try_as_str().flatten().unwrap_or_default().chars();
        match (letters.next(), letters.next(), value.data_type().is_string()) {
            (None, _, true) => Ok(Self::Nothing),
            (Some(letter), None, true) => Ok(Self::By(letter)),
            _ => exec_err!("the escape of {word} is one character or the empty text, and not {value}"),
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LikePattern {
    signature: Signature,
}

impl ScalarUDFImpl for LikePattern {
    fn name(&self) -> &str {
        "windlass_like_pattern"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [pattern, escape] = args.args.as_slice() else { return exec_err!("LIKE has a pattern and an escape") };
        match Escape::of(escape, "LIKE")? {
            Escape::Unknown => Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None))),
            Escape::Nothing => mapped(pattern, |pattern| with_backslashes(pattern, None)),
            Escape::By(letter) => mapped(pattern, |pattern| with_backslashes(pattern, Some(letter))),
        }
    }
}

/// Rewrites a pattern of LIKE, so that a backslash escapes instead of `escape`.
///
/// # Errors
/// Nothing follows the escape.
fn with_backslashes(pattern: &str, escape: Option<char>) -> Result<String> {
    let mut rewritten = String::with_capacity(pattern.len());
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        match letter {
            letter if Some(letter) == escape => match letters.next() {
                Some(escaped @ ('%' | '_' | '\\')) => rewritten.extend(['\\', escaped]),
                Some(escaped) => rewritten.push(escaped),
                None => {
                    return exec_err!(
                        "the pattern '{pattern}' ends with its escape '{letter}': write it twice if it stands for itself"
                    );
                }
            },
            '\\' => rewritten.push_str("\\\\"),
            letter => rewritten.push(letter),
        }
    }
    Ok(rewritten)
}

const SIMILAR_PATTERN: &str = "windlass_similar_pattern";

#[derive(Debug, PartialEq, Eq, Hash)]
struct SimilarPattern {
    signature: Signature,
}

impl ScalarUDFImpl for SimilarPattern {
    fn name(&self) -> &str {
        SIMILAR_PATTERN
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.get(1).map_or(Ok(Escape::By('\\')), |escape| Escape::of(escape, "SIMILAR TO"))? {
            Escape::Unknown => Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None))),
            Escape::Nothing => mapped(&args.args[0], |pattern| similar(pattern, None)),
            Escape::By(letter) => mapped(&args.args[0], |pattern| similar(pattern, Some(letter))),
        }
    }
}

/// `text` with `change` applied to each value.
fn mapped(text: &ColumnarValue, change: impl Fn(&str) -> Result<String>) -> Result<ColumnarValue> {
    let array = match text {
        ColumnarValue::Array(array) => Arc::clone(array),
        ColumnarValue::Scalar(scalar) => scalar.to_array()?,
    };
    let texts = cast(&array, &DataType::Utf8)?;
    let changed = texts.as_string::<i32>().iter().map(|text| text.map(&change).transpose());
    let changed: ArrayRef = Arc::new(changed.collect::<Result<StringArray>>()?);
    Ok(match text {
        ColumnarValue::Array(_) => ColumnarValue::Array(changed),
        ColumnarValue::Scalar(_) => ColumnarValue::Scalar(ScalarValue::try_from_array(&changed, 0)?),
    })
}

/// The regular expression for a pattern of the SQL standard, which must match the whole text.
///
/// # Errors
/// A set that does not end, or a class that PostgreSQL does not have.
fn similar(pattern: &str, escape: Option<char>) -> Result<String> {
    let mut expression = String::from("(?s)^(?:");
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        if Some(letter) == escape {
            expression.push_str(&regex_of(letters.next().unwrap_or(letter)));
            continue;
        }
        match letter {
            '[' => set(&mut letters, escape, pattern, &mut expression)?,
            '%' => expression.push_str(".*"),
            '_' => expression.push('.'),
            '(' => expression.push_str("(?:"),
            '.' | '^' | '$' | '\\' => expression.extend(['\\', letter]),
            letter => expression.push(letter),
        }
    }
    expression.push_str(")$");
    Ok(expression)
}

const CLASSES: [&str; 13] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
    "xdigit",
];

/// Reads the rest of a set of characters, after its bracket.
fn set(letters: &mut Peekable<Chars<'_>>, escape: Option<char>, pattern: &str, expression: &mut String) -> Result<()> {
    expression.push('[');
    if letters.next_if_eq(&'^').is_some() {
        expression.push('^');
    }
    if letters.next_if_eq(&']').is_some() {
        expression.push_str("\\]");
    }
    while let Some(letter) = letters.next() {
        if Some(letter) == escape {
            expression.push_str(&regex_of(letters.next().unwrap_or(letter)));
            continue;
        }
        match (letter, letters.peek().copied()) {
            (']', _) => {
                expression.push(']');
                return Ok(());
            }
            ('[', Some(kind @ (':' | '.' | '='))) => {
                letters.next();
                let name = named(letters, kind);
                match name.as_deref() {
                    Some(class) if kind == ':' && CLASSES.contains(&class) => {
                        expression.push_str(&format!("[:{class}:]"));
                    }
                    Some(one) if kind != ':' && one.chars().count() == 1 => expression.push_str(&regex_of_one(one)),
                    Some(other) => {
                        return exec_err!(
                            "the pattern '{pattern}' names [{kind}{other}{kind}], which is none of the classes {}",
                            CLASSES.join(", ")
                        );
                    }
                    None => break,
                }
            }
            // In PostgreSQL only ^, - and ] are special in sets.
            ('\\' | '[' | '&' | '~' | '^', _) => expression.extend(['\\', letter]),
            (letter, _) => expression.push(letter),
        }
    }
    exec_err!("the pattern '{pattern}' has a [ without its ]")
}

/// Reads the name of a class, with the `kind` and the bracket that end it.
fn named(letters: &mut Peekable<Chars<'_>>, kind: char) -> Option<String> {
    let mut name = String::new();
    while let Some(letter) = letters.next() {
        if letter == kind && letters.next_if_eq(&']').is_some() {
            return Some(name);
        }
        name.push(letter);
    }
    None
}

/// The regular expression of one character in a set.
fn regex_of_one(letter: &str) -> String {
    match letter {
        "^" | "-" | "]" | "[" | "\\" | "&" | "~" => format!("\\{letter}"),
        letter => letter.to_string(),
    }
}

fn regex_of(letter: char) -> String {
    ::regex::escape(letter.encode_utf8(&mut [0; 4]))
}

/// Converts PostgreSQL's replacement text to DataFusion's.
fn replacement(of: &str) -> String {
    let mut made = String::new();
    let mut letters = of.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, letters.peek().copied()) {
            ('$', _) => made.push_str("$$"),
            ('\\', Some('&')) => {
                letters.next();
                made.push_str("${0}");
            }
            ('\\', Some(digit @ '1'..='9')) => {
                letters.next();
                made.push_str(&format!("${{{digit}}}"));
            }
            ('\\', next) => {
                if next == Some('\\') {
                    letters.next();
                }
                // A group that no pattern has is empty, and keeps DataFusion from reading the digits after a backslash.
                made.push_str("\\${_}");
            }
            (letter, _) => made.push(letter),
        }
    }
    made
}

/// `regexp_replace` with a replacement as in PostgreSQL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Replace(Arc<ScalarUDF>);

impl ScalarUDFImpl for Replace {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.0.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.0.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.0.inner().return_field_from_args(args)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        Some(Self(Arc::new(self.0.inner().with_updated_config(config)?)).into())
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.0.simplify(args, info)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if let Some(text) = args.args.get(2) {
            let (read, wanted) = (mapped(text, |text| Ok(replacement(text)))?, text.data_type());
            args.args[2] = read.cast_to(&wanted, None)?;
        }
        // Any error is one of the pattern or its flags.
        let replaced = self.0.inner().invoke_with_args(args);
        replaced.map_err(|error| exec_datafusion_err!("{}", error.strip_backtrace()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_of_the_standard_matches_the_whole_text() {
        for (text, pattern, expected) in [
            ("abc", "a_c", true),
            ("abc", "a", false),
            ("xbx", "%(b|d)%", true),
            ("abc", "a.c", false),
            ("abc", "(a|b)%", true),
            ("a|b", "a\\|b", true),
            ("a%b", "a\\%b", true),
            ("axb", "a\\%b", false),
            ("b", "a|b", true),
            ("ab", "a|b", false),
            ("a\nb", "a_b", true),
            ("aab", "a{2}b", true),
            ("a^", "a^", true),
            ("x", "[^a-c]", true),
            ("[", "[[]", true),
            ("d", "[[:alpha:]]", true),
            ("b", "[^[:digit:]]", true),
            ("1", "[^[:digit:]a]", false),
            ("ab1_", "[[:alnum:]_]+", true),
            ("-", "[[:digit:]-]", true),
            ("]", "[]a]", true),
            ("x", "[^]a]", true),
            ("a", "[[.a.]]", true),
            ("a", "[[=a=]b]", true),
            ("%", "[%]", true),
        ] {
            let expression = ::regex::Regex::new(&similar(pattern, Some('\\')).unwrap()).unwrap();
            assert_eq!(expression.is_match(text), expected, "{text} similar to {pattern}");
        }
        for refused in ["[[:foo:]]", "[a", "[[:]", "[[:alpha:]"] {
            assert!(similar(refused, None).is_err(), "{refused}");
        }
        assert!(::regex::Regex::new(&similar("a#%", Some('#')).unwrap()).unwrap().is_match("a%"));
    }

    #[test]
    fn a_replacement_names_groups_with_backslashes() {
        assert_eq!(replacement(r"<\1\&>$1"), "<${1}${0}>$$1");
        assert_eq!(replacement(r"\\1"), r"\${_}1");
    }
}
