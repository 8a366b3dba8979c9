//! What a hub keeps with a connection.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One value for each type. Costs nothing until something is put into it.
#[derive(Default)]
pub(crate) struct ItemStore(Mutex<BTreeMap<TypeId, Box<dyn Any + Send>>>);

impl ItemStore {
    fn values(&self) -> MutexGuard<'_, BTreeMap<TypeId, Box<dyn Any + Send>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ItemStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} item(s)", self.values().len())
    }
}

/// What a hub keeps with one connection, from its first call to its last: one value for each type. ASP.NET Core's
/// `Context.Items`.
///
/// ```
/// # use hubcast::CallerContext;
/// struct Room(String);
///
/// # fn example(ctx: &CallerContext) {
/// ctx.items().insert(Room("lobby".into()));
/// # }
/// ```
///
/// Gone when the connection is; a client that reconnects begins with nothing. Do not keep a
/// [`CallerContext`](crate::CallerContext) in it: the two would keep each other.
#[derive(Debug, Clone, Copy)]
pub struct Items<'a>(&'a ItemStore);

impl<'a> Items<'a> {
    pub(crate) fn new(store: &'a ItemStore) -> Self {
        Self(store)
    }

    /// Keeps a value, and gives the one that it takes the place of.
    pub fn insert<T: Send + 'static>(&self, value: T) -> Option<T> {
        let before = self.0.values().insert(TypeId::of::<T>(), Box::new(value));
        unbox(before?)
    }

    /// A copy of the value of that type.
    pub fn get<T: Clone + 'static>(&self) -> Option<T> {
        self.0
            .values()
            .get(&TypeId::of::<T>())
            .and_then(|value| value.downcast_ref::<T>())
            .cloned()
    }

    /// Takes the value of that type out.
    pub fn remove<T: 'static>(&self) -> Option<T> {
        let value = self.0.values().remove(&TypeId::of::<T>());
        unbox(value?)
    }

    /// Changes the value of that type in place, or a new one if there is none. Nobody else sees or changes the
    /// connection's items meanwhile, so `change` itself must not use them.
    pub fn update<T: Default + Send + 'static, R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut values = self.0.values();
        let value = values
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Box::<T>::default());
        match value.downcast_mut::<T>() {
            Some(value) => change(value),
            // A value is kept under its own type, always.
            None => change(&mut T::default()),
        }
    }
}

fn unbox<T: 'static>(value: Box<dyn Any + Send>) -> Option<T> {
    value.downcast().ok().map(|value| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    struct Visits(u32);

    #[test]
    fn there_is_one_value_for_each_type() {
        let store = ItemStore::default();
        let items = Items::new(&store);
        assert_eq!(items.get::<Visits>(), None);
        assert_eq!(items.remove::<Visits>(), None);
        assert_eq!(items.insert(Visits(1)), None);
        assert_eq!(items.insert(Visits(2)), Some(Visits(1)));
        assert_eq!(items.insert(String::from("another type")), None);
        assert_eq!(items.get(), Some(Visits(2)));
        assert_eq!(items.remove(), Some(Visits(2)));
        assert_eq!(items.get::<Visits>(), None);
        assert_eq!(items.get::<String>().as_deref(), Some("another type"));
    }

    #[test]
    fn a_value_is_changed_in_place_and_begins_with_its_default() {
        let store = ItemStore::default();
        let items = Items::new(&store);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        items.update(|visits: &mut Visits| visits.0 += 1);
                    }
                });
            }
        });
        assert_eq!(items.update(|visits: &mut Visits| visits.0), 4_000);
    }
}
