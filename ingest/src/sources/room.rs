//! Memory that what comes in has together: who finds none in time is told to come again.

use super::delivery::Refusal;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long is waited for memory.
const PATIENCE: Duration = Duration::from_secs(2);

/// Memory that many share. Cheap to clone.
#[derive(Clone)]
pub struct Room {
    kib: Arc<Semaphore>,
    most: u32,
    patience: Duration,
}

impl Room {
    /// Room for so many bytes at once.
    pub fn of(bytes: usize) -> Self {
        let most = u32::try_from(bytes >> 10).unwrap_or(u32::MAX >> 4).max(1);
        Self { kib: Arc::new(Semaphore::new(most as usize)), most, patience: PATIENCE }
    }

    /// Room for so many bytes, once there is some; who asks for more than all of it gets all of it.
    ///
    /// Errors: there was none for a while.
    pub async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(self.most);
        let waiting = Arc::clone(&self.kib).acquire_many_owned(kib);
        match timeout(self.patience, waiting).await {
            Ok(permit) => permit.map_err(|_| Refusal::Closed),
            Err(_) => Err(Refusal::Busy),
        }
    }

    /// Makes what somebody has enough for so many bytes.
    ///
    /// Errors: as for [`Room::take`]; what was had stays.
    pub async fn grow(&self, has: &mut OwnedSemaphorePermit, bytes: usize) -> Result<(), Refusal> {
        let missing = (bytes / 1024 + 1).min(self.most as usize).saturating_sub(has.num_permits());
        if missing > 0 {
            has.merge(self.take((missing << 10) - 1).await?);
        }
        Ok(())
    }

    /// Bytes that are taken, and how many there are.
    pub fn held(&self) -> (u64, u64) {
        let most = u64::from(self.most) << 10;
        let free = (self.kib.available_permits() as u64) << 10;
        (most.saturating_sub(free), most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bodies_have_room_for_so_much_and_give_it_back() {
        let room = Room { patience: Duration::from_millis(20), ..Room::of(64 << 10) };
        let mut first = room.take(0).await.unwrap();
        room.grow(&mut first, 40 << 10).await.unwrap();
        let second = room.take(20 << 10).await.unwrap();
        assert_eq!(room.grow(&mut first, 50 << 10).await, Err(Refusal::Busy));
        drop(second);
        room.grow(&mut first, 50 << 10).await.unwrap();
        // One that is larger than all of it takes all of it.
        room.grow(&mut first, 1 << 20).await.unwrap();
        assert_eq!(room.take(0).await.map(|_| ()), Err(Refusal::Busy));
        drop(first);
        assert_eq!(room.take(1 << 20).await.unwrap().num_permits(), 64);
    }
}
