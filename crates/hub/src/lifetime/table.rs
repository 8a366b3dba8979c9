//! Connections by their ids.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::connection::Connection;
use crate::writers::Delivery;

/// Connections that can be found by their ids, at eight bytes each: all of them, and the members of every group.
#[derive(Debug, Default)]
pub(crate) struct ConnectionTable(HashSet<ById>);

/// A connection that is known by its id.
#[derive(Debug)]
struct ById(Arc<Connection>);

impl Borrow<str> for ById {
    fn borrow(&self) -> &str {
        &self.0.id
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl ConnectionTable {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Arc<Connection>> {
        self.0.get(id).map(|ById(connection)| connection)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.0.iter().map(|ById(connection)| connection)
    }

    pub(crate) fn insert(&mut self, connection: Arc<Connection>) {
        self.0.insert(ById(connection));
    }

    /// Takes a connection out; false if it was not there.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let removed = self.0.remove(id);
        // A room that was large once should not stay so.
        if self.0.len() < self.0.capacity() / 8 {
            self.0.shrink_to(self.0.len() * 2);
        }
        removed
    }

    /// Hands a message to all, except some.
    pub(crate) fn deliver(&self, except: &HashSet<String>, delivery: &mut Delivery<'_>) {
        delivery.expects(self.len());
        for connection in self.iter() {
            if except.is_empty() || !except.contains(&*connection.id) {
                delivery.to(connection);
            }
        }
    }
}
