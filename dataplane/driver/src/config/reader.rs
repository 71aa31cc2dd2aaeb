//! Read one TOML table strictly, with the position of every value and without unknown keys.
//!
//! The known keys of a table are exactly those that were read, so there is no second list to maintain. Problems are
//! collected instead of returned one by one: a file is fixed faster when all problems are listed at once.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;

use toml::de::{DeTable, DeValue};
use toml::Spanned;

use super::error::Problem;
use super::nearest::nearest;

/// A table that is being read.
pub struct Reader<'t> {
    text: &'t str,
    table: Option<&'t DeTable<'t>>,
    prefix: String,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl<'t> Reader<'t> {
    /// A reader of `table`; `prefix` is its name with a dot, or empty for the root.
    pub fn new(text: &'t str, table: Option<&'t DeTable<'t>>, prefix: &str) -> Self {
        Reader {
            text,
            table,
            prefix: prefix.to_owned(),
            known: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// A sub-table by name; if absent, all of its keys have their defaults.
    pub fn table(&mut self, key: &'static str) -> Reader<'t> {
        let prefix = format!("{}{key}.", self.prefix);
        let table = match self.find(key) {
            None => None,
            Some(value) => match value.get_ref() {
                DeValue::Table(table) => Some(table),
                other => {
                    self.wrong_type(key, value, other, "a table");
                    None
                }
            },
        };
        Reader::new(self.text, table, &prefix)
    }

    /// A whole number inside `range`.
    pub fn integer<N>(
        &mut self,
        key: &'static str,
        default: Option<N>,
        range: RangeInclusive<N>,
    ) -> N
    where
        N: TryFrom<i64> + PartialOrd + Display + Clone,
    {
        let fallback = default.clone().unwrap_or_else(|| range.start().clone());
        let Some(value) = self.find(key) else {
            return self.absent(key, default).unwrap_or(fallback);
        };
        let DeValue::Integer(found) = value.get_ref() else {
            self.wrong_type(key, value, value.get_ref(), "a whole number");
            return fallback;
        };
        let number = i64::from_str_radix(found.as_str(), found.radix()).ok();
        match number
            .and_then(|number| N::try_from(number).ok())
            .filter(|number| range.contains(number))
        {
            Some(number) => number,
            None => {
                let message = format!(
                    "`{}` is {}, not in {}..={}",
                    self.full(key),
                    found,
                    range.start(),
                    range.end()
                );
                self.refuse(key, value.span(), message);
                fallback
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str, default: bool) -> bool {
        let Some(value) = self.find(key) else {
            return default;
        };
        match value.get_ref() {
            DeValue::Boolean(found) => *found,
            other => {
                self.wrong_type(key, value, other, "true or false");
                default
            }
        }
    }

    /// A string; without a default the key is required.
    pub fn string(&mut self, key: &'static str, default: Option<&str>) -> String {
        self.text_and_span(key, default)
            .map_or_else(String::new, |(text, _)| text)
    }

    /// A string that `parse` accepts; its error text names the expected form.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, span) = self.text_and_span(key, default)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(expected) => {
                let message = format!("`{}` is {text:?}, expected {expected}", self.full(key));
                self.refuse(key, span, message);
                None
            }
        }
    }

    /// A string that parses as `T`; `expected` names the form.
    pub fn form<T: FromStr>(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        expected: &str,
    ) -> Option<T> {
        self.parsed(key, default, |text| {
            text.parse().map_err(|_| expected.to_owned())
        })
    }

    /// A list of strings that `parse` accepts each; empty if absent. `None` means that a problem was recorded.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let Some(value) = self.find(key) else {
            return Some(Vec::new());
        };
        let DeValue::Array(entries) = value.get_ref() else {
            self.wrong_type(key, value, value.get_ref(), "a list of strings");
            return None;
        };
        let mut read = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry.get_ref() {
                DeValue::String(text) => match parse(text) {
                    Ok(parsed) => read.push(parsed),
                    Err(expected) => {
                        let full = self.full(key);
                        let message = format!("`{full}` has {text:?}, expected {expected}");
                        self.refuse(key, entry.span(), message);
                    }
                },
                other => self.wrong_type(key, entry, other, "a list of strings"),
            }
        }
        (read.len() == entries.len()).then_some(read)
    }

    /// Records a problem that involves several values.
    pub fn refuse_value(&mut self, key: &'static str, message: String) {
        let span = self.find(key).map_or(0..0, Spanned::span);
        self.refuse(key, span, message);
    }

    /// Finishes reading: every key that was not read is unknown.
    pub fn finish(mut self) -> Vec<Problem> {
        let Some(table) = self.table else {
            return self.problems;
        };
        for (key, _) in table {
            let name: &str = key.get_ref();
            if self.known.contains(&name) {
                continue;
            }
            let nearest = nearest(name, self.known.iter().copied())
                .map(|near| format!("{}{near}", self.prefix));
            let (line, column) = position(self.text, key.span().start);
            self.problems.push(Problem {
                id: "config.unknown_key",
                line: Some(line),
                column: Some(column),
                key: Some(self.full(name)),
                message: format!("unknown key `{}`", self.full(name)),
                hint: nearest
                    .as_ref()
                    .map(|near| format!("the nearest known name is `{near}`")),
                nearest,
            });
        }
        self.problems
    }

    fn find(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table?.get(key)
    }

    fn text_and_span(
        &mut self,
        key: &'static str,
        default: Option<&str>,
    ) -> Option<(String, Range<usize>)> {
        let Some(value) = self.find(key) else {
            return self
                .absent(key, default)
                .map(|text| (text.to_owned(), 0..0));
        };
        match value.get_ref() {
            DeValue::String(text) => Some((text.clone().into_owned(), value.span())),
            other => {
                self.wrong_type(key, value, other, "a string");
                None
            }
        }
    }

    fn absent<T>(&mut self, key: &'static str, default: Option<T>) -> Option<T> {
        if default.is_none() {
            self.problems.push(Problem {
                id: "config.missing_key",
                line: None,
                column: None,
                key: Some(self.full(key)),
                message: format!("key `{}` is missing", self.full(key)),
                hint: None,
                nearest: None,
            });
        }
        default
    }

    fn wrong_type(
        &mut self,
        key: &'static str,
        value: &Spanned<DeValue<'_>>,
        found: &DeValue<'_>,
        expected: &str,
    ) {
        let message = format!(
            "`{}` is {}, expected {expected}",
            self.full(key),
            kind(found)
        );
        self.push("config.type", key, value.span(), message);
    }

    fn refuse(&mut self, key: &'static str, span: Range<usize>, message: String) {
        self.push("config.value", key, span, message);
    }

    fn push(&mut self, id: &'static str, key: &str, span: Range<usize>, message: String) {
        let (line, column) = position(self.text, span.start);
        self.problems.push(Problem {
            id,
            line: Some(line),
            column: Some(column),
            key: Some(self.full(key)),
            message,
            hint: None,
            nearest: None,
        });
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

/// Line and column, both from 1 and in characters, of a byte offset.
pub fn position(text: &str, offset: usize) -> (u32, u32) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .map_or(0, |last| last.chars().count())
        + 1;
    (
        u32::try_from(line).unwrap_or(u32::MAX),
        u32::try_from(column).unwrap_or(u32::MAX),
    )
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
