use fastrand::Rng;
use mlua::{Lua, Table, Value};

use crate::script::testing;

#[test]
fn answers_are_those_of_redis() -> mlua::Result<()> {
    testing::compare(include_str!("golden.txt"))
}

#[test]
fn values_of_all_sizes_come_back() -> mlua::Result<()> {
    let script = r#"
        local big, map_big = {}, {}
        for i = 1, 100000 do
            big[i] = i
            map_big[tostring(i)] = i
        end
        local map = {
            s1 = ("x"):rep(30), s2 = ("x"):rep(250), s3 = ("x"):rep(65530), s4 = ("x"):rep(100000),
            d1 = 0.1, i1 = 1, i2 = 250, i3 = 65530, i4 = 100000, i5 = 2^40, i6 = -1, i7 = -120,
            i8 = -32000, i9 = -100000, i10 = -3147483648, b1 = false, b2 = true, n = nil,
            a1 = {1, 2, 3, 4, 5}, a2 = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17},
            a3 = big, m1 = {a = 1, b = 2}, m2 = map_big}
        local function same(a, b)
            if type(a) ~= "table" then return a == b end
            for k, v in pairs(a) do if not same(v, b[k]) then return false end end
            for k in pairs(b) do if a[k] == nil then return false end end
            return true
        end
        local encoded = cmsgpack.pack(map)
        assert(same(map, cmsgpack.unpack(encoded)))
        local offset, one = cmsgpack.unpack_one(encoded, 0)
        assert(same(map, one) and offset == -1)
        local several = cmsgpack.pack(map.s1, map.s2, map.s3, map.s4)
        offset = 0
        for _, name in ipairs({"s1", "s2", "s3", "s4"}) do
            local value
            offset, value = cmsgpack.unpack_limit(several, 1, offset)
            assert(value == map[name])
        end
        return offset"#;
    assert_eq!(testing::run(script)?, ["-1"]);
    Ok(())
}

#[test]
fn numbers_have_the_bytes_they_should() -> mlua::Result<()> {
    let script = r#"
        local function hex(text)
            return (text:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
        end
        return hex(cmsgpack.pack(0.1)), hex(cmsgpack.pack(-1099511627776))"#;
    assert_eq!(
        testing::run(script)?,
        ["cb3fb999999999999a", "d3ffffff0000000000"]
    );
    Ok(())
}

#[test]
fn circles_end_at_the_sixteenth_table() -> mlua::Result<()> {
    // The order of a table's keys is Lua's own, so the sizes are compared and not the bytes.
    let script = r#"
        local a = {x = nil, y = 5}
        local b = {x = a}
        a.x = b
        local encoded = cmsgpack.pack(a)
        local re = cmsgpack.unpack(encoded)
        local at = re
        for level = 1, 15 do
            at = at.x
            assert(at.y == (level % 2 == 0 and 5 or nil))
        end
        assert(at.x == nil)
        return #encoded"#;
    assert_eq!(testing::run(script)?, ["73"]);
    Ok(())
}

#[test]
fn what_is_too_much_is_refused() -> mlua::Result<()> {
    let script = r#"
        local wide = ("x"):rep(1000)
        for i = 1, 15 do
            local inner = wide
            wide = {}
            for j = 1, 16 do wide[j] = inner end
        end
        local ok, wide_error = pcall(cmsgpack.pack, wide)
        local ok, argument_error = pcall(cmsgpack.pack, unpack({}, 1, 5000))
        -- A length alone asks for nothing.
        local ok, length_error = pcall(cmsgpack.unpack, ("\221\255\255\255\255"):rep(1000))
        return wide_error, argument_error, length_error"#;
    assert_eq!(
        testing::run(script)?,
        [
            "not enough memory",
            "bad argument #0 to '?' (Too many arguments for MessagePack pack.)",
            "Missing bytes in input.",
        ]
    );
    Ok(())
}

fn random_value(lua: &Lua, rng: &mut Rng, depth: u32) -> mlua::Result<Value> {
    Ok(match rng.u32(0..if depth > 4 { 5 } else { 8 }) {
        0 => Value::Boolean(rng.bool()),
        1 => Value::Number(rng.i64(..) as f64),
        2 => Value::Number((rng.i64(..) >> rng.u32(0..63)) as f64),
        3 => Value::Number(rng.i64(..) as f64 / 1e9),
        4 => {
            let bits = rng.u32(0..10);
            let len = rng.usize(0..1 << bits);
            let bytes: Vec<u8> = (0..len).map(|_| rng.u8(..)).collect();
            Value::String(lua.create_string(bytes)?)
        }
        5 | 6 => {
            let table = lua.create_table()?;
            for index in 1..=rng.usize(0..20) {
                table.raw_set(index, random_value(lua, rng, depth + 2)?)?;
            }
            Value::Table(table)
        }
        _ => {
            let table = lua.create_table()?;
            for _ in 0..rng.usize(0..20) {
                let key = random_value(lua, rng, 5)?;
                table.raw_set(key, random_value(lua, rng, depth + 2)?)?;
            }
            Value::Table(table)
        }
    })
}

#[test]
fn what_was_packed_unpacks_to_itself() -> mlua::Result<()> {
    let lua = testing::lua()?;
    let library: Table = lua.globals().get("cmsgpack")?;
    let pack: mlua::Function = library.get("pack")?;
    let unpack: mlua::Function = library.get("unpack")?;
    for seed in 0..200 {
        let value = random_value(&lua, &mut Rng::with_seed(seed), 0)?;
        let text: mlua::LuaString = pack.call(&value)?;
        let back: Value = unpack.call(&text)?;
        assert!(testing::same(&value, &back)?, "seed {seed}: {text:?}");
    }
    Ok(())
}

#[test]
fn any_bytes_are_refused_or_read_but_never_more() -> mlua::Result<()> {
    let lua = testing::lua()?;
    let library: Table = lua.globals().get("cmsgpack")?;
    let unpack: mlua::Function = library.get("unpack")?;
    let mut rng = Rng::with_seed(6);
    for _ in 0..3000 {
        let text: Vec<u8> = (0..rng.usize(0..60))
            .map(|_| {
                if rng.bool() {
                    rng.u8(0x80..)
                } else {
                    rng.u8(..)
                }
            })
            .collect();
        // Either answer is fine.
        let _ = unpack.call::<mlua::MultiValue>(lua.create_string(&text)?);
    }
    Ok(())
}
