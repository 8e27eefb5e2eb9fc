//! The types a field can have, and their bytes.
//!
//! Integers are big-endian. Strings, arrays and bytes begin with their length: an `i16` (strings) or `i32`, -1 for
//! null; in flexible versions an unsigned variable-length integer, one more than the length, 0 for null.

use bytes::Bytes;
use uuid::Uuid;

use crate::cursor::{BodyCursor, DecodeError};
use crate::sink::Sink;

/// What decides a field's bytes beside its value.
#[derive(Clone, Copy)]
pub struct FieldContext {
    pub version: i16,
    pub flexible: bool,
    /// Whether the field at hand may be null in this version.
    pub nullable: bool,
}

impl FieldContext {
    pub fn with_nullable(self, nullable: bool) -> Self {
        Self { nullable, ..self }
    }
}

/// A type that a field can have.
pub trait WireField: Sized {
    fn read(input: &mut BodyCursor, at: FieldContext) -> Result<Self, DecodeError>;
    fn write(&self, out: &mut impl Sink, at: FieldContext);
    /// A random value, such as a message of this version can carry.
    #[cfg(test)]
    fn sample(random: &mut rand::rngs::StdRng, at: FieldContext) -> Self;
}

macro_rules! integers {
    ($($ty:ty)*) => {$(
        impl WireField for $ty {
            fn read(input: &mut BodyCursor, _: FieldContext) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(input.array()?))
            }

            fn write(&self, out: &mut impl Sink, _: FieldContext) {
                out.put(&self.to_be_bytes());
            }

            #[cfg(test)]
            fn sample(random: &mut rand::rngs::StdRng, _: FieldContext) -> Self {
                use rand::Rng;
                match random.random_range(0..8) {
                    0 => -1,
                    1 => Self::MIN,
                    2 => Self::MAX,
                    _ => random.random(),
                }
            }
        }
    )*};
}

integers!(i8 i16 i32 i64);

impl WireField for bool {
    fn read(input: &mut BodyCursor, _: FieldContext) -> Result<Self, DecodeError> {
        let [byte] = input.array()?;
        Ok(byte != 0)
    }

    fn write(&self, out: &mut impl Sink, _: FieldContext) {
        out.put(&[u8::from(*self)]);
    }

    #[cfg(test)]
    fn sample(random: &mut rand::rngs::StdRng, _: FieldContext) -> Self {
        rand::Rng::random(random)
    }
}

impl WireField for Uuid {
    fn read(input: &mut BodyCursor, _: FieldContext) -> Result<Self, DecodeError> {
        Ok(Self::from_bytes(input.array()?))
    }

    fn write(&self, out: &mut impl Sink, _: FieldContext) {
        out.put(self.as_bytes());
    }

    #[cfg(test)]
    fn sample(random: &mut rand::rngs::StdRng, _: FieldContext) -> Self {
        Self::from_u128(rand::Rng::random(random))
    }
}

impl WireField for crate::ErrorCode {
    fn read(input: &mut BodyCursor, at: FieldContext) -> Result<Self, DecodeError> {
        Ok(Self(i16::read(input, at)?))
    }

    fn write(&self, out: &mut impl Sink, at: FieldContext) {
        self.0.write(out, at);
    }

    #[cfg(test)]
    fn sample(random: &mut rand::rngs::StdRng, at: FieldContext) -> Self {
        Self(i16::sample(random, at))
    }
}

/// A type whose bytes begin with its length.
pub trait LengthPrefixed: Sized {
    fn read_length(input: &mut BodyCursor, at: FieldContext) -> Result<Option<usize>, DecodeError> {
        if at.flexible { Ok((input.uvarint()? as usize).checked_sub(1)) } else { read_i32_length(input) }
    }

    fn write_length(length: Option<usize>, out: &mut impl Sink, at: FieldContext) {
        if at.flexible {
            out.uvarint(length.map_or(0, |length| length as u32 + 1));
        } else {
            out.put(&length.map_or(-1, |length| length as i32).to_be_bytes());
        }
    }

    fn read_content(length: usize, input: &mut BodyCursor, at: FieldContext) -> Result<Self, DecodeError>;
    fn write_counted(&self, out: &mut impl Sink, at: FieldContext);
    #[cfg(test)]
    fn sample_some(random: &mut rand::rngs::StdRng, at: FieldContext) -> Self;
}

fn read_i32_length(input: &mut BodyCursor) -> Result<Option<usize>, DecodeError> {
    Ok(usize::try_from(i32::from_be_bytes(input.array()?)).ok())
}

impl<T: LengthPrefixed> WireField for T {
    fn read(input: &mut BodyCursor, at: FieldContext) -> Result<Self, DecodeError> {
        let length = T::read_length(input, at)?.ok_or(DecodeError::UnexpectedNull)?;
        T::read_content(length, input, at)
    }

    fn write(&self, out: &mut impl Sink, at: FieldContext) {
        self.write_counted(out, at);
    }

    #[cfg(test)]
    fn sample(random: &mut rand::rngs::StdRng, at: FieldContext) -> Self {
        T::sample_some(random, at)
    }
}

