//! A folder as an object store whose objects are on disk once they are written, so that what a table
//! says it holds may be dropped elsewhere. What the crate `object_store` writes is there for every
//! reader at once, but a power loss may take it back, or leave a name without its bytes.

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    RenameTargetMode, Result, UploadPart,
};
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How the name of an object ends that is not in its place yet.
const UNFINISHED: &str = ".unfinished";

/// Tells what is written at the same time apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The file system of this machine.
#[derive(Clone, Debug)]
pub(super) struct Durable {
    files: Arc<LocalFileSystem>,
    /// Folders whose own names are on disk.
    folders: Arc<Mutex<HashSet<PathBuf>>>,
}

/// Whether a file was begun by this store, or by the one below it, and not finished.
pub(super) fn is_unfinished(name: &str) -> bool {
    let number = name.rsplit_once('#').map_or("", |(_, number)| number);
    name.ends_with(UNFINISHED)
        || !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

impl Durable {
    pub(super) fn new() -> Self {
        Self { files: Arc::new(LocalFileSystem::new()), folders: Arc::default() }
    }

    fn place(&self, location: &Path) -> Result<PathBuf> {
        self.files.path_to_filesystem(location)
    }

    /// Returns once a file and the name by which it is found are on disk.
    async fn settle(&self, location: &Path) -> Result<()> {
        let (place, own) = (self.place(location)?, self.clone());
        off_thread(move || {
            File::open(&place)?.sync_all()?;
            own.sync_name(&place)
        })
        .await
    }

    /// The same of a name alone.
    fn sync_name(&self, place: &FilePath) -> io::Result<()> {
        let Some(folder) = place.parent() else { return Ok(()) };
        File::open(folder)?.sync_all()?;
        let mut known = self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let mut folder = folder;
        while known.insert(folder.to_owned()) {
            let Some(above) = folder.parent() else { break };
            match File::open(above) {
                Ok(above) => above.sync_all()?,
                // Folders that may not be looked into are not ours, and were there before.
                Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => break,
                Err(cause) => return Err(cause),
            }
            folder = above;
        }
        Ok(())
    }
}

/// Runs what waits for the disk where waiting holds nobody up.
async fn off_thread(act: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<()> {
    let done = tokio::task::spawn_blocking(act).await.map_err(io::Error::other);
    done.flatten()
        .map_err(|cause| object_store::Error::Generic { store: "folder", source: Box::new(cause) })
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Durable {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let beside = format!("{location}.{}-{number}{UNFINISHED}", std::process::id());
        let beside = Path::parse(beside)?;
        let target_mode = match opts.mode {
            PutMode::Create => RenameTargetMode::Create,
            _ => RenameTargetMode::Overwrite,
        };
        let opts = PutOptions { mode: PutMode::Overwrite, ..opts };
        let put = self.files.put_opts(&beside, payload, opts).await?;
        // A name comes after what it stands for.
        let place = self.place(&beside)?;
        let moved = async {
            off_thread(move || File::open(place)?.sync_all()).await?;
            let options = RenameOptions::new().with_target_mode(target_mode);
            self.files.rename_opts(&beside, location, options).await
        };
        if let Err(cause) = moved.await {
            // It takes room on a disk that may be full.
            let _ = self.files.delete(&beside).await;
            return Err(cause);
        }
        let (place, own) = (self.place(location)?, self.clone());
        off_thread(move || own.sync_name(&place)).await?;
        Ok(put)
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let parts = self.files.put_multipart_opts(location, opts).await?;
        Ok(Box::new(Upload { parts, store: self.clone(), location: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.files.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.files.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.files.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list(prefix).boxed()
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.files.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.files.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.files.copy_opts(from, to, options).await?;
        self.settle(to).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.files.rename_opts(from, to, options).await?;
        self.settle(to).await
    }
}

/// An object in parts. Nobody refers to it before it is complete.
#[derive(Debug)]
struct Upload {
    parts: Box<dyn MultipartUpload>,
    store: Durable,
    location: Path,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.put_part(data)
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let done = self.parts.complete().await?;
        self.store.settle(&self.location).await?;
        Ok(done)
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.abort().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_object_is_there_whole_or_not_and_is_made_once_where_that_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let store = Durable::new();
        let at = Path::from_absolute_path(folder.path().join("a/b/c")).unwrap();
        let put = |text: &'static str, mode: PutMode| {
            let (store, at) = (store.clone(), at.clone());
            async move { store.put_opts(&at, text.into(), mode.into()).await }
        };
        put("one", PutMode::Create).await.unwrap();
        let again = put("two", PutMode::Create).await;
        assert!(matches!(again, Err(object_store::Error::AlreadyExists { .. })), "{again:?}");
        assert_eq!(store.get(&at).await.unwrap().bytes().await.unwrap(), "one");
        put("three", PutMode::Overwrite).await.unwrap();
        let mut parts = store.put_multipart(&Path::from(format!("{at}2"))).await.unwrap();
        parts.put_part("fo".into()).await.unwrap();
        parts.put_part("ur".into()).await.unwrap();
        parts.complete().await.unwrap();
        let files = |name: &str| std::fs::read_to_string(folder.path().join("a/b").join(name));
        assert_eq!((files("c").unwrap(), files("c2").unwrap()), ("three".into(), "four".into()));
        assert_eq!(std::fs::read_dir(folder.path().join("a/b")).unwrap().count(), 2);
        let names = ["part.parquet#12", "0.json.7-1.unfinished", "part#1.parquet", "0.json"];
        assert_eq!(names.map(is_unfinished), [true, true, false, false]);
    }
}
