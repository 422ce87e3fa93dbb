//! What is made from the program itself: the file's schema, manual pages, shell completions. All come from the table of
//! keys and the definition of the commands, so a new key or command is in them by itself.

use super::{Arguments, complain, say};
use crate::config::schema::schema;
use clap::{CommandFactory, Subcommand};
use clap_complete::Shell;
use clap_mangen::Man;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum Generate {
    /// Print the JSON Schema of the configuration file, for editors.
    #[command(after_help = "Example: evenkeel schema > evenkeel.schema.json")]
    Schema,
    /// Print a manual page: of the program, or of one command.
    #[command(after_help = "Example: evenkeel man reload | man -l -")]
    Man {
        /// The command whose page it is.
        command: Option<String>,
    },
    /// Print a script that completes commands and options in a shell.
    #[command(after_help = "Example: evenkeel completions bash > /etc/bash_completion.d/evenkeel")]
    Completions {
        /// The shell.
        shell: Shell,
    },
}

pub(super) fn run(what: Generate) -> ExitCode {
    match what {
        Generate::Schema => say(&format!("{:#}\n", schema())),
        Generate::Man { command } => return man(command.as_deref()),
        Generate::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "evenkeel", &mut script);
            say(&String::from_utf8_lossy(&script));
        }
    }
    ExitCode::SUCCESS
}

fn man(name: Option<&str>) -> ExitCode {
    let mut program = Arguments::command();
    program.build();
    let page_of = match name {
        None => program,
        Some(name) => match program.find_subcommand(name) {
            Some(command) => command.clone(),
            None => {
                let names: Vec<_> = program.get_subcommands().map(clap::Command::get_name).collect();
                complain(&format!("no command `{name}`; there are {}", names.join(", ")));
                return ExitCode::from(2);
            }
        },
    };
    let mut page = Vec::new();
    if let Err(error) = Man::new(page_of).render(&mut page) {
        complain(&format!("the page cannot be written: {error}"));
        return ExitCode::FAILURE;
    }
    say(&String::from_utf8_lossy(&page));
    ExitCode::SUCCESS
}
