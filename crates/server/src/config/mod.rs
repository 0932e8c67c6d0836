//! Configuration: one table of typed parameters (`table`), the values in force ([`Config`]), the
//! redis.conf syntax (`file`), what the engine is told (`engine`), and the few values that hot paths read, already typed
//! ([`Settings`]).
//!
//! A value is kept as the text that `CONFIG GET` shows, checked and made canonical by its kind when
//! it is set; so the table is the only place that knows a parameter, and everything that passed
//! the check parses again.

pub(crate) mod engine;
mod file;
mod kind;
mod settings;
mod table;

use std::{fmt, path::PathBuf};

pub(crate) use file::{rewrite, split_line};
pub(crate) use kind::parse_memory;
pub use settings::{DebugCommands, Fsync, Settings};
pub(crate) use table::{PARAMETERS, find, names};

/// All parameters with the values in force.
#[derive(Debug, Clone)]
pub struct Config {
    /// Canonical texts, in the order of [`PARAMETERS`].
    values: Vec<String>,
    /// The file it was read from, for `CONFIG REWRITE`.
    path: Option<PathBuf>,
    /// What was ignored while loading, for the log.
    warnings: Vec<String>,
}

/// Why a value was refused: the reason, in Redis's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Default for Config {
    fn default() -> Config {
        Config {
            values: PARAMETERS.iter().map(|parameter| parameter.default.to_owned()).collect(),
            path: None,
            warnings: Vec::new(),
        }
    }
}

impl Config {
    /// Defaults, then the file (when the first argument does not begin with `--`), then the
    /// `--key value…` pairs, as redis-server reads its command line.
    pub fn from_arguments<I: IntoIterator<Item = String>>(
        arguments: I,
    ) -> Result<Config, ConfigError> {
        let mut arguments = arguments.into_iter().peekable();
        let mut config = Config::default();
        if let Some(path) = arguments.next_if(|first| !first.starts_with("--")) {
            config.load_file(PathBuf::from(path))?;
        }
        let mut pairs: Vec<(String, Vec<String>)> = Vec::new();
        for argument in arguments {
            match (argument.strip_prefix("--"), pairs.last_mut()) {
                (Some(name), _) => match name.split_once('=') {
                    Some((name, value)) => pairs.push((name.to_owned(), vec![value.to_owned()])),
                    None => pairs.push((name.to_owned(), Vec::new())),
                },
                (None, Some((_, values))) => values.push(argument),
                (None, None) => {
                    return Err(ConfigError(format!(
                        "unexpected argument '{argument}': write --key value"
                    )));
                }
            }
        }
        for (name, values) in pairs {
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            config.set_at_start(&name, &values).map_err(|error| {
                ConfigError(format!("bad value for --{name} '{}': {error}", values.join(" ")))
            })?;
        }
        Ok(config)
    }

    /// Sets one parameter by name with its canonical checks, as a file line does. Unknown names
    /// become warnings.
    pub fn set_at_start(&mut self, name: &str, values: &[&str]) -> Result<(), ConfigError> {
        let Some(index) = find(name.as_bytes()) else {
            self.warnings.push(format!("unknown configuration parameter '{name}' is ignored"));
            return Ok(());
        };
        let parameter = &PARAMETERS[index];
        self.values[index] = parameter.kind.canonical_args(values, &self.values[index])?;
        Ok(())
    }

    /// Checks and sets one parameter while running; `self` is a copy that replaces the original
    /// once all of a `CONFIG SET` has succeeded.
    pub(crate) fn set_running(&mut self, index: usize, value: &[u8]) -> Result<(), ConfigError> {
        let parameter = &PARAMETERS[index];
        if parameter.immutable {
            return Err(ConfigError("can't set immutable config".into()));
        }
        let text = std::str::from_utf8(value)
            .map_err(|_| ConfigError("argument is not valid UTF-8".into()))?;
        self.values[index] = parameter.kind.canonical(text, &self.values[index])?;
        Ok(())
    }

