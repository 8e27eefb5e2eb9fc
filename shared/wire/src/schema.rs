//! From a message's table to its struct and codec.
//!
//! ```text
//! Name {
//!     field: Type = default, versions[, null versions][, tag number];
//! }
//! ```
//! A field outside its versions is not written, and reads as its default. An `Option` is nullable in all
//! versions of the field unless `null` says which. A field with a tag is only in flexible versions, at the
//! struct's end, and only if it is not the default; a struct's tags ascend. Unknown tags are dropped.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::api::ApiKey;
use crate::cursor::{BodyCursor, DecodeError};
use crate::field::{FieldContext, WireField};
use crate::sink::{FrameSink, LengthSink};

/// A body: of a request or of a response.
pub trait Message: WireField {
    /// The API it belongs to.
    const API: ApiKey;
    /// The versions that its table describes.
    const VERSIONS: RangeInclusive<i16>;

    /// Reads a body. Bytes after its end are ignored, as Kafka does: librdkafka sends some.
    fn decode(body: Bytes, version: i16) -> Result<Self, DecodeError> {
        if !Self::VERSIONS.contains(&version) {
            return Err(DecodeError::UnsupportedVersion { api: Self::API, version });
        }
        Self::read(&mut BodyCursor::new(body), at::<Self>(version))
    }

    /// The body, as chunks for a vectored write. Fields that `version` does not have are left out.
    ///
    /// `version` is one of [`Self::VERSIONS`].
    fn encode(&self, version: i16) -> Vec<Bytes> {
        let mut frames = FrameSink::with_capacity(self.measure(version).copied);
        self.write(&mut frames, at::<Self>(version));
        frames.finish()
    }

    /// Bytes of the body that [`Self::encode`] makes.
    fn encoded_len(&self, version: i16) -> usize {
        self.measure(version).total
    }

    #[doc(hidden)]
    fn measure(&self, version: i16) -> LengthSink {
        debug_assert!(Self::VERSIONS.contains(&version), "{} v{version}", Self::API);
        let mut length = LengthSink::default();
        self.write(&mut length, at::<Self>(version));
        length
    }
}

/// The body of a request.
pub trait RequestMessage: Message {
    /// The body of its answer.
    type Response: Message;
}

fn at<M: Message>(version: i16) -> FieldContext {
    FieldContext { version, flexible: M::API.is_flexible(version), nullable: false }
}

/// Bytes that a tagged field's value takes.
pub fn tagged_len(value: &impl WireField, at: FieldContext) -> u32 {
    let mut length = LengthSink::default();
    value.write(&mut length, at);
    length.total as u32
}

macro_rules! schema {
    ($($(#[$doc:meta])* $name:ident {$(
        $(#[$field_doc:meta])*
        $field:ident: $ty:ty = $default:expr, $versions:expr $(, null $null:expr)? $(, tag $tag:literal)?;
    )*})*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $crate::field::WireField for $name {
            fn read(
                input: &mut $crate::cursor::BodyCursor,
                at: $crate::field::FieldContext,
            ) -> Result<Self, $crate::cursor::DecodeError> {
                let mut value = Self::default();
                $($crate::schema::schema!(@read input, at, value.$field, $versions, [$($null)?], [$($tag)?]);)*
                if at.flexible {
                    for _ in 0..input.uvarint()? {
                        let tag = input.uvarint()?;
                        let length = input.uvarint()? as usize;
                        input.within(length, |input| {
                            let _ = &input;
                            match tag {
                                $($($tag if ($versions).contains(&at.version) => {
                                    value.$field = $crate::field::WireField::read(input, at.with_nullable(true))?;
                                })?)*
                                _ => {}
                            }
                            Ok(())
                        })?;
                    }
                }
                Ok(value)
            }

            fn write(&self, out: &mut impl $crate::sink::Sink, at: $crate::field::FieldContext) {
                $($crate::schema::schema!(@write out, at, self.$field, $versions, [$($null)?], [$($tag)?]);)*
                if at.flexible {
                    let tags: [bool; _] = [$($crate::schema::schema!(
                        @present at, self.$field, $default, $versions, [$($tag)?]
                    )),*];
                    out.uvarint(tags.into_iter().filter(|present| *present).count() as u32);
                    $($crate::schema::schema!(@write_tag out, at, self.$field, $default, $versions, [$($tag)?]);)*
                }
            }

            #[cfg(test)]
            fn sample(random: &mut rand::rngs::StdRng, at: $crate::field::FieldContext) -> Self {
                let mut value = Self::default();
                $(if ($versions).contains(&at.version) {
                    let nullable = true $(&& ($null).contains(&at.version))?;
                    value.$field = $crate::field::WireField::sample(random, at.with_nullable(nullable));
                })*
                value
            }
        }
    )*};

    (@read $input:ident, $at:ident, $value:ident.$field:ident, $versions:expr, [$($null:expr)?], []) => {
        if ($versions).contains(&$at.version) {
            let nullable = true $(&& ($null).contains(&$at.version))?;
            $value.$field = $crate::field::WireField::read($input, $at.with_nullable(nullable))?;
        }
    };
    (@read $input:ident, $at:ident, $value:ident.$field:ident, $versions:expr, $null:tt, [$tag:literal]) => {};

    (@write $out:ident, $at:ident, $this:ident.$field:ident, $versions:expr, [$($null:expr)?], []) => {
        if ($versions).contains(&$at.version) {
            let nullable = true $(&& ($null).contains(&$at.version))?;
            $crate::field::WireField::write(&$this.$field, $out, $at.with_nullable(nullable));
        }
    };
    (@write $out:ident, $at:ident, $this:ident.$field:ident, $versions:expr, $null:tt, [$tag:literal]) => {};

    (@present $at:ident, $this:ident.$field:ident, $default:expr, $versions:expr, []) => { false };
    (@present $at:ident, $this:ident.$field:ident, $default:expr, $versions:expr, [$tag:literal]) => {
        ($versions).contains(&$at.version) && $this.$field != $default
    };

    (@write_tag $out:ident, $at:ident, $this:ident.$field:ident, $default:expr, $versions:expr, []) => {};
    (@write_tag $out:ident, $at:ident, $this:ident.$field:ident, $default:expr, $versions:expr, [$tag:literal]) => {
        if $crate::schema::schema!(@present $at, $this.$field, $default, $versions, [$tag]) {
            let at = $at.with_nullable(true);
            $out.uvarint($tag);
            $out.uvarint($crate::schema::tagged_len(&$this.$field, at));
            $crate::field::WireField::write(&$this.$field, $out, at);
        }
    };
}

/// Names the request and the response of an API, and their versions.
macro_rules! api {
    ($api:ident, $versions:expr, $request:ident => $response:ident) => {
        impl $crate::Message for $request {
            const API: $crate::ApiKey = $crate::ApiKey::$api;
            const VERSIONS: std::ops::RangeInclusive<i16> = $versions;
        }

        impl $crate::Message for $response {
            const API: $crate::ApiKey = $crate::ApiKey::$api;
            const VERSIONS: std::ops::RangeInclusive<i16> = $versions;
        }

        impl $crate::RequestMessage for $request {
            type Response = $response;
        }
    };
}

pub(crate) use {api, schema};
