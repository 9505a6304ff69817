//! Places on earth as scores of a sorted set: 52-bit geohashes, distances, and the score ranges to
//! read for a search.
//!
//! ```text
//! geohash    lon lat lon lat ... lon lat      26 bits of each, the most significant first;
//!                                             halving -180..180 and -85.05112878..85.05112878
//! cell       the first 2 * step bits          all geohashes with this prefix are one score range
//! ```
//!
//! Everything is computed in the order of operations of Redis 7.0 (geohash.c, geohash_helper.c), so
//! that scores, positions and distances have the same bits, and a search finds the same members in
//! the same order.

use std::f64::consts::PI;
use std::ops::Range;

use smallvec::SmallVec;

/// Degrees; web maps end there too (EPSG:3857), where the Mercator projection is a square.
pub const LAT_MAX: f64 = 85.05112878;
pub const LON_MAX: f64 = 180.0;
/// Latitudes of the text form, which other software reads, go up to the poles.
const TEXT_LAT_MAX: f64 = 90.0;

/// Bits of each coordinate.
const STEP_MAX: u32 = 26;

/// Half of the equator in the Mercator projection's metres, as Redis has it.
const MERCATOR_MAX_M: f64 = 20_037_726.37;
const EARTH_RADIUS_M: f64 = 6_372_797.560856;
const RADIANS: f64 = PI / 180.0;

/// Bits of the latitude; those of the longitude are the others.
const LAT_BITS: u64 = 0x5555_5555_5555_5555;
const LON_BITS: u64 = !LAT_BITS;

const TEXT_ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

/// Degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    pub lon: f64,
    pub lat: f64,
}

impl Place {
    /// Whether there is a geohash for it. Not for the poles, nor for what is not a number.
    pub fn is_valid(self) -> bool {
        self.lon.abs() <= LON_MAX && self.lat.abs() <= LAT_MAX
    }
}

/// The geohash of a valid place. The outermost east and north have a bit more than 26, as the scale
/// ends only behind them.
pub fn encode(place: Place) -> u64 {
    encode_at(place, STEP_MAX, LAT_MAX)
}

/// The middle of a geohash's cell.
pub fn decode(hash: u64) -> Place {
    let step = STEP_MAX;
    let lat = span(even_bits(hash), step, LAT_MAX);
    let lon = span(even_bits(hash >> 1), step, LON_MAX);
    let middle = |span: Range<f64>, max: f64| ((span.start + span.end) / 2.0).clamp(-max, max);
    Place {
        lon: middle(lon, LON_MAX),
        lat: middle(lat, LAT_MAX),
    }
}

/// The geohash in a score. Any score is one, as a sorted set may hold places and numbers alike.
// Redis: the score is cast to an unsigned integer, undefined in C for many scores; these are the
// results on x86-64, where a client may have seen them.
pub fn of_score(score: f64) -> u64 {
    const HALF: f64 = (1u64 << 63) as f64;
    let truncated = |x: f64| {
        if (-HALF..HALF).contains(&x) {
            x as i64 as u64
        } else {
            1 << 63
        }
    };
    if score < HALF {
        truncated(score)
    } else {
        truncated(score - HALF) ^ (1 << 63)
    }
}

/// The eleven characters of GEOHASH, for the cell's middle. The last is always `0`: there are no
/// bits for it.
pub fn text(hash: u64) -> [u8; 11] {
    let hash = encode_at(decode(hash), STEP_MAX, TEXT_LAT_MAX);
    let mut text = [TEXT_ALPHABET[0]; 11];
    for (at, char) in text[..10].iter_mut().enumerate() {
        *char = TEXT_ALPHABET[(hash >> (47 - 5 * at)) as usize & 31];
    }
    text
}

/// Metres along the great circle (haversine).
pub fn distance_m(from: Place, to: Place) -> f64 {
    let v = ((to.lon * RADIANS - from.lon * RADIANS) / 2.0).sin();
    if v == 0.0 {
        return lat_distance_m(from.lat, to.lat);
    }
    let (from_lat, to_lat) = (from.lat * RADIANS, to.lat * RADIANS);
    let u = ((to_lat - from_lat) / 2.0).sin();
    let a = u * u + from_lat.cos() * to_lat.cos() * v * v;
    2.0 * EARTH_RADIUS_M * a.sqrt().asin()
}

