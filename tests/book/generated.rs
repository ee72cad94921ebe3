//! The site's reference: pages that follow from the code. `HEDGEROW_BLESS=1 cargo test --test book` writes
//! them anew.

use std::fmt::Write as _;

use super::root;

/// Compares a rendered page with its file, or writes it.
fn hold(path: &str, rendered: &str) {
    let file = root().join(path);
    if std::env::var_os("HEDGEROW_BLESS").is_some() {
        std::fs::write(&file, rendered).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == rendered,
        "{path} does not match; write it anew with HEDGEROW_BLESS=1 cargo test --test book"
    );
}

/// A line of a table cell: no bar ends it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn command_line() -> String {
    fn visit(command: &clap::Command, path: &str, page: &mut String) {
        let path = format!("{path} {}", command.get_name()).trim().to_owned();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        if command.get_subcommands().next().is_none() {
            let _ = write!(page, "\n## {path}\n\n{about}.\n\n");
            page.push_str("| argument | environment | default | does |\n|---|---|---|---|\n");
            let mut arguments: Vec<&clap::Arg> = command.get_arguments().collect();
            arguments.retain(|argument| {
                !matches!(
                    argument.get_id().as_str(),
                    "help" | "version" | "log_level" | "log_format"
                )
            });
            for argument in arguments {
                let values: Vec<String> = argument
                    .get_value_names()
                    .unwrap_or_default()
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                let takes = argument.get_action().takes_values();
                let value = match (takes, values.is_empty()) {
                    (false, _) => String::new(),
                    (true, true) => argument.get_id().as_str().to_uppercase(),
                    (true, false) => values.join(" "),
                };
                let name = argument
                    .get_long()
                    .map_or(value.clone(), |long| format!("--{long} {value}").trim().to_owned());
                let env = argument.get_env().map(|env| format!("`{}`", env.to_string_lossy()));
                let defaults: Vec<String> = argument
                    .get_default_values()
                    .iter()
                    .map(|value| format!("`{}`", value.to_string_lossy()))
                    .collect();
                let choices: Vec<String> = argument
                    .get_possible_values()
                    .iter()
                    .map(|value| format!("`{}`", value.get_name()))
                    .collect();
                let mut help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                if takes && !choices.is_empty() {
                    let _ = write!(help, ": {}", choices.join(", "));
                }
                if argument.is_required_set() {
                    help.push_str(" (required)");
                }
                let _ = writeln!(
                    page,
                    "| `{}` | {} | {} | {} |",
                    cell(&name),
                    env.unwrap_or_default(),
                    if takes { defaults.join(" ") } else { String::new() },
                    cell(&help)
                );
            }
            if let Some(after) = command.get_after_help() {
                let _ = write!(page, "\n```text\n{after}\n```\n");
            }
        }
        for sub in command.get_subcommands() {
            visit(sub, &path, page);
        }
    }
    let mut page = String::from(
        "# Command line\n\n\
         <!-- Rendered from src/cli by tests/book; do not edit. -->\n\n\
         One binary. Every flag has an environment twin; a flag wins over the environment, the environment \
         over the file. Exit codes: 0 done, 1 a \"no\" (denied, broken, findings), 2 an error. Every command \
         takes `--log-level` and `--log-format`; `hedgerow --version` names the commit that it was built from.\n",
    );
    visit(&hedgerow::cli::command(), "", &mut page);
    page
}

#[test]
fn the_page_of_the_command_line_is_the_commands_in_the_code() {
    hold("docs/command-line.md", &command_line());
}

