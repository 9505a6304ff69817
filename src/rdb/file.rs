//! Files: what stands around keys and values (Redis: rdb.c).
//!
//! ```text
//! "REDIS" and 4 digits of version | "VALKEY" and 3
//! fa  name string  value string                  AUX: about the file; unknown ones mean nothing
//! f5  code string                                a library of functions
//! f7  module id  2  when  pieces                 data of a module beside its keys
//! fe  number                                     SELECTDB: the keys that follow live there
//! fb  keys  keys that expire                     RESIZEDB: a hint
//! f4  slot  keys  keys that expire               a hint of a cluster's node
//! [fd  seconds i32 | fc  ms i64]  [f8  idle seconds | f9  frequency u8]  [6b  clock]
//!   type  key string  value
//! ff  CRC-64 of all before it, or 0              the checksum is missing before version 5
//! ```

mod reader;

use bytes::Bytes;

pub use reader::Reader;

use super::error::{Error, Fault, Result};
use super::input::Input;
use super::object::{self, Body, Encode, Object, Product, Taken};
use super::string::{self, StringWriter};
use super::{Sink, crc64, length};

pub(super) mod opcode {
    pub const SLOT_INFO: u8 = 0xf4;
    pub const FUNCTION_2: u8 = 0xf5;
    pub const MODULE_AUX: u8 = 0xf7;
    pub const IDLE: u8 = 0xf8;
    pub const FREQUENCY: u8 = 0xf9;
    pub const AUX: u8 = 0xfa;
    pub const RESIZE_DB: u8 = 0xfb;
    pub const EXPIRE_MS: u8 = 0xfc;
    pub const EXPIRE_S: u8 = 0xfd;
    pub const SELECT_DB: u8 = 0xfe;
    pub const END: u8 = 0xff;
    /// A clock of Redis Enterprise, which moves keys to disk by it.
    pub const ENTERPRISE_LRU: u8 = 0x6b;
    /// Below are types of values, from here on opcodes, known or not.
    pub const FIRST: u8 = 200;
}

/// Bytes that tell the product and the version.
const SIGNATURE_BYTES: u64 = 9;
/// Since this version a checksum ends the file.
const CHECKSUM_VERSION: u32 = 5;
/// What stands before the time at which a module's data was saved: an unsigned number follows.
const MODULE_WHEN: u64 = 2;

/// What is known of a key beside its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Unix time.
    pub expire_at_ms: Option<i64>,
    /// Seconds since the last use, of servers that evict by it.
    pub idle_s: Option<u64>,
    /// Redis' logarithmic counter, likewise.
    pub frequency: Option<u8>,
}

// ---- reading ---------------------------------------------------------------------------------

/// A key with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: Bytes,
    pub object: Object,
    pub attributes: Attributes,
    /// The type byte it had.
    pub ty: u8,
    /// How much of the file its value takes.
    pub value_bytes: u64,
}

/// What became of the checksum at the end of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    Verified,
    /// The writer computed none: `rdbchecksum no`.
    Disabled,
    /// Before version 5 there was none.
    Absent,
    /// The reader was not to verify it.
    Ignored,
}

/// The parts of a file, one by one.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Start {
        product: Product,
        version: u32,
    },
    Aux {
        name: Bytes,
        value: Bytes,
    },
    /// The source of a library of functions.
    Function(Bytes),
    SelectDb(u32),
    ResizeDb {
        keys: u64,
        expires: u64,
    },
    Entry(Box<Entry>),
    /// A key without elements, which Redis of old could write: not to be loaded.
    EmptyKey {
        key: Bytes,
        ty: u8,
    },
    /// A module's value, stepped over.
    ModuleKey {
        key: Bytes,
        module: String,
    },
    /// A module's data beside keys, stepped over.
    ModuleAux {
        module: String,
        /// Where in the file it begins.
        data_at: u64,
    },
    /// A hint that means nothing here.
    Hint,
    End(Checksum),
}

