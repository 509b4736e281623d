//! `--key value` words; a key may come more than once, a key without a value is a switch.

use std::error::Error;
use std::str::FromStr;

pub struct Args(Vec<(String, String)>);

impl Args {
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut pairs = Vec::new();
        for word in words {
            match (word.strip_prefix("--"), pairs.last_mut()) {
                (Some(key), _) => pairs.push((key.to_owned(), String::new())),
                (None, Some((_, value))) if value.is_empty() => *value = word,
                _ => return Err(format!("unexpected word {word:?}").into()),
            }
        }
        Ok(Self(pairs))
    }

    pub fn all<T: FromStr>(&self, key: &str) -> Result<Vec<T>, Box<dyn Error>> {
        let values = self.0.iter().filter(|(k, _)| k == key);
        values
            .map(|(_, value)| {
                value
                    .parse()
                    .map_err(|_| format!("--{key} {value:?}: not understood").into())
            })
            .collect()
    }

    pub fn get<T: FromStr>(&self, key: &str) -> Result<Option<T>, Box<dyn Error>> {
        Ok(self.all(key)?.pop())
    }

    pub fn get_or<T: FromStr>(&self, key: &str, default: T) -> Result<T, Box<dyn Error>> {
        Ok(self.get(key)?.unwrap_or(default))
    }

    pub fn require<T: FromStr>(&self, key: &str) -> Result<T, Box<dyn Error>> {
        self.get(key)?.ok_or_else(|| format!("--{key} is missing").into())
    }

    pub fn switch(&self, key: &str) -> bool {
        self.0.iter().any(|(k, _)| k == key)
    }

    /// A list such as `1,2,3`; empty when the key is missing.
    pub fn list<T: FromStr>(&self, key: &str) -> Result<Vec<T>, Box<dyn Error>> {
        let text: String = self.get_or(key, String::new())?;
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts
            .map(|part| {
                part.parse()
                    .map_err(|_| format!("--{key} {part:?}: not understood").into())
            })
            .collect()
    }
}
