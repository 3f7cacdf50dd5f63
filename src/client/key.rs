//! The key with which a client is known to the server.

use std::fmt;

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

/// Adds `authorization: Bearer <key>` to every call, if there is a key. It never shows the key.
#[derive(Clone, Default)]
pub struct ApiKey(Option<MetadataValue<Ascii>>);

impl ApiKey {
    /// A key of printable ASCII; `None`: it has other characters, or none.
    pub(super) fn new(key: &str) -> Option<Self> {
        let is_key = !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic());
        let mut value: MetadataValue<Ascii> = format!("Bearer {key}").parse().ok()?;
        // Neither shown in debug output nor kept in tables of headers.
        value.set_sensitive(true);
        is_key.then_some(Self(Some(value)))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() {
            "ApiKey(..)"
        } else {
            "ApiKey(none)"
        })
    }
}

impl Interceptor for ApiKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            // A call that names a key of its own keeps it.
            let headers = request.metadata_mut();
            if !headers.contains_key("authorization") {
                headers.insert("authorization", value.clone());
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_carries_the_key_and_nothing_shows_it() {
        let mut key = ApiKey::new("lsk_secret").expect("a key");
        let request = key.call(Request::new(())).expect("never refused");
        let sent = request.metadata().get("authorization").expect("it is sent");
        assert_eq!(sent, "Bearer lsk_secret");
        assert!(!format!("{key:?} {request:?}").contains("secret"));
        let mut none = ApiKey::default();
        let request = none.call(Request::new(())).expect("never refused");
        assert!(!request.metadata().contains_key("authorization"));
        for wrong in ["", "a b", "a\n", "é"] {
            assert!(ApiKey::new(wrong).is_none(), "{wrong:?}");
        }
    }
}
