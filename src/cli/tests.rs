//! The command line as a whole, and the files that are generated from types.

use clap::CommandFactory as _;

use super::*;

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_has_its_environment_twin() {
    fn visit(command: &clap::Command) {
        for argument in command.get_arguments() {
            let Some(long) = argument.get_long() else { continue };
            if matches!(long, "help" | "version") {
                continue;
            }
            let twin = format!("HEDGEROW_{}", long.to_uppercase().replace('-', "_"));
            let env = argument.get_env().map(|env| env.to_string_lossy().into_owned());
            assert_eq!(env.as_deref(), Some(twin.as_str()), "{} --{long}", command.get_name());
        }
        command.get_subcommands().for_each(visit);
    }
    visit(&Cli::command());
}

#[test]
fn a_flag_in_the_environment_is_yes_or_no_and_never_a_guess() {
    for (text, meaning) in [("1", true), ("TRUE", true), ("0", false), ("off", false), ("", false)]
    {
        assert_eq!(flag(text), Ok(meaning), "{text}");
    }
    assert!(flag("perhaps").is_err() && flag("2").is_err());
    fn visit(command: &clap::Command) {
        for argument in command.get_arguments() {
            let switch = matches!(argument.get_action(), clap::ArgAction::SetTrue);
            if switch && argument.get_env().is_some() {
                let name = argument.get_id().as_str();
                // clap's own parser takes `true` and `false` alone.
                assert!(
                    argument.get_possible_values().is_empty(),
                    "{} --{name}",
                    command.get_name()
                );
            }
        }
        command.get_subcommands().for_each(visit);
    }
    visit(&Cli::command());
}

#[test]
fn the_console_is_on_loopback_unless_people_sign_in() {
    let cli = Cli::try_parse_from(["hedgerow", "console", "--audit", "a", "b"]).unwrap();
    let Command::Console(args) = cli.command else { panic!("another command") };
    assert_eq!(args.audit.len(), 2);
    assert_eq!(args.listen.to_string(), "127.0.0.1:9188");
    let open = ["hedgerow", "console", "--audit", "src", "--listen", "0.0.0.0:0"];
    let cli = Cli::try_parse_from(open).unwrap();
    let Command::Console(args) = cli.command else { panic!("another command") };
    assert_eq!(console::run(&args, cli.global), ExitCode::from(ERROR));
    let claim = ["--require-claim", "role=auditor"];
    assert!(Cli::try_parse_from(open.into_iter().chain(claim)).is_err(), "without --config");
}

#[test]
fn the_schemas_in_the_repository_are_up_to_date() {
    for (of, kept) in [
        (schema::SchemaOf::Config, include_str!("../../hedgerow.schema.json")),
        (schema::SchemaOf::Policy, include_str!("../../policy.schema.json")),
    ] {
        let generated = schema::text(of).unwrap();
        assert!(
            generated == kept,
            "a schema is out of date: run `hedgerow schema config > hedgerow.schema.json` and \
             `hedgerow schema policy > policy.schema.json`"
        );
    }
}

#[test]
fn the_examples_check_clean() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let loaded = crate::config::load(&root.join("examples/hedgerow.yaml"), PolicyEpoch(1));
    let loaded = loaded.unwrap_or_else(|faults| panic!("{faults:#?}"));
    // The example policy shows every key; what is not built yet is said, and nothing else.
    for warning in &loaded.warnings {
        assert!(warning.message.contains("not built yet"), "{warning}");
    }
    for file in ["examples/hedgerow.yaml", "policies/example.yaml"] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("# yaml-language-server: $schema=../"), "{file}: {first}");
        let schema = first.rsplit("$schema=../").next().unwrap();
        assert!(root.join(schema).is_file(), "{file} names {schema}");
    }
}
