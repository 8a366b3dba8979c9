//! Who is in which group, on this server.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::table::ConnectionTable;
use crate::connection::Connection;
use crate::writers::Delivery;

/// All groups that have a member here. A group exists from its first member to its last.
///
/// Each group has a lock of its own, held while a message is handed to its members: so all members see one
/// order, and groups do not wait for each other. What a connection knows of its groups changes under the same
/// lock, so the two never disagree.
#[derive(Debug, Default)]
pub(crate) struct GroupTable {
    groups: RwLock<HashMap<Arc<str>, Arc<Mutex<Group>>>>,
}

#[derive(Debug, Default)]
struct Group {
    members: ConnectionTable,
    /// Set with the last member's leaving: whoever still holds the group must look for a new one.
    retired: bool,
}

fn lock(group: &Mutex<Group>) -> MutexGuard<'_, Group> {
    group.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GroupTable {
    fn find(&self, name: &str) -> Option<(Arc<str>, Arc<Mutex<Group>>)> {
        let groups = self.groups.read().unwrap_or_else(PoisonError::into_inner);
        let (name, group) = groups.get_key_value(name)?;
        Some((Arc::clone(name), Arc::clone(group)))
    }

    #[cfg(test)]
    pub(super) fn exists(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Gives the group of that name, a new one if there is none that lives.
    fn find_or_create(&self, name: &str) -> (Arc<str>, Arc<Mutex<Group>>) {
        if let Some(found) = self.find(name) {
            return found;
        }
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        let name: Arc<str> = name.into();
        let group = groups.entry(Arc::clone(&name)).or_default();
        (name, Arc::clone(group))
    }

    fn forget(&self, name: &str, group: &Arc<Mutex<Group>>) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        if groups
            .get(name)
            .is_some_and(|found| Arc::ptr_eq(found, group))
        {
            groups.remove(name);
        }
    }

    /// Makes a connection a member, unless it has left for good. `on_member` runs under the group's lock if it is one
    /// now, so that what it starts cannot be overtaken by what the last one's leaving starts.
    pub(crate) fn add(&self, name: &str, connection: &Arc<Connection>, on_member: impl FnOnce()) {
        self.join(
            name,
            connection,
            |name| connection.note_joined(name),
            on_member,
        );
    }

    /// Makes a connection a member until it [leaves](Self::leave), without noting that among its groups: what it belongs
    /// to for as long as it lives, and who adds it takes it out again.
    pub(crate) fn enter(&self, name: &str, connection: &Arc<Connection>, on_member: impl FnOnce()) {
        self.join(name, connection, |_| true, on_member);
    }

    /// `note` says, under the group's lock, whether the connection becomes a member.
    fn join(
        &self,
        name: &str,
        connection: &Arc<Connection>,
        note: impl Fn(&Arc<str>) -> bool,
        on_member: impl FnOnce(),
    ) {
        loop {
            let (name, group) = self.find_or_create(name);
            let mut members = lock(&group);
            if members.retired {
                drop(members);
                self.forget(&name, &group);
                continue;
            }
            if note(&name) {
                members.members.insert(Arc::clone(connection));
            }
            if members.members.get(&connection.id).is_some() {
                on_member();
            } else if members.members.is_empty() {
                // Made for a connection that had left already.
                members.retired = true;
                drop(members);
                self.forget(&name, &group);
            }
            return;
        }
    }

    /// Takes a connection out. `on_last` runs under the group's lock if nobody is left.
    pub(crate) fn remove(&self, name: &str, connection: &Connection, on_last: impl FnOnce()) {
        self.drop_member(name, on_last, |members| {
            connection.note_left(name) && members.remove(&connection.id)
        });
    }

    /// Takes out a connection that has [entered](Self::enter). `on_last` runs under the group's lock if nobody is left.
    pub(crate) fn leave(&self, name: &str, connection: &Connection, on_last: impl FnOnce()) {
        self.drop_member(name, on_last, |members| members.remove(&connection.id));
    }

    /// Takes a connection out of all its groups, and keeps it from ever joining one again.
    pub(crate) fn remove_for_good(&self, connection: &Connection, on_last: impl Fn(&str)) {
        let groups: HashSet<Arc<str>> = connection.leave_for_good();
        for name in groups {
            self.drop_member(
                &name,
                || on_last(&name),
                |members| members.remove(&connection.id),
            );
        }
    }

    /// `leave` takes the member out, under the group's lock, and says whether it was one.
    fn drop_member(
        &self,
        name: &str,
        on_last: impl FnOnce(),
        leave: impl FnOnce(&mut ConnectionTable) -> bool,
    ) {
        loop {
            let Some((_, group)) = self.find(name) else {
                return;
            };
            let mut members = lock(&group);
            if members.retired {
                drop(members);
                self.forget(name, &group);
                continue;
            }
            if leave(&mut members.members) && members.members.is_empty() {
                members.retired = true;
                on_last();
                drop(members);
                self.forget(name, &group);
            }
            return;
        }
    }

    /// Hands a message to every member that is not excepted.
    pub(crate) fn deliver(
        &self,
        name: &str,
        except: &HashSet<String>,
        delivery: &mut Delivery<'_>,
    ) {
        if let Some((_, group)) = self.find(name) {
            lock(&group).members.deliver(except, delivery);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::HubOptions;

    /// Whether a connection is a member and knows it, or is none and knows that.
    #[tokio::test]
    async fn what_a_connection_knows_of_its_groups_is_true_whatever_happens_at_once() {
        let groups = GroupTable::default();
        let connection = Arc::new(Connection::alone("c", &HubOptions::default()));
        for _ in 0..2_000 {
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| groups.add("g", &connection, || {}));
                    scope.spawn(|| groups.remove("g", &connection, || {}));
                }
            });
            // Now it can be added and removed for certain.
            groups.add("g", &connection, || {});
            assert!(groups.exists("g"));
            groups.remove("g", &connection, || {});
            assert!(!groups.exists("g"));
        }
    }
}
