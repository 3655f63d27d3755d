//! `sovereign schema`.

use serde::Serialize;
use serde_json::Value;
use sovereign_model::file;

use crate::output::{Page, Report};

/// The JSON Schema of the stack file.
#[derive(Debug, Serialize)]
pub(crate) struct Schema {
    schema: Value,
}

impl Report for Schema {
    fn show(&self, page: &mut Page) {
        page.line(format_args!("{:#}", self.schema));
    }
}

/// The schema, from the tables the parser works by.
pub(crate) fn run() -> Schema {
    Schema { schema: file::json_schema() }
}
