//! Removal of secrets from the text of statements.

use super::options::HIDDEN;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};
use std::ops::Range;

/// `sql` with every literal hidden that equals one of `secrets`, however it is written, and every comment that contains one.
pub fn redacted<'a>(sql: &str, secrets: impl IntoIterator<Item = &'a str>) -> String {
    let secrets: Vec<&str> = secrets.into_iter().filter(|secret| !secret.is_empty()).collect();
    if secrets.is_empty() {
        return sql.to_string();
    }
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() else {
        // Text that cannot be parsed is hidden whole.
        return HIDDEN.to_string();
    };
    let mut text = sql.to_string();
    for token in tokens.iter().rev().filter(|token| holds_any(&token.token, &secrets)) {
        let hidden = match token.token {
            Token::Whitespace(_) => format!("/* {HIDDEN} */ "),
            _ => format!("'{HIDDEN}'"),
        };
        text.replace_range(range(sql, token), &hidden);
    }
    text
}

fn holds_any(token: &Token, secrets: &[&str]) -> bool {
    let value = match token {
        Token::SingleQuotedString(value)
        | Token::DoubleQuotedString(value)
        | Token::TripleSingleQuotedString(value)
        | Token::TripleDoubleQuotedString(value)
        | Token::EscapedStringLiteral(value)
        | Token::UnicodeStringLiteral(value)
        | Token::NationalStringLiteral(value)
        | Token::SingleQuotedRawStringLiteral(value)
        | Token::DoubleQuotedRawStringLiteral(value)
        | Token::Number(value, _) => value,
        Token::DollarQuotedString(text) => &text.value,
        Token::Word(word) => &word.value,
        Token::Whitespace(Whitespace::SingleLineComment { comment, .. } | Whitespace::MultiLineComment(comment)) => {
            return secrets.iter().any(|secret| comment.contains(secret));
        }
        _ => return false,
    };
    secrets.contains(&value.as_str())
}

/// Range in bytes.
fn range(sql: &str, token: &TokenWithSpan) -> Range<usize> {
    let at = |line: u64, column: u64| {
        let before: usize = sql.split_inclusive('\n').take(line.saturating_sub(1) as usize).map(str::len).sum();
        let rest = &sql[before..];
        before + rest.char_indices().nth(column.saturating_sub(1) as usize).map_or(rest.len(), |(at, _)| at)
    };
    let (start, end) = (token.span.start, token.span.end);
    let start = at(start.line, start.column);
    start..at(end.line, end.column).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_however_they_are_written() {
        for (sql, secret) in [
            ("create x options (rows '1', token 'hunter2')", "hunter2"),
            ("create x options (rows '1', token 'it''s')\n", "it's"),
            ("create x options (rows '1', token $$hunter2$$)", "hunter2"),
            ("create x -- hunter2 is it\n options (token 'hunter2', rows '1')", "hunter2"),
            ("create x\n options (\n rows '1', token 'häé''\n')", "häé'\n"),
        ] {
            let text = redacted(sql, [secret]);
            assert!(text.contains("***") && text.contains("rows '1'"), "{text}");
            assert!(!text.contains("hunter2") && !text.contains("it''s") && !text.contains("häé"), "{text}");
        }
        assert_eq!(redacted("select 'a'", [""]), "select 'a'");
        assert_eq!(redacted("select 'a", ["b"]), "***");
    }
}
