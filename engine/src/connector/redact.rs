//! Removal of secrets from the text of statements.

use super::options::HIDDEN;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Whitespace};
use std::ops::Range;

/// `sql` with every literal hidden that equals one of `secrets`, however it is written, and every comment that contains one.
pub fn redacted<'a>(sql: &str, secrets: impl IntoIterator<Item = &'a str>) -> String {
    hidden(sql, secrets, |token, _| match token {
        Token::Whitespace(_) => format!("/* {HIDDEN} */ "),
        _ => format!("'{HIDDEN}'"),
    })
}

/// Like [`redacted`], with every other character where it was.
pub fn masked<'a>(sql: &str, secrets: impl IntoIterator<Item = &'a str>) -> String {
    hidden(sql, secrets, |_, text| stars(text))
}

/// Like [`masked`], for text that may not be a statement: hides what follows the name of an option that `is_secret`. Empty if the text has no tokens.
pub fn masked_options(sql: &str, is_secret: impl Fn(&str) -> bool) -> String {
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() else { return String::new() };
    let (mut name, mut secret) = (String::new(), Vec::new());
    for token in &tokens {
        match &token.token {
            Token::Whitespace(_) | Token::Eq => {}
            Token::Period => name.push('.'),
            Token::Word(word) if name.ends_with('.') => name.push_str(&word.value),
            Token::Comma | Token::LParen | Token::RParen | Token::SemiColon => name.clear(),
            _ if is_secret(&name.to_lowercase()) => {
                secret.push(range(sql, token));
                name.clear();
            }
            Token::Word(word) => name.clone_from(&word.value),
            Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => name.clone_from(text),
            _ => name.clear(),
        }
    }
    let mut text = sql.to_string();
    for range in secret.into_iter().rev() {
        text.replace_range(range.clone(), &stars(&sql[range]));
    }
    text
}

fn stars(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { c } else { '*' }).collect()
}

/// `sql` with `shown` in place of what is hidden.
fn hidden<'a>(sql: &str, secrets: impl IntoIterator<Item = &'a str>, shown: impl Fn(&Token, &str) -> String) -> String {
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
        let range = range(sql, token);
        text.replace_range(range.clone(), &shown(&token.token, &sql[range]));
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
        assert_eq!(masked("x (token 'it''s', 'rows' 1)", ["it's"]), "x (token *******, 'rows' 1)");
        assert_eq!(redacted("select 'a'", [""]), "select 'a'");
        assert_eq!(redacted("select 'a", ["b"]), "***");
    }

    #[test]
    fn what_follows_the_name_of_a_secret_is_hidden() {
        let is_secret = |name: &str| ["token", "aws.key"].contains(&name);
        for (sql, shown) in [
            ("x (rows 'a', Token 'b') frm", "x (rows 'a', Token ***) frm"),
            ("x ('aws.key' $$b$$, aws . key = 7)", "x ('aws.key' *****, aws . key = *)"),
            ("x (token rows 'a')", "x (token **** 'a')"),
            ("select token, 'a' from x", "select token, 'a' from x"),
            ("x (token 'b", ""),
        ] {
            assert_eq!(masked_options(sql, is_secret), shown);
        }
    }
}
