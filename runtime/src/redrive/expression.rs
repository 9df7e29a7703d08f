//! Expressions over a dead letter, in the Common Expression Language
//! (<https://cel.dev>), evaluated without any effect.

use std::{collections::BTreeSet, fmt, sync::Arc};

use cel::{
    Context, Env, IdedExpr, Value,
    common::ast::{EntryExpr, Expr},
    parser::Parser,
};

use super::{Letter, values};
use crate::config::suggestion;

/// What an expression may name.
pub const VARIABLES: [&str; 14] = [
    "age_seconds",
    "attempts",
    "class",
    "code",
    "headers",
    "key",
    "message",
    "offset",
    "partition",
    "payload",
    "plugin",
    "redrives",
    "topic",
    "version",
];

/// What it may call, operators and macros apart.
const FUNCTIONS: [&str; 13] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

/// Longest expression, in bytes.
const MAX_LENGTH: usize = 4096;
/// Deepest nesting that is parsed, and deepest tree that is evaluated: a chain of
/// operators is deeper than it looks. Both recurse, and an overflow of the stack
/// would end the whole process.
const MAX_NESTING: u16 = 24;
const MAX_DEPTH: usize = 100;
/// Longest reason for which an expression does not apply to a letter, in characters.
const MAX_REASON: usize = 200;

/// A checked expression.
pub struct Expression {
    root: IdedExpr,
    env: Arc<Env>,
    /// Those of [`VARIABLES`] that it names: the others are not computed.
    uses: BTreeSet<&'static str>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expression").field("uses", &self.uses).finish_non_exhaustive()
    }
}

impl Expression {
    /// Checks `text`: its grammar, and that it names only what there is.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("the expression is longer than {MAX_LENGTH} bytes"));
        }
        let parser = Parser::new().max_recursion_depth(MAX_NESTING);
        let (root, places) = parser.parse_with_source_info(text).map_err(|errors| {
            let first = errors.errors.into_iter().next();
            let (line, column, why) = first.map_or_else(
                || (1, 1, "it is not understood".to_owned()),
                |e| (e.pos.0.max(1) as usize, e.pos.1.max(1) as usize, plain(&e.msg)),
            );
            pointed(text, line, column, &why)
        })?;
        let mut uses = BTreeSet::new();
        check(&root, &mut Vec::new(), 0, &mut uses).map_err(|(id, why)| {
            let offset = places.offset_for(id).map_or(0, |(start, _)| start as usize);
            let (line, column) = line_and_column(text, offset);
            pointed(text, line, column, &why)
        })?;
        Ok(Self { root, env: Arc::new(Env::stdlib()), uses })
    }

    /// Whether it holds for `letter` at `now_ms`.
    ///
    /// # Errors
    /// Why it does not apply to this letter: a field that is not there, a type that
    /// does not fit, a result that is neither true nor false.
    pub fn holds(&self, letter: &Letter, now_ms: u64) -> Result<bool, String> {
        let mut context = Context::with_env(Arc::clone(&self.env));
        for name in &self.uses {
            context.add_variable_from_value(*name, values::variable(name, letter, now_ms));
        }
        match Value::resolve(&self.root, &context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it gives {}, neither true nor false", other.type_of())),
            Err(error) => Err(error.to_string().chars().take(MAX_REASON).collect()),
        }
    }
}

/// Finds the first name that nothing bears, and notes the variables in use.
fn check<'e>(
    at: &'e IdedExpr,
    bound: &mut Vec<&'e str>,
    depth: usize,
    uses: &mut BTreeSet<&'static str>,
) -> Result<(), (u64, String)> {
    if depth > MAX_DEPTH {
        return Err((at.id, "the expression is too deep".to_owned()));
    }
    let mut inside =
        |part: &'e IdedExpr, bound: &mut Vec<&'e str>| check(part, bound, depth + 1, uses);
    match &at.expr {
        Expr::Ident(name) if bound.contains(&name.as_str()) => Ok(()),
        Expr::Ident(name) => match VARIABLES.iter().find(|known| *known == name) {
            Some(known) => {
                uses.insert(known);
                Ok(())
            }
            None => Err((at.id, format!("there is no `{name}`; {}", suggestion(name, VARIABLES)))),
        },
        Expr::Call(call) => {
            let is_operator = !call.func_name.starts_with(|c: char| c.is_ascii_alphabetic());
            if !is_operator && !FUNCTIONS.contains(&call.func_name.as_str()) {
                let name = &call.func_name;
                let hint = suggestion(name, FUNCTIONS);
                return Err((at.id, format!("there is no function `{name}`; {hint}")));
            }
            let target = call.target.iter().map(|target| &**target);
            target.chain(&call.args).try_for_each(|part| inside(part, bound))
        }
        Expr::Comprehension(each) => {
            inside(&each.iter_range, bound)?;
            inside(&each.accu_init, bound)?;
            let outer = bound.len();
            bound.extend([each.iter_var.as_str(), each.accu_var.as_str()]);
            bound.extend(each.iter_var2.as_deref());
            [&each.loop_cond, &each.loop_step, &each.result]
                .into_iter()
                .try_for_each(|part| inside(part, bound))?;
            bound.truncate(outer);
            Ok(())
        }
        Expr::List(list) => list.elements.iter().try_for_each(|part| inside(part, bound)),
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => {
                inside(&entry.key, bound).and_then(|()| inside(&entry.value, bound))
            }
            EntryExpr::StructField(field) => inside(&field.value, bound),
        }),
        Expr::Select(select) => inside(&select.operand, bound),
        Expr::Struct(message) => {
            Err((at.id, format!("there is no message type `{}`", message.type_name)))
        }
        Expr::Literal(_) | Expr::Unspecified => Ok(()),
    }
}

/// A message of the parser without the list of all that it would have taken.
fn plain(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let message = message.split(" expecting ").next().unwrap_or(message);
    message.replace("'<EOF>'", "end")
}

/// The reason, and the line with a mark under the place.
fn pointed(text: &str, line: usize, column: usize, why: &str) -> String {
    let shown = text.lines().nth(line - 1).unwrap_or_default();
    let indent = " ".repeat(column - 1);
    format!("line {line}, column {column}: {why}\n  {shown}\n  {indent}^")
}

/// Both from 1, of the character at `offset`.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.chars().take(offset);
    before.fold((1, 1), |(line, column), c| match c {
        '\n' => (line + 1, 1),
        _ => (line, column + 1),
    })
}

#[cfg(test)]
#[path = "expression_tests.rs"]
mod tests;
