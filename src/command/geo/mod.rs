//! GEO: places as members of sorted sets, their geohash as score.

mod member;
mod search;

use super::flags::*;
use super::keys::{self, KeySpec, Keys};
use super::{Command, Group, Run, Standing};
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::geohash::{self, Place};
use crate::value::zset::Zset;

const fn row(name: &'static str, arity: i32, flags: Flags, keys: Keys, run: Run) -> Command {
    Command {
        name,
        arity,
        flags,
        acl: GEO,
        keys,
        run,
        group: Group::Geo,
        ..Command::DEFAULT
    }
}

/// Where a search may be stored: the last that is named.
const RADIUS_KEYS: Keys = &[
    KeySpec::range(keys::RO | keys::ACCESS, 1, 0, 1),
    KeySpec::told(keys::OW | keys::UPDATE, "STORE", 6),
    KeySpec::told(keys::OW | keys::UPDATE, "STOREDIST", 6),
    KeySpec::hidden(keys::OW | keys::UPDATE, |args| store_at(args, 6)),
];
const MEMBER_KEYS: Keys = &[
    KeySpec::range(keys::RO | keys::ACCESS, 1, 0, 1),
    KeySpec::told(keys::OW | keys::UPDATE, "STORE", 5),
    KeySpec::told(keys::OW | keys::UPDATE, "STOREDIST", 5),
    KeySpec::hidden(keys::OW | keys::UPDATE, |args| store_at(args, 5)),
];
const STORE_KEYS: Keys = &[
    KeySpec::range(keys::OW | keys::UPDATE, 1, 0, 1),
    KeySpec::range(keys::RO | keys::ACCESS, 2, 0, 1),
];
const SEARCH: &str =
    "O(N+log(M)) where N is the number of members around the area and M that of those in it";

