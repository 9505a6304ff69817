//! GEOSEARCH and its older forms: one function reads, another decides what becomes of the result.

use super::{coordinate, distance, member_place, place, unit_m};
use crate::command::{Ask, Decision, Gather, Peek, peeks, zset};
use crate::keyspace::Event;
use crate::resp::{Args, CmdError, CmdResult, Writer};
use crate::value::Collection;
use crate::value::geohash::{self, Area, Place, Shape};
use crate::value::zset::Zset;

/// The steps of one form: its table row says which, since `rename-command` may change the name.
macro_rules! search {
    ($form:expr) => {
        Gather {
            peek: |tx, args, at| {
                if at == $form.source() {
                    peeks::collection::<Zset>(tx, args, at)
                } else {
                    peeks::exists(tx, args, at)
                }
            },
            decide: |ask, peeks| decide(ask, peeks, $form),
            more: None,
        }
    };
}

pub(super) static GEORADIUS: Gather = search!(Form::Radius { may_store: true });
pub(super) static GEORADIUS_RO: Gather = search!(Form::Radius { may_store: false });
pub(super) static GEORADIUSBYMEMBER: Gather = search!(Form::ByMember { may_store: true });
pub(super) static GEORADIUSBYMEMBER_RO: Gather = search!(Form::ByMember { may_store: false });
pub(super) static GEOSEARCH: Gather = search!(Form::Search);
pub(super) static GEOSEARCHSTORE: Gather = search!(Form::SearchStore);

/// Which command it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Radius { may_store: bool },
    ByMember { may_store: bool },
    Search,
    SearchStore,
}

impl Form {
    fn is_search(self) -> bool {
        matches!(self, Form::Search | Form::SearchStore)
    }

    /// Whether the options may name a destination.
    fn may_store(self) -> bool {
        matches!(
            self,
            Form::Radius { may_store: true } | Form::ByMember { may_store: true }
        )
    }

    /// The argument that names the sorted set to search.
    fn source(self) -> usize {
        if self == Form::SearchStore { 2 } else { 1 }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    None,
    Ascending,
    Descending,
}

struct Query {
    center: Option<Place>,
    shape: Option<(Shape, f64)>,
    with_distance: bool,
    with_hash: bool,
    with_coordinates: bool,
    sort: Sort,
    /// 0: all.
    count: i64,
    any: bool,
    /// The argument that names the destination.
    store: Option<usize>,
    store_distance: bool,
    /// A center was named, though without a set it is nowhere.
    has_center: bool,
}

fn radius(args: &Args, at: usize) -> Result<(Shape, f64), CmdError> {
    let radius = args
        .double(at)
        .map_err(|_| CmdError::Text("ERR need numeric radius"))?;
    if radius < 0.0 {
        return Err(CmdError::Text("ERR radius cannot be negative"));
    }
    Ok((Shape::Circle { radius }, unit_m(args, at + 1)?))
}

fn sides(args: &Args, at: usize) -> Result<(Shape, f64), CmdError> {
    let number = |at, error| args.double(at).map_err(|_| CmdError::Text(error));
    let width = number(at, "ERR need numeric width")?;
    let height = number(at + 1, "ERR need numeric height")?;
    if width < 0.0 || height < 0.0 {
        return Err(CmdError::Text("ERR height or width cannot be negative"));
    }
    Ok((Shape::Box { width, height }, unit_m(args, at + 2)?))
}

/// The place of a member; `None` if there is no set at all.
fn center_at(set: Option<&Zset>, name: &[u8]) -> Result<Option<Place>, CmdError> {
    let Some(set) = set else { return Ok(None) };
    let place = member_place(set, name);
    place
        .map(Some)
        .ok_or(CmdError::Text("ERR could not decode requested zset member"))
}

impl Query {
    fn parse(args: &Args, form: Form, set: Option<&Zset>) -> Result<Query, CmdError> {
        let mut query = Query {
            center: None,
            shape: None,
            with_distance: false,
            with_hash: false,
            with_coordinates: false,
            sort: Sort::None,
            count: 0,
            any: false,
            store: (form == Form::SearchStore).then_some(1),
            store_distance: false,
            has_center: false,
        };
        let mut at = match form {
            Form::Radius { .. } => {
                query.center = Some(place(args, 2)?);
                query.shape = Some(radius(args, 4)?);
                6
            }
            Form::ByMember { .. } => {
                query.center = center_at(set, args.get(2))?;
                if set.is_some() {
                    query.shape = Some(radius(args, 3)?);
                }
                5
            }
            Form::Search => 2,
            Form::SearchStore => 3,
        };
        while at < args.len() {
            at += query.option(args, at, form, set)?;
        }
        query.check(args, form)?;
        Ok(query)
    }

