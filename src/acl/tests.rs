//! Rules in, permissions and texts out. The expected texts are what Redis 7.0.15 replies, where its
//! order is not one of chance.

use super::*;
use crate::command::{Lookup, Table};
use crate::resp::ArgBuf;

fn table() -> Table {
    Table::new(&[]).unwrap()
}

fn users() -> Users {
    Users::new(&table())
}

fn words(line: &str) -> Vec<&[u8]> {
    line.split(' ').map(str::as_bytes).collect()
}

/// The users after ACL SETUSER u with these rules.
fn with(users: &Users, rules: &str) -> Result<Users, String> {
    let result = users.set(b"u", &words(rules), false);
    result.map_err(|error| String::from_utf8_lossy(&error.text()).into_owned())
}

fn line(rules: &str) -> String {
    let users = with(&users(), rules).unwrap();
    let line = users.get(b"u").unwrap().line(users.catalog());
    String::from_utf8(line).unwrap()
}

fn args(text: &str) -> ArgBuf {
    text.split(' ').map(str::as_bytes).collect()
}

/// What is denied, if something is.
fn check(users: &Users, request: &str) -> Option<(Reason, usize)> {
    let table = table();
    let args = args(request);
    let Lookup::Found(entry) = table.lookup(&args.as_args()) else {
        panic!("no command: {request}");
    };
    let user = users.get(b"u").unwrap();
    let checked = user.check(entry, &args.as_args());
    checked.err().map(|denied| (denied.reason, denied.at))
}

#[test]
fn rules_are_told_as_short_as_redis_tells_them() {
    let cases = [
        ("", "user u off resetchannels -@all"),
        ("on nopass ~* &* +@all", "user u on nopass ~* &* +@all"),
        ("reset", "user u off sanitize-payload resetchannels -@all"),
        (
            "skip-sanitize-payload",
            "user u off skip-sanitize-payload resetchannels -@all",
        ),
        ("+@all -@string", "user u off resetchannels +@all -@string"),
        ("+@string", "user u off resetchannels -@all +@string"),
        ("+get", "user u off resetchannels -@all +get"),
        ("+GET +get", "user u off resetchannels -@all +get"),
        ("+@all -get +get", "user u off resetchannels +@all"),
        (
            "+config -config|set",
            "user u off resetchannels -@all +config -config|set",
        ),
        (
            "+@all -client +client|id",
            "user u off resetchannels +@all -client +client|id",
        ),
        (
            "+select|0 +select|1 +SELECT|0",
            "user u off resetchannels -@all +select|0 +select|1",
        ),
        (
            "+select|0 +select",
            "user u off resetchannels -@all +select",
        ),
        ("+select|0 -select", "user u off resetchannels -@all"),
        (
            "%R~a %W~a %rw~b %R~c",
            "user u off ~a ~b %R~c resetchannels -@all",
        ),
        ("%W~x ~y resetkeys ~z", "user u off ~z resetchannels -@all"),
        ("&a &b &a", "user u off resetchannels &a &b -@all"),
        (
            "allchannels resetchannels &a",
            "user u off resetchannels &a -@all",
        ),
        (
            "on (~a +get) ( ~b  +set )",
            "user u on resetchannels -@all (~a resetchannels -@all +get) (~b resetchannels -@all +set)",
        ),
        ("(~a +get) clearselectors", "user u off resetchannels -@all"),
        (
            "#34344e4d60c2b6d639b7bd22e18f2b0b91bc34bf0ac5f9952744435093cfb4e6 >passwd4",
            "user u off #34344e4d60c2b6d639b7bd22e18f2b0b91bc34bf0ac5f9952744435093cfb4e6 \
             resetchannels -@all",
        ),
        (">a nopass", "user u off nopass resetchannels -@all"),
        (">a <a", "user u off resetchannels -@all"),
    ];
    for (rules, expected) in cases {
        assert_eq!(line(rules), expected, "{rules}");
    }
}

#[test]
fn each_category_is_told_as_itself() {
    for (_, name) in crate::command::flags::CATEGORY_NAMES {
        let expected = format!("user u off resetchannels +@all -@{name}");
        assert_eq!(line(&format!("+@all -@{name}")), expected);
        let expected = format!("user u off resetchannels -@all +@{name}");
        assert_eq!(line(&format!("+@{name}")), expected);
    }
}

