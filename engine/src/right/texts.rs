//! Functions of text as PostgreSQL has them, with DataFusion's underneath.
//!
//! | function | what it is |
//! | --- | --- |
//! | `windlass_similar_pattern(pattern, escape)` | a pattern of SIMILAR TO as a regular expression |
//! | `regexp_replace` | in the replacement `\1` and `\&` are what was found, and `$` is a dollar sign |

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::functions::regex;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::sync::Arc;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(SimilarPattern { signature: Signature::variadic_any(Volatility::Immutable) }.into()),
        Arc::new(Replace(regex::regexp_replace()).into()),
    ]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SimilarPattern {
    signature: Signature,
}

impl ScalarUDFImpl for SimilarPattern {
    fn name(&self) -> &str {
        "windlass_similar_pattern"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let escape = match args.args.get(1) {
            None => Some('\\'),
            Some(ColumnarValue::Scalar(escape)) => {
                let text = escape.try_as_str().flatten().unwrap_or_default();
                let mut letters = text.chars();
                match (letters.next(), letters.next()) {
                    (escape, None) => escape,
                    _ => return exec_err!("the escape of SIMILAR TO is one character, and not '{text}'"),
                }
            }
            Some(ColumnarValue::Array(_)) => return exec_err!("the escape of SIMILAR TO is a constant"),
        };
        mapped(&args.args[0], |pattern| Ok(similar(pattern, escape)))
    }
}

/// `text` with each of its values as `change` has it.
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

/// The regular expression for a pattern of the SQL standard, which has to match the whole text.
fn similar(pattern: &str, escape: Option<char>) -> String {
    let mut expression = String::from("(?s)^(?:");
    let mut letters = pattern.chars();
    let mut in_brackets = false;
    while let Some(letter) = letters.next() {
        if Some(letter) == escape {
            expression.push_str(&regex_of(letters.next().unwrap_or(letter)));
            continue;
        }
        match letter {
            ']' if in_brackets => {
                in_brackets = false;
                expression.push(']');
            }
            // In PostgreSQL brackets have no other sign than ^, - and ].
            '\\' | '[' | '&' | '~' if in_brackets => expression.extend(['\\', letter]),
            _ if in_brackets => expression.push(letter),
            '[' => {
                in_brackets = true;
                expression.push('[');
            }
            '%' => expression.push_str(".*"),
            '_' => expression.push('.'),
            '(' => expression.push_str("(?:"),
            '.' | '^' | '$' | '\\' => expression.extend(['\\', letter]),
            letter => expression.push(letter),
        }
    }
    expression.push_str(")$");
    expression
}

fn regex_of(letter: char) -> String {
    ::regex::escape(letter.encode_utf8(&mut [0; 4]))
}

/// PostgreSQL's replacement as the one that DataFusion reads.
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

/// `regexp_replace`, whose replacement is read as PostgreSQL reads it.
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
        // Whatever is wrong was wrong in the pattern or its flags.
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
        ] {
            let expression = ::regex::Regex::new(&similar(pattern, Some('\\'))).unwrap();
            assert_eq!(expression.is_match(text), expected, "{text} similar to {pattern}");
        }
        assert!(::regex::Regex::new(&similar("a#%", Some('#'))).unwrap().is_match("a%"));
    }

    #[test]
    fn a_replacement_names_groups_with_backslashes() {
        assert_eq!(replacement(r"<\1\&>$1"), "<${1}${0}>$$1");
        assert_eq!(replacement(r"\\1"), r"\${_}1");
    }
}