pub const COMMANDS: &[Command] = &[
    Command {
        since: "3.2.0",
        summary: "Adds places, or moves them.",
        complexity: "O(log(N)) for each place, where N is the number of members",
        syntax: "key [condition=(NX|XX) @6.2.0] [change=CH @6.2.0] (longitude latitude member) ...",
        history: &[("6.2.0", "Takes `CH`, `NX` and `XX`.")],
        ..row(
            "geoadd",
            -5,
            WRITE | DENYOOM,
            keys::ONE_RW_UPDATE,
            Run::Key(member::geoadd),
        )
    },
    Command {
        since: "3.2.0",
        summary: "Replies with the distance between two places.",
        syntax: "key member1 member2 [unit=M|KM|FT|MI]",
        ..row(
            "geodist",
            -4,
            READONLY,
            keys::ONE_RO,
            Run::Key(member::geodist),
        )
    },
    Command {
        since: "3.2.0",
        summary: "Replies with places as geohash texts.",
        complexity: "O(N) where N is the number of places given",
        syntax: "key member ...",
        ..row(
            "geohash",
            -2,
            READONLY,
            keys::ONE_RO,
            Run::Key(member::geohash),
        )
    },
    Command {
        since: "3.2.0",
        summary: "Replies with the coordinates of places.",
        complexity: "O(N) where N is the number of places given",
        syntax: "key member ...",
        ..row(
            "geopos",
            -2,
            READONLY,
            keys::ONE_RO,
            Run::Key(member::geopos),
        )
    },
    Command {
        since: "3.2.0",
        summary: "Finds the places around coordinates; may store them.",
        complexity: SEARCH,
        syntax: "key longitude latitude radius unit=(M|KM|FT|MI) [WITHCOORD] [WITHDIST] \
                 [WITHHASH] [count=COUNT count [ANY @6.2.0]] [order=ASC|DESC] [STORE key] \
                 [STOREDIST key]",
        history: &[
            ("6.2.0", "Takes `ANY` after a `COUNT`."),
            ("7.0.0", "Units may be written in upper case."),
        ],
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument",
        },
        ..row(
            "georadius",
            -6,
            WRITE | DENYOOM | MOVABLEKEYS,
            RADIUS_KEYS,
            Run::Gather(&search::GEORADIUS),
        )
    },
    Command {
        since: "3.2.10",
        summary: "Finds the places around coordinates.",
        complexity: SEARCH,
        syntax: "key longitude latitude radius unit=(M|KM|FT|MI) [WITHCOORD] [WITHDIST] \
                 [WITHHASH] [count=COUNT count [ANY @6.2.0]] [order=ASC|DESC]",
        history: &[("6.2.0", "Takes `ANY` after a `COUNT`.")],
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`GEOSEARCH` with the `BYRADIUS` argument",
        },
        ..row(
            "georadius_ro",
            -6,
            READONLY,
            keys::ONE_RO,
            Run::Gather(&search::GEORADIUS_RO),
        )
    },
    Command {
        since: "3.2.0",
        summary: "Finds the places around a member; may store them.",
        complexity: SEARCH,
        syntax: "key member radius unit=(M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] \
                 [count=COUNT count [ANY]] [order=ASC|DESC] [STORE key] [STOREDIST key]",
        history: &[("7.0.0", "Units may be written in upper case.")],
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
        },
        ..row(
            "georadiusbymember",
            -5,
            WRITE | DENYOOM | MOVABLEKEYS,
            MEMBER_KEYS,
            Run::Gather(&search::GEORADIUSBYMEMBER),
        )
    },
    Command {
        since: "3.2.10",
        summary: "Finds the places around a member.",
        complexity: SEARCH,
        syntax: "key member radius unit=(M|KM|FT|MI) [WITHCOORD] [WITHDIST] [WITHHASH] \
                 [count=COUNT count [ANY]] [order=ASC|DESC]",
        standing: Standing::Deprecated {
            since: "6.2.0",
            by: "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments",
        },
        ..row(
            "georadiusbymember_ro",
            -5,
            READONLY,
            keys::ONE_RO,
            Run::Gather(&search::GEORADIUSBYMEMBER_RO),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Finds the places in a circle or a box.",
        complexity: SEARCH,
        syntax: "key from=(FROMMEMBER member|FROMLONLAT (longitude latitude)) \
                 by=(circle=(BYRADIUS radius unit=(M|KM|FT|MI))|box=(BYBOX width height \
                 unit=(M|KM|FT|MI))) [order=ASC|DESC] [count=COUNT count [ANY]] \
                 [WITHCOORD] [WITHDIST] [WITHHASH]",
        history: &[("7.0.0", "Units may be written in upper case.")],
        ..row(
            "geosearch",
            -7,
            READONLY,
            keys::ONE_RO,
            Run::Gather(&search::GEOSEARCH),
        )
    },
    Command {
        since: "6.2.0",
        summary: "Stores the places in a circle or a box.",
        complexity: SEARCH,
        syntax: "destination source from=(FROMMEMBER member|FROMLONLAT (longitude latitude)) \
                 by=(circle=(BYRADIUS radius unit=(M|KM|FT|MI))|box=(BYBOX width height \
                 unit=(M|KM|FT|MI))) [order=ASC|DESC] [count=COUNT count [ANY]] \
                 [STOREDIST]",
        history: &[("7.0.0", "Units may be written in upper case.")],
        ..row(
            "geosearchstore",
            -8,
            WRITE | DENYOOM,
            STORE_KEYS,
            Run::Gather(&search::GEOSEARCHSTORE),
        )
    },
];

/// The argument that names the destination, among options from `from` on. Redis: db.c
/// georadiusGetKeys.
fn store_at(args: &Args, from: usize) -> Option<usize> {
    let is_store = |&at: &usize| args.is(at, "store") || args.is(at, "storedist");
    let last = (from..args.len().saturating_sub(1)).rfind(is_store);
    last.map(|at| at + 1)
}

/// Longitude and latitude at arguments `at` and the next.
fn place(args: &Args, at: usize) -> Result<Place, CmdError> {
    let place = Place {
        lon: args.double(at)?,
        lat: args.double(at + 1)?,
    };
    if place.is_valid() {
        return Ok(place);
    }
    Err(CmdError::owned(format!(
        "ERR invalid longitude,latitude pair {:.6},{:.6}",
        place.lon, place.lat
    )))
}

/// Metres of a unit.
fn unit_m(args: &Args, at: usize) -> Result<f64, CmdError> {
    let units = [("m", 1.0), ("km", 1000.0), ("ft", 0.3048), ("mi", 1609.34)];
    let found = units.iter().find(|(name, _)| args.is(at, name));
    let found = found.map(|&(_, metres)| metres);
    found.ok_or(CmdError::Text(
        "ERR unsupported unit provided. please use M, KM, FT, MI",
    ))
}

