//! Splits a script into statements at semicolons, as the cluster's parser sees them: not inside quotes, dollar quotes or comments.

/// A statement of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Text without its semicolon and without the space and comments before it.
    pub text: &'a str,
    /// Line of its start in the script, counted from 1.
    pub line: usize,
    /// Names of its `$name` placeholders, in order of appearance, each once.
    pub placeholders: Vec<&'a str>,
}

/// Construct that is open at the end of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// A statement without its semicolon.
    Statement,
    /// A quote or a comment without its end, and the line on which it starts.
    Quote { what: &'static str, line: usize },
}

/// Splits a script into its statements, and returns what is missing at its end. A last statement needs no semicolon.
pub fn split(script: &str) -> (Vec<Piece<'_>>, Option<Open>) {
    let mut scanner = Scanner { text: script, at: 0 };
    let mut pieces = Vec::new();
    let mut current = Current::default();
    let mut lines = Lines { text: script, at: 0, line: 1 };
    let open = loop {
        let start = scanner.at;
        let Some(token) = scanner.token() else { break current.start.map(|_| Open::Statement) };
        match token {
            Token::Blank => {}
            Token::Semicolon => {
                if let Some(piece) = current.take(script, start, &mut lines) {
                    pieces.push(piece);
                }
            }
            Token::Text => current.grow(start, scanner.at),
            Token::Placeholder(name) => {
                current.grow(start, scanner.at);
                if !current.placeholders.contains(&name) {
                    current.placeholders.push(name);
                }
            }
            Token::Unclosed(what) => {
                if what != COMMENT {
                    current.grow(start, scanner.at);
                }
                let line = 1 + script.as_bytes()[..start].iter().filter(|b| **b == b'\n').count();
                break Some(Open::Quote { what, line });
            }
        }
    };
    pieces.extend(current.take(script, script.len(), &mut lines));
    (pieces, open)
}

/// The statement that is being read.
#[derive(Default)]
struct Current<'a> {
    start: Option<usize>,
    /// End of the last token that is neither space nor comment.
    end: usize,
    placeholders: Vec<&'a str>,
}

impl<'a> Current<'a> {
    fn grow(&mut self, from: usize, to: usize) {
        self.start.get_or_insert(from);
        self.end = to;
    }

    fn take(&mut self, script: &'a str, at: usize, lines: &mut Lines<'a>) -> Option<Piece<'a>> {
        let current = std::mem::take(self);
        let start = current.start?;
        debug_assert!(start < current.end && current.end <= at);
        Some(Piece { text: &script[start..current.end], line: lines.of(start), placeholders: current.placeholders })
    }
}

/// Counts line numbers of growing offsets, in one pass over the script.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl Lines<'_> {
    fn of(&mut self, offset: usize) -> usize {
        self.line += self.text.as_bytes()[self.at..offset].iter().filter(|b| **b == b'\n').count();
        self.at = offset;
        self.line
    }
}

