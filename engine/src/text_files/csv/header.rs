//! The mapping of a file's fields to the table's columns: by the names in its header, in any order.

use std::collections::HashSet;

/// Names of columns from a header. A repeated name gets a number (`x`, `x_1`); an empty one gets its position (`column_3`, as in files without header).
pub(super) fn names(header: Vec<String>) -> Vec<String> {
    let given: HashSet<String> = header.iter().cloned().collect();
    let mut taken = HashSet::new();
    let mut names = Vec::with_capacity(header.len());
    for (index, name) in header.into_iter().enumerate() {
        let base = if name.is_empty() { format!("column_{}", index + 1) } else { name };
        let mut name = base.clone();
        let mut number = 0;
        while taken.contains(&name) || (number > 0 && given.contains(&name)) {
            number += 1;
            name = format!("{base}_{number}");
        }
        taken.insert(name.clone());
        names.push(name);
    }
    names
}

/// For each column of the table its field in a file with this header; `None` when the file has no such field.
///
/// Exact names take precedence over names that differ in case.
///
/// # Errors
/// A header that lacks columns and has others instead: one of them may be the column under another name.
pub(super) fn fields_of(columns: &[String], header: &[String]) -> Result<Vec<Option<usize>>, String> {
    let fields: Vec<Option<usize>> = columns.iter().map(|column| field_of(column, header)).collect();
    let quoted = |names: Vec<&String>| names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let lacking: Vec<&String> =
        columns.iter().zip(&fields).filter(|(_, field)| field.is_none()).map(|(column, _)| column).collect();
    let unknown: Vec<&String> =
        header.iter().enumerate().filter(|(field, _)| !fields.contains(&Some(*field))).map(|(_, name)| name).collect();
    if lacking.is_empty() || (unknown.is_empty() && !header.is_empty()) {
        return Ok(fields);
    }
    Err(format!(
        "its header has no column {}, but {}: columns are found by their names; name those of the table as the header does, or create \
         the table again if its files have changed",
        quoted(lacking),
        if unknown.is_empty() { "is empty".to_string() } else { quoted(unknown) }
    ))
}

pub(super) fn field_of(column: &str, header: &[String]) -> Option<usize> {
    if let Some(field) = header.iter().position(|name| name == column) {
        return Some(field);
    }
    let mut alike = header.iter().enumerate().filter(|(_, name)| name.to_lowercase() == column.to_lowercase());
    match (alike.next(), alike.next()) {
        (Some((field, _)), None) => Some(field),
        _ => None,
    }
}

/// The names of a table's columns in its files, when the statement that creates it names them differently. They are matched by position, as far as that is
/// certain.
///
/// `Ok(None)`: all columns are found by their own names.
///
/// # Errors
/// The match is not certain.
pub(super) fn renamed(columns: &[String], header: &[String]) -> Result<Option<Vec<String>>, String> {
    let fields: Vec<Option<usize>> = columns.iter().map(|column| field_of(column, header)).collect();
    let others = header.len() - fields.iter().flatten().count();
    if fields.iter().all(Option::is_some) || others == 0 {
        return Ok(None);
    }
    let moved = fields.iter().enumerate().any(|(index, field)| field.is_some_and(|field| field != index));
    if moved || columns.len() != header.len() {
        return fields_of(columns, header).map(|_| None);
    }
    Ok(Some(header.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        text.split(',').map(str::to_string).collect()
    }

    #[test]
    fn a_name_is_given_once() {
        assert_eq!(names(of("id,x,x,,x_1,x")), of("id,x,x_2,column_4,x_1,x_3"));
        assert_eq!(names(of("x,x")), of("x,x_1"));
    }

    #[test]
    fn fields_are_found_by_name() {
        assert_eq!(fields_of(&of("a,b"), &of("b,c,A")).unwrap(), [Some(2), Some(0)]);
        assert_eq!(fields_of(&of("a,b"), &of("b")).unwrap(), [None, Some(0)]);
        assert_eq!(fields_of(&of("a"), &of("A,a")).unwrap(), [Some(1)]);
        let error = fields_of(&of("a,b"), &of("b,c")).unwrap_err();
        assert!(error.contains("no column 'a', but 'c'"), "{error}");
        assert!(fields_of(&of("a"), &of("x")).is_err());
    }

    #[test]
    fn columns_are_renamed_where_positions_are_certain() {
        assert_eq!(renamed(&of("x,y"), &of("a,b")).unwrap(), Some(of("a,b")));
        assert_eq!(renamed(&of("a,y"), &of("a,b")).unwrap(), Some(of("a,b")));
        assert_eq!(renamed(&of("b,a"), &of("a,b")).unwrap(), None);
        assert_eq!(renamed(&of("a,b"), &of("a")).unwrap(), None);
        assert!(renamed(&of("b,x"), &of("a,b")).is_err());
        assert!(renamed(&of("x,y"), &of("a,b,c")).is_err());
    }
}