    pub(crate) fn load_file(&mut self, path: PathBuf) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(&path).map_err(|error| {
            ConfigError(format!("cannot read the configuration file {}: {error}", path.display()))
        })?;
        for (number, line) in text.lines().enumerate() {
            let words = split_line(line).map_err(|error| {
                ConfigError(format!("{}, line {}: {error}", path.display(), number + 1))
            })?;
            let Some((name, values)) = words.split_first() else { continue };
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            self.set_at_start(name, &values).map_err(|error| {
                ConfigError(format!(
                    "{}, line {}: {name}: {error}: >>> '{line}'",
                    path.display(),
                    number + 1
                ))
            })?;
        }
        // REWRITE must find the file after a change of directory.
        self.path = Some(std::path::absolute(&path).unwrap_or(path));
        Ok(())
    }

    pub(crate) fn value(&self, index: usize) -> &str {
        &self.values[index]
    }

    /// The text of a parameter that the table has; empty for a name it has not.
    pub fn get(&self, name: &str) -> &str {
        find(name.as_bytes()).map_or("", |index| &self.values[index])
    }

    pub fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }

    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn is_default(&self, index: usize) -> bool {
        self.values[index] == PARAMETERS[index].default
    }
}

/// For the fuzz target: a configuration file. What is accepted is written by REWRITE so that it
/// reads back the same.
pub(crate) fn fuzz_file(text: &str) {
    let mut config = Config::default();
    if read_lines(&mut config, text).is_err() {
        return;
    }
    let written = file::rewritten(&config, text);
    let mut back = Config::default();
    assert_eq!(read_lines(&mut back, &written), Ok(()), "{written}");
    assert_eq!(back.values, config.values, "{written}");
}

fn read_lines(config: &mut Config, text: &str) -> Result<(), ConfigError> {
    for line in text.lines() {
        let words = split_line(line)?;
        let Some((name, values)) = words.split_first() else { continue };
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        config.set_at_start(name, &values)?;
    }
    Ok(())
}

/// For the fuzz target: CONFIG SET of the parameter that the first byte names. A canonical value is
/// its own canonical form.
pub(crate) fn fuzz_value(bytes: &[u8]) {
    let Some((first, value)) = bytes.split_first() else { return };
    let index = usize::from(*first) % PARAMETERS.len();
    let mut config = Config::default();
    if config.set_running(index, value).is_ok() {
        let canonical = config.value(index).to_owned();
        assert_eq!(config.set_running(index, canonical.as_bytes()), Ok(()), "{canonical}");
        assert_eq!(config.value(index), canonical);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        Config::from_arguments(arguments.iter().map(|argument| (*argument).to_owned()))
    }

    #[test]
    fn every_default_passes_its_own_check() {
        let config = Config::default();
        for (index, parameter) in PARAMETERS.iter().enumerate() {
            let canonical = parameter.kind.canonical(parameter.default, parameter.default);
            assert_eq!(canonical.as_deref(), Ok(config.value(index)), "{}", parameter.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = PARAMETERS.iter().map(|parameter| parameter.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn arguments_are_read_as_redis_reads_them() {
        let config =
            config(&["--port", "7000", "--save", "900", "1", "--MAXMEMORY", "1gb", "--bind=::1"])
                .unwrap();
        assert_eq!(config.get("port"), "7000");
        assert_eq!(config.get("save"), "900 1");
        assert_eq!(config.get("maxmemory"), "1073741824");
        assert_eq!(config.get("bind"), "::1");
    }

    #[test]
    fn unknown_names_warn_and_bad_values_fail() {
        let config = config(&["--no-such-thing", "1"]).unwrap();
        assert_eq!(
            config.warnings(),
            ["unknown configuration parameter 'no-such-thing' is ignored"]
        );
        let error = super::Config::from_arguments(["--port".to_owned(), "x".to_owned()]);
        assert_eq!(
            error.unwrap_err().0,
            "bad value for --port 'x': argument couldn't be parsed into an integer"
        );
    }
}
