//! The connections of one kind: a bounded number, in which idle ones make room for new ones.

use std::sync::{Arc, Weak};

use tokio::task::JoinSet;

use crate::activity::Activity;

/// The connections of one kind.
#[derive(Debug)]
pub(crate) struct Crowd {
    most: usize,
    /// Whether connections with a call in progress make room too.
    short: bool,
    tasks: JoinSet<()>,
    activities: Vec<Weak<Activity>>,
}

impl Crowd {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, short: false, tasks: JoinSet::new(), activities: Vec::new() }
    }

    /// For connections whose calls are short: when all places are taken, the oldest connection makes room even if it
    /// has a call.
    pub(crate) fn of_short_calls(mut self) -> Self {
        self.short = true;
        self
    }

    /// Runs one more connection.
    pub(crate) fn add(&mut self, activity: Arc<Activity>, connection: impl Future<Output = ()> + Send + 'static) {
        // Connections that have ended are removed from time to time, so that the list stays short.
        if self.activities.len() >= 2 * self.most {
            self.activities.retain(|activity| activity.strong_count() > 0);
        }
        self.activities.push(Arc::downgrade(&activity));
        self.tasks.spawn(connection);
    }

    /// Whether one more connection may come. If not, an idle one is sent away.
    pub(crate) fn make_room(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        let has_room = self.tasks.len() < self.most;
        if !has_room {
            self.send_away();
        }
        has_room
    }

    /// Asks the connection that was idle for the longest time to end, unless one is about to end.
    pub(crate) fn send_away(&self) {
        let open: Vec<_> = self.activities.iter().filter_map(Weak::upgrade).collect();
        if open.iter().any(|activity| activity.is_leaving()) {
            return;
        }
        let may_go = open.iter().filter(|activity| self.short || activity.is_idle());
        if let Some(activity) = may_go.min_by_key(|activity| activity.last()) {
            activity.leave(self.short);
        }
    }

    /// Completes when one more connection has ended.
    pub(crate) async fn next_ended(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    pub(crate) async fn all_ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// How many connections have not ended.
    pub(crate) fn left(&mut self) -> usize {
        while self.tasks.try_join_next().is_some() {}
        self.tasks.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn soon(ended: impl Future<Output = ()>) {
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it makes room");
    }

    #[tokio::test]
    async fn the_connection_that_was_idle_for_the_longest_time_makes_room() {
        let mut crowd = Crowd::new(3);
        let activities: Vec<_> = (0..3).map(|_| Activity::new(Arc::default())).collect();
        let busy = activities[0].call(false);
        for activity in &activities {
            assert!(crowd.make_room());
            let leaving = Arc::clone(activity);
            crowd.add(Arc::clone(activity), async move { leaving.left().await });
            std::thread::sleep(Duration::from_millis(2));
        }
        activities[1].note();
        assert!(!crowd.make_room(), "all places are taken");
        soon(crowd.next_ended()).await;
        let leaving: Vec<_> = activities.iter().map(|activity| activity.is_leaving()).collect();
        assert_eq!(leaving, [false, false, true]);
        assert!(crowd.make_room());
        drop(busy);
    }

    #[tokio::test]
    async fn of_those_that_must_be_short_the_oldest_makes_room_whatever_it_does() {
        let mut crowd = Crowd::new(1).of_short_calls();
        let activity = Activity::new(Arc::default());
        let (busy, leaving) = (activity.call(true), Arc::clone(&activity));
        crowd.add(Arc::clone(&activity), async move { leaving.left().await });
        assert!(!crowd.make_room());
        soon(crowd.next_ended()).await;
        assert!(crowd.make_room());
        drop(busy);
    }
}
