//! What the demo prints: headings, statements, small tables, errors. Layer 6.

use tokio_postgres::SimpleQueryMessage;

use crate::catalog_load::Session;

/// Most rows of one result that are shown.
const MAX_ROWS: usize = 10;

/// A text in a colour, where there are colours.
fn painted(code: &str, text: &str) -> String {
    if crate::cli::shows_colors() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// A heading.
pub(super) fn heading(text: &str) {
    println!("\n{}", painted("1", &format!("── {text}")));
}

/// A result as text.
pub(super) struct Answer {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Answer {
    /// The first field of the first row.
    pub(super) fn first(&self) -> Option<&str> {
        self.rows.first()?.first().map(String::as_str)
    }

    pub(super) fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// Prints it as a small aligned table.
    pub(super) fn print(&self) {
        let shown = || self.rows.iter().take(MAX_ROWS);
        let width = |index: usize| {
            let cells = shown().chain([&self.columns]).filter_map(|row| row.get(index));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |row: &[String]| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
            println!("   {}", cells.join(" │ ").trim_end());
        };
        line(&self.columns);
        let rule: Vec<String> = widths.iter().map(|&width| "─".repeat(width)).collect();
        println!("   {}", rule.join("─┼─"));
        shown().for_each(|row| line(row));
        let more = self.rows.len().saturating_sub(MAX_ROWS);
        if more > 0 {
            println!("   … and {more} more");
        }
        println!("   ({} row{})", self.rows.len(), if self.rows.len() == 1 { "" } else { "s" });
    }
}

/// Runs one statement and keeps its result as text.
pub(super) async fn ask(session: &Session, sql: &str) -> Result<Answer, tokio_postgres::Error> {
    let mut answer = Answer { columns: Vec::new(), rows: Vec::new() };
    for message in session.client.simple_query(sql).await? {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                answer.columns = columns.iter().map(|column| column.name().to_owned()).collect();
            }
            SimpleQueryMessage::Row(row) => answer
                .rows
                .push((0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned()).collect()),
            _ => {}
        }
    }
    Ok(answer)
}

/// Prints who asks what.
pub(super) fn question(tenant: &str, sql: &str) {
    println!("\n   {}> {sql}", painted("36", tenant));
}

/// Prints an error as `psql` would; the fields as the server sent them.
pub(super) fn error(error: &tokio_postgres::Error) {
    match error.as_db_error() {
        Some(db) => {
            let said = painted("31", &format!("{}:  {}", db.severity(), db.message()));
            println!("   {said}  (SQLSTATE {})", db.code().code());
            for (name, text) in [("DETAIL", db.detail()), ("HINT", db.hint())] {
                if let Some(text) = text {
                    println!("   {name}:  {text}");
                }
            }
        }
        None => println!("   {}", painted("31", &error.to_string())),
    }
}

/// Prints a program's output, set in.
pub(super) fn output(text: &str) {
    for line in text.lines() {
        println!("   {line}");
    }
}