#[test]
fn what_is_told_makes_the_same_user_again() {
    let mut random = fastrand::Rng::with_seed(7);
    let (all, base) = (table(), users());
    let commands = base.catalog().all();
    let categories = crate::command::flags::CATEGORY_NAMES;
    for round in 0..300 {
        let mut rules: Vec<Vec<u8>> = Vec::new();
        for _ in 0..random.usize(1..12) {
            let sign = if random.bool() { "+" } else { "-" };
            let command = &commands[random.usize(..commands.len())].name;
            let category = categories[random.usize(..categories.len())].1;
            rules.push(match random.u8(..12) {
                0 => b"+@all".to_vec(),
                1 => b"-@all".to_vec(),
                2 => b"+select|1".to_vec(),
                3 => b"%R~a*".to_vec(),
                4 => b"resetkeys".to_vec(),
                5 => b"&news".to_vec(),
                6 => b">secret".to_vec(),
                7..=9 => format!("{sign}@{category}").into_bytes(),
                _ => format!("{sign}{command}").into_bytes(),
            });
        }
        let rules: Vec<&[u8]> = rules.iter().map(Vec::as_slice).collect();
        let made = base.set(b"u", &rules, false).unwrap();
        let line = made.get(b"u").unwrap().line(made.catalog());
        let told: Vec<&[u8]> = line.split(|&byte| byte == b' ').skip(2).collect();
        let again = base.set(b"u", &told, false).unwrap();
        let line_again = again.get(b"u").unwrap().line(again.catalog());
        assert_eq!(line_again, line, "round {round}");
        for listed in commands {
            let request = ArgBuf::from_iter(listed.name.split('|').map(str::as_bytes));
            let entry = all.entry(listed.id);
            let allowed = |users: &Users| {
                let user = users.get(b"u").unwrap();
                let denied = user.check(entry, &request.as_args()).err();
                denied.is_none_or(|denied| denied.reason != Reason::Command)
            };
            assert_eq!(
                allowed(&made),
                allowed(&again),
                "round {round}: {}",
                listed.name
            );
        }
    }
}

#[test]
fn rules_that_cannot_be_say_why() {
    let cases = [
        (
            "+nosuch",
            "'+nosuch': Unknown command or category name in ACL",
        ),
        (
            "+@nosuch",
            "'+@nosuch': Unknown command or category name in ACL",
        ),
        (
            "+config|nosuch",
            "'+config|nosuch': Unknown command or category name in ACL",
        ),
        (
            "-config|nosuch",
            "'-config|nosuch': Unknown command or category name in ACL",
        ),
        (
            "-select|0",
            "'-select|0': Unknown command or category name in ACL",
        ),
        (
            "+get|a|b",
            "'+get|a|b': Unknown command or category name in ACL",
        ),
        (
            "+config|get|x",
            "'+config|get|x': Allowing first-arg of a subcommand is not supported",
        ),
        ("+debug|", "'+debug|': Syntax error"),
        ("%~", "'%~': Syntax error"),
        ("%", "'%': Syntax error"),
        ("%RR~x", "'%RR~x': Syntax error"),
        ("%RX~x", "'%RX~x': Syntax error"),
        ("bogus", "'bogus': Syntax error"),
        (")", "')': Syntax error"),
        (
            "!abc",
            "'!abc': The password hash must be exactly 64 characters and contain only \
                  lowercase hexadecimal characters",
        ),
        (
            "<abc",
            "'<abc': The password you are trying to remove from the user does not exist",
        ),
        (
            "~* ~a",
            "'~a': Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid \
                   and does not have any effect. Try 'resetkeys' to start with an empty list of \
                   patterns",
        ),
        (
            "(&* &a)",
            "'(&* &a)': Adding a pattern after the * pattern (or the 'allchannels' flag) is \
                     not valid and does not have any effect. Try 'resetchannels' to start with an \
                     empty list of channels",
        ),
    ];
    for (rules, expected) in cases {
        let error = with(&users(), rules).unwrap_err();
        assert_eq!(
            error,
            format!("ERR Error in ACL SETUSER modifier {expected}"),
            "{rules}"
        );
    }
    let error = with(&users(), "on (~a +get").unwrap_err();
    assert_eq!(
        error,
        "ERR Unmatched parenthesis in acl selector starting at '(~a'."
    );
    let error = users().set(b"a b", &[], false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ERR Usernames can't contain spaces or null characters"
    );
}

