//! Object stores by URL: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage.
//!
//! Credentials come from where each provider's tools take them: the environment, a file that it
//! names, or the machine's own identity.

use crate::QueryError;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, ObjectStoreScheme, RetryConfig};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Settings of a store by the names of the crate `object_store`: `endpoint`, `allow_http`, `region`.
/// They go before the environment.
pub type Options = BTreeMap<String, String>;

/// The schemes of URLs that name an object store.
pub const SCHEMES: [&str; 6] = ["s3", "s3a", "gs", "az", "abfs", "abfss"];

/// Opens the store of a URL such as `s3://bucket/prefix`, and says which prefix is meant. Connects to
/// nothing yet.
///
/// Errors: a URL of another form, an option that the store does not have, credentials that cannot be
/// made out.
pub fn open(url: &str, options: &Options) -> Result<(Arc<dyn ObjectStore>, Path), QueryError> {
    let failed = |problem: String| QueryError::Objects { url: url.to_owned(), problem };
    let parsed = Url::parse(url).ok().filter(|url| SCHEMES.contains(&url.scheme()));
    let parsed = parsed.filter(|url| url.host_str().is_some_and(|bucket| !bucket.is_empty()));
    let parsed = parsed.ok_or_else(|| {
        failed("is no place in an object store; write `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`".to_owned())
    })?;
    let of_store = |cause: object_store::Error| failed(cause.to_string());
    let (scheme, prefix) =
        ObjectStoreScheme::parse(&parsed).map_err(|cause| failed(cause.to_string()))?;
    let store: Arc<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            let mut builder = AmazonS3Builder::from_env().with_url(url).with_retry(retry());
            for (key, value) in keys::<AmazonS3ConfigKey>(options).map_err(failed)? {
                builder = builder.with_config(key, value);
            }
            Arc::new(builder.build().map_err(of_store)?)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let mut builder =
                GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(retry());
            for (key, value) in keys::<GoogleConfigKey>(options).map_err(failed)? {
                builder = builder.with_config(key, value);
            }
            Arc::new(builder.build().map_err(of_store)?)
        }
        _ => {
            let mut builder = MicrosoftAzureBuilder::from_env().with_url(url).with_retry(retry());
            for (key, value) in keys::<AzureConfigKey>(options).map_err(failed)? {
                builder = builder.with_config(key, value);
            }
            Arc::new(builder.build().map_err(of_store)?)
        }
    };
    Ok((store, prefix))
}

/// A request is repeated for a few seconds; whoever made it goes on trying after that.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 4,
        retry_timeout: Duration::from_secs(10),
    }
}

fn keys<K: FromStr>(options: &Options) -> Result<Vec<(K, &String)>, String> {
    let keys = options.iter().map(|(name, value)| match name.parse() {
        Ok(key) => Ok((key, value)),
        Err(_) => Err(format!(
            "unknown option `{name}`; options are named as `object_store` names them, such as `endpoint`, `region` and `allow_http`"
        )),
    });
    keys.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_store_and_prefix_and_a_mistake_says_what_to_write() {
        let none = Options::new();
        let region = Options::from([("region".to_owned(), "eu-west-1".to_owned())]);
        let prefix = |url: &str, options: &Options| open(url, options).map(|(_, path)| path);
        assert_eq!(prefix("s3://bucket/a/b/", &region).unwrap().as_ref(), "a/b");
        assert_eq!(prefix("gs://bucket", &none).unwrap().as_ref(), "");
        let account = Options::from([("account_name".to_owned(), "account".to_owned())]);
        assert_eq!(prefix("az://container/logs", &account).unwrap().as_ref(), "logs");
        for (url, options, said) in [
            ("bucket/prefix", &none, "write `s3://BUCKET/PREFIX`"),
            ("s3://", &none, "write `s3://BUCKET/PREFIX`"),
            ("https://example.com/a", &none, "write `s3://BUCKET/PREFIX`"),
            ("gs://bucket/a", &region, "unknown option `region`"),
        ] {
            let cause = prefix(url, options).expect_err("it is refused").to_string();
            assert!(cause.contains(said), "{cause}");
        }
    }
}
