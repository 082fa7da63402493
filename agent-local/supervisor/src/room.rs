//! How many conversations there may be: a few for each user, so that none can keep the others out.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A daemon holds one, and a command one for a moment.
const OF_ONE_USER_MAX: usize = 8;
/// Of all users together; root has a place in any case.
const ALL_MAX: usize = 256;

/// The conversations that are open, by uid.
#[derive(Debug, Clone, Default)]
pub(crate) struct Room(Arc<Mutex<HashMap<u32, usize>>>);

/// A place for one conversation, free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    room: Room,
    uid: u32,
}

impl Room {
    /// Returns a place, or `None` when this user has their share, or all places are taken.
    pub(crate) fn take(&self, uid: u32) -> Option<Seat> {
        let mut open = self.open();
        let is_full = uid != 0 && open.values().sum::<usize>() >= ALL_MAX;
        let theirs = open.entry(uid).or_default();
        if is_full || *theirs >= OF_ONE_USER_MAX {
            return None;
        }
        *theirs += 1;
        Some(Seat { room: self.clone(), uid })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.room.open();
        if let Some(theirs) = open.get_mut(&self.uid) {
            *theirs -= 1;
        }
        open.retain(|_, theirs| *theirs > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_keep_another_out_and_a_place_is_free_again() {
        let room = Room::default();
        let mut seats: Vec<Seat> = (0..OF_ONE_USER_MAX).filter_map(|_| room.take(1000)).collect();
        assert_eq!(seats.len(), OF_ONE_USER_MAX);
        assert!(room.take(1000).is_none());
        assert!(room.take(1001).is_some());
        seats.pop();
        assert!(room.take(1000).is_some());
    }

    #[test]
    fn when_all_places_are_taken_root_has_one() {
        let room = Room::default();
        let uids = (1..=ALL_MAX).map(|uid| u32::try_from(uid).expect("small"));
        let _seats: Vec<Seat> = uids.filter_map(|uid| room.take(uid)).collect();
        assert!(room.take(9999).is_none());
        assert!(room.take(0).is_some());
    }
}
