//! Columns whose names the parser takes for words of MySQL: `create table t (key text, index int)`.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

/// Makes names of the words that would begin what MySQL says of a table's indexes, where a type follows them.
pub(super) fn name_columns(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let told: Vec<usize> = (0..tokens.len()).filter(|&at| is_index_word(&tokens[at].token)).collect();
    for at in told {
        let is_told = |token: &&TokenWithSpan| !matches!(token.token, Token::Whitespace(_));
        let before = tokens[..at].iter().rev().find(is_told).map(|token| &token.token);
        let after = tokens[at + 1..].iter().find(is_told).map(|token| &token.token);
        if let (Some(Token::LParen | Token::Comma), Some(Token::Word(Word { quote_style: None, .. }))) = (before, after)
            && let Token::Word(word) = &mut tokens[at].token
        {
            word.keyword = Keyword::NoKeyword;
        }
    }
    tokens
}

fn is_index_word(token: &Token) -> bool {
    use Keyword::{FULLTEXT, INDEX, KEY, SPATIAL};
    matches!(token, Token::Word(Word { quote_style: None, keyword: FULLTEXT | INDEX | KEY | SPATIAL, .. }))
}
