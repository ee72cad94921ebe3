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
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    for file in ["examples/hedgerow.yaml", "policies/example.yaml"] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("# yaml-language-server: $schema=../"), "{file}: {first}");
        let schema = first.rsplit("$schema=../").next().unwrap();
        assert!(root.join(schema).is_file(), "{file} names {schema}");
    }
}