    /// Reads the option at `at`; returns how many arguments it takes.
    fn option(
        &mut self,
        args: &Args,
        at: usize,
        form: Form,
        set: Option<&Zset>,
    ) -> Result<usize, CmdError> {
        let left = args.len() - at - 1;
        if args.is(at, "withdist") {
            self.with_distance = true;
        } else if args.is(at, "withhash") {
            self.with_hash = true;
        } else if args.is(at, "withcoord") {
            self.with_coordinates = true;
        } else if args.is(at, "any") {
            self.any = true;
        } else if args.is(at, "asc") {
            self.sort = Sort::Ascending;
        } else if args.is(at, "desc") {
            self.sort = Sort::Descending;
        } else if args.is(at, "count") && left >= 1 {
            self.count = args.int(at + 1)?;
            if self.count <= 0 {
                return Err(CmdError::Text("ERR COUNT must be > 0"));
            }
            return Ok(2);
        } else if (args.is(at, "store") || args.is(at, "storedist"))
            && left >= 1
            && form.may_store()
        {
            // Where the key is found that way, too, whatever else the word might have been.
            self.store = super::store_at(args, at);
            self.store_distance = args.is(at, "storedist");
            return Ok(2);
        } else if args.is(at, "storedist") && form == Form::SearchStore {
            self.store_distance = true;
        } else {
            return self.area_option(args, at, form, set);
        }
        Ok(1)
    }

    fn area_option(
        &mut self,
        args: &Args,
        at: usize,
        form: Form,
        set: Option<&Zset>,
    ) -> Result<usize, CmdError> {
        let left = args.len() - at - 1;
        if !form.is_search() {
            return Err(CmdError::Syntax);
        }
        let circle = matches!(self.shape, None | Some((Shape::Circle { .. }, _)));
        let rectangle = matches!(self.shape, None | Some((Shape::Box { .. }, _)));
        if args.is(at, "frommember") && left >= 1 && self.center.is_none() {
            self.center = center_at(set, args.get(at + 1))?;
            self.has_center = true;
            Ok(2)
        } else if args.is(at, "fromlonlat") && left >= 2 && !self.has_center {
            self.center = Some(place(args, at + 1)?);
            Ok(3)
        } else if args.is(at, "byradius") && left >= 2 && circle {
            self.shape = Some(radius(args, at + 1)?);
            Ok(3)
        } else if args.is(at, "bybox") && left >= 3 && rectangle {
            self.shape = Some(sides(args, at + 1)?);
            Ok(4)
        } else {
            Err(CmdError::Syntax)
        }
    }