fn take_signature(input: &mut Input) -> Result<Event> {
    let start = input.position();
    let signature = input.array::<9>()?;
    let (product, digits) = match &signature {
        [b'R', b'E', b'D', b'I', b'S', digits @ ..] => (Product::Redis, &digits[..]),
        [b'V', b'A', b'L', b'K', b'E', b'Y', digits @ ..] => (Product::Valkey, &digits[..]),
        _ => return Err(Error::new(start, Fault::Signature)),
    };
    let digit = |version, &digit: &u8| match digit {
        b'0'..=b'9' => Some(version * 10 + u32::from(digit - b'0')),
        _ => None,
    };
    let version = digits.iter().try_fold(0, digit);
    let version = version.ok_or(Error::new(start, Fault::Signature))?;
    if !super::is_read(version) || object::product_of(version) != product {
        return Err(Error::new(start, Fault::Version(version)));
    }
    Ok(Event::Start { product, version })
}

/// What stands before a value.
fn take_key(input: &mut Input) -> Result<(Attributes, u8, Bytes)> {
    let mut attributes = Attributes::default();
    let ty = loop {
        let start = input.position();
        match input.byte()? {
            opcode::EXPIRE_MS => attributes.expire_at_ms = Some(input.i64_le()?),
            opcode::EXPIRE_S => {
                let seconds = i32::from_le_bytes(input.array()?);
                attributes.expire_at_ms = Some(i64::from(seconds) * 1000);
            }
            opcode::IDLE => attributes.idle_s = Some(length::take(input)?),
            opcode::FREQUENCY => attributes.frequency = Some(input.byte()?),
            opcode::ENTERPRISE_LRU => {
                length::take(input)?;
            }
            ty if ty < opcode::FIRST => break ty,
            opcode => return Err(Error::new(start, Fault::Opcode(opcode))),
        }
    };
    Ok((attributes, ty, string::take(input)?))
}

fn take_entry(input: &mut Input, product: Product) -> Result<Event> {
    let (attributes, ty, key) = take_key(input)?;
    let start = input.position();
    Ok(match object::take(input, ty, product)? {
        Taken::Object(object) => Event::Entry(Box::new(Entry {
            key,
            object,
            attributes,
            ty,
            value_bytes: input.position() - start,
        })),
        Taken::Empty => Event::EmptyKey { key, ty },
        Taken::Module { name } => Event::ModuleKey { key, module: name },
    })
}

/// What is not a key, or about one.
fn take_about(input: &mut Input, start: u64) -> Result<Event> {
    Ok(match input.byte()? {
        opcode::AUX => Event::Aux {
            name: string::take(input)?,
            value: string::take(input)?,
        },
        opcode::FUNCTION_2 => Event::Function(string::take(input)?),
        opcode::SELECT_DB => {
            let db = u32::try_from(length::take(input)?);
            Event::SelectDb(db.map_err(|_| Error::new(start, Fault::Length))?)
        }
        opcode::RESIZE_DB => Event::ResizeDb {
            keys: length::take(input)?,
            expires: length::take(input)?,
        },
        opcode::SLOT_INFO => {
            for _ in 0..3 {
                length::take(input)?;
            }
            Event::Hint
        }
        opcode::MODULE_AUX => {
            let module = object::module_name(length::take(input)?);
            if length::take(input)? != MODULE_WHEN {
                return Err(Error::new(start, Fault::Packed("Module aux")));
            }
            length::take(input)?;
            let data_at = input.position();
            object::skip_module(input)?;
            Event::ModuleAux { module, data_at }
        }
        opcode => return Err(Error::new(start, Fault::Opcode(opcode))),
    })
}

// ---- writing ---------------------------------------------------------------------------------

/// What a file tells about itself before its keys.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// The version of Redis whose behaviour the server has.
    pub redis_version: &'a str,
    /// Unix time.
    pub created_s: u64,
    pub used_memory_bytes: u64,
    /// The replication stream that continues this file.
    pub replication: Option<Replication<'a>>,
    /// Whether commands of an AOF follow.
    pub is_aof_base: bool,
}