/// Metres along a meridian.
fn lat_distance_m(from: f64, to: f64) -> f64 {
    EARTH_RADIUS_M * (to * RADIANS - from * RADIANS).abs()
}

/// In units of [`Area::unit_m`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    Circle { radius: f64 },
    Box { width: f64, height: f64 },
}

/// What a search asks for. The unit stays beside the numbers because when they are multiplied
/// decides about the last bit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    pub center: Place,
    pub shape: Shape,
    /// Metres.
    pub unit_m: f64,
}

/// Cells to search: nine, or fewer.
pub type ScoreRanges = SmallVec<[Range<f64>; 9]>;

impl Area {
    /// The distance in metres of a place in the area from its center; nothing if it is outside.
    pub fn distance_m(&self, place: Place) -> Option<f64> {
        // Redis: rounding may leave no number as the distance of opposite places, which is then in
        // any area. So what is asked is whether a place is too far.
        let distance = distance_m(self.center, place);
        let too_far = match self.shape {
            Shape::Circle { radius } => distance > radius * self.unit_m,
            Shape::Box { width, height } => {
                let aside = Place {
                    lon: self.center.lon,
                    lat: place.lat,
                };
                lat_distance_m(place.lat, self.center.lat) > height * self.unit_m / 2.0
                    || distance_m(place, aside) > width * self.unit_m / 2.0
            }
        };
        (!too_far).then_some(distance)
    }

    /// The scores to read, in Redis' order, which is that of replies without a sorting: every
    /// member in the area has its score in one of these ranges, but not the reverse.
    pub fn score_ranges(&self) -> ScoreRanges {
        let bounds = self.bounds();
        let mut cell = Cell::around(self.center, self.step());
        if cell.step > 1 && !cell.neighbours_reach(&bounds) {
            cell = Cell::around(self.center, cell.step - 1);
        }
        let mut ranges = ScoreRanges::new();
        let mut last = None;
        for (east, north) in SEARCH_ORDER {
            if cell.step > 1 && !cell.needs(east, north, &bounds) {
                continue;
            }
            let cell = cell.moved(east, north);
            // Cells around the earth meet; those that do so are adjacent in the order.
            // Redis: the center itself is not compared with, so none is left out for being it.
            if last == Some(cell) {
                continue;
            }
            if (east, north) != (0, 0) {
                last = Some(cell);
            }
            ranges.push(cell.scores());
        }
        ranges
    }

    /// The halves of the width and height, metres.
    fn half_extents_m(&self) -> (f64, f64) {
        match self.shape {
            Shape::Circle { radius } => (self.unit_m * radius, self.unit_m * radius),
            Shape::Box { width, height } => {
                (self.unit_m * (width / 2.0), self.unit_m * (height / 2.0))
            }
        }
    }

    /// Degrees that hold the area, as far as that is away from the poles.
    fn bounds(&self) -> Bounds {
        let Place { lon, lat } = self.center;
        let (width, height) = self.half_extents_m();
        let lat_delta = height / EARTH_RADIUS_M / RADIANS;
        // Of a box's two edges the one nearer to a pole spans more degrees.
        let edge = if lat < 0.0 {
            lat - lat_delta
        } else {
            lat + lat_delta
        };
        let lon_delta = width / EARTH_RADIUS_M / (edge * RADIANS).cos() / RADIANS;
        Bounds {
            lon: lon - lon_delta..lon + lon_delta,
            lat: lat - lat_delta..lat + lat_delta,
        }
    }

    /// How small cells may be for nine of them to hold the area.
    fn step(&self) -> u32 {
        let mut reach = match self.shape {
            Shape::Circle { radius } => radius,
            Shape::Box { width, height } => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
            }
        } * self.unit_m;
        if reach == 0.0 {
            return STEP_MAX;
        }
        let mut step = -1i32;
        while reach < MERCATOR_MAX_M {
            reach *= 2.0;
            step += 1;
        }
        // Degrees of longitude get shorter towards the poles.
        let lat = self.center.lat.abs();
        step -= i32::from(lat > 66.0) + i32::from(lat > 80.0);
        step.clamp(1, STEP_MAX as i32) as u32
    }
}

/// The middle, then east and north of it.
const SEARCH_ORDER: [(i32, i32); 9] = [
    (0, 0),
    (0, 1),
    (0, -1),
    (1, 0),
    (-1, 0),
    (1, 1),
    (-1, 1),
    (1, -1),
    (-1, -1),
];