enum Token<'a> {
    /// Space or a comment.
    Blank,
    Semicolon,
    Text,
    Placeholder(&'a str),
    Unclosed(&'static str),
}

const TEXT: &str = "the text that starts here has no end: ' is missing";
const COMMENT: &str = "the comment that starts here has no end: */ is missing";

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// Returns the next token. Only ASCII matters to the scanner, so it walks over bytes and stops at character boundaries.
    fn token(&mut self) -> Option<Token<'a>> {
        let rest = &self.text[self.at..];
        let first = rest.chars().next()?;
        if first.is_whitespace() {
            self.at += rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
            return Some(Token::Blank);
        }
        if rest.starts_with("--") {
            self.at += rest.find('\n').unwrap_or(rest.len());
            return Some(Token::Blank);
        }
        if rest.starts_with("/*") {
            return Some(self.comment());
        }
        Some(match first {
            ';' => self.take(1, Token::Semicolon),
            '\'' => self.quoted('\'', TEXT, false),
            '"' => self.quoted('"', "the quoted name that starts here has no end: \" is missing", false),
            '`' => self.quoted('`', "the quoted name that starts here has no end: ` is missing", false),
            '$' => self.dollar(),
            'e' | 'E' if rest[1..].starts_with('\'') => {
                self.at += 1;
                self.quoted('\'', TEXT, true)
            }
            // Takes a whole word, so that the e of a name before a quote does not start an escaped text.
            c if is_word(c) => {
                let length = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
                self.take(length, Token::Text)
            }
            c => self.take(c.len_utf8(), Token::Text),
        })
    }

    fn take(&mut self, length: usize, token: Token<'a>) -> Token<'a> {
        self.at += length;
        token
    }

    /// Scans to the closing quote; a doubled quote stands for itself, and so does any character after a backslash (in E'…').
    fn quoted(&mut self, quote: char, what: &'static str, escapes: bool) -> Token<'a> {
        let mut chars = self.text[self.at..].char_indices().skip(1).peekable();
        while let Some((offset, c)) = chars.next() {
            if escapes && c == '\\' {
                chars.next();
            } else if c == quote {
                if chars.peek().is_some_and(|(_, next)| *next == quote) {
                    chars.next();
                } else {
                    return self.take(offset + 1, Token::Text);
                }
            }
        }
        self.at = self.text.len();
        Token::Unclosed(what)
    }

    /// Scans `/* … */`, which nest.
    fn comment(&mut self) -> Token<'a> {
        let bytes = &self.text.as_bytes()[self.at..];
        let (mut depth, mut offset) = (0, 0);
        while offset + 1 < bytes.len() {
            match &bytes[offset..offset + 2] {
                b"/*" => (depth, offset) = (depth + 1, offset + 2),
                b"*/" => (depth, offset) = (depth - 1, offset + 2),
                _ => offset += 1,
            }
            if depth == 0 {
                return self.take(offset, Token::Blank);
            }
        }
        self.at = self.text.len();
        Token::Unclosed(COMMENT)
    }

    /// Scans `$tag$ … $tag$`, or a placeholder.
    fn dollar(&mut self) -> Token<'a> {
        let rest = &self.text[self.at + 1..];
        let name = &rest[..rest.find(|c: char| !is_word(c)).unwrap_or(rest.len())];
        let after = &rest[name.len()..];
        if after.starts_with('$') && !name.starts_with(|c: char| c.is_ascii_digit()) {
            let tag = &self.text[self.at..self.at + name.len() + 2];
            let body = &self.text[self.at + tag.len()..];
            return match body.find(tag) {
                Some(length) => self.take(length + 2 * tag.len(), Token::Text),
                None => {
                    self.at = self.text.len();
                    Token::Unclosed("the text that starts here has no end: its closing dollar tag is missing")
                }
            };
        }
        let length = 1 + name.len();
        if name.is_empty() { self.take(length, Token::Text) } else { self.take(length, Token::Placeholder(name)) }
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &str) -> Vec<&str> {
        split(script).0.into_iter().map(|piece| piece.text).collect()
    }

    #[test]
    fn semicolons_end_statements_and_empty_ones_vanish() {
        assert_eq!(texts("select 1; select 2"), ["select 1", "select 2"]);
        assert_eq!(texts(" ; ;; select 1 ;\n;"), ["select 1"]);
        assert_eq!(texts(""), Vec::<&str>::new());
        assert_eq!(texts("-- only a comment"), Vec::<&str>::new());
    }

    #[test]
    fn quotes_of_every_kind_hide_semicolons() {
        for statement in [
            "select 'a;b'",
            "select 'it''s; fine'",
            "select \"a;\"\"b\"",
            "select `a;b`",
            "select $$a;'b$$",
            "select $tag$a;$$;b$tag$",
            "select E'a\\';b'",
            "select 'back\\'",
            "select 'ünï;cödé'",
        ] {
            assert_eq!(texts(&format!("{statement}; select 2")), [statement, "select 2"], "{statement}");
        }
    }

    #[test]
    fn comments_hide_semicolons_and_nest() {
        assert_eq!(texts("select 1 -- a;b\n+ 1; select 2"), ["select 1 -- a;b\n+ 1", "select 2"]);
        assert_eq!(texts("/* a; /* b; */ c; */ select 1; select 2"), ["select 1", "select 2"]);
        assert_eq!(texts("select 1 /* tail; */; -- more;\n"), ["select 1"]);
        assert_eq!(texts("select '--;', 1"), ["select '--;', 1"]);
    }

    #[test]
    fn statements_know_their_lines() {
        let (pieces, _) = split("-- head\n\nselect 1;\n\n  select\n2;\nselect 3");
        assert_eq!(pieces.iter().map(|piece| piece.line).collect::<Vec<_>>(), [3, 5, 7]);
    }

    #[test]
    fn placeholders_are_found_outside_quotes_only() {
        let (pieces, _) = split("select $a, '$b', $$ $c $$, $1, $a -- $d\n from t where x=$long_name");
        assert_eq!(pieces[0].placeholders, ["a", "1", "long_name"]);
    }

    #[test]
    fn what_is_left_open_is_told() {
        assert_eq!(split("select 1;").1, None);
        assert_eq!(split("select 1; -- done").1, None);
        assert_eq!(split("select 1").1, Some(Open::Statement));
        assert_eq!(split("select 1;\nselect\n 'a\nb").1, Some(Open::Quote { what: TEXT, line: 3 }));
        assert!(matches!(split("select $x$ a $y$").1, Some(Open::Quote { .. })));
        assert!(matches!(split("select 1; /* a").1, Some(Open::Quote { .. })));
        assert_eq!(split("select name'x'").1, Some(Open::Statement));
    }
}