/// Null is written as empty where the version knows no null.
impl<T: LengthPrefixed> WireField for Option<T> {
    fn read(input: &mut BodyCursor, at: FieldContext) -> Result<Self, DecodeError> {
        match T::read_length(input, at)? {
            Some(length) => T::read_content(length, input, at).map(Some),
            None if at.nullable => Ok(None),
            None => Err(DecodeError::UnexpectedNull),
        }
    }

    fn write(&self, out: &mut impl Sink, at: FieldContext) {
        match self {
            Some(value) => value.write_counted(out, at),
            None => T::write_length(if at.nullable { None } else { Some(0) }, out, at),
        }
    }

    #[cfg(test)]
    fn sample(random: &mut rand::rngs::StdRng, at: FieldContext) -> Self {
        let null = at.nullable && rand::Rng::random_ratio(random, 1, 4);
        (!null).then(|| T::sample_some(random, at))
    }
}

impl LengthPrefixed for String {
    fn read_length(input: &mut BodyCursor, at: FieldContext) -> Result<Option<usize>, DecodeError> {
        if at.flexible {
            Ok((input.uvarint()? as usize).checked_sub(1))
        } else {
            Ok(usize::try_from(i16::from_be_bytes(input.array()?)).ok())
        }
    }

    fn write_length(length: Option<usize>, out: &mut impl Sink, at: FieldContext) {
        if at.flexible {
            out.uvarint(length.map_or(0, |length| length as u32 + 1));
        } else {
            out.put(&length.map_or(-1, |length| length as i16).to_be_bytes());
        }
    }

    fn read_content(length: usize, input: &mut BodyCursor, _: FieldContext) -> Result<Self, DecodeError> {
        input.string(length)
    }

    /// Cut at a character's border to the 32,767 bytes that a version without compact lengths can carry.
    fn write_counted(&self, out: &mut impl Sink, at: FieldContext) {
        let length = if at.flexible { self.len() } else { self.floor_char_boundary(i16::MAX as usize) };
        Self::write_length(Some(length), out, at);
        out.put(&self.as_bytes()[..length]);
    }

    #[cfg(test)]
    fn sample_some(random: &mut rand::rngs::StdRng, _: FieldContext) -> Self {
        use rand::Rng;
        let length = if random.random_ratio(1, 10) { 200 } else { random.random_range(0..12) };
        (0..length).map(|_| ['a', 'Z', '-', '7', 'é', '語'][random.random_range(0..6)]).collect()
    }
}

impl LengthPrefixed for Bytes {
    fn read_content(length: usize, input: &mut BodyCursor, _: FieldContext) -> Result<Self, DecodeError> {
        input.take(length)
    }

    fn write_counted(&self, out: &mut impl Sink, at: FieldContext) {
        Self::write_length(Some(self.len()), out, at);
        out.splice(self);
    }

    #[cfg(test)]
    fn sample_some(random: &mut rand::rngs::StdRng, _: FieldContext) -> Self {
        use rand::Rng;
        let mut bytes = vec![0; if random.random_ratio(1, 4) { 3000 } else { random.random_range(0..100) }];
        random.fill(&mut bytes[..]);
        bytes.into()
    }
}

impl<T: WireField> LengthPrefixed for Vec<T> {
    fn read_content(length: usize, input: &mut BodyCursor, at: FieldContext) -> Result<Self, DecodeError> {
        input.elements(length)?;
        // What is reserved ahead takes no more memory than the bytes that remain; more comes as elements do.
        let mut elements = Self::with_capacity(length.min(input.remaining() / size_of::<T>().max(1)));
        for _ in 0..length {
            elements.push(T::read(input, at)?);
        }
        Ok(elements)
    }

    fn write_counted(&self, out: &mut impl Sink, at: FieldContext) {
        Self::write_length(Some(self.len()), out, at);
        for element in self {
            element.write(out, at);
        }
    }

    #[cfg(test)]
    fn sample_some(random: &mut rand::rngs::StdRng, at: FieldContext) -> Self {
        let length = rand::Rng::random_range(random, 0..4);
        (0..length).map(|_| T::sample(random, at)).collect()
    }
}

/// The record bytes of one partition in a fetch response, in pieces: batches that lie side by side on the
/// wire need not do so in memory. Null is read as empty; as read, it is one piece.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordChunks(pub Vec<Bytes>);

impl RecordChunks {
    /// Bytes in all pieces.
    pub fn total_len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }
}

impl From<Vec<Bytes>> for RecordChunks {
    fn from(chunks: Vec<Bytes>) -> Self {
        Self(chunks)
    }
}

impl From<Bytes> for RecordChunks {
    fn from(bytes: Bytes) -> Self {
        Self(if bytes.is_empty() { Vec::new() } else { vec![bytes] })
    }
}

impl WireField for RecordChunks {
    fn read(input: &mut BodyCursor, at: FieldContext) -> Result<Self, DecodeError> {
        Ok(<Option<Bytes>>::read(input, at.with_nullable(true))?.unwrap_or_default().into())
    }

    fn write(&self, out: &mut impl Sink, at: FieldContext) {
        Bytes::write_length(Some(self.total_len()), out, at);
        self.0.iter().for_each(|chunk| out.splice(chunk));
    }

    #[cfg(test)]
    fn sample(random: &mut rand::rngs::StdRng, at: FieldContext) -> Self {
        Self(Vec::sample_some(random, at))
    }
}
