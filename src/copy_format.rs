//! The forms of COPY data: what the statement says and the reader of its rows must both know. Layer 0.

/// The form of the rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CopyFormat {
    /// Text or CSV.
    Lines(Lines),
    /// Binary.
    Binary,
}

/// The form of lines: text, or CSV.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lines {
    /// Separates fields.
    pub delimiter: u8,
    /// Stands for NULL.
    pub null: Vec<u8>,
    /// What the first line is.
    pub header: Header,
    /// What CSV has beside that; without it the lines are text.
    pub csv: Option<Csv>,
}

/// What the first line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Header {
    /// A row.
    None,
    /// Thrown away unread.
    Skip,
    /// The columns' names, to be compared.
    Match,
}

/// The characters and rules of CSV.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Csv {
    /// Opens and closes a quoted field.
    pub quote: u8,
    /// In a quoted field, takes the special meaning from a quote or from itself.
    pub escape: u8,
    /// Whether `\.` alone on a line ends the data (servers before 18).
    pub end_marker: bool,
    /// By position: an unquoted null marker is a value all the same.
    pub force_not_null: Vec<bool>,
    /// By position: a quoted null marker is NULL too.
    pub force_null: Vec<bool>,
}