#[derive(Clone, Debug)]
pub struct Replication<'a> {
    /// The database that the stream has selected.
    pub db: u32,
    pub id: &'a str,
    pub offset: u64,
}

pub fn put_signature(out: &mut impl Sink, version: u32) {
    debug_assert!(object::product_of(version) == Product::Redis);
    out.put(format!("REDIS{version:04}").as_bytes());
}

pub fn put_aux(out: &mut impl Sink, strings: &mut StringWriter, name: &str, value: &str) {
    out.put(&[opcode::AUX]);
    strings.put(out, name.as_bytes());
    strings.put(out, value.as_bytes());
}

/// The fields that Redis writes, in its order.
pub fn put_about(out: &mut impl Sink, strings: &mut StringWriter, about: &About) {
    put_aux(out, strings, "redis-ver", about.redis_version);
    let mut number = itoa::Buffer::new();
    put_aux(out, strings, "redis-bits", "64");
    put_aux(out, strings, "ctime", number.format(about.created_s));
    put_aux(
        out,
        strings,
        "used-mem",
        number.format(about.used_memory_bytes),
    );
    if let Some(replication) = &about.replication {
        put_aux(
            out,
            strings,
            "repl-stream-db",
            number.format(replication.db),
        );
        put_aux(out, strings, "repl-id", replication.id);
        put_aux(
            out,
            strings,
            "repl-offset",
            number.format(replication.offset),
        );
    }
    put_aux(
        out,
        strings,
        "aof-base",
        number.format(u8::from(about.is_aof_base)),
    );
}

/// The source of a library.
pub fn put_function(out: &mut impl Sink, strings: &mut StringWriter, code: &[u8]) {
    out.put(&[opcode::FUNCTION_2]);
    strings.put(out, code);
}

/// Begins a database, or continues it.
pub fn put_select_db(out: &mut impl Sink, db: u32) {
    out.put(&[opcode::SELECT_DB]);
    length::put(out, u64::from(db));
}

/// How many keys will follow.
pub fn put_resize_db(out: &mut impl Sink, keys: u64, expires: u64) {
    out.put(&[opcode::RESIZE_DB]);
    length::put(out, keys);
    length::put(out, expires);
}

/// What stands before a value that is then written to a [`Body`] piece by piece.
pub fn put_key(
    out: &mut impl Sink,
    strings: &mut StringWriter,
    ty: object::Type,
    key: &[u8],
    attributes: &Attributes,
) {
    if let Some(at_ms) = attributes.expire_at_ms {
        out.put(&[opcode::EXPIRE_MS]);
        out.put(&at_ms.to_le_bytes());
    }
    if let Some(idle_s) = attributes.idle_s {
        out.put(&[opcode::IDLE]);
        length::put(out, idle_s);
    }
    if let Some(frequency) = attributes.frequency {
        out.put(&[opcode::FREQUENCY, frequency]);
    }
    out.put(&[ty.byte()]);
    strings.put(out, key);
}

/// A key with its value.
pub fn put_entry(
    out: &mut impl Sink,
    strings: &mut StringWriter,
    key: &[u8],
    attributes: &Attributes,
    value: &impl Encode,
) {
    put_key(out, strings, value.ty(), key, attributes);
    value.write(&mut Body::new(out, strings));
}

/// Ends a file of which `crc` is the checksum so far, 0 if there is to be none.
pub fn put_end(out: &mut impl Sink, crc: u64) {
    out.put(&[opcode::END]);
    let crc = match crc {
        0 => 0,
        _ => crc64::update(crc, &[opcode::END]),
    };
    out.put(&crc.to_le_bytes());
}

/// Sums up what passes through it.
#[derive(Debug, Default)]
pub struct Summed<S> {
    pub out: S,
    pub crc: u64,
}

impl<S: Sink> Sink for Summed<S> {
    fn put(&mut self, bytes: &[u8]) {
        self.crc = crc64::update(self.crc, bytes);
        self.out.put(bytes);
    }
}