/// A schema's keys, a section a type.
fn keys(title: &str, source: &str, intro: &str, schema: &str) -> String {
    let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
    let mut page = format!(
        "# {title}\n\n<!-- Rendered from {source} by tests/book; do not edit. -->\n\n{intro}\n"
    );
    let definitions = schema["$defs"].as_object().unwrap();
    let of = |reference: &serde_json::Value| -> Option<String> {
        Some(reference["$ref"].as_str()?.rsplit('/').next()?.to_owned())
    };
    fn kind(value: &serde_json::Value) -> String {
        if let Some(name) = value["$ref"].as_str() {
            let name = name.rsplit('/').next().unwrap();
            return format!("[{name}](#{})", name.to_lowercase());
        }
        if let Some(choices) = value["enum"].as_array() {
            let words: Vec<String> = choices
                .iter()
                .map(|word| format!("`{}`", word.as_str().unwrap_or_default()))
                .collect();
            return words.join(" or ");
        }
        for many in ["anyOf", "oneOf"] {
            if let Some(choices) = value[many].as_array() {
                let kinds: Vec<String> =
                    choices.iter().filter(|choice| choice["type"] != "null").map(kind).collect();
                return kinds.join(" or ");
            }
        }
        if let Some(word) = value["const"].as_str() {
            return format!("`{word}`");
        }
        match &value["type"] {
            serde_json::Value::String(name) if name == "array" => {
                format!("list of {}", kind(&value["items"]))
            }
            serde_json::Value::String(name)
                if name == "object" && value["additionalProperties"].is_object() =>
            {
                format!("map to {}", kind(&value["additionalProperties"]))
            }
            serde_json::Value::String(name) => name.clone(),
            serde_json::Value::Array(names) => {
                let names: Vec<&str> = names
                    .iter()
                    .filter_map(|name| name.as_str())
                    .filter(|name| *name != "null")
                    .collect();
                let examples = value["examples"].as_array().and_then(|list| list.first());
                let example = examples.and_then(|first| first.as_str());
                example.map_or(names.join(" or "), |example| format!("such as `{example}`"))
            }
            _ => String::new(),
        }
    }
    let section = |name: &str, value: &serde_json::Value, page: &mut String| {
        let Some(properties) = value["properties"].as_object() else {
            let about = value["description"].as_str().unwrap_or_default();
            let _ = write!(page, "\n## {name}\n\n{about}\n\n{}\n", kind(value));
            return;
        };
        let required: Vec<&str> = value["required"]
            .as_array()
            .map(|list| list.iter().filter_map(|key| key.as_str()).collect())
            .unwrap_or_default();
        let about = value["description"].as_str().unwrap_or_default();
        let _ = write!(page, "\n## {name}\n\n{about}\n\n| key | value | says |\n|---|---|---|\n");
        for (key, property) in properties {
            let must = if required.contains(&key.as_str()) { " (required)" } else { "" };
            let text = property["description"].as_str().map(str::to_owned);
            let text = text.or_else(|| {
                definitions.get(&of(property)?)?["description"].as_str().map(str::to_owned)
            });
            let _ = writeln!(
                page,
                "| `{key}`{must} | {} | {} |",
                cell(&kind(property)),
                cell(&text.unwrap_or_default())
            );
        }
    };
    if schema["properties"].is_object() {
        section("The file", &schema, &mut page);
    }
    for (name, value) in definitions {
        section(name, value, &mut page);
    }
    page
}

#[test]
fn the_pages_of_the_files_are_the_schemas() {
    let config = keys(
        "Configuration",
        "hedgerow.schema.json",
        "`hedgerow.yaml`. Unknown keys are errors, each with file:line:column; a file reference is relative to the \
         configuration file. [A whole example](../examples/hedgerow.yaml); editors complete it by \
         [the schema](../hedgerow.schema.json).",
        include_str!("../../hedgerow.schema.json"),
    );
    hold("docs/configuration.md", &config);
    let policy = keys(
        "Policy files",
        "policy.schema.json",
        "Every `*.yaml` below `policies`. A relation that no policy names is denied; an exact name wins over a \
         pattern; two exact entries for one name are an error. [A whole example](../policies/example.yaml), \
         [recipes](recipes.md), [what comes of it](policies.md).",
        include_str!("../../policy.schema.json"),
    );
    hold("docs/policy-files.md", &policy);
}

fn findings_page() -> String {
    use hedgerow::catalog_load::FindingKind;
    let mut page = String::from(
        "# Findings of a scan\n\n\
         <!-- Rendered from src/catalog_load/finding.rs by tests/book; do not edit. -->\n\n\
         What [`hedgerow scan`](scan.md) may find. A severity is that of the kind; what is around a finding may \
         make it worse or less bad. Names are public interface.\n\n\
         | kind | severity | is |\n|---|---|---|\n",
    );
    for kind in FindingKind::ALL {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} |",
            kind.name(),
            kind.severity().name(),
            cell(kind.meaning())
        );
    }
    page
}

#[test]
fn the_page_of_findings_is_the_list_in_the_code() {
    hold("docs/findings.md", &findings_page());
}

#[test]
fn the_threat_model_of_the_site_is_that_of_security_md() {
    let text = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let (_, body) = text.split_once("## What Hedgerow promises").unwrap();
    let body = body
        .replace("](ARCHITECTURE.md", "](../ARCHITECTURE.md")
        .replace("](deny.toml", "](../deny.toml")
        .replace("](docs/", "](");
    let page = format!(
        "# Threat model\n\n<!-- Rendered from SECURITY.md by tests/book; do not edit. -->\n\n\
         How to report a vulnerability: [SECURITY.md](../SECURITY.md#reporting).\n\n\
         ## What Hedgerow promises{body}"
    );
    hold("docs/threat-model.md", &page);
}

/// The alerts that the charts install are the alerts that the page on operations explains.
#[test]
fn every_alert_is_explained() {
    let rules = std::fs::read_to_string(root().join("helm/hedgerow/rules.yaml")).unwrap();
    let page = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 3);
    for alert in &alerts {
        assert!(
            page.contains(&format!("| `{alert}` |")),
            "docs/operations.md does not explain {alert}"
        );
    }
    assert_eq!(page.matches("| `Hedgerow").count(), alerts.len(), "no alert that is not there");
}
