//! Whether all members of a room see its messages in one order.

/// What every member has seen, as places in its room's order: a message's place is how manyth of its room it was to reach anybody on a server. Where
/// there is one order, the places of what a member gets ascend, whoever is ahead of whom; two that see two messages differently are found by the second
/// message of either. What a member misses is another matter, and moves nobody's places.
#[derive(Debug)]
pub(crate) struct Order {
    servers: usize,
    /// How many messages have reached anybody, per room and server.
    arrived: Vec<u64>,
    /// Per message on its way and server; 0 while it has reached nobody.
    places: Vec<u64>,
    /// The highest place so far, per receiver.
    seen: Vec<u64>,
}

impl Order {
    /// For so many receivers, which are dealt out to the servers in turn, and for so many messages on their way at once.
    pub(crate) fn new(rooms: usize, servers: usize, receivers: usize, messages: usize) -> Self {
        Self {
            servers,
            arrived: vec![0; rooms * servers],
            places: vec![0; messages * servers],
            seen: vec![0; receivers],
        }
    }

    /// A message begins its way; the one that had its number is over.
    pub(crate) fn said(&mut self, message: usize) {
        let places = message * self.servers..(message + 1) * self.servers;
        self.places.get_mut(places).unwrap_or_default().fill(0);
    }

    /// Whether a message that reaches a receiver is not behind what that has seen already. `None` if there is no such thing.
    pub(crate) fn delivered(
        &mut self,
        room: usize,
        receiver: usize,
        message: usize,
    ) -> Option<bool> {
        let server = receiver % self.servers;
        let seen = self.seen.get_mut(receiver)?;
        let place = self.places.get_mut(message * self.servers + server)?;
        if *place == 0 {
            let arrived = self.arrived.get_mut(room * self.servers + server)?;
            *arrived += 1;
            *place = *arrived;
        }
        let ascends = *place > *seen;
        *seen = (*seen).max(*place);
        Some(ascends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of these deliveries, of messages to receivers of one room, are in another order than elsewhere.
    fn disordered(servers: usize, deliveries: &[(usize, usize)]) -> usize {
        let mut order = Order::new(1, servers, 4, 4);
        let wrong = deliveries
            .iter()
            .filter(|(message, receiver)| order.delivered(0, *receiver, *message) == Some(false));
        wrong.count()
    }

    #[test]
    fn it_does_not_matter_who_is_ahead() {
        // Each of three gets all in the order 2, 0, 1, and each is the first to get one of them.
        let deliveries = [
            (2, 0),
            (2, 1),
            (0, 1),
            (0, 0),
            (2, 2),
            (0, 2),
            (1, 2),
            (1, 0),
            (1, 1),
        ];
        assert_eq!(disordered(1, &deliveries), 0);
    }

    #[test]
    fn two_messages_in_two_orders_are_found_however_they_come() {
        for deliveries in [
            [(0, 0), (1, 0), (1, 1), (0, 1)],
            [(0, 0), (1, 1), (1, 0), (0, 1)],
            [(0, 0), (1, 1), (0, 1), (1, 0)],
            [(1, 1), (0, 0), (0, 1), (1, 0)],
        ] {
            assert_eq!(disordered(1, &deliveries), 1, "{deliveries:?}");
        }
    }

    #[test]
    fn what_somebody_misses_disturbs_nobody() {
        let deliveries = [(0, 0), (1, 0), (2, 0), (0, 1), (2, 1), (3, 1), (3, 0)];
        assert_eq!(disordered(1, &deliveries), 0);
    }

    #[test]
    fn every_server_has_an_order_of_its_own() {
        let deliveries = [(0, 0), (1, 0), (1, 1), (0, 1)];
        assert_eq!(disordered(2, &deliveries), 0);
        let same_server = deliveries.map(|(message, receiver)| (message, receiver * 2));
        assert_eq!(disordered(2, &same_server), 1);
    }

    #[test]
    fn a_number_that_is_used_again_is_another_message() {
        let mut order = Order::new(2, 1, 2, 2);
        for message in [0, 1] {
            assert_eq!(order.delivered(0, 0, message), Some(true));
        }
        order.said(0);
        assert_eq!(order.delivered(0, 0, 0), Some(true));
        assert_eq!(order.delivered(0, 0, 1), Some(false));
        assert_eq!(order.delivered(0, 2, 1), None, "nobody");
        assert_eq!(order.delivered(0, 1, 2), None, "nothing");
    }
}
