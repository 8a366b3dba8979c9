//! The arguments that a hub method is called with.

use serde::ser::{Serialize, SerializeSeq, Serializer};

use crate::upload::Upload;

/// One argument of a hub method: any type that implements `Serialize`, or an [`Upload`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a hub method",
    label = "neither serializable nor an `Upload`",
    note = "an argument must implement `serde::Serialize`; a stream is put into an `Upload`"
)]
pub trait Argument: sealed::Argument {}

/// The arguments of a hub method: a tuple of up to eight values that implement `Serialize`, or are [`Upload`]s.
///
/// Always a tuple, `("lobby", text)`, `(text,)` or `()`, so that the array which SignalR requires cannot be forgotten.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a tuple of values that can be serialized",
    label = "the arguments of a hub method are a tuple: `(a, b)`, `(a,)` or `()`",
    note = "every value must implement `serde::Serialize`, or be an `Upload`"
)]
pub trait HubArguments: sealed::HubArguments {}

mod sealed {
    use super::{Serializer, Upload};

    pub trait Argument {
        const IS_STREAM: bool;

        /// Streams write nothing: they are not among the arguments.
        fn write<S: super::SerializeSeq>(&self, list: &mut S) -> Result<(), S::Error>;

        fn into_upload(self) -> Option<Upload>;
    }

    pub trait HubArguments: Sized {
        /// Writes what is no stream as a list.
        fn serialize_list<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;

        /// The streams, in their order.
        fn into_uploads(self) -> Vec<Upload>;

        const STREAMS: usize;
    }
}

// Otherwise the compiler would ask for `Serialize` of what belongs into an `Upload`.
#[diagnostic::do_not_recommend]
impl<T: Serialize> Argument for T {}

impl<T: Serialize> sealed::Argument for T {
    const IS_STREAM: bool = false;

    fn write<S: SerializeSeq>(&self, list: &mut S) -> Result<(), S::Error> {
        list.serialize_element(self)
    }

    fn into_upload(self) -> Option<Upload> {
        None
    }
}

impl Argument for Upload {}

impl sealed::Argument for Upload {
    const IS_STREAM: bool = true;

    fn write<S: SerializeSeq>(&self, _: &mut S) -> Result<(), S::Error> {
        Ok(())
    }

    fn into_upload(self) -> Option<Upload> {
        Some(self)
    }
}

/// Serializes arguments as the list they are on the wire.
pub(crate) struct List<'a, A>(pub(crate) &'a A);

impl<A: HubArguments> Serialize for List<'_, A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_list(serializer)
    }
}

macro_rules! hub_arguments {
    ($count:literal $($value:ident)*) => {
        impl<$($value: Argument),*> HubArguments for ($($value,)*) {}

        impl<$($value: Argument),*> sealed::HubArguments for ($($value,)*) {
            const STREAMS: usize = 0 $(+ $value::IS_STREAM as usize)*;

            #[allow(non_snake_case, reason = "the names of types serve as names of values")]
            fn serialize_list<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let ($($value,)*) = self;
                #[allow(unused_mut, reason = "the empty tuple has nothing to add")]
                let mut list = serializer.serialize_seq(Some($count - Self::STREAMS))?;
                $($value.write(&mut list)?;)*
                list.end()
            }

            #[allow(non_snake_case, reason = "the names of types serve as names of values")]
            fn into_uploads(self) -> Vec<Upload> {
                let ($($value,)*) = self;
                let uploads: [Option<Upload>; $count] = [$($value.into_upload()),*];
                uploads.into_iter().flatten().collect()
            }
        }
    };
}

hub_arguments!(0);
hub_arguments!(1 A);
hub_arguments!(2 A B);
hub_arguments!(3 A B C);
hub_arguments!(4 A B C D);
hub_arguments!(5 A B C D E);
hub_arguments!(6 A B C D E F);
hub_arguments!(7 A B C D E F G);
hub_arguments!(8 A B C D E F G I);
