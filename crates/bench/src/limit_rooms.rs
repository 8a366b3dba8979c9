//! Who is in which room of a raw limit. A client is in one room at most.

use std::collections::HashMap;

/// A room.
#[derive(Debug, Default)]
pub(crate) struct Room {
    members: Vec<usize>,
    /// What has been said in this batch: the same bytes for everybody.
    pub(crate) said: Vec<u8>,
}

/// Where a client is in its room's list, so that whoever leaves need not be looked for.
#[derive(Debug, Clone, Copy)]
struct Place {
    room: usize,
    at: usize,
}

/// All rooms there have been.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    all: Vec<Room>,
    names: HashMap<Vec<u8>, usize>,
    /// By client.
    places: Vec<Option<Place>>,
}

impl Rooms {
    /// Puts a client into a room, and out of the one it was in.
    pub(crate) fn join(&mut self, client: usize, name: &[u8]) {
        self.leave(client);
        let all = &mut self.all;
        let room = *self.names.entry(name.to_vec()).or_insert_with(|| {
            all.push(Room::default());
            all.len() - 1
        });
        if self.places.len() <= client {
            self.places.resize(client + 1, None);
        }
        if let (Some(of), Some(place)) = (self.all.get_mut(room), self.places.get_mut(client)) {
            let at = of.members.len();
            *place = Some(Place { room, at });
            of.members.push(client);
        }
    }

    /// Takes a client out of its room, if it is in one; the last member gets its place.
    pub(crate) fn leave(&mut self, client: usize) {
        let place = self.places.get_mut(client).and_then(Option::take);
        let Some(Place { room, at }) = place else {
            return;
        };
        let Some(of) = self.all.get_mut(room) else {
            return;
        };
        of.members.swap_remove(at);
        if let Some(moved) = of.members.get(at)
            && let Some(place) = self.places.get_mut(*moved)
        {
            *place = Some(Place { room, at });
        }
    }

    /// The room of a client.
    pub(crate) fn of(&self, client: usize) -> Option<usize> {
        let place = self.places.get(client).copied().flatten();
        place.map(|place| place.room)
    }

    pub(crate) fn get(&self, room: usize) -> Option<&Room> {
        self.all.get(room)
    }

    pub(crate) fn get_mut(&mut self, room: usize) -> Option<&mut Room> {
        self.all.get_mut(room)
    }

    /// The member at a place.
    pub(crate) fn member(&self, room: usize, at: usize) -> Option<usize> {
        self.all.get(room)?.members.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(rooms: &Rooms, room: usize) -> Vec<usize> {
        let mut members: Vec<usize> = (0..)
            .map_while(|at| rooms.member(room, at))
            .inspect(|member| assert_eq!(rooms.of(*member), Some(room)))
            .collect();
        members.sort_unstable();
        members
    }

    #[test]
    fn whoever_leaves_is_gone_and_nobody_else() {
        let mut rooms = Rooms::default();
        for client in 0..6 {
            rooms.join(client, b"one");
        }
        // From the middle, what was moved there, what is last, and one that has left already.
        for (leaver, left) in [
            (1, &[0, 2, 3, 4, 5][..]),
            (5, &[0, 2, 3, 4]),
            (3, &[0, 2, 4]),
            (3, &[0, 2, 4]),
            (0, &[2, 4]),
        ] {
            rooms.leave(leaver);
            assert_eq!(members(&rooms, 0), left);
            assert_eq!(rooms.of(leaver), None);
        }
        rooms.join(3, b"one");
        rooms.join(2, b"other");
        assert_eq!(members(&rooms, 0), [3, 4]);
        assert_eq!(members(&rooms, 1), [2]);
    }
}
