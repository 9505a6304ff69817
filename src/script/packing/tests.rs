use fastrand::Rng;
use mlua::{Function, MultiValue, Table, Value};

use crate::script::testing;

#[test]
fn answers_are_those_of_redis() -> mlua::Result<()> {
    testing::compare(include_str!("golden.txt"))
}

/// A random field: its format and a value that fits it.
fn random_field(lua: &mlua::Lua, rng: &mut Rng) -> mlua::Result<(String, Option<Value>)> {
    let signed = |rng: &mut Rng, bits: u32| Value::Number((rng.i64(..) >> (64 - bits)) as f64);
    let unsigned = |rng: &mut Rng, bits: u32| Value::Number((rng.u64(..) >> (64 - bits)) as f64);
    Ok(match rng.u32(0..14) {
        0 => ("b".into(), Some(signed(rng, 8))),
        1 => ("B".into(), Some(unsigned(rng, 8))),
        2 => ("h".into(), Some(signed(rng, 16))),
        3 => ("H".into(), Some(unsigned(rng, 16))),
        // A double holds 53 bits.
        4 => ("l".into(), Some(signed(rng, 53))),
        5 => ("T".into(), Some(unsigned(rng, 53))),
        6 => {
            let size = rng.u32(1..=6);
            (format!("i{size}"), Some(signed(rng, 8 * size)))
        }
        7 => {
            let size = rng.u32(1..=6);
            (format!("I{size}"), Some(unsigned(rng, 8 * size)))
        }
        8 => ("f".into(), Some(Value::Number(f64::from(rng.f32())))),
        9 => ("d".into(), Some(Value::Number(rng.f64()))),
        10 => {
            let bytes: Vec<u8> = (0..rng.usize(1..9)).map(|_| rng.u8(..)).collect();
            let text = lua.create_string(&bytes)?;
            (format!("c{}", bytes.len()), Some(Value::String(text)))
        }
        11 => {
            let bytes: Vec<u8> = (0..rng.usize(0..9)).map(|_| rng.u8(1..)).collect();
            ("s".into(), Some(Value::String(lua.create_string(&bytes)?)))
        }
        12 => (
            ["<", ">", "!2", "!4", "!", " "][rng.usize(..6)].into(),
            None,
        ),
        _ => ("x".into(), None),
    })
}

#[test]
fn what_was_packed_unpacks_to_itself() -> mlua::Result<()> {
    let lua = testing::lua()?;
    let library: Table = lua.globals().get("struct")?;
    let pack: Function = library.get("pack")?;
    let unpack: Function = library.get("unpack")?;
    for seed in 0..500 {
        let mut rng = Rng::with_seed(seed);
        let mut format = String::new();
        let mut values = MultiValue::new();
        for _ in 0..rng.usize(0..20) {
            let (field, value) = random_field(&lua, &mut rng)?;
            format.push_str(&field);
            values.extend(value);
        }
        let mut arguments = values.clone();
        arguments.push_front(Value::String(lua.create_string(&format)?));
        let data: mlua::LuaString = pack.call(arguments)?;
        let mut back: MultiValue = unpack.call((format.as_str(), &data))?;
        let next = back.pop_back();
        let next = next.and_then(|next| next.as_usize());
        assert_eq!(
            next,
            Some(data.as_bytes().len() + 1),
            "seed {seed}: {format}"
        );
        assert_eq!(back.len(), values.len(), "seed {seed}: {format}");
        for (value, back) in values.iter().zip(&back) {
            assert!(testing::same(value, back)?, "seed {seed}: {format}");
        }
    }
    Ok(())
}

#[test]
fn any_format_and_data_are_refused_or_read_but_never_more() -> mlua::Result<()> {
    let lua = testing::lua()?;
    let library: Table = lua.globals().get("struct")?;
    let unpack: Function = library.get("unpack")?;
    let size: Function = library.get("size")?;
    let mut rng = Rng::with_seed(7);
    for _ in 0..3000 {
        let letters = b"bBhHlLTiIfdxcs<>! 0123456789";
        let format: Vec<u8> = (0..rng.usize(0..12))
            .map(|_| letters[rng.usize(..letters.len())])
            .collect();
        let format = lua.create_string(&format)?;
        let data: Vec<u8> = (0..rng.usize(0..40)).map(|_| rng.u8(..)).collect();
        let position = rng.i64(-3..50);
        // Either answer is fine.
        let _ = size.call::<Value>(&format);
        let _ = unpack.call::<MultiValue>((&format, lua.create_string(&data)?, position));
    }
    Ok(())
}
