//! Estimates the depth and size of a text from its tokens, before a syntax tree exists. A tree takes ten times the memory of its text,
//! and freeing it takes a call for each level.
//!
//! A chain of operators is as deep as it is long, even without parentheses: `a or b or c` is `(a or b) or c`. So operators are combined
//! as a parser combines them, but only the depth of the result is kept. The estimate is high where the structure is unknown.

use crate::errors::QueryError;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::Token;
use windlass_engine::extent::Limits;

/// Returns an error for the first statement that is too deep or too large.
pub(super) fn check(tokens: &[Token], limits: Limits) -> Result<(), QueryError> {
    if tokens.split(|token| *token == Token::SemiColon).map(size).any(|size| size > limits.size) {
        return Err(QueryError::Exhausted(limits.too_large()));
    }
    match deepest(tokens) > limits.depth {
        true => Err(QueryError::Exhausted(limits.too_deep())),
        false => Ok(()),
    }
}

/// Counts the operators and operands of one statement.
fn size(tokens: &[Token]) -> usize {
    tokens.iter().filter(|token| matches!(role(token), Role::Operand | Role::Operator(_))).count()
}

/// Maximum levels of a type, such as `INT[][]`. More do not fit into an Arrow message.
pub(super) const TYPE_DEPTH: usize = 50;

/// Returns an error for a type that is too deep to send to clients.
pub(super) fn check_types(tokens: &[Token]) -> Result<(), QueryError> {
    let tokens: Vec<&Token> = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect();
    // Levels of types in angle brackets, and of consecutive pairs of brackets.
    let (mut nested, mut pairs) = (0_usize, 0_usize);
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| tokens[before]);
        match token {
            Token::Lt => {
                let opens = matches!(before, Some(Token::Word(word)) if matches!(word.keyword, Keyword::ARRAY | Keyword::STRUCT | Keyword::MAP));
                nested = if opens || nested > 0 { nested + 1 } else { 0 };
            }
            Token::Gt => nested = nested.saturating_sub(1),
            Token::ShiftRight => nested = nested.saturating_sub(2),
            Token::SemiColon => nested = 0,
            Token::LBracket => {
                let goes_on = matches!(before, Some(Token::RBracket)) && pairs > 0;
                let is_pair = matches!(tokens.get(at + 1), Some(Token::RBracket));
                pairs = if is_pair && goes_on { pairs + 1 } else { usize::from(is_pair) };
            }
            _ => {}
        }
        if nested.max(pairs) > TYPE_DEPTH {
            return Err(QueryError::Unsupported(format!(
                "a type is more than {TYPE_DEPTH} levels deep: use a flatter one, or a text"
            )));
        }
    }
    Ok(())
}

fn deepest<'a>(tokens: impl IntoIterator<Item = &'a Token>) -> usize {
    let mut open: Vec<Scope> = Vec::new();
    let (mut scope, mut deepest) = (Scope::default(), 0);
    for token in tokens {
        match role(token) {
            Role::Nothing => {}
            Role::Opens(by) => open.push(std::mem::replace(&mut scope, Scope { by: Some(by), ..Scope::default() })),
            Role::Closes(by) if scope.by == Some(by) => {
                let inner = scope.depth();
                scope = open.pop().unwrap_or_default();
                match by {
                    By::Bracket => scope.subscript(inner),
                    _ => scope.operand(inner + 1),
                }
            }
            Role::Closes(_) => {}
            Role::Operand => scope.operand(1),
            Role::Operator(binding) => scope.operator(binding),
            Role::Separates => scope.separate(),
            Role::Joins => scope.joins(),
            Role::Combines => scope.combines(),
            Role::Ends => {
                deepest = deepest.max(total(&mut open, std::mem::take(&mut scope)));
            }
        }
    }
    deepest.max(total(&mut open, scope))
}

/// Returns the depth, with parentheses that were not closed.
fn total(open: &mut Vec<Scope>, mut scope: Scope) -> usize {
    while let Some(mut outer) = open.pop() {
        outer.operand(scope.depth() + 1);
        scope = outer;
    }
    scope.depth()
}

/// The tokens between two parentheses, or CASE and END.
#[derive(Debug, Default)]
struct Scope {
    by: Option<By>,
    /// Depths of operands. `operators` holds the binding strength of the operator between each two.
    operands: Vec<usize>,
    operators: Vec<u8>,
    /// Whether an operand has just ended.
    after_operand: bool,
    /// Largest depth of an expression that has ended.
    expressions: usize,
    /// Most joins of a query that has ended.
    queries: usize,
    joins: usize,
    combined: usize,
}

