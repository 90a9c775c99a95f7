//! Functions of text as PostgreSQL has them, with DataFusion's underneath.
//!
//! | function | what it is |
//! | --- | --- |
//! | `windlass_similar_pattern(pattern, escape)` | a pattern of SIMILAR TO as a regular expression |
//! | `regexp_replace` | in the replacement `\1` and `\&` are what was found, and `$` is a dollar sign |
//! | `lpad`, `rpad`, `repeat` | no text of more than 1 GiB |

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, exec_datafusion_err, exec_err};
use datafusion::functions::{regex, string, unicode};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::sync::Arc;

/// The longest text that a function makes, as in PostgreSQL. Bytes.
const MAX_BYTES: i64 = (1 << 30) - 1;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(SimilarPattern { signature: Signature::variadic_any(Volatility::Immutable) }.into()),
        Arc::new(Checked { datafusion: regex::regexp_replace(), what: What::Replacement }.into()),
        Arc::new(Checked { datafusion: unicode::lpad(), what: What::Length }.into()),
        Arc::new(Checked { datafusion: unicode::rpad(), what: What::Length }.into()),
        Arc::new(Checked { datafusion: string::repeat(), what: What::Times }.into()),
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    /// The third argument is a replacement.
    Replacement,
    /// The second argument is the length of the result in characters.
    Length,
    /// The second argument is how often the first is repeated.
    Times,
}

/// A function of DataFusion's whose arguments are looked at before.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Checked {
    datafusion: Arc<ScalarUDF>,
    what: What,
}

impl Checked {
    fn check_length(&self, args: &[ColumnarValue]) -> Result<()> {
        let [text, number, ..] = args else { return Ok(()) };
        let refused = |length: i64| {
            exec_err!(
                "{}() would make a text of {length} bytes, and a text has at most {MAX_BYTES}: ask for a shorter one",
                self.name()
            )
        };
        let rows = [text, number].into_iter().find_map(|value| match value {
            ColumnarValue::Array(array) => Some(array.len()),
            ColumnarValue::Scalar(_) => None,
        });
        let numbers = cast(&number.to_array(rows.unwrap_or(1))?, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        if self.what == What::Length {
            return numbers.iter().flatten().find(|length| *length > MAX_BYTES).map_or(Ok(()), refused);
        }
        // Only a large number needs a look at the texts.
        if numbers.iter().flatten().all(|times| times < 1 << 10) {
            return Ok(());
        }
        let texts = cast(&text.to_array(rows.unwrap_or(1))?, &DataType::Utf8)?;
        for (text, times) in texts.as_string::<i32>().iter().zip(numbers) {
            let (Some(text), Some(times)) = (text, times) else { continue };
            let length = i64::try_from(text.len()).unwrap_or(i64::MAX).saturating_mul(times);
            if length > MAX_BYTES {
                return refused(length);
            }
        }
        Ok(())
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        self.datafusion.name()
    }

    fn aliases(&self) -> &[String] {
        self.datafusion.aliases()
    }

    fn signature(&self) -> &Signature {
        self.datafusion.signature()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.datafusion.documentation()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.datafusion.coerce_types(types)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.datafusion.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.datafusion.inner().return_field_from_args(args)
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let datafusion = Arc::new(self.datafusion.inner().with_updated_config(config)?);
        Some(Self { datafusion, what: self.what }.into())
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.datafusion.simplify(args, info)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match self.what {
            What::Replacement => {
                if let Some(text) = args.args.get(2) {
                    let (read, wanted) = (mapped(text, |text| Ok(replacement(text)))?, text.data_type());
                    args.args[2] = read.cast_to(&wanted, None)?;
                }
                // Whatever is wrong was wrong in the pattern or its flags.
                self.datafusion
                    .inner()
                    .invoke_with_args(args)
                    .map_err(|error| exec_datafusion_err!("{}", error.strip_backtrace()))
            }
            What::Length | What::Times => {
                self.check_length(&args.args)?;
                self.datafusion.inner().invoke_with_args(args)
            }
        }
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