    fn check(&self, args: &Args, form: Form) -> Result<(), CmdError> {
        let shows = self.with_distance || self.with_hash || self.with_coordinates;
        if self.store.is_some() && shows {
            let what = match form {
                Form::SearchStore => "GEOSEARCHSTORE",
                _ => "STORE option in GEORADIUS",
            };
            return Err(CmdError::owned(format!(
                "ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        let name = || String::from_utf8_lossy(args.name()).into_owned();
        if form.is_search() && self.center.is_none() && !self.has_center {
            return Err(CmdError::owned(format!(
                "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {}",
                name()
            )));
        }
        if form.is_search() && self.shape.is_none() {
            return Err(CmdError::owned(format!(
                "ERR exactly one of BYRADIUS and BYBOX can be specified for {}",
                name()
            )));
        }
        if self.any && self.count == 0 {
            return Err(CmdError::Text(
                "ERR the ANY argument requires COUNT argument",
            ));
        }
        Ok(())
    }

    /// The members in the area, sorted and cut as asked.
    fn run(&self, set: &Zset) -> Vec<Hit> {
        let (Some(center), Some((shape, unit_m))) = (self.center, self.shape) else {
            return Vec::new();
        };
        let area = Area {
            center,
            shape,
            unit_m,
        };
        let enough = if self.any {
            self.count as usize
        } else {
            usize::MAX
        };
        let mut hits = Vec::new();
        'search: for range in area.score_ranges() {
            let start = set.partition_point(|_, score| score < range.start);
            let members = set
                .iter_from(start)
                .take_while(|(_, score)| *score < range.end);
            for (name, score) in members {
                let place = geohash::decode(geohash::of_score(score));
                if let Some(distance_m) = area.distance_m(place) {
                    hits.push(Hit {
                        name: name.to_vec(),
                        score,
                        place,
                        distance: distance_m / unit_m,
                    });
                    if hits.len() >= enough {
                        break 'search;
                    }
                }
            }
        }
        // Redis: COUNT without an order means the nearest, unless any will do.
        let sort = match self.sort {
            Sort::None if self.count > 0 && !self.any => Sort::Ascending,
            sort => sort,
        };
        match sort {
            Sort::None => {}
            Sort::Ascending => hits.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
            Sort::Descending => hits.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
        }
        if self.count > 0 {
            hits.truncate(self.count as usize);
        }
        hits
    }
}

/// A member in the area.
struct Hit {
    name: Vec<u8>,
    score: f64,
    place: Place,
    /// In the unit of the request.
    distance: f64,
}

fn decide(ask: &Ask, peeks: &[Peek], form: Form) -> Result<Decision, CmdError> {
    let of = |at: usize| ask.keys.iter().position(|&key| key == at);
    let set = match of(form.source()).map(|i| &peeks[i]) {
        Some(Peek::Failed(error)) => return Err(error.clone()),
        Some(Peek::Collection(value)) => Zset::of(value),
        _ => None,
    };
    let query = Query::parse(ask.args, form, set)?;
    let hits = set.map_or_else(Vec::new, |set| query.run(set));
    let Some(store) = query.store else {
        return Decision::reply(ask, |out| {
            out.array(hits.len())?;
            hits.iter().try_for_each(|hit| hit.write(&query, out))
        });
    };
    let event = if form.is_search() {
        Event::GEOSEARCHSTORE
    } else {
        Event::GEORADIUSSTORE
    };
    let limits = &Default::default();
    let mut result = Zset::new(0, limits);
    for hit in &hits {
        let score = if query.store_distance {
            hit.distance
        } else {
            hit.score
        };
        result.set(&hit.name, score, limits);
    }
    let missing = Peek::Missing;
    let destination = of(store).map_or(&missing, |i| &peeks[i]);
    zset::store(ask, store, destination, Some(result), event)
}

impl Hit {
    fn write(&self, query: &Query, out: &mut Writer) -> CmdResult {
        let shown = [query.with_distance, query.with_hash, query.with_coordinates];
        let extra = shown.iter().filter(|shown| **shown).count();
        if extra > 0 {
            out.array(extra + 1)?;
        }
        out.bulk(&self.name)?;
        if query.with_distance {
            distance(self.distance, out)?;
        }
        if query.with_hash {
            out.int(geohash::of_score(self.score) as i64)?;
        }
        if query.with_coordinates {
            out.array(2)?;
            coordinate(self.place.lon, out)?;
            coordinate(self.place.lat, out)?;
        }
        Ok(())
    }
}