#[test]
fn requests_need_their_command_and_all_their_keys() {
    let users = with(
        &users(),
        "+@all -config|set %R~read* %W~write* ~both* &news &sport:*",
    )
    .unwrap();
    let key = |at| Some((Reason::Key, at));
    let channel = |at| Some((Reason::Channel, at));
    let cases = [
        ("PING", None),
        ("GET read1", None),
        ("GET write1", key(1)),
        ("GET both", None),
        ("LPUSH write1 x", None),
        ("LPUSH read1 x", key(1)),
        // It also returns the old value if asked to.
        ("SET write1 x", None),
        ("SET write1 x GET", key(1)),
        ("COPY read write", None),
        ("COPY write read", key(1)),
        ("MGET read1 both2 other", key(3)),
        ("EXISTS write1", None),
        ("CONFIG GET x", None),
        ("CONFIG SET x y", Some((Reason::Command, 0))),
        ("EVAL x 1 both y", None),
        ("EVAL x 1 read y", key(3)),
        ("PUBLISH news x", None),
        ("PUBLISH sport:1 x", None),
        ("PUBLISH other news", channel(1)),
        ("SUBSCRIBE news sport:2 other", channel(3)),
        ("PSUBSCRIBE sport:*", None),
        ("PSUBSCRIBE sport:1", channel(1)),
        ("UNSUBSCRIBE other", None),
    ];
    for (request, expected) in cases {
        assert_eq!(check(&users, request), expected, "{request}");
    }
}

#[test]
fn one_selector_has_to_allow_all_of_a_request() {
    let users = with(&users(), "+ping (%R~r* +@read) (%W~w* +@write) (+select|0)").unwrap();
    assert_eq!(check(&users, "GET r"), None);
    assert_eq!(check(&users, "DEL w"), None);
    assert_eq!(check(&users, "COPY r w"), Some((Reason::Key, 1)));
    assert_eq!(check(&users, "GET w"), Some((Reason::Key, 1)));
    assert_eq!(check(&users, "SELECT 0"), None);
    assert_eq!(check(&users, "SELECT 1"), Some((Reason::Command, 0)));
    // What anybody may do who has not authenticated yet is never denied.
    assert_eq!(check(&users, "AUTH x"), None);
}

#[test]
fn users_without_limits_are_known_at_once() {
    let base = users();
    assert!(base.default_user().is_unlimited());
    let made = with(&base, "+@all ~* &*").unwrap();
    assert!(made.get(b"u").unwrap().is_unlimited());
    let made = with(&made, "-get").unwrap();
    assert!(!made.get(b"u").unwrap().is_unlimited());
    let made = with(&made, "(+@all ~* &*)").unwrap();
    assert!(made.get(b"u").unwrap().is_unlimited());
}

#[test]
fn passwords_belong_to_users_who_are_on() {
    let made = with(&users(), ">one >two").unwrap();
    assert!(made.authenticate(b"u", b"one").is_none());
    let made = with(&made, "on").unwrap();
    assert!(made.authenticate(b"u", b"one").is_some());
    assert!(made.authenticate(b"u", b"two").is_some());
    assert!(made.authenticate(b"u", b"three").is_none());
    assert!(made.authenticate(b"nobody", b"one").is_none());
    let made = with(&made, "<one").unwrap();
    assert!(made.authenticate(b"u", b"one").is_none());
    let made = with(&made, "resetpass").unwrap();
    assert!(made.authenticate(b"u", b"").is_none());
    let made = with(&made, "nopass").unwrap();
    assert!(made.authenticate(b"u", b"anything").is_some());
}

#[test]
fn the_default_user_may_get_a_password() {
    let open = users();
    assert!(!open.requires_auth());
    let closed = open.with_default_password(b"secret");
    assert!(closed.requires_auth());
    assert!(closed.authenticate(DEFAULT_USER, b"secret").is_some());
    assert!(closed.authenticate(DEFAULT_USER, b"").is_none());
    assert!(!closed.with_default_password(b"").requires_auth());
}

#[test]
fn a_user_that_comes_back_is_another_one() {
    let first = with(&users(), "on").unwrap();
    let changed = with(&first, "+get").unwrap();
    let id = |users: &Users| users.get(b"u").unwrap().id;
    assert_eq!(id(&first), id(&changed));
    let (gone, count) = changed.without([&b"u"[..], b"v"].into_iter());
    assert_eq!(count, 1);
    assert!(gone.get(b"u").is_none());
    let again = with(&gone, "on").unwrap();
    assert_ne!(id(&again), id(&first));
}

#[test]
fn listeners_keep_what_is_still_allowed() {
    let user = |rules: &str| with(&users(), rules).unwrap().get(b"u").unwrap().clone();
    let before = user("&a &b:*");
    assert!(user("&a &b:* &c").keeps_channels_of(&before));
    assert!(user("allchannels").keeps_channels_of(&before));
    assert!(user("(&b:*) &a").keeps_channels_of(&before));
    let after = user("&b:*");
    assert!(!after.keeps_channels_of(&before));
    assert!(!before.keeps_channels_of(&user("allchannels")));
    assert!(after.allows_channel(b"b:1", false));
    assert!(after.allows_channel(b"b:*", true));
    assert!(!after.allows_channel(b"b:1", true));
    assert!(!after.allows_channel(b"a", false));
}

