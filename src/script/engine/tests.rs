use super::*;
use crate::script::{Store, digest};

fn clock() -> u64 {
    0
}

fn manner() -> Manner {
    Manner {
        version: "7.4.0",
        seed: 1,
        deprecated: false,
    }
}

/// Runs a script whose commands are answered by `reply`; returns what they were and its reply.
fn run(text: &str, reply: impl Fn(&Args) -> String) -> (Vec<String>, String) {
    run_in(manner(), text, reply)
}

fn run_in(manner: Manner, text: &str, reply: impl Fn(&Args) -> String) -> (Vec<String>, String) {
    let store = Store::default();
    let mut engine = Engine::new(manner, clock).expect("Lua");
    let mut words = ArgBuf::default();
    for word in ["k1", "k2", "a1"] {
        words.push(word.as_bytes());
    }
    let words = words.as_args();
    let script = match engine.load(text.as_bytes(), &store) {
        Ok(script) => script,
        Err(error) => return (Vec::new(), format!("-{error}")),
    };
    let mut run = engine
        .begin(&script, &words.range(0, 2), &words.from(2))
        .expect("begins");
    let (mut asked, mut args, mut out) = (Vec::new(), ArgBuf::default(), Output::default());
    let mut given: Option<String> = None;
    loop {
        let given_now = given.take();
        let bytes = given_now.as_ref().map(String::as_bytes);
        let mut writer = Writer::new(&mut out, Proto::Resp2);
        match engine.resume(&mut run, bytes, 0, &mut args, &mut writer) {
            Step::Done { .. } => {
                let reply = String::from_utf8_lossy(&out.to_vec()).into_owned();
                return (asked, reply);
            }
            Step::Check => given = Some("_\r\n".into()),
            Step::Paused => asked.push("pause".into()),
            Step::Call => {
                let args = args.as_args();
                let words = args.iter().map(|word| String::from_utf8_lossy(word));
                asked.push(words.collect::<Vec<_>>().join(" "));
                given = Some(reply(&args));
            }
        }
    }
}

#[test]
fn no_script_keeps_the_garbage_of_others() {
    for text in [
        "collectgarbage('stop')",
        "collectgarbage('setpause', 1000000)",
        "collectgarbage('setstepmul', 0) collectgarbage('restart')",
    ] {
        let store = Store::default();
        let mut engine = Engine::new(manner(), clock).expect("Lua");
        let mut run = |text: &str| {
            let none = ArgBuf::default();
            let script = engine.load(text.as_bytes(), &store).expect("a script");
            let none = none.as_args();
            let mut run = engine.begin(&script, &none, &none).expect("begins");
            let (mut args, mut out) = (ArgBuf::default(), Output::default());
            let mut writer = Writer::new(&mut out, Proto::Resp2);
            while engine.resume(&mut run, None, 0, &mut args, &mut writer) == Step::Paused {}
            engine.memory_bytes()
        };
        run(text);
        let most = (0..300)
            .map(|_| run("local t = {} for i = 1, 10000 do t[i] = {} end"))
            .max();
        assert!(most < Some(16 << 20), "{text}: {most:?} bytes");
    }
}

/// Forgetting scripts gives back what they took, also the buffer of their longest string and the
/// arguments that are still to be seen.
#[test]
fn what_scripts_leave_behind_goes_with_them() {
    const LONG: usize = 16 << 20;
    let store = Store::default();
    let mut engine = Engine::new(manner(), clock).expect("Lua");
    let idle_bytes = engine.memory_bytes();
    let text = format!("return #(string.rep('x', {LONG}) .. ARGV[1])");
    let script = engine.load(text.as_bytes(), &store).expect("compiles");
    let mut words = ArgBuf::default();
    words.push(&vec![b'x'; LONG]);
    let words = words.as_args();
    let mut run = engine
        .begin(&script, &words.range(0, 0), &words)
        .expect("begins");
    let (mut args, mut out) = (ArgBuf::default(), Output::default());
    let mut writer = Writer::new(&mut out, Proto::Resp2);
    let step = engine.resume(&mut run, None, u64::MAX, &mut args, &mut writer);
    assert_eq!(step, Step::Done { counted: false });
    drop(run);
    store.clear();
    engine.forget_old(&store);
    let left_bytes = engine.memory_bytes();
    assert!(left_bytes < idle_bytes + LONG / 16, "{left_bytes}");
    assert!(engine.find(&digest(text.as_bytes()), &store).is_none());
}