fn member_place(set: &Zset, name: &[u8]) -> Option<Place> {
    let score = set.score(name)?;
    Some(geohash::decode(geohash::of_score(score)))
}

/// A distance, to four places. Redis: geo.c addReplyDoubleDistance.
fn distance(distance: f64, out: &mut Writer) -> CmdResult {
    out.bulk(format!("{distance:.4}").as_bytes())
}

/// A coordinate as Redis prints long doubles for people: 17 places, trailing zeros removed.
fn coordinate(degrees: f64, out: &mut Writer) -> CmdResult {
    let text = format!("{degrees:.17}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    let text = if text == "-0" { "0" } else { text };
    if out.resp3() {
        return out.raw(format!(",{text}\r\n").as_bytes());
    }
    out.bulk(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn places_are_added_and_read() {
        Bench::new().rows(&[
            (
                "GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
                ":2|",
                "zadd g",
                "ZADD g 3479099956230698 Palermo 3479447370796909 Catania",
            ),
            ("GEODIST g Palermo Catania", "$11|166274.1516|", "", ""),
            ("GEODIST g Palermo Catania km", "$8|166.2742|", "", ""),
            ("GEODIST g Palermo none", "$-1|", "", ""),
            ("GEOHASH g Palermo none", "*2|$11|sqc8b49rny0|$-1|", "", ""),
            (
                "GEOPOS g Palermo none",
                "*2|*2|$20|13.36138933897018433|$20|38.11555639549629859|*-1|",
                "",
                "",
            ),
            (
                "GEOADD g 200 0 x",
                "-ERR invalid longitude,latitude pair 200.000000,0.000000|",
                "",
                "",
            ),
            (
                "GEODIST g Palermo Catania yd",
                "-ERR unsupported unit provided. please use M, KM, FT, MI|",
                "",
                "",
            ),
        ]);
    }

    #[test]
    fn places_are_found_and_stored() {
        Bench::new().rows(&[
            (
                "GEOADD g 13.361389 38.115556 Palermo 15.087269 37.502669 Catania",
                ":2|",
                "zadd g",
                "ZADD g 3479099956230698 Palermo 3479447370796909 Catania",
            ),
            (
                "GEOSEARCH g FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHDIST",
                "*2|*2|$7|Catania|$7|56.4413|*2|$7|Palermo|$8|190.4424|",
                "",
                "",
            ),
            (
                "GEOSEARCH g FROMMEMBER Palermo BYBOX 1 1 km",
                "*1|$7|Palermo|",
                "",
                "",
            ),
            (
                "GEORADIUS g 15 37 100 km WITHHASH",
                "*1|*2|$7|Catania|:3479447370796909|",
                "",
                "",
            ),
            (
                "GEORADIUSBYMEMBER g Palermo 10 m COUNT 1",
                "*1|$7|Palermo|",
                "",
                "",
            ),
            (
                "GEORADIUS g 15 37 200 km COUNT 1 DESC",
                "*1|$7|Palermo|",
                "",
                "",
            ),
            (
                "GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 100 km",
                ":1|",
                "geosearchstore d",
                "DEL d, ZADD d 3479447370796909 Catania",
            ),
            ("GEORADIUS g 15 37 1 m STORE d", ":0|", "del d", "DEL d"),
            (
                "GEOSEARCH g BYRADIUS 1 m ASC ASC ASC",
                "-ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GEOSEARCH|",
                "",
                "",
            ),
            (
                "GEOSEARCH g FROMLONLAT 1 1 ASC ASC",
                "-ERR exactly one of BYRADIUS and BYBOX can be specified for GEOSEARCH|",
                "",
                "",
            ),
            (
                "GEORADIUS g 15 37 1 m ANY",
                "-ERR the ANY argument requires COUNT argument|",
                "",
                "",
            ),
            ("GEORADIUS g 15 37 x m", "-ERR need numeric radius|", "", ""),
            (
                "GEORADIUSBYMEMBER g none 1 m",
                "-ERR could not decode requested zset member|",
                "",
                "",
            ),
            ("GEORADIUSBYMEMBER none x 1 m", "*0|", "", ""),
        ]);
    }
}