impl Scope {
    fn operand(&mut self, depth: usize) {
        match self.operands.last_mut().filter(|_| self.after_operand) {
            // For example a function and its arguments, or a column and its name.
            Some(last) => *last = (*last).max(depth),
            None => self.operands.push(depth),
        }
        self.after_operand = true;
    }

    /// Adds the subscript of the operand before it, or a list.
    fn subscript(&mut self, depth: usize) {
        match self.operands.last_mut().filter(|_| self.after_operand) {
            Some(last) => *last = (*last).max(depth) + 1,
            None => self.operand(depth + 1),
        }
    }

    fn operator(&mut self, binding: u8) {
        if !self.after_operand {
            // A prefix operator has one operand only.
            self.operands.push(0);
        } else {
            self.reduce(binding);
        }
        self.operators.push(binding);
        self.after_operand = false;
    }

    /// Combines operators that bind at least as tightly.
    fn reduce(&mut self, binding: u8) {
        while self.operators.last().is_some_and(|last| *last >= binding) {
            self.operators.pop();
            let right = self.operands.pop().unwrap_or_default();
            let left = self.operands.pop().unwrap_or_default();
            self.operands.push(left.max(right) + 1);
        }
    }

    fn separate(&mut self) {
        if !self.after_operand && !self.operators.is_empty() {
            self.operands.push(0);
        }
        self.reduce(0);
        self.expressions = self.operands.drain(..).fold(self.expressions, usize::max);
        self.operators.clear();
        self.after_operand = false;
    }

    fn joins(&mut self) {
        self.separate();
        self.joins += 1;
    }

    fn combines(&mut self) {
        self.separate();
        self.queries = self.queries.max(self.joins);
        self.joins = 0;
        self.combined += 1;
    }

