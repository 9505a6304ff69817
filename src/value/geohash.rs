//! Places on earth as scores of a sorted set: 52-bit geohashes, distances, and (in `area`) the score
//! ranges to read for a search.
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

mod area;

use std::f64::consts::PI;
use std::ops::Range;

pub use area::{Area, Shape};

/// Degrees; web maps end there too (EPSG:3857), where the Mercator projection is a square.
pub const LAT_MAX: f64 = 85.05112878;
pub const LON_MAX: f64 = 180.0;
/// Latitudes of the text form, which other software reads, go up to the poles.
const TEXT_LAT_MAX: f64 = 90.0;

/// Bits of each coordinate.
const STEP_MAX: u32 = 26;

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
}