#[test]
fn files_are_read_whole_or_not_at_all() {
    let base = with(&users(), "on >old").unwrap();
    let text = base.file_text();
    let text = String::from_utf8(text).unwrap();
    let expected = "user default on nopass ~* &* +@all\n\
                    user u on #cba06b5736faf67e54b07b561eae94395e774c517a7d910a54369e1263ccfbd4 \
                    resetchannels -@all\n";
    assert_eq!(text, expected);
    let again = base.from_file("users.acl", text.as_bytes(), false).unwrap();
    assert_eq!(again.file_text(), text.as_bytes());
    let id = |users: &Users| users.get(b"u").unwrap().id;
    assert_ne!(id(&base), id(&again), "its connections do not stay");
    assert_eq!(again.default_user().id, base.default_user().id);

    let end = "WARNING: ACL errors detected, no change to the previously active ACL rules was \
               performed";
    let cases = [
        (
            "user a\n\nuser a on",
            "WARNING: Duplicate user 'a' found on line 3. ",
        ),
        (
            "bogus a",
            "f:1 should start with user keyword followed by the username. ",
        ),
        (
            "user",
            "f:1 should start with user keyword followed by the username. ",
        ),
        (
            "user a\tb on",
            "'f:1: username 'a\tb' contains invalid characters. ",
        ),
        (
            "user a +nosuch ~* ~a +@bogus bogus",
            "f:1: Error in applying operation '+nosuch': Unknown command or category name in ACL. \
             f:1: Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and \
             does not have any effect. Try 'resetkeys' to start with an empty list of patterns. \
             f:1: Error in applying operation '+@bogus': Unknown command or category name in ACL. ",
        ),
        (
            "user a (+get",
            "f:1: Unmatched parenthesis in selector definition.",
        ),
    ];
    for (text, expected) in cases {
        let errors = base.from_file("f", text.as_bytes(), false).unwrap_err();
        assert_eq!(
            String::from_utf8(errors).unwrap(),
            format!("{expected}{end}")
        );
    }
}

#[test]
fn refusals_that_are_alike_are_counted_together() {
    let denial = |object: &str, at_ms| Denial {
        reason: Reason::Key,
        context: Context::Toplevel,
        object: object.into(),
        user: b"u".to_vec(),
        client: Vec::new(),
        at_ms,
    };
    let mut log = Log::default();
    for at_ms in [0, 1_000, 61_000] {
        log.push(denial("a", at_ms), 3);
    }
    assert_eq!(log.len(), 1);
    log.push(denial("a", 121_001), 3);
    assert_eq!(log.len(), 2);
    for object in ["b", "c", "d"] {
        log.push(denial(object, 121_001), 3);
    }
    assert_eq!(log.len(), 3);
    let mut out = crate::resp::Output::default();
    let mut writer = crate::resp::Writer::new(&mut out, crate::resp::Proto::Resp2);
    log.write(1, 123_001, &mut writer).unwrap();
    let text = String::from_utf8(out.to_vec()).unwrap();
    let expected = "*1\r\n*20\r\n$5\r\ncount\r\n:1\r\n$6\r\nreason\r\n$3\r\nkey\r\n$7\r\ncontext\r\n\
                    $8\r\ntoplevel\r\n$6\r\nobject\r\n$1\r\nd\r\n$8\r\nusername\r\n$1\r\nu\r\n\
                    $11\r\nage-seconds\r\n$1\r\n2\r\n";
    assert!(text.starts_with(expected), "{text}");
}

/// Rules are words from a client: whatever they are, they are refused or applied.
#[test]
fn any_bytes_are_refused_or_applied() {
    let mut random = fastrand::Rng::with_seed(11);
    let base = users();
    let alphabet = b"+-@~%&><#!()|RW* getallx\"'\\\x00\xff";
    for _ in 0..20_000 {
        let rules: Vec<Vec<u8>> = (0..random.usize(1..4))
            .map(|_| {
                let len = random.usize(..9);
                (0..len)
                    .map(|_| alphabet[random.usize(..alphabet.len())])
                    .collect()
            })
            .collect();
        let rules: Vec<&[u8]> = rules.iter().map(Vec::as_slice).collect();
        if let Ok(made) = base.set(b"u", &rules, random.bool()) {
            let user = made.get(b"u").unwrap();
            assert!(!user.is_unlimited());
            assert!(!user.line(made.catalog()).is_empty());
        }
        let text = rules.join(&b'\n');
        assert!(
            base.from_file("f", &[b"user u ", &text[..]].concat(), false)
                .is_ok()
                || !text.is_empty()
        );
    }
}
