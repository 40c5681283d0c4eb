//! The OpenAPI v3 documents, one for each group and version; and the one of v2 that is made of them.
//!
//! Owns the list of them; the documents are generated (tests/schemagen) and stay compressed. Serving them is the API
//! server's affair.

mod documents;
pub mod v2;

/// One document, as JSON compressed with gzip.
#[derive(Debug, Clone, Copy)]
pub struct Document {
    /// The path under `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
    pub group_version: &'static str,
    pub gzip: &'static [u8],
    /// Names the content, for caches.
    pub hash: &'static str,
}

/// All documents, in the order of discovery.
pub fn documents() -> &'static [Document] {
    documents::DOCUMENTS
}

#[cfg(test)]
mod tests;
