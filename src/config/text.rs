//! Texts with variables.

use super::problem::{Fault, nearest};
use super::tree::Scalar;
use crate::template::{Template, TemplateError, Variable};

/// A text with variables.
pub(super) fn template(scalar: &Scalar<'_>) -> Result<Template, Fault> {
    Template::parse(&scalar.text).map_err(|error| {
        let help = match &error {
            TemplateError::Unclosed => "write `{{` for a brace, or a variable like `{host}`".to_owned(),
            TemplateError::Unknown(name) => match nearest(name, Variable::known()) {
                Some(name) => format!("did you mean `{{{name}}}`? Write `{{{{` for a brace"),
                None => format!("known: {}; write `{{{{` for a brace", known()),
            },
        };
        Fault::new(error.to_string(), help)
    })
}

fn known() -> String {
    Variable::known().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(" ")
}