fn reply_of(text: &str) -> String {
    run(text, |_| "+OK\r\n".into()).1
}

#[test]
fn values_become_replies() {
    for (text, reply) in [
        ("return 1", ":1\r\n"),
        ("return 3.99", ":3\r\n"),
        ("return -3.99", ":-3\r\n"),
        ("return 2^63", ":-9223372036854775808\r\n"),
        ("return 0/0", ":-9223372036854775808\r\n"),
        ("return 'x'", "$1\r\nx\r\n"),
        ("return true", ":1\r\n"),
        ("return false", "$-1\r\n"),
        ("return nil", "$-1\r\n"),
        ("return", "$-1\r\n"),
        ("return {1,{'a'},nil,4}", "*2\r\n:1\r\n*1\r\n$1\r\na\r\n"),
        ("return {ok='fine'}", "+fine\r\n"),
        ("return {err='ERR bad'}", "-ERR bad\r\n"),
        ("return redis.error_reply('My Err')", "-My Err\r\n"),
        ("return redis.error_reply('-MY Err\\n')", "-MY Err\r\n"),
        ("return redis.error_reply('MyErr')", "-ERR MyErr\r\n"),
        ("return redis.status_reply('done')", "+done\r\n"),
        ("return {double=3.5}", "$3\r\n3.5\r\n"),
        (
            "return {KEYS[1],KEYS[2],ARGV[1],KEYS[3]}",
            "*3\r\n$2\r\nk1\r\n$2\r\nk2\r\n$2\r\na1\r\n",
        ),
        (
            "return redis.sha1hex('')",
            "$40\r\nda39a3ee5e6b4b0d3255bfef95601890afd80709\r\n",
        ),
        ("return redis.REDIS_VERSION_NUM", ":459776\r\n"),
        ("return bit.band(7, 10)", ":2\r\n"),
    ] {
        assert_eq!(reply_of(text), reply, "{text}");
    }
}

#[test]
fn long_scripts_are_paused_wherever_they_are() {
    let long = "for i = 1, 300000 do end";
    for (text, reply) in [
        (format!("{long} return 1"), ":1\r\n"),
        (
            format!("return {{pcall(function() {long} error('x', 0) end)}}"),
            "*2\r\n$-1\r\n$1\r\nx\r\n",
        ),
        (
            format!(
                "local next = coroutine.wrap(function(a) {long} a = a + coroutine.yield() \
                 {long} return a end) next(1) return next(2)"
            ),
            ":3\r\n",
        ),
        (
            format!("return (string.gsub('ab', '.', function(c) {long} return c .. c end))"),
            "$4\r\naabb\r\n",
        ),
        (
            format!(
                "local t = {{2, 1}} table.sort(t, function(a, b) {long} return a < b end) return t"
            ),
            "*2\r\n:1\r\n:2\r\n",
        ),
        (
            format!("return setmetatable({{}}, {{__index = function() {long} return 7 end}}).x"),
            ":7\r\n",
        ),
    ] {
        let (asked, got) = run(&text, |_| String::new());
        assert_eq!(got, reply, "{text}");
        assert!(asked.iter().all(|what| what == "pause"), "{text}");
        assert!(!asked.is_empty(), "{text}");
    }
    // Nobody can suspend what C calls: it runs through.
    let sort = format!(
        "local m = {{__lt = function(a, b) {long} return a.v < b.v end}} \
         local t = {{setmetatable({{v = 2}}, m), setmetatable({{v = 1}}, m)}} \
         table.sort(t) return t[1].v"
    );
    assert_eq!(reply_of(&sort), ":1\r\n");
}

