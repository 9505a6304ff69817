//! Golden files: what redis-server 7.0.15 answered to the same script. A line that begins with `#` is
//! a heading, any other is an expression, and the indented line after it is how its values show.

use mlua::{Lua, MultiValue, Value};

use super::native::numeric;

/// Shows any values as one line; `show` is in sight of the expressions, too.
const SHOW: &str = r"
local function show(...)
  local parts = {}
  local function one(value)
    local kind = type(value)
    if kind == 'string' then
      return '\39' .. value:gsub('[^\32-\126]', function(c) return string.format('\\%02x', c:byte()) end) .. '\39'
    elseif kind == 'number' then
      return value ~= value and 'nan' or string.format('%.17g', value)
    elseif kind == 'table' then
      local entries = {}
      for key, inner in pairs(value) do entries[#entries + 1] = one(key) .. '=' .. one(inner) end
      table.sort(entries)
      return '{' .. table.concat(entries, ',') .. '}'
    elseif kind == 'userdata' then
      return 'null'
    end
    return kind == 'boolean' and tostring(value) or kind
  end
  for i = 1, select('#', ...) do parts[i] = one((select(i, ...))) end
  return table.concat(parts, ' ')
end
";

/// A Lua with all three libraries.
pub fn lua() -> mlua::Result<Lua> {
    let lua = Lua::new();
    let globals = lua.globals();
    globals.set("cjson", super::json::library(&lua)?)?;
    globals.set("cmsgpack", super::msgpack::library(&lua)?)?;
    globals.set("struct", super::packing::library(&lua)?)?;
    Ok(lua)
}

/// Runs a script that redis-server's suite has; its values as strings.
pub fn run(script: &str) -> mlua::Result<Vec<String>> {
    let lua = lua()?;
    let values: MultiValue = lua.load(script).set_name("@user_script").eval()?;
    values.iter().map(|value| value.to_string()).collect()
}

/// Whether two values are the same, and all that is in them.
pub fn same(left: &Value, right: &Value) -> mlua::Result<bool> {
    let (Value::Table(left), Value::Table(right)) = (left, right) else {
        let equal = match (numeric(left), numeric(right)) {
            (Some(left), Some(right)) => left.to_bits() == right.to_bits(),
            _ => left == right,
        };
        return Ok(equal);
    };
    let mut count = 0;
    for pair in left.pairs::<Value, Value>() {
        let (key, value) = pair?;
        count += 1;
        if !same(&value, &right.raw_get(key)?)? {
            return Ok(false);
        }
    }
    Ok(count == right.pairs::<Value, Value>().count())
}

/// Compares all expressions of a golden file, in one Lua as there.
pub fn compare(golden: &str) -> mlua::Result<()> {
    // On one line, as positions are part of the answers.
    let show = SHOW.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let lua = lua()?;
    let mut compared = 0;
    let mut different = Vec::new();
    let mut lines = golden.lines().filter(|line| !line.starts_with("# "));
    while let (Some(expression), Some(expected)) = (lines.next(), lines.next()) {
        let script = format!("{show} return show({expression})");
        let answer = lua.load(script).set_name("@user_script").eval();
        let answer: String = answer.unwrap_or_else(|error| format!("raised {error}"));
        compared += 1;
        if answer != expected.trim_start() {
            different.push(format!("{expression}\n{expected}\n    {answer} (ours)"));
        }
    }
    assert!(compared > 50, "compared {compared} expressions only");
    assert!(different.is_empty(), "{}", different.join("\n\n"));
    Ok(())
}
