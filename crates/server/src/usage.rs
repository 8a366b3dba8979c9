//! What was called, and what is said to whoever called it wrongly.

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};

use crate::cli::Cli;

/// Ends the program over a wrong value, like over every other one, but without repeating it: it may hold a password.
pub(crate) fn refuse(error: &str, said: &ArgMatches) -> ! {
    command(said)
        .0
        .error(ErrorKind::ValueValidation, error)
        .exit()
}

/// The command that was called, for what is said of its usage, and what was said to it.
fn command(said: &ArgMatches) -> (clap::Command, &ArgMatches) {
    let (mut command, mut said) = (Cli::command(), said);
    // Only then do commands know what they are called.
    command.build();
    while let Some((name, more)) = said.subcommand() {
        let Some(inner) = command.find_subcommand(name) else {
            break;
        };
        (command, said) = (inner.clone(), more);
    }
    (command, said)
}

/// Whether `hubcast tasks` asks a server, whatever the environment says of RabbitMQ: who names one on the command line means it.
pub(crate) fn is_server_meant(said: &ArgMatches) -> bool {
    let (mut command, said) = command(said);
    let is_said = |flag| said.value_source(flag) == Some(ValueSource::CommandLine);
    if is_said("server") && is_said("amqp") {
        let text = "the argument '--server <URL>' cannot be used with '--amqp <URL>'";
        command.error(ErrorKind::ArgumentConflict, text).exit();
    }
    is_said("server")
}
