//! What a search by place asks for: an area, and the score ranges to read for it.
//!
//! Nine cells around the center hold the area: the cells are as small as that allows, and those of
//! the nine that have no part in it are left out.

use std::ops::Range;

use smallvec::SmallVec;

use super::{
    EARTH_RADIUS_M, LAT_BITS, LAT_MAX, LON_BITS, LON_MAX, Place, RADIANS, STEP_MAX, distance_m,
    encode_at, even_bits, lat_distance_m, span,
};

/// Half of the equator in the Mercator projection's metres, as Redis has it.
const MERCATOR_MAX_M: f64 = 20_037_726.37;

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
type ScoreRanges = SmallVec<[Range<f64>; 9]>;

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

#[cfg(test)]
mod tests {
    use super::super::{decode, encode, of_score};
    use super::*;

    /// (score, member) of a thousand places all over the earth and five hundred around Paris, as a
    /// sorted set orders them.
    fn world() -> Vec<(f64, String)> {
        let all_over = (0..1000u32).map(|n| {
            let (lon, lat) = (n * 7919 % 36_001, n * 104_729 % 17_001);
            let place = Place {
                lon: (f64::from(lon) - 18_000.0) / 100.0,
                lat: (f64::from(lat) - 8_500.0) / 100.0,
            };
            (encode(place) as f64, n.to_string())
        });
        let around_paris = (1000..1500u32).map(|n| {
            let (lon, lat) = (n * 7919 % 3001, n * 10_007 % 2003);
            let place = Place {
                lon: (f64::from(lon) + 250_000.0) / 100_000.0,
                lat: (f64::from(lat) + 4_880_000.0) / 100_000.0,
            };
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
                center: Place { lon, lat },
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
