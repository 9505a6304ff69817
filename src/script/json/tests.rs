use fastrand::Rng;
use mlua::{Lua, Table, Value};

use crate::script::testing;

#[test]
fn answers_are_those_of_redis() -> mlua::Result<()> {
    testing::compare(include_str!("golden.txt"))
}

#[test]
fn a_script_may_change_its_mind() -> mlua::Result<()> {
    let script = r#"
        local map = {s1 = "Some string", n1 = 100, a1 = {"Some", "String"}, b1 = true, b2 = false}
        local function same(decoded)
            assert(decoded.s1 == map.s1 and decoded.n1 == 100 and decoded.a1[2] == "String")
            assert(decoded.b1 == true and decoded.b2 == false)
        end
        same(cjson.decode(cjson.encode(map)))
        cjson.encode_keep_buffer(false)
        same(cjson.decode(cjson.encode(map)))
        local mixed = cjson.decode(cjson.encode({one = "one", [1] = "two"}))
        assert(mixed.one == "one" and mixed["1"] == "two")
        local array = cjson.decode(cjson.encode({[1] = "one", [2] = "two"}))
        assert(array[1] == "one" and array[2] == "two")
        assert(not pcall(cjson.encode, {[false] = "false"}))
        cjson.encode_max_depth(1)
        assert(not pcall(cjson.encode, map))
        cjson.decode_max_depth(1)
        assert(not pcall(cjson.decode, '{"obj": {"array": [1,2,3,4]}}'))
        assert(not pcall(cjson.encode, {num1 = 0/0}))
        cjson.encode_invalid_numbers(true)
        assert(pcall(cjson.encode, {num1 = 0/0}))
        cjson.decode_max_depth(1000)
        cjson.encode_max_depth(1000)
        cjson.encode_invalid_numbers(false)
        return table.concat(cjson.decode("[0.0, -5e3, -1, 0.3e-3, 1023.2, 0e10]"), " ")"#;
    assert_eq!(testing::run(script)?, ["0 -5000 -1 0.0003 1023.2 0"]);
    Ok(())
}

#[test]
fn what_is_too_much_is_refused() -> mlua::Result<()> {
    let script = r#"
        -- However deep a script allows them, tables stay within the thread's stack.
        cjson.encode_max_depth(2^30)
        cjson.decode_max_depth(2^30)
        local deep, text = {}, ("["):rep(1e5)
        for i = 1, 1e5 do deep = i % 2 == 0 and {deep} or {k = deep} end
        local ok, deep_error = pcall(cjson.encode, deep)
        local ok, text_error = pcall(cjson.decode, text)
        assert(type(cjson.decode(("["):rep(4000) .. ("]"):rep(4000))) == "table")
        -- Each table holds the one before sixteen times.
        local wide = ("x"):rep(1000)
        for i = 1, 20 do
            local inner = wide
            wide = {}
            for j = 1, 16 do wide[j] = inner end
        end
        local ok, wide_error = pcall(cjson.encode, wide)
        return deep_error, text_error, wide_error"#;
    assert_eq!(
        testing::run(script)?,
        [
            "Cannot serialise, excessive nesting (1501)",
            "Found too many nested data structures (4001) at character 4001",
            "not enough memory",
        ]
    );
    Ok(())
}

#[test]
fn tables_with_many_strings_pass() -> mlua::Result<()> {
    let script = r#"
        local map, array = {}, {}
        for i = 1, 50000 do
            map["key" .. i] = "value" .. i
            array[i] = {"element" .. i}
        end
        local decoded = cjson.decode(cjson.encode({map = map, array = array}))
        for i = 1, 50000 do
            assert(decoded.map["key" .. i] == "value" .. i)
            assert(decoded.array[i][1] == "element" .. i)
        end
        return "done""#;
    assert_eq!(testing::run(script)?, ["done"]);
    Ok(())
}

/// A value that JSON can express without loss: whole numbers of up to 14 digits, halves of them,
/// any bytes as strings, arrays that are not empty, objects whose keys are strings.
fn random_value(lua: &Lua, rng: &mut Rng, depth: u32) -> mlua::Result<Value> {
    Ok(match rng.u32(0..if depth > 4 { 5 } else { 8 }) {
        0 => Value::NULL,
        1 => Value::Boolean(rng.bool()),
        2 => Value::Number(rng.i64(-10_000_000_000_000..10_000_000_000_000) as f64),
        3 => Value::Number(rng.i64(-1_000_000..1_000_000) as f64 / 2.0),
        4 => Value::String(lua.create_string(random_bytes(rng))?),
        5 | 6 => {
            let table = lua.create_table()?;
            for index in 1..=rng.usize(1..6) {
                table.raw_set(index, random_value(lua, rng, depth + 1)?)?;
            }
            Value::Table(table)
        }
        _ => {
            let table = lua.create_table()?;
            for _ in 0..rng.usize(0..6) {
                let key = lua.create_string(random_bytes(rng))?;
                table.raw_set(key, random_value(lua, rng, depth + 1)?)?;
            }
            Value::Table(table)
        }
    })
}

fn random_bytes(rng: &mut Rng) -> Vec<u8> {
    (0..rng.usize(0..20)).map(|_| rng.u8(..)).collect()
}

#[test]
fn what_was_encoded_decodes_to_itself() -> mlua::Result<()> {
    let lua = testing::lua()?;
    let library: Table = lua.globals().get("cjson")?;
    let encode: mlua::Function = library.get("encode")?;
    let decode: mlua::Function = library.get("decode")?;
    for seed in 0..300 {
        let value = random_value(&lua, &mut Rng::with_seed(seed), 0)?;
        let text: mlua::LuaString = encode.call(&value)?;
        let back: Value = decode.call(&text)?;
        assert!(testing::same(&value, &back)?, "seed {seed}: {text:?}");
    }
    Ok(())
}

#[test]
fn damaged_texts_are_refused_or_read_but_never_more() -> mlua::Result<()> {
    let lua = testing::lua()?;
    let library: Table = lua.globals().get("cjson")?;
    let decode: mlua::Function = library.get("decode")?;
    let text = br#"{"a":[1,-2.5e3,true,null,"x\u00e9\ud83d\ude00"],"b":{"c":[[],{}]}}"#;
    let mut rng = Rng::with_seed(5);
    for _ in 0..3000 {
        let mut text = text.to_vec();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..text.len());
            text[at] = rng.u8(..);
        }
        text.truncate(rng.usize(..=text.len()));
        // Either answer is fine.
        let _ = decode.call::<Value>(lua.create_string(&text)?);
    }
    Ok(())
}
