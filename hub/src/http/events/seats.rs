//! How many streams of hints one user may have open: each costs a look at their credential now and then.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use fairlead_model::UserId;

/// Pages and programs of one user that listen at the same time.
pub(super) const SEATS_MAX: usize = 16;

#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<Mutex<HashMap<UserId, usize>>>);

/// A place to listen; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    user: UserId,
}

impl Seats {
    /// Returns a seat, unless the user has as many as they may.
    pub(super) fn take(&self, user: UserId) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = taken.entry(user).or_default();
        if *of_user >= SEATS_MAX {
            return None;
        }
        *of_user += 1;
        Some(Seat { seats: self.clone(), user })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_user) = taken.get_mut(&self.user) {
            *of_user -= 1;
            if *of_user == 0 {
                taken.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_so_many_seats_and_gets_them_back() {
        let (seats, ada) = (Seats::default(), UserId::generate());
        let mut taken: Vec<_> = (0..SEATS_MAX).map(|_| seats.take(ada).expect("a seat")).collect();
        assert!(seats.take(ada).is_none());
        assert!(seats.take(UserId::generate()).is_some(), "others have their own");
        drop(taken.pop());
        assert!(seats.take(ada).is_some());
        drop(taken);
        assert!(seats.0.lock().expect("not poisoned").is_empty());
    }
}