#[test]
fn a_paused_script_can_be_ended() {
    let store = Store::default();
    let mut engine = Engine::new(manner(), clock).expect("Lua");
    let text = b"\nwhile true do pcall(function() while true do end end) end";
    let script = engine.load(text, &store).expect("compiles");
    let none = ArgBuf::default();
    let mut run = engine
        .begin(&script, &none.as_args(), &none.as_args())
        .expect("begins");
    let (mut args, mut out) = (ArgBuf::default(), Output::default());
    let mut writer = Writer::new(&mut out, Proto::Resp2);
    for _ in 0..2 {
        let step = engine.resume(&mut run, None, 0, &mut args, &mut writer);
        assert_eq!(step, Step::Paused);
    }
    assert_eq!(
        engine.kill(&run, &mut writer),
        Step::Done { counted: false }
    );
    let reply = String::from_utf8_lossy(&out.to_vec()).into_owned();
    assert!(
        reply.starts_with("-ERR Script killed by user with SCRIPT KILL. script: "),
        "{reply}"
    );
    assert!(reply.ends_with(", on @user_script:2.\r\n"), "{reply}");
}

#[test]
fn a_table_within_itself_is_cut_off() {
    let reply = reply_of("local a = {}; a[1] = a; return a");
    assert!(reply.ends_with("-ERR reached lua stack limit\r\n"));
}

#[test]
fn commands_are_asked_for_and_answered() {
    let answer = |args: &Args| match args.name() {
        b"get" => "$3\r\nval\r\n".into(),
        b"incr" => ":7\r\n".into(),
        b"bad" => "-WRONGTYPE no\r\n".into(),
        b"nil" => "$-1\r\n".into(),
        b"list" => "*2\r\n:1\r\n$1\r\nx\r\n".into(),
        _ => "+OK\r\n".to_owned(),
    };
    for (text, asked, reply) in [
        (
            "return redis.call('get', KEYS[1])",
            "get k1",
            "$3\r\nval\r\n",
        ),
        (
            "return redis.call('set', 'a', 10/4)",
            "set a 2.5",
            "+OK\r\n",
        ),
        (
            "return redis.call('set', 'a', 2^53)",
            "set a 9007199254740992",
            "+OK\r\n",
        ),
        (
            "return redis.call('set', 'a', 1e20)",
            "set a 1e+20",
            "+OK\r\n",
        ),
        ("return redis.call('incr', 'a') + 1", "incr a", ":8\r\n"),
        ("return redis.call('list')[2]", "list", "$1\r\nx\r\n"),
        ("return redis.call('nil') == false", "nil", ":1\r\n"),
        (
            "return redis.pcall('bad').err",
            "bad",
            "$12\r\nWRONGTYPE no\r\n",
        ),
        (
            "return {pcall(redis.call, 'bad')}",
            "bad",
            "*2\r\n$-1\r\n$12\r\nWRONGTYPE no\r\n",
        ),
        (
            "return select(2, pcall(redis.call, 'bad'))",
            "bad",
            "$12\r\nWRONGTYPE no\r\n",
        ),
        ("return redis.call('x').ok", "x", "$2\r\nOK\r\n"),
        (
            "return ({string.gsub('a b', '%a', function(c) return redis.call('get', c) end)})[1]",
            "get a,get b",
            "$7\r\nval val\r\n",
        ),
        (
            "local t = {3,1,2}; table.sort(t, function(a, b) redis.call('x'); return a > b end); return t",
            "x,x,x",
            "*3\r\n:3\r\n:2\r\n:1\r\n",
        ),
        (
            "local f = coroutine.wrap(function() coroutine.yield(redis.call('incr')) end); return f()",
            "incr",
            ":7\r\n",
        ),
        (
            "local t = setmetatable({}, {__index = function(_, k) return redis.call('get', k) end}); return t.z",
            "get z",
            "$3\r\nval\r\n",
        ),
    ] {
        let (commands, got) = run(text, answer);
        assert_eq!(
            (commands.join(",").as_str(), got.as_str()),
            (asked, reply),
            "{text}"
        );
    }
}

