//! The arguments that a client method is called with.

use serde::ser::{Serialize, SerializeSeq, Serializer};

/// A tuple of up to eight serializable values: what [`Recipients::send`](crate::Recipients::send) takes.
///
/// Always a tuple, `("System", notice)`, `(message,)` or `()`, so that the array which SignalR requires cannot be
/// forgotten. As JSON they are `["System","..."]`, `["..."]` and `[]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a tuple of values that can be serialized",
    label = "the arguments of a client method are a tuple: `(a, b)`, `(a,)` or `()`",
    note = "every value must implement `serde::Serialize`"
)]
pub trait ClientArguments: sealed::Sealed {
    /// Writes the values as a list.
    #[doc(hidden)]
    fn serialize_list<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

mod sealed {
    pub trait Sealed {}
}

/// Serializes arguments as the list they are on the wire.
pub(crate) struct List<'a, A>(pub(crate) &'a A);

impl<A: ClientArguments> Serialize for List<'_, A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize_list(serializer)
    }
}

macro_rules! client_arguments {
    ($count:literal $($value:ident)*) => {
        impl<$($value: Serialize),*> sealed::Sealed for ($($value,)*) {}

        impl<$($value: Serialize),*> ClientArguments for ($($value,)*) {
            #[allow(non_snake_case, reason = "the names of types serve as names of values")]
            fn serialize_list<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let ($($value,)*) = self;
                #[allow(unused_mut, reason = "the empty tuple has nothing to add")]
                let mut list = serializer.serialize_seq(Some($count))?;
                $(list.serialize_element($value)?;)*
                list.end()
            }
        }
    };
}

client_arguments!(0);
client_arguments!(1 A);
client_arguments!(2 A B);
client_arguments!(3 A B C);
client_arguments!(4 A B C D);
client_arguments!(5 A B C D E);
client_arguments!(6 A B C D E F);
client_arguments!(7 A B C D E F G);
client_arguments!(8 A B C D E F G I);