    fn depth(&mut self) -> usize {
        self.separate();
        self.expressions + self.queries.max(self.joins) + self.combined
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Parenthesis,
    Bracket,
    Brace,
    Case,
}

enum Role {
    Nothing,
    Operand,
    /// With its binding strength.
    Operator(u8),
    Opens(By),
    Closes(By),
    /// Ends an expression, not the query.
    Separates,
    /// Adds a table.
    Joins,
    /// Adds a query: UNION and similar.
    Combines,
    /// Ends the statement.
    Ends,
}

fn role(token: &Token) -> Role {
    match token {
        Token::EOF | Token::Whitespace(_) | Token::Period => Role::Nothing,
        Token::SemiColon => Role::Ends,
        Token::Comma => Role::Separates,
        Token::LParen => Role::Opens(By::Parenthesis),
        Token::RParen => Role::Closes(By::Parenthesis),
        Token::LBracket => Role::Opens(By::Bracket),
        Token::RBracket => Role::Closes(By::Bracket),
        Token::LBrace => Role::Opens(By::Brace),
        Token::RBrace => Role::Closes(By::Brace),
        Token::Word(word) => word_role(word.keyword),
        Token::Number(..)
        | Token::Char(_)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::DollarQuotedString(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::Placeholder(_) => Role::Operand,
        Token::Eq
        | Token::DoubleEq
        | Token::Neq
        | Token::Lt
        | Token::Gt
        | Token::LtEq
        | Token::GtEq
        | Token::Spaceship => Role::Operator(COMPARES),
        Token::Plus | Token::Minus => Role::Operator(ADDS),
        Token::Mul | Token::Div | Token::Mod | Token::DuckIntDiv => Role::Operator(MULTIPLIES),
        _ => Role::Operator(BINDS),
    }
}

const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARES: u8 = 4;
const ADDS: u8 = 5;
const MULTIPLIES: u8 = 6;
const BINDS: u8 = 7;

fn word_role(keyword: Keyword) -> Role {
    match keyword {
        Keyword::OR => Role::Operator(OR),
        Keyword::XOR => Role::Operator(OR),
        Keyword::AND => Role::Operator(AND),
        Keyword::NOT => Role::Operator(NOT),
        Keyword::IS
        | Keyword::IN
        | Keyword::LIKE
        | Keyword::ILIKE
        | Keyword::SIMILAR
        | Keyword::REGEXP
        | Keyword::RLIKE
        | Keyword::BETWEEN
        | Keyword::NOTNULL => Role::Operator(COMPARES),
        Keyword::DIV => Role::Operator(MULTIPLIES),
        Keyword::AT | Keyword::COLLATE => Role::Operator(BINDS),
        Keyword::CASE => Role::Opens(By::Case),
        Keyword::END => Role::Closes(By::Case),
        Keyword::SELECT
        | Keyword::FROM
        | Keyword::WHERE
        | Keyword::GROUP
        | Keyword::HAVING
        | Keyword::QUALIFY
        | Keyword::ORDER
        | Keyword::LIMIT
        | Keyword::OFFSET
        | Keyword::BY
        | Keyword::ON
        | Keyword::USING
        | Keyword::VALUES
        | Keyword::WHEN
        | Keyword::THEN
        | Keyword::ELSE
        | Keyword::WITH => Role::Separates,
        Keyword::JOIN | Keyword::APPLY => Role::Joins,
        Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS => Role::Combines,
        _ => Role::Operand,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    fn depth(sql: &str) -> usize {
        deepest(&Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap())
    }

    #[test]
    fn chains_are_as_deep_as_they_are_long() {
        for (first, next, least, most) in [
            ("select 1", " + 1", 1_000, 1_002),
            ("select 1", " union all select 1", 1_000, 1_002),
            ("select * from t where a = 1", " and b <> 1 or a = 2", 1_000, 1_010),
            ("select * from t where a = 1", " or a * 2 + 1 < 7", 1_000, 1_010),
            ("select * from t0", " left join t1 on a = b", 1_000, 1_010),
            ("select a", "::int", 1_000, 1_002),
            ("select a", "[1]", 1_000, 1_002),
            ("select ", "not ", 1_000, 1_002),
            ("select ", "- ", 1_000, 1_002),
            ("select a", " at time zone 'UTC'", 1_000, 1_002),
            ("select a", " is null", 1_000, 1_002),
            ("select a", " -> 'b'", 1_000, 1_002),
            ("select 1", " + (1", 1_000, 2_002),
            ("select ", "f(", 1_000, 1_002),
            ("select ", "case when a = 1 then ", 1_000, 1_004),
        ] {
            let found = depth(&format!("{first}{}", next.repeat(1_000)));
            assert!((least..=most).contains(&found), "{first}{next}: {found}");
        }
    }

    #[test]
    fn what_is_too_large_or_too_deep_is_refused_by_name() {
        let refused = |sql: &str, depth, size| {
            let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap();
            check(&tokens, Limits { depth, size }).err().map(|error| error.to_string())
        };
        let list = format!("select a in (1{}); select 1", ", 1".repeat(999));
        assert_eq!(refused(&list, 10, 1_002), None);
        assert!(refused(&list, 10, 1_001).unwrap().contains("primary.size_limit"));
        assert!(refused("select 1 + 2 + 3 + 4", 3, 100).unwrap().contains("primary.depth_limit"));
    }

    #[test]
    fn types_have_levels() {
        let check = |sql: String| check_types(&Tokenizer::new(&GenericDialect {}, &sql).tokenize().unwrap());
        let angles =
            |levels: usize| format!("select cast(null as {}int{})", "array<".repeat(levels), ">".repeat(levels));
        assert!(check(angles(50)).is_ok());
        assert!(check(angles(51)).is_err());
        assert!(check(angles(3_000)).is_err());
        assert!(check(format!("select null::int{}", "[]".repeat(51))).is_err());
        assert!(check(format!("select 1{}", ", 'a'::int[][], 1 < 2, b < 3".repeat(100))).is_ok());
    }

    #[test]
    fn long_lists_are_not_deep() {
        let list = |item: &str| item.repeat(10_000);
        for sql in [
            format!("select * from t where a in (1{})", list(", 1 + 1")),
            format!("values (1, 2){}", list(", (1, 2)")),
            format!("select a{} from t", list(", a and b")),
            format!("select 1;{}", list("select 1 + 2 * 3;")),
            format!("with a as (select 1){} select 1", list(", b as (select * from a where b = 1)")),
            format!("select case a{} end", list(" when 1 then 2 + 3")),
            format!("select '{}'", list("a + b or (")),
        ] {
            assert!(depth(&sql) < 12, "{}: {}", &sql[..30], depth(&sql));
        }
    }
}