#[test]
fn errors_say_where() {
    let name = |text: &str| String::from_utf8_lossy(&digest(text.as_bytes())).into_owned();
    for (text, error) in [
        (
            "return foo",
            "ERR user_script:1: Script attempted to access nonexistent global variable 'foo'",
        ),
        (
            "\nfoo = 1",
            "ERR user_script:2: Attempt to modify a readonly table",
        ),
        (
            "redis.call = 1",
            "ERR user_script:1: Attempt to modify a readonly table",
        ),
        (
            "setmetatable(_G, {})",
            "ERR Attempt to modify a readonly table",
        ),
        (
            "rawset(_G, 'x', 1)",
            "ERR Attempt to modify a readonly table",
        ),
        ("error('boo')", "ERR user_script:1: boo"),
        ("error({err='MY code'})", "MY code"),
        (
            "redis.call()",
            "ERR Please specify at least one argument for this redis lib call",
        ),
        (
            "redis.call({})",
            "ERR Lua redis lib command arguments must be strings or integers",
        ),
        ("redis.call('bad')", "OOPS no"),
        ("local function f() redis.call('bad') end f()", "OOPS no"),
        (
            "return nil + 1",
            "ERR user_script:1: attempt to perform arithmetic on a nil value",
        ),
        (
            "loadstring('return foo')()",
            "ERR [string \"return foo\"]:1: Script attempted to access nonexistent global variable 'foo'",
        ),
    ] {
        let line = 1 + text.matches('\n').count();
        let whole = format!(
            "-{error} script: {}, on @user_script:{line}.\r\n",
            name(text)
        );
        assert_eq!(run(text, |_| "-OOPS no\r\n".into()).1, whole, "{text}");
    }
    assert_eq!(
        reply_of("return ("),
        "-ERR Error compiling script (new function): user_script:1: unexpected symbol near '<eof>'"
    );
}

#[test]
fn the_world_is_out_of_reach() {
    for name in [
        "os", "io", "require", "dofile", "loadfile", "jit", "ffi", "debug", "package", "print",
        "setfenv", "getfenv", "newproxy",
    ] {
        let text = format!("return pcall(function() return {name} end) and 1 or 0");
        assert_eq!(reply_of(&text), ":0\r\n", "{name}");
    }
    assert_eq!(
        reply_of("return load(string.dump(function() end)) == nil"),
        ":1\r\n"
    );
}

#[test]
fn deprecated_functions_reach_no_further() {
    let manner = Manner {
        deprecated: true,
        ..manner()
    };
    for (text, reply) in [
        (
            "local f = function() return x end setfenv(f, {x = 7}) return f()",
            ":7\r\n",
        ),
        ("return getfenv(function() end) == _G", ":1\r\n"),
        ("setfenv(1, {y = 3}) return y", ":3\r\n"),
        ("local e = getfenv() return e.KEYS ~= nil", ":1\r\n"),
        ("return getfenv(0) == _G", ":1\r\n"),
        ("return pcall(getfenv, redis.log) and 1 or 0", ":0\r\n"),
        ("return pcall(setfenv, redis.log, {}) and 1 or 0", ":0\r\n"),
        ("return pcall(setfenv, 0, {}) and 1 or 0", ":0\r\n"),
        ("return pcall(getfenv, 2) and 1 or 0", ":0\r\n"),
        ("return type(newproxy(true))", "$8\r\nuserdata\r\n"),
    ] {
        assert_eq!(
            run_in(manner, text, |_| "+OK\r\n".into()).1,
            reply,
            "{text}"
        );
    }
}

