//! Problems of a node's settings file, with their positions.

use std::fmt;
use std::path::PathBuf;

/// One problem of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable name of the kind of problem, `config.unknown_key` for instance.
    pub id: &'static str,
    /// Line of the offending text, counted from 1; `None` when the problem concerns the whole file.
    pub line: Option<u32>,
    /// Column of the offending text in characters, counted from 1.
    pub column: Option<u32>,
    /// The key in question with its table, `lossless_runtime_config.window_bytes` for instance.
    pub key: Option<String>,
    /// One sentence without the position.
    pub message: String,
    /// How to fix the problem, where that is known.
    pub hint: Option<String>,
    /// For an unknown key: the known name nearest to it.
    pub nearest: Option<String>,
}

/// An invalid settings file, with all of its problems in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's path, as given by the caller.
    pub file: PathBuf,
    /// At least one problem.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// The first problem in the file.
    pub fn first(&self) -> &Problem {
        self.problems
            .first()
            .expect("a ConfigError is only made from at least one problem")
    }

    /// One line for `problem`: position, sentence, hint.
    pub fn line_for(&self, problem: &Problem) -> String {
        let mut line = self.file.display().to_string();
        if let (Some(row), Some(column)) = (problem.line, problem.column) {
            line.push_str(&format!(":{row}:{column}"));
        }
        line.push_str(": ");
        line.push_str(&problem.message);
        if let Some(hint) = &problem.hint {
            line.push_str("; ");
            line.push_str(hint);
        }
        line
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self
            .problems
            .iter()
            .map(|problem| self.line_for(problem))
            .collect();
        out.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigError {}