/// Degrees.
#[derive(Debug)]
struct Bounds {
    lon: Range<f64>,
    lat: Range<f64>,
}

/// The places whose geohash begins with these bits.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell {
    bits: u64,
    step: u32,
}

impl Cell {
    fn around(place: Place, step: u32) -> Cell {
        Cell {
            bits: encode_at(place, step, LAT_MAX),
            step,
        }
    }

    /// One cell further or none, around the earth at its ends.
    fn moved(self, east: i32, north: i32) -> Cell {
        let low = u64::MAX >> (64 - 2 * self.step);
        let shift = |bits: u64, lane: u64, by: i32| match by {
            0 => bits & lane,
            // Ones between the lane's bits hand a carry on to the next.
            1 => (bits | !lane).wrapping_add(1) & lane & low,
            _ => (bits & lane).wrapping_sub(lane & lane.wrapping_neg()) & lane & low,
        };
        Cell {
            bits: shift(self.bits, LON_BITS, east) | shift(self.bits, LAT_BITS, north),
            step: self.step,
        }
    }

    fn bounds(self) -> Bounds {
        Bounds {
            lon: span(even_bits(self.bits >> 1), self.step, LON_MAX),
            lat: span(even_bits(self.bits), self.step, LAT_MAX),
        }
    }

    /// Whether the cell's four neighbours end outside of an area.
    fn neighbours_reach(self, area: &Bounds) -> bool {
        let at = |east, north| self.moved(east, north).bounds();
        !(at(0, 1).lat.end < area.lat.end
            || at(0, -1).lat.start > area.lat.start
            || at(1, 0).lon.end < area.lon.end
            || at(-1, 0).lon.start > area.lon.start)
    }

    /// Whether the neighbour in a direction may have a part in an area.
    fn needs(self, east: i32, north: i32, area: &Bounds) -> bool {
        let cell = self.bounds();
        let spared = (north < 0 && cell.lat.start < area.lat.start)
            || (north > 0 && cell.lat.end > area.lat.end)
            || (east < 0 && cell.lon.start < area.lon.start)
            || (east > 0 && cell.lon.end > area.lon.end);
        !spared
    }

    fn scores(self) -> Range<f64> {
        let aligned = |bits: u64| (bits << (52 - 2 * self.step)) as f64;
        aligned(self.bits)..aligned(self.bits + 1)
    }
}

/// The first `step` bits of each coordinate, the longitude's before the latitude's.
fn encode_at(place: Place, step: u32, lat_max: f64) -> u64 {
    let scaled = |x: f64, max: f64| ((x + max) / (max + max) * (1u64 << step) as f64) as u32;
    spread(scaled(place.lat, lat_max)) | spread(scaled(place.lon, LON_MAX)) << 1
}

/// Degrees of the cell with this number, out of `1 << step`.
fn span(number: u32, step: u32, max: f64) -> Range<f64> {
    let cells = (1u64 << step) as f64;
    let at = |number: u32| -max + f64::from(number) / cells * (max + max);
    at(number)..at(number.wrapping_add(1))
}

/// Moves bit n to bit 2n.
fn spread(bits: u32) -> u64 {
    let mut bits = u64::from(bits);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, LAT_BITS),
    ] {
        bits = (bits | bits << shift) & mask;
    }
    bits
}