#[test]
fn scripts_under_way_do_not_see_each_other() {
    let store = Store::default();
    let mut engine = Engine::new(manner(), clock).expect("Lua");
    let script = engine
        .load(b"redis.call('x'); return KEYS[1]", &store)
        .expect("compiles");
    let mut names = ArgBuf::default();
    names.push(b"one");
    names.push(b"two");
    let names = names.as_args();
    let none = names.range(0, 0);
    let mut runs = [0, 1].map(|at| {
        let keys = names.range(at, at + 1);
        engine.begin(&script, &keys, &none).expect("begins")
    });
    let (mut args, mut out) = (ArgBuf::default(), Output::default());
    for round in 0..2 {
        for run in &mut runs {
            let reply = (round > 0).then_some(&b"+OK\r\n"[..]);
            let mut writer = Writer::new(&mut out, Proto::Resp2);
            engine.resume(run, reply, u64::MAX, &mut args, &mut writer);
        }
    }
    assert_eq!(out.to_vec(), b"$3\r\none\r\n$3\r\ntwo\r\n");
}

#[test]
fn calls_have_thousands_of_arguments() {
    let call = "local t = {'x'} for i = 2, 7900 do t[i] = 'y' end return redis.call(unpack(t))";
    for text in [
        call.to_owned(),
        format!("return coroutine.wrap(function() {call} end)()"),
        format!(
            "return coroutine.wrap(function() return coroutine.wrap(function() {call} end)() end)()"
        ),
    ] {
        let (_, reply) = run(&text, |args| format!(":{}\r\n", args.len()));
        assert_eq!(reply, ":7900\r\n", "{text}");
    }
}

#[test]
fn scripts_stay_apart_when_others_are_forgotten() {
    let store = Store::default();
    let mut engine = Engine::new(manner(), clock).expect("Lua");
    let none = ArgBuf::default();
    let (mut args, mut out) = (ArgBuf::default(), Output::default());
    for round in 0..4 {
        let texts: Vec<String> = (0..50)
            .map(|at| format!("return {}", round * 100 + at))
            .collect();
        for text in &texts {
            // They are known, have run, and are forgotten in turns.
            let script = engine.load(text.as_bytes(), &store).expect("compiles");
            let mut run = engine
                .begin(&script, &none.as_args(), &none.as_args())
                .expect("begins");
            let mut writer = Writer::new(&mut out, Proto::Resp2);
            engine.resume(&mut run, None, u64::MAX, &mut args, &mut writer);
        }
        let numbers = (0..50).map(|at| format!(":{}\r\n", round * 100 + at));
        let expected: String = numbers.collect();
        assert_eq!(String::from_utf8_lossy(&out.to_vec()), expected);
        out.clear();
        for name in texts.iter().map(|text| digest(text.as_bytes())) {
            assert!(engine.find(&name, &store).is_some());
        }
        store.clear();
    }
}

#[test]
fn a_run_that_is_given_up_leaves_nothing_behind() {
    let store = Store::default();
    let mut engine = Engine::new(manner(), clock).expect("Lua");
    let script = engine
        .load(
            b"local was = KEYS[1] redis.call('x') return {was, KEYS[1]}",
            &store,
        )
        .expect("compiles");
    let (mut args, mut out) = (ArgBuf::default(), Output::default());
    let names: ArgBuf = [&b"given-up"[..], b"kept"].into_iter().collect();
    let names = names.as_args();
    for _ in 0..40 {
        let mut writer = Writer::new(&mut out, Proto::Resp2);
        let mut begin = |at| engine.begin(&script, &names.range(at, at + 1), &names.range(0, 0));
        let (mut given_up, mut kept) = (begin(0).expect("begins"), begin(1).expect("begins"));
        for run in [&mut kept, &mut given_up] {
            let step = engine.resume(run, None, u64::MAX, &mut args, &mut writer);
            assert_eq!(step, Step::Call);
        }
        drop(given_up);
        let reply = Some(&b"+OK\r\n"[..]);
        engine.resume(&mut kept, reply, u64::MAX, &mut args, &mut writer);
        assert_eq!(out.to_vec(), b"*2\r\n$4\r\nkept\r\n$4\r\nkept\r\n");
        out.clear();
    }
}
