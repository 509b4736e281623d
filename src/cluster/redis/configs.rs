//! The shared configuration in the store.

use super::health::Connection;
use super::ops::{LARGE, TROUBLED, millis, number};
use super::{Client, scripts};
use crate::cluster::configs::{
    ConfigMark, KEPT, LAID_OUT, MAX_ABOUT, MAX_CONTENT, Publication, Published, SharedConfig, sha256,
};
use crate::cluster::store::{MAX_REVISION, StoreError};
use bytes::Bytes;

const OTHER: StoreError =
    StoreError::Malformed("something else is where the shared configuration belongs: delete the key {c}cfg");

impl Client {
    pub(in crate::cluster) async fn publish_config(
        &self,
        new: &Publication,
    ) -> Result<Published, StoreError> {
        let keys = [self.key("cfg"), self.key("cfgm"), self.key("cfgv")];
        let args = [
            number(new.expected).as_slice(),
            &number(new.version),
            &new.content,
            sha256(&new.content).as_bytes(),
            &new.about,
            &number(KEPT),
        ]
        .map(<[u8]>::to_vec);
        let answer = self
            .script(Connection::Commands, scripts::PUBLISH_CONFIG, &keys, &args, LARGE)
            .await?;
        let [published, version] = answer.list().ok_or(TROUBLED)? else {
            return Err(TROUBLED);
        };
        match (published.number(), version.count()) {
            (Some(1), Some(version)) => Ok(Published::Version(version)),
            (Some(0), Some(version)) => Ok(Published::Conflict(version)),
            _ => Err(OTHER),
        }
    }

    pub(in crate::cluster) async fn config(&self) -> Result<Option<SharedConfig>, StoreError> {
        let keys = [self.key("cfg")];
        let answer = self
            .script(
                Connection::Commands,
                scripts::CONFIG,
                &keys,
                &[number(MAX_CONTENT as u64)],
                LARGE,
            )
            .await?;
        let [version, hash, content] = answer.list().ok_or(TROUBLED)? else {
            return Err(OTHER);
        };
        if version.text() == Some("") {
            return Ok(None);
        }
        let (version, content) = (version.count().ok_or(OTHER)?, content.bytes().ok_or(OTHER)?);
        if version == 0 || version > MAX_REVISION {
            return Err(OTHER);
        }
        let hash = hash.text().unwrap_or_default().to_owned();
        if hash != sha256(&content) {
            return Err(StoreError::Malformed(
                "the shared configuration is not what was published: delete the key {c}cfg",
            ));
        }
        Ok(Some(SharedConfig {
            mark: ConfigMark {
                version,
                sha256: hash,
            },
            content,
        }))
    }

    pub(in crate::cluster) async fn config_versions(&self) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let keys = [self.key("cfg"), self.key("cfgm")];
        let args = [number(KEPT), number(MAX_ABOUT as u64)];
        let answer = self
            .script(
                Connection::Commands,
                scripts::CONFIG_VERSIONS,
                &keys,
                &args,
                LARGE,
            )
            .await?;
        let pairs = answer.list().ok_or(TROUBLED)?.chunks_exact(2);
        Ok(pairs
            .filter_map(|pair| Some((pair.first()?.count()?, pair.get(1)?.bytes()?)))
            .collect())
    }

    pub(in crate::cluster) async fn config_version(&self, version: u64) -> Result<Option<Bytes>, StoreError> {
        if let Some(now) = self.config().await?.filter(|now| now.mark.version == version) {
            return Ok(Some(now.content));
        }
        let (key, field) = (self.key("cfgv"), number(version));
        let args: [&[u8]; 3] = [b"HGET", key.as_bytes(), &field];
        let answer = self.call(Connection::Commands, &args, LARGE).await?;
        Ok(answer.bytes())
    }

    pub(in crate::cluster) async fn lay_out_config(
        &self,
        id: &str,
        content: &[u8],
    ) -> Result<(), StoreError> {
        let key = self.key("cfgc");
        let value = [id.as_bytes(), b"\n", content].concat();
        let args: [&[u8]; 5] = [b"SET", key.as_bytes(), &value, b"PX", &millis(LAID_OUT)];
        self.call(Connection::Commands, &args, LARGE).await?;
        Ok(())
    }

    pub(in crate::cluster) async fn laid_out_config(&self, id: &str) -> Result<Option<Bytes>, StoreError> {
        let key = self.key("cfgc");
        let args: [&[u8]; 2] = [b"GET", key.as_bytes()];
        let answer = self.call(Connection::Commands, &args, LARGE).await?;
        let value = answer.bytes();
        Ok(value.and_then(|value| {
            let rest = value.strip_prefix(id.as_bytes())?.strip_prefix(b"\n")?;
            Some(value.slice_ref(rest))
        }))
    }
}