/// Moves bit 2n to bit n.
fn even_bits(bits: u64) -> u32 {
    let mut bits = bits & LAT_BITS;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        bits = (bits | bits >> shift) & mask;
    }
    bits as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(lon: f64, lat: f64) -> Place {
        Place { lon, lat }
    }

    /// As GEOPOS prints.
    fn digits(x: f64) -> String {
        let text = format!("{x:.17}");
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    }

    /// GEOADD's arguments; ZSCORE, GEOPOS and GEOHASH of redis-server 7.0.15.
    type Known = ((f64, f64), u64, [&'static str; 2], &'static str);

    #[rustfmt::skip]
    const KNOWN: &[Known] = &[
        // Palermo, Catania
        ((13.361389, 38.115556), 3479099956230698, ["13.36138933897018433", "38.11555639549629859"], "sqc8b49rny0"),
        ((15.087269, 37.502669), 3479447370796909, ["15.08726745843887329", "37.50266842333162032"], "sqdtr74hyu0"),
        // San Francisco, Tokyo, Sydney, London, Paris
        ((-122.4194, 37.7749), 1367859919124626, ["-122.41940170526504517", "37.77490001056577995"], "9q8yyk8ytp0"),
        ((139.6917, 35.6895), 4171231230197045, ["139.69170123338699341", "35.68950126697937009"], "xn774c06kt0"),
        ((151.2093, -33.8688), 3252046221964352, ["151.20929986238479614", "-33.86880091934155956"], "r3gx2f77bj0"),
        ((-0.1278, 51.5074), 2163557714755072, ["-0.12779921293258667", "51.50740077990133159"], "gcpvj0duq50"),
        ((2.2945, 48.8584), 3663832614297766, ["2.29449838399887085", "48.85839918237243751"], "u09tunquc90"),
        // The corners, and around the middle.
        ((180.0, 85.05112878), 13510798882111488, ["180", "85.0511287799999991"], "bp05b5048p0"),
        ((-180.0, -85.05112878), 0, ["-179.99999731779098511", "-85.05112751263942528"], "00bh0hbj200"),
        ((179.999999, 0.000001), 4128299658422954, ["179.99999731779098511", "0.00000126736058093"], "xbpbpbpbpb0"),
        ((0.0, 0.0), 3377699720527872, ["0.00000268220901489", "0.00000126736058093"], "s0000000000"),
        ((-0.000001, -0.000001), 1125899906842623, ["-0.00000268220901489", "-0.00000126736058093"], "7zzzzzzzzz0"),
    ];

    #[test]
    fn places_known_to_redis() {
        for &((lon, lat), hash, position, chars) in KNOWN {
            assert!(place(lon, lat).is_valid());
            assert_eq!(encode(place(lon, lat)), hash, "{lon} {lat}");
            let its = decode(hash);
            assert_eq!([digits(its.lon), digits(its.lat)], position);
            assert_eq!(text(hash), chars.as_bytes(), "{lon} {lat}");
            // A cell's middle is in the cell, but where the scale ends.
            if lon < LON_MAX {
                assert_eq!(encode(its), hash);
            }
        }
    }

    #[test]
    fn places_without_a_geohash() {
        assert!(!place(180.1, 0.0).is_valid());
        assert!(!place(0.0, -85.0511288).is_valid());
        assert!(!place(f64::NAN, 0.0).is_valid());
    }

    /// GEOPOS and GEOHASH of redis-server 7.0.15 after ZADD.
    #[test]
    fn any_score_is_a_place() {
        let northeast = ["180", "85.0511287799999991", "bp05b5048p0"];
        let southeast = ["180", "-85.05112751263942528", "00bh0hbj200"];
        let southwest = [
            "-179.99999731779098511",
            "-85.05112751263942528",
            "00bh0hbj200",
        ];
        for (score, [lon, lat, chars]) in [
            (-1.0, northeast),
            (1e17, northeast),
            (9.3e18, northeast),
            (1.9e19, southwest),
            (f64::INFINITY, southwest),
            (-9.3e18, southeast),
            (f64::NEG_INFINITY, southeast),
        ] {
            let its = decode(of_score(score));
            assert_eq!([digits(its.lon), digits(its.lat)], [lon, lat], "{score}");
            assert_eq!(text(of_score(score)), chars.as_bytes(), "{score}");
        }
    }

    /// GEODIST of redis-server 7.0.15, between members of [`KNOWN`].
    #[test]
    fn distances_known_to_redis() {
        for (from, to, metres) in [
            (0, 1, "166274.1516"),
            (2, 3, "8273047.4024"),
            (4, 5, "16998728.2324"),
            (5, 6, "341386.9156"),
            (7, 8, "18919844.5891"),
            (10, 9, "20020733.3421"),
            (9, 11, "20020734.0000"),
            (10, 11, "0.6599"),
            (10, 10, "0.0000"),
        ] {
            let (from, to) = (decode(KNOWN[from].1), decode(KNOWN[to].1));
            assert_eq!(format!("{:.4}", distance_m(from, to)), metres);
        }
    }

    #[test]
    fn bits_spread_and_gather() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..1000 {
            let (lat, lon) = (rng.u32(..), rng.u32(..));
            let bits = spread(lat) | spread(lon) << 1;
            assert_eq!((even_bits(bits), even_bits(bits >> 1)), (lat, lon));
        }
    }

    /// (score, member) of a thousand places all over the earth and five hundred around Paris, as a
    /// sorted set orders them.
    fn world() -> Vec<(f64, String)> {
        let all_over = (0..1000u32).map(|n| {
            let (lon, lat) = (n * 7919 % 36_001, n * 104_729 % 17_001);
            let place = place(
                (f64::from(lon) - 18_000.0) / 100.0,
                (f64::from(lat) - 8_500.0) / 100.0,
            );
            (encode(place) as f64, n.to_string())
        });
        let around_paris = (1000..1500u32).map(|n| {
            let (lon, lat) = (n * 7919 % 3001, n * 10_007 % 2003);
            let place = place(
                (f64::from(lon) + 250_000.0) / 100_000.0,
                (f64::from(lat) + 4_880_000.0) / 100_000.0,
            );
            (encode(place) as f64, n.to_string())
        });
        let mut world: Vec<_> = all_over.chain(around_paris).collect();
        world.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        world
    }

    /// What GEOSEARCH of redis-server 7.0.15 finds in [`world`] without a sorting: the center's
    /// longitude and latitude, the shape and its unit in metres; the number of members and a hash
    /// over them in order.
    type Search = (f64, f64, Shape, f64, usize, u64);

    use Shape::{Box, Circle};

    #[rustfmt::skip]
    const SEARCHES: &[Search] = &[
        (45.0, 67.5, Circle { radius: 3000.0 }, 1609.34, 709, 0xafaf6918bb8c4405),
        (22.5, -22.5, Box { width: 400.0, height: 4000.0 }, 1000.0, 7, 0x3a2fbc6cfb56f83e),
        (22.5, -22.5, Box { width: 1500.5, height: 900.25 }, 1609.34, 10, 0x7bec0e993014adfc),
        (2.5123, 48.81, Box { width: 10000.0, height: 10000.0 }, 0.3048, 500, 0xb3bf831787e55f29),
        (2.5123, 48.81, Box { width: 400.0, height: 4000.0 }, 1.0, 92, 0x1171c85a0a1b8b3a),
        (2.50001, 48.80001, Circle { radius: 12000.0 }, 0.3048, 500, 0xa1c27f9344426141),
        (-20.0, -84.0, Box { width: 10000.0, height: 10000.0 }, 1609.34, 323, 0x90c29ae0b6f5b76a),
        (45.0, 67.5, Box { width: 1500.5, height: 900.25 }, 1000.0, 5, 0x9b0beb956fd66caa),
        (0.0, 0.0, Circle { radius: 5000.0 }, 1000.0, 107, 0x576a7e7365554c25),
        (22.5, -22.5, Circle { radius: 12000.0 }, 1000.0, 1183, 0x24d11d1af7d85c09),
        (-20.0, -84.0, Circle { radius: 3000.0 }, 1609.34, 227, 0xe4e3964c5986ea89),
        (100.0, 83.0, Box { width: 30000.0, height: 30000.0 }, 1000.0, 1258, 0x9d01b7e0723df3f2),
        (0.0, 0.0, Circle { radius: 20015.0 }, 1609.34, 1499, 0x8f3d7c4850141144),
        (100.0, 83.0, Circle { radius: 12000.0 }, 1000.0, 1103, 0x14140add1613fd4b),
        (2.50001, 48.80001, Box { width: 100.0, height: 100.0 }, 1609.34, 500, 0xa1c27f9344426141),
        (-180.0, -85.05112878, Box { width: 4000.0, height: 400.0 }, 1609.34, 19, 0xdeb100b2d50f7d1a),
        (-180.0, -85.05112878, Box { width: 100.0, height: 100.0 }, 1609.34, 1, 0x08328807b4eb6fed),
        (-20.0, -84.0, Box { width: 30000.0, height: 30000.0 }, 1609.34, 1499, 0x81aa73f1eef5bbf0),
        (2.5123, 48.81, Circle { radius: 1.0 }, 1000.0, 312, 0x4ee2a03aa256a534),
        (2.5123, 48.81, Box { width: 10000.0, height: 10000.0 }, 1609.34, 901, 0xe0a5bdaf30c51a60),
        (2.50001, 48.80001, Box { width: 10000.0, height: 10000.0 }, 1609.34, 901, 0xe0a5bdaf30c51a60),
        (-100.0, -67.0, Box { width: 30000.0, height: 30000.0 }, 1609.34, 1499, 0x81aa73f1eef5bbf0),
        (100.0, 83.0, Box { width: 4000.0, height: 400.0 }, 1000.0, 22, 0x040ea3d7531a7967),
        (100.0, 83.0, Circle { radius: 500.0 }, 1609.34, 18, 0xa5ef3c0cd7043ede),
        (-20.0, -84.0, Box { width: 4000.0, height: 400.0 }, 1609.34, 24, 0xd31ef3eeb727c1dd),
        (-122.4, 37.77, Box { width: 1500.5, height: 900.25 }, 1609.34, 10, 0x2fe2a32dd4b23c12),
        (2.5123, 48.81, Box { width: 4000.0, height: 400.0 }, 1609.34, 509, 0x9b6068bf61adb077),
        (2.50001, 48.80001, Circle { radius: 12000.0 }, 1.0, 500, 0xa1c27f9344426141),
        (13.36, 38.11, Circle { radius: 500.0 }, 1000.0, 3, 0x9ac676ddc102489b),
        (45.0, 67.5, Box { width: 1500.5, height: 900.25 }, 1609.34, 11, 0x45e863d1ee15cbcf),
        (-122.4, 37.77, Circle { radius: 5000.0 }, 1609.34, 371, 0x2403b77692a030f4),
        (-179.5, -45.0, Box { width: 1500.5, height: 900.25 }, 1000.0, 6, 0xb074495903514c0b),
        (-179.5, -45.0, Box { width: 4000.0, height: 400.0 }, 1000.0, 3, 0x7ce6c0e9da254669),
        (2.5123, 48.81, Circle { radius: 1.0 }, 1609.34, 498, 0x247daa737e33f9e9),
        (2.5123, 48.81, Box { width: 400.0, height: 4000.0 }, 1609.34, 506, 0x15619e95e0eac9f6),
        (2.5123, 48.81, Circle { radius: 12000.0 }, 1609.34, 1492, 0x529133330f2b4bbc),
        (2.50001, 48.80001, Circle { radius: 500.0 }, 0.3048, 1, 0x0b140207b75e047a),
        (180.0, 85.05112878, Circle { radius: 200.0 }, 1609.34, 2, 0xbb360f516d2822d7),
        (22.5, -22.5, Circle { radius: 500.0 }, 1609.34, 9, 0x0b731421616314d0),
        (45.0, 67.5, Box { width: 4000.0, height: 400.0 }, 1000.0, 4, 0x2af42d1a620c749b),
        (22.5, -22.5, Circle { radius: 5000.0 }, 1000.0, 116, 0xa5e7ceb041ae3f8e),
        (-180.0, -85.05112878, Circle { radius: 12000.0 }, 1609.34, 1491, 0x83619f9d719f209d),
        (180.0, 85.05112878, Box { width: 1500.5, height: 900.25 }, 1000.0, 4, 0x16003918fb04cdf4),
        (13.36, 38.11, Box { width: 10000.0, height: 10000.0 }, 1000.0, 753, 0xc31e81c721486ad6),
        (180.0, 85.05112878, Box { width: 10000.0, height: 10000.0 }, 1.0, 0, 0xcbf29ce484222325),
        (45.0, 67.5, Box { width: 100.0, height: 100.0 }, 0.3048, 0, 0xcbf29ce484222325),
    ];

    #[test]
    fn searches_find_what_redis_finds_in_its_order() {
        let world = world();
        for &(lon, lat, shape, unit_m, count, hash) in SEARCHES {
            let area = Area {
                center: place(lon, lat),
                shape,
                unit_m,
            };
            let (mut found, mut digest) = (0, 0xcbf2_9ce4_8422_2325u64);
            for range in area.score_ranges() {
                let start = world.partition_point(|&(score, _)| score < range.start);
                for (score, member) in &world[start..] {
                    if *score >= range.end {
                        break;
                    }
                    if area.distance_m(decode(of_score(*score))).is_some() {
                        found += 1;
                        let number: u16 = member.parse().expect("a number");
                        for byte in number.to_le_bytes() {
                            digest = (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
                        }
                    }
                }
            }
            assert_eq!((found, digest), (count, hash), "{area:?}");
        }
    }
}
